#!/usr/bin/env python3
"""What one client may take: connections, bytes a second; and that the rest go on meanwhile."""

import contextlib
import json
import os
import socket
import struct
import sys
import tempfile
import time

from harness import Daemon, Raw, SOURCE, TIMEOUT, bearer, main, token_file, token_line, until
from test_vanish import Lab

sys.path.insert(0, os.path.join(SOURCE, "bench"))
import slow_clients

BODY = json.dumps({"model": "demo", "labels": {"pad": "x" * 200_000}}).encode()


class Here(Daemon):
    """With a models directory of its own, for uploads."""

    def __init__(self, *flags):
        super().__init__(*flags)
        self.models = os.path.join(self.directory, "models")
        os.mkdir(self.models)


def upload(length):
    return (f"PUT /v1/models/sent/files/model.safetensors HTTP/1.1\r\nHost: x\r\n"
            f"Content-Length: {length}\r\n\r\n").encode()


def timed(do):
    begin = time.monotonic()
    do()
    return time.monotonic() - begin


def program_of(d, **more):
    """Some file that can be downloaded."""
    job = d.post("/v1/exports", {"model": "demo"}, expect=202, **more).json["id"]
    until(lambda: d.get(f"/v1/exports/{job}?wait=60", **more).json["state"] == "succeeded", "a program")
    return d.get(f"/v1/exports/{job}", **more).json["program"]


# ---- rates; a slow machine makes them slower, never faster ----

def story_an_upload_keeps_to_its_rate():
    size, rate = 2_400_000, 400_000
    with Here("--set", f"http.upload_rate={rate}", "--set", "http.body_timeout=4 s",
                "--set", "http.min_body_rate=1 GiB") as d:
        def send():
            raw = d.raw(upload(size) + b"x" * size)
            assert raw.reply().status == 201
            raw.close()
        # A second's worth at once, the rest at the rate; though it takes longer than the daemon
        # gives a client, for the daemon made it wait.
        took = timed(send)
        assert took > (size - rate) / rate - 0.5, took
        assert d.metric("pt2d_http_paces_total", direction="upload") > 0
        assert d.metric("pt2d_http_requests_paced") == 0
        assert d.metric("pt2d_http_timeouts_total", what="body") == 0


def story_several_connections_share_the_rate_and_others_do_not_wait():
    size, rate = 500_000, 400_000
    with Here("--set", f"http.upload_rate={rate}") as d:
        def send_all():
            raws = [d.raw(upload(size).replace(b"model.s", b"m%d.s" % i) + b"x" * size) for i in range(3)]
            until(lambda: d.metric("pt2d_http_requests_paced") > 0, "they wait, and this does not")
            for raw in raws:
                assert raw.reply().status == 201
                raw.close()
        took = timed(send_all)
        assert took > (3 * size - rate) / rate - 0.5, took


def story_a_json_body_is_paced_too():
    with Here("--set", "http.upload_rate=100000") as d:
        def send():
            raw = d.raw(b"POST /v1/exports HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                        b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY)
            assert raw.reply().status in (202, 404, 422)
            raw.close()
        send()
        took = timed(send)
        assert took > len(BODY) / 100_000 - 0.5, took


def story_a_download_keeps_to_its_rate_and_is_right():
    with Daemon() as d:
        program = program_of(d)
        path = f"/v1/programs/{program}/file"
        whole = d.get(path).body
        size = len(whole)
        rate = size // 3
        d.flags += ["--set", f"http.download_rate={rate}"]
        d.restart()
        replies = []
        took = timed(lambda: replies.append(d.get(path, expect=200)))
        assert replies[0].body == whole and replies[0].headers["Content-Length"] == str(size)
        assert took > (size - rate) / rate - 0.5, (took, size, rate)
        part = d.get(path, headers={"Range": f"bytes=10-{size - 11}"}, expect=206)
        assert part.body == whole[10:-10]
        assert d.head(path, expect=200).body == b""
        assert d.metric("pt2d_http_paces_total", direction="download") > 0
        half = d.raw(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
        half.half_close()  # which is no way around it
        got = []
        took = timed(lambda: got.append((half.head()[0], half.rest())))
        assert got == [(200, whole)] and took > (size - rate) / rate - 0.5, took


def story_a_token_has_rates_of_its_own():
    size, rate = 900_000, 300_000
    with tempfile.TemporaryDirectory() as directory:
        path = token_file(directory, token_line("slow", "s", scopes="export,read", upload=rate),
                          token_line("fast", "f", scopes="export,read"))
        with Here("--set", f"http.token_file={path}") as d:
            def send(token):
                head = upload(size).replace(b"\r\n\r\n", b"\r\nAuthorization: Bearer " + token + b"\r\n\r\n")
                raw = d.raw(head + b"x" * size)
                assert raw.reply().status in (200, 201)
                raw.close()
            send(b"f")
            paces = lambda: d.metric("pt2d_http_paces_total", direction="upload")
            d.get = lambda p, **more: d.request("GET", p, headers=bearer("f"), **more)  # metric()'s
            assert paces() == 0
            took = timed(lambda: send(b"s"))
            assert took > (size - rate) / rate - 0.5 and paces() > 0, took


def story_who_vanishes_or_is_stopped_while_paced_leaves_nothing():
    def sockets(d):
        n = 0
        for fd in os.listdir(f"/proc/{d.process.pid}/fd"):
            with contextlib.suppress(OSError):
                n += os.readlink(f"/proc/{d.process.pid}/fd/{fd}").startswith("socket:")
        return n
    with Here("--set", "http.upload_rate=1000", "--set", "daemon.grace=1 s") as d:
        before = sockets(d)
        raws = [d.raw(upload(500_000) + b"x" * 100_000) for _ in range(12)]
        until(lambda: d.metric("pt2d_http_requests_paced") == 12, "all wait, for minutes")
        for i, raw in enumerate(raws[:9]):
            (raw.close, raw.reset, raw.half_close)[i % 3]()
        until(lambda: sockets(d) <= before + 3, "those who went are gone, at once")
        assert d.metric("pt2d_http_requests_paced") == 3
        # three still are; the stop does not wait for them


# ---- connections ----

def story_one_address_has_its_share_of_connections():
    with Here("--set", "http.max_connections_per_client=4", "--set", "http.limit_local=yes") as d:
        held = [d.raw("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(4)]
        assert all(raw.reply().status == 200 for raw in held)
        refused = d.raw()
        reply = refused.reply()
        assert reply.status == 429 and reply.problem == "too-many-connections", reply
        assert int(reply.headers["Retry-After"]) > 0
        assert refused.is_closed()
        refused.close()
        other = from_another_address(d)
        assert other.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").reply().status == 200
        held[0].close()

        def again():
            raw = d.raw("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = raw.reply()
            raw.close()
            return answer if answer.status == 200 else None
        text = until(again, "a place is free again").text
        assert 'pt2d_http_refused_total{reason="connections"}' in text
        for raw in held[1:]:
            raw.close()
        other.close()


def story_this_machine_has_no_share_unless_it_is_said():
    with Here("--set", "http.max_connections_per_client=2") as d:
        held = [d.raw("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(6)]
        assert all(raw.reply().status == 200 for raw in held)
        for raw in held:
            raw.close()


def story_a_full_daemon_gives_idle_places_to_who_comes():
    with Here("--set", "http.max_connections=8") as d:
        silent = [d.raw() for _ in range(3)]
        slow = [d.raw("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ") for _ in range(5)]
        held = []
        for _ in range(7):  # each in time, though the slow ones have 30 s
            held.append(d.raw("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"))
            assert held[-1].reply().status == 200
        assert d.metric("pt2d_http_connections_displaced_total") >= 7
        assert d.metric("pt2d_http_connections") <= 8
        assert d.metric("pt2d_http_connections_limit") == 8
        assert d.metric("pt2d_http_timeouts_total") == 0, "none of them was late"
        for raw in silent + slow + held:
            raw.close()


def story_a_full_daemon_cuts_nobody_who_is_at_work():
    with Here("--set", "http.max_connections=4") as d:
        busy = [d.raw(upload(10) + b"12345") for _ in range(3)]
        until(lambda: d.metric("pt2d_http_uploads_active") == 3, "they upload")
        for _ in range(3):
            d.get("/healthz", expect=200)
        last = d.raw(upload(10) + b"12345")
        waits = d.raw("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        waits.sock.settimeout(2.5)  # longer than a connection is young
        try:
            waits.reply()
            assert False, "there was no room"
        except TimeoutError:
            waits.sock.settimeout(TIMEOUT)
        for raw in busy:
            assert raw.send(b"67890").reply().status in (200, 201)
        assert waits.reply().status == 200
        for raw in busy + [last, waits]:
            raw.close()


def story_what_json_becomes_has_the_memory_of_bodies():
    with Daemon("--set", "http.max_body_memory=8 MiB") as d:
        small = d.post("/v1/steps", body=b'{"steps": [' + b"{}," * 1000 + b"{}]}",
                       headers={"Content-Type": "application/json"})
        assert small.status in (400, 422), small
        large = d.post("/v1/steps", body=b'{"steps": [' + b"{}," * 100_000 + b"{}]}",
                       headers={"Content-Type": "application/json"})
        assert large.status == 413 and large.problem == "too-large", large
        assert "memory" in large.json["detail"], large
        until(lambda: d.metric("pt2d_http_body_bytes") == 0, "given back")


# ---- shares of one client, and what may wait ----

def refused(reply, problem, status=429):
    assert reply.status == status and reply.problem == problem, reply
    assert int(reply.headers["Retry-After"]) > 0, reply.headers
    return reply


def from_another_address(d):
    sock = socket.socket()
    sock.bind(("127.0.0.2", 0))
    sock.connect((d.host, d.port))
    return Raw(sock)


def story_one_address_has_its_share_of_sessions_and_exports():
    with Lab("--set", "http.limit_local=yes", "--set", "sessions.max_per_client=1",
             "--set", "exports.max_per_client=1", "--set", "http.max_followers=1") as d:
        program = d.program()
        d.session(program)
        body = {"program": program, "engine": "aten"}
        reply = refused(d.post("/v1/sessions", body), "token-limit")
        assert "127.0.0.1" in reply.json["detail"], reply
        text = json.dumps(body)
        other = from_another_address(d).send(
            f"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(text)}\r\n\r\n{text}")
        assert other.reply().status == 201
        other.close()

        job = d.export()
        refused(d.post("/v1/exports", {"model": "big", "cache": {"max_cache_len": 16}}), "token-limit")
        for reason in ("sessions", "exports"):
            assert d.metric("pt2d_http_refused_total", reason=reason) == 1

        stream = d.ask("GET", f"/v1/exports/{job}/events")
        assert stream.head()[0] == 200
        refused(d.get(f"/v1/exports/{job}?wait=60"), "queue-full")
        d.get(f"/v1/exports/{job}", expect=200)  # what does not wait is not counted
        assert d.metric("pt2d_http_followers") == 1
        assert d.metric("pt2d_http_followers_refused_total") == 1
        stream.reset()
        until(lambda: d.metric("pt2d_http_followers") == 0, "its place is free")
        d.let_exports_go()
        d.get(f"/v1/exports/{job}?wait=60", expect=200)


def elsewhere(d, head, body=b""):
    return from_another_address(d).send(f"{head} HTTP/1.1\r\nHost: x\r\n".encode() + body)


def story_one_address_has_half_of_the_uploads():
    with Here("--set", "http.limit_local=yes", "--set", "http.max_uploads=3") as d:
        held = [d.raw(upload(10) + b"1") for _ in range(2)]
        until(lambda: d.metric("pt2d_http_uploads_active") == 2, "two of three")
        reply = refused(d.raw(upload(600_000)).reply(), "token-limit")
        assert "127.0.0.1" in reply.json["detail"], reply
        other = from_another_address(d).send(upload(10) + b"1")
        until(lambda: d.metric("pt2d_http_uploads_active") == 3, "the third is another's")
        refused(from_another_address(d).send(upload(600_000)).reply(), "queue-full")
        assert d.metric("pt2d_http_refused_total", reason="uploads") == 1
        assert d.metric("pt2d_http_bodies_refused_total", why="uploads") == 1
        for raw in held + [other]:
            assert raw.send(b"x" * 9).reply().status in (200, 201)
            raw.close()
        until(lambda: d.metric("pt2d_http_uploads_active") == 0, "the end of the requests")


def story_one_address_has_half_of_the_bodies_and_what_is_only_said_takes_none():
    size = 3 << 20
    head = (f"POST /v1/exports HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Content-Length: {size}\r\n\r\n").encode()
    with Daemon("--set", "http.limit_local=yes", "--set", "http.max_body_memory=8 MiB") as d:
        reply = d.raw(head.replace(str(size).encode(), b"4194305")).reply()
        assert reply.status == 413 and "4194304" in reply.json["detail"], reply
        said = [d.raw(head) for _ in range(20)]
        until(lambda: d.metric("pt2d_http_requests_active") == 21, "all have begun")
        assert d.metric("pt2d_http_body_bytes") == 20 * 65536
        full = said[0].send(b" " * (5 << 19))
        until(lambda: d.metric("pt2d_http_body_bytes") >= 19 * 65536 + (5 << 19), "it came")
        assert refused(said[1].send(b" " * (5 << 19)).reply(), "memory-budget")
        assert d.metric("pt2d_http_refused_total", reason="body-memory") == 1
        other = from_another_address(d).send(head.replace(str(size).encode(), b"1000000") + b" " * 999_998 + b"{}")
        assert other.reply().status == 422
        for raw in said + [other]:
            raw.close()
        until(lambda: d.metric("pt2d_http_body_bytes") == 0, "given back")


def story_one_address_has_half_of_the_followers():
    with Lab("--set", "http.limit_local=yes", "--set", "http.max_followers=2") as d:
        job = d.export()
        path = f"/v1/exports/{job}?wait=60"
        first = d.ask("GET", path)
        until(lambda: d.metric("pt2d_http_followers") == 1, "it waits")
        refused(d.get(path), "token-limit")
        other = elsewhere(d, f"GET {path}", b"\r\n")
        until(lambda: d.metric("pt2d_http_followers") == 2, "another one may")
        refused(d.get(path), "queue-full")
        assert d.metric("pt2d_http_refused_total", reason="followers") == 1
        assert d.metric("pt2d_http_followers_refused_total") == 1
        d.let_exports_go()
        for raw in (first, other):
            assert raw.reply().json["state"] == "succeeded"
            raw.close()
        until(lambda: d.metric("pt2d_http_followers") == 0, "the end of the requests")


def filled(cache, n):
    """A cache file of one position, with n of them."""
    size, = struct.unpack("<Q", cache[:8])
    header, at = json.loads(cache[8:8 + size]), 0
    header["__metadata__"]["position"] = str(n)
    for name, tensor in header.items():
        if name != "__metadata__":
            tensor["shape"][2] = n
            bytes = 4
            for dim in tensor["shape"]:
                bytes *= dim
            tensor["data_offsets"] = [at, at + bytes]
            at += bytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"\0" * at


def story_answers_that_nobody_reads_are_bounded():
    with Lab("--set", "http.limit_local=yes", "--set", "http.max_answer_memory=40 MiB",
             "--set", "engine.threads=1") as d:
        d.let_exports_go()
        job = d.post("/v1/exports", {"model": "big", "cache": {"max_cache_len": 16384}}, expect=202).json["id"]
        until(lambda: d.get(f"/v1/exports/{job}?wait=60").json["state"] == "succeeded", "the program")
        session = d.session(job)
        d.post(f"/v1/sessions/{session}/step", {"input_ids": [[1]]}, expect=200)
        path = f"/v1/sessions/{session}/cache"
        d.request("PUT", path, body=filled(d.get(path, expect=200).body, 16000), expect=200)
        whole = d.get(path, expect=200).body
        assert len(whole) > 15 << 20
        held = lambda: d.metric("pt2d_http_answer_bytes")
        until(lambda: held() == 0, "it was read")
        first = d.ask("GET", path)
        until(lambda: held() == len(whole), "it is not read")
        for _ in range(8):
            reply = refused(d.get(path), "memory-budget")
            assert "127.0.0.1" in reply.json["detail"] and "Content-Disposition" not in reply.headers, reply
        other = elsewhere(d, f"GET {path}", b"\r\n")
        until(lambda: held() == 2 * len(whole), "another one's")
        refused(elsewhere(d, f"GET {path}", b"\r\n").reply(), "memory-budget")
        d.post(f"/v1/sessions/{session}/step", {"input_ids": [[1]], "logits": False, "top_k": 1}, expect=200)
        assert d.metric("pt2d_http_refused_total", reason="answer-memory") == 8
        assert d.metric("pt2d_http_answers_refused_total") == 1
        assert d.metric("pt2d_http_answer_limit_bytes") == 40 << 20
        assert first.reply().body == whole
        until(lambda: held() == len(whole), "one was read")
        d.get(path, expect=200)
        other.reset()
        until(lambda: held() == 0, "the other one's client has gone")


def story_a_step_whose_answer_finds_no_memory_does_nothing():
    with Lab("--set", "http.max_answer_memory=3 MiB", "--set", "engine.threads=1") as d:
        session = d.session(d.program())
        path = f"/v1/sessions/{session}/step"
        steps = {"input_ids": [list(range(40))], "rows": "all"}
        reply = d.post(path, steps, expect=422)
        assert reply.problem == "answer-too-large" and "max_answer_memory" in reply.json["detail"], reply
        many = d.post("/v1/steps", {"steps": [{"session": session, **steps}]}, expect=200).json["results"][0]
        assert many["status"] == 422 and many["body"]["type"] == "/problems/answer-too-large", many
        assert d.get(f"/v1/sessions/{session}", expect=200).json["position"] == 0, "nothing was done"
        raw = d.post(path, steps, headers={"Accept": "application/octet-stream"}, expect=200)
        assert len(raw.body) == 40 * 8192 * 4
        assert d.post(path, {"input_ids": [[1]]}, expect=200).json["position"] == 41
        d.post("/v1/steps", {"steps": [{"session": session, "input_ids": [[1]]}]}, expect=200)
        until(lambda: d.metric("pt2d_http_answer_bytes") == 0, "all of it is given back")


def story_rows_are_bounded():
    with Lab("--set", "http.max_idempotency_keys=4", "--set", "programs.max_aliases=1",
             "--set", "exports.max_kept=2") as d:
        program = d.program()
        d.put("/v1/aliases/one", {"program": program}, expect=201)
        refused(d.put("/v1/aliases/two", {"program": program}), "queue-full")
        d.put("/v1/aliases/one", {"program": program}, expect=200)

        body = {"program": program, "engine": "aten"}
        keyed = [{"Idempotency-Key": f"k{i}"} for i in range(3)]
        first = d.post("/v1/sessions", body, headers=keyed[0], expect=201).json["id"]
        d.post("/v1/sessions", body, headers=keyed[1], expect=201)
        refused(d.post("/v1/sessions", body, headers=keyed[2]), "token-limit")
        assert d.metric("pt2d_http_refused_total", reason="idempotency-keys") == 1
        d.post("/v1/sessions", body, expect=201)  # without a key all goes on
        again = d.post("/v1/sessions", body, headers=keyed[0], expect=201)
        assert again.json["id"] == first and again.headers["Idempotency-Replayed"] == "true"
        d.delete(f"/v1/sessions/{first}", expect=204)
        d.post("/v1/sessions", body, headers=keyed[0], expect=201)  # the key is free again
        assert d.metric("pt2d_idempotency_keys_limit") == 4 and d.metric("pt2d_aliases_limit") == 1
        until(lambda: d.metric("pt2d_idempotency_keys") == 2 and d.metric("pt2d_aliases") == 1,
              "the gauges show it", timeout=30)

        d.let_exports_go()
        jobs = []
        for n in (17, 18, 19):
            job = d.post("/v1/exports", {"model": "big", "cache": {"max_cache_len": n}}, expect=202).json["id"]
            d.get(f"/v1/exports/{job}?wait=60", expect=200)
            jobs.append(job)
        until(lambda: d.get(f"/v1/exports/{jobs[0]}").status == 404, "the oldest is forgotten")
        assert [j["id"] for j in d.get("/v1/exports", expect=200).json["data"]] == [jobs[2], jobs[1]]


def story_calls_that_wait_are_bounded_in_number_and_time():
    with Lab("--set", "sessions.max_waiting_all=2", "--set", "sessions.max_wait=12 s") as d:
        program = d.program()
        sessions = [d.session(program) for _ in range(2)]
        for session in sessions:
            d.post(f"/v1/sessions/{session}/step", {"input_ids": [[1]]}, expect=200)
        with d.frozen_worker():
            first = d.step(sessions[0])
            until(lambda: d.metric("pt2d_session_calls_running") == 1, "it runs")
            waiting = [d.step(session) for session in sessions]
            until(lambda: d.metric("pt2d_session_calls_waiting") == 2, "two wait")
            refused(d.post(f"/v1/sessions/{sessions[1]}/step", {"input_ids": [[1]]}), "queue-full")
            many = d.post("/v1/steps", {"steps": [{"session": sessions[1], "input_ids": [[1]]}]}, expect=200)
            assert many.json["results"][0]["status"] == 429
            assert d.metric("pt2d_session_calls_refused_total", queue="all") == 2
            assert d.metric("pt2d_session_calls_limit") == 2
            for raw in waiting:
                refused(raw.reply(), "not-in-time", 503)
                raw.close()
            assert d.metric("pt2d_session_calls_late_total") == 2
        assert first.reply().json["position"] == 2  # what has begun goes on
        first.close()
        assert d.get(f"/v1/sessions/{sessions[1]}").json["position"] == 1, "nothing was done"
        reply = d.post(f"/v1/sessions/{sessions[1]}/step", {"input_ids": [[1]]}, expect=200)
        assert reply.json["position"] == 2


def story_one_address_has_half_of_the_calls_that_wait():
    with Lab("--set", "http.limit_local=yes", "--set", "sessions.max_waiting_all=3") as d:
        program = d.program()
        session, other = d.session(program), d.session(program)
        for one in (session, other):
            d.post(f"/v1/sessions/{one}/step", {"input_ids": [[1]]}, expect=200)
        with d.frozen_worker():
            calls = [d.step(session)]
            until(lambda: d.metric("pt2d_session_calls_running") == 1, "it runs")
            calls += [d.step(one) for one in (session, other)]
            until(lambda: d.metric("pt2d_session_calls_waiting") == 2, "two wait")
            reply = refused(d.post(f"/v1/sessions/{other}/step", {"input_ids": [[1]]}), "token-limit")
            assert "127.0.0.1" in reply.json["detail"], reply
            refused(d.post("/v1/sessions", {"program": program, "engine": "aten"}), "token-limit")
            body = b'{"input_ids": [[1]]}'
            step = (f"POST /v1/sessions/{other}/step", b"Content-Type: application/json\r\n"
                    b"Content-Length: %d\r\n\r\n" % len(body) + body)
            calls.append(elsewhere(d, *step))
            until(lambda: d.metric("pt2d_session_calls_waiting") == 3, "another one's may")
            refused(elsewhere(d, *step).reply(), "queue-full")
            assert d.metric("pt2d_http_refused_total", reason="calls") == 2
            gone = calls.pop(1)
            gone.close()
            until(lambda: d.metric("pt2d_session_calls_waiting") == 2, "its place is free")
            calls.append(d.step(session))
            until(lambda: d.metric("pt2d_session_calls_waiting") == 3, "and taken")
        for raw in calls:
            assert raw.reply().status == 200
            raw.close()
        assert d.metric("pt2d_sessions") == 2


def story_bad_clients_of_all_kinds_hold_nobody_up_and_leave_nothing():
    """More than there is room for: headers and bodies that dribble, readers that take no byte,
    half-closed ones, silent ones; then all of them vanish at once."""
    with Lab("--set", "http.max_connections=130") as d:
        program = d.program()
        session, other = d.session(program), d.session(program)
        for one in (session, other):
            d.post(f"/v1/sessions/{one}/step", {"input_ids": [[1]]}, expect=200)
        job, fds = d.export(), d.fds()
        socks = slow_clients.torment(d, slow_clients.openings(d, program, other, job), 154)
        for _ in range(3):
            slow_clients.dribble(socks)
            d.get("/healthz", expect=200)
            d.post(f"/v1/sessions/{session}/step", {"input_ids": [[1]]}, expect=200)
        assert d.metric("pt2d_http_connections") <= 130
        assert d.metric("pt2d_http_connections_displaced_total") > 0
        slow_clients.vanish(socks)
        d.rest(fds)
        assert d.get(f"/v1/exports/{job}").json["state"] == "running"
        d.let_exports_go()


if __name__ == "__main__":
    main(globals())
