#!/usr/bin/env python3
"""Models that come over the network: uploaded file by file, published at once, deleted."""

import base64
import contextlib
import hashlib
import http.client
import os
import pathlib
import random
import shutil
import threading
import time

from exporting import (check_errors, export, finish, gate, models_of, sha256, submit, submit_id,
                       without_engines)
from harness import SEED, Daemon, main, until
from uploading import (FILES, empty_models, ids, in_folder, manifest, publish, put, staged, upload,
                       url)


def repr_digest(data):
    return {"Repr-Digest": f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"}


def story_an_uploaded_model_is_exported_and_stepped():
    with empty_models() as models, Daemon(models=models) as d:
        missing = publish(d, "org/demo", FILES, expect=409)
        assert missing.problem == "missing-files" and missing.json["missing"] == sorted(FILES), missing
        for n, (name, data) in enumerate(FILES.items()):
            reply = put(d, "org/demo", name, data, headers=repr_digest(data) if n % 2 else None)
            assert reply.json == {"name": name, "bytes": len(data), "sha256": sha256(data)}, reply
            assert ids(d) == []
            d.get(url("org/demo"), expect=404)
            submit(d, model="org/demo", expect=404)
        reply = publish(d, "org/demo", FILES)
        assert reply.headers["Location"] == "/v1/models/org%2Fdemo"
        assert reply.json["id"] == "org/demo" and reply.json["exportable"], reply
        assert ids(d) == ["org/demo"]
        assert in_folder(models, "org", "demo") == FILES and staged(models) == []
        assert publish(d, "org/demo", FILES, expect=200).json == reply.json, "again"
        with Daemon() as bundled:
            wanted = export(bundled, model="demo")["program"]
        job = export(d, model="org/demo")
        assert job["program"] == wanted
        session = d.post("/v1/sessions", {"program": job["program"]}, expect=201).json
        answer = d.post(f"/v1/sessions/{session['id']}/step", {"input_ids": [[1, 2, 3]], "top_k": 1},
                        expect=200).json
        assert answer["position"] == 3 and len(answer["top"]["ids"][0][0]) == 1
        assert d.metric("pt2d_models_published_total") == 1
        assert d.metric("pt2d_model_files_total") == len(FILES)
        assert d.metric("pt2d_model_file_bytes_total") == sum(map(len, FILES.values()))
        d.delete(url("org/demo"), expect=204)
        assert ids(d) == [] and os.listdir(models) == [".uploads"]
        d.delete(url("org/demo"), expect=404)
        d.get(f"/v1/programs/{job['program']}", expect=200, label="the program stays")
        assert "model 'org/demo' was published" in d.log() and "was deleted" in d.log()


def story_the_default_is_the_state_directory_beside_the_bundled_models():
    with empty_models() as state, Daemon("--set", "daemon.models_dir=", models="",
                                         state=os.path.join(state, "state")) as d:
        before = ids(d)
        upload(d, "mine")
        assert ids(d) == sorted(before + ["mine"])
        assert os.path.exists(os.path.join(d.state, "models", "mine", "config.json"))
        d.restart()
        assert ids(d) == sorted(before + ["mine"])
        if "demo" in before:
            d.delete(url("demo"), expect=403)
        upload(d, "demo")
        assert ids(d) == sorted({*before, "mine", "demo"})
        d.delete(url("demo"), expect=204)
        assert ids(d) == sorted(before + ["mine"])


def story_only_what_is_new_has_to_come():
    with models_of("demo") as models, Daemon(models=models) as d:
        there = in_folder(models, "demo")
        # A model that somebody put there by hand is known by its digests as well.
        publish(d, "demo", there, expect=200)
        assert staged(models) == []
        config = there["config.json"].replace(b"{", b'{ "comment": "new", ', 1)
        changed = {**there, "config.json": config}
        assert publish(d, "demo", changed, expect=409).json["missing"] == ["config.json"]
        put(d, "demo", "config.json", config)
        put(d, "demo", "config.json", config, expect=200)
        assert in_folder(models, "demo") == there, "not yet"
        old = export(d)["program"]
        assert "Location" not in publish(d, "demo", changed, expect=200).headers
        assert in_folder(models, "demo") == changed and staged(models) == []
        assert publish(d, "demo", there, expect=409).json["missing"] == ["config.json"]
        assert export(d)["program"] != old, "the archive names its checkpoint"
        # Files may go, too.
        fewer = {name: data for name, data in changed.items()
                 if name in ("config.json", "model.safetensors")}
        publish(d, "demo", fewer, expect=200)
        assert in_folder(models, "demo") == fewer
        assert export(d)["program"] != old, "it has no tokenizer"


def story_what_is_no_checkpoint_is_not_published():
    with empty_models() as models, Daemon(models=models) as d:
        weights = FILES["model.safetensors"]
        for label, files, problem in (
                ("no weights", {"config.json": FILES["config.json"]}, "bad-checkpoint"),
                ("no config", {"model.safetensors": weights}, "bad-checkpoint"),
                ("cut weights", {**FILES, "model.safetensors": weights[:-8]}, "bad-checkpoint"),
                ("no JSON", {**FILES, "config.json": b"{"}, "bad-config"),
                ("a shard is missing", {"config.json": FILES["config.json"],
                                        "a.safetensors": weights, "b.safetensors": weights},
                 "bad-checkpoint"),
                ("nothing in it", {**FILES, "model.safetensors": b""}, "bad-checkpoint")):
            reply = upload(d, "bad", files, expect=422)
            assert reply.problem == problem, (label, reply)
            assert models not in reply.text, "no path of ours is told"
            assert ids(d) == [], label
        assert staged(models) != [], "the files stay for another try"
        publish(d, "bad", FILES)
        assert ids(d) == ["bad"] and staged(models) == []


def story_hostile_names_are_refused():
    with empty_models() as models, Daemon(models=models) as d:
        for name in ("pytorch_model.bin", "model.pt", "x.py", ".config.json", "config.json.bak", "lock",
                     "..%2Fconfig.json", "a%2Fconfig.json", "config.json%20", "%0aconfig.json",
                     "model%2f.safetensors", "m%5C.safetensors", "%C3%A4.safetensors", "-%00.gguf",
                     "x" * 200 + ".safetensors", ".safetensors", "~.gguf%0d"):
            put(d, "m", name, b"x", expect=(400, 422))
        for model in (".uploads", "..", "%2E%2E", "a%2F..", "..%2Fa", "%2Fa", "a%2F", "a%2Fb%2Fc", "-a",
                      "a%2F.b", "a%20b", "%C3%A4", "a%0A", "x" * 97, "a%5Cb", ".uploads%2Ftmp"):
            for method, rest in (("PUT", "/files/config.json"), ("POST", "/publish")):
                body = {"body": b"{}"} if method == "PUT" else {"json_body": manifest(FILES)}
                d.request(method, f"/v1/models/{model}{rest}", expect=(400, 422), label=model, **body)
            d.delete(f"/v1/models/{model}", expect=(400, 404), label=model)
        good = manifest(FILES)["files"][0]
        for label, bad, *pointers in (
                ("no files", {"files": []}, "/files"), ("none", {}, "/files"),
                ("more", {"files": [good], "x": 1}, "/x"),
                ("a number", {"files": [1]}, "/files/0"),
                ("a name", {"files": [{**good, "name": "../x.safetensors"}]}, "/files/0/name"),
                ("twice", {"files": [good, good]}, "/files/1/name"),
                ("digest", {"files": [{**good, "sha256": "A" * 64}]}, "/files/0/sha256"),
                ("bytes", {"files": [{**good, "bytes": -1}]}, "/files/0/bytes"),
                ("too many", {"files": [good] * 513}, "/files")):
            check_errors(d.post(url("m", "/publish"), bad, expect=422, label=label), *pointers)
        for bad in ("sha-256=x", "sha-256=:YQ==:", "sha-256", "=:", "sha-256=:" + "A" * 44 + ":",
                    "sha-256=:" + "A" * 43 + "=: x", ",", ""):
            put(d, "m", "config.json", b"{}", expect=400 if bad else (201, 400), headers={"Repr-Digest": bad})
        reply = put(d, "m", "config.json", b"{} ", expect=422, headers=repr_digest(b"{}"))
        assert reply.problem == "digest-mismatch" and sha256(b"{} ") in reply.json["detail"], reply
        put(d, "m", "merges.txt", b"", headers={"Repr-Digest": "md5=:AAAA:, " +
                                                repr_digest(b"")["Repr-Digest"]})
        put(d, "m", "vocab.json", b"x", expect=400, headers={"Content-Range": "bytes 0-0/2"})
        put(d, "m", "vocab.json", b"x", expect=415, headers={"Content-Type": "text/plain"})
        assert ids(d) == []
        outside = [f for f in os.listdir(models) if f != ".uploads"]
        assert outside == [], outside


def story_limits_answer_before_the_body():
    with empty_models() as models, \
            Daemon("--set", "models.max_upload_bytes=1000", models=models) as d:
        put(d, "m", "config.json", b"x" * 1000)
        raw = d.raw(f"PUT {url('m', '/files/config.json')} HTTP/1.1\r\nHost: x\r\n"
                    "Content-Length: 1001\r\nExpect: 100-continue\r\n\r\n")
        assert raw.reply().status == 413
        raw = d.raw(f"PUT {url('m', '/files/config.json')} HTTP/1.1\r\nHost: x\r\n"
                    "Transfer-Encoding: chunked\r\n\r\n3e9\r\n" + "x" * 1001 + "\r\n0\r\n\r\n")
        assert raw.reply().status == 413
        until(lambda: not [f for f in staged(models) if f.startswith("tmp/")], "the end of the part")
    with empty_models() as models, \
            Daemon("--set", "models.max_upload_bytes=1000 TiB", models=models) as d:
        raw = d.raw(f"PUT {url('m', '/files/model.safetensors')} HTTP/1.1\r\nHost: x\r\n"
                    f"Content-Length: {900 << 40}\r\nExpect: 100-continue\r\n\r\n")
        reply = raw.reply()
        assert reply.status == 507 and reply.problem == "no-space", reply
        assert staged(models) == []


def story_the_threads_that_take_uploads_come_after_those_that_answer():
    def niceness(name):
        tasks = pathlib.Path(f"/proc/{d.process.pid}/task")
        return {int((task / "stat").read_text().rsplit(")", 1)[1].split()[16]) for task in tasks.iterdir()
                if (task / "comm").read_text().strip() == name}

    with Daemon("--set", "http.pool_threads=2") as d:
        own = os.nice(0)
        assert niceness("pt2-pool") == {own}
        until(lambda: niceness("pt2-uploads") == {min(own + 10, 19)}, "the threads' niceness")


def story_a_directory_that_is_not_ours_takes_nothing():
    with empty_models() as models, Daemon(models=models) as d, Daemon(models=models) as other:
        upload(d, "m")
        reply = put(other, "n", "config.json", b"{}", expect=403)
        assert reply.problem == "forbidden" and "another daemon" in reply.json["detail"], reply
        publish(other, "n", FILES, expect=403)
        assert ids(other) == ["m"]
        # The folder may go away and come again.
        shutil.rmtree(models)
        d.get(url("m"), expect=404)
        upload(d, "m")
        assert ids(d) == ["m"]
        if os.getuid() != 0:
            os.chmod(models, 0o500)
            shutil.rmtree(os.path.join(models, ".uploads"), ignore_errors=True)
            d.delete(url("m"), expect=403)
            os.chmod(models, 0o700)
    with empty_models() as models, Daemon(models=models) as d:
        os.rmdir(models)
        with open(models, "w"):
            pass
        put(d, "m", "config.json", b"{}", expect=403)
        publish(d, "m", FILES, expect=403)
        os.unlink(models)
        os.mkdir(models)


def story_names_that_are_taken_are_refused():
    with models_of("model", "org/model") as models, Daemon(models=models) as d:
        os.mkdir(os.path.join(models, "notes"))
        with open(os.path.join(models, "notes", "README"), "w") as f:
            f.write("no model")
        with open(os.path.join(models, "file"), "w") as f:
            f.write("no model")
        os.symlink("model", os.path.join(models, "link"))
        os.symlink("org", os.path.join(models, "orglink"))
        os.mkdir(os.path.join(models, "empty"))
        for name in ("model/x", "org", "notes", "file", "file/x", "link", "orglink/x"):
            changed = {**FILES, "merges.txt": b"x"}
            reply = upload(d, name, changed, expect=409)
            assert reply.problem == "conflict", (name, reply)
            d.delete(url(name), expect=(204, 404), label="what came for it")
        upload(d, "empty")
        assert "empty" in ids(d)


class Slow:
    """A file that is sent up to a point, and on when it is told to."""

    def __init__(self, d, model, name, data, first):
        self.raw = d.raw(f"PUT {url(model, '/files/' + name)} HTTP/1.1\r\nHost: x\r\n"
                         f"Content-Type: application/octet-stream\r\nContent-Length: {len(data)}\r\n\r\n")
        self.raw.send(data[:first])
        self.rest = data[first:]

    def end(self):
        return self.raw.send(self.rest).reply()


def parts(models):
    return [f for f in staged(models) if f.startswith("tmp/")]


def story_half_a_file_is_none():
    with empty_models() as models, Daemon(models=models) as d:
        weights = FILES["model.safetensors"]
        for name in FILES:
            if name != "model.safetensors":
                put(d, "m", name, FILES[name])
        slow = Slow(d, "m", "model.safetensors", weights, len(weights) // 2)
        until(lambda: parts(models), "the part")
        assert publish(d, "m", FILES, expect=409).json["missing"] == ["model.safetensors"]
        slow.raw.reset()
        until(lambda: not parts(models), "the end of the part")
        assert publish(d, "m", FILES, expect=409).json["missing"] == ["model.safetensors"]
        # Deleted beneath an upload: what has come is gone, what comes then stays.
        slow = Slow(d, "m", "model.safetensors", weights, len(weights) // 2)
        until(lambda: parts(models), "the part")
        d.delete(url("m"), expect=204)
        assert slow.end().status == 201
        missing = publish(d, "m", FILES, expect=409).json["missing"]
        assert missing == sorted(set(FILES) - {"model.safetensors"}), missing
        d.delete(url("m"), expect=204)
        assert staged(models) == []


def story_uploads_at_once_do_not_mix():
    print(f"     PT2_SEED={SEED}", flush=True)
    with empty_models() as models, Daemon(models=models) as d:
        failures, won = [], []

        def client(n):
            rng = random.Random(SEED + n)
            # The same model, each with a config of its own; and one of its own.
            mine = {**FILES, "config.json": FILES["config.json"].replace(b"{", b"{" + b" " * (n % 3), 1)}
            try:
                for model in ("shared", f"own{n}", "shared"):
                    for name in rng.sample(sorted(mine), len(mine)):
                        put(d, model, name, mine[name], expect=(200, 201))
                    reply = publish(d, model, mine, expect=(200, 201, 409))
                    # 409: another's publishing used the uploads up.
                    assert reply.status != 409 or model == "shared", reply
                    if model != "shared":
                        assert in_folder(models, model) == mine
                    won.append(reply.status != 409)
            except BaseException as e:
                failures.append(e)
        threads = [threading.Thread(target=client, args=(n,)) for n in range(5)]
        for thread in threads:
            thread.start()
        seen = set()
        while any(thread.is_alive() for thread in threads):
            model = d.get(url("shared"), expect=(200, 404))
            assert model.status == 404 or model.json["exportable"], model
            seen.add(model.status)
            time.sleep(0.005)
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        assert any(won)
        assert in_folder(models, "shared")["config.json"].replace(b" ", b"") == \
            FILES["config.json"].replace(b" ", b"")
        assert sorted(ids(d)) == sorted(["shared"] + [f"own{n}" for n in range(5)])


def story_a_model_that_an_export_reads_stays():
    with models_of("demo", "org/other") as models, gate() as g, \
            Daemon("--set", "exports.workers=1", models=models, env=g.env) as d:
        there = in_folder(models, "demo")
        os.symlink("demo", os.path.join(models, "link"))
        job = submit_id(d, model="link")
        until(lambda: g.n_runs() == 1, "the run")
        reply = d.delete(url("demo"), expect=409)
        assert reply.problem == "in-use" and "demo" in reply.json["detail"], reply
        changed = {**there, "merges.txt": b"new"}
        assert upload(d, "demo", changed, expect=409).problem == "in-use"
        assert in_folder(models, "demo") == there
        d.delete(url("org/other"), expect=204, label="nobody reads that one")
        d.delete(url("link"), expect=204, label="a link is but a name")
        assert sorted(f for f in os.listdir(models)) == [".uploads", "demo"]
        g.open()
        finish(d, job)
        publish(d, "demo", changed, expect=200)
        assert in_folder(models, "demo") == changed
        d.delete(url("demo"), expect=204)
        assert ids(d) == []
        submit(d, model="demo", expect=404)


def story_what_nobody_publishes_expires():
    with empty_models() as models, Daemon("--set", "models.upload_ttl=1 s", models=models) as d:
        put(d, "old", "config.json", FILES["config.json"])
        until(lambda: put(d, "new", "config.json", FILES["config.json"], expect=(200, 201)) and
              not os.path.exists(os.path.join(models, ".uploads", "files", "old")), "its end")
        time.sleep(1.1)
        d.restart()
        assert staged(models) == []
        assert publish(d, "new", FILES, expect=409).json["missing"] == sorted(FILES)


GONE = (OSError, http.client.HTTPException)


def story_nothing_is_lost_or_left_by_crashes():
    """SIGKILL at random moments while models come, are replaced and go: a model is whole, in a
    version that somebody published, and what was acknowledged holds."""
    print(f"     PT2_SEED={SEED}", flush=True)
    rng = random.Random(SEED)
    with empty_models() as models, without_engines() as env, Daemon(models=models, env=env) as d:
        versions = [{**FILES, "merges.txt": b"%d" % n * (n + 1)} for n in range(3)]
        may = {model: [None] for model in ("a", "org/b")}  # what may be there: a version or None
        came = {}  # whose files have all been acknowledged

        def act(model, random_):
            while True:
                version = random_.randrange(3)
                if random_.random() < 0.3:
                    may[model].append(None)
                    d.delete(url(model), expect=(204, 404))
                    may[model] = [None]
                    continue
                for name, data in versions[version].items():
                    put(d, model, name, data, expect=(200, 201))
                came[model] = version
                may[model].append(version)
                publish(d, model, versions[version], expect=(200, 201))
                may[model] = [version]
                del came[model]

        def client(model, seed):
            with contextlib.suppress(*GONE):
                act(model, random.Random(seed))

        for _ in range(int(os.environ.get("PT2_TEST_ROUNDS") or 6)):
            threads = [threading.Thread(target=client, args=(model, rng.random())) for model in may]
            for thread in threads:
                thread.start()
            time.sleep(rng.uniform(0.02, 0.5))
            d.kill()
            for thread in threads:
                thread.join()
            d.start()
            listed = {m["id"]: m for m in d.get("/v1/models", expect=200).json["data"]}
            assert set(listed) <= set(may), listed
            assert parts(models) == []
            for model, allowed in may.items():
                there = in_folder(models, model) if model in listed else None
                assert there is None or listed[model]["exportable"], listed
                found = None if there is None else versions.index(there)
                assert found in allowed, (model, found, allowed)
                may[model] = [found]
                if model in came:
                    may[model] = [came.pop(model)]
                    publish(d, model, versions[may[model][0]], expect=(200, 201))


if __name__ == "__main__":
    main(globals())
