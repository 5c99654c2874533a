#!/usr/bin/env python3
"""Jobs: runs that are shared, queues that are full, restarts, models that are not as they should."""

import contextlib
import os
import signal
import tempfile

from exporting import (change_config, check_nothing_left, copy_demo, export, finish, gate, in_state, job_of, models_of,
                       sha256, small_disk, state_files, submit, submit_id)
from harness import TIMEOUT, Daemon, bearer, main, token_line, until


# ---- runs ----

def story_equal_jobs_share_a_run():
    with gate() as g, Daemon(env=g.env) as d:
        ids = [submit_id(d, cache={"max_cache_len": 50}) for _ in range(4)]
        in_state(d, ids[0], "running")
        late = submit_id(d, cache={"max_cache_len": 50}, labels={"late": "1"})
        assert len({*ids, late}) == 5
        g.open()
        programs = {finish(d, i)["program"] for i in [*ids, late]}
        assert len(programs) == 1 and g.n_runs() == 1, (programs, g.n_runs())


def story_what_was_cached_is_forgotten_in_time():
    """Without a run that ends: the list grew for as long as builds asked for what was there."""
    with Daemon("--set", "exports.keep=4s") as d:
        export(d)
        old = submit_id(d)
        assert job_of(d, old)["cached"]

        def is_forgotten():
            assert job_of(d, submit_id(d))["cached"]
            return d.get(f"/v1/exports/{old}", expect=(200, 404)).status == 404
        until(is_forgotten, "the end of a cached export")


def story_a_cancel_leaves_the_run_to_the_others():
    with gate() as g, Daemon(env=g.env) as d:
        first = submit_id(d)
        until(lambda: g.n_runs() == 1, "the worker")  # from then on an equal job joins the run
        second = submit_id(d)
        assert job_of(d, second)["state"] == "running"
        d.post(f"/v1/exports/{first}/cancel", expect=202)
        assert job_of(d, second)["state"] == "running", "others want the run"
        g.open()
        finish(d, second)
        assert g.n_runs() == 1
        assert job_of(d, first)["state"] == "cancelled"


def story_the_same_content_under_another_name_shares_a_run():
    with gate() as g, models_of("one", "two") as models, Daemon(env=g.env, models=models) as d:
        ids = [submit_id(d, model=model) for model in ("one", "two")]
        in_state(d, ids[0], "running")
        in_state(d, ids[1], "running")
        g.open()
        jobs = [finish(d, i) for i in ids]
        assert jobs[0]["program"] == jobs[1]["program"] and g.n_runs() == 1, (jobs, g.n_runs())
        assert [job["model"] for job in jobs] == ["one", "two"]


def story_the_last_cancel_stops_the_run():
    with gate() as g, Daemon("--set", "exports.workers=1", env=g.env) as d:
        ids = [submit_id(d)]
        until(lambda: g.n_runs() == 1, "the worker")  # from then on an equal job joins the run
        ids.append(submit_id(d))
        waiting = submit_id(d, dtype="float32")
        assert job_of(d, ids[1])["state"] == "running"
        d.delete(f"/v1/exports/{ids[0]}", expect=409, label="running")
        d.delete(f"/v1/exports/{waiting}", expect=409, label="queued")
        d.get(f"/v1/exports/{waiting}/file", expect=409, label="no file yet")
        for job_id in ids:
            job = d.post(f"/v1/exports/{job_id}/cancel", expect=202).json
            assert job["id"] == job_id and job["state"] == "cancelled" and job["finished"], job
        in_state(d, waiting, "running")
        job = d.post(f"/v1/exports/{waiting}/cancel", expect=202).json
        assert job["program"] is None and job["error"] is None, job
        d.post(f"/v1/exports/{waiting}/cancel", expect=409, label="finished already")
        d.get(f"/v1/exports/{waiting}/file", expect=409, label="cancelled")
        d.get(f"/v1/programs/{waiting}", expect=409, label="an export without a program")
        until(lambda: state_files(d, "tmp") == [], "the temporary file's end")
        d.delete(f"/v1/exports/{waiting}", expect=204)
        d.get(f"/v1/exports/{waiting}", expect=404)
        d.delete(f"/v1/exports/{waiting}", expect=404)
        g.open()
        export(d)


def story_deleting_a_job_leaves_its_program():
    with Daemon() as d:
        job = export(d)
        d.delete(f"/v1/exports/{job['id']}", expect=204)
        d.get(f"/v1/exports/{job['id']}", expect=404)
        assert d.get("/v1/exports", expect=200).json == {"data": [], "next": None}
        d.get(f"/v1/programs/{job['program']}", expect=200)
        d.get(f"/v1/programs/{job['id']}", expect=404, label="the export's name went with it")


# ---- the queue ----

def story_a_full_queue_is_429():
    with gate() as g, Daemon("--set", "exports.workers=1", "--set", "exports.max_queued=2",
                             env=g.env) as d:
        in_state(d, submit_id(d, cache={"max_cache_len": 10}), "running")
        waiting = [submit_id(d, cache={"max_cache_len": n}) for n in (11, 12)]
        reply = submit(d, cache={"max_cache_len": 13}, expect=429)
        assert reply.problem == "queue-full" and int(reply.headers["Retry-After"]) > 0, reply
        submit(d, cache={"max_cache_len": 13}, expect=200, dry_run=True)
        d.post(f"/v1/exports/{waiting[0]}/cancel", expect=202)
        last = submit_id(d, cache={"max_cache_len": 13})
        submit(d, cache={"max_cache_len": 14}, expect=429)
        g.open()
        for job_id in (waiting[1], last):
            finish(d, job_id)
        assert submit(d, cache={"max_cache_len": 13}).json["cached"]


# ---- Idempotency-Key ----

def story_a_key_gives_the_same_answer_again():
    key = {"Idempotency-Key": "nightly-7"}
    with gate() as g, Daemon(env=g.env) as d:
        first = submit(d, headers=key, labels={"a": "1", "b": "2"})
        again = d.request("POST", "/v1/exports", headers={**key, "Content-Type": "application/json"},
                          body=b'{ "labels": {"b": "2", "a": "1"}, "model": "demo" }', expect=202)
        assert again.json == first.json, "the body is compared as parsed"
        assert again.headers["Location"] == first.headers["Location"]
        assert again.headers["Idempotency-Replayed"] == "true"
        other = submit(d, headers=key, labels={"a": "2"}, expect=422)
        assert other.problem == "idempotency-key-mismatch", other
        assert len(d.get("/v1/exports", expect=200).json["data"]) == 1
        d.kill()
        d.start()
        assert submit(d, headers=key, labels={"a": "1", "b": "2"}).json == first.json
        submit(d, headers=key, labels={}, expect=422)
        g.open()
        finish(d, first.json["id"])
        d.delete(f"/v1/exports/{first.json['id']}", expect=204)
        fresh = submit(d, headers=key, labels={"a": "2"})
        assert fresh.json["id"] != first.json["id"], "the key's job is gone, so the key is free"
        for bad in ("", "x" * 256, "with space"):
            submit(d, headers={"Idempotency-Key": bad}, expect=400)


def story_only_good_answers_are_kept_under_a_key():
    key = {"Idempotency-Key": "k"}
    with Daemon() as d:
        submit(d, headers=key, model="nope", expect=404)
        submit(d, headers=key, dtype="x", expect=422)
        job = submit(d, headers=key).json
        assert submit(d, headers=key).json["id"] == job["id"]
        finish(d, job["id"])


def story_keys_are_each_tokens_own():
    with tempfile.NamedTemporaryFile("w", suffix=".tokens") as f:
        f.write(token_line("one", "first") + token_line("two", "second"))
        f.flush()
        with Daemon("--set", f"http.token_file={f.name}") as d:
            def post(token):
                return submit(d, headers={"Idempotency-Key": "k", **bearer(token)},
                              cache={"max_cache_len": 16}).json["id"]
            one, two = post("first"), post("second")
            assert one != two
            assert post("first") == one and post("second") == two


# ---- models that can't be exported ----

def story_the_model_at_fault_is_named():
    with models_of("good") as models, Daemon(models=models) as d:
        def refused(name, status, *words):
            reply = submit(d, model=name, expect=status)
            assert all(word in reply.json["detail"] for word in words), (words, reply.json)
            return reply
        reply = refused("missing", 404, "missing")
        assert reply.json["errors"][0]["pointer"] == "/model", reply.json
        for name in ("../good", "good/..", "/good", "a/b/c", ".hidden", ""):
            submit(d, model=name, expect=(404, 422))
        copy_demo(os.path.join(models, "odd"), model_type="mamba")
        reply = refused("odd", 422, "model_type", "mamba")
        assert reply.problem == "not-exportable", reply.json
        assert reply.json["detail"] == d.get("/v1/models/odd", expect=200).json["reason"]
        copy_demo(os.path.join(models, "act"), hidden_act="sinh")
        refused("act", 422, "hidden_act", "sinh")
        copy_demo(os.path.join(models, "heads"), num_key_value_heads=3)
        refused("heads", 422, "num_key_value_heads")
        copy_demo(os.path.join(models, "wide"), hidden_size=100)
        refused("wide", 422)
        empty = copy_demo(os.path.join(models, "empty"))
        os.unlink(os.path.join(empty, "config.json"))
        assert refused("empty", 422, "config.json").problem == "not-exportable"
        text = copy_demo(os.path.join(models, "text"))
        with open(os.path.join(text, "config.json"), "w") as f:
            f.write("{")
        refused("text", 422, "config.json")
        cut = copy_demo(os.path.join(models, "cut"))
        os.truncate(os.path.join(cut, "model.safetensors"), 5000)
        refused("cut", 422, "model.safetensors")
        listed = {m["id"]: m for m in d.get("/v1/models", expect=200).json["data"]}
        assert listed["good"]["exportable"] and listed["good"]["reason"] is None
        for name in ("odd", "act", "heads", "wide", "empty", "text", "cut"):
            assert not listed[name]["exportable"] and listed[name]["reason"], listed[name]
        assert d.get("/v1/exports", expect=200).json["data"] == []


def story_a_checkpoint_changed_meanwhile_is_no_program():
    with gate() as g, models_of("demo") as models, Daemon(env=g.env, models=models) as d:
        demo = os.path.join(models, "demo")
        job_id = submit_id(d)
        in_state(d, job_id, "running")
        until(lambda: g.n_runs() == 1, "the worker")
        change_config(demo, bos_token_id=1)
        g.open()
        job = finish(d, job_id, "failed")
        assert job["error"]["type"] == "/problems/checkpoint-changed", job
        assert job["program"] is None and d.get("/v1/programs", expect=200).json["data"] == []
        check_nothing_left(d)
        first = export(d)
        change_config(demo, rms_norm_eps=0.5)
        other = export(d)
        assert not other["cached"] and other["program"] != first["program"]


def story_a_folder_that_takes_the_models_name_meanwhile_is_noticed():
    with gate() as g, models_of("demo", "next") as models, Daemon(env=g.env, models=models) as d:
        demo, following = os.path.join(models, "demo"), os.path.join(models, "next")
        change_config(following, rms_norm_eps=0.5)
        job_id = submit_id(d)
        in_state(d, job_id, "running")
        until(lambda: g.n_runs() == 1, "the worker")
        os.rename(demo, os.path.join(models, "last"))
        os.rename(following, demo)
        g.open()
        job = finish(d, job_id, "failed")
        assert job["error"]["type"] == "/problems/checkpoint-changed", job
        check_nothing_left(d)
        assert export(d, model="last")["program"] != export(d)["program"]


def story_a_model_taken_away_while_its_job_waits_fails_it():
    with gate() as g, models_of("demo", "away") as models, \
            Daemon("--set", "exports.workers=1", env=g.env, models=models) as d:
        in_state(d, submit_id(d), "running")
        job_id = submit_id(d, model="away", dtype="float32")
        os.rename(os.path.join(models, "away"), os.path.join(models, "..gone"))
        g.open()
        job = finish(d, job_id, "failed")
        assert job["error"]["type"] == "/problems/not-found" and "away" in job["error"]["detail"]


# ---- the end of the daemon, and its next start ----

def check_recovered(d, ids):
    programs = {finish(d, job_id)["program"] for job_id in ids}
    until(lambda: state_files(d, "tmp") == [], "the end of temporary files")
    for program in programs:
        assert sha256(d.get(f"/v1/programs/{program}/file", expect=200).body) == program
    return programs


def story_jobs_survive_a_crash():
    with gate() as g, Daemon("--set", "exports.workers=1", env=g.env) as d:
        ids = [submit_id(d, cache={"max_cache_len": 60 + i}, labels={"i": str(i)})
               for i in range(3)]
        ids.append(submit_id(d, cache={"max_cache_len": 60}, labels={"i": "again"}))
        in_state(d, ids[0], "running")
        before = [job_of(d, job_id) for job_id in ids]
        assert d.kill() == -signal.SIGKILL
        d.start()
        in_state(d, ids[0], "running")
        for old in before:
            new = job_of(d, old["id"])
            for name in ("model", "options", "labels", "created", "deviations"):
                assert new[name] == old[name], (name, old, new)
        g.open()
        assert len(check_recovered(d, ids)) == 3


def story_a_job_interrupted_three_times_is_failed():
    with gate() as g, Daemon("--set", "exports.workers=1", env=g.env) as d:
        job_id, waiting = submit_id(d), submit_id(d, dtype="float32")
        for _ in range(3):
            in_state(d, job_id, "running")
            d.kill()
            d.start()
        job = finish(d, job_id, "failed")
        assert job["error"]["type"] == "/problems/worker-died", job
        g.open()
        finish(d, waiting)
        assert submit(d).json["state"] in ("queued", "running"), "another job tries anew"


def story_sigterm_keeps_queued_jobs():
    with gate() as g, Daemon("--set", "exports.workers=1", "--set", "daemon.grace=60 s",
                             env=g.env) as d:
        ids = [submit_id(d, cache={"max_cache_len": 70 + i}) for i in range(3)]
        in_state(d, ids[0], "running")
        until(lambda: g.n_runs() == 1, "the worker")
        d.signal(signal.SIGTERM)
        g.open()
        d.process.wait(TIMEOUT)  # a second SIGTERM would end it at once
        assert d.stop() == 0
        g.shut()
        d.start()
        assert job_of(d, ids[0])["state"] == "succeeded", "what ran was finished within the grace"
        in_state(d, ids[1], "running")
        assert job_of(d, ids[2])["state"] == "queued"
        until(lambda: g.n_runs() == 2, "the second run, and no other")
        g.open()
        check_recovered(d, ids)


def story_the_grace_ends_and_the_job_waits_for_the_next_start():
    with gate() as g, Daemon("--set", "exports.workers=1", "--set", "daemon.grace=0", env=g.env) as d:
        job_id = submit_id(d)
        for _ in range(4):  # stops, unlike crashes, are not held against it
            in_state(d, job_id, "running")
            d.restart()
        g.open()
        check_recovered(d, [job_id])


# ---- the disk ----

def story_a_full_disk_leaves_nothing_half_written():
    with small_disk(24) as disk:
        if disk is None:
            print("     (no small file system can be mounted: skipped)")
            return
        state, ballast = os.path.join(disk, "state"), os.path.join(disk, "ballast")
        with gate() as g, Daemon(state=state, env=g.env) as d:
            job_id = submit_id(d)
            in_state(d, job_id, "running")
            with open(ballast, "wb") as f, contextlib.suppress(OSError):
                while True:
                    f.write(b"x" * 65536)
                    f.flush()
            os.truncate(ballast, os.path.getsize(ballast) - (256 << 10))  # for the database
            reply = submit(d, dtype="float32", expect=507)
            assert reply.problem == "no-space", reply
            d.post("/v1/programs", body=b"PK\3\4" + bytes(1000), expect=507)
            g.open()
            job = finish(d, job_id, "failed")
            assert job["error"]["type"] == "/problems/no-space", job
            check_nothing_left(d)
            os.unlink(ballast)
            check_recovered(d, [submit_id(d)])


if __name__ == "__main__":
    main(globals())
