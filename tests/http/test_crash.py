#!/usr/bin/env python3
"""SIGKILL at random moments while programs are uploaded, exported and deleted: what was
acknowledged holds, what is listed is whole, and nothing else is left.

The seed is printed; PT2_SEED=N tells the same story again, as far as threads allow;
PT2_TEST_ROUNDS=N makes it longer."""

import contextlib
import http.client
import io
import os
import random
import sqlite3
import threading
import time
import zipfile

from exporting import export, pages, sha256, state_files, without_engines
from harness import SEED, Daemon, main, until

ROUNDS = int(os.environ.get("PT2_TEST_ROUNDS") or 6)
GONE = (OSError, http.client.HTTPException)  # the daemon, while it was asked


def commented(data, text):
    """The same archive under another digest."""
    out = io.BytesIO(data)
    with zipfile.ZipFile(out, "a") as z:
        z.comment = text.encode()
    return out.getvalue()


class Client:
    """One that uploads and deletes programs of its own, or exports, until the daemon is gone."""

    def __init__(self, d, name, seed):
        self.d, self.name, self.random = d, name, random.Random(seed)
        self.n_done, self.failure = 0, None

    def run(self):
        try:
            while True:
                self.act()
                self.n_done += 1
        except GONE:
            pass
        except BaseException as e:  # told by the story
            self.failure = e


class Uploader(Client):
    def __init__(self, d, name, seed, archives):
        super().__init__(d, name, seed)
        self.archives = archives  # {id: bytes}
        self.states = {i: {False} for i in archives}  # may it be there?  Two where that is open

    def act(self):
        program = self.random.choice(sorted(self.archives))
        before = self.states[program]
        if before == {True} and self.random.random() < 0.7:
            self.states[program] = {True, False}
            self.d.delete(f"/v1/programs/{program}", expect=204)
            self.states[program] = {False}
        else:
            self.states[program] = before | {True}
            data = self.archives[program]
            reply = self.d.request("PUT", f"/v1/programs/{program}", body=self.pieces(data),
                                   headers={"Content-Length": str(len(data))}, expect=(200, 201))
            assert before == {True, False} or (reply.status == 200) == (True in before), (before, reply)
            self.states[program] = {True}

    def pieces(self, data):
        n = len(data) // self.random.randint(1, 6) + 1
        for at in range(0, len(data), n):
            yield data[at:at + n]
            time.sleep(self.random.random() * 0.01)

    def check(self, listed):
        for program, may in self.states.items():
            assert (program in listed) in may, (self.name, program, may)
            self.states[program] = {program in listed}


class Exporter(Client):
    def __init__(self, d, name, seed):
        super().__init__(d, name, seed)
        self.jobs, self.cancelled, self.deleted = [], set(), set()

    def act(self):
        job = self.d.post("/v1/exports", {"model": "demo", "cache": {
            "max_cache_len": self.random.randint(8, 40)}}, expect=202).json
        self.jobs.append(job["id"])
        action = self.random.random()
        if action < 0.2:
            reply = self.d.post(f"/v1/exports/{job['id']}/cancel", expect=(202, 409))
            if reply.status == 202:
                self.cancelled.add(job["id"])
        elif action < 0.7:
            job = self.d.get(f"/v1/exports/{job['id']}?wait=60", expect=200).json
            assert job["state"] == "succeeded", job
            if action < 0.4:
                self.deleted.add(job["id"])  # as soon as it may be
                self.d.delete(f"/v1/exports/{job['id']}", expect=204)

    def check(self, listed):
        for job_id in self.jobs:
            job = self.d.get(f"/v1/exports/{job_id}?wait=60",
                             expect=(200, 404) if job_id in self.deleted else 200)
            if job.status == 404:
                continue
            job = job.json
            if job_id in self.cancelled:
                assert job["state"] == "cancelled", job
            elif job["state"] != "cancelled":  # the kill came before the cancel's answer
                assert job["state"] == "succeeded" and job["program"] in listed, job


def check_state(d, clients):
    """Once every job has ended: lists, files and acknowledgements agree."""
    for state in ("queued", "running"):
        until(lambda: d.get(f"/v1/exports?state={state}", expect=200).json["data"] == [],
              f"no export is {state}")
    until(lambda: state_files(d, "tmp") == [], "the end of temporary files")
    listed = {p["id"]: p for p in pages(d, "/v1/programs", 3)}
    files = state_files(d, "objects")
    assert sorted(os.path.basename(f) for f in files) == sorted(listed), (files, sorted(listed))
    for program, facts in listed.items():
        data = d.get(f"/v1/programs/{program}/file", expect=200).body
        assert sha256(data) == program and len(data) == facts["bytes"], program
    for client in clients:
        client.check(listed)


def check_database(d):
    with contextlib.closing(sqlite3.connect(os.path.join(d.state, "pt2d.db"))) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []


def story_nothing_is_lost_or_left_by_crashes():
    rng = random.Random(SEED)
    print(f"     PT2_SEED={SEED}", flush=True)
    with without_engines() as env, Daemon(env=env) as d:
        data = d.get(f"/v1/exports/{export(d)['id']}/file", expect=200).body
        clients = [Exporter(d, f"exporter {i}", rng.random()) for i in range(2)]
        for i in range(2):
            mine = [commented(data, f"{i} {n}") for n in range(3)]
            clients.append(Uploader(d, f"uploader {i}", rng.random(), {sha256(a): a for a in mine}))
        for n in range(ROUNDS):
            threads = [threading.Thread(target=client.run) for client in clients]
            for thread in threads:
                thread.start()
            time.sleep(rng.uniform(0.02, 0.8))
            if n == ROUNDS - 1:  # at least once on a slow machine, too
                until(lambda: any(client.n_done or client.failure for client in clients), "something is done")
            d.kill()
            for client, thread in zip(clients, threads):
                thread.join()
                if client.failure:
                    raise client.failure
            d.start()
            check_state(d, clients)
        d.stop()
        check_database(d)


if __name__ == "__main__":
    main(globals())
