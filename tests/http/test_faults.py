#!/usr/bin/env python3
"""Every call that writes fails once, or is the last one of the process: what was answered 2xx is
there after a restart, and what is listed is whole.

One round is a daemon of its own that does everything which is to be durable, with a fault at call
number N.  `make check` takes every PT2_FAULT_STRIDE-th N, from one that PT2_SEED chooses (printed where
one fails); PT2_FAULT_STRIDE=1, in `make nightly`, takes all of them, until no fault is hit any more."""

import contextlib
import errno
import http.client
import os
import random
import subprocess
import sys
import tempfile
import time

from exporting import copy_demo, export, sha256, submit, without_engines
from faults import FAIL, KILL, LIBRARY, Faults
from harness import BUILD, SEED, Daemon, main, until
from uploading import FILES, publish, put, url

STRIDE = int(os.environ.get("PT2_FAULT_STRIDE") or 37)
MISSES = 5  # rounds in a row without a fault end a story that takes all
GONE = (OSError, http.client.HTTPException)  # the daemon, while it was asked
NAMES = ("config.json", "model.safetensors")
KEY = {"Idempotency-Key": "a-key-of-the-story"}
BODY = {"cache": {"max_cache_len": 9}}
made = {}


def archives():
    """Programs to upload, made once: two for the round, one for after it."""
    if not made:
        with without_engines() as env, Daemon(env=env) as d:
            for n in (10, 11, 12):
                data = d.get(f"/v1/exports/{export(d, cache={'max_cache_len': n})['id']}/file", expect=200).body
                made[sha256(data)] = data
    return list(made.items())


class Round:
    """What was asked, and what was acknowledged of it: True, False or None (the daemon was gone)."""

    def __init__(self, d, faults):
        self.d, self.faults = d, faults
        self.job = self.answer = None
        self.there = {}  # program: True, False, None
        self.model = False
        self.refusals = []

    def ask(self, what, *allowed):
        """True: done; False: refused, with a reason that is ours."""
        try:
            reply = what()
        except GONE:
            return None, None
        if reply.status < 300:
            return True, reply
        assert reply.problem in ("no-space", "input-output", "out-of-memory") + allowed, \
            f"fault '{self.faults.hit}': {reply}"
        assert reply.status in (500, 507, 503) or reply.problem in allowed, reply
        self.refusals.append(reply.problem)
        return False, reply

    def act(self):
        """Everything that is durable."""
        self.submit()
        self.send_programs()
        self.send_model()
        self.wait()
        self.delete()

    def submit(self):
        done, reply = self.ask(lambda: submit(self.d, expect=None, headers=KEY, **BODY))
        if done:
            self.job = reply.json["id"]
        for again in range(2):  # a refused one may be repeated; one that was taken is the same
            done, reply = self.ask(lambda: submit(self.d, expect=None, headers=KEY, **BODY))
            if done:
                assert self.job in (None, reply.json["id"]), reply
                self.job = reply.json["id"]

    def send_programs(self):
        for program, data in archives()[:2]:
            done, _ = self.ask(lambda: self.d.request("PUT", f"/v1/programs/{program}", body=data))
            self.there[program] = done or (None if done is None else False)

    def send_model(self):
        sent = all([self.ask(lambda: put(self.d, "new", name, FILES[name], expect=None))[0] for name in NAMES])
        done, _ = self.ask(lambda: publish(self.d, "new", {n: FILES[n] for n in NAMES}, expect=None),
                           *(() if sent else ("missing-files",)))
        # It may have its name and not be synced: then nothing was promised.
        is_doubted = self.faults.n > 1 or self.faults.hit.startswith("fsync")
        self.model = None if done is False and is_doubted else done

    def wait(self):
        """Until the job is finished; it may fail for the fault alone."""
        end = time.monotonic() + 60
        while self.job and time.monotonic() < end:
            done, reply = self.ask(lambda: self.d.get(f"/v1/exports/{self.job}?wait=5"))
            if done is None:
                return
            if done and reply.json["finished"]:
                if reply.json["state"] == "failed":
                    kind = reply.json["error"]["type"]
                    assert kind in ("/problems/no-space", "/problems/input-output"), reply.json
                    self.refusals.append(kind)
                return

    def delete(self):
        program = list(self.there)[0]
        done, reply = self.ask(lambda: self.d.delete(f"/v1/programs/{program}"),
                               *(() if self.there[program] else ("not-found",)))
        if done:
            self.there[program] = False
        elif done is None or self.there[program]:
            # gone where the row went and the file stayed
            self.there[program] = None if self.there[program] is not False else self.there[program]

    # ---- afterwards ----

    def check(self):
        d = self.d
        listed = {p["id"]: p for p in d.get("/v1/programs", expect=200).json["data"]}
        for program, there in self.there.items():
            assert there is None or (program in listed) == there, (program, there, self.faults.hit)
        if self.job:
            job = d.get(f"/v1/exports/{self.job}", expect=200).json
            again = submit(d, headers=KEY, **BODY).json
            assert again["id"] == self.job, (again, job)
            until(lambda: d.get(f"/v1/exports/{self.job}", expect=200).json["finished"], "the job's end")
            job = d.get(f"/v1/exports/{self.job}", expect=200).json
            if job["state"] != "succeeded":
                assert job["state"] == "failed" and self.refusals, job
        for program, facts in {p["id"]: p for p in d.get("/v1/programs", expect=200).json["data"]}.items():
            data = d.get(f"/v1/programs/{program}/file", expect=200).body
            assert sha256(data) == program and len(data) == facts["bytes"], (program, self.faults.hit)
        models = [m["id"] for m in d.get("/v1/models", expect=200).json["data"]]
        assert self.model is None or ("new" in models) == self.model, (models, self.model)
        if "new" in models:
            for name in NAMES:
                with open(os.path.join(d.models, "new", name), "rb") as f:
                    assert f.read() == FILES[name], name

    def check_serves(self):
        """All of it works now."""
        job = export(self.d, cache={"max_cache_len": 13})
        assert sha256(self.d.get(f"/v1/exports/{job['id']}/file", expect=200).body) == job["program"]
        program, data = archives()[2]
        self.d.request("PUT", f"/v1/programs/{program}", body=data, expect=201)
        for name in NAMES:
            put(self.d, "newer", name, FILES[name], expect=(200, 201))
        publish(self.d, "newer", {n: FILES[n] for n in NAMES})
        self.d.delete(url("newer"), expect=204)


def check_is_clean(d):
    run = subprocess.run([os.path.join(BUILD, "pt2d"), "--config", "/dev/null", "--state-dir", d.state,
                          "--models-dir", d.models, "--fsck=check"], stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, timeout=60)
    assert run.returncode == 0, run.stdout


def check_was_told(d, r, hit):
    """What failed was refused or logged.  Digests of files and times of use are written lazily,
    with pwrite alone, and forgotten where that fails."""
    told = [line for line in d.log().splitlines() if " warning: " in line or " error: " in line]
    assert not hit or hit.startswith("pwrite ") or r.refusals or told, f"'{hit}' was kept quiet"


@contextlib.contextmanager
def rounds_daemon():
    with without_engines() as env, tempfile.TemporaryDirectory(prefix="pt2d-models-") as models:
        copy_demo(os.path.join(models, "demo"))
        d = Daemon("--set", "exports.workers=1", models=models)
        faults = Faults(d.directory, d.state, models)
        d.env = {**env, **faults.env}
        with d:
            yield d, faults


def round_at(action, at, n=1, error=0):
    """One round.  False: there is no call of that number."""
    with rounds_daemon() as (d, faults):
        r = Round(d, faults)
        faults.arm(action, at, n, error)
        r.act()
        hit = faults.hit
        faults.disarm()
        if action == FAIL:
            assert d.process.poll() is None, f"the daemon died of '{hit}'"
            r.check_serves()
            check_was_told(d, r, hit)
        d.kill()
        check_is_clean(d)
        d.start()
        r.check()
    return hit


def tell_rounds(name, action, n=1, error=0, stride=STRIDE):
    at = 1 if stride == 1 else random.Random(f"{SEED} {name}").randint(1, stride)
    n_rounds, n_missed, kinds = 0, 0, {}
    # How many calls there are differs a little: threads share the database's syncs.
    while n_missed < (MISSES if STRIDE == 1 else 1):
        try:
            hit = round_at(action, at, n, error)
        except BaseException:
            print(f"     {name}, call {at}: PT2_SEED={SEED} PT2_FAULT_STRIDE={STRIDE}", flush=True)
            raise
        at += stride
        if hit:
            n_rounds += 1
            kinds[hit.split()[0]] = kinds.get(hit.split()[0], 0) + 1
        n_missed = 0 if hit else n_missed + 1
    print(f"     {name}: {n_rounds} rounds up to call {at}: {kinds}", flush=True)
    assert n_rounds > 0, "no fault was ever hit"


def story_a_full_disk_loses_nothing():
    tell_rounds("ENOSPC", FAIL, error=errno.ENOSPC)


def story_a_disk_that_stays_full_loses_nothing():
    tell_rounds("ENOSPC for 40 calls", FAIL, n=40, error=errno.ENOSPC, stride=max(2 * STRIDE, 8))


def story_a_bad_disk_loses_nothing():
    tell_rounds("EIO", FAIL, error=errno.EIO)


def story_a_kill_at_any_call_loses_nothing():
    tell_rounds("SIGKILL", KILL)


if __name__ == "__main__":
    if not os.path.exists(LIBRARY):
        print(f"no {LIBRARY}: make check builds it")
        sys.exit(77)
    main(globals())
