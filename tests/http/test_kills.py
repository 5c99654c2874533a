#!/usr/bin/env python3
"""SIGKILL at random moments of a mixed load on one state directory: exports under keys, uploads,
aliases, pins, deletes, models that are published, sessions that spill, fork and are saved.  What was
answered 2xx holds after each start, jobs end, what is listed is whole, and --fsck=check finds
no problem in what the kill left.

The seed is printed; PT2_SEED=N tells the same story again, as far as threads allow;
PT2_TEST_ROUNDS=N makes it longer (500 in `make nightly`)."""

import json
import os
import random
import subprocess
import tempfile
import threading
import time

import test_spill
from exporting import copy_demo, pages, sha256, state_files, without_engines
from harness import BUILD, SEED, Daemon, main, until
from states import tiny
from stepping import FLAGS, Session, program
from test_crash import Client, commented
from test_spill import Reader
from uploading import manifest, url

ROUNDS = int(os.environ.get("PT2_TEST_ROUNDS") or 10)
STOP_EVERY = 6  # rounds: an orderly stop, which saves the sessions, and a clean --fsck=check
MAX_JOBS = 12   # of a client: then it deletes the oldest
LENGTH = 40     # of the sessions' program
N_TEXTS = 16    # of a stepper: more sessions than there is memory for


class Counting(Daemon):
    n_requests = n_spilled = 0

    def request(self, *args, **more):
        Counting.n_requests += 1
        return super().request(*args, **more)


class Exporter(Client):
    """Jobs under keys, many of them of equal content."""

    def __init__(self, d, name, seed):
        super().__init__(d, name, seed)
        self.jobs, self.n_keys = {}, 0  # key: (body, id; None where no answer came)
        self.deleting = None

    def post(self, key):
        body, job_id = self.jobs[key]
        reply = self.d.post("/v1/exports", body, headers={"Idempotency-Key": key}, expect=202)
        assert job_id in (None, reply.json["id"]), (key, job_id, reply)
        self.jobs[key] = (body, reply.json["id"])
        return reply.json["id"]

    def act(self):
        if len(self.jobs) >= MAX_JOBS:
            self.delete(next(iter(self.jobs)))
            return
        self.n_keys += 1
        key = f"{self.name}-{self.n_keys}"
        n = self.random.randint(8, 20)
        self.jobs[key] = ({"model": "tiny", "cache": {"max_cache_len": n}, "labels": {"n": str(n)}}, None)
        job_id = self.post(key)
        if self.random.random() < 0.3:
            assert self.post(key) == job_id
        if self.random.random() < 0.5:
            job = self.d.get(f"/v1/exports/{job_id}?wait=60", expect=200).json
            assert job["state"] == "succeeded", job
            data = self.d.get(f"/v1/exports/{job_id}/file", expect=200).body
            assert sha256(data) == job["program"], job

    def delete(self, key):
        job_id = self.jobs[key][1]
        self.d.get(f"/v1/exports/{job_id}?wait=60", expect=200)
        self.deleting = key
        self.d.delete(f"/v1/exports/{job_id}", expect=204)
        self.d.get(f"/v1/exports/{job_id}", expect=404)
        del self.jobs[key]
        self.deleting = None

    def check(self, listed):
        if self.deleting is not None:
            if self.d.get(f"/v1/exports/{self.jobs[self.deleting][1]}", expect=(200, 404)).status == 404:
                del self.jobs[self.deleting]
            self.deleting = None
        for key in list(self.jobs):
            job_id = self.post(key)  # the same job, or the one that no answer came to
            job = self.d.get(f"/v1/exports/{job_id}?wait=60", expect=200).json
            assert job["state"] == "succeeded" and job["labels"] == self.jobs[key][0]["labels"], job
            self.d.get(f"/v1/programs/{job['program']}", expect=200)


class Curator(Client):
    """Programs of its own, uploaded, named, pinned, deleted.  facts: what each may be."""

    def __init__(self, d, name, seed, archives):
        super().__init__(d, name, seed)
        self.archives, self.alias = archives, f"of-{name}"
        self.facts = {self.alias: {None}}
        self.facts.update({(what, p): {False} for p in archives for what in ("there", "pinned")})

    def is_(self, name):
        value, = self.facts[name]
        return value

    def change(self, name, value, what):
        """Until it is answered it may be as before, or as it will be."""
        before = self.facts[name]
        self.facts[name] = before | {value}
        reply = what()
        self.facts[name] = {value}
        return reply

    def act(self):
        p = self.random.choice(sorted(self.archives))
        path = f"/v1/programs/{p}"
        if not self.is_(("there", p)) or self.random.random() < 0.1:
            status = 200 if self.is_(("there", p)) else 201
            self.change(("there", p), True, lambda: self.d.request(
                "PUT", path, body=self.archives[p], expect=status))
            return
        what = self.random.choice(("delete", "name", "name", "unname", "pin", "pin", "read"))
        if what == "delete" and self.is_(self.alias) != p:
            self.facts[("pinned", p)] |= {False}
            self.change(("there", p), False, lambda: self.d.delete(path, expect=204))
            self.facts[("pinned", p)] = {False}
        elif what == "name":
            status = 201 if self.is_(self.alias) is None else 200
            self.change(self.alias, p, lambda: self.d.put(
                f"/v1/aliases/{self.alias}", {"program": p}, expect=status))
        elif what == "unname" and self.is_(self.alias) is not None:
            self.change(self.alias, None, lambda: self.d.delete(f"/v1/aliases/{self.alias}", expect=204))
        elif what == "pin":
            value = not self.is_(("pinned", p))
            self.change(("pinned", p), value, lambda: self.d.request(
                "PUT" if value else "DELETE", path + "/pin", expect=(200, 204)))
        elif what == "read":
            part = self.d.get(path + "/file", headers={"Range": "bytes=100-299"}, expect=206).body
            assert part == self.archives[p][100:300]

    def check(self, listed):
        reply = self.d.get(f"/v1/aliases", expect=200).json["data"]
        found = {self.alias: {a["name"]: a["program"] for a in reply}.get(self.alias)}
        for p in self.archives:
            found[("there", p)] = p in listed
            found[("pinned", p)] = p in listed and listed[p]["pinned"]
        for name, value in found.items():
            assert value in self.facts[name], (self.name, name, value, self.facts[name])
            self.facts[name] = {value}


class Publisher(Client):
    """A model in several versions, published and deleted."""

    def __init__(self, d, name, seed):
        super().__init__(d, name, seed)
        config = json.loads(tiny()["config.json"])
        self.versions = [{**tiny(), "config.json": json.dumps({**config, "rope_theta": t}).encode()}
                         for t in (1e4, 2e4, 3e4)]
        self.model, self.may = f"org/{name}", {None}
        self.sent = None  # a version of which all files were answered, and no more was asked

    def act(self):
        version = self.random.choice((0, 1, 2, None))
        if version is None:
            if self.may == {None}:
                return
            self.may, self.sent = self.may | {None}, None
            self.d.delete(url(self.model), expect=204)
            self.may = {None}
            return
        self.sent = None
        for name, data in self.versions[version].items():
            self.d.request("PUT", url(self.model, "/files/" + name), body=data, expect=(200, 201))
        self.sent = version
        if self.random.random() < 0.3:
            return
        self.publish(version)

    def publish(self, version):
        self.may, self.sent = self.may | {version}, None
        self.d.post(url(self.model, "/publish"), manifest(self.versions[version]), expect=(200, 201))
        self.may = {version}

    def check(self, listed):
        there = self.model in [m["id"] for m in self.d.get("/v1/models", expect=200).json["data"]]
        found = None
        if there:
            folder = os.path.join(self.d.models, self.model)
            files = {}
            for name in os.listdir(folder):
                with open(os.path.join(folder, name), "rb") as f:
                    files[name] = f.read()
            found = self.versions.index(files)
        assert found in self.may, (self.model, found, self.may)
        self.may = {found}
        if self.sent is not None:
            self.publish(self.sent)


class Stepper(test_spill.Client):
    """Sessions that read their texts, and are forked now and then."""

    def __init__(self, d, name, p, first, want, seed):
        super().__init__(d, p, first, want, seed)
        self.name, self.n_done, self.indices = name, 0, range(first, first + N_TEXTS)

    def act(self):
        self.n_done += 1
        reader = self.random.choice(self.readers) if self.readers else None
        if reader and 0 < reader.at < LENGTH - 1 and self.random.random() < 0.05:
            self.fork(reader)
        else:
            super().act()

    def fork(self, reader):
        reply = self.d.post(reader.session.path + "/fork", {}, expect=(201, 429, 503))
        if reply.status != 201:
            return
        path = f"/v1/sessions/{reply.json['id']}"
        step = self.d.post(path + "/step", {"input_ids": [[test_spill.text_of(reader.i)[reader.at]]]},
                           headers={"Accept": "application/octet-stream"}, expect=(200, 429, 503))
        assert step.status != 200 or step.body == self.want[reader.i][reader.at], (reader.i, reader.at)
        self.d.delete(path, expect=204)


def expected_logits(d, p, n):
    want = []
    for i in range(n):
        reader = Reader(d, i, p)
        want.append([reader.step(1) for _ in range(LENGTH - 1)])
        reader.session.delete()
    return want


def fsck(d):
    run = subprocess.run([os.path.join(BUILD, "pt2d"), "--config", "/dev/null", "--state-dir", d.state,
                          "--models-dir", d.models, "--fsck=check"], stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, timeout=120)
    return run.returncode, run.stdout


def make_clients(d, rng):
    p = program(d, length=LENGTH)
    d.put("/v1/aliases/sessions", {"program": p}, expect=201)
    want = expected_logits(d, p, 3 * N_TEXTS)
    job = d.post("/v1/exports", {"model": "tiny", "cache": {"max_cache_len": 7}}, expect=202).json["id"]
    data = until(lambda: (r := d.get(f"/v1/exports/{job}/file")).status == 200 and r.body, "an export")
    clients = [Stepper(d, f"stepper{i}", p, N_TEXTS * i, want, rng.random()) for i in range(3)]
    clients += [Exporter(d, f"exporter{i}", rng.random()) for i in range(2)]
    for i in range(2):
        archives = [commented(data, f"{i} {n}") for n in range(3)]
        clients.append(Curator(d, f"curator{i}", rng.random(), {sha256(a): a for a in archives}))
    clients.append(Publisher(d, "publisher", rng.random()))
    return clients


def check(d, clients):
    """After a start.  Sessions' files are looked at before anybody steps."""
    assert test_spill.spilled(d) == [], test_spill.spilled(d)
    listed = {p["id"]: p for p in pages(d, "/v1/programs", 100)}
    for client in clients:
        client.check(*([] if isinstance(client, Stepper) else [listed]))
    for state in ("queued", "running"):
        until(lambda: d.get(f"/v1/exports?state={state}", expect=200).json["data"] == [],
              f"no export is {state}")
    until(lambda: state_files(d, "tmp") == [], "the end of temporary files")
    for p in pages(d, "/v1/programs", 100):
        data = d.get(f"/v1/programs/{p['id']}/file", expect=200).body
        assert sha256(data) == p["id"] and len(data) == p["bytes"], p["id"]


def round_of(d, clients, seconds, is_stop):
    threads = [threading.Thread(target=client.run) for client in clients]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    status = d.stop() if is_stop else d.kill()
    for client, thread in zip(clients, threads):
        thread.join()
        if client.failure and not (is_stop and "503" in str(client.failure)):
            raise client.failure
        client.failure = None
    assert not is_stop or status == 0, status
    Counting.n_spilled += len(test_spill.spilled(d))
    status, lines = fsck(d)
    assert status == 0 and (not is_stop or lines.endswith("clean\n")), lines
    d.start()
    check(d, clients)


def story_a_daemon_killed_at_random_moments_loses_nothing():
    rng, begun = random.Random(SEED), time.monotonic()
    print(f"     PT2_SEED={SEED}, {ROUNDS} rounds", flush=True)
    Session.engine = "native"
    with without_engines() as env, tempfile.TemporaryDirectory(prefix="pt2d-models-") as models:
        copy_demo(os.path.join(models, "demo"))
        os.mkdir(os.path.join(models, "tiny"))
        for name, data in tiny().items():
            with open(os.path.join(models, "tiny", name), "wb") as f:
                f.write(data)
        with Counting(*FLAGS, "--set", "sessions.persist=yes", "--set", "sessions.max_cache_bytes=1 MiB",
                      "--set", "daemon.log_level=info", models=models, env=env) as d:
            clients = make_clients(d, rng)
            for n in range(ROUNDS):
                try:
                    round_of(d, clients, rng.uniform(0.02, 0.8), n % STOP_EVERY == STOP_EVERY - 1)
                except BaseException:
                    print(f"     in round {n} of PT2_SEED={SEED}", flush=True)
                    raise
    steppers = [c for c in clients if isinstance(c, Stepper)]
    print(f"     {ROUNDS} rounds, {Counting.n_requests} requests in {time.monotonic() - begun:.0f} s; sessions: "
          f"{sum(c.n_went_on for c in steppers)} went on, {sum(c.n_lost for c in steppers)} were lost, "
          f"{Counting.n_spilled} were on the disk", flush=True)
    assert all(c.n_done > 0 for c in clients), [(c.name, c.n_done) for c in clients]


if __name__ == "__main__":
    main(globals())
