"""stepping.py - what the stories about sessions share: programs, sessions, numbers."""

import array
import contextlib
import functools
import inspect
import json
import os
import signal
import struct
import sys

import harness
from harness import until

VOCAB = 258  # of the demo model
# One thread a program: several daemons' tests may share few cores.
FLAGS = ("--set", "engine.threads=1")


ENGINES = ("native", "aten")


def only(engine):
    """The story is told by this engine alone: it stops its worker, say."""
    def mark(story):
        story.engines = (engine,)
        return story
    return mark


def main(names, engines=ENGINES):
    """harness.main, for stories that leave sessions behind: they are deleted after each.
    Each story is told once by each engine."""
    def told(story, engine):
        takes = inspect.signature(story).parameters

        @functools.wraps(story)
        def wrapped(*d):
            Session.engine = engine
            story(*d)
            for info in d[0].get("/v1/sessions?limit=1000", expect=200).json["data"] if takes else ():
                d[0].delete("/v1/sessions/" + info["id"], expect=(204, 404))
        return wrapped

    harness.main({f"{name}_{engine}": told(story, engine)
                  for name, story in names.items() if name.startswith("story_")
                  for engine in getattr(story, "engines", engines)}, FLAGS)


def program(d, dtype="float32", batch=1, seq=1, length=64, dynamic=False):
    """The id of the demo model's program; exported where the daemon has none yet."""
    body = {"model": "demo", "dtype": dtype, "dynamic_shapes": dynamic,
            "cache": {"batch_size": batch, "max_cache_len": length},
            "example_input_ids": [[1] * seq] * batch, "example_cache_position": list(range(seq))}
    job = d.post("/v1/exports", body, expect=202, label="export").json["id"]
    job = until(lambda: (j := d.get(f"/v1/exports/{job}?wait=60", expect=200).json)
                ["state"] not in ("queued", "running") and j, "the export")
    assert job["state"] == "succeeded", job
    return job["program"]


class Session:
    engine = "auto"

    def __init__(self, d, program, **body):
        self.d = d
        self.of(d.post("/v1/sessions", {"program": program, "engine": self.engine, **body}, expect=201,
                       label="open").json)

    def of(self, info):
        self.info, self.id, self.path = info, info["id"], f"/v1/sessions/{info['id']}"
        return self

    def step(self, ids, expect=200, headers=None, label="step", **body):
        """ids: one row, or a list of rows."""
        return self.d.post(self.path + "/step", {"input_ids": rows_of(ids), **body}, expect=expect,
                           headers=headers, label=label)

    def logits(self, ids, **body):
        """A step's logits, as they are in memory: float32, [batch * rows * vocab]."""
        reply = self.step(ids, headers={"Accept": "application/octet-stream"}, **body)
        return reply.body

    def get(self, expect=200):
        return self.d.get(self.path, expect=expect).json

    @property
    def position(self):
        return self.get()["position"]

    def fork(self, **body):
        info = self.d.post(self.path + "/fork", body, expect=201, label="fork").json
        return Session.__new__(Session).on(self.d).of(info)

    def on(self, d):
        self.d = d
        return self

    def rewind(self, position, expect=200, label="rewind", headers=None):
        return self.d.post(self.path + "/rewind", {"position": position}, expect=expect,
                           headers=headers, label=f"{label}: {position}")

    def save(self):
        return self.d.get(self.path + "/cache", expect=200, label="save").body

    def restore(self, data, expect=200, label="restore"):
        return self.d.put(self.path + "/cache", body=data, expect=expect, label=label)

    def delete(self):
        self.d.delete(self.path, expect=204, label="delete")

    def ask(self, ids, **body):
        """A step whose answer is not waited for: its connection."""
        data = json.dumps({"input_ids": rows_of(ids), **body}).encode()
        return self.d.raw(f"POST {self.path}/step HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n"
                          "Content-Type: application/json\r\n\r\n".encode() + data)


def rows_of(ids):
    return ids if isinstance(ids, list) and ids and isinstance(ids[0], list) else [ids]


def floats(data):
    """Raw little-endian float32 as numbers."""
    a = array.array("f", data)
    if sys.byteorder == "big":
        a.byteswap()
    return a.tolist()


def flat(value):
    """The numbers of nested lists, in order; the names of odd ones as numbers."""
    if isinstance(value, list):
        return [x for item in value for x in flat(item)]
    return [float(value)]


def to_bytes(numbers):
    return struct.pack(f"<{len(numbers)}f", *numbers)


def assert_close(got, want, what="logits", tolerance=1e-4):
    """To rounding: both are raw float32."""
    got, want = floats(got), floats(want)
    assert len(got) == len(want), f"{what}: {len(got)} numbers, not {len(want)}"
    worst = max(abs(a - b) / max(1.0, abs(b)) for a, b in zip(got, want))
    assert worst <= tolerance, f"{what}: off by {worst}"


# ---- workers ----

def workers(d):
    """The processes of the daemon's open programs."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/stat") as f:
                head, _, tail = f.read().rpartition(") ")
            state, parent = tail.split()[:2]
            # the first thread may be gone before the others, whose socket is open still
            is_there = state not in "ZX" or len(os.listdir(f"/proc/{pid}/task")) > 1
            if int(parent) == d.process.pid and head.split("(", 1)[1] == "pt2-aten" and is_there:
                found.append(int(pid))
    return found


@contextlib.contextmanager
def frozen(d):
    """While the workers stand still, so that their steps run for ever."""
    pids = until(lambda: workers(d), "a worker")
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def until_running(d, n=1):
    until(lambda: d.metric("pt2d_session_calls_running") == n, f"{n} run")


def until_waiting(d, n):
    until(lambda: d.metric("pt2d_session_calls_waiting") == n, f"{n} wait")
