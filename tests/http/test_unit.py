#!/usr/bin/env python3
"""pt2d.service: how exposed systemd finds it, and that the daemon works with what it leaves."""

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile

from certificates import CA
from exporting import export, finish, submit_id
from harness import BUILD, HERE, TIMEOUT, Daemon, Raw, main, until

MOST_EXPOSED = 1.5  # of 10
UNITS = os.path.join(BUILD, "systemd")
SOCKET = os.path.join(os.path.dirname(os.path.dirname(HERE)), "systemd", "pt2d.socket")


def analyze(*arguments):
    return subprocess.run(["systemd-analyze", "--no-pager", *arguments], capture_output=True,
                          text=True)


def service():
    return os.path.join(UNITS, "pt2d.service")


def story_the_unit_is_little_exposed():
    said = analyze("security", "--offline=true", service())
    found = re.search(r"Overall exposure level for pt2d.service: ([0-9.]+)", said.stdout)
    assert found, said
    assert float(found.group(1)) < MOST_EXPOSED, said.stdout


def story_the_units_are_understood():
    with tempfile.TemporaryDirectory(prefix="pt2d-units-") as directory:
        copy = os.path.join(directory, "pt2d.service")
        with open(service()) as f, open(copy, "w") as to:
            to.write(re.sub("^ExecStart=.*$", f"ExecStart={BUILD}/pt2d", f.read(), flags=re.M))
        shutil.copy(SOCKET, directory)
        said = analyze("verify", "--man=no", copy, os.path.join(directory, "pt2d.socket"))
        assert said.returncode == 0 and "pt2d" not in said.stderr, said.stderr


def works_over_tls(under, directory):
    """GnuTLS asks for no call that the filter lacks."""
    ca = CA(directory)
    certificate, key = ca.server()
    mine = CA(directory, "clients").make("mine")
    with Daemon("--set", f"http.tls_certificate={certificate}", "--set", f"http.tls_key={key}",
                "--set", f"http.tls_client_ca={directory}/clients.pem", listen="https:127.0.0.1:0",
                under=under, env={"ASAN_OPTIONS": "detect_leaks=0"}) as d:
        context = ssl.create_default_context(cafile=ca.path)
        context.load_cert_chain(*mine)
        for _ in range(2):
            sock = context.wrap_socket(socket.create_connection(("127.0.0.1", d.port), TIMEOUT),
                                       server_hostname="localhost")
            reply = Raw(sock).send("GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n").reply()
            assert reply.status == 200, reply
            sock.close()
            d.signal(signal.SIGHUP)
            until(lambda: "reloaded" in d.log(), "it reads the files again")


def story_the_daemon_works_with_the_calls_that_are_left():
    under = [sys.executable, os.path.join(HERE, "under_unit.py"), service()]
    with Daemon(under=under, env={"ASAN_OPTIONS": "detect_leaks=0"}) as d:
        assert "confined by seccomp" in d.log() or "no Landlock" in d.log()
        program = export(d, dtype="float32", verify=3)["program"]
        finish(d, submit_id(d, dtype="float32", format="pte"))
        for engine in ("native", "aten"):
            session = d.post("/v1/sessions", {"program": program, "engine": engine}, expect=201,
                             label=engine).json
            d.post(f"/v1/sessions/{session['id']}/step", {"input_ids": [[1]]}, expect=200,
                   label=engine)
        with tempfile.TemporaryDirectory() as directory:
            works_over_tls(under, directory)
        state = [os.path.join(at, name) for at, _, names in os.walk(d.state) for name in names]
        assert state and not [path for path in state if os.stat(path).st_mode & 0o077], state


if __name__ == "__main__":
    if not shutil.which("systemd-analyze"):
        print("there is no systemd-analyze")
        sys.exit(77)
    main(globals())
