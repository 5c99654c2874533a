#!/usr/bin/env python3
"""test_pt2ctl.py - the client: what it prints, brings here and exits with."""

import contextlib
import hashlib
import http.server
import json
import os
import pty
import re
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import threading

from harness import BUILD, MODELS, TIMEOUT, Daemon, main, until

CTL = os.path.join(BUILD, "pt2ctl")
OK, REFUSED, USAGE, UNREACHABLE, BROKEN, FILE, MISSING, INTERRUPTED = 0, 1, 2, 3, 4, 5, 6, 130
LIMIT = 2 * TIMEOUT


def environment(server, **more):
    env = {k: v for k, v in os.environ.items() if k not in ("PT2_SERVER", "PT2_TOKEN")}
    return dict(env, PT2_SERVER=server, **more)


def ctl(d, *args, expect=OK, **more):
    """Run pt2ctl against d (a daemon or an address); the finished process, text in and out."""
    server = d if isinstance(d, str) else d.address
    done = subprocess.run([CTL, *args], env=environment(server), capture_output=True,
                          stdin=subprocess.DEVNULL, timeout=LIMIT, **more)
    out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    assert done.returncode == expect, \
        f"{args}: exit {done.returncode}, not {expect}\n{out[-2000:]}\n{err[-4000:]}"
    assert "Sanitizer" not in err and "runtime error" not in err, err
    done.out, done.err = out, err
    return done


def ctl_json(d, *args, **more):
    return json.loads(ctl(d, "--json", *args, **more).out)


def exported(d, *more):
    """The bundled model as a program; the id.  The second time it is there already."""
    return ctl_json(d, "export", "demo", "--max-cache-len", "64", *more)["program"]


@contextlib.contextmanager
def folder():
    path = tempfile.mkdtemp(prefix="pt2ctl-test-")
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def digest(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


# ---- commands ----

def story_models(d):
    assert re.search(r"^demo +llama .* yes", ctl(d, "models").out, re.M)
    models = ctl_json(d, "models")
    assert [m["id"] for m in models] == ["demo"], models
    assert ctl_json(d, "models", "demo")["vocab_size"] == 258
    assert "llama" in ctl(d, "models", "demo").out
    assert "nope" in ctl(d, "models", "nope", expect=MISSING).err
    problem = json.loads(ctl(d, "--json", "models", "nope", expect=MISSING).err)
    assert problem["status"] == 404, problem


def story_export_brings_the_program(d):
    with folder() as dir:
        path = os.path.join(dir, "a.pt2")
        done = ctl(d, "export", "demo", "--max-cache-len", "64", "--label", "build=7",
                   "--alias", "told", "-o", path)
        id = re.search(r"^program +([0-9a-f]{64})$", done.out, re.M)[1]
        assert digest(path) == id and os.listdir(dir) == ["a.pt2"]
        assert stat.S_IMODE(os.stat(path).st_mode) & 0o111 == 0
        again = ctl_json(d, "export", "demo", "--max-cache-len", "64", "-o", path)
        assert again["cached"] and again["program"] == id, again
        assert again["file"]["resumed"] == again["file"]["bytes"] == os.path.getsize(path)
        assert ctl_json(d, "programs", "told")["id"] == id
        with open(path, "wb") as f:
            f.write(b"another file of that name")
        ctl(d, "programs", "told", "-o", path)
        assert digest(path) == id and os.listdir(dir) == ["a.pt2"]
        ctl(d, "aliases", "told", "--delete")
        ctl(d, "programs", "told", expect=MISSING)


def story_export_brings_the_pte(d):
    with folder() as dir:
        path = os.path.join(dir, "a.pte")
        done = ctl(d, "export", "demo", "--max-cache-len", "64", "--format", "pte", "-o", path)
        sha256 = re.search(r"^pte +([0-9a-f]{64})$", done.out, re.M)[1]
        assert digest(path) == sha256 and "its SHA-256 is the pte's" in done.out, done.out
        again = ctl_json(d, "export", "demo", "--max-cache-len", "64", "--format", "pte", "-o", path)
        assert again["pte"]["sha256"] == sha256 and again["file"]["resumed"] == again["pte"]["bytes"]
        with open(path, "wb") as f:
            f.write(b"another file of that name")
        told = ctl_json(d, "export", "demo", "--max-cache-len", "64", "--format", "pte",
                        "--pte-backend", "portable", "-o", path)
        assert told["pte"]["backend"] == "portable" and digest(path) == told["pte"]["sha256"] != sha256
        assert os.listdir(dir) == ["a.pte"]
    assert re.search(r"^pte_bytes +\d+ \(", ctl(d, "export", "demo", "--format", "pte", "-n").out, re.M)
    assert "pte_bytes" not in ctl(d, "export", "demo", "-n").out
    ctl(d, "export", "demo", "--pte-backend", "portable", expect=REFUSED)


def story_export_shows_progress_on_a_terminal(d):
    parent, child = pty.openpty()
    process = subprocess.Popen([CTL, "export", "demo", "--max-cache-len", "17"],
                               env=environment(d.address), stdout=subprocess.PIPE,
                               stderr=child, stdin=subprocess.DEVNULL)
    os.close(child)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: the other end is closed
        while data := os.read(parent, 4096):
            shown += data
    os.close(parent)
    out, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == OK and b"succeeded" in out, (out, shown)
    assert b"\r" in shown or b"\n" in shown, shown
    assert ctl(d, "--quiet", "export", "demo", "--max-cache-len", "18").err == ""


def story_export_is_refused(d):
    done = ctl(d, "export", "demo", "--dtype", "int3", expect=REFUSED)
    assert "/dtype" in done.err, done.err
    ctl(d, "export", "nope", expect=MISSING)
    with folder() as dir:
        path = os.path.join(dir, "a.pt2")
        ctl(d, "export", "demo", "--dtype", "int3", "-o", path, expect=REFUSED)
        ctl(d, "export", "demo", "-o", path, "--no-wait", expect=USAGE)
        ctl(d, "export", "demo", "--alias", "a", "--dry-run", expect=USAGE)
        assert os.listdir(dir) == []
    answer = ctl_json(d, "export", "demo", "--dry-run", "--max-cache-len", "32")
    assert answer["options"]["cache"]["max_cache_len"] == 32, answer
    told = ctl_json(d, "export", "demo", "--dry-run", "--profile", "edge", "--logits-to-keep", "last",
                    "--cache-implementation", "hybrid")["options"]
    assert (told["profile"], told["logits_to_keep"], told["cache"]["implementation"]) == (
        "edge", "last", "hybrid"), told
    told = ctl_json(d, "export", "demo", "--dry-run", "--profile", "edge", "--custom-ops")["options"]
    assert told["custom_ops"] is True, told
    ctl(d, "export", "demo", "--dry-run", "--custom-ops", expect=REFUSED)  # profile torch
    assert "program_bytes" in ctl(d, "export", "demo", "--dry-run").out
    ctl(d, "export", "demo", "--alias", "exp_no", "--max-cache-len", "64", expect=REFUSED)


def story_exports(d):
    job = ctl_json(d, "export", "demo", "--max-cache-len", "19", "--label", "who=me",
                   "--no-wait")
    until(lambda: ctl_json(d, "exports", job["id"])["state"] == "succeeded", "the job")
    assert [j["id"] for j in ctl_json(d, "exports", "--label", "who=me")] == [job["id"]]
    assert job["id"] in ctl(d, "exports", "--state", "succeeded").out
    assert ctl_json(d, "exports", "--state", "failed") == []
    ctl(d, "exports", "--state", "happy", expect=REFUSED)
    ctl(d, "exports", job["id"], "--cancel", expect=REFUSED)
    ctl(d, "exports", job["id"], "--delete")
    ctl(d, "exports", job["id"], expect=MISSING)


def story_programs_come_and_go():
    with Daemon() as d, folder() as dir:
        path = os.path.join(dir, "a.pt2")
        id = exported(d, "-o", path)
        with Daemon() as other:
            assert ctl_json(other, "programs") == []
            assert "no programs" in ctl(other, "programs").out
            assert ctl_json(other, "programs", "--upload", path)["id"] == id
            assert ctl_json(other, "programs", "--upload", path)["id"] == id
            assert id[:12] in ctl(other, "programs").out
            assert ctl_json(other, "programs", id[:9])["id"] == id
            ctl(other, "programs", id[:9], "--pin")
            assert ctl_json(other, "programs", id)["pinned"] and "pinned" in ctl(other, "programs", id).out
            ctl(other, "programs", id[:9], "--unpin")
            assert not ctl_json(other, "programs", id)["pinned"]
            ctl(other, "programs", id, "--pin", "--delete", expect=USAGE)
            ctl(other, "programs", "--pin", expect=USAGE)
            ctl(other, "programs", id[:9], "--delete")
            assert ctl_json(other, "programs") == []
            ctl(other, "programs", id, "--delete", expect=MISSING)
            with open(path, "r+b") as f:
                f.truncate(5000)
            ctl(other, "programs", "--upload", path, expect=REFUSED)
            ctl(other, "programs", "--upload", dir, expect=FILE)
            ctl(other, "programs", "--upload", path + ".no", expect=FILE)
            ctl(other, "programs", "--upload", path, "x", expect=USAGE)
            assert ctl_json(other, "programs") == []


def story_inspect(d):
    with folder() as dir:
        path = os.path.join(dir, "a.pt2")
        id = exported(d, "-o", path)
        for what in path, id:
            assert ctl_json(d, "inspect", what)["id"] == id
            assert "cache" in ctl(d, "inspect", what).out
            assert "linear" in ctl(d, "inspect", what, "--graph").out
            assert " = attend(" in ctl(d, "inspect", what, "--plan").out
        assert "models/model.json" in ctl(d, "inspect", path, "--records").out
        ctl(d, "inspect", path, "--records", "--plan", expect=USAGE)
        # a file is read without a daemon
        assert ctl_json("http://127.0.0.1:1", "inspect", path)["id"] == id
        with open(path, "r+b") as f:
            f.seek(-30, os.SEEK_END)
            f.write(b"\xff" * 30)
        assert "a.pt2" in ctl(d, "inspect", path, expect=FILE).err


def story_inspect_of_a_pte():
    nobody = "http://127.0.0.1:1"
    with folder() as dir:
        path = os.path.join(dir, "a.pte")
        subprocess.run([os.path.join(BUILD, "pt2-export"), os.path.join(MODELS, "demo"), "-q", "-o", path,
                        "--format", "pte"], check=True, stdout=subprocess.DEVNULL)
        told = ctl_json(nobody, "inspect", path)
        assert told["sha256"] == digest(path) and told["bytes"] == os.path.getsize(path)
        forward, *constants = told["methods"]
        assert forward["name"] == "forward" and len(forward["delegates"]) == 7, forward
        assert forward["inputs"] == [{"dtype": "int64", "shape": [1, 1]},
                                     {"dtype": "int64", "shape": [1]}], forward
        assert forward["outputs"] == [{"dtype": "float32", "shape": [1, 1, 258]}], forward
        assert [c["values"] for c in constants if c["name"] == "get_max_seq_len"] == [[256]]
        shown = ctl(nobody, "inspect", path).out
        assert re.search(r"^instructions +36: 15 kernel calls, 13 delegate calls, 8 jumps$", shown, re.M)
        assert re.search(r"^delegates +7 XnnpackBackend", shown, re.M) and "get_vocab_size: 258" in shown
        ctl(nobody, "inspect", path, "--graph", expect=USAGE)
        with open(path, "r+b") as f:
            f.truncate(os.path.getsize(path) - 1)
        assert "beyond the file's end" in ctl(nobody, "inspect", path, expect=FILE).err


def story_step(d):
    id = exported(d)
    answer = ctl_json(d, "step", id, "84,104,101", "--top-k", "2")
    assert answer["position"] == 3 and answer["top"]["ids"][-1][-1][0] == 32, answer
    assert ctl_json(d, "sessions") == []
    whole = ctl_json(d, "step", id, "84,104,101", "--cache-dtype", "int8", "--top-k", "2")
    assert whole["top"]["ids"] == answer["top"]["ids"], (whole, answer)
    assert whole["top"]["logprobs"] != answer["top"]["logprobs"], "it was asked for"
    assert "cache_dtype" in ctl(d, "step", id, "84", "--cache-dtype", "int3", expect=REFUSED).err
    ctl(d, "step", id, "84,x", expect=USAGE)
    ctl(d, "step", id, "9999", expect=REFUSED)
    ctl(d, "step", id, "1", "--position", "1000", expect=REFUSED)
    ctl(d, "step", "nope", "1", expect=MISSING)
    assert ctl_json(d, "sessions") == [], "a failed step left its session"


def story_sessions(d):
    id = exported(d)
    whole = ctl_json(d, "sessions", "--open", id, "--cache-dtype", "int8")
    assert whole["cache_dtype"] == "int8", whole
    ctl(d, "sessions", whole["id"], "--delete")
    s = ctl_json(d, "sessions", "--open", id)["id"]
    ctl(d, "step", s, "[84, 104, 101]")
    assert ctl_json(d, "sessions", s)["position"] == 3
    assert s in ctl(d, "sessions").out
    with folder() as dir:
        path = os.path.join(dir, "c.safetensors")
        ctl(d, "sessions", s, "--save", path)
        assert os.listdir(dir) == ["c.safetensors"]
        fork = ctl_json(d, "sessions", s, "--fork")["id"]
        wanted = ctl_json(d, "step", fork, "32")["top"]
        assert ctl_json(d, "sessions", s, "--rewind", "1")["position"] == 1
        ctl(d, "sessions", s, "--load", path)
        assert ctl_json(d, "step", s, "32")["top"] == wanted
        link = os.path.join(dir, "link")
        os.symlink(path, link)
        ctl(d, "sessions", s, "--save", link)
        assert os.path.islink(link) and sorted(os.listdir(dir)) == ["c.safetensors", "link"]
        ctl(d, "sessions", s, "--save", dir, expect=FILE)
        ctl(d, "sessions", "ses_nope", "--save", path + "2", expect=MISSING)
        assert sorted(os.listdir(dir)) == ["c.safetensors", "link"]
    for session in s, fork:
        ctl(d, "sessions", session, "--delete")
    ctl(d, "sessions", s, expect=MISSING)


def story_generate(d):
    id = exported(d)
    prompt = "Question: What"
    text = ctl(d, "generate", id, "--text", prompt, "-n", "10").out
    answer = ctl_json(d, "generate", id, "--text", prompt, "-n", "10")
    assert text == prompt + answer["text"] + "\n" and len(text) > 20
    assert answer["stop"] == "length" and len(answer["ids"]) == 10
    assert answer["prompt_ids"] == list(prompt.encode())
    alone = ctl(d, "generate", id, "--text", prompt, "-n", "10", "--no-prompt").out
    assert prompt + alone == text
    ids = ctl(d, "generate", id, "--ids", ",".join(map(str, prompt.encode())), "-n", "3",
              "--json").out
    assert json.loads(ids)["ids"] == answer["ids"][:3]
    assert ctl_json(d, "sessions") == []


def story_generate_is_repeated_by_its_seed(d):
    id = exported(d)

    def run(*more):
        return ctl_json(d, "generate", id, "--text", "The ", "-n", "6", "--temperature", "3",
                        "--no-stop", *more)
    first, again = run("--seed", "5"), run("--seed", "5")
    assert first["ids"] == again["ids"] and first["seed"] == 5
    by_chance = run()
    assert run("--seed", str(by_chance["seed"]))["ids"] == by_chance["ids"]
    assert len({tuple(run("--seed", str(s))["ids"]) for s in range(3)}) > 1


def story_generate_ends_with_the_cache(d):
    id = exported(d)
    answer = ctl_json(d, "generate", id, "--text", "a" * 60, "-n", "100", "--no-stop")
    assert answer["stop"] == "cache" and len(answer["ids"]) == 5, answer  # 64 positions
    ctl(d, "generate", id, "--text", "a" * 64, expect=REFUSED)
    ctl(d, "generate", id, "--text", "", expect=USAGE)
    ctl(d, "generate", id, expect=USAGE)


def story_generate_stops_at_the_end_of_the_text(d):
    id = exported(d, "--max-cache-len", "256")
    answer = ctl_json(d, "generate", id, "-n", "200", "--text",
                      "Question: What is an export? Answer: An export turns a checkpoint "
                      "into a program that runs without Py")
    assert answer["stop"] == "end" and answer["ids"][-1] != 257, answer
    assert answer["text"].rstrip().endswith("."), answer


def story_generate_is_interrupted(d):
    id = exported(d, "--max-cache-len", "256")
    process = subprocess.Popen([CTL, "generate", id, "--text", "T", "-n", "255", "--no-stop"],
                               env=environment(d.address), stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert process.stdout.read(2) != b""  # it is under way
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=LIMIT)
    assert process.returncode in (INTERRUPTED, OK), process.returncode
    assert ctl_json(d, "sessions") == [], "the session was left"


# ---- exit codes ----

def story_usage(d):
    for args in (["--frobnicate"], ["frobnicate"], [], ["models", "--frobnicate"],
                 ["models", "a", "b"], ["export"], ["export", "demo", "--max-cache-len", "x"],
                 ["export", "demo", "--max-cache-len", "0"], ["export", "demo", "--output"],
                 ["export", "demo", "--label", "nolabel"], ["step", "x"], ["-x"],
                 ["models", "--json=1"], ["generate", "p", "--text", "a", "--ids", "1"],
                 ["generate", "p", "--text", "a", "--temperature", "-1"],
                 ["exports", "--cancel"], ["sessions", "--delete"]):
        done = ctl(d, *args, expect=USAGE)
        assert done.out == "" and done.err.startswith("pt2ctl: "), (args, done.err)
    for command in ("models", "export", "exports", "programs", "aliases", "inspect", "step",
                    "generate", "sessions", "status"):
        assert ctl(d, command, "--help").out.startswith(f"usage: pt2ctl {command}")
        assert command in ctl(d, "--help").out
    assert ctl(d, "--version").out.startswith("pt2ctl ")


def story_status(d):
    assert d.address in ctl(d, "status", "--server", f"http://{d.address}").out  # not the default one's
    assert ctl_json(d, "status")
    assert ctl(f"http://{d.address}/", "--server", d.address, "models").out


def story_nobody_is_there():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))  # bound, and nobody listens
        address = f"127.0.0.1:{s.getsockname()[1]}"
        assert "No such file" in ctl("unix:/nonexistent/socket", "models", expect=UNREACHABLE).err
        for args in (["models"], ["status"], ["export", "demo"], ["generate", "p", "--text", "x"]):
            assert address in ctl(address, *args, expect=UNREACHABLE).err
        json.loads(ctl(address, "--json", "models", expect=UNREACHABLE).err)


@contextlib.contextmanager
def server(answer):
    """Somebody who is no pt2d: answer(handler) writes what it likes."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def handle_any(self):
            with contextlib.suppress(OSError):
                answer(self)

        do_GET = do_POST = do_PUT = do_DELETE = handle_any

        def log_message(self, *args):
            pass

    s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    s.daemon_threads = True
    threading.Thread(target=s.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{s.server_address[1]}"
    finally:
        s.shutdown()
        s.server_close()


def reply(handler, status, body, **headers):
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def story_a_server_that_fails():
    for status, body in ((500, b""), (503, b'{"title": "T", "detail": "D"}'), (200, b"<html>"),
                         (200, b'{"data": 1}'), (200, b'{"data": [], "data": []}')):
        with server(lambda h: reply(h, status, body)) as address:
            ctl(address, "models", expect=BROKEN)


# ---- downloads ----

CONTENT = bytes(range(256)) * 4096  # 1 MB
ID = hashlib.sha256(CONTENT).hexdigest()


@contextlib.contextmanager
def cut_off(cuts, content=CONTENT):
    """A server of one program whose file answers end after cuts[0], cuts[1], ... bytes, and
    then come whole; the ranges that it was asked for."""
    ranges = []

    def answer(h):
        if not h.path.endswith("/file"):
            return reply(h, 200, json.dumps({"id": ID, "bytes": len(content)}).encode())
        ranges.append(h.headers["Range"])
        start = int(h.headers["Range"][6:-1]) if h.headers["Range"] else 0
        h.send_response(206 if start else 200)
        h.send_header("Content-Length", str(len(content) - start))
        h.end_headers()
        stop = start + cuts.pop(0) if cuts else len(content)
        h.wfile.write(content[start:stop])
        h.close_connection = True
    with server(answer) as address:
        yield address, ranges


def story_a_broken_download_goes_on():
    with folder() as dir, cut_off([100000, 1, 300000]) as (address, ranges):
        path = os.path.join(dir, "a.pt2")
        ctl(address, "programs", "p", "-o", path)
        assert digest(path) == ID and os.listdir(dir) == ["a.pt2"]
        assert ranges == [None, "bytes=100000-", "bytes=100001-", "bytes=400001-"], ranges


def story_a_download_goes_on_in_the_next_call():
    with folder() as dir:
        path = os.path.join(dir, "a.pt2")
        part = f"{path}.{ID[:12]}.part"
        with open(part, "wb") as f:
            f.write(CONTENT[:70000])
        with cut_off([]) as (address, ranges):
            ctl(address, "programs", "p", "-o", path)
            assert ranges == ["bytes=70000-"] and digest(path) == ID
        os.unlink(path)
        for damaged in CONTENT[1:70000], b"x" * (len(CONTENT) + 1), b"x" * len(CONTENT):
            with open(part, "wb") as f:
                f.write(damaged)
            with cut_off([]) as (address, ranges):
                ctl(address, "programs", "p", "-o", path)
                assert ranges[-1] is None and digest(path) == ID, ranges
            assert os.listdir(dir) == ["a.pt2"]
            os.unlink(path)


def story_a_download_of_other_bytes_is_refused():
    with folder() as dir, cut_off([], content=CONTENT[:-1] + b"x") as (address, _):
        path = os.path.join(dir, "a.pt2")
        with open(path, "wb") as f:
            f.write(b"mine")
        assert "SHA-256" in ctl(address, "programs", "p", "-o", path, expect=FILE).err
        with open(path, "rb") as f:
            assert f.read() == b"mine"
        assert os.listdir(dir) == ["a.pt2"]


def story_the_daemon_vanishes_in_a_download():
    with folder() as dir, cut_off([0] * 1000) as (address, ranges):
        path = os.path.join(dir, "a.pt2")
        done = ctl(address, "programs", "p", "-o", path, expect=UNREACHABLE)
        assert f"0 of {len(CONTENT)} bytes" in done.err, done.err
        assert not os.path.exists(path)


# ---- what is no regular file ----

def read_fifo(fifo):
    got = []

    def read():
        with open(fifo, "rb") as f:
            got.append(f.read())
    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread, got


def story_output_to_a_pipe(d):
    id = exported(d)
    with folder() as dir:
        fifo = os.path.join(dir, "fifo")
        os.mkfifo(fifo)
        before = os.stat(fifo).st_ino
        thread, got = read_fifo(fifo)
        ctl(d, "programs", id, "-o", fifo)
        thread.join(LIMIT)
        assert hashlib.sha256(got[0]).hexdigest() == id
        s = ctl_json(d, "sessions", "--open", id)["id"]
        ctl(d, "step", s, "84,104,101")
        thread, got = read_fifo(fifo)
        ctl(d, "sessions", s, "--save", fifo)
        thread.join(LIMIT)
        assert got[0] == d.get(f"/v1/sessions/{s}/cache", expect=200).body != b""
        ctl(d, "sessions", s, "--delete")
        assert os.stat(fifo).st_ino == before and os.listdir(dir) == ["fifo"]


def story_output_to_standard_output(d):
    id = exported(d)
    for args in (["programs", id], ["export", "demo", "--max-cache-len", "64"]):
        done = subprocess.run([CTL, *args, "-o", "/dev/stdout"], env=environment(d.address),
                              capture_output=True, timeout=LIMIT)
        assert done.returncode == OK, done.stderr
        assert hashlib.sha256(done.stdout).hexdigest() == id, "other bytes than the program's"
        assert id.encode() in done.stderr  # what it says goes there
    with folder() as dir:  # the same where that is a file
        path = os.path.join(dir, "out")
        with open(path, "wb") as f:
            done = subprocess.run([CTL, "programs", id, "-o", "/dev/stdout"], stdout=f,
                                  env=environment(d.address), stderr=subprocess.PIPE,
                                  timeout=LIMIT)
        assert done.returncode == OK and digest(path) == id and os.listdir(dir) == ["out"]


def story_output_to_what_can_not_be_written(d):
    id = exported(d)
    with folder() as dir:
        sub, sock, link = (os.path.join(dir, name) for name in ("sub", "sock", "link"))
        os.mkdir(sub)
        os.symlink(os.path.join(dir, "nothing"), link)
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(sock)
            for path, why in ((sub, "a folder"), (sock, "a socket"), (link, "link to nothing")):
                for args in (["programs", id], ["export", "demo"]):
                    assert why in ctl(d, *args, "-o", path, expect=FILE).err
        part = os.path.join(dir, f"b.pt2.{id[:12]}.part")
        os.mkfifo(part)
        ctl(d, "programs", id, "-o", os.path.join(dir, "b.pt2"), expect=FILE)
        assert stat.S_ISFIFO(os.stat(part).st_mode)
        assert sorted(os.listdir(dir)) == sorted(["sub", "sock", "link", os.path.basename(part)])


def story_a_link_stays(d):
    id = exported(d)
    with folder() as dir:
        path, link = os.path.join(dir, "a.pt2"), os.path.join(dir, "latest")
        with open(path, "wb") as f:
            f.write(b"old")
        os.symlink("a.pt2", link)
        ctl(d, "programs", id, "-o", link)
        assert os.path.islink(link) and digest(path) == id


def story_a_device_stays_a_device(d):
    id = exported(d)
    with folder() as dir:
        null = os.path.join(dir, "null")
        try:
            os.mknod(null, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
            with open(null, "wb"):
                pass
        except PermissionError:
            print("     (no right to make a device: skipped)")
            return
        for args in (["programs", id, "-o", null], ["export", "demo", "-o", null]):
            ctl(d, *args)
            assert stat.S_ISCHR(os.stat(null).st_mode), f"{args} replaced a device"
        assert os.listdir(dir) == ["null"]


def story_the_port_file_is_no_regular_file():
    def start(path):
        return subprocess.Popen(
            [os.path.join(BUILD, "pt2d"), "--config", "/dev/null", "--listen", "127.0.0.1:0",
             "--state-dir", state, "--port-file", path],
            env=dict(os.environ, PT2_LIBEXEC=BUILD), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    with folder() as dir, folder() as state:
        fifo = os.path.join(dir, "fifo")
        os.mkfifo(fifo)
        process = start(fifo)  # nobody reads
        _, err = process.communicate(timeout=LIMIT)
        assert process.returncode != 0 and b"nobody reads" in err, err
        process = start(dir)
        _, err = process.communicate(timeout=LIMIT)
        assert process.returncode != 0 and b"a folder" in err, err
        fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        process = start(fifo)

        def address():
            with contextlib.suppress(BlockingIOError):
                return os.read(fd, 4096)
        try:
            assert re.fullmatch(rb"127\.0\.0\.1:\d+\n", until(address, "the address"))
        finally:
            process.terminate()
            process.communicate(timeout=LIMIT)
            os.close(fd)
        assert stat.S_ISFIFO(os.stat(fifo).st_mode) and os.listdir(dir) == ["fifo"]


if __name__ == "__main__":
    main(globals())
