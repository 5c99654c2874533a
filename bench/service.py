"""service.py - what steps.py measures of the daemon itself: many sessions, HTTP, memory, start."""

import os
import pathlib
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

from contestants import Daemon, Unavailable

WARM_STARTS = 5
LOADS = 3
MANY = 8  # sessions more, to see what one takes


class Served:
    """The sessions of one engine and dtype, for as many clients at once as are asked for."""

    ANSWERS = ("none", "top", "json")  # beside binary, with one session

    def __init__(self, daemon, engine, case, counts):
        self.daemon, self.engine, self.case, self.counts = daemon, engine, case, counts
        self.half = case.length // 2
        program = daemon.export(case)
        self.sessions = [daemon.session(program, engine, self.half) for _ in range(max(counts))]

    def measure(self, seconds, add):
        """add(sessions, answers asked for, what load says), for each."""
        flags = ["-s", str(seconds), "-p", str(self.half), "-c", str(self.half)]
        for n in self.counts:
            add(n, "binary", self.daemon.load(self.sessions[:n], *flags))
        for answer in self.ANSWERS:
            add(1, answer, self.daemon.load(self.sessions[:1], *flags, "-a", answer))

    def close(self):
        for session in self.sessions:
            self.daemon.delete(f"/v1/sessions/{session}", expect=204)


# ---- memory ----

def rollup(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        fields = dict(line.split(":") for line in f if ":" in line and "-" not in line)
    return {name: 1024 * int(value.split()[0]) for name, value in fields.items()}


def private_bytes(pid):
    """What the daemon and its workers hold beside mapped files: memory of their own, and the
    caches that they share."""
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():  # workers are any thread's
        children += (task / "children").read_text().split()
    parts = [rollup(p) for p in {str(pid), *children}]
    return sum(part["Pss_Anon"] + part["Pss_Shmem"] for part in parts)


def memory(files, engine, case):
    """Bytes of a program and of a session with half its cache written; seconds to open the
    program with its first session, and to open another session."""
    with Daemon(files, "--set", "engine.idle=1ms") as daemon:
        pid, program = daemon.process.pid, daemon.export(case)
        loads, opens = [], []
        for i in range(LOADS):
            begin = time.monotonic()
            first = daemon.session(program, engine)
            loads.append(time.monotonic() - begin)
            begin = time.monotonic()
            second = daemon.session(program, engine)
            opens.append(time.monotonic() - begin)
            for session in (first, second):
                daemon.delete(f"/v1/sessions/{session}", expect=204)
            time.sleep(0.5)  # until the program is closed
        nothing = private_bytes(pid)
        session = daemon.session(program, engine, case.length // 2)
        one = private_bytes(pid)
        more = [daemon.session(program, engine, case.length // 2) for _ in range(MANY)]
        many = private_bytes(pid)
        for s in (session, *more):
            daemon.delete(f"/v1/sessions/{s}", expect=204)
    each = (many - one) / MANY
    return {"load_seconds": loads, "session_seconds": opens,
            "session_bytes": each, "program_bytes": one - nothing - each}


# ---- start ----

def is_ready(address):
    try:
        with urllib.request.urlopen(f"http://{address}/readyz", timeout=10) as reply:
            return reply.status == 200
    except (urllib.error.URLError, ConnectionError):
        return False


def start_once(files):
    """Starts pt2d on the state that is there; seconds until it is ready, and its size then."""
    with tempfile.TemporaryDirectory() as directory:
        port_file = pathlib.Path(directory, "port")
        begin = time.monotonic()
        child = subprocess.Popen(
            [files.build / "pt2d", "--config", "/dev/null", "--listen", "127.0.0.1:0",
             "--state-dir", files.scratch / "state", "--models-dir", files.models,
             "--port-file", port_file, "--set", "daemon.log_level=warning"],
            env={**os.environ, "PT2_LIBEXEC": str(files.build)})
        while not port_file.exists() or not is_ready(port_file.read_text().split("\n")[0]):
            if child.poll() is not None:
                raise Unavailable(f"pt2d ended with {child.returncode}")
            time.sleep(0.0005)
        seconds = time.monotonic() - begin
        maps = pathlib.Path(f"/proc/{child.pid}/maps").read_text()
        result = {"seconds": seconds, "rss_bytes": rollup(child.pid)["Rss"],
                  "private_bytes": private_bytes(child.pid),
                  "libtorch": "libtorch" in maps or "libc10" in maps}
        child.terminate()
        child.wait()
    return result


def starts(files):
    return [start_once(files) for _ in range(WARM_STARTS)]
