#!/usr/bin/env python3
"""Clients that vanish: while they wait, upload or download, and while the daemon stops."""

import collections
import contextlib
import json
import os
import random
import signal
import socket
import struct
import time

from harness import BUILD, Daemon, Raw, TIMEOUT, main, until

# In place of pt2-export: waits for the file `go`, then is pt2-export.
WAITING_EXPORT = """#!/bin/sh
n=1
while [ ! -e "{go}" ]; do
    echo "{{\\"progress\\": {{\\"stage\\": \\"weights\\", \\"done\\": $n, \\"total\\": 9}}}}"
    n=$((n % 8 + 1))
    sleep 0.05
done
exec "{build}/pt2-export" "$@"
"""


def write_model(directory, hidden=256, vocab=8192):
    """A llama whose program has some 16 MB: more than sockets hold back."""
    os.makedirs(directory)
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden,
              "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2,
              "num_hidden_layers": 1, "vocab_size": vocab, "max_position_embeddings": 64,
              "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": False,
              "dtype": "float32"}
    half, at, header = hidden // 2, 0, {}
    layer = "model.layers.0."
    shapes = {"model.embed_tokens.weight": [vocab, hidden], "lm_head.weight": [vocab, hidden],
              "model.norm.weight": [hidden], layer + "input_layernorm.weight": [hidden],
              layer + "post_attention_layernorm.weight": [hidden],
              layer + "self_attn.q_proj.weight": [hidden, hidden],
              layer + "self_attn.k_proj.weight": [half, hidden],
              layer + "self_attn.v_proj.weight": [half, hidden],
              layer + "self_attn.o_proj.weight": [hidden, hidden],
              layer + "mlp.gate_proj.weight": [64, hidden], layer + "mlp.up_proj.weight": [64, hidden],
              layer + "mlp.down_proj.weight": [hidden, 64]}
    for name, shape in shapes.items():
        n = 4 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(directory, "config.json"), "w") as f:
        json.dump(config, f)
    with open(os.path.join(directory, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + struct.pack("<f", 0.01) * (at // 4))


class Lab(Daemon):
    """A daemon whose exports wait until they are told to go on, with a model of its own."""

    def __init__(self, *flags):
        # A sanitizer's shadow needs more address space than an export's process gets.
        super().__init__("--set", "exports.max_memory=0", "--set", "daemon.grace=1 s", *flags)
        self.go = os.path.join(self.directory, "go")
        self.env = {"PT2_LIBEXEC": os.path.join(self.directory, "libexec")}
        self.models = os.path.join(self.directory, "models")
        write_model(os.path.join(self.models, "big"))
        os.mkdir(self.env["PT2_LIBEXEC"])
        os.symlink(os.path.join(BUILD, "pt2-aten"), os.path.join(self.env["PT2_LIBEXEC"], "pt2-aten"))
        path = os.path.join(self.env["PT2_LIBEXEC"], "pt2-export")
        with open(path, "w") as f:
            f.write(WAITING_EXPORT.format(go=self.go, build=BUILD))
        os.chmod(path, 0o755)

    def let_exports_go(self, on=True):
        if on:
            open(self.go, "w").close()
        else:
            os.unlink(self.go)

    def export(self, length=32):
        """A job that runs, and waits."""
        job = self.post("/v1/exports", {"model": "big", "cache": {"max_cache_len": length}},
                        expect=202).json
        until(lambda: (self.get(f"/v1/exports/{job['id']}").json["progress"] or {})
              .get("stage") == "weights", "the export's process speaks")
        return job["id"]

    def program(self):
        self.let_exports_go()
        job = self.post("/v1/exports", {"model": "big"}, expect=202).json["id"]
        until(lambda: self.get(f"/v1/exports/{job}?wait=60").json["state"] == "succeeded", "the program")
        self.let_exports_go(False)
        program = self.get(f"/v1/exports/{job}").json["program"]
        # a worker tries it out, which is none of a session's
        until(lambda: self.get(f"/v1/programs/{program}", expect=200).json["engines"]["aten"]["ok"] is not None,
              "the engines' verdicts")
        return program

    def session(self, program):
        return self.post("/v1/sessions", {"program": program, "engine": "aten"}, expect=201).json["id"]

    def fds(self):
        """What is open: its names, in order."""
        names = []
        for fd in os.listdir(f"/proc/{self.process.pid}/fd"):
            with contextlib.suppress(OSError):
                name = os.readlink(f"/proc/{self.process.pid}/fd/{fd}")
                names.append("socket" if name.startswith("socket:") else name)
        return sorted(names)

    def children(self, name):
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                with open(f"/proc/{pid}/stat") as f:
                    head, _, tail = f.read().rpartition(") ")
                if int(tail.split()[1]) == self.process.pid and head.split("(", 1)[1] == name:
                    found.append(int(pid))
        return found

    @contextlib.contextmanager
    def frozen_worker(self):
        """While the program's worker stands still, so that its step runs for ever."""
        worker, = until(lambda: len(found := self.children("pt2-aten")) == 1 and found, "its worker")
        os.kill(worker, signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGCONT)

    def is_at_rest(self, fds):
        """Nothing of a request is left: connections, bodies, descriptors."""
        wanted = {"pt2d_http_connections": 1, "pt2d_http_requests_suspended": 0,
                  "pt2d_http_requests_active": 1, "pt2d_http_uploads_active": 0,
                  "pt2d_http_body_bytes": 0, "pt2d_http_answer_bytes": 0,
                  "pt2d_session_calls_waiting": 0}
        self.busy = {name: n for name in wanted if (n := self.metric(name)) != wanted[name]}
        if more := collections.Counter(self.fds()) - collections.Counter(fds):
            self.busy["open"] = dict(more)
        return not self.busy

    def rest(self, fds):
        try:
            until(lambda: self.is_at_rest(fds), "at rest")
        except AssertionError:
            raise AssertionError(f"not at rest: {self.busy}") from None

    def ask(self, method, path, body=None):
        """A request whose answer is not waited for."""
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\n"
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
        return self.raw(head.encode() + b"\r\n" + data)

    def step(self, session):
        return self.ask("POST", f"/v1/sessions/{session}/step", {"input_ids": [[1]], "logits": False})


def temporary_files(d):
    paths = [os.path.relpath(os.path.join(base, f), d.state)
             for base, _, files in os.walk(d.state) for f in files]
    return [path for path in paths if "tmp" in path]


def check_half_closed(raw, status):
    """Who half-closes counts as gone, and may get an answer or none; never half of one."""
    answer = raw.rest()
    raw.close()
    assert answer == b"" or (answer.startswith(b"HTTP/1.1 " + status) and answer.endswith(b"}\n")) or \
        (answer.startswith(b"HTTP/1.1 " + status) and answer.endswith(b"}")), answer


def story_a_long_poll_whose_client_vanishes_is_let_go():
    with Lab() as d:
        job, fds = d.export(), d.fds()
        polls = [d.ask("GET", f"/v1/exports/{job}?wait=60") for _ in range(24)]
        until(lambda: d.metric("pt2d_http_requests_suspended") == 24, "all wait")
        for i, poll in enumerate(polls):
            (poll.close, poll.reset, poll.half_close)[i % 3]()
        for poll in polls[2::3]:
            check_half_closed(poll, b"200")
        d.rest(fds)
        assert d.metric("pt2d_http_requests_cancelled_total", why="client gone") == 24
        assert d.get(f"/v1/exports/{job}").json["state"] == "running"
        last = d.ask("GET", f"/v1/exports/{job}?wait=60")
        d.let_exports_go()
        assert last.reply().json["state"] == "succeeded"


def story_an_event_stream_whose_client_vanishes_is_let_go():
    with Lab() as d:
        job, fds = d.export(), d.fds()
        streams = [d.ask("GET", f"/v1/exports/{job}/events") for _ in range(24)]
        for stream in streams:
            status, headers = stream.head()
            assert status == 200 and ("Content-Type", "text/event-stream") in headers, headers
            assert stream.line() and stream.line().startswith("id: "), "the first event"
        for i, stream in enumerate(streams):
            (stream.close, stream.reset, stream.half_close)[i % 3]()
        for stream in streams[2::3]:
            stream.rest()
            stream.close()
        d.rest(fds)
        assert d.get(f"/v1/exports/{job}").json["state"] == "running"
        d.let_exports_go()


def story_a_step_whose_client_vanishes_before_it_begins_gives_its_place_up():
    with Lab() as d:
        session = d.session(d.program())
        d.post(f"/v1/sessions/{session}/step", {"input_ids": [[1]]}, expect=200)
        fds = d.fds()
        with d.frozen_worker():
            steps = [d.step(session)]
            until(lambda: d.metric("pt2d_session_calls_running") == 1, "the first runs")
            for i in range(1, 8):
                steps.append(d.step(session))
                until(lambda: d.metric("pt2d_session_calls_waiting") == i, "one more waits")
            steps[2].close()
            steps[3].reset()
            steps[5].half_close()
            until(lambda: d.metric("pt2d_session_calls_waiting") == 4, "three have gone")
            check_half_closed(steps[5], b"409")
        for i in (0, 1, 4, 6, 7):
            assert steps[i].reply().json["position"] > 1
            steps[i].close()
        assert d.get(f"/v1/sessions/{session}").json["position"] == 1 + 5
        d.rest(fds)


def story_a_step_whose_client_vanishes_while_it_runs_leaves_a_good_session():
    with Lab() as d:
        session = d.session(d.program())
        d.post(f"/v1/sessions/{session}/step", {"input_ids": [[1]]}, expect=200)
        fds = d.fds()
        for vanish in (Raw.close, Raw.reset):
            before = d.get(f"/v1/sessions/{session}").json["position"]
            with d.frozen_worker():
                step = d.step(session)
                until(lambda: d.metric("pt2d_session_calls_running") == 1, "it runs")
                vanish(step)
            after = d.get(f"/v1/sessions/{session}").json["position"]
            assert after in (before, before + 1), (before, after)
            reply = d.post(f"/v1/sessions/{session}/step", {"input_ids": [[2]]}, expect=200)
            assert reply.json["cache_position"] == [after]
            d.rest(fds)


def story_an_upload_whose_client_vanishes_leaves_nothing():
    with Lab() as d:
        program = d.program()
        data = d.get(f"/v1/programs/{program}/file", expect=200).body
        d.delete(f"/v1/programs/{program}", expect=204)
        fds = d.fds()
        heads = [f"POST /v1/programs HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n",
                 f"PUT /v1/programs/{program} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n",
                 "POST /v1/programs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
                 "POST /v1/exports HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                 "Content-Length: 100000\r\n\r\n"]
        for head in heads:
            for n in (0, 10, 70000, len(data) - 1):
                for vanish in (Raw.close, Raw.reset, Raw.half_close):
                    part = data[:min(n, 99999) if "exports" in head else n]
                    if "chunked" in head and n:
                        part = f"{len(data):x}\r\n".encode() + part
                    raw = d.raw(head.encode() + part)
                    vanish(raw)
                    if vanish is Raw.half_close:  # it may say why, but never that it has it
                        answer = raw.rest()
                        assert b" 200 " not in answer and b" 201 " not in answer, answer
                        assert b" 500 " not in answer, answer
                        raw.close()
        d.rest(fds)
        until(lambda: not temporary_files(d), "no temporary file")
        assert d.get("/v1/programs").json["data"] == []
        d.request("PUT", f"/v1/programs/{program}", body=data, expect=201)


def story_a_download_whose_client_vanishes_lets_the_file_go():
    with Lab() as d:
        program = d.program()
        path = f"/v1/programs/{program}/file"
        whole = d.get(path, expect=200).body
        assert len(whole) > 16 << 20
        fds = d.fds()
        readers = []
        for _ in range(12):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            sock.connect((d.host, d.port))
            reader = Raw(sock).send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
            assert reader.head()[0] == 200
            reader.exactly(1000)
            readers.append(reader)
        assert sum(program in name for name in d.fds()) >= 12, "the file is open"
        for i, reader in enumerate(readers):
            (reader.close, reader.reset)[i % 2]()
        d.rest(fds)
        half = d.raw(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
        assert half.head()[0] == 200
        half.half_close()  # it still reads
        assert half.rest() == whole
        half.close()
        d.delete(f"/v1/programs/{program}", expect=204)
        d.rest(fds)


def story_pipelined_requests_of_a_client_that_vanishes_are_let_go():
    with Lab() as d:
        job, fds = d.export(), d.fds()
        request = f"GET /v1/exports/{job}?wait=60 HTTP/1.1\r\nHost: x\r\n\r\n"
        polls = [d.raw(request * 3) for _ in range(9)]
        until(lambda: d.metric("pt2d_http_requests_suspended") == 9, "the first ones wait")
        for i, poll in enumerate(polls):
            (poll.close, poll.reset)[i % 2]()
        d.rest(fds)
        d.let_exports_go()


def story_clients_that_vanish_at_any_moment_leave_nothing():
    seed = int(os.environ.get("PT2_TEST_SEED") or random.randrange(1 << 32))
    print(f"seed {seed} (PT2_TEST_SEED)")
    rng = random.Random(seed)
    with Lab("--set", "http.threads=4") as d:
        session = d.session(d.program())
        job = d.export()
        fds = d.fds()
        paths = [f"GET /v1/exports/{job}?wait=60", f"GET /v1/exports/{job}/events", "GET /v1/models",
                 f"GET /v1/sessions/{session}", f"GET /v1/sessions/{session}/cache", "GET /metrics",
                 "step", "upload"]
        open_ones = []
        for _ in range(400):
            what = rng.choice(paths)
            if what == "step":
                raw = d.step(session)
            elif what == "upload":
                raw = d.raw(b"POST /v1/programs HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n" +
                            b"x" * rng.randrange(600000))
            else:
                raw = d.ask(*what.split(" "))
            open_ones.append(raw)
            while len(open_ones) > rng.randrange(1, 60):
                gone = open_ones.pop(rng.randrange(len(open_ones)))
                with contextlib.suppress(OSError):
                    rng.choice((gone.close, gone.reset, gone.half_close))()
                gone.sock.close()
        for raw in open_ones:
            raw.close()
        d.rest(fds)
        d.get(f"/v1/sessions/{session}", expect=200)
        d.let_exports_go()
        until(lambda: d.get(f"/v1/exports/{job}").json["state"] == "succeeded", "the export")


# ---- while the daemon stops ----

def suspend_many(d, session):
    """Requests of every kind that wait: (kind, connection)."""
    job = d.export(length=31)
    waiting = [("poll", d.ask("GET", f"/v1/exports/{job}?wait=60")) for _ in range(20)]
    waiting += [("events", d.ask("GET", f"/v1/exports/{job}/events")) for _ in range(20)]
    waiting.append(("step", d.step(session)))
    until(lambda: d.metric("pt2d_session_calls_running") == 1, "a step runs")
    waiting += [("step", d.step(session)) for _ in range(14)]
    head = b"POST /v1/programs HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n"
    waiting += [("upload", d.raw(head + b"x" * 600000)) for _ in range(5)]
    # and the one that asks; suspended are fewer while streams send their events
    until(lambda: d.metric("pt2d_http_requests_active") == len(waiting) + 1, "all are there")
    until(lambda: d.metric("pt2d_session_calls_waiting") == 14, "the steps wait")
    until(lambda: d.metric("pt2d_http_pool_queue_length") == 0, "what they ask is known")
    return waiting


def check_answer(kind, raw):
    """What a client hears that stayed until the end."""
    if kind == "events":
        assert raw.rest().endswith(b"0\r\n\r\n"), "the stream ends as it should"
        return
    if kind == "upload":
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            answer = raw.rest()
        assert answer == b"" or b" 503 " in answer.split(b"\r\n")[0], answer
        return
    reply = raw.reply()
    if kind == "poll":  # it runs, or was handed back already
        assert reply.status == 200 and reply.json["state"] in ("running", "queued"), reply
    else:
        assert reply.status in (200, 503), reply
        assert reply.status == 200 or reply.problem == "draining", reply


def stop_with_many(seed, grace_s, twice):
    rng = random.Random(seed)
    with Lab("--set", f"daemon.grace={grace_s} s") as d:
        session = d.session(d.program())
        d.post(f"/v1/sessions/{session}/step", {"input_ids": [[1]]}, expect=200)
        with d.frozen_worker():
            waiting = suspend_many(d, session)
            workers = d.children("pt2-aten") + d.children("pt2-export")
            assert len(workers) == 2, (workers, d.children("pt2-aten"))
            vanishing = rng.sample(waiting, 30)
            begin = time.monotonic()
            for _, raw in vanishing[:10]:
                rng.choice((raw.close, raw.reset))()
            d.signal(signal.SIGTERM)
            for _, raw in vanishing[10:]:
                rng.choice((raw.close, raw.reset))()
                time.sleep(rng.random() * 0.01)
            if twice:
                d.signal(signal.SIGTERM)
            status = d.process.wait(TIMEOUT)
            took = time.monotonic() - begin
            assert status == 0, f"ended with {status}"
            # What it gives answers to leave, and a slow machine, on top.
            assert took < (1 if twice else grace_s) + 5 + TIMEOUT / 4, f"{took} s"
            for pair in waiting:
                if pair not in vanishing:
                    check_answer(*pair)
                    pair[1].close()
            until(lambda: not any(is_alive(pid) for pid in workers), "the workers end")
        d.process = None
        d.start()  # the export is taken up again
        job, = (job for job in d.get("/v1/exports").json["data"] if job["state"] in ("queued", "running"))
        assert d.get("/v1/sessions", expect=200).json["data"] == []
        assert d.get(f"/v1/sessions/{session}", expect=404).problem == "session-lost"
        d.let_exports_go()
        until(lambda: d.get(f"/v1/exports/{job['id']}").json["state"] == "succeeded", "the export")
        until(lambda: not temporary_files(d), "no temporary file")


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


def story_a_stop_with_many_that_wait_and_some_that_vanish_ends_well():
    seed = int(os.environ.get("PT2_TEST_SEED") or random.randrange(1 << 32))
    print(f"seed {seed} (PT2_TEST_SEED)")
    stop_with_many(seed, grace_s=1, twice=False)


def story_a_second_signal_ends_the_wait():
    seed = int(os.environ.get("PT2_TEST_SEED") or random.randrange(1 << 32))
    print(f"seed {seed} (PT2_TEST_SEED)")
    stop_with_many(seed, grace_s=600, twice=True)


if __name__ == "__main__":
    main(globals())
