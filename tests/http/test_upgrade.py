#!/usr/bin/env python3
"""State directories of earlier versions (tests/data/states, made by states.py): this daemon opens
them and serves all that was in them."""

import contextlib
import json
import os
import sqlite3
import struct
import subprocess
import tarfile
import tempfile
import time
import zlib

from exporting import export, finish, pages, sha256
from harness import BUILD, SOURCE, Daemon, main, until
from states import TEXT, logits, open_session
from stepping import flat
from uploading import ids, publish

STATES = os.path.join(SOURCE, "tests", "data", "states")
TRAILER = struct.Struct("=QQII8s")  # src/serve/saved.c


def freshen_saved(path, now_ms):
    """Its session expires in ten minutes."""
    with open(path, "rb") as f:
        data = f.read()
    image_bytes, facts_bytes, crc, _, magic = TRAILER.unpack(data[-TRAILER.size:])
    facts = json.loads(data[image_bytes:image_bytes + facts_bytes])
    facts["expires"] = now_ms + 600 * 1000
    text = json.dumps(facts).encode()
    head = struct.pack("=QQI", image_bytes, len(text), crc)
    with open(path, "wb") as f:
        f.write(data[:image_bytes] + text + head)
        f.write(struct.pack("=I8s", zlib.crc32(head, zlib.crc32(text)), magic))


def freshen(state):
    """As if it had stopped a moment ago: some things are kept for hours alone."""
    now_ms = int(time.time() * 1000)
    with contextlib.closing(sqlite3.connect(os.path.join(state, "pt2d.db"))) as db, db:
        db.execute("UPDATE idempotency SET created = ?", (now_ms,))
        db.execute("UPDATE sessions SET changed = ?", (now_ms,))
    for folder, _, names in os.walk(state):
        for name in names:
            if name.endswith(".saved"):
                freshen_saved(os.path.join(folder, name), now_ms)
        os.utime(folder)
        for name in names:
            os.utime(os.path.join(folder, name))


@contextlib.contextmanager
def state_of(name):
    """A daemon that was not started, on that state, and what is known of it."""
    with tempfile.TemporaryDirectory(prefix="pt2d-upgrade-") as directory:
        with tarfile.open(os.path.join(STATES, name + ".tar.xz")) as tar:
            tar.extractall(directory)
        state = os.path.join(directory, "state")
        with open(os.path.join(state, "lock"), "w"):
            pass
        freshen(state)
        with open(os.path.join(directory, "facts.json")) as f:
            facts = json.load(f)
        d = Daemon("--set", "sessions.persist=yes", state=state, models=os.path.join(state, "models"))
        yield d, facts


def check_programs(d, facts):
    listed = {p["id"]: p for p in pages(d, "/v1/programs", 100)}
    for old in facts["programs"]:
        new = listed[old["id"]]
        # Verdicts are the engines' of this version.
        assert {k: new[k] for k in old if k not in ("engines", "integrity", "used")} == \
            {k: old[k] for k in old if k not in ("engines", "integrity", "used")}, (new, old)
        assert new["integrity"] in ("whole", "unchecked"), new
        until(lambda: d.get(f"/v1/programs/{old['id']}", expect=200).json["engines"]["native"]["ok"],
              "native takes it")
        data = d.get(f"/v1/programs/{old['id']}/file", expect=200).body
        assert sha256(data) == old["id"]
    assert facts["deleted"] not in listed
    assert listed[facts["uploaded"]]["origin"] == "upload"
    assert listed[facts["uploaded"]]["pinned"] == facts["pinned"]
    new, old = ({a["name"]: a["program"] for a in data}
                for data in (d.get("/v1/aliases", expect=200).json["data"], facts["aliases"]))
    assert new == old and len(new) == 2, new


def check_jobs(d, facts):
    for old in facts["exports"]:
        if old["id"] in facts["unfinished"]:
            assert finish(d, old["id"])["model"] == "tiny"
            continue
        new = d.get(f"/v1/exports/{old['id']}", expect=200).json
        assert {k: new[k] for k in old} == old, (new, old)
    assert [j["id"] for j in pages(d, "/v1/exports", 100)] == [j["id"] for j in facts["exports"]]
    job = d.get(f"/v1/exports/{facts['pte']}", expect=200).json
    data = d.get(f"/v1/exports/{facts['pte']}/file?format=pte", expect=200).body
    assert sha256(data) == job["pte"]["sha256"]
    key = facts["key"]
    again = d.post("/v1/exports", key["body"], headers={"Idempotency-Key": key["key"]}, expect=202)
    assert again.json["id"] == key["job"], again
    other = {**key["body"], "labels": {}}
    d.post("/v1/exports", other, headers={"Idempotency-Key": key["key"]}, expect=422)


def check_models(d, facts):
    old = {m["id"]: m for m in facts["models"]}
    new = {m["id"]: m for m in d.get("/v1/models", expect=200).json["data"]}
    assert "tiny" in new and {k: new["tiny"][k] for k in old["tiny"]} == old["tiny"], new
    for name, digest in facts["files"].items():
        with open(os.path.join(d.models, "tiny", name), "rb") as f:
            assert sha256(f.read()) == digest, name
    with open(os.path.join(d.models, "tiny", "config.json"), "rb") as f:
        publish(d, "org/half", {"config.json": f.read()}, expect=(201, 422))  # it came: none is missing
    assert export(d, model="tiny", cache={"max_cache_len": 20})["program"]


def close(a, b):
    a, b = flat(a), flat(b)
    return len(a) == len(b) and all(abs(x - y) < 1e-4 for x, y in zip(a, b))


def check_sessions(d, facts):
    """The old one, and a new one of the same program, which says what it said."""
    old = facts["session"]
    new = open_session(d, old["program"])
    assert close(logits(d, new, TEXT[:5]), old["logits"])
    reply = d.get(f"/v1/sessions/{old['id']}", expect=200 if facts["saved"] else 404)
    if not facts["saved"]:
        assert reply.problem == "session-lost", reply
        return
    assert reply.json["position"] == 5 and reply.json["labels"] == {"a": "b"}, reply
    assert close(logits(d, old["id"], TEXT[5:]), logits(d, new, TEXT[5:]))


def check_is_clean(d):
    run = subprocess.run([os.path.join(BUILD, "pt2d"), "--config", "/dev/null", "--state-dir", d.state,
                          "--models-dir", d.models, "--fsck=check"], stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, timeout=60)
    assert run.returncode == 0, run.stdout


def check_state(name):
    with state_of(name) as (d, facts):
        check_is_clean(d)  # before anything brought it up to date
        with d:
            assert "tiny" in ids(d)
            check_jobs(d, facts)
            check_programs(d, facts)
            check_models(d, facts)
            check_sessions(d, facts)
            d.restart()
            check_programs(d, facts)
            d.stop()
            check_is_clean(d)


def story_what_a_killed_daemon_of_version_4_left():
    check_state("first")


def story_what_a_stopped_daemon_of_version_6_left():
    check_state("saved")


if __name__ == "__main__":
    main(globals())
