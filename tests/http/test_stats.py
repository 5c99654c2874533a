#!/usr/bin/env python3
"""GET /v1/stats: what the daemon does and holds, in numbers that agree with what clients did."""

import os
import time

import prometheus
from exporting import finish, gate, in_state, submit_id
from harness import Daemon, main, token_file, token_line, until
from stepping import Session, program


def stats(d):
    return d.get("/v1/stats", expect=200).json


def check(value, schema, schemas, where="stats"):
    """The part of JSON Schema that the document uses for this."""
    if "$ref" in schema:
        return check(value, schemas[schema["$ref"].rsplit("/", 1)[1]], schemas, where)
    if "anyOf" in schema:
        return value is None or check(value, schema["anyOf"][0], schemas, where)
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float)}
    assert isinstance(value, kinds[schema["type"]]), f"{where}: {value!r}"
    assert value in schema.get("enum", [value]), f"{where}: {value!r}"
    if "minimum" in schema:
        assert value >= schema["minimum"], f"{where}: {value}"
    for name in schema.get("required", ()):
        assert name in value, f"{where}: no {name}"
    if schema["type"] == "object":
        for name, member in value.items():
            more = schema.get("properties", {}).get(name) or schema.get("additionalProperties")
            assert more, f"{where}.{name} is in no schema"
            check(member, more, schemas, f"{where}.{name}")
    for item in value if schema["type"] == "array" else ():
        check(item, schema["items"], schemas, where + "[]")


def story_it_is_as_its_schema_says(d):
    schemas = d.get("/openapi.json", expect=200).json["components"]["schemas"]
    check(stats(d), schemas["Stats"], schemas)
    s = Session(d, program(d))
    s.step([1, 2])
    check(stats(d), schemas["Stats"], schemas)
    s.delete()


def story_an_idle_daemon():
    with Daemon() as d:
        s = stats(d)
        assert s["version"] == d.get("/version").json["version"]
        assert 0 <= s["uptime"] < 60 and s["started"].endswith("Z")
        assert s["jobs"] == {"queued": 0, "running": 0, "succeeded": 0, "failed": 0, "cancelled": 0}
        assert s["queue"] == {"queued": 0, "limit": 1000, "oldest_seconds": 0.0, "running": 0, "workers": 2}
        assert s["sessions"] == {"count": 0, "limit": 1024, "cache_bytes": 0, "cache_limit_bytes": 1 << 30,
                                 "expired": 0, "deleted": 0}
        assert s["steps"]["seconds"] is None and s["steps"]["per_second"] == 0
        assert s["engines"] == s["stepped_programs"] == []
        assert s["programs"] == {"count": 0, "open": 0, "open_limit": 8}


def story_steps_are_counted_and_timed():
    with Daemon() as d:
        p = program(d)
        s = Session(d, p)
        s.step([1, 2, 3])
        for token in range(8):
            s.step([token])
        got = stats(d)
        assert got["steps"]["ok"] == 9 and got["steps"]["failed"] == 0
        assert abs(got["steps"]["per_second"] - 9 / 60) < 1e-9
        q = got["steps"]["seconds"]
        assert 0 < q["p50"] <= q["p90"] <= q["p99"] < 10
        [engine] = got["engines"]
        assert engine["program"] == p and engine["sessions"] == 1 and engine["engine"] == s.info["engine"]
        assert engine["cache_bytes"] == got["sessions"]["cache_bytes"] > 0
        [stepped] = got["stepped_programs"]
        assert stepped["program"] == p[:12] and stepped["steps"] == 9
        assert stepped["prompt_tokens"] == 3 and stepped["generated_tokens"] == 8
        assert 0 < stepped["run_seconds"]["p50"] <= stepped["run_seconds"]["p99"]
        s.delete()
        got = stats(d)
        assert got["sessions"]["count"] == 0 and got["sessions"]["deleted"] == 1


def story_the_queue_and_the_jobs():
    with gate() as door, Daemon("--set", "exports.workers=1", env=door.env) as d:
        first = submit_id(d, cache={"max_cache_len": 40})
        in_state(d, first, "running")
        second = submit_id(d, cache={"max_cache_len": 41})
        time.sleep(0.2)
        s = stats(d)
        assert s["jobs"]["queued"] == s["jobs"]["running"] == 1
        assert s["queue"]["queued"] == s["queue"]["running"] == s["queue"]["workers"] == 1
        assert 0.2 <= s["queue"]["oldest_seconds"] < 60
        d.post(f"/v1/exports/{second}/cancel", expect=202)
        door.open()
        finish(d, first)
        s = stats(d)
        assert s["jobs"] == {"queued": 0, "running": 0, "succeeded": 1, "failed": 0, "cancelled": 1}
        assert s["programs"]["count"] == 1


def story_numbers_agree_with_the_metrics(d):
    s, m = stats(d), prometheus.parse(d.get("/metrics", expect=200).text)
    assert s["steps"]["ok"] == m["pt2d_steps_total"].value(result="ok")
    assert s["disk"]["objects_bytes"] == m["pt2d_store_bytes"].value(kind="objects") >= 0
    assert abs(s["disk"]["free_bytes"] - os.statvfs(d.state).f_bavail * os.statvfs(d.state).f_frsize) < 4 << 30
    assert s["process"]["max_fds"] == m["process_max_fds"].value()


def story_the_disk_counts_what_is_stored():
    with Daemon() as d:
        p = d.get(f"/v1/programs/{program(d)}", expect=200).json
        assert stats(d)["disk"]["objects_bytes"] >= p["bytes"]


def story_a_token_is_needed_where_there_are_any():
    with Daemon() as plain:
        tokens = token_file(plain.directory, token_line("watcher", "0123456789abcdef"))
        with Daemon("--set", f"http.token_file={tokens}") as d:
            d.get("/v1/stats", expect=401)
            d.get("/v1/stats", headers={"Authorization": "Bearer 0123456789abcdef"}, expect=200)


if __name__ == "__main__":
    main(globals())
