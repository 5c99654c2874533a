#!/usr/bin/env python3
"""pt2d --fsck, and programs whose files are damaged: nothing of it is served, and an export
makes it again."""

import contextlib
import hashlib
import os
import sqlite3
import subprocess
import tempfile

from exporting import export, finish, sha256, state_files, submit_id, without_engines
from harness import BUILD, SOURCE, Daemon, main, until
from uploading import FILES, publish, put


def fsck(d, how=""):
    """(exit status, lines)"""
    run = subprocess.run([os.path.join(BUILD, "pt2d"), "--config", "/dev/null", "--state-dir", d.state,
                          "--models-dir", d.models, "--fsck" + how], stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, timeout=60)
    return run.returncode, run.stdout.splitlines()


def object_path(d, digest, suffix=""):
    return os.path.join(d.state, "objects", digest[:2], digest + suffix)


def flip(path):
    """One bit in the middle; size and times stay."""
    st = os.stat(path)
    os.chmod(path, 0o600)
    with open(path, "r+b") as f:
        f.seek(st.st_size // 2)
        byte = f.read(1)
        f.seek(st.st_size // 2)
        f.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))


def tree(d):
    """Every file of the state directory but the database's, with its digest."""
    found = {}
    for folder, _, files in os.walk(d.state):
        for name in files:
            path = os.path.join(folder, name)
            if not name.startswith("pt2d.db-"):
                with open(path, "rb") as f:
                    found[path] = hashlib.sha256(f.read()).hexdigest()
    return found


def rows(d, text):
    with contextlib.closing(sqlite3.connect(os.path.join(d.state, "pt2d.db"))) as db, db:
        return db.execute(text).fetchall()


def has(lines, *words):
    return any(all(word in line for word in words) for line in lines)


@contextlib.contextmanager
def stopped():
    """A daemon that was stopped, with a program of an alias, one with a .pte, and one more:
    (d, {name: digest})."""
    with without_engines() as env, Daemon(env=env) as d:
        names = {}
        names["aliased"] = export(d, cache={"max_cache_len": 8})["program"]
        job = export(d, cache={"max_cache_len": 9}, format="pte")
        names["exported"], names["pte"] = job["program"], job["pte"]["sha256"]
        names["plain"] = export(d, cache={"max_cache_len": 10})["program"]
        d.put("/v1/aliases/prod", {"program": names["aliased"]}, expect=201)
        d.stop()
        yield d, names


def story_what_is_well_is_clean():
    with stopped() as (d, names):
        for how in ("=check", "", "=repair"):
            before = tree(d)
            status, lines = fsck(d, how)
            assert status == 0 and len(lines) == 1 and lines[0].endswith("clean"), (how, status, lines)
            assert lines[0].startswith("4 files, ") and tree(d) == before, lines
        d.start()


def story_it_is_refused_while_a_daemon_runs():
    with without_engines() as env, Daemon(env=env) as d:
        for how in ("", "=check"):
            status, lines = fsck(d, how)
            assert status == 8 and has(lines, "in use by another daemon"), (status, lines)
        d.get("/readyz", expect=200)
        d.stop()
        d.state += "-none"
        status, lines = fsck(d)
        assert status == 8 and not os.path.exists(d.state), (status, lines)
        d.state = os.path.join(d.directory, "state")
        assert fsck(d, "=perhaps")[0] == 2
        rows(d, "PRAGMA user_version = 1000")
        for how in ("", "=check"):
            status, lines = fsck(d, how)
            assert status == 8 and has(lines, "version 1000"), (status, lines)


def story_leftovers_are_no_problem_and_go():
    with stopped() as (d, names):
        left = [os.path.join(d.state, "tmp", "7.part"), object_path(d, names["plain"], ".packed.Ab3"),
                object_path(d, "ab" * 32), object_path(d, "ac" * 32, ".packed")]
        for path in left:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as f:
                f.write("x")
        packed = object_path(d, names["plain"], ".packed")  # an engine's, which reads its sums
        with open(packed, "w") as f:
            f.write("x")
        before = tree(d)
        status, lines = fsck(d, "=check")
        assert status == 0 and len(lines) == len(left) + 1, (status, lines)
        assert all(has(lines, path) for path in left) and tree(d) == before, lines
        assert lines[-1].endswith("0 problems, 4 leftovers that a start clears away"), lines
        status, lines = fsck(d)
        assert status == 1 and all(has(lines, path, "removed") for path in left), (status, lines)
        assert not any(os.path.exists(path) for path in left) and os.path.exists(packed)
        assert fsck(d, "=check")[0] == 0


def story_damage_is_found_and_repaired():
    with stopped() as (d, names):
        flip(object_path(d, names["aliased"]))
        os.unlink(object_path(d, names["plain"]))
        flip(object_path(d, names["pte"]))
        rows(d, f"INSERT INTO aliases VALUES ('lost', '{'de' * 32}', 1)")
        foreign = os.path.join(d.state, "objects", "notes.txt")
        with open(foreign, "w") as f:
            f.write("mine")
        before = tree(d)
        status, lines = fsck(d, "=check")
        assert status == 4 and len(lines) == 6, (status, lines)
        assert has(lines, names["aliased"], "another digest") and has(lines, names["plain"], "not there")
        assert has(lines, ".pte " + names["pte"], "another digest") and has(lines, "aliases: 1 rows")
        assert has(lines, foreign) and tree(d) == before, lines
        status, lines = fsck(d)
        assert status == 5, (status, lines)  # something was changed, something is left
        assert has(lines, names["aliased"], "moved to lost+found, forgotten, with 1 aliases, 1 builds"), lines
        assert has(lines, names["plain"], "forgotten, with 0 aliases, 1 builds"), lines
        assert lines[-1].endswith("5 problems, 0 leftovers; 4 repaired or removed, 1 left"), lines
        lost = sorted(os.listdir(os.path.join(d.state, "lost+found")))
        assert lost == sorted([names["aliased"], names["pte"]]), lost
        os.unlink(foreign)
        status, lines = fsck(d, "=check")
        assert status == 0 and lines[-1].endswith("clean"), (status, lines)

        d.start()  # and an export makes each of them again
        listed = [p["id"] for p in d.get("/v1/programs", expect=200).json["data"]]
        assert listed == [names["exported"]], listed
        d.get("/v1/aliases/prod", expect=404)
        for name, options in (("aliased", {}), ("plain", {}), ("exported", {"format": "pte"})):
            n = {"aliased": 8, "plain": 10, "exported": 9}[name]
            job = finish(d, submit_id(d, cache={"max_cache_len": n}, **options))
            assert job["program"] == names[name] and not job["cached"], job
            data = d.get(f"/v1/exports/{job['id']}/file", expect=200).body
            assert sha256(data) == names[name]
        data = d.get(f"/v1/exports/{job['id']}/file?format=pte", expect=200).body
        assert sha256(data) == names["pte"]


def story_files_that_came_for_models_are_read():
    with tempfile.TemporaryDirectory(prefix="pt2d-models-") as models, \
            without_engines() as env, Daemon(models=models, env=env) as d:
        for name in ("config.json", "model.safetensors"):
            put(d, "org/new", name, FILES[name])
        d.stop()
        folder = os.path.join(models, ".uploads", "files", "org%2Fnew")
        bad = sha256(FILES["model.safetensors"]) + "-model.safetensors"
        flip(os.path.join(folder, bad))
        temp = os.path.join(models, ".uploads", "tmp", "3.part")
        with open(temp, "w") as f:
            f.write("x")
        status, lines = fsck(d, "=check")
        assert status == 4 and has(lines, bad, "another digest") and has(lines, temp), (status, lines)
        status, lines = fsck(d)
        assert status == 1 and has(lines, bad, "moved to .uploads/lost+found"), (status, lines)
        assert os.listdir(os.path.join(models, ".uploads", "lost+found")) == [bad]
        assert fsck(d, "=check")[0] == 0 and not os.path.exists(temp)
        d.start()
        publish(d, "org/new", {n: FILES[n] for n in ("config.json", "model.safetensors")}, expect=409)
        put(d, "org/new", "model.safetensors", FILES["model.safetensors"])
        publish(d, "org/new", {n: FILES[n] for n in ("config.json", "model.safetensors")})


def story_a_row_that_says_another_size_is_put_right():
    with stopped() as (d, names):
        (size,), = rows(d, f"SELECT bytes FROM programs WHERE id = '{names['plain']}'")
        rows(d, f"UPDATE programs SET bytes = 7 WHERE id = '{names['plain']}'")
        status, lines = fsck(d, "=check")
        assert status == 4 and has(lines, names["plain"], "its row says 7 bytes", str(size)), (status, lines)
        status, lines = fsck(d)
        assert status == 1 and has(lines, "row put right"), (status, lines)
        assert rows(d, f"SELECT bytes FROM programs WHERE id = '{names['plain']}'") == [(size,)]


def story_an_old_database_is_looked_at_as_it_is():
    """Of a version without .pte files: check writes nothing, repair brings it up to date first."""
    with without_engines() as env, Daemon(env=env) as d:
        d.stop()
        for name in os.listdir(d.state):
            if name.startswith("pt2d.db"):
                os.unlink(os.path.join(d.state, name))
        with open(os.path.join(SOURCE, "tests", "data", "store", "version-1.sql")) as f, \
                contextlib.closing(sqlite3.connect(os.path.join(d.state, "pt2d.db"))) as db:
            db.executescript(f.read())
        status, lines = fsck(d, "=check")
        assert status == 4 and has(lines, "of version 1") and len(lines) == 4, (status, lines)
        assert rows(d, "PRAGMA user_version") == [(1,)]
        status, lines = fsck(d)
        assert status == 1 and has(lines, "brought up to date"), (status, lines)
        assert rows(d, "SELECT id FROM programs") == [] and rows(d, "PRAGMA user_version") != [(1,)]
        assert [i for i, in rows(d, "SELECT id FROM jobs ORDER BY seq")][0] == "exp_queued"


def story_a_database_that_is_damaged_is_said_to_be():
    with stopped() as (d, names):
        path = os.path.join(d.state, "pt2d.db")
        with open(path, "r+b") as f:
            f.seek(4096)
            f.write(b"\xff" * 8192)
        before = tree(d)
        for how in ("=check", ""):
            status, lines = fsck(d, how)
            assert status == 4 and has(lines, "pt2d.db"), (status, lines)
            assert {p: h for p, h in tree(d).items() if p != path} == \
                {p: h for p, h in before.items() if p != path}  # no file goes by rows that can't be read


def story_an_index_is_made_anew():
    with stopped() as (d, names):
        with contextlib.closing(sqlite3.connect(os.path.join(d.state, "pt2d.db"))) as db:
            db.execute("PRAGMA writable_schema = ON")
            db.execute("UPDATE sqlite_schema SET sql = 'CREATE INDEX jobs_state ON jobs(finished)'"
                       " WHERE name = 'jobs_state'")
            db.commit()
        assert fsck(d, "=check")[0] == 4
        status, lines = fsck(d)
        assert status == 1 and has(lines, "indexes", "made anew"), (status, lines)
        assert fsck(d, "=check")[0] == 0


def story_after_a_crash_nothing_damaged_is_served():
    with without_engines() as env, Daemon(env=env) as d:
        good, job = export(d, cache={"max_cache_len": 8}), export(d, cache={"max_cache_len": 9}, format="pte")
        bad = export(d, cache={"max_cache_len": 10})
        assert d.get(f"/v1/programs/{bad['program']}", expect=200).json["integrity"] == "whole"
        d.kill()
        flip(object_path(d, bad["program"]))
        flip(object_path(d, job["pte"]["sha256"]))
        d.start()
        for path in (f"/v1/programs/{bad['program']}/file", f"/v1/programs/{bad['program']}/graph",
                     f"/v1/exports/{bad['id']}/file"):
            reply = d.get(path, expect=500)
            assert reply.problem == "program-damaged" and bad["program"] in reply.json["detail"], reply
        reply = d.post("/v1/sessions", {"program": bad["program"]}, expect=500)
        assert reply.problem == "program-damaged", reply
        reply = d.get(f"/v1/exports/{job['id']}/file?format=pte", expect=404)
        assert "damaged" in reply.json["detail"], reply
        d.get(f"/v1/exports/{job['id']}/file", expect=200)
        until(lambda: d.get(f"/v1/programs/{good['program']}", expect=200).json["integrity"] == "whole",
              "the rest is read in the background")
        listed = {p["id"]: p["integrity"] for p in d.get("/v1/programs", expect=200).json["data"]}
        assert listed == {good["program"]: "whole", job["program"]: "whole", bad["program"]: "damaged"}, listed
        assert f"program {bad['program']} is damaged" in d.log() and ".pte " + job["pte"]["sha256"] in d.log()
        assert d.metric("pt2d_programs_damaged_total") == 2
        again = finish(d, submit_id(d, cache={"max_cache_len": 10}))
        assert again["program"] == bad["program"] and not again["cached"], again
        for job_id in (again["id"], bad["id"]):
            assert sha256(d.get(f"/v1/exports/{job_id}/file", expect=200).body) == bad["program"]
        again = finish(d, submit_id(d, cache={"max_cache_len": 9}, format="pte"))
        assert not again["cached"], again
        d.get(f"/v1/exports/{again['id']}/file?format=pte", expect=200)
        assert finish(d, submit_id(d, cache={"max_cache_len": 8}))["cached"]


if __name__ == "__main__":
    main(globals())
