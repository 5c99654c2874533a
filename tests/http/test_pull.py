#!/usr/bin/env python3
"""test_pull.py - pt2ctl push and pull: checkpoints from a directory, and from a hub of the
tests' own."""

import hashlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess

from exporting import export
from harness import Daemon, main, until
from hub import COMMIT, Hub
from test_pt2ctl import (BROKEN, CTL, FILE, LIMIT, MISSING, OK, REFUSED, UNREACHABLE, USAGE, environment,
                         folder)
from uploading import FILES, empty_models, ids, in_folder, staged

TOKEN = "hf_secretsecretsecret"


def ctl(d, hub, home, *args, expect=OK, **env):
    """pt2ctl with a home of its own; the finished process, text in and out."""
    server = d if isinstance(d, str) else d.address
    more = {"HOME": home, "HF_ENDPOINT": hub.url if isinstance(hub, Hub) else hub, **env}
    clean = {k: v for k, v in environment(server).items()
             if not k.startswith(("HF_", "XDG_", "HUGGING", "TRANSFORMERS"))}
    done = subprocess.run([CTL, *args], env={**clean, **more}, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=LIMIT)
    assert done.returncode == expect, \
        f"{args}: exit {done.returncode}, not {expect}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    for text in (done.stdout, done.stderr):
        assert TOKEN not in text and "Sanitizer" not in text and "runtime error" not in text, text
    return done


def write(directory, files):
    os.makedirs(directory, exist_ok=True)
    for name, data in files.items():
        with open(os.path.join(directory, name), "wb") as f:
            f.write(data)
    return directory


def sharded():
    """The bundled model in two shards with an index: {name: bytes}."""
    data = FILES["model.safetensors"]
    n, = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + n])
    names = sorted(name for name in header if name != "__metadata__")
    files, index = {k: v for k, v in FILES.items() if k != "model.safetensors"}, {}
    for i, part in enumerate((names[::2], names[1::2]), 1):
        shard, at, body, table = f"model-0000{i}-of-00002.safetensors", 0, b"", {}
        for name in part:
            begin, end = header[name]["data_offsets"]
            table[name] = {**header[name], "data_offsets": [at, at + end - begin]}
            body += data[8 + n + begin:8 + n + end]
            at += end - begin
            index[name] = shard
        text = json.dumps(table).encode()
        text += b" " * (-len(text) % 8)
        files[shard] = struct.pack("<Q", len(text)) + text + body
    files["model.safetensors.index.json"] = json.dumps({"metadata": {}, "weight_map": index}).encode()
    return files


# ---- push ----

def story_a_directory_is_pushed_once():
    with empty_models() as models, Daemon(models=models) as d, folder() as home:
        source = write(os.path.join(home, "My.Model-1"), FILES)
        write(source, {"pytorch_model.bin": b"x", "README.md": b"x", ".git": b"x"})
        done = ctl(d, "", home, "push", source)
        assert "My.Model-1" in done.stdout and f"{len(FILES)}, " in done.stdout, done.stdout
        assert "upload model.safetensors" in done.stderr and "digests" in done.stderr, done.stderr
        assert in_folder(models, "My.Model-1") == FILES
        again = ctl(d, "", home, "push", source + "/")
        assert "upload" not in again.stderr, again.stderr
        assert export(d, model="My.Model-1")["state"] == "succeeded"
        answer = json.loads(ctl(d, "", home, "--json", "push", source, "--as", "org/name", "-q").stdout)
        assert answer["id"] == "org/name" and ids(d) == ["My.Model-1", "org/name"]
        changed = write(source, {"generation_config.json": b"{}"})
        assert "upload generation_config.json" in (err := ctl(d, "", home, "push", changed).stderr)
        assert "model.safetensors" not in err, err
        for label, status, *args in (
                ("no directory", FILE, "push", os.path.join(home, "none")),
                ("no checkpoint", FILE, "push", home),
                ("a bad id", REFUSED, "push", source, "--as", "../x"),
                ("no argument", USAGE, "push")):
            ctl(d, "", home, *args, expect=status)
        ctl("127.0.0.1:1", "", home, "push", source, expect=UNREACHABLE)
        assert ids(d) == ["My.Model-1", "org/name"]


def story_a_broken_push_goes_on():
    files = sharded()
    with empty_models() as models, Daemon("--set", "http.threads=1", models=models) as d, \
            folder() as home:
        source = write(os.path.join(home, "m"), files)
        # A proxy in between that dies within the third file.
        proxy = socket.create_server(("127.0.0.1", 0))
        process = subprocess.Popen([CTL, "push", source], stderr=subprocess.DEVNULL,
                                   env=environment(f"127.0.0.1:{proxy.getsockname()[1]}"))
        client, _ = proxy.accept()
        upstream = d.connect()
        for sock in (client, upstream):
            sock.settimeout(0.05)
        left = 400000
        while left > 0:
            for a, b in ((client, upstream), (upstream, client)):
                try:
                    data = a.recv(min(left, 65536))
                except TimeoutError:
                    continue
                b.sendall(data)
                left -= len(data) if a is client else 0
        process.send_signal(signal.SIGINT)
        process.wait(LIMIT)
        for sock in (client, upstream, proxy):
            sock.close()
        until(lambda: not [f for f in staged(models) if f.startswith("tmp/")], "the end of the part")
        came = [f for f in staged(models) if f.startswith("files/")]
        assert 0 < len(came) < len(files) and ids(d) == [], came
        done = ctl(d, "", home, "push", source)
        assert done.stderr.count("upload") == len(files) - len(came), (came, done.stderr)
        assert in_folder(models, "m") == files
        assert json.loads(ctl(d, "", home, "--json", "models", "m").stdout)["exportable"]


# ---- pull ----

def story_a_model_is_pulled_to_the_daemon():
    with empty_models() as models, Daemon(models=models) as d, folder() as home, Hub(FILES) as hub:
        done = ctl(d, hub, home, "pull", "org/demo")
        assert "download model.safetensors" in done.stderr, done.stderr
        assert in_folder(models, "org", "demo") == FILES
        assert [p for p in hub.paths() if "README" in p or "onnx" in p] == []
        assert os.listdir(os.path.join(home, ".cache")) == [], "swept"
        assert export(d, model="org/demo")["state"] == "succeeded"
        # The daemon has it: the weights do not come again, whatever they are called.
        before = len(hub.storage.requests)
        assert before == 1
        done = ctl(d, hub, home, "pull", "org/demo", "-r", COMMIT)
        assert len(hub.storage.requests) == before and "upload" not in done.stderr
        done = json.loads(ctl(d, hub, home, "--json", "pull", "org/demo", "--revision", "refs/pr/1",
                              "--as", "mine").stdout)
        assert done["id"] == "mine" and ids(d) == ["mine", "org/demo"]
        assert "/api/models/org/demo/revision/refs%2Fpr%2F1?blobs=true" in hub.paths()


def story_shards_are_those_of_the_index():
    files = sharded()
    large = [name for name in files if name.endswith(".safetensors")]
    with empty_models() as models, Daemon(models=models) as d, folder() as home, \
            Hub({**files, "consolidated.safetensors": b"x"}, large) as hub:
        ctl(d, hub, home, "pull", "org/demo")
        assert in_folder(models, "org", "demo") == files
        assert not any("consolidated" in p for p in hub.paths())
        out = os.path.join(home, "out")
        ctl(d, hub, home, "pull", "org/demo", "-o", out)
        assert in_folder(out) == files
        del hub.files[large[0]]
        assert "index names" in ctl(d, hub, home, "pull", "org/demo", "-o", out, expect=BROKEN).stderr


def story_a_directory_needs_no_daemon():
    with folder() as home, Hub(FILES, large=FILES) as hub:
        out = os.path.join(home, "a", "b")
        done = ctl("127.0.0.1:1", hub, home, "pull", "org/demo", "-o", out)
        assert in_folder(out) == FILES and COMMIT in done.stdout
        n = len(hub.storage.requests)
        done = ctl("127.0.0.1:1", hub, home, "--json", "pull", "org/demo", "-o", out)
        assert len(hub.storage.requests) == n, "all of it is there"
        assert json.loads(done.stdout) == {
            "model": "org/demo", "commit": COMMIT, "directory": out, "files": len(FILES),
            "bytes": sum(map(len, FILES.values()))}
        ctl("127.0.0.1:1", hub, home, "pull", "org/demo", "-o", out, "--as", "x", expect=USAGE)


def story_downloads_go_on():
    with folder() as home, Hub(FILES) as hub:
        out = os.path.join(home, "out")
        hub.cut = 100000
        ctl("", hub, home, "pull", "org/demo", "-o", out)
        assert in_folder(out) == FILES
        ranges = [h.get("Range") for _, _, h in hub.storage.requests]
        assert ranges[0] is None and "bytes=100000-" in ranges, ranges
        # A server that knows no ranges sends all of it; what an earlier call left is used.
        shutil.rmtree(out)
        weights = FILES["model.safetensors"]
        part = f"model.safetensors.{hashlib.sha256(weights).hexdigest()[:12]}.part"
        hub.cut, hub.ranges = None, False
        write(out, {part: weights[:5000]})
        ctl("", hub, home, "pull", "org/demo", "-o", out)
        assert in_folder(out) == FILES
        hub.ranges = True
        for label, left in (("damaged", b"\xff" * 5000), ("all", weights), ("too much", weights + b"x")):
            shutil.rmtree(out)
            write(out, {part: left})
            ctl("", hub, home, "pull", "org/demo", "-o", out)
            assert in_folder(out) == FILES, label


def story_what_is_not_right_is_not_taken():
    for name in ("model.safetensors", "config.json"):
        data = FILES[name]
        for label, served, status in (
                ("another content", data[:-1] + bytes([data[-1] ^ 1]), FILE),
                ("too long", data + b"x", FILE), ("too short", data[:-1], BROKEN)):
            with empty_models() as models, Daemon(models=models) as d, folder() as home, \
                    Hub(FILES) as hub:
                hub.served[name] = served
                out = os.path.join(home, "out")
                ctl(d, hub, home, "pull", "org/demo", "-o", out, expect=status)
                assert name not in os.listdir(out), label
                if label == "another content":
                    ctl(d, hub, home, "pull", "org/demo", expect=status)
                    assert ids(d) == [], label
    for text in (b"", b"{", b"[]", b"{}", b'{"sha": "x", "siblings": []}',
                 b'{"sha": "%s", "siblings": 1}' % COMMIT.encode(),
                 b'{"sha": "%s", "siblings": [{}]}' % COMMIT.encode(),
                 b'{"sha": "%s", "siblings": [{"rfilename": "config.json"}]}' % COMMIT.encode()):
        with folder() as home, Hub(FILES) as hub:
            hub.list_text = text
            ctl("", hub, home, "pull", "org/demo", "-o", os.path.join(home, "out"), expect=BROKEN)


def story_what_the_hub_refuses_is_said():
    with folder() as home, Hub(FILES, token=TOKEN) as hub:
        out = os.path.join(home, "out")

        def pull(expect, *args, **env):
            return ctl("", hub, home, "pull", *args, "-o", out, expect=expect, **env).stderr
        assert "needs a token in HF_TOKEN" in pull(REFUSED, "org/demo")
        assert "your token may not" in pull(REFUSED, "org/demo", HF_TOKEN="hf_other")
        assert "has no revision 'v2'" in pull(MISSING, "org/demo", "-r", "v2", HF_TOKEN=TOKEN)
        pull(MISSING, "org/other", HF_TOKEN=TOKEN)
        hub.gated = True
        assert "gated" in pull(REFUSED, "org/demo", HF_TOKEN=TOKEN)
        hub.gated = False
        for bad in ("", "a/b/c", "../x", "org/", "-x/y"):
            pull(USAGE, "--", bad) if bad.startswith("-") else pull(USAGE, bad)
        for bad in ("..", "a b", "/x", "a/../b"):
            pull(USAGE, "org/demo", "-r", bad)
        for bad in ("ftp://x", "x", "http://x y", "file:///etc"):
            ctl("", bad, home, "pull", "org/demo", "-o", out, expect=USAGE)
        assert "HF_TOKEN" in pull(USAGE, "org/demo", HF_TOKEN=TOKEN + " x")
        pull(USAGE, "org/demo", HF_TOKEN=TOKEN + "\r\nX-Evil: 1\r\nx: ")
        assert not os.path.exists(out) or os.listdir(out) == []
        hub.files = {"config.json": FILES["config.json"], "pytorch_model.bin": b"x"}
        assert "pickled" in pull(MISSING, "org/demo", HF_TOKEN=TOKEN)
        hub.files = {"a.gguf": b"x", "b.gguf": b"y"}
        assert "--file" in (err := pull(MISSING, "org/demo", HF_TOKEN=TOKEN)) and "'b.gguf'" in err
        pull(MISSING, "org/demo", "--file", "c.gguf", HF_TOKEN=TOKEN)
        pull(OK, "org/demo", "--file", "b.gguf", HF_TOKEN=TOKEN)
        assert in_folder(out) == {"b.gguf": b"y"}


def story_the_token_goes_to_the_hub_alone():
    with folder() as home, Hub(FILES, token=TOKEN) as hub:
        out = os.path.join(home, "out")
        ctl("", hub, home, "pull", "org/demo", "-o", out, HF_TOKEN=f" {TOKEN}\n", PT2_TOKEN="pt2-secret")
        assert all(h["Authorization"] == f"Bearer {TOKEN}" for _, _, h in hub.requests), hub.requests
        assert hub.storage.requests and not any("Authorization" in h for _, _, h in hub.storage.requests)
        everything = str(hub.requests) + str(hub.storage.requests)
        assert "pt2-secret" not in everything, "the daemon's token is the daemon's"
        # From a file: HF_TOKEN_PATH, HF_HOME/token, ~/.cache/huggingface/token.
        for env, place in (({"HF_TOKEN_PATH": "~/t"}, "t"), ({"HF_HOME": os.path.join(home, "hf")}, "hf/token"),
                           ({"XDG_CACHE_HOME": os.path.join(home, "c")}, "c/huggingface/token"),
                           ({}, ".cache/huggingface/token")):
            shutil.rmtree(out)
            path = os.path.join(home, place)
            write(os.path.dirname(path), {os.path.basename(path): TOKEN.encode() + b"\n"})
            ctl("", hub, home, "pull", "org/demo", "-o", out, **env)
            os.unlink(path)
            assert in_folder(out) == FILES
        # A redirect on the same host keeps it; one to where nobody should go is not followed.
        shutil.rmtree(out)
        hub.relative = True
        ctl("", hub, home, "pull", "old/name", "-o", out, HF_TOKEN=TOKEN)
        for bad in ("file:///etc/passwd", "gopher://x/", "", "http://"):
            hub.redirect = bad or " "
            shutil.rmtree(out)
            ctl("", hub, home, "pull", "org/demo", "-o", out, HF_TOKEN=TOKEN, expect=BROKEN)
        hub.redirect = f"/org/demo/resolve/{COMMIT}/model.safetensors"
        assert "circles" in ctl("", hub, home, "pull", "org/demo", "-o", out, HF_TOKEN=TOKEN,
                                expect=BROKEN).stderr


def story_a_busy_hub_is_asked_again():
    with folder() as home, Hub(FILES) as hub:
        hub.busy, hub.broken = 2, 1
        ctl("", hub, home, "pull", "org/demo", "-o", os.path.join(home, "out"))
        hub.busy, hub.retry_after = 1, "1"
        ctl("", hub, home, "pull", "org/demo", "-o", os.path.join(home, "out"))
        hub.busy = 0
        hub.broken = 1000
        ctl("", hub, home, "pull", "org/demo", "-o", os.path.join(home, "out"), expect=BROKEN)


def cache(home, files, revision="main"):
    """The hub's cache as its own tools lay it out: blobs, and links to them."""
    model = os.path.join(home, ".cache", "huggingface", "hub", "models--org--demo")
    snapshot = os.path.join(model, "snapshots", COMMIT)
    os.makedirs(snapshot)
    write(os.path.join(model, "refs"), {revision: COMMIT.encode()})
    for name, data in files.items():
        blob = hashlib.sha256(data).hexdigest()
        write(os.path.join(model, "blobs"), {blob: data})
        os.symlink(f"../../blobs/{blob}", os.path.join(snapshot, name))
    return model


def story_the_cache_is_read():
    with empty_models() as models, Daemon(models=models) as d, folder() as home, Hub(FILES) as hub:
        cache(home, FILES)
        ctl(d, hub, home, "pull", "org/demo")
        assert in_folder(models, "org", "demo") == FILES
        assert len(hub.paths()) == 1 and not hub.storage.requests, "the list alone"
        out = os.path.join(home, "out")
        ctl(d, hub, home, "pull", "org/demo", "-o", out)
        assert in_folder(out) == FILES and not hub.storage.requests
        assert not any(os.path.islink(os.path.join(out, name)) for name in FILES)
        # What is damaged or not there comes from the hub.
        shutil.rmtree(os.path.join(home, ".cache"))
        shutil.rmtree(out)
        damaged = {**FILES, "model.safetensors": FILES["model.safetensors"][::-1]}
        del damaged["config.json"]
        cache(home, damaged)
        ctl(d, hub, home, "pull", "org/demo", "-o", out)
        assert in_folder(out) == FILES and len(hub.storage.requests) == 1
    with empty_models() as models, Daemon(models=models) as d, folder() as home:
        cache(home, FILES, "v1")
        dead = "http://127.0.0.1:1"
        n = "using the hub's cache"
        assert n in ctl(d, dead, home, "pull", "org/demo", "-r", "v1").stderr
        ctl(d, dead, home, "pull", "org/demo", expect=UNREACHABLE)
        ctl(d, dead, home, "pull", "org/demo", "-r", COMMIT, "--as", "again", HF_HUB_OFFLINE="1")
        ctl(d, dead, home, "pull", "org/demo", "-r", "v1", "-o", os.path.join(home, "out"), HF_HUB_OFFLINE="yes")
        assert in_folder(home, "out") == FILES
        ctl(d, dead, home, "pull", "org/demo", "-r", "v2", HF_HUB_OFFLINE="1", expect=MISSING)
        moved = os.path.join(home, "elsewhere")
        os.rename(os.path.join(home, ".cache", "huggingface", "hub"), moved)
        ctl(d, dead, home, "pull", "org/demo", "-r", "v1", HF_HUB_OFFLINE="1", expect=MISSING)
        ctl(d, dead, home, "pull", "org/demo", "-r", "v1", HF_HUB_OFFLINE="1", HF_HUB_CACHE=moved)
        assert ids(d) == ["again", "org/demo"]


if __name__ == "__main__":
    main(globals())
