#!/usr/bin/env python3
"""Exports: what a request may say, and a job's way from 202 to its file."""

import json
import os
import time

from exporting import (change_config, check_errors, export, finish, gate, in_state, job_of, models_of, pages,
                       sha256, submit, submit_id)
from harness import Daemon, main, until
from stepping import Session, floats

MEMBERS = ["id", "state", "model", "options", "progress", "cached", "program", "deviations",
           "verify", "pte", "error", "created", "started", "finished", "labels"]


# ---- what a request may say ----

def story_defaults_are_resolved(d):
    reply = submit(d, dry_run=True, expect=200)
    assert reply.json["options"] == {
        "dtype": "bfloat16",  # the checkpoint's
        "cache": {"implementation": "static", "batch_size": 1, "max_cache_len": 256},
        "example_input_ids": [[1]], "example_cache_position": [0], "logits_to_keep": "all",
        "dynamic_shapes": False, "attn_implementation": "eager", "profile": "torch",
        "custom_ops": False, "quantization": None, "format": "pt2", "pte": None, "verify": 0}
    # Layers, keys and values, heads, positions, head size, bytes.
    assert reply.json["cache_bytes"] == 4 * 2 * 2 * 256 * 24 * 2, reply.json
    assert reply.json["program_bytes"] > 2 * reply.json["parameters"] > 0
    assert "Location" not in reply.headers


def story_a_dry_run_makes_nothing(d):
    before = d.get("/v1/exports", expect=200).json["data"]
    submit(d, dry_run=True, dtype="float32", expect=200)
    assert d.get("/v1/exports", expect=200).json["data"] == before


def story_the_dry_run_says_what_the_job_makes(d):
    for options in ({"dtype": "float32"}, {"dtype": "float16", "cache": {"max_cache_len": 32}},
                    {"cache": {"batch_size": 3, "max_cache_len": 16}},
                    {"dynamic_shapes": True, "cache": {"max_cache_len": 64}},
                    {"attn_implementation": "sdpa", "cache": {"max_cache_len": 24}},
                    {"example_input_ids": [[9, 8, 7]], "cache": {"max_cache_len": 20}}):
        dry = submit(d, dry_run=True, expect=200, **options).json
        job = export(d, **options)
        assert job["options"] == dry["options"] and job["deviations"] == dry["deviations"]
        program = d.get(f"/v1/programs/{job['program']}", expect=200).json
        assert program["bytes"] == dry["program_bytes"], (options, program["bytes"], dry)
        assert program["parameters"]["elements"] == dry["parameters"], (program, dry)
        cache = {key: dry["options"]["cache"][key] for key in ("batch_size", "max_cache_len")}
        assert program["cache"] == {**cache, "layers": 4}, program
        assert program["model"] == "demo" and program["origin"] == "export"
        check_inputs(program, dry["options"])


def check_inputs(program, options):
    batch, length = options["cache"]["batch_size"], len(options["example_cache_position"])
    ids, positions = program["inputs"]
    if options["dynamic_shapes"]:
        length = ids["shape"][1]
        assert isinstance(length, str), program
    assert ids == {"name": "input_ids", "dtype": "int64", "shape": [batch, length]}, ids
    assert positions == {"name": "cache_position", "dtype": "int64", "shape": [length]}
    assert program["outputs"][0]["shape"] == [batch, length, 258], program["outputs"]
    assert program["outputs"][0]["dtype"] == options["dtype"], program["outputs"]


def story_examples_agree_or_are_refused(d):
    def resolved(**options):
        options = submit(d, dry_run=True, expect=200, **options).json["options"]
        return options["example_input_ids"], options["example_cache_position"]

    assert resolved(example_input_ids=[[5, 6, 7]]) == ([[1, 1, 1]], [0, 1, 2])
    assert resolved(example_cache_position=[4, 5]) == ([[1, 1]], [0, 1])
    assert resolved(example_input_ids=[[5], [6]], cache={"batch_size": 2}) == ([[1], [1]], [0])

    def refused(*pointers, **options):
        check_errors(submit(d, dry_run=True, expect=422, **options), *pointers)

    refused("/example_cache_position", example_input_ids=[[1, 2]], example_cache_position=[0])
    refused("/example_input_ids", example_input_ids=[[1], [2]])
    refused("/example_input_ids", example_input_ids=[[1]], cache={"batch_size": 2})
    refused("/example_input_ids/1", example_input_ids=[[1], [1, 2]], cache={"batch_size": 2})
    refused("/example_input_ids/0", example_input_ids=[[1, 2, 3]], cache={"max_cache_len": 2})
    refused("/example_cache_position", example_cache_position=[0, 1, 2],
            cache={"max_cache_len": 2})
    refused("/example_input_ids/0", example_input_ids=[[]])
    refused("/example_input_ids", example_input_ids=[])
    refused("/example_input_ids/0", example_input_ids=[[1.5]])
    refused("/example_input_ids/0", example_input_ids=[[-1]])
    refused("/example_cache_position", example_cache_position=[0, "1"])
    refused("/example_cache_position", example_cache_position={})


def story_examples_longer_than_the_default_cache_are_refused(d):
    reply = submit(d, dry_run=True, expect=422, example_input_ids=[[1] * 300])
    assert "256" in reply.json["detail"], reply.json
    submit(d, dry_run=True, expect=200, example_input_ids=[[1] * 256])


def story_bad_members_are_named(d):
    def refused(*pointers, **options):
        check_errors(submit(d, expect=422, **options), *pointers)

    refused("/modle", modle="demo")
    refused("/dtype", dtype="float64")
    refused("/dtype", dtype=None)
    refused("/cache", cache=7)
    refused("/cache/batch", cache={"batch": 2})
    refused("/cache/implementation", cache={"implementation": "dynamic"})
    refused("/cache/batch_size", "/cache/max_cache_len",
            cache={"batch_size": 0, "max_cache_len": -1})
    refused("/cache/max_cache_len", cache={"max_cache_len": "256"})
    refused("/dynamic_shapes", dynamic_shapes=1)
    refused("/attn_implementation", attn_implementation="flash_attention_2")
    refused("/labels", labels=["a"])
    refused("/labels/a", labels={"a": 1})
    refused("/labels/a b", labels={"a b": "c"})
    refused("/labels", labels={f"l{i}": "" for i in range(33)})
    refused("/dry_run", dry_run="yes")
    refused("/verify", verify=-1)
    refused("/quantization", quantization="8w")
    refused("/quantization/linear", quantization={"linear": "4b"})
    refused("/quantization/group_size", quantization={"linear": "8w", "group_size": 33})
    refused("/quantization/skip/0", quantization={"linear": "8w", "skip": [7]})
    check_errors(d.post("/v1/exports", {"dtype": "float32"}, expect=422), "/model")
    reply = submit(d, expect=422, dtype="x", labels=3, verify="?")
    check_errors(reply, "/dtype", "/labels", "/verify")


def story_quantised_exports(d):
    """The same key however it is said; the names are the model's."""
    asked = {"linear": "8da8w", "embedding": "8w", "skip": ["lm_head", "down_proj"], "group_size": 0}
    plain = submit(d, dry_run=True, expect=200, dtype="float32").json
    dry = submit(d, dry_run=True, expect=200, dtype="float32", quantization=asked).json
    assert dry["options"]["quantization"] == {**asked, "skip": ["down_proj", "lm_head"], "fallback": None,
                                              "embedding_group_size": 0}, dry["options"]
    assert dry["program_bytes"] < plain["program_bytes"]
    assert any("whole numbers" in text for text in dry["deviations"]), dry["deviations"]
    job = export(d, dtype="float32", quantization=asked)
    assert job["options"] == dry["options"] and job["deviations"] == dry["deviations"]
    assert d.get(f"/v1/programs/{job['program']}", expect=200).json["bytes"] == dry["program_bytes"]
    again = submit(d, dtype="float32",
                   quantization={**asked, "skip": asked["skip"][::-1], "fallback": None}).json
    assert again["cached"] and again["program"] == job["program"], again
    reply = submit(d, expect=422, quantization={"linear": "8w", "skip": ["head"]})
    assert "'head' is no linear" in reply.json["detail"], reply.json
    assert submit(d, dry_run=True, expect=200, quantization={}).json["options"]["quantization"] is None


def story_defaults_may_be_said(d):
    plain = submit(d, dry_run=True, expect=200).json
    assert submit(d, dry_run=True, expect=200, quantization=None, pte=None, verify=0, profile="torch",
                  format="pt2", logits_to_keep="all", cache={"implementation": "static"}).json == plain


def story_a_longer_cache_than_the_model_knows_is_a_deviation(d):
    reply = submit(d, dry_run=True, expect=200, cache={"max_cache_len": 300})
    assert any("max_position_embeddings" in text and "300" in text
               for text in reply.json["deviations"]), reply.json["deviations"]
    assert submit(d, dry_run=True, expect=200).json["deviations"] == \
        submit(d, dry_run=True, expect=200, cache={"max_cache_len": 256}).json["deviations"]


# ---- the job ----

def story_a_job_goes_from_202_to_its_file(d):
    reply = submit(d, cache={"max_cache_len": 40}, labels={"build": "42", "who": "café"})
    job = reply.json
    assert sorted(job) == sorted(MEMBERS), job
    assert reply.headers["Location"] == f"/v1/exports/{job['id']}"
    assert job["id"].startswith("exp_") and job["state"] in ("queued", "running"), job
    assert job["program"] is None and job["error"] is None and job["finished"] is None
    assert not job["cached"] and job["labels"] == {"build": "42", "who": "café"}
    done = finish(d, job["id"])
    assert sorted(done) == sorted(MEMBERS)
    for name in ("id", "model", "options", "created", "labels"):
        assert done[name] == job[name], name
    assert done["created"] <= done["started"] <= done["finished"], done
    assert done["progress"] == {"stage": "finished", "done": 1, "total": 1}
    file = d.get(f"/v1/exports/{job['id']}/file", expect=200)
    assert sha256(file.body) == done["program"]
    assert file.headers["ETag"] == f'"{done["program"]}"'
    assert file.body == d.get(f"/v1/programs/{done['program']}/file", expect=200).body
    part = d.get(f"/v1/exports/{job['id']}/file", headers={"Range": "bytes=4-9"}, expect=206)
    assert part.body == file.body[4:10]


def story_the_same_again_is_cached(d):
    first = export(d, cache={"max_cache_len": 41})
    assert not first["cached"]
    again = submit(d, cache={"max_cache_len": 41}, labels={"n": "2"}).json
    assert again["id"] != first["id"] and again["state"] == "succeeded" and again["cached"]
    assert again["program"] == first["program"] and again["labels"] == {"n": "2"}
    assert again["started"] == again["finished"] == again["created"]
    d.delete(f"/v1/programs/{first['program']}", expect=204)
    d.get(f"/v1/exports/{first['id']}/file", expect=404, label="the program was deleted")
    anew = export(d, cache={"max_cache_len": 41})
    assert not anew["cached"] and anew["program"] == first["program"], "same input, same bytes"


def story_unknown_exports_are_404(d):
    for call in ("", "/events", "/file"):
        assert d.get(f"/v1/exports/exp_nope{call}", expect=404).problem == "not-found"
    d.get("/v1/exports/exp_nope?wait=5", expect=404)
    d.post("/v1/exports/exp_nope/cancel", expect=404)
    d.delete("/v1/exports/exp_nope", expect=404)


def story_wait_holds_until_finished_or_the_time_is_up():
    with gate() as g, Daemon(env=g.env) as d:
        job_id = submit_id(d)
        in_state(d, job_id, "running")
        begin = time.monotonic()
        held = d.get(f"/v1/exports/{job_id}?wait=1", expect=200)
        assert held.json["state"] == "running" and time.monotonic() - begin >= 0.9
        raw = d.raw(f"GET /v1/exports/{job_id}?wait=60 HTTP/1.1\r\nHost: x\r\n\r\n")
        g.open()
        reply = raw.reply()
        assert reply.status == 200 and reply.json["state"] == "succeeded", reply
        assert d.get(f"/v1/exports/{job_id}?wait=60", expect=200).json == reply.json
        for bad in ("61", "-1", "x", "", "1.5"):
            d.get(f"/v1/exports/{job_id}?wait={bad}", expect=422, label=f"wait={bad}")


# ---- events ----

def read_event(raw):
    """The next event of a stream: {id, event, data}; None at its end."""
    event = {}
    while True:
        size = int(raw.line(), 16)
        if size == 0:
            raw.line()
            return None
        for line in raw.exactly(size).decode().splitlines():
            if line:
                name, _, value = line.partition(": ")
                event[name] = value
        raw.line()
        if "data" in event:
            return event


def follow(d, job_id, last=None):
    extra = f"Last-Event-ID: {last}\r\n" if last is not None else ""
    raw = d.raw(f"GET /v1/exports/{job_id}/events HTTP/1.1\r\nHost: x\r\n{extra}\r\n")
    status, headers = raw.head()
    headers = {name.lower(): value for name, value in headers}
    assert status == 200 and headers["content-type"].startswith("text/event-stream"), headers
    assert headers["cache-control"] == "no-cache"
    return raw


def story_events_tell_every_change_once():
    with gate() as g, Daemon(env=g.env) as d:
        job_id = submit_id(d)
        in_state(d, job_id, "running")
        raw = follow(d, job_id)
        first = read_event(raw)
        assert first["event"] == "progress", first
        assert json.loads(first["data"])["state"] == "running"
        g.open()
        events = [first]
        while event := read_event(raw):
            events.append(event)
        assert [e["event"] for e in events[:-1]] == ["progress"] * (len(events) - 1)
        assert events[-1]["event"] == "finished"
        ids = [int(e["id"]) for e in events]
        assert ids == sorted(set(ids)), ids
        job = job_of(d, job_id)
        assert json.loads(events[-1]["data"]) == job and job["state"] == "succeeded"
        # Again, from what was seen: nothing comes twice, and the end comes in any case.
        raw = follow(d, job_id, last=events[0]["id"])
        last = read_event(raw)
        assert last["event"] == "finished" and json.loads(last["data"]) == job, last
        assert read_event(raw) is None
        for seen in (last["id"], 2 ** 62):
            d.get(f"/v1/exports/{job_id}/events", headers={"Last-Event-ID": str(seen)},
                  expect=204, label="all was seen: no need to connect again")
        raw = follow(d, job_id, last="nonsense")
        assert read_event(raw)["event"] == "finished"


def story_a_stream_resumes_where_it_broke():
    with gate() as g, Daemon(env=g.env) as d:
        job_id = submit_id(d)
        in_state(d, job_id, "running")
        raw = follow(d, job_id)
        seen = read_event(raw)["id"]
        raw.reset()
        raw = follow(d, job_id, last=seen)
        g.open()
        event = read_event(raw)
        assert int(event["id"]) > int(seen), (event, seen)
        while event["event"] == "progress":
            event = read_event(raw)
        assert event["event"] == "finished" and read_event(raw) is None


# ---- lists ----

def story_lists_are_filtered_and_paged():
    with gate() as g, models_of("demo", "org/other") as models, \
            Daemon("--set", "exports.workers=1", env=g.env, models=models) as d:
        ids = [submit_id(d, model=model, cache={"max_cache_len": 30 + i},
                         labels={"n": str(i % 2), "all": "yes"})
               for i, model in enumerate(["demo", "demo", "org/other", "demo", "org/other"])]
        newest = ids[::-1]
        in_state(d, ids[0], "running")
        assert [j["id"] for j in d.get("/v1/exports", expect=200).json["data"]] == newest
        for limit in (1, 2, 3, 5, 6, 1000):
            assert [j["id"] for j in pages(d, "/v1/exports", limit)] == newest, limit

        def listed(**filters):
            return [j["id"] for j in pages(d, "/v1/exports", 1, **filters)]
        assert listed(state="running") == ids[:1]
        assert listed(state="queued") == newest[:-1]
        assert listed(state="failed") == []
        assert listed(model="org%2Fother") == [ids[4], ids[2]]
        assert listed(model="org/other") == [ids[4], ids[2]]
        assert listed(model="nope") == []
        assert listed(**{"label.n": "1"}) == [ids[3], ids[1]]
        assert listed(**{"label.n": "1", "label.all": "yes"}) == [ids[3], ids[1]]
        assert listed(**{"label.n": "1", "label.all": "no"}) == []
        assert listed(**{"label.n": "0", "model": "demo", "state": "queued"}) == []
        d.post(f"/v1/exports/{ids[3]}/cancel", expect=202)
        assert listed(state="cancelled") == [ids[3]]
        # A page holds although what it begins after was forgotten.
        page = d.get("/v1/exports?limit=2", expect=200).json
        d.delete(f"/v1/exports/{ids[3]}", expect=204)
        after = d.get(f"/v1/exports?limit=2&after={page['next']}", expect=200).json
        assert [j["id"] for j in after["data"]] == [ids[2], ids[1]]
        for bad in ("limit=0", "limit=1001", "limit=x", "after=x", "after=-1", "state=done",
                    "label.=x", "labels.n=1", "limit=1&limit=2"):
            d.get(f"/v1/exports?{bad}", expect=(400, 422), label=bad)
        g.open()
        for job_id in set(ids) - {ids[3]}:
            finish(d, job_id)
        assert len(listed(state="succeeded")) == 4


def story_a_hybrid_session_goes_beyond_its_window_but_not_back():
    """The demo's weights with a window of 6: by both engines the logits of a static cache."""
    ids = [(7 * i + 3) % 250 for i in range(60)]
    with models_of("sliding") as models:
        change_config(os.path.join(models, "sliding"), model_type="mistral", sliding_window=6,
                      architectures=["MistralForCausalLM"])
        with Daemon(models=models) as d:
            static, hybrid = [export(d, model="sliding", dtype="float32", cache={
                "implementation": kind, "max_cache_len": 64}, logits_to_keep=keep)
                for kind, keep in (("static", "all"), ("hybrid", "last"))]
            assert any("rings of at most 6 positions" in text for text in hybrid["deviations"])
            program = d.get(f"/v1/programs/{hybrid['program']}", expect=200).json
            assert program["cache"]["max_cache_len"] == 64
            until(lambda: d.get(f"/v1/programs/{hybrid['program']}", expect=200).json["engines"]["native"]["ok"],
                  "native takes it")
            assert program["outputs"][0]["shape"][1] == 1, program["outputs"]
            for engine in ("native", "aten"):
                want, got = (Session(d, job["program"]) if engine == "native" else
                             Session(d, job["program"], engine=engine)
                             for job in (static, hybrid))
                assert 10 * got.info["cache_bytes"] < want.info["cache_bytes"]
                for s in (want, got):
                    s.step(ids[:55], logits=False)
                a, b = ([x for x in floats(s.logits(ids[55:], rows="all"))] for s in (want, got))
                largest = max(map(abs, a))
                assert max(abs(x - y) for x, y in zip(a, b)) <= 1e-5 * largest, engine
                floor = got.get()["rewind_floor"]
                assert 60 - 16 <= floor < 60, (engine, floor)
                reply = got.step(ids[:1], cache_position=[floor - 1], expect=409)
                assert reply.problem == "cannot-rewind", reply.json
                again = floats(got.logits(ids[59:], cache_position=[59]))
                assert max(abs(x - y) for x, y in zip(again, b[-len(again):])) <= 1e-5 * largest
                want.delete(), got.delete()


if __name__ == "__main__":
    main(globals())
