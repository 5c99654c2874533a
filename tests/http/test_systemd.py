#!/usr/bin/env python3
"""What pt2d says to a service manager, and the sockets that it takes over from one."""

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

from certificates import CA
from harness import BUILD, TIMEOUT, Daemon, Raw, main, until


class Manager:
    """A NOTIFY_SOCKET, and what came over it."""

    def __init__(self, directory):
        self.path, self.said = os.path.join(directory, "notify"), []
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(self.path)
        self.sock.settimeout(TIMEOUT)

    def wait_for(self, line):
        """Read until a message holds that line; the message, as a dictionary."""
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            message = self.sock.recv(4096).decode()
            self.said.append(message)
            lines = message.split("\n")
            if line in lines:
                return dict(part.split("=", 1) for part in lines if part)
        raise AssertionError(f"no {line} in {self.said}")


def has_systemd():
    """Was pt2d built with libsystemd?"""
    with open(os.path.join(BUILD, "config.h")) as f:
        return "#define HAVE_SYSTEMD 1" in f.read()


def story_the_service_manager_hears_of_start_reload_and_stop():
    with tempfile.TemporaryDirectory() as directory:
        manager = Manager(directory)
        with Daemon("--set", "daemon.grace=7 s", env={"NOTIFY_SOCKET": manager.path}) as d:
            assert manager.wait_for("READY=1")["STATUS"] == "serving"
            assert all("WATCHDOG" not in said for said in manager.said)
            before = time.monotonic_ns() // 1000
            d.signal(signal.SIGHUP)
            assert int(manager.wait_for("RELOADING=1")["MONOTONIC_USEC"]) >= before
            manager.wait_for("READY=1")
            d.signal(signal.SIGTERM)
            assert int(manager.wait_for("STOPPING=1")["EXTEND_TIMEOUT_USEC"]) >= 7_000_000


def story_the_watchdog_is_fed_while_all_is_well():
    with tempfile.TemporaryDirectory() as directory:
        manager = Manager(directory)
        env = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "200000"}
        with Daemon(env=env) as d:
            manager.wait_for("READY=1")
            for _ in range(3):
                manager.wait_for("WATCHDOG=1")
            d.get("/healthz", expect=200)


def story_a_failed_start_is_not_ready():
    with tempfile.TemporaryDirectory() as directory:
        manager = Manager(directory)
        result = subprocess.run(
            [os.path.join(BUILD, "pt2d"), "--config", "/dev/null", "--listen", "nowhere",
             "--state-dir", directory], env={**os.environ, "NOTIFY_SOCKET": manager.path},
            capture_output=True, text=True, timeout=TIMEOUT)
        assert result.returncode == 1 and "nowhere" in result.stderr, result
        manager.sock.setblocking(False)
        try:
            assert False, manager.sock.recv(4096)
        except BlockingIOError:
            pass


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


def ask(family, address, of="/readyz"):
    sock = socket.socket(family)
    sock.settimeout(TIMEOUT)
    sock.connect(address)
    reply = Raw(sock).send(f"GET {of} HTTP/1.1\r\nHost: localhost\r\n\r\n").reply()
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
                assert Raw(early).send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").reply().status == 200
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


def story_the_first_connection_starts_the_daemon():
    activate = shutil.which("systemd-socket-activate")
    if not activate:
        print("there is no systemd-socket-activate")
        return
    with tempfile.TemporaryDirectory() as directory:
        path, manager = os.path.join(directory, "s"), Manager(directory)
        environment = {"PT2_LIBEXEC": BUILD, "NOTIFY_SOCKET": manager.path}
        process = subprocess.Popen(
            [activate, "--listen", path, *[f"--setenv={k}={v}" for k, v in environment.items()],
             os.path.join(BUILD, "pt2d"), "--config", "/dev/null",
             "--state-dir", os.path.join(directory, "state")],
            stderr=subprocess.PIPE, text=True)
        try:
            until(lambda: os.path.exists(path), "the socket")
            assert not os.path.exists(os.path.join(directory, "state")), "nobody has asked yet"
            assert ask(socket.AF_UNIX, path, "/healthz").status == 200
            manager.wait_for("READY=1")
            assert ask(socket.AF_UNIX, path).status == 200
        finally:
            process.terminate()
            _, log = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 0 and f"unix:{path}" in log, log


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
