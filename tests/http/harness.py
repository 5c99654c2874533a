"""harness.py - stories against a running pt2d, with nothing but Python's standard library.

A story is a function story_<what_holds>(d) in tests/http/test_<area>.py; d is a daemon on a
port of its own, with a state directory of its own and the bundled models.  It is made of
steps, each with its label and the status that it expects:

    from harness import main

    def story_a_model_is_listed(d):
        reply = d.get("/v1/models", expect=200, label="list")
        assert reply.json["data"][0]["id"] == "demo"

    if __name__ == "__main__":
        main(globals())

The stories of a file share one daemon, one after another.  A story that needs flags or
restarts takes its own: `def story_x()` with `with Daemon("--set", "http.max_uploads=1") as d`.
A file runs alone (python3 tests/http/test_x.py [story ...]), where PT2_BUILD names the build
directory (default: build beside src), and in `make check`.  Exit status: 0, 1 a story failed,
77 the daemon is not built.
"""

import contextlib
import hashlib
import http.client
import inspect
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.dirname(os.path.dirname(HERE))
BUILD = os.environ.get("PT2_BUILD") or os.environ.get("PT2_LIBEXEC") or os.path.join(SOURCE, "build")
SEED = int(os.environ.get("PT2_SEED") or 1)  # of random stories; another each time in `make nightly`
MODELS = os.path.join(SOURCE, "share", "models")
TIMEOUT = float(os.environ.get("PT2_TEST_TIMEOUT", "60"))  # seconds, of one answer


class Reply:
    """An answer: status, headers (case-insensitive, the first of each name), body."""

    def __init__(self, status, headers, body):
        self.status, self.body = status, body
        self.headers = http.client.HTTPMessage()
        for name, value in headers:
            self.headers.add_header(name, value)

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def text(self):
        return self.body.decode()

    @property
    def problem(self):
        """The last part of the problem's type; None where it is no problem."""
        if self.headers.get_content_type() != "application/problem+json":
            return None
        return self.json["type"].removeprefix("/problems/")

    def __repr__(self):
        return f"<{self.status} {self.body[:300]!r}>"


class Raw:
    """A connection as it is: bytes out, answers in."""

    def __init__(self, sock):
        self.sock, self.buffer = sock, b""
        sock.settimeout(TIMEOUT)

    def send(self, data):
        self.sock.sendall(data.encode() if isinstance(data, str) else data)
        return self

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)

    def close(self):
        self.sock.close()

    def reset(self):
        """Close with a TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()

    def _more(self):
        data = self.sock.recv(65536)
        self.buffer += data
        return len(data) > 0

    def line(self):
        while b"\n" not in self.buffer:
            if not self._more():
                raise EOFError(f"the connection ended in {self.buffer!r}")
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.rstrip(b"\r").decode("latin-1")

    def exactly(self, n):
        while len(self.buffer) < n:
            if not self._more():
                raise EOFError(f"{len(self.buffer)} of {n} bytes came")
        data, self.buffer = self.buffer[:n], self.buffer[n:]
        return data

    def rest(self):
        while self._more():
            pass
        data, self.buffer = self.buffer, b""
        return data

    def is_closed(self):
        """Does the daemon close the connection, with nothing more to say?"""
        try:
            return self.buffer == b"" and not self._more()
        except ConnectionResetError:
            return True

    def head(self):
        """Status line and headers: (status, [(name, value)])."""
        status = int(self.line().split(" ")[1])
        headers = []
        while line := self.line():
            name, value = line.split(":", 1)
            headers.append((name, value.strip()))
        return status, headers

    def reply(self, is_head=False):
        """The next answer; 100 Continue is one of its own."""
        status, headers = self.head()
        low = {name.lower(): value for name, value in headers}
        body = b""
        if is_head or status in (204, 304) or status < 200:
            pass
        elif low.get("transfer-encoding") == "chunked":
            while n := int(self.line(), 16):
                body += self.exactly(n)
                self.line()
            while self.line():
                pass
        elif "content-length" in low:
            body = self.exactly(int(low["content-length"]))
        else:
            body = self.rest()
        return Reply(status, headers, body)


def token_line(name, token, scopes="admin", **limits):
    """A line of a token file."""
    limits = "".join(f" {key}={value}" for key, value in limits.items())
    return f"{name} sha256:{hashlib.sha256(token.encode()).hexdigest()} scopes={scopes}{limits}\n"


def token_file(directory, *lines):
    """Its path: nobody else may read it."""
    path = os.path.join(directory, "tokens")
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as f:
        f.writelines(lines)
    return path


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


class Daemon:
    """A pt2d of one's own.  Usable as a context; leaving it stops the daemon and checks that it
    ended well, and that no sanitizer had anything to say."""

    def __init__(self, *flags, models=MODELS, state=None, env=None, listen="127.0.0.1:0", under=()):
        self.under = list(under)  # a command that runs the daemon
        self.flags, self.models, self.env, self.listen = list(flags), models, env or {}, listen
        self.directory = tempfile.mkdtemp(prefix="pt2d-test-")
        self.state = state or os.path.join(self.directory, "state")
        self.log_path = os.path.join(self.directory, "log")
        self.process = self.host = self.port = None

    # ---- life ----

    def start(self):
        port_file = os.path.join(self.directory, "port")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(port_file)
        command = self.under + [os.path.join(BUILD, "pt2d"), "--config", "/dev/null", "--listen",
                   self.listen, "--state-dir", self.state, "--models-dir", self.models,
                   "--port-file", port_file, "--set", "daemon.log_level=debug",
                   "--set", "http.hosts=x"] + self.flags  # raw requests say Host: x
        env = {**os.environ, "PT2_LIBEXEC": BUILD, **self.env}
        log = open(self.log_path, "ab")
        self.process = subprocess.Popen(command, env=env, stdout=log, stderr=log,
                                        stdin=subprocess.DEVNULL)
        log.close()
        end = time.monotonic() + TIMEOUT
        while not os.path.exists(port_file):
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"pt2d did not start:\n{self.log()}")
            time.sleep(0.01)
        with open(port_file) as f:
            self.address = f.read().split("\n")[0]
        if not self.address.startswith("unix:"):
            self.host, port = self.address.rsplit(":", 1)
            self.port = int(port)
        return self

    def stop(self, number=signal.SIGTERM, timeout=TIMEOUT):
        """Stop it; the exit status (negative: the signal that ended it)."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"pt2d did not stop within {timeout} s:\n{self.log()}")
        self.process = None
        return status

    def kill(self):
        """As a crash: SIGKILL."""
        return self.stop(signal.SIGKILL)

    def restart(self):
        status = self.stop()
        assert status == 0, f"pt2d ended with {status}:\n{self.log()}"
        return self.start()

    def signal(self, number):
        self.process.send_signal(number)

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, value, trace):
        try:
            status = self.stop()
            log = self.log()
            if kind is None:
                assert status == 0, f"pt2d ended with {status}:\n{log[-8000:]}"
                assert "Sanitizer" not in log and "runtime error:" not in log, log[-20000:]
            elif value is not None and not getattr(value, "has_log", False):
                print(f"--- the daemon's log ends with\n{log[-6000:]}---", flush=True)
                value.has_log = True
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)
        return False

    # ---- requests ----

    def connect(self):
        if self.address.startswith("unix:"):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(self.address[5:])
        else:
            sock = socket.create_connection((self.host, self.port), TIMEOUT)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def raw(self, data=b""):
        return Raw(self.connect()).send(data)

    def connection(self):
        """An http.client connection, for several requests on one."""
        connection = http.client.HTTPConnection("localhost", timeout=TIMEOUT)
        connection.sock = self.connect()
        return connection

    def request(self, method, path, body=None, headers=None, json_body=None, expect=None,
                label="", connection=None):
        """One request.  body: bytes (sent as application/octet-stream); json_body: any JSON
        value.  expect: the status, or several."""
        headers = dict(headers or {})
        if json_body is not None:
            body = json.dumps(json_body).encode()
            headers.setdefault("Content-Type", "application/json")
        elif body is not None:
            headers.setdefault("Content-Type", "application/octet-stream")
        own = connection is None
        connection = connection or self.connection()
        try:
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            reply = Reply(answer.status, answer.getheaders(), answer.read())
        finally:
            if own:
                connection.close()
        allowed = (expect,) if isinstance(expect, int) else expect
        assert allowed is None or reply.status in allowed, \
            f"{label or method + ' ' + path}: expected {expect}, got {reply}"
        return reply

    def get(self, path, **more):
        return self.request("GET", path, **more)

    def head(self, path, **more):
        return self.request("HEAD", path, **more)

    def post(self, path, json_body=None, **more):
        return self.request("POST", path, json_body=json_body, **more)

    def put(self, path, json_body=None, **more):
        return self.request("PUT", path, json_body=json_body, **more)

    def delete(self, path, **more):
        return self.request("DELETE", path, **more)

    def metric(self, name, **labels):
        """The sum of the samples with that name whose labels hold these."""
        total, text = 0.0, self.get("/metrics", expect=200).text
        assert f"\n# TYPE {name} " in text, f"there is no metric {name}: nothing would wait for it"
        for line in text.splitlines():
            head, _, value = line.rpartition(" ")
            if head.split("{")[0] == name and \
                    all(f'{key}="{wanted}"' in head for key, wanted in labels.items()):
                total += float(value)
        return total


def until(condition, what="it", timeout=TIMEOUT):
    """Wait until condition() is true, and answer what it gave."""
    end = time.monotonic() + timeout
    while not (result := condition()):
        assert time.monotonic() < end, f"{what}: not within {timeout} s"
        time.sleep(0.02)
    return result


def main(names, flags=(), env=None):
    """Tell the stories among names; flags and env are the shared daemon's."""
    Shared.flags, Shared.env = flags, env
    if not os.path.exists(os.path.join(BUILD, "pt2d")):
        print(f"no pt2d in {BUILD}: set PT2_BUILD")
        sys.exit(77)
    wanted = sys.argv[1:]
    stories = [(name.removeprefix("story_"), story) for name, story in names.items()
               if name.startswith("story_") and callable(story)]
    if wanted:
        stories = [s for s in stories if any(w in s[0] for w in wanted)]
    failed = [name for name, story in stories if not tell(name, story)]
    if Shared.daemon is not None and not tell("the daemon ends well", Shared.end):
        failed.append("end")
    print(f"{len(stories) - len(failed)} of {len(stories)} stories hold")
    sys.exit(1 if failed or not stories else 0)


class Shared:
    """The daemon that the stories of a file share."""

    daemon, flags, env = None, (), None

    @classmethod
    def get(cls):
        if cls.daemon is None or cls.daemon.process is None or \
                cls.daemon.process.poll() is not None:
            cls.daemon = Daemon(*cls.flags, env=cls.env).start()
        return cls.daemon

    @classmethod
    def end(cls):
        cls.daemon.__exit__(None, None, None)


def tell(name, story):
    begin = time.monotonic()
    try:
        takes = [p for p in inspect.signature(story).parameters.values()
                 if p.default is inspect.Parameter.empty]
        story(*[Shared.get() for _ in takes])
        print(f"ok   {time.monotonic() - begin:6.2f} s  {name}", flush=True)
        return True
    except BaseException as e:
        if isinstance(e, KeyboardInterrupt):
            raise
        print(f"FAIL {time.monotonic() - begin:6.2f} s  {name}", flush=True)
        traceback.print_exc(file=sys.stdout)
        if Shared.daemon is not None and not getattr(e, "has_log", False):
            print(f"--- the daemon's log ends with\n{Shared.daemon.log()[-4000:]}---", flush=True)
        return False
