#!/usr/bin/env python3
"""Bad input at the level of HTTP: always a 4xx or a closed connection, never a 5xx or a crash."""

import contextlib
import json
import os
import random
import signal
import time

from harness import SEED, Daemon, main, until

GOOD = {"model": "no-such-model"}  # POST /v1/exports answers 404 to it
HEAD = "POST /v1/exports HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def routes(d):
    """(method, path with {names}, operation) of everything that the daemon answers."""
    for path, item in d.get("/openapi.json", expect=200).json["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def filled(path):
    while "{" in path:
        path = path[:path.index("{")] + "nothing" + path[path.index("}") + 1:]
    return path


def body_of(operation):
    content = operation.get("requestBody", {}).get("content", {})
    return next(iter(content), None)


def answers(data):
    """The status codes in what a raw connection answered."""
    return [int(part[:3]) for part in data.decode("latin-1").split("HTTP/1.1 ")[1:] if part[:3].isdigit()]


def check_no_5xx(d):
    for line in d.get("/metrics", expect=200).text.splitlines():
        if line.startswith("pt2d_http_requests_total{"):
            assert 'status="5' not in line, line


def story_each_path_says_its_methods(d):
    methods = {}
    for method, path, _ in routes(d):
        methods.setdefault(path, set()).add(method)
    for path, its in methods.items():
        allowed = its | ({"HEAD"} if "GET" in its else set())
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"):
            if method in allowed:
                continue
            reply = d.request(method, filled(path), expect=405)
            assert set(reply.headers["Allow"].split(", ")) == allowed, (path, reply.headers["Allow"])
            assert method == "HEAD" or reply.problem == "method-not-allowed", reply


def story_many_that_ask_at_once_are_answered():
    """As many as the events that libmicrohttpd takes at a time (128), of one thread, and about as many."""
    with Daemon("--set", "http.threads=1") as d:
        for n in (127, 128, 129, 128, 256, 128, 128):
            connections = [d.raw() for _ in range(n)]
            for c in connections:
                c.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                assert c.reply().status == 200
            d.process.send_signal(signal.SIGSTOP)
            for c in connections:
                c.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            d.process.send_signal(signal.SIGCONT)
            for c in connections:
                c.sock.settimeout(10)
                assert c.reply().status == 200
                c.close()


def story_head_is_wherever_get_is(d):
    for method, path, _ in routes(d):
        if method != "GET":
            continue
        got, headed = d.get(filled(path)), d.head(filled(path))
        assert (got.status, headed.body) == (headed.status, b""), path
        assert got.headers["Content-Type"] == headed.headers["Content-Type"], path
        if path not in ("/metrics", "/v1/stats"):  # figures of that moment
            assert got.headers["Content-Length"] == headed.headers["Content-Length"], path


def story_each_route_refuses_what_it_does_not_know(d):
    for method, path, operation in routes(d):
        path, kind = filled(path), body_of(operation)
        body = None if kind is None else b"{}" if "json" in kind else b"x"
        headers = {} if kind is None else {"Content-Type": kind}

        def ask(status, path=path, **more):
            reply = d.request(method, path, body=body, expect=status, headers={**headers, **more})
            assert method == "HEAD" or reply.problem, reply
            return reply

        assert "'colour'" in ask(422, path + "?colour=red").json["detail"]
        ask(400, path + "?%00=1")
        ask(406, Accept="image/png, audio/ogg;q=0.5")
        if kind is None:
            d.request(method, path, body=b"{}", expect=415, headers={"Content-Type": "application/json"})
        elif "json" in kind:
            for wrong in ("text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""):
                reply = d.request(method, path, body=b"{}", headers={"Content-Type": wrong}, expect=415)
                assert "--json" in reply.json["detail"], reply
            d.request(method, path, body=b'{"no_such_member": 1}', headers=headers, expect=(404, 422))
            for text, status in BAD_JSON:
                d.request(method, path, body=text, headers=headers,
                          expect=status if text or operation["requestBody"]["required"] else 404)
        else:
            d.request(method, path, body=b"x", headers={"Content-Type": "text/plain"}, expect=415)
    check_no_5xx(d)


BAD_JSON = [
    (b"", 400), (b" ", 400), (b"{", 400), (b"}", 400), (b"nul", 400), (b"{} {}", 400), (b"{},", 400),
    (b'{"a": }', 400), (b"{'a': 1}", 400), (b'{"a": 01}', 400), (b'{"a": NaN}', 400), (b'{"a": "\xff"}', 400), (b'{"a": "\\ud800"}', 400), (b'{"a": "\x00"}', 400),
    (b"\xef\xbb\xbf{}", 400), ('{"a": 1}'.encode("utf-16"), 400), (b"[" * 100000, (400, 422)),
    (b'{"a":' * 50000 + b"1" + b"}" * 50000, (400, 422)),
    (b'{"a": 1e999}', 422), (b"[]", 422), (b"3", 422), (b'"x"', 422), (b"null", 422), (b'{"a": 1, "a": 2}', 422),
    (b'{"a": {"b": 1, "b": 1}}', 422),
]


def story_a_body_that_is_too_large_is_refused_before_it_is_sent(d):
    for head in ("POST /v1/programs HTTP/1.1\r\nHost: x\r\n", HEAD):
        raw = d.raw(f"{head}Content-Length: {1 << 40}\r\nExpect: 100-continue\r\n\r\n")
        reply = raw.reply()
        assert (reply.status, reply.problem) == (413, "too-large"), reply
        assert raw.is_closed()
    reply = d.raw(f"{HEAD}Content-Length: {1 << 63}\r\nExpect: 100-continue\r\n\r\n").reply()
    assert reply.status in (400, 413), reply
    raw = d.raw(f"PUT /v1/programs/nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
                "Expect: 100-continue\r\n\r\n")
    assert 400 <= raw.reply().status < 500, "what is no digest needs no body"
    text = json.dumps(GOOD).encode()
    raw = d.raw(f"{HEAD}Content-Length: {len(text)}\r\nExpect: 100-continue\r\n\r\n")
    assert raw.reply().status == 100
    assert raw.send(text).reply().status == 404
    raw = d.raw(HEAD + "Transfer-Encoding: chunked\r\n\r\n")  # of unknown length: once it is
    with contextlib.suppress(OSError):
        for _ in range(12):
            raw.send(b"100000\r\n" + b" " * 0x100000 + b"\r\n")
    assert raw.reply().status == 413


def story_headers_have_a_limit(d):
    for n in (17, 30, 60, 200, 2000):
        raw = d.raw()
        with contextlib.suppress(OSError):
            raw.send(f"GET /version HTTP/1.1\r\nHost: x\r\nX-Long: {'y' * (n << 10)}\r\n\r\n")
            raw.half_close()
        with contextlib.suppress(OSError):
            assert answers(raw.rest())[:1] in ([431], [413], [])
        raw.close()
    many = "".join(f"X-{i}: y\r\n" for i in range(5000))
    assert d.raw(f"GET /version HTTP/1.1\r\nHost: x\r\n{many}\r\n").reply().status in (431, 413)
    assert d.raw(f"GET /v1/{'a' * 20000} HTTP/1.1\r\nHost: x\r\n\r\n").reply().status in (414, 431)
    assert d.raw(f"GET /version?{'a&' * 300} HTTP/1.1\r\nHost: x\r\n\r\n").reply().status == 422
    d.raw(f"GET /version HTTP/1.1\r\nHost: x\r\nX: {'y' * 15000}\r\n\r\n").reply()
    check_no_5xx(d)


def story_request_ids_of_any_kind_do_no_harm(d):
    for good in ("a", "x" * 64, "0c0ffee0-1234:5/6+7=@_.~"[:-1]):
        assert d.get("/healthz", headers={"X-Request-Id": good}).headers["X-Request-Id"] == good
    for odd in ("", "x" * 65, "a b", "a\tb", "a;b", "{}", "\xe4", "../..", "<script>"):
        reply = d.get("/healthz", headers={"X-Request-Id": odd}, expect=200)
        assert odd == "../.." or reply.headers["X-Request-Id"] != odd, odd
    ids = {d.get("/healthz").headers["X-Request-Id"] for _ in range(20)}
    assert len(ids) == 20, "each its own"


def story_framing_that_readers_may_disagree_about_is_refused(d):
    text = json.dumps(GOOD)
    n = len(text)
    for lines in (f"Content-Length: {n}\r\nTransfer-Encoding: chunked\r\n",
                  f"Content-Length: {n}\r\nContent-Length: {n + 1}\r\n",
                  f"Content-Length: {n}\r\nContent-Length: {n}\r\n",
                  f"Content-Length: +{n}\r\n", f"Content-Length: -{n}\r\n", "Content-Length: 0x10\r\n",
                  f"Content-Length: {n}, {n}\r\n", "Content-Length: 99999999999999999999999\r\n",
                  f"Content-Length: {n} x\r\n", "Content-Length: \r\n",
                  "Transfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding: identity\r\n",
                  "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                  "Transfer-Encoding: xchunked\r\n", "Transfer-Encoding: chunked, chunked\r\n"):
        raw = d.raw(HEAD + lines + "\r\n" + text)
        with contextlib.suppress(OSError):
            raw.half_close()
            got = answers(raw.rest())
            assert len(got) == 1 and 400 <= got[0] < 500, (lines, got)
            assert 404 not in got, f"taken: {lines}"
        raw.close()
    check_no_5xx(d)


def story_a_length_that_is_no_number_is_refused_once(d):
    """libmicrohttpd 0.9.75 sent the head of its own refusal twice, in HTML."""
    for method, path in (("POST", "/v1/exports"), ("GET", "/healthz")):
        for length in ("abc", "+5", "-1", "5, 5", "", "0x10", "5 ", "9999999999999999999999"):
            raw = d.raw(f"{method} {path} HTTP/1.1\r\nHost: x\r\nX-Request-Id: mine\r\n")
            time.sleep(0.01)  # the header comes in pieces, as others' do
            raw.send(f"Content-Length: {length}\r\n\r\n")
            reply = raw.reply()
            due = (413, "too-large") if length.startswith("9") else (400, "bad-request")
            assert (reply.status, reply.problem) == due, (length, reply)
            assert reply.headers["X-Request-Id"] == "mine" and "Content-Length" in reply.json["detail"], reply
            assert raw.is_closed(), length
    d.get("/healthz", expect=200)


def story_what_ends_or_folds_a_header_is_refused(d):
    head = "GET /healthz HTTP/1.1\r\nHost: x\r\n"
    for data in ("GET /healthz\0/../secret HTTP/1.1\r\nHost: x\r\n\r\n", "G\0ET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
                 "GET /healthz HTTP/1.1\r\nHost: x\0.evil.example\r\n\r\n", head + "X: a\0\r\n\r\n",
                 head + "Authorization: Bearer T\0evil\r\nX: y\r\n\r\n", head + "X: y\r\n\0X: z\r\n\r\n",
                 head + "X: a\rb\r\n\r\n", head + "X: a\x01b\r\n\r\n", head + "X: a\x7f\r\n\r\n",
                 head + "X: a\r\n b\r\n\r\n", head + "X : a\r\n\r\n", head + ": a\r\n\r\n", head + "X(y): a\r\n\r\n",
                 "GET /healthz HTTP/1.1\r\nHos: x\r\n t\r\nX: y\r\n\r\n",
                 "GET /healthz HTTP/1.1\r\n\0\r\nHost: x\r\n\r\n"):
        raw = d.raw(data.encode("latin-1"))
        reply = raw.reply()
        assert (reply.status, reply.problem) == (400, "bad-request"), (data, reply)
        assert raw.is_closed(), data
    for data in (head + "\r\n", head + "X:\r\n\r\n", head + "X:a\r\nY: \t b c \r\nCookie: a=b\r\n\r\n",
                 "GET /healthz HTTP/1.1\nHost: x\n\n", "GET  /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
                 head + "".join(f"X-{i}: {'y' * 50}\r\n" for i in range(200)) + "\r\n"):
        raw = d.raw()
        for i in range(0, len(data), 700):
            raw.send(data[i:i + 700])
        assert raw.reply().status == 200, data
        raw.send(head + "\r\n")
        assert raw.reply().status == 200, data
    assert d.raw("GET /healthz HTTP/1.0\r\n\r\n").reply().status == 200


def story_white_space_behind_a_value_does_not_count(d):
    raw = d.raw("GET /healthz HTTP/1.1\r\nHost: x \t\r\nX-Request-Id: abc \r\nAccept: application/json\t\r\n\r\n")
    reply = raw.reply()
    assert (reply.status, reply.headers["X-Request-Id"]) == (200, "abc"), reply
    raw = d.raw(HEAD + "Transfer-Encoding: chunked \r\n\r\n0\r\n\r\n")
    assert raw.reply().status == 400, "libmicrohttpd would read on until the end"


def story_lists_on_several_lines_are_one(d):
    head = "GET /healthz HTTP/1.1\r\nHost: x\r\nAccept: image/png\r\n"
    assert d.raw(head + "\r\n").reply().status == 406
    assert d.raw(head + "Accept: text/x\r\nAccept: application/json\r\n\r\n").reply().status == 200


def story_two_of_what_there_is_one_of_are_refused(d):
    for name, value in (("Origin", "http://x"), ("Authorization", "Bearer x"), ("Content-Type", "text/plain")):
        reply = d.raw(f"GET /healthz HTTP/1.1\r\nHost: x\r\n{name}: {value}\r\n{name}: {value}\r\n\r\n").reply()
        assert (reply.status, reply.problem) == (400, "bad-request") and name in reply.json["detail"], reply


def story_chunked_bodies_are_read(d):
    text = json.dumps(GOOD).encode()
    small = b"".join(b"1\r\n%c\r\n" % c for c in text) + b"0\r\n\r\n"
    one = b"%X\r\n%s\r\n0\r\n\r\n" % (len(text), text)
    for body in (small, one, b"%x;name=value\r\n%s\r\n0\r\nX-Trailer: y\r\n\r\n" % (len(text), text)):
        raw = d.raw(HEAD.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + body)
        assert raw.reply().status == 404, body
        raw.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert raw.reply().status == 200, "the connection goes on where the body ended"
    for body in (b"z\r\n\r\n", b"-1\r\nx\r\n", b"ffffffffffffffffff\r\nx", b"5\r\nabcdefgh\r\n0\r\n\r\n", b"\r\n\r\n"):
        raw = d.raw(HEAD.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + body)
        with contextlib.suppress(OSError):
            raw.half_close()
            assert all(400 <= status < 500 for status in answers(raw.rest())), body
        raw.close()


def story_a_length_that_lies_harms_nobody_else(d):
    text = json.dumps(GOOD)
    short = d.raw(f"{HEAD}Content-Length: {len(text) - 5}\r\n\r\n{text}")  # the rest is no request
    short.half_close()
    got = answers(short.rest())
    assert all(400 <= status < 500 for status in got) and 404 not in got, got
    short.close()
    long = d.raw(f"{HEAD}Content-Length: {len(text) + 5}\r\n\r\n{text}")
    long.half_close()
    assert answers(long.rest()) == [] or long.is_closed()
    long.close()
    d.get("/healthz", expect=200)


def story_pipelined_requests_are_answered_in_order(d):
    text = json.dumps(GOOD)
    wanted, sent = [], ""
    for i in range(60):
        kind = i % 5
        more = f"X-Request-Id: r{i}\r\n"
        if kind == 0:
            sent += f"GET /healthz HTTP/1.1\r\nHost: x\r\n{more}\r\n"
        elif kind == 1:
            sent += f"{HEAD}{more}Content-Length: {len(text)}\r\n\r\n{text}"
        elif kind == 2:
            sent += f"HEAD /version HTTP/1.1\r\nHost: x\r\n{more}\r\n"
        elif kind == 3:
            sent += f"DELETE /version HTTP/1.1\r\nHost: x\r\n{more}\r\n"
        else:  # refused before its body, which is read away
            sent += f"POST /v1/nowhere HTTP/1.1\r\nHost: x\r\n{more}Content-Length: {len(text)}\r\n\r\n{text}"
        wanted.append((200, 404, 200, 405, 404)[kind])
    raw = d.raw(sent)
    for i, status in enumerate(wanted):
        reply = raw.reply(is_head=i % 5 == 2)
        assert (reply.status, reply.headers["X-Request-Id"]) == (status, f"r{i}"), (i, reply)
    raw.close()


def story_request_lines_of_any_kind_are_survived(d):
    def ask(data):
        raw = d.raw(data)
        with contextlib.suppress(OSError):
            raw.half_close()
            got = answers(raw.rest())
            raw.close()
            return got
        raw.close()
        return []

    assert ask("GET /healthz HTTP/1.0\r\n\r\n") == [200], "HTTP/1.0 needs no Host"
    assert ask("GET http://x/healthz HTTP/1.1\r\nHost: x\r\n\r\n") == [200], "the absolute form"
    for target in ("http://localhost/healthz", "HTTPS://localhost:80/healthz", "http://x", "http://x?"):
        assert ask(f"GET {target} HTTP/1.1\r\nHost: evil.example\r\n\r\n") == [200], "the target's host counts"
    for target in ("http://evil.example/healthz", "http://evil.example"):
        assert ask(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n") == [403], target
    assert ask("\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n") in ([200], [400])
    for data in ("GET /healthz HTTP/1.1\r\n\r\n", "GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
                 "GET * HTTP/1.1\r\nHost: x\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
                 "GET healthz HTTP/1.1\r\nHost: x\r\n\r\n", "GET http:///healthz HTTP/1.1\r\nHost: x\r\n\r\n",
                 "GET http://a@x/healthz HTTP/1.1\r\nHost: x\r\n\r\n",
                 "CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n"):
        assert ask(data) == [400], data
    for data in ("GET\r\n\r\n", "GET /healthz\r\n\r\n", "GET /healthz HTTP/9.9\r\nHost: x\r\n\r\n",
                 "GET /healthz HTTP/2.0\r\nHost: x\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                 "GET  /healthz  HTTP/1.1\r\nHost: x\r\n\r\n", "\0\0\0\0\r\n\r\n", "\x16\x03\x01\x02\0\1\0\1\xfc\x03\x03",
                 "GET /healthz HTTP/1.1\r\nHost : x\r\n\r\n", "GET /healthz HTTP/1.1\r\nHost: x\r\n y\r\n\r\n",
                 "GET /healthz HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n", "G" * 70000,
                 "GET /healthz HTTP/1.1\nHost: x\n\n", "GET /healthz HTTP/1.1\r\nHost: x\r\nA: \0\r\n\r\n"):
        # libmicrohttpd itself answers 505 to a version that it does not speak
        assert all(status < 500 or status == 505 for status in ask(data.encode("latin-1"))), data
    d.get("/healthz", expect=200)


def story_mutated_requests_are_survived(d):
    print(f"     PT2_SEED={SEED}", flush=True)
    rng = random.Random(SEED)
    text = json.dumps({"model": "demo", "dry_run": True, "cache": {"max_cache_len": 8}})
    good = [f"{HEAD}Content-Length: {len(text)}\r\n\r\n{text}",
            f"{HEAD}Transfer-Encoding: chunked\r\n\r\n{len(text):x}\r\n{text}\r\n0\r\n\r\n",
            "GET /v1/exports?limit=3&state=running HTTP/1.1\r\nHost: x\r\nAccept: */*;q=0.5\r\n\r\n",
            "GET /v1/programs/0123456789ab/file HTTP/1.1\r\nHost: x\r\nRange: bytes=0-5\r\n\r\n"]
    bits = [b"\r\n", b"\0", b"%", b"\xff", b":", b" ", b"\n", b"0", b"{", b'"', b"-1", b"chunked", b"?" * 50]
    for _ in range(400):
        data = bytearray(rng.choice(good).encode())
        for _ in range(rng.randrange(1, 5)):
            at = rng.randrange(len(data))
            how = rng.randrange(3)
            if how == 0:
                data[at] = rng.randrange(256)
            elif how == 1:
                data[at:at + rng.randrange(1, 20)] = b""
            else:
                data[at:at] = rng.choice(bits)
            data = data or bytearray(b"x")
        raw = d.raw(bytes(data))
        with contextlib.suppress(OSError):
            raw.half_close()
            assert all(status < 500 or status == 505 for status in answers(raw.rest())), bytes(data)
        raw.close()
    d.get("/healthz", expect=200)
    check_no_5xx(d)


def story_slow_clients_are_cut():
    with Daemon("--set", "http.header_timeout=300 ms", "--set", "http.body_timeout=300 ms",
                "--set", "http.idle_timeout=4 s", "--set", "http.min_body_rate=1 GiB") as d:
        for data in ("", "GET /heal", "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow", HEAD +
                     "Content-Length: 50\r\n\r\n{", HEAD + "Transfer-Encoding: chunked\r\n\r\n5\r\nab",
                     "POST /v1/programs HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\nPK",
                     "POST /v1/nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\nabc"):
            raw = d.raw(data)
            assert answers(raw.rest()) in ([], [408]), data
            raw.close()
        drip = d.raw()
        begin = time.monotonic()
        with contextlib.suppress(OSError):
            for c in "GET /healthz HTTP/1.1\r\nHost: x\r\n" + "X: y\r\n" * 2000:
                drip.send(c)
                time.sleep(0.01)
        assert time.monotonic() - begin < 15, "a byte now and then does not help"
        drip.close()
        kept = d.raw("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert kept.reply().status == 200
        assert kept.is_closed(), "an idle one"
        assert d.metric("pt2d_http_timeouts_total", what="header") >= 2
        assert d.metric("pt2d_http_timeouts_total", what="body") >= 4


def story_refused_uploads_harm_no_later_connection(d):
    """Once, what was kept of a refused client's connection read away the next one's bytes."""
    data = bytes(30000)
    for i in range(400):
        d.request("PUT", f"/v1/programs/{'g' * (63 + i % 3)}", body=data, expect=422)
        d.get("/healthz", expect=200)


def story_connections_beyond_the_limit_wait():
    with Daemon("--set", "http.max_connections=4") as d:
        open_ones = [d.raw() for _ in range(4)]
        for raw in open_ones:
            assert raw.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").reply().status == 200
        late = [d.raw("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(3)]
        late[0].sock.settimeout(0.3)
        try:
            late[0].sock.recv(1)
            assert False, "served beyond the limit"
        except TimeoutError:
            late[0].sock.settimeout(60)
        for raw in open_ones:
            raw.close()
        for raw in late:
            assert raw.reply().status == 200
            raw.close()
        until(lambda: d.metric("pt2d_http_connections") == 1, "all closed")


def story_uploads_beyond_the_limit_are_429():
    with Daemon("--set", "http.max_uploads=1") as d:
        head = "POST /v1/programs HTTP/1.1\r\nHost: x\r\nContent-Length: 600000\r\n\r\n"
        first = d.raw(head + "x")
        until(lambda: d.metric("pt2d_http_uploads_active") == 1, "one runs")
        reply = d.raw(head).reply()
        assert reply.status == 429 and reply.headers["Retry-After"], reply
        first.close()
        until(lambda: d.metric("pt2d_http_uploads_active") == 0, "it has gone")
        d.request("POST", "/v1/programs", body=b"x", expect=422)


# ---- the OpenAPI document ----

CALLS = """
GET /healthz
GET /readyz
GET /version
GET /metrics
GET /openapi.json
GET /v1/models
GET /v1/models/{id}
POST /v1/exports
GET /v1/exports
GET /v1/exports/{id}
GET /v1/exports/{id}/events
GET /v1/exports/{id}/file
POST /v1/exports/{id}/cancel
DELETE /v1/exports/{id}
PUT /v1/programs/{id}
POST /v1/programs
GET /v1/programs
GET /v1/programs/{id}
GET /v1/programs/{id}/file
GET /v1/programs/{id}/graph
GET /v1/programs/{id}/plan
DELETE /v1/programs/{id}
GET /v1/aliases
PUT /v1/aliases/{name}
DELETE /v1/aliases/{name}
POST /v1/sessions
GET /v1/sessions
GET /v1/sessions/{id}
DELETE /v1/sessions/{id}
POST /v1/sessions/{id}/step
POST /v1/steps
POST /v1/sessions/{id}/fork
POST /v1/sessions/{id}/rewind
GET /v1/sessions/{id}/cache
PUT /v1/sessions/{id}/cache
"""
MEMBERS = {
    "ExportRequest": "model dtype cache example_input_ids example_cache_position logits_to_keep dynamic_shapes "
                     "attn_implementation profile custom_ops quantization format verify dry_run labels",
    "Export": "id state model options progress cached program deviations error created started finished labels",
    "Model": "id model_type architecture dtype parameters bytes max_position_embeddings vocab_size exportable reason",
    "Program": "id bytes created origin model torch_version schema_version inputs outputs parameters buffers cache "
               "vocab_size engines",
    "SessionRequest": "program engine ttl labels",
    "Session": "id program engine batch_size max_cache_len vocab_size cache_bytes position rewind_floor created "
               "expires labels",
    "StepRequest": "input_ids cache_position rows logits top_k logit_ids",
    "StepAnswer": "cache_position position logits top selected",
    "ForkRequest": "position ttl",
    "RewindRequest": "position",
    "StepsRequest": "steps",
    "StepsAnswer": "results",
    "AliasRequest": "program",
    "Problem": "type title status detail errors",
}


def members_of(document, schema):
    """Names of a schema's members, those of its parts included."""
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    names = set(schema.get("properties", {}))
    for part in schema.get("allOf", []):
        names |= members_of(document, part)
    return names


def is_strict(document, schema):
    """Does the schema refuse members that it does not name?"""
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    return schema.get("additionalProperties") is False or schema.get("unevaluatedProperties") is False


def story_the_openapi_document_has_every_call_and_member(d):
    document = d.get("/openapi.json").json
    calls = {f"{method} {path}" for method, path, _ in routes(d)}
    assert set(filter(None, CALLS.split("\n"))) <= calls
    for name, members in MEMBERS.items():
        got = members_of(document, document["components"]["schemas"][name])
        assert set(members.split()) <= got, (name, set(members.split()) - got)
    for method, path, operation in routes(d):
        kind = body_of(operation)
        if kind and "json" in kind:
            schema = operation["requestBody"]["content"][kind]["schema"]
            assert is_strict(document, schema), f"{method} {path} takes members that it does not know"
        assert all(len(status) == 3 or status == "default" for status in operation["responses"])
        assert any(status[0] == "2" for status in operation["responses"]), path
        for status, response in operation["responses"].items():
            assert "$ref" in response or response["description"], (path, status)
            assert (status[0] in "45d") == ("$ref" in response), (path, status)


if __name__ == "__main__":
    main(globals())
