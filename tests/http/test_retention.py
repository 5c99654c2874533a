#!/usr/bin/env python3
"""Which programs go to make room, or for their age, and which never do."""

import os
import sqlite3
import contextlib
import time

from exporting import export, finish, sha256, submit, submit_id, without_engines
from harness import BUILD, Daemon, main, until


def listed(d):
    return [p["id"] for p in d.get("/v1/programs", expect=200).json["data"]]


def use_long_ago(d, *programs):
    """The daemon notes a use once a minute: in the order of programs these were used hours ago."""
    with contextlib.closing(sqlite3.connect(os.path.join(d.state, "pt2d.db"))) as db, db:
        for i, program in enumerate(programs):
            at = int(time.time() * 1000) - 3600000 * (100 - i)
            assert db.execute("UPDATE programs SET used = ?, created = ? WHERE id = ?",
                              (at, at, program)).rowcount == 1


def make(d, n, **more):
    return export(d, cache={"max_cache_len": n}, **more)["program"]


def size_of(d, program):
    return d.get(f"/v1/programs/{program}", expect=200).json["bytes"]


@contextlib.contextmanager
def room_for(n_programs, *flags):
    """A daemon that has room for so many of the bundled model's programs."""
    with without_engines() as env:
        with Daemon(env=env) as d:
            size = size_of(d, make(d, 8))
        limit = size * n_programs + size // 2
        with Daemon("--set", f"programs.max_store_bytes={limit}", *flags, env=env) as d:
            yield d


def story_the_one_used_longest_ago_goes_first():
    with room_for(3) as d:
        a, b, c = make(d, 8), make(d, 9), make(d, 10)
        use_long_ago(d, a, b, c)
        d.get(f"/v1/programs/{a}/file", expect=200)  # a download is a use
        assert finish(d, submit_id(d, cache={"max_cache_len": 9}))["cached"]  # and so is an export
        e = make(d, 11)
        until(lambda: listed(d) == [a, b, e], "c goes")
        until(lambda: not os.path.exists(os.path.join(d.state, "objects", c[:2], c)), "its file goes")
        until(lambda: d.metric("pt2d_programs_removed_total", why="size") == 1, "it is counted")
        total = sum(size_of(d, p) for p in (a, b, e))
        until(lambda: d.metric("pt2d_program_bytes") == total, "what is left is counted")
        assert f"program {c} was removed (size)" in d.log()
        job = finish(d, submit_id(d, cache={"max_cache_len": 10}))  # it can be made again
        assert not job["cached"] and job["program"] == c


def story_what_is_named_or_pinned_stays():
    with room_for(3) as d:
        named, pinned, plain = make(d, 8), make(d, 9), make(d, 10)
        d.put("/v1/aliases/prod", {"program": named}, expect=201)
        d.request("PUT", f"/v1/programs/{pinned[:12]}/pin", expect=204)
        d.request("PUT", f"/v1/programs/{pinned}/pin", expect=204)  # twice is once
        assert d.get(f"/v1/programs/{pinned}", expect=200).json["pinned"] is True
        assert d.get(f"/v1/programs/{plain}", expect=200).json["pinned"] is False
        use_long_ago(d, named, pinned, plain)
        new = make(d, 11)
        until(lambda: listed(d) == [named, pinned, new], "the other one goes")
        d.restart()
        assert d.get(f"/v1/programs/{pinned}", expect=200).json["pinned"] is True
        use_long_ago(d, named, pinned, new)
        d.delete(f"/v1/programs/{pinned}/pin", expect=204)
        newer = make(d, 12)
        until(lambda: listed(d) == [named, new, newer], "what was pinned goes like any other")
        d.request("PUT", f"/v1/programs/{pinned}/pin", expect=404)
        use_long_ago(d, named, new, newer)
        d.delete("/v1/aliases/prod", expect=204)
        newest = make(d, 13)
        until(lambda: listed(d) == [new, newer, newest], "what was named goes, too")


def story_what_has_no_room_is_refused_before_work():
    with without_engines() as env, Daemon(env=env) as other:
        data = other.get(f"/v1/exports/{export(other, cache={'max_cache_len': 12})['id']}/file", expect=200).body
    with room_for(2) as d:
        for n in (8, 9):
            d.request("PUT", f"/v1/programs/{make(d, n)}/pin", expect=204)
        reply = submit(d, expect=507, cache={"max_cache_len": 10})
        assert reply.problem == "no-space" and "programs.max_store_bytes" in reply.json["detail"], reply
        until(lambda: d.request("PUT", f"/v1/programs/{sha256(data)}", body=data).status == 507, "it is refused")
        raw = d.raw(f"PUT /v1/programs/{sha256(data)} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                    f"Content-Type: application/octet-stream\r\nContent-Length: {len(data)}\r\n\r\n")
        assert raw.reply().status == 507  # no 100 Continue
        raw.close()
        assert len(listed(d)) == 2 and d.metric("pt2d_programs_removed_total") == 0
        d.request("PUT", f"/v1/programs/{listed(d)[0]}", body=b"x", expect=(422,))
        assert finish(d, submit_id(d, cache={"max_cache_len": 8}))["cached"]  # what is there needs no room


def story_a_start_cleans_up_too():
    with without_engines() as env, Daemon(env=env) as d:
        programs = [make(d, n) for n in (8, 9, 10)]
        size = size_of(d, programs[0])
        use_long_ago(d, programs[1], programs[2], programs[0])
        d.stop()
        d.flags += ["--set", f"programs.max_store_bytes={size + size // 2}"]
        d.start()
        until(lambda: listed(d) == [programs[0]], "two go")


def story_programs_go_for_their_age():
    with without_engines() as env, Daemon("--set", "programs.keep=2 h", env=env) as d:
        old, named, young = make(d, 8), make(d, 9, format="pte"), make(d, 10)
        old_pte = export(d, cache={"max_cache_len": 11}, format="pte")
        d.put("/v1/aliases/prod", {"program": named}, expect=201)
        use_long_ago(d, old, named, old_pte["program"])
        d.restart()
        until(lambda: listed(d) == [named, young], "two go")
        pte = old_pte["pte"]["sha256"]  # and what was made of it
        until(lambda: not os.path.exists(os.path.join(d.state, "objects", pte[:2], pte)), "its .pte goes")
        until(lambda: d.metric("pt2d_programs_removed_total", why="age") == 2, "they are counted")


def story_a_session_holds_its_program():
    if not os.path.exists(os.path.join(BUILD, "pt2-aten")):
        print("     (no engine is built: skipped)")
        return
    with room_for(1) as quiet:
        limit = quiet.flags[1]
    with Daemon("--set", limit) as d:
        program = make(d, 8)
        until(lambda: d.get(f"/v1/programs/{program}", expect=200).json["engines"]["native"]["ok"], "the verdict")
        session = d.post("/v1/sessions", {"program": program, "engine": "native"}, expect=201).json["id"]
        submit(d, expect=507, cache={"max_cache_len": 9})
        d.delete(f"/v1/sessions/{session}", expect=204)
        other = make(d, 9)
        until(lambda: listed(d) == [other], "it goes with its session")


if __name__ == "__main__":
    main(globals())
