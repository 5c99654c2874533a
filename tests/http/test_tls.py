#!/usr/bin/env python3
"""TLS: serving, certificates of clients, new certificates while connections are open, clients that vanish."""

import contextlib
import hashlib
import http.client
import json
import os
import random
import signal
import socket
import ssl
import subprocess
import tempfile
import time

from certificates import CA, fingerprint
from harness import BUILD, Daemon, Raw, TIMEOUT, bearer, main, token_file, token_line, until
from stepping import program
import test_vanish

MB = 1 << 20


class Secure:
    """What a Daemon is, over TLS: flags first, and how its clients connect."""

    def __init__(self, *flags, client_ca=None, tokens=(), listen="https:127.0.0.1:0"):
        self.pki = tempfile.mkdtemp(prefix="pt2d-pki-")
        self.ca, self.theirs = CA(self.pki), CA(self.pki, "clients")
        self.certificate, self.key = self.ca.server()
        self.mine = None  # (certificate, key) that clients show
        flags = ["--set", f"http.tls_certificate={self.certificate}", "--set", f"http.tls_key={self.key}",
                 *flags]
        if client_ca:
            flags += ["--set", f"http.tls_client_ca={self.theirs.path}", "--set", f"http.tls_client={client_ca}"]
        if tokens:
            lines = tokens(self) if callable(tokens) else tokens
            flags += ["--set", f"http.token_file={token_file(self.pki, *lines)}"]
        super().__init__(*flags)
        self.listen = listen

    def start(self):
        super().start()
        self.host = self.host.removeprefix("https:")
        return self

    def __exit__(self, *how):
        try:
            return super().__exit__(*how)
        finally:
            subprocess.run(["rm", "-rf", self.pki], check=False)

    def context(self, mine=None):
        context = ssl.create_default_context(cafile=self.ca.path)
        mine = mine or self.mine
        if mine:
            context.load_cert_chain(*mine)
        return context

    def tcp(self):
        return super().connect()

    def connect(self, mine=None, context=None):
        sock = self.tcp()
        sock.settimeout(TIMEOUT)
        try:
            return (context or self.context(mine)).wrap_socket(sock, server_hostname="localhost")
        except BaseException:
            sock.close()
            raise

    def replace(self, certificate, key):
        """New files in the places of the old."""
        os.replace(key, self.key)
        os.replace(certificate, self.certificate)

    def reload(self):
        n = self.log().count("reload")
        self.signal(signal.SIGHUP)
        until(lambda: self.log().count("reload") > n, "it reloads")
        return self.log()

    def served(self):
        """The fingerprint of the certificate that a new connection gets."""
        with contextlib.closing(self.connect()) as sock:
            return hashlib.sha256(sock.getpeercert(binary_form=True)).hexdigest()


class SecureDaemon(Secure, Daemon):
    pass


class SecureLab(Secure, test_vanish.Lab):
    pass


def refused(d, mine=None):
    """No request gets through: the handshake, or what comes first after it, fails."""
    try:
        with contextlib.closing(d.connect(mine)) as sock:
            Raw(sock).send("GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n").head()
    except (ssl.SSLError, ConnectionError, EOFError, BrokenPipeError):
        return True
    return False


def pem_digest(path):
    with open(path) as f:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(f.read())).hexdigest()


def start_fails(*flags, listen="https:127.0.0.1:0"):
    """What it says."""
    with tempfile.TemporaryDirectory() as directory:
        result = subprocess.run(
            [os.path.join(BUILD, "pt2d"), "--config", "/dev/null", "--listen", listen, "--state-dir",
             directory, *(word for flag in flags for word in ("--set", flag))],
            capture_output=True, text=True, timeout=TIMEOUT)
    assert result.returncode == 1, result
    return result.stderr


def check_finished(stream):
    """The stream goes on to its orderly end."""
    lines = iter(stream.line, "0")
    assert "event: finished" in lines
    assert "0" not in lines and stream.line() == ""


# ---- serving ----

def story_what_is_served_over_plain_http_is_served_over_tls():
    with SecureDaemon("--set", "engine.threads=1") as d:
        assert d.address.startswith("https:127.0.0.1:"), d.address
        p = program(d)
        connection = d.connection()
        whole = d.get(f"/v1/programs/{p}/file", expect=200, connection=connection)
        assert hashlib.sha256(whole.body).hexdigest() == p
        n = len(whole.body)
        for first, last in ((0, 0), (1, 70000), (n - 5, n - 1), (100, n - 1)):
            part = d.get(f"/v1/programs/{p}/file", headers={"Range": f"bytes={first}-{last}"}, expect=206,
                         connection=connection)
            assert part.body == whole.body[first:last + 1]
        d.head(f"/v1/programs/{p}/file", expect=200, connection=connection)
        session = d.post("/v1/sessions", {"program": p}, expect=201, connection=connection).json["id"]
        for i in range(3):
            step = d.post(f"/v1/sessions/{session}/step", {"input_ids": [[i + 1]]}, expect=200,
                          connection=connection).json
            assert step["position"] == i + 1
        cache = d.get(f"/v1/sessions/{session}/cache", expect=200, connection=connection).body
        d.request("PUT", f"/v1/sessions/{session}/cache", body=cache, expect=200, connection=connection)
        d.delete(f"/v1/sessions/{session}", expect=204, connection=connection)
        d.delete(f"/v1/programs/{p}", expect=204, connection=connection)
        d.request("PUT", f"/v1/programs/{p}", body=whole.body, expect=201, connection=connection)
        connection.close()
        expiry = d.metric("pt2d_tls_certificate_expiry_timestamp_seconds")
        assert time.time() + 29 * 86400 < expiry < time.time() + 31 * 86400, expiry
        assert d.metric("pt2d_tls_handshakes_total", result="ok") > 3


def story_events_come_as_they_happen():
    with SecureLab() as d:
        job = d.export()
        stream = d.ask("GET", f"/v1/exports/{job}/events")
        assert stream.head()[0] == 200
        assert stream.line() and stream.line().startswith("id: "), "the first event"
        poll = d.ask("GET", f"/v1/exports/{job}?wait=60")
        d.let_exports_go()
        assert poll.reply().json["state"] == "succeeded"
        check_finished(stream)


def story_several_requests_at_once_are_answered_in_order():
    with SecureDaemon() as d:
        raw = d.raw("GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
        for _ in range(20):
            assert raw.reply().status == 200
        raw.close()


def story_large_and_slow_bodies_come_whole():
    d = SecureDaemon("--set", "http.threads=4")
    d.models = os.path.join(d.directory, "models")  # of its own, for uploads
    os.mkdir(d.models)
    with d:
        rng = random.Random(7)
        data = rng.randbytes(9 * MB)
        name = "/v1/models/big/files/model.safetensors"
        for chunks in (False, True):
            raw = d.raw(f"PUT {name} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\n" +
                        ("Transfer-Encoding: chunked\r\n\r\n" if chunks else f"Content-Length: {len(data)}\r\n\r\n"))
            at = 0
            while at < len(data):
                part = data[at:at + rng.choice((1, 100, 16384, 16385, 300000))]
                raw.send(f"{len(part):x}\r\n".encode() + part + b"\r\n" if chunks else part)
                at += len(part)
            if chunks:
                raw.send("0\r\n\r\n")
            reply = raw.reply()
            assert reply.status in (200, 201), reply
            assert reply.json["sha256"] == hashlib.sha256(data).hexdigest()
            raw.close()


def story_a_refusal_before_the_body_arrives_whole():
    with SecureDaemon("--set", "programs.max_upload_bytes=1000") as d:
        head = "POST /v1/programs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n"
        raw = d.raw(head + "Expect: 100-continue\r\n\r\n")
        assert raw.reply().status == 413
        assert raw.is_closed()
        raw.close()
        for _ in range(5):  # it goes on sending
            raw = d.raw(head + "\r\n")
            with contextlib.suppress(OSError):
                for _ in range(40):
                    raw.send(b"x" * 65536)
            reply = raw.reply()
            assert reply.status == 413 and reply.problem == "too-large", reply
            # an orderly end, not a cut: an abrupt one would raise
            assert raw.is_closed()
            raw.close()
        until(lambda: d.metric("pt2d_http_connections") == 1, "all are closed")


def story_pages_must_come_by_https():
    with SecureDaemon("--set", "http.origins=https://tools.example") as d:
        host = f"localhost:{d.port}"
        for origin, status in ((f"https://{host}", 200), ("https://tools.example", 200), (f"http://{host}", 403),
                               ("https://localhost:1", 403), ("null", 403)):
            d.get("/version", headers={"Host": host, "Origin": origin}, expect=status, label=origin)
        d.get("/version", headers={"Host": "evil.example"}, expect=403)


# ---- what is no TLS, or too old ----

def story_other_protocols_are_turned_away():
    with SecureDaemon() as d:
        before = d.metric("pt2d_tls_handshakes_total", result="failed")
        rng = random.Random(11)
        for data in (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 100,
                     b"\x15\x03\x01\x00\x02\x02\x28", *(rng.randbytes(1 + rng.randrange(3000)) for _ in range(20))):
            raw = Raw(d.tcp()).send(data)
            with contextlib.suppress(OSError):
                raw.half_close()
                assert b"HTTP" not in raw.rest()
            raw.close()
        until(lambda: d.metric("pt2d_tls_handshakes_total", result="failed") >= before + 23, "they are counted")
        old = d.context()
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        try:
            d.connect(context=old).close()
            assert False, "TLS 1.1 was taken"
        except (ssl.SSLError, ConnectionError):
            pass
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = d.context()
            context.minimum_version = context.maximum_version = version
            sock = d.connect(context=context)
            assert Raw(sock).send("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n").reply().status == 200
            sock.close()


def client_hello(d):
    """The first bytes that a client sends."""
    out = ssl.MemoryBIO()
    tls = d.context().wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return out.read()


def story_a_handshake_that_does_not_come_to_its_end_gives_its_place_back():
    with SecureDaemon("--set", "http.header_timeout=3 s") as d:
        hello = client_hello(d)
        idle = [Raw(d.tcp()).send(part) for part in (b"", hello[:1], hello[:100], hello)]
        for raw in idle:
            with contextlib.suppress(ConnectionResetError):
                raw.rest()
            raw.close()
        assert d.metric("pt2d_http_timeouts_total", what="handshake") == 4
        # one that is through has more time
        sock = d.connect()
        time.sleep(3.5)
        assert Raw(sock).send("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n").reply().status == 200
        sock.close()
        # bytes now and then don't help
        raw = Raw(d.tcp())
        with contextlib.suppress(OSError):
            for i in range(len(hello) - 1):
                raw.send(hello[i:i + 1])
                time.sleep(0.05)
        raw.close()
        until(lambda: d.metric("pt2d_http_timeouts_total", what="handshake") == 5, "it was cut")


def story_a_full_daemon_gives_the_places_of_slow_handshakes_to_who_comes():
    with SecureDaemon("--set", "http.max_connections=4") as d:
        hello = client_hello(d)
        idle = [Raw(d.tcp()).send(part) for part in (b"", hello[:1], hello[:100], hello)]
        for _ in range(3):  # in time, though those have 30 s
            d.get("/version", expect=200)
        assert d.metric("pt2d_http_connections_displaced_total") >= 1
        assert d.metric("pt2d_http_timeouts_total") == 0, "none of them was late"
        for raw in idle:
            raw.close()


def story_a_download_over_tls_keeps_to_its_rate():
    with SecureDaemon("--set", "engine.threads=1") as d:
        path = f"/v1/programs/{program(d)}/file"
        whole = d.get(path).body
        rate = len(whole) // 3
        d.flags += ["--set", f"http.download_rate={rate}"]
        d.restart()
        begin = time.monotonic()
        assert d.get(path, expect=200).body == whole
        assert time.monotonic() - begin > (len(whole) - rate) / rate - 0.5
        assert d.metric("pt2d_http_paces_total", direction="download") > 0
        gone = Raw(d.connect()).send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until(lambda: d.metric("pt2d_http_requests_paced") == 1, "it waits")
        gone.close()
        until(lambda: d.metric("pt2d_http_requests_paced") == 0, "it is noticed")


# ---- clients' certificates ----

def story_a_required_certificate_lets_in_and_nothing_else_does():
    with SecureDaemon(client_ca="required", listen="https:0.0.0.0:0") as d:
        good = d.theirs.make("good")
        foreign = CA(d.pki, "foreign").make("foreigner")
        expired = d.theirs.make("expired", days=-1)
        server = d.theirs.make("wrong", usage="serverAuth")
        for mine in (None, foreign, expired, server):
            assert refused(d, mine), mine
        d.mine = good
        d.get("/v1/models", expect=200)
        d.delete("/v1/programs/" + "0" * 64, expect=404, label="may do everything")
        until(lambda: d.metric("pt2d_tls_handshakes_total", result="refused") >= 3, "counted")
        assert "a client is refused: the client certificate is not good" in d.log()


def story_without_a_required_certificate_nobody_listens_beyond_this_machine():
    with tempfile.TemporaryDirectory() as directory:
        ca = CA(directory)
        certificate, key = ca.server()
        files = (f"http.tls_certificate={certificate}", f"http.tls_key={key}")
        assert "can be reached" in start_fails(*files, listen="https:0.0.0.0:0")
        assert "can be reached" in start_fails(*files, f"http.tls_client_ca={ca.path}", "http.tls_client=optional",
                                               listen="https:0.0.0.0:0")
        assert "'0.0.0.0:" in start_fails(*files, f"http.tls_client_ca={ca.path}",
                                          listen="https:0.0.0.0:0 0.0.0.0:0")


def story_certificates_are_lines_of_the_token_file():
    def lines(d):
        d.alice, d.bob, d.carol = (d.theirs.make(name, san=f"DNS:{name}.example,DNS:x.example")
                                   for name in ("alice", "bob", "carol"))
        d.dave = d.theirs.make("dave", subject="dave.example")
        d.eve = d.theirs.make("eve", subject="dave.example", san="DNS:eve.example")
        return [f"anybody cert:x.example scopes=read\n",
                f"alice cert:sha256:{fingerprint(d.alice[0])} scopes=read,step\n",
                f"bob cert:BOB.example scopes=export\n",
                f"dave cert:dave.example scopes=read\n",
                token_line("root", "r")]

    with SecureDaemon(client_ca="optional", tokens=lines) as d:
        def status(mine, method="GET", path="/v1/models", headers=None, **more):
            d.mine = mine
            return d.request(method, path, headers=headers, **more).status

        assert status(None) == 401
        assert status(None, headers=bearer("r")) == 200
        assert status(d.alice) == 200, "by fingerprint"
        assert status(d.alice, "POST", "/v1/sessions", json_body={}) == 422, "alice may step"
        assert status(d.bob, "POST", "/v1/sessions", json_body={}) == 403
        assert status(d.bob) == 200, "of two names the earlier line"
        assert status(d.carol) == 200
        assert status(d.carol, "POST", "/v1/sessions", json_body={}) == 403
        assert status(d.dave) == 200, "by its common name"
        assert status(d.eve) == 401, "the common name is none beside DNS names"
        assert status(d.alice, headers=bearer("wrong")) == 401, "a token that is sent has to be right"
        assert status(d.alice, headers=bearer("r")) == 200
        own = CA(d.pki, "own")
        assert refused(d, own.make("fake", san="DNS:alice.example,DNS:x.example"))
        # a line that goes is gone for the next request
        d.mine = d.dave
        connection = d.connection()
        d.get("/v1/models", expect=200, connection=connection)
        token_file(d.pki, token_line("root", "r"))
        d.reload()
        d.get("/v1/models", expect=401, connection=connection)
        connection.close()


def story_a_ca_that_goes_takes_its_clients_with_it():
    with SecureDaemon(client_ca="required") as d:
        d.mine = d.theirs.make("mine")
        connection = d.connection()
        d.get("/v1/models", expect=200, connection=connection)
        other = CA(d.pki, "other")
        os.replace(other.path, d.theirs.path)
        assert "new certificates" in d.reload()
        reply = d.get("/v1/models", expect=401, connection=connection)
        assert "not good" in reply.json["detail"], reply
        connection.close()
        assert refused(d)
        d.mine = None


# ---- new certificates ----

def story_new_certificates_are_for_new_connections():
    with SecureLab() as d:
        job = d.export()
        old = d.served()
        assert old == pem_digest(d.certificate)
        kept, stream = d.connection(), d.ask("GET", f"/v1/exports/{job}/events")
        d.get("/readyz", expect=200, connection=kept)
        assert stream.head()[0] == 200
        d.reload()
        assert d.served() == old and "new certificates" not in d.log(), "the same files"
        d.replace(*d.ca.server("second"))
        assert "new certificates" in d.reload()
        new = d.served()
        assert new == pem_digest(d.certificate) != old
        d.get("/readyz", expect=200, connection=kept)
        # what is broken leaves all as it is
        third, key = d.ca.server("third")
        os.replace(third, d.certificate)
        assert "is not the key of" in d.reload() and "old certificates stay" in d.log()
        assert d.served() == new
        os.chmod(key, 0o644)
        os.replace(key, d.key)
        assert "chmod 640" in d.reload()
        assert d.served() == new
        os.chmod(d.key, 0o640)
        d.reload()
        assert d.served() == pem_digest(d.certificate) not in (old, new)
        d.get("/readyz", expect=200, connection=kept)
        d.let_exports_go()
        check_finished(stream)
        kept.close()


def story_a_download_goes_on_over_many_reloads():
    with SecureLab() as d:
        p = d.program()
        reader = d.ask("GET", f"/v1/programs/{p}/file")
        status, headers = reader.head()
        n = int(dict(headers)["Content-Length"])
        digest, got = hashlib.sha256(), 0
        for i in range(6):
            part = reader.exactly(n // 8)
            digest.update(part)
            got += len(part)
            d.replace(*d.ca.server(f"next{i}"))
            assert d.reload().count("new certificates") == i + 1
        digest.update(reader.exactly(n - got))
        assert digest.hexdigest() == p
        reader.close()


def story_a_certificate_that_can_not_be_used_is_no_start():
    with tempfile.TemporaryDirectory() as directory:
        ca = CA(directory)
        certificate, key = ca.server()
        _, other = ca.server("other")
        files = (f"http.tls_certificate={certificate}", f"http.tls_key={key}")
        assert "needs http.tls_certificate and http.tls_key" in start_fails()
        assert "needs http.tls_certificate and http.tls_key" in start_fails(files[0])
        assert "No such file" in start_fails(f"http.tls_certificate={directory}/none", files[1])
        assert "is not the key of" in start_fails(files[0], f"http.tls_key={other}")
        assert "holds no certificate" in start_fails(f"http.tls_certificate={key}", files[1])
        assert "holds no certificate" in start_fails(*files, f"http.tls_client_ca={key}")
        os.chmod(certificate, 0o600)
        assert "holds no private key" in start_fails(files[0], f"http.tls_key={certificate}")
        subprocess.run(["openssl", "pkcs8", "-topk8", "-in", key, "-passout", "pass:word", "-out", other],
                       check=True, capture_output=True)
        assert "is encrypted" in start_fails(files[0], f"http.tls_key={other}")
        os.chmod(key, 0o644)
        assert "chmod 640" in start_fails(*files)


def story_an_expired_certificate_is_served_with_a_warning():
    with SecureDaemon() as d:
        d.replace(*d.ca.server("old", days=-1))
        assert "has expired at" in d.reload()
        try:
            d.connect().close()
            assert False, "the client takes it"
        except ssl.SSLCertVerificationError as e:
            assert "expired" in str(e), e
        d.replace(*d.ca.server("new"))
        d.reload()
        d.get("/readyz", expect=200)


# ---- clients that vanish ----

def close_notify(raw):
    """An orderly end: the alert, then the connection's."""
    raw.sock.settimeout(0)
    with contextlib.suppress(OSError):
        raw.sock.unwrap()  # sends, and would wait for the other's
    raw.sock.close()


def fin(raw):
    """The connection's end without a word."""
    socket.socket.shutdown(raw.sock, socket.SHUT_WR)


VANISHES = (Raw.close, Raw.reset, close_notify, fin)


def story_who_waits_and_vanishes_is_noticed():
    with SecureLab() as d:
        job, fds = d.export(), d.fds()
        polls = [d.ask("GET", f"/v1/exports/{job}" + ("/events" if i % 2 else "?wait=60")) for i in range(24)]
        for stream in polls[1::2]:
            assert stream.head()[0] == 200
        until(lambda: d.metric("pt2d_http_requests_active") == 25, "all wait")
        for i, poll in enumerate(polls):
            VANISHES[i // 2 % 4](poll)
        until(lambda: d.metric("pt2d_http_requests_active") == 1, "all have gone")
        for poll in polls:
            poll.sock.close()
        d.rest(fds)
        d.let_exports_go()


def story_a_step_whose_client_vanishes_before_it_begins_gives_its_place_up():
    with SecureLab() as d:
        session = d.session(d.program())
        d.post(f"/v1/sessions/{session}/step", {"input_ids": [[1]]}, expect=200)
        fds = d.fds()
        with d.frozen_worker():
            steps = [d.step(session)]
            until(lambda: d.metric("pt2d_session_calls_running") == 1, "the first runs")
            for i in range(1, 9):
                steps.append(d.step(session))
                until(lambda: d.metric("pt2d_session_calls_waiting") == i, "one more waits")
            for i, vanish in enumerate(VANISHES):
                vanish(steps[2 + i])
            until(lambda: d.metric("pt2d_session_calls_waiting") == 4, "four have gone")
            steps[5].sock.close()
        for i in (0, 1, 6, 7, 8):
            assert steps[i].reply().json["position"] > 1
            steps[i].close()
        assert d.get(f"/v1/sessions/{session}").json["position"] == 1 + 5
        d.rest(fds)


def story_clients_that_vanish_at_any_moment_leave_nothing():
    seed = int(os.environ.get("PT2_TEST_SEED") or random.randrange(1 << 32))
    print(f"seed {seed} (PT2_TEST_SEED)")
    rng = random.Random(seed)
    with SecureLab("--set", "http.threads=4") as d:
        program = d.program()
        session = d.session(program)
        job = d.export()
        fds = d.fds()
        hello = client_hello(d)
        paths = [f"GET /v1/exports/{job}?wait=60", f"GET /v1/exports/{job}/events", "GET /v1/models",
                 f"GET /v1/programs/{program}/file", "GET /metrics", "step", "upload", "handshake"]
        open_ones = []
        for _ in range(100):
            what = rng.choice(paths)
            if what == "step":
                raw = d.step(session)
            elif what == "handshake":
                raw = Raw(d.tcp()).send(hello[:rng.randrange(len(hello) + 1)])
            elif what == "upload":
                raw = d.raw(b"POST /v1/programs HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n" +
                            b"x" * rng.randrange(600000))
            else:
                raw = d.ask(*what.split(" "))
            open_ones.append(raw)
            while len(open_ones) > rng.randrange(1, 60):
                gone = open_ones.pop(rng.randrange(len(open_ones)))
                with contextlib.suppress(OSError):
                    rng.choice(VANISHES if isinstance(gone.sock, ssl.SSLSocket) else VANISHES[:2])(gone)
                gone.sock.close()
        for raw in open_ones:
            raw.close()
        d.rest(fds)
        d.get(f"/v1/sessions/{session}", expect=200)
        d.let_exports_go()
        until(lambda: d.get(f"/v1/exports/{job}").json["state"] == "succeeded", "the export")


def story_a_stop_with_tls_clients_that_wait_ends_well():
    with SecureLab() as d:
        job = d.export()
        waiting = [d.ask("GET", f"/v1/exports/{job}?wait=60") for _ in range(6)]
        streams = [d.ask("GET", f"/v1/exports/{job}/events") for _ in range(6)]
        half = [Raw(d.tcp()).send(client_hello(d)[:50]) for _ in range(3)]
        until(lambda: d.metric("pt2d_http_requests_active") == 13, "all wait")
        assert d.stop() == 0
        for raw in waiting:
            assert raw.reply().status == 200
        for raw in streams:
            assert raw.rest().endswith(b"0\r\n\r\n")
        for raw in waiting + streams + half:
            raw.close()


# ---- pt2ctl ----

def pt2ctl(*words, expect=0, **env):
    keep = {k: v for k, v in os.environ.items() if not k.startswith("PT2_")}
    result = subprocess.run([os.path.join(BUILD, "pt2ctl"), *words], env={**keep, **env}, capture_output=True,
                            text=True, timeout=TIMEOUT)
    assert result.returncode == expect, result
    return result.stdout + result.stderr


def story_pt2ctl_speaks_tls():
    with SecureDaemon(client_ca="required") as d:
        certificate, key = d.theirs.make("operator")
        server = f"https://localhost:{d.port}"
        d.mine = certificate, key
        assert "demo" in pt2ctl("models", "--server", server, "--cacert", d.ca.path, "--cert", certificate,
                                "--key", key)
        env = {"PT2_SERVER": server, "PT2_CACERT": d.ca.path, "PT2_CERT": certificate, "PT2_KEY": key}
        assert "demo" in pt2ctl("models", **env)
        both = os.path.join(d.pki, "both.pem")
        with open(both, "w") as f:
            f.write(open(certificate).read() + open(key).read())
        assert "demo" in pt2ctl("models", **{**env, "PT2_CERT": both, "PT2_KEY": ""})
        out = os.path.join(d.directory, "demo.pt2")
        pt2ctl("export", "demo", "-o", out, **env)
        with open(out, "rb") as f:
            assert f.read(2) == b"PK"
        assert "certificate" in pt2ctl("models", expect=3, **{**env, "PT2_CACERT": d.theirs.path})
        pt2ctl("models", expect=3, **{**env, "PT2_CERT": ""})


if __name__ == "__main__":
    main(globals())
