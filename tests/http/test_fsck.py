#!/usr/bin/env python3
"""pt2d --fsck, and programs whose files are damaged: nothing of it is served, and an export
makes it again."""

import contextlib
import hashlib
import os
import sqlite3
import subprocess
import tempfile

import saved_files
from exporting import export, finish, sha256, state_files, submit_id, without_engines
from harness import BUILD, SOURCE, Daemon, main, until
from stepping import FLAGS, Session, program
from uploading import FILES, ids, publish, put, upload, url


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
        path = "/v1/models/org%2Fnew/files/merges.txt"
        d.request("PATCH", path, body=b"a part", expect=204,
                  headers={"Content-Type": "application/partial-upload", "Upload-Offset": "0",
                           "Upload-Complete": "?0"})
        d.stop()
        stray = os.path.join(models, ".uploads", "unfinished", "org%2Fnew", "stray")
        with open(stray, "w") as f:
            f.write("x")
        folder = os.path.join(models, ".uploads", "files", "org%2Fnew")
        bad = sha256(FILES["model.safetensors"]) + "-model.safetensors"
        flip(os.path.join(folder, bad))
        temp = os.path.join(models, ".uploads", "tmp", "3.part")
        with open(temp, "w") as f:
            f.write("x")
        status, lines = fsck(d, "=check")
        assert status == 4 and has(lines, bad, "another digest") and has(lines, temp), (status, lines)
        assert has(lines, stray, "no part of an upload"), lines
        status, lines = fsck(d)
        assert status == 1 and has(lines, bad, "moved to .uploads/lost+found"), (status, lines)
        assert os.listdir(os.path.join(models, ".uploads", "lost+found")) == [bad]
        assert fsck(d, "=check")[0] == 0 and not os.path.exists(temp) and not os.path.exists(stray)
        d.start()
        assert d.head(path, expect=200).headers["Upload-Offset"] == "6"
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


# ---- sessions that a stop saved ----

PERSIST = (*FLAGS, "--set", "sessions.persist=yes")


class Saved:
    """n sessions that a stop saved, each at its own position; logits are what each answers next."""

    def __init__(self, d, n, n_programs=1):
        self.d, self.programs = d, [program(d, length=64 + i) for i in range(n_programs)]
        self.sessions = [Session(d, self.programs[i % n_programs], engine="native") for i in range(n)]
        for i, s in enumerate(self.sessions):
            s.step(list(range(1, 4 + i)))
        probes = [s.fork() for s in self.sessions]
        self.logits = [p.logits([7]) for p in probes]
        for p in probes:
            p.delete()
        d.stop()
        self.paths = [saved_files.path_of(d, s.id) for s in self.sessions]
        assert state_files(d, "sessions") == sorted(self.paths)

    def edit(self, i, image=lambda image: image, **facts):
        """Whole by its checksums, and another."""
        old, all_facts = saved_files.read(self.paths[i])
        saved_files.write(self.paths[i], image(old), {**all_facts, **facts})

    def check(self, *whole):
        """The daemon starts; these sessions go on where they were, the others are no more."""
        self.d.start()
        for i, s in enumerate(self.sessions):
            if i in whole:
                assert s.position == 3 + i and s.logits([7]) == self.logits[i], i
            else:
                reply = self.d.get(s.path, expect=404)
                assert reply.problem in ("session-lost", "session-expired"), reply
        log = self.d.log()
        assert all(f"session {s.id} was saved, and is lost" not in log for s in self.sessions), log
        another = Session(self.d, program(self.d, length=64), engine="native")
        another.step([1, 2, 3])


def story_whole_sessions_stay():
    """Also where the configuration of the check does not keep sessions."""
    with without_engines() as env, Daemon(*PERSIST, env=env) as d:
        saved = Saved(d, 3)
        for how in ("=check", "=repair"):
            before = tree(d)
            status, lines = fsck(d, how)
            assert status == 0 and lines[-1].endswith("clean") and len(lines) == 1, (status, lines)
            assert lines[0].startswith("4 files, ") and tree(d) == before, lines
        saved.check(0, 1, 2)


def story_sessions_that_can_not_come_back_are_put_aside():
    with without_engines() as env, Daemon(*PERSIST, env=env) as d:
        saved = Saved(d, 7)
        flip(saved.paths[0])  # somewhere in its cache
        os.truncate(saved.paths[1], os.path.getsize(saved.paths[1]) - 5)
        os.truncate(saved.paths[2], 0)
        saved.edit(3, position=65)  # of 64
        saved.edit(4, image=lambda image: image[:7] + b"2" + image[8:])
        saved.edit(5, id=saved.sessions[0].id)
        why = ("checksum", "no end that fits", "cut short", "what can't be", "another version of pt2d",
               "what can't be")
        before = tree(d)
        status, lines = fsck(d, "=check")
        assert status == 4 and len(lines) == 1 + len(why) and tree(d) == before, (status, lines)
        assert all(has(lines, path, text) for path, text in zip(saved.paths, why)), lines
        assert lines[-1].endswith("6 problems, 0 leftovers that a start clears away"), lines
        status, lines = fsck(d)
        assert status == 1 and all(has(lines, path, text, "moved to lost+found")
                                   for path, text in zip(saved.paths, why)), (status, lines)
        assert state_files(d, "sessions") == saved.paths[6:]
        lost = sorted(os.listdir(os.path.join(d.state, "lost+found")))
        assert lost == sorted(os.path.basename(path) for path in saved.paths[:6]), lost
        assert all(tree(d)[os.path.join(d.state, "lost+found", os.path.basename(path))] == before[path]
                   for path in saved.paths[:6])
        status, lines = fsck(d, "=check")
        assert status == 0 and lines[-1].endswith("clean"), (status, lines)
        saved.check(6)


def story_sessions_go_with_their_program():
    """A file that is gone, one that is damaged; both are said of the sessions, too, before and after."""
    with without_engines() as env, Daemon(*PERSIST, env=env) as d:
        saved = Saved(d, 3, n_programs=3)
        os.unlink(object_path(d, saved.programs[0]))
        flip(object_path(d, saved.programs[1]))
        for how, expected, done in (("=check", 4, "not there"), ("", 1, "moved to lost+found")):
            status, lines = fsck(d, how)
            assert status == expected and lines[-1].count("4 problems") == 1, (status, lines)
            assert all(has(lines, path, "its program is damaged or not there", done)
                       for path in saved.paths[:2]), lines
        assert fsck(d, "=check")[0] == 0
        saved.check(2)  # which makes the first program again
        d.stop()
        name = os.path.basename(saved.paths[0])
        os.rename(os.path.join(d.state, "lost+found", name), saved.paths[0])
        assert fsck(d, "=check")[0] == 0
        d.start()
        assert saved.sessions[0].logits([7]) == saved.logits[0]


def story_what_a_crash_leaves_of_sessions_goes():
    with without_engines() as env, Daemon(*PERSIST, env=env) as d:
        saved = Saved(d, 2)
        saved.edit(1, expires=1)
        spill, other = saved.paths[0].removesuffix(".saved") + ".spill", saved.paths[0] + ".old"
        folder = os.path.join(d.state, "sessions", "kept")
        for path in (spill, other):
            with open(path, "wb") as f:
                f.write(b"x")
        os.mkdir(folder)
        before = tree(d)
        status, lines = fsck(d, "=check")
        assert status == 4 and has(lines, folder, "none of pt2d's") and tree(d) == before, (status, lines)
        assert has(lines, spill, "has ended") and has(lines, other, "no session's file"), lines
        assert has(lines, saved.paths[1], "has expired"), lines
        assert lines[-1].endswith("1 problems, 3 leftovers that a start clears away"), lines
        os.rmdir(folder)
        assert fsck(d, "=check")[0] == 0
        status, lines = fsck(d)
        assert status == 1 and all(has(lines, path, "removed") for path in (spill, other, saved.paths[1]))
        assert state_files(d, "sessions") == saved.paths[:1]
        saved.check(0)


# ---- models that were published ----

@contextlib.contextmanager
def published(*names):
    """A daemon that was stopped, with these models."""
    with tempfile.TemporaryDirectory(prefix="pt2d-models-") as models, \
            without_engines() as env, Daemon(models=models, env=env) as d:
        for name in names:
            upload(d, name)
        d.stop()
        status, lines = fsck(d, "=check")
        assert status == 0 and len(lines) == 1 and lines[0].endswith("clean"), (status, lines)
        assert lines[0].startswith(f"{len(names) * len(FILES)} files, "), lines
        yield d


def damage(path, how):
    """By somebody who does not care for its mode."""
    os.chmod(path, 0o600)
    how(path)
    os.chmod(path, 0o444)


def story_published_models_are_read_and_said():
    names = ("decayed", "org/cut", "missing", "org/bare", "whole")
    with published(*names) as d:
        at = lambda name, file: os.path.join(d.models, name, file)
        decayed = at("decayed", "model.safetensors")
        flip(decayed)
        os.chmod(decayed, 0o444)
        st = os.stat(decayed)  # a disk that decays changes no times
        rows(d, f"UPDATE files SET ctime = {st.st_ctime_ns}, mtime = {st.st_mtime_ns} WHERE inode = {st.st_ino}")
        damage(at("org/cut", "model.safetensors"), lambda path: os.truncate(path, os.path.getsize(path) - 8))
        os.unlink(at("missing", "model.safetensors"))
        os.unlink(at("org/bare", "config.json"))
        said = [(decayed, "another digest than when it was published"),
                *((os.path.join(d.models, name) + ":", "can't be opened any more")
                  for name in ("org/cut", "missing", "org/bare"))]
        for how in ("=check", "", "=check"):  # its operator decides
            before = tree(d)
            status, lines = fsck(d, how)
            assert status == 4 and len(lines) == 5 and tree(d) == before, (status, lines)
            assert all(has(lines, path, text, "delete the model") for path, text in said), lines
            assert not has(lines, "whole"), lines
        d.start()
        for name in names[:4]:
            d.delete(url(name), expect=(204, 404))
            upload(d, name)
        assert ids(d) == sorted(names)
        d.stop()
        status, lines = fsck(d, "=check")
        assert status == 0 and lines[-1].endswith("clean"), (status, lines)


def story_models_that_nobody_published_are_let_be():
    with published("one") as d:
        os.mkdir(os.path.join(d.models, "mine"))
        with open(os.path.join(d.models, "mine", "config.json"), "w") as f:
            f.write("{")
        status, lines = fsck(d)
        assert status == 0 and lines[-1].endswith("clean"), (status, lines)


def story_what_publishing_leaves_goes():
    with published("org/new") as d:
        folder = os.path.join(d.models, ".uploads", "files", "org%2Fnew")
        os.mkdir(folder)  # killed before these went
        links = [os.path.join(folder, f"{sha256(data)}-{name}") for name, data in FILES.items()]
        for name, link in zip(FILES, links):
            os.link(os.path.join(d.models, "org/new", name), link)
        half = os.path.join(d.models, ".uploads", "tmp", "3.part")  # a folder that was put together
        os.mkdir(half)
        os.link(links[0], os.path.join(half, "config.json"))
        coming = os.path.join(folder, sha256(b"{}") + "-generation_config.json")
        with open(coming, "w") as f:
            f.write("{}")
        stray = os.path.join(d.models, ".uploads", "files", "stray")
        with open(stray, "w") as f:
            f.write("x")
        status, lines = fsck(d, "=check")
        assert status == 4 and len(lines) == len(links) + 3, (status, lines)
        assert all(has(lines, link, "was published") for link in links), lines
        assert has(lines, half, "was under way") and has(lines, stray, "none of pt2d's"), lines
        status, lines = fsck(d)
        assert status == 5 and not any(os.path.exists(p) for p in (*links, half)), (status, lines)
        assert os.path.exists(coming) and os.path.exists(stray)
        os.unlink(stray)
        status, lines = fsck(d, "=check")
        assert status == 0 and lines[-1].endswith("clean"), (status, lines)
        d.start()
        assert ids(d) == ["org/new"]
        publish(d, "org/new", FILES, expect=200)


if __name__ == "__main__":
    main(globals())
