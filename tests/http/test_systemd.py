#!/usr/bin/env python3
"""What pt2d says to a service manager, and the sockets that it takes over from one."""

import contextlib
import ctypes
import os
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time

from certificates import CA
import stepping
from harness import BUILD, TIMEOUT, Daemon, Raw, main, until

PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207  # sys/ptrace.h
WALL = 0x40000000  # wait.h: __WALL, also for threads


class Manager:
    """A NOTIFY_SOCKET, a path or abstract ("@name"), and what came over it."""

    def __init__(self, path):
        self.path, self.said = path, []
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.sock.bind("\0" + path[1:] if path.startswith("@") else path)

    def receive(self, timeout=TIMEOUT):
        """The next message as a dictionary, its sender as "pid"; None where none comes."""
        self.sock.settimeout(timeout)
        try:
            data, control, _, _ = self.sock.recvmsg(4096, socket.CMSG_SPACE(12))
        except (TimeoutError, BlockingIOError):
            return None
        self.said.append(data.decode())
        message = dict(part.split("=", 1) for part in self.said[-1].split("\n") if part)
        return {**message, "pid": struct.unpack("3i", control[0][2])[0]}

    def wait_for(self, line):
        """Read until a message holds that line."""
        key, value = line.split("=", 1)
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end and (message := self.receive()):
            if message.get(key) == value:
                return message
        raise AssertionError(f"no {line} in {self.said}")

    def is_silent(self, seconds):
        """Read what is there; does then nothing come for so long?"""
        while self.receive(timeout=0):
            pass
        return self.receive(seconds) is None


@contextlib.contextmanager
def manager():
    with tempfile.TemporaryDirectory() as directory:
        yield Manager(os.path.join(directory, "notify"))


def has_systemd():
    """Was pt2d built with libsystemd?"""
    with open(os.path.join(BUILD, "config.h")) as f:
        return "#define HAVE_SYSTEMD 1" in f.read()


def hears_of_start_reload_and_stop(m):
    with Daemon("--set", "daemon.grace=7 s", env={"NOTIFY_SOCKET": m.path}) as d:
        ready = m.wait_for("READY=1")
        assert ready["STATUS"] == "serving" and ready["pid"] == d.process.pid, ready
        assert all("WATCHDOG" not in said for said in m.said)
        for _ in range(2):
            before = time.monotonic_ns() // 1000
            d.signal(signal.SIGHUP)
            reloading = m.wait_for("RELOADING=1")
            assert before <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
            assert m.receive().get("READY") == "1", m.said
        d.signal(signal.SIGTERM)
        stopping = m.wait_for("STOPPING=1")
        assert int(stopping["EXTEND_TIMEOUT_USEC"]) >= 7_000_000 and "STATUS" in stopping


def story_the_service_manager_hears_of_start_reload_and_stop():
    with manager() as m:
        hears_of_start_reload_and_stop(m)
    hears_of_start_reload_and_stop(Manager(f"@pt2d-test-{os.getpid()}"))


def story_the_watchdog_is_fed_while_all_is_well():
    with manager() as m, Daemon(env={"NOTIFY_SOCKET": m.path, "WATCHDOG_USEC": "2000000"}) as d:
        m.wait_for("READY=1")
        m.wait_for("WATCHDOG=1")
        before = time.monotonic()
        for _ in range(3):
            assert m.wait_for("WATCHDOG=1")["pid"] == d.process.pid
        # at half the time, not more often; no upper bound, for machines may be slow
        assert time.monotonic() - before >= 1.9, "it is fed far too often"
        d.get("/healthz", expect=200)


def story_a_step_that_hangs_is_no_reason_for_a_restart():
    with manager() as m, Daemon(env={"NOTIFY_SOCKET": m.path, "WATCHDOG_USEC": "100000"}) as d:
        stepping.Session.engine = "aten"
        session = stepping.Session(d, stepping.program(d))
        with stepping.frozen(d):
            asked = session.ask([1])
            stepping.until_running(d)
            while m.receive(timeout=0):
                pass
            for _ in range(5):
                m.wait_for("WATCHDOG=1")
        m.sock.close()  # a dozen that nobody reads would hold the daemon up
        assert asked.reply().status == 200


@contextlib.contextmanager
def one_thread_stopped(pid, name):
    """While that thread alone stands still, as if it hung; False where ptrace is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long
    tid = next(int(t) for t in os.listdir(f"/proc/{pid}/task")
               if open(f"/proc/{pid}/task/{t}/comm").read().strip() == name)
    if libc.ptrace(PTRACE_SEIZE, tid, None, None) < 0:
        yield False
        return
    assert libc.ptrace(PTRACE_INTERRUPT, tid, None, None) == 0, ctypes.get_errno()
    os.waitpid(tid, WALL)
    try:
        yield True
    finally:
        assert libc.ptrace(PTRACE_DETACH, tid, None, None) == 0, ctypes.get_errno()


def story_the_watchdog_starves_where_a_thread_hangs():
    with manager() as m, Daemon(env={"NOTIFY_SOCKET": m.path, "WATCHDOG_USEC": "200000"}) as d:
        m.wait_for("WATCHDOG=1")
        with one_thread_stopped(d.process.pid, "pt2-watcher") as is_stopped:
            if not is_stopped:
                print("one thread alone can't be stopped here")
                return
            # after ten seconds without a round: doc/watching.md
            until(lambda: m.is_silent(2), "the end of WATCHDOG=1")
        m.wait_for("WATCHDOG=1")
        d.get("/healthz", expect=200)


def story_a_failed_start_is_not_ready():
    with manager() as m, tempfile.TemporaryDirectory() as directory:
        result = subprocess.run(
            [os.path.join(BUILD, "pt2d"), "--config", "/dev/null", "--listen", "nowhere",
             "--state-dir", directory], env={**os.environ, "NOTIFY_SOCKET": m.path},
            capture_output=True, text=True, timeout=TIMEOUT)
        assert result.returncode == 1 and "nowhere" in result.stderr, result
        said = m.receive(timeout=0)
        assert said is None, said


def start_with(directory, sockets, names=None, flags=()):
    """Start pt2d as systemd does, with sockets as descriptors 3 and on; the process."""
    code = ("import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); "
            "os.execv(sys.argv[1], sys.argv[1:])")

    def place():
        high = [os.dup2(s.fileno(), 100 + i) for i, s in enumerate(sockets)]
        for i, fd in enumerate(high):
            os.dup2(fd, 3 + i)

    return subprocess.Popen(
        [sys.executable, "-c", code, os.path.join(BUILD, "pt2d"), "--config", "/dev/null",
         "--listen", "127.0.0.1:1", "--state-dir", os.path.join(directory, "state"),
         "--port-file", os.path.join(directory, "port"), *flags],
        env={**os.environ, "LISTEN_FDS": str(len(sockets)), "PT2_LIBEXEC": BUILD,
             **({"LISTEN_FDNAMES": ":".join(names)} if names else {})},
        preexec_fn=place, close_fds=False, stderr=subprocess.PIPE, text=True)


def get(path):
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"


def ask(family, address, of="/readyz"):
    sock = socket.socket(family)
    sock.settimeout(TIMEOUT)
    sock.connect(address)
    reply = Raw(sock).send(get(of)).reply()
    sock.close()
    return reply


def story_passed_sockets_are_served_and_kept():
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "s")
        sockets = [socket.socket(), socket.socket(socket.AF_UNIX)]
        sockets[0].bind(("127.0.0.1", 0))
        sockets[1].bind(path)
        for s in sockets:
            s.listen(100)
        port = sockets[0].getsockname()
        for _ in range(2):  # the sockets outlive a restart
            early = socket.create_connection(port)  # waits until somebody serves
            process = start_with(directory, sockets)
            try:
                assert Raw(early).send(get("/healthz")).reply().status == 200
                until(lambda: ask(socket.AF_INET, port).status == 200, "ready")
                assert ask(socket.AF_UNIX, path).status == 200
                with open(os.path.join(directory, "port")) as f:
                    assert f.read() == f"127.0.0.1:{port[1]}\nunix:{path}\n"
            finally:
                process.terminate()
                _, log = process.communicate(timeout=TIMEOUT)
            early.close()
            assert process.returncode == 0, log
            assert os.path.exists(path), "the manager's socket is not ours to remove"


def story_a_passed_socket_is_for_tls_by_its_name():
    with tempfile.TemporaryDirectory() as directory:
        ca = CA(directory)
        certificate, key = ca.server()
        flags = ("--set", f"http.tls_certificate={certificate}", "--set", f"http.tls_key={key}")
        sockets = [socket.socket(), socket.socket()]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
            s.listen(100)
        plain, secure = (s.getsockname() for s in sockets)
        process = start_with(directory, sockets, ("pt2d.socket", "https-public"), flags)
        try:
            until(lambda: ask(socket.AF_INET, plain).status == 200, "ready")
            sock = ssl.create_default_context(cafile=ca.path).wrap_socket(
                socket.create_connection(secure, TIMEOUT), server_hostname="localhost")
            assert Raw(sock).send("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n").reply().status == 200
            sock.close()
            with open(os.path.join(directory, "port")) as f:
                assert f.read() == f"127.0.0.1:{plain[1]}\nhttps:127.0.0.1:{secure[1]}\n"
        finally:
            process.terminate()
            _, log = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 0, log
        path = os.path.join(directory, "s")
        unix = socket.socket(socket.AF_UNIX)
        unix.bind(path)
        unix.listen(1)
        process = start_with(directory, [unix], ("https",), flags)
        _, log = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 1 and "no TLS over" in log, log


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def activated(directory, m, *flags):
    """systemd-socket-activate, which starts pt2d at the first connection."""
    environment = {"PT2_LIBEXEC": BUILD, "NOTIFY_SOCKET": m.path}
    process = subprocess.Popen(
        [shutil.which("systemd-socket-activate"), *flags,
         *[f"--setenv={k}={v}" for k, v in environment.items()],
         os.path.join(BUILD, "pt2d"), "--config", "/dev/null",
         "--state-dir", os.path.join(directory, "state")],
        stderr=subprocess.PIPE, text=True)
    process.log = None
    try:
        yield process
    finally:
        process.terminate()
        _, process.log = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, process.log


def story_the_first_connection_starts_the_daemon():
    if not shutil.which("systemd-socket-activate"):
        print("there is no systemd-socket-activate")
        return
    with tempfile.TemporaryDirectory() as directory:
        paths, port = [os.path.join(directory, name) for name in ("s", "t")], free_port()
        m = Manager(os.path.join(directory, "notify"))
        listen = [f"--listen={at}" for at in (paths[0], f"127.0.0.1:{port}", paths[1])]
        with activated(directory, m, *listen, "--fdname=http:tcp:more") as process:
            until(lambda: all(os.path.exists(path) for path in paths), "the sockets")
            assert not os.path.exists(os.path.join(directory, "state")), "nobody has asked yet"
            # what came before the daemon, over each of its sockets, and asked already
            first, waiting = socket.socket(socket.AF_UNIX), []
            first.connect(paths[1])
            for _ in range(5):
                for family, address in ((socket.AF_UNIX, paths[0]), (socket.AF_INET, ("127.0.0.1", port))):
                    sock = socket.socket(family)
                    sock.connect(address)
                    waiting.append(Raw(sock).send(get("/healthz")))
            for raw in (Raw(first).send(get("/version")), *waiting):
                assert raw.reply().status == 200
                raw.close()
            ready = m.wait_for("READY=1")
            assert ready["pid"] == process.pid, "the daemon took activate's place"
            assert ask(socket.AF_INET, ("127.0.0.1", port)).status == 200
        for address in (f"unix:{paths[0]}", f"127.0.0.1:{port}", f"unix:{paths[1]}"):
            assert f"serves on {address}," in process.log, process.log


def story_what_is_passed_must_be_a_listening_socket():
    with tempfile.TemporaryDirectory() as directory:
        process = start_with(directory, [socket.socket()])
        _, log = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 1 and "no listening stream socket" in log, log


def story_the_units_hold_together():
    units = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))),
                         "systemd")
    with open(os.path.join(units, "pt2d.service.in")) as f:
        service = f.read()
    wanted = {"Type": "notify", "StateDirectory": "pt2d", "ExecStart": "@bindir@/pt2d"}
    for key, value in wanted.items():
        assert re.search(f"^{key}={re.escape(value)}$", service, re.M), key
    assert re.search("^WatchdogSec=", service, re.M)
    with open(os.path.join(BUILD, "systemd", "pt2d.service")) as f:
        assert not re.search("@[a-z]+@", f.read()), "all is filled in"


if __name__ == "__main__":
    if not has_systemd():
        print("pt2d was built without libsystemd")
        sys.exit(77)
    main(globals())
