#!/usr/bin/env python3
"""Stops while requests are at work: what is done is answered, and what would take long is given up."""

import contextlib
import os
import sqlite3
import threading
import time

from exporting import export, without_engines
from harness import Daemon, main, until

LONG = 64 << 30  # bytes: a sparse file of which reading takes more than the seconds below
SOON = 15  # seconds


def later(act):
    """Run act on a thread; answers what waits for its result."""
    results = []
    thread = threading.Thread(target=lambda: results.append(act()))
    thread.start()

    def wait():
        thread.join()
        return results[0]
    return wait


def doubtful_program(d):
    """One whose file takes long to read, and has to be read."""
    program = export(d)["program"]
    until(lambda: "not checked" not in d.get(f"/v1/programs/{program}", expect=200).text, "the engines' verdicts")
    path = os.path.join(d.state, "objects", program[:2], program)
    os.chmod(path, 0o600)
    os.truncate(path, LONG)
    return program


def is_reading(d, path_part):
    """Has the daemon the file open?"""
    folder = f"/proc/{d.process.pid}/fd"
    for fd in os.listdir(folder):
        with contextlib.suppress(OSError):
            if path_part in os.readlink(os.path.join(folder, fd)):
                return True
    return False


def story_a_stop_does_not_wait_for_files_that_are_read():
    with without_engines() as env, Daemon("--set", "daemon.grace=0", env=env) as d:
        program = doubtful_program(d)
        asked = later(lambda: d.get(f"/v1/programs/{program}/file"))
        until(lambda: is_reading(d, program), "the program is read")
        begun = time.monotonic()
        assert d.stop() == 0, d.log()
        assert time.monotonic() - begun < SOON
        reply = asked()
        assert reply.status == 503 and reply.problem == "draining", reply


def story_a_program_that_is_read_leaves_threads_for_others():
    with without_engines() as env, Daemon("--set", "http.pool_threads=4", "--set", "daemon.grace=0", env=env) as d:
        program = doubtful_program(d)
        asked = [later(lambda: d.get(f"/v1/programs/{program}/file")) for _ in range(2)]
        until(lambda: d.metric("pt2d_http_requests_suspended") == 2, "two requests wait")
        time.sleep(0.1)  # for the program, by now
        reply = d.get(f"/v1/programs/{program}/file", expect=503)
        assert reply.problem == "not-in-time" and reply.headers["Retry-After"], reply
        assert d.get("/v1/exports", expect=200).json["data"]
        assert d.post("/v1/sessions", {"program": program}, expect=503).problem == "not-in-time"
        assert d.stop() == 0
        assert {wait().status for wait in asked} == {503}


def story_what_a_stop_finds_at_work_is_answered_as_it_ends():
    """The database is held by somebody else, so that the export waits in the middle of its work."""
    with without_engines() as env, Daemon("--set", "daemon.grace=0", env=env) as d:
        first = export(d)
        with contextlib.closing(sqlite3.connect(os.path.join(d.state, "pt2d.db"), isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            body = {"model": "demo", "dtype": "float32", "cache": {"max_cache_len": 33}}
            asked = later(lambda: d.post("/v1/exports", body, headers={"Idempotency-Key": "k"}))
            time.sleep(0.3)  # whether it has come or not, what is answered must be true
            d.process.terminate()
            until(lambda: "stopping" in d.log(), "the stop")
            time.sleep(0.5)
            db.execute("ROLLBACK")
        assert d.stop() == 0, d.log()
        reply = asked()
        d.start()
        jobs = {job["id"] for job in d.get("/v1/exports", expect=200).json["data"]} - {first["id"]}
        again = d.post("/v1/exports", body, headers={"Idempotency-Key": "k"}, expect=202)
        if reply.status == 202:
            assert jobs == {reply.json["id"]} and again.json["id"] == reply.json["id"], (jobs, again)
            assert again.headers["Idempotency-Replayed"] == "true"
        else:
            assert reply.status == 503 and not jobs, (reply, jobs)


if __name__ == "__main__":
    main(globals())
