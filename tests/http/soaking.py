"""soaking.py - clients who do all that clients do, many at once, and what a daemon then holds.

A life is one session's: made, stepped, forked, rewound, saved, restored, given up on, and
forgotten, with requests of all other kinds between.  Lives are told apart by their number
and the seed, so that a run can be repeated (but for how its threads meet)."""

import contextlib
import json
import os
import random
import sqlite3
import threading
import time
import traceback

from exporting import sha256
from harness import TIMEOUT, Raw
from stepping import program, workers
from uploading import FILES, manifest, put, url

N_CLIENTS = 16
EXPORT_EVERY = 50  # lives: a program of its own, which is then deleted
LOOKS = ("/healthz", "/readyz", "/version", "/metrics", "/openapi.json", "/", "/v1/stats",
         "/v1/models", "/v1/models/demo", "/v1/exports", "/v1/programs", "/v1/aliases",
         "/v1/sessions?limit=1000")
OF_PROGRAM = ("", "/graph", "/plan")
# Little memory, so that sessions go to the disk and come back.
FLAGS = ("--set", "engine.threads=1", "--set", "sessions.max_cache_bytes=1MiB",
         "--set", "engine.max_programs=16", "--set", "daemon.log_level=warning")


class Soak:
    def __init__(self, d, seed):
        self.d, self.seed = d, seed
        self.programs = [program(d, "float32", length=64), program(d, "bfloat16", length=32),
                         program(d, "float32", length=48, dynamic=True)]
        self.file = d.get(f"/v1/programs/{self.programs[0]}/file", expect=200).body
        self.jobs = [job["id"] for job in d.get("/v1/exports", expect=200).json["data"]]
        self.next, self.lock = 0, threading.Lock()
        self.failures, self.counts = [], {}

    def count(self, what):
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + 1

    def call(self, method, path, expect, **more):
        """A request; one that finds no room waits for it, as clients do."""
        expect = (expect,) if isinstance(expect, int) else expect
        end = time.monotonic() + TIMEOUT
        while True:
            reply = self.d.request(method, path, expect=(*expect, 429), label=f"{method} {path}", **more)
            self.count(f"{method} {reply.status}")
            if reply.status != 429:
                return reply
            assert time.monotonic() < end, reply
            time.sleep(0.05)

    def round(self, n):
        """n lives by all clients; afterwards nobody is there."""
        end = self.next + n

        def client():
            while not self.failures:
                with self.lock:
                    number, self.next = self.next, self.next + 1
                if number >= end:
                    return
                try:
                    Life(self, number).live()
                except Exception:  # the others stop, too
                    self.failures.append(f"life {number}, seed {self.seed}: {traceback.format_exc()}")
        threads = [threading.Thread(target=client) for _ in range(N_CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.next = end
        assert not self.failures, self.failures[0]


class Life:
    def __init__(self, soak, number):
        self.soak, self.number, self.d = soak, number, soak.d
        self.random = random.Random(f"{soak.seed} {number}")
        self.call, self.forks = soak.call, []

    def live(self):
        program = self.random.choice(self.soak.programs)
        if self.number % EXPORT_EVERY == EXPORT_EVERY - 1:
            return self.export()
        # a worker for each program takes longer: aten runs two of them
        engine = "native" if program == self.soak.programs[2] else self.random.choice(("native", "aten"))
        self.open(program, engine)
        for act in self.random.sample(self.ACTS, 6):
            act(self)
        self.forget()

    def open(self, program, engine):
        # a program that is about to go has nobody who is left to expire
        is_short = self.random.random() < 0.15 and program in self.soak.programs
        body = {"program": program, "engine": engine, "ttl": 1 if is_short else 600,
                "labels": {"life": str(self.number)}}
        if is_short:  # it may expire at any moment
            reply = self.call("POST", "/v1/sessions", 201, json_body={**body, "labels": {"short": "1"}})
            self.call("POST", f"/v1/sessions/{reply.json['id']}/step", (200, 404), json_body={"input_ids": [[1]]})
            self.soak.count("left to expire")
        headers = {"Idempotency-Key": f"life-{self.number}"} if self.random.random() < 0.1 else {}
        body["ttl"] = 600
        reply = self.call("POST", "/v1/sessions", 201, json_body=body, headers=headers)
        if headers:
            again = self.call("POST", "/v1/sessions", 201, json_body=body, headers=headers)
            assert again.json["id"] == reply.json["id"]
        self.info, self.path = reply.json, reply.headers["Location"]
        self.position = 0
        self.step()

    # ---- what a session does ----

    def ids(self, n):
        return [[self.random.randrange(258) for _ in range(n)]]

    def step(self):
        n = self.random.randint(1, 4)
        body = {"input_ids": self.ids(n), "cache_position": list(range(self.position, self.position + n)),
                "logits": False, "top_k": 3}
        reply = self.call("POST", self.path + "/step", 200, json_body=body).json
        self.position += n
        assert reply["position"] == self.position, (reply, self.position)

    def step_for_bytes(self):
        reply = self.call("POST", self.path + "/step", 200, json_body={"input_ids": self.ids(1)},
                          headers={"Accept": "application/octet-stream"})
        self.position += 1
        assert len(reply.body) == 4 * 258

    def step_with_others(self):
        steps = [{"session": self.info["id"], "input_ids": self.ids(1)}] + \
            [{"session": fork["id"], "input_ids": self.ids(1)} for fork in self.forks]
        results = self.call("POST", "/v1/steps", 200, json_body={"steps": steps}).json["results"]
        assert all(r["status"] in (200, 429) for r in results), results
        self.position += results[0]["status"] == 200

    def fork(self):
        info = self.call("POST", self.path + "/fork", 201, json_body={}).json
        self.call("POST", f"/v1/sessions/{info['id']}/step", 200, json_body={"input_ids": self.ids(2)})
        self.forks.append(info)

    def rewind(self):
        to = self.random.randint(0, self.position)
        self.call("POST", self.path + "/rewind", 200, json_body={"position": to})
        self.position = to
        self.step()

    def save_and_restore(self):
        saved = self.call("GET", self.path + "/cache", 200).body
        self.step()
        self.call("PUT", self.path + "/cache", (200, 204), body=saved)
        self.position = self.call("GET", self.path, 200).json["position"]

    def refused(self):
        self.call("POST", self.path + "/step", 409, json_body={"input_ids": [[1]], "cache_position": [31]}
                  if self.position < 31 else {"input_ids": [[1]], "cache_position": [999999]})

    # ---- clients that leave ----

    def raw(self, head, body=b""):
        return Raw(self.d.connect()).send(head.encode() + body)

    def vanish_from_step(self):
        # of a fork: it may begin before the next call, after it, or not at all
        fork = f"/v1/sessions/{self.call('POST', self.path + '/fork', 201, json_body={}).json['id']}"
        body = json.dumps({"input_ids": self.ids(2), "cache_position": [0, 1]}).encode()
        raw = self.raw(f"POST {fork}/step HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                       f"Content-Length: {len(body)}\r\n\r\n", body)
        self.leave(raw)
        self.call("POST", fork + "/rewind", 200, json_body={"position": 0})
        self.call("DELETE", fork, 204)
        self.step()

    def vanish_from_upload(self):
        self.leave(self.raw("POST /v1/programs HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\n"
                            f"Content-Length: {len(self.soak.file)}\r\n\r\n",
                            self.soak.file[:self.random.randrange(len(self.soak.file))]))

    def vanish_from_download(self):
        raw = self.raw(f"GET /v1/programs/{self.soak.programs[0]}/file HTTP/1.1\r\nHost: x\r\n\r\n")
        raw.exactly(self.random.randint(1, 9000))
        self.leave(raw)

    def leave(self, raw):
        self.soak.count("vanished")
        if self.random.random() < 0.5:
            raw.reset()
        else:
            raw.close()

    # ---- all other requests ----

    def look(self):
        for path in self.random.sample(LOOKS, 4):
            self.call(self.random.choice(("GET", "HEAD")), path, 200)
        for of in OF_PROGRAM:
            self.call("GET", f"/v1/programs/{self.info['program']}{of}", 200)
        job = self.random.choice(self.soak.jobs)
        self.call("GET", f"/v1/exports/{job}", 200)
        self.call("GET", f"/v1/exports/{job}/events", 200)
        self.call("GET", f"/v1/exports/exp_no{self.number}", 404)
        self.call("GET", f"/v1/made-up/{self.number}", 404)
        self.call("POST", "/v1/sessions", 422, json_body={"program": self.info["program"], "unknown": 1})

    def transfer(self):
        data, first = self.soak.file, self.random.randrange(len(self.soak.file))
        part = self.call("GET", f"/v1/programs/{self.soak.programs[0]}/file", 206,
                         headers={"Range": f"bytes={first}-"}).body
        assert part == data[first:]
        self.call("PUT", f"/v1/programs/{sha256(data)}", (200, 201), body=data)

    def name(self):
        name = f"alias-{self.number % 7}.{self.number}"
        self.call("PUT", f"/v1/aliases/{name}", (200, 201), json_body={"program": self.info["program"]})
        self.call("GET", f"/v1/programs/{name}", 200)
        self.call("DELETE", f"/v1/aliases/{name}", 204)

    def model(self):
        name = f"soaked-{self.number}"
        for file, data in FILES.items():
            put(self.d, name, file, data, expect=(200, 201))
        self.call("POST", url(name, "/publish"), 201, json_body=manifest(FILES))
        self.call("POST", "/v1/exports", 200, json_body={"model": name, "dry_run": True})
        self.call("DELETE", url(name), 204)

    ACTS = (step, step_for_bytes, step_with_others, fork, rewind, save_and_restore, refused,
            vanish_from_step, vanish_from_upload, vanish_from_download, look, transfer, name, model)

    # ---- the end ----

    def forget(self):
        for session in (*self.forks, self.info):
            self.call("DELETE", f"/v1/sessions/{session['id']}", 204)
        self.soak.count("forgotten")

    def export(self):
        """A program of its own, which goes as it came; two jobs of three are cancelled."""
        length = 65 + self.number // EXPORT_EVERY
        body = {"model": "demo", "dtype": "float32", "cache": {"max_cache_len": length}}
        jobs = [self.call("POST", "/v1/exports", 202, json_body=body).json["id"] for _ in range(2)]
        self.call("POST", f"/v1/exports/{jobs[1]}/cancel", (202, 409))
        end = time.monotonic() + TIMEOUT
        while (job := self.call("GET", f"/v1/exports/{jobs[0]}?wait=10", 200).json)["state"] != "succeeded":
            assert job["state"] in ("queued", "running") and time.monotonic() < end, job
        again = self.call("POST", "/v1/exports", 202, json_body=body).json
        self.open(job["program"], "native")
        self.forget()
        for finished in (*jobs, again["id"]):
            self.call("DELETE", f"/v1/exports/{finished}", 204)
        self.call("DELETE", f"/v1/programs/{job['program']}", 204)
        self.soak.count("exported")


# ---- what a daemon holds ----

def rollup(pid):
    """Bytes of a process that are its own."""
    with open(f"/proc/{pid}/smaps_rollup") as f:
        fields = dict(line.split(":") for line in f if ":" in line and "-" not in line.split(":")[0])
    return 1024 * sum(int(fields[name].split()[0]) for name in ("Pss_Anon", "Pss_Shmem"))


def files_below(directory):
    sizes = {}
    for at, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                sizes[os.path.relpath(os.path.join(at, name), directory)] = os.lstat(os.path.join(at, name)).st_size
    return sizes


def held(d):
    """Of a daemon that nobody asks for anything."""
    pid = d.process.pid
    files = files_below(d.state)
    series = [line for line in d.get("/metrics", expect=200).text.splitlines() if not line.startswith("#")]
    return {"memory": rollup(pid), "workers": len(workers(d)),
            "workers_memory": sum(rollup(worker) for worker in workers(d)),
            "fds": len(os.listdir(f"/proc/{pid}/fd")), "threads": len(os.listdir(f"/proc/{pid}/task")),
            "database": files["pt2d.db"], "wal": files.get("pt2d.db-wal", 0),
            "files": len([name for name in files if not name.startswith("pt2d.db")]),
            "state": sum(n for name, n in files.items() if not name.startswith("pt2d.db")),
            "series": len(series)}


def rows(d):
    """How many each table has; of a daemon that has stopped."""
    db = sqlite3.connect(os.path.join(d.state, "pt2d.db"))
    with contextlib.closing(db):
        tables = [name for name, in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'"
                                               " AND name NOT LIKE 'sqlite_%'")]
        return {name: db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables}
