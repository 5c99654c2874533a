#!/usr/bin/env python3
"""The daemon where memory runs out: the n-th call that takes some fails, wherever it is (ours,
SQLite's, libmicrohttpd's, libc's), while programs are uploaded and named, models published and
exported, sessions stepped, forked, saved, put away.  The answer is a problem or a closed connection,
what was answered 2xx holds, nothing is left, and the daemon serves on.

`make check` takes every PT2_MEMORY_STRIDE-th n, from one that PT2_SEED chooses (printed);
PT2_MEMORY_STRIDE=1 takes all."""

import contextlib
import http.client
import os
import random
import sys
import tempfile
import time

import test_spill
from exporting import copy_demo, sha256, state_files, without_engines
from faults import LIBRARY, NO_MEMORY, Faults
from harness import SEED, Daemon, main, until
from states import tiny
from stepping import FLAGS, program
from test_crash import commented
from test_faults import check_is_clean
from test_kills import expected_logits
from uploading import manifest, url

STRIDE = int(os.environ.get("PT2_MEMORY_STRIDE") or 0)  # 0: each story's own
N_FAIL = {"store": (1, 40), "exports": (1, 40), "sessions": (1, 40)}  # calls in a row; the second is a shortage that lasts
GONE = (OSError, http.client.HTTPException)
MISSES = 3  # rounds in a row without a fault end a story
N_SESSIONS, LENGTH = 48, 40


class Asker:
    """What is asked while memory fails."""

    def __init__(self, d, faults):
        self.d, self.faults, self.refused = d, faults, []

    def ask(self, method, path, *allowed, **more):
        """The answer; None: refused, or the connection was closed."""
        try:
            reply = self.d.request(method, path, **more)
        except GONE as e:
            self.refused.append(repr(e))
            return None
        if reply.status < 400:
            return reply
        assert reply.problem in ("out-of-memory",) + allowed, (self.faults.hit, method, path, reply)
        self.refused.append(reply.problem)
        return None


class Store(Asker):
    """A round over programs, aliases and models; i makes its program its own."""

    def __init__(self, d, faults, i, data):
        super().__init__(d, faults)
        self.data = commented(data, str(i))
        self.program = sha256(self.data)
        self.model, self.files = "org/new", tiny()
        self.there, self.alias, self.published = {False}, {None}, {False}

    def act(self):
        self.there = {True, False}
        if self.ask("PUT", f"/v1/programs/{self.program}", body=self.data):
            self.there = {True}
            self.alias = {None, self.program}
            if self.ask("PUT", "/v1/aliases/mine", json_body={"program": self.program}):
                self.alias = {self.program}
                self.ask("GET", "/v1/programs/mine/graph")
            self.ask("GET", f"/v1/programs/{self.program}/file")
        self.ask("GET", "/v1/programs")
        self.publish()

    def publish(self):
        sent = [self.ask("PUT", url(self.model, "/files/" + name), body=data)
                for name, data in self.files.items()]
        if all(sent):
            self.published = {True, False}
            if self.ask("POST", url(self.model, "/publish"), json_body=manifest(self.files)):
                self.published = {True}
            self.ask("GET", "/v1/models")

    def check(self):
        d = self.d
        reply = d.get(f"/v1/programs/{self.program}/file", expect=(200, 404))
        assert (reply.status == 200) in self.there
        assert reply.status == 404 or reply.body == self.data
        reply = d.get("/v1/aliases/mine", expect=(200, 404))
        assert (reply.json["program"] if reply.status == 200 else None) in self.alias
        is_there = self.model in [m["id"] for m in d.get("/v1/models", expect=200).json["data"]]
        assert is_there in self.published, self.published
        self.clear()
        until(lambda: state_files(d, "tmp") == [], f"no temporary file is left after '{self.faults.hit}'")

    def clear(self):
        self.d.delete("/v1/aliases/mine", expect=(204, 404))
        self.d.delete(f"/v1/programs/{self.program}", expect=(204, 404))
        self.d.delete(url(self.model), expect=(204, 404))


class Exports(Asker):
    """A round over export jobs; i makes its program its own."""

    def __init__(self, d, faults, i):
        super().__init__(d, faults)
        self.body = {"model": "tiny", "cache": {"max_cache_len": 8 + i}, "labels": {"round": str(i)}}
        self.key = {"Idempotency-Key": f"round-{i}"}
        self.url, self.job = f"/v1/exports?label.round={i}", None

    def act(self):
        reply = self.ask("POST", "/v1/exports", json_body=self.body, headers=self.key)
        if reply:
            self.job = reply.json["id"]
            self.ask("GET", f"/v1/exports/{self.job}?wait=5")
            self.ask("GET", f"/v1/exports/{self.job}/file", "conflict", "not-found")
        self.ask("GET", self.url)

    def ended(self, job):
        state = self.d.get(f"/v1/exports/{job}?wait=10", expect=200).json
        until(lambda: state["state"] in ("succeeded", "failed"), "it ends")
        return state

    def check(self):
        d = self.d
        listed = [job["id"] for job in d.get(self.url, expect=200).json["data"]]
        assert self.job is None or listed == [self.job], (self.faults.hit, listed, self.job)
        for job in listed:
            ended = self.ended(job)
            if ended["state"] == "failed":
                assert ended["error"]["type"] == "/problems/out-of-memory", (self.faults.hit, ended)
                self.refused.append("a job")
        again = d.post("/v1/exports", self.body, headers=self.key, expect=202).json
        assert listed in ([], [again["id"]]), (self.faults.hit, listed, again["id"])
        whole = self.ended(d.post("/v1/exports", self.body, expect=202).json["id"])
        assert whole["state"] == "succeeded", (self.faults.hit, whole)
        data = d.get(f"/v1/exports/{whole['id']}/file", expect=200).body
        assert sha256(data) == whole["program"]
        for job in d.get(self.url, expect=200).json["data"]:
            self.ended(job["id"])
            d.delete(f"/v1/exports/{job['id']}", expect=204)
        d.delete(f"/v1/programs/{whole['program']}", expect=204)
        until(lambda: state_files(d, "tmp") == [], f"no temporary file is left after '{self.faults.hit}'")


class Sessions(Asker):
    """A round over sessions, where there is memory for a part of them: others come and go."""

    BUDGET = ("memory-budget", "session-lost")

    def __init__(self, d, faults, i, p, others, want):
        super().__init__(d, faults)
        self.i, self.p, self.others, self.want = i % N_SESSIONS, p, others, want
        self.mine = []

    def step(self, path, at):
        text = test_spill.text_of(self.i)[at:at + 1]
        reply = self.ask("POST", path + "/step", *self.BUDGET, headers={"Accept": "application/octet-stream"},
                         json_body={"input_ids": [text], "cache_position": [at]})
        assert reply is None or reply.body == self.want[self.i][at], (self.faults.hit, path, at)
        return reply

    def act(self):
        reply = self.ask("POST", "/v1/sessions", *self.BUDGET, json_body={"program": self.p, "engine": "native"})
        if reply:
            path = f"/v1/sessions/{reply.json['id']}"
            self.mine.append(path)
            n = 0
            while n < 3 and self.step(path, n):
                n += 1
            fork = self.ask("POST", path + "/fork", *self.BUDGET, json_body={})
            if fork:
                self.mine.append(f"/v1/sessions/{fork.json['id']}")
                self.step(self.mine[-1], n)
            saved = self.ask("GET", path + "/cache", *self.BUDGET)
            self.ask("POST", path + "/rewind", *self.BUDGET, json_body={"position": 0})
            if saved:
                self.ask("PUT", path + "/cache", *self.BUDGET, body=saved.body)
            self.ask("GET", path)
        for other in self.others[self.i % 7::7]:
            self.ask("GET", other + "/cache", *self.BUDGET)  # brings it back
        self.ask("GET", "/v1/sessions?limit=5")

    def check(self):
        d = self.d
        assert d.get("/readyz").status == 200
        listed = {s["id"] for s in d.get("/v1/sessions?limit=1000", expect=200).json["data"]}
        for path in self.mine:
            position = d.get(path, expect=200).json["position"]
            for at in range(position, 5):
                self.step(path, at)
            assert d.get(path, expect=200).json["position"] >= 5, path
            d.delete(path, expect=204)
        mine = {path.rsplit("/", 1)[1] for path in self.mine}
        for session in listed - mine - {o.rsplit("/", 1)[1] for o in self.others}:
            d.delete(f"/v1/sessions/{session}", expect=204)  # whose id was not heard
        for k, path in enumerate(self.others):
            assert path.rsplit("/", 1)[1] in listed, f"'{self.faults.hit}': {path} is lost"
            if k % 7 == self.i % 7:
                i = k % N_SESSIONS
                assert self.again(path, i) == self.want[i][1], f"'{self.faults.hit}': {path}"

    def again(self, path, i):
        """Its second position, once more."""
        body = {"input_ids": [test_spill.text_of(i)[1:2]], "cache_position": [1]}
        return self.d.post(path + "/step", body, headers={"Accept": "application/octet-stream"}, expect=200).body


@contextlib.contextmanager
def rounds_daemon(*flags):
    with without_engines() as env, tempfile.TemporaryDirectory(prefix="pt2d-models-") as models:
        copy_demo(os.path.join(models, "demo"))
        os.mkdir(os.path.join(models, "tiny"))
        for name, data in tiny().items():
            with open(os.path.join(models, "tiny", name), "wb") as f:
                f.write(data)
        d = Daemon("--set", "exports.workers=1", *flags, models=models)
        faults = Faults(d.directory, d.state, models)
        d.env = {**env, **faults.env}
        with d:
            if not faults.has_memory:
                print("     skipped: this build's malloc is a sanitizer's")
                yield None, None
            else:
                yield d, faults


def one_round(d, faults, r, at, n):
    """False: no call was hit."""
    faults.arm(NO_MEMORY, at, n, pid=d.process.pid)
    begun = time.monotonic()
    r.act()
    hit = faults.hit
    faults.disarm()
    assert d.process.poll() is None, f"the daemon died of '{hit}': {d.log()[-3000:]}"
    assert time.monotonic() - begun < 50, f"'{hit}' held an answer up"
    r.check()
    return hit


def tell_rounds(name, stride, make_round, *flags):
    stride = STRIDE or stride
    at = 1 if stride == 1 else random.Random(f"{SEED} {name}").randint(1, stride)
    n_rounds, n_missed, n_refused, where = 0, 0, 0, set()
    with rounds_daemon(*flags) as (d, faults):
        if d is None:
            return
        make = make_round(d, faults)
        while n_missed < MISSES:
            for n in N_FAIL[name]:
                try:
                    r = make(n_rounds + n_missed)
                    hit = one_round(d, faults, r, at, n)
                except BaseException:
                    print(f"     {name}, call {at}, {n} in a row, '{faults.hit}': PT2_SEED={SEED} "
                          f"PT2_MEMORY_STRIDE={stride}", flush=True)
                    raise
                n_rounds += bool(hit)
                n_missed = 0 if hit else n_missed + 1
                n_refused += bool(r.refused)
                where.add(hit)
            at += stride
        print(f"     {name}: {n_rounds} rounds up to call {at}, {len(where)} places, {n_refused} with a refusal",
              flush=True)
        assert n_rounds > 0 and n_refused > 0, "no fault was ever hit, or none had an effect"
        d.kill()
        check_is_clean(d)
        d.start()
        d.get("/readyz", expect=200)


def story_the_store_without_memory():
    def make_round(d, faults):
        job = d.post("/v1/exports", {"model": "tiny", "cache": {"max_cache_len": 7}}, expect=202).json["id"]
        until(lambda: d.get(f"/v1/exports/{job}", expect=200).json["state"] == "succeeded", "an export")
        data = d.get(f"/v1/exports/{job}/file", expect=200).body
        return lambda i: Store(d, faults, i, data)

    tell_rounds("store", 499, make_round)


def story_exports_without_memory():
    tell_rounds("exports", 997, lambda d, faults: lambda i: Exports(d, faults, i))


def story_sessions_without_memory():
    def make_round(d, faults):
        test_spill.Session.engine = "native"
        p = program(d, length=LENGTH)
        want = expected_logits(d, p, N_SESSIONS)
        others = [test_spill.Reader(d, i, p) for i in range(N_SESSIONS)]
        for reader in others:
            reader.step(1)
            reader.step(1)
        paths = [reader.session.path for reader in others]
        return lambda i: Sessions(d, faults, i, p, paths, want)

    tell_rounds("sessions", 211, make_round, *FLAGS, "--set", "sessions.max_cache_bytes=1 MiB",
                "--set", "sessions.persist=yes")


if __name__ == "__main__":
    if not os.path.exists(LIBRARY):
        print(f"no {LIBRARY}: make check builds it")
        sys.exit(77)
    main(globals())
