#!/usr/bin/env python3
"""Models: what lies beneath the models directory, and what does not count as lying there."""

import contextlib
import os
import shutil
import tempfile

from exporting import (change_config, copy_demo, export, finish, gate, in_state, models_of, pages,
                       submit)
from harness import MODELS, TIMEOUT, Daemon, main

GGUF = os.path.join(os.path.dirname(__file__), "../data/gguf/llama.gguf")
MEMBERS = ["id", "model_type", "architecture", "dtype", "parameters", "bytes",
           "max_position_embeddings", "vocab_size", "exportable", "reason"]


def story_the_bundled_model_is_described(d):
    model, = d.get("/v1/models", expect=200).json["data"]
    weights = os.path.getsize(os.path.join(MODELS, "demo", "model.safetensors"))
    assert sorted(model) == sorted(MEMBERS), model
    assert model["bytes"] >= weights > 2 * model["parameters"] > 0.9 * weights, (model, weights)
    wanted = {"id": "demo", "model_type": "llama", "architecture": "LlamaForCausalLM",
              "dtype": "bfloat16", "max_position_embeddings": 256, "vocab_size": 258,
              "exportable": True, "reason": None}
    assert {name: model[name] for name in wanted} == wanted, model
    assert d.get("/v1/models/demo", expect=200).json == model
    assert d.head("/v1/models/demo", expect=200).body == b""


def story_models_are_found_one_or_two_levels_deep():
    with models_of("one", "org/two", "org/three", "a/b/deep", ".hidden", "org/.hidden") as models, \
            Daemon(models=models) as d:
        os.mkdir(os.path.join(models, "empty"))
        with open(os.path.join(models, "file"), "w") as f:
            f.write("no model")
        ids = [m["id"] for m in d.get("/v1/models", expect=200).json["data"]]
        assert ids == ["one", "org/three", "org/two"], ids
        for limit in (1, 2, 3, 4):
            assert [m["id"] for m in pages(d, "/v1/models", limit)] == ids, limit
        assert d.get("/v1/models/org%2Ftwo", expect=200).json["id"] == "org/two"
        assert d.get("/v1/models/org%2ftwo", expect=200).json["id"] == "org/two"
        for name in ("org/two", "org", "org%2F", "%2Fone", "one%2F", "a%2Fb%2Fdeep", ".hidden",
                     "org%2F.hidden", "empty", "file", "nope", "org%2F%2Ftwo", "one%20"):
            d.get(f"/v1/models/{name}", expect=404, label=name)
        for name in ("..%2Fone", "org%2F..%2Fone", "..%2F..%2Fetc"):
            d.get(f"/v1/models/{name}", expect=(400, 404), label=name)
        assert export(d, model="org/two")["model"] == "org/two"


def story_what_lies_in_a_model_is_no_other():
    with models_of("org", "org/mod", "else/mod") as models, Daemon(models=models) as d:
        assert [m["id"] for m in d.get("/v1/models", expect=200).json["data"]] == ["else/mod", "org"]
        assert d.get("/v1/models/org%2Fmod", expect=404).problem == "not-found"
        d.post("/v1/exports", {"model": "org/mod"}, expect=404)
        d.get("/v1/models/else%2Fmod", expect=200)


def story_a_models_directory_that_is_a_file_is_no_start():
    with tempfile.NamedTemporaryFile() as f:
        d = Daemon(models=f.name)
        try:
            d.start()
            assert False, "it started"
        except RuntimeError as e:
            assert "is no directory" in str(e), e
        assert d.process.wait(TIMEOUT) == 1
        d.process = None
    with Daemon(models="/nonexistent/models") as d:
        assert "there is no models directory" in d.log()
        assert d.get("/v1/models", expect=200).json["data"] == []


def story_the_list_follows_the_directory():
    with models_of("one") as models, Daemon(models=models) as d:
        def ids():
            return [m["id"] for m in d.get("/v1/models", expect=200).json["data"]]
        assert ids() == ["one"]
        copy_demo(os.path.join(models, "two"))
        assert ids() == ["one", "two"]
        change_config(os.path.join(models, "one"), model_type="mamba")
        model = d.get("/v1/models/one", expect=200).json
        assert not model["exportable"] and "'mamba': state space" in model["reason"], model
        shutil.rmtree(os.path.join(models, "one"))
        assert ids() == ["two"]
        shutil.rmtree(models)
        assert ids() == []
        d.get("/v1/models/two", expect=404)
        os.mkdir(models)


def story_a_gguf_file_is_a_model_in_a_folder_or_by_itself():
    with models_of() as models, Daemon(models=models) as d:
        os.mkdir(os.path.join(models, "org"))
        for name in ("org/tiny/any.gguf", "tiny.gguf", "part-00001-of-00002.gguf"):
            path = os.path.join(models, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            shutil.copyfile(GGUF, path)
        ids = [m["id"] for m in d.get("/v1/models", expect=200).json["data"]]
        assert ids == ["org/tiny", "tiny.gguf"], ids
        model = d.get("/v1/models/tiny.gguf", expect=200).json
        wanted = {"model_type": "llama", "architecture": "LlamaForCausalLM", "dtype": "float32",
                  "max_position_embeddings": 64, "vocab_size": 262, "exportable": True,
                  "bytes": os.path.getsize(GGUF)}
        assert {name: model[name] for name in wanted} == wanted, model
        dry = submit(d, model="tiny.gguf", dry_run=True, expect=200).json
        job = export(d, model="tiny.gguf")
        assert job["deviations"] == dry["deviations"] == [] and not job["cached"], job
        program = d.get(f"/v1/programs/{job['program']}", expect=200).json
        assert program["bytes"] == dry["program_bytes"], (program, dry)
        assert export(d, model="tiny.gguf")["cached"]
        assert export(d, model="org/tiny")["program"] == job["program"]
        with open(os.path.join(models, "tiny.gguf"), "r+b") as f:
            f.truncate(1000)
        model = d.get("/v1/models/tiny.gguf", expect=200).json
        assert not model["exportable"] and "'tiny.gguf', byte " in model["reason"], model
        submit(d, model="tiny.gguf", expect=422)


def story_links_lead_no_further_than_the_models_directory():
    with models_of("real", "parts") as models, models_of("secret") as outside, \
            Daemon(models=models) as d:
        secret = os.path.join(outside, "secret")
        os.symlink("real", os.path.join(models, "within"))
        os.symlink(secret, os.path.join(models, "out"))
        os.symlink(outside, os.path.join(models, "org"))
        os.symlink("nowhere", os.path.join(models, "dangling"))
        os.symlink(".", os.path.join(models, "self"))
        os.symlink("loop", os.path.join(models, "loop"))
        weights = os.path.join(models, "parts", "model.safetensors")
        os.unlink(weights)
        os.symlink(os.path.join(secret, "model.safetensors"), weights)
        models_listed = {m["id"]: m for m in d.get("/v1/models", expect=200).json["data"]}
        for name in ("out", "org/secret", "dangling", "loop"):
            assert name not in models_listed, name
            d.get("/v1/models/" + name.replace("/", "%2F"), expect=404, label=name)
            submit(d, model=name, expect=404)
        assert models_listed["within"]["exportable"] and models_listed["real"]["exportable"]
        parts = models_listed["parts"]
        assert not parts["exportable"] and "model.safetensors" in parts["reason"] and \
            "link" in parts["reason"], parts
        reply = submit(d, model="parts", expect=422)
        assert reply.problem == "not-exportable" and "link" in reply.json["detail"], reply
        assert reply.json["errors"][0]["pointer"] == "/model"
        # A link to the weights of a neighbour is followed.
        os.unlink(weights)
        os.symlink("../real/model.safetensors", weights)
        linked, real = export(d, model="parts"), export(d, model="real")
        assert linked["program"] == real["program"]
        # One that swings out later is seen.
        os.unlink(weights)
        os.symlink(os.path.join(secret, "model.safetensors"), weights)
        submit(d, model="parts", dtype="float32", expect=422)


@contextlib.contextmanager
def replaced(path, target):
    """While a link to target stands in the place of what is at path, if anything is."""
    aside = os.path.join(os.path.dirname(path), ".aside-" + os.path.basename(path))
    there = os.path.lexists(path)
    if there:
        os.rename(path, aside)
    os.symlink(target, path)
    yield
    os.unlink(path)
    if there:
        os.rename(aside, path)


def story_no_file_of_a_model_leads_out():
    with models_of("real", "other/real") as models, models_of("secret", "real") as outside, gate() as g, \
            Daemon("--set", "exports.workers=1", models=models, env=g.env) as d:
        secret = os.path.join(outside, "secret")
        for name in sorted(os.listdir(secret)) + ["model.safetensors.index.json"]:
            inside, target = os.path.join(models, "real", name), os.path.join(outside, "target")
            shutil.copyfile(os.path.join(secret, "config.json"), target)
            for link in (target, os.path.relpath(target, os.path.dirname(inside)), "chain"):
                chain = os.path.join(models, "real", "chain")
                with replaced(inside, link), replaced(chain, target):
                    model = d.get("/v1/models/real", expect=200).json
                    assert not model["exportable"] and "link" in model["reason"], (name, link, model)
                    assert submit(d, model="real", expect=422).problem == "not-exportable"
        # a model that is a file, and folders on the way
        for link, target in (("out.gguf", os.path.join(outside, "target")), ("far", outside),
                             ("up", ".."), ("root", "/")):
            os.symlink(target, os.path.join(models, link))
            for name in (link, f"{link}/secret", f"{link}/real", f"{link}/{os.path.basename(outside)}"):
                d.get("/v1/models/" + name.replace("/", "%2F"), expect=404, label=name)
                submit(d, model=name, expect=404)
        for name in ("../" + os.path.basename(outside), "..", ".", "real/..", "real/../real", "/etc", "real/",
                     "real//x", "a/b/c", "real\\x", "~root", "."):
            submit(d, model=name, expect=(404, 422))
            d.get("/v1/models/" + name.replace("/", "%2F"), expect=(400, 404), label=name)
        # one that swings out while its export waits for its turn
        in_state(d, submit(d, model="other/real").json["id"], "running")
        job = submit(d, model="real", cache={"max_cache_len": 32}).json["id"]
        with replaced(os.path.join(models, "real", "tokenizer.json"), os.path.join(outside, "target")):
            g.open()
            error = finish(d, job, "failed")["error"]
        assert error["type"] == "/problems/not-exportable" and "link" in error["detail"], error


def story_lists_are_asked_for_correctly(d):
    for bad in ("limit=0", "limit=1001", "limit=ten", "state=queued"):
        d.get(f"/v1/models?{bad}", expect=422, label=bad)
    assert d.get("/v1/models?after=demo", expect=200).json == {"data": [], "next": None}


if __name__ == "__main__":
    main(globals())
