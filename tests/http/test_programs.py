#!/usr/bin/env python3
"""Programs: what is let in, what is said of them, their files, and their names."""

import base64
import contextlib
import functools
import glob
import hashlib
import inspect
import io
import os
import sqlite3
import struct
import zipfile

from exporting import (check_nothing_left, export, gate, in_state, pages, sha256, state_files,
                       submit_id, without_engines)
from harness import BUILD, SOURCE, Daemon, main, until

DATA = os.path.join(SOURCE, "tests", "data")
FACTS = ["id", "bytes", "created", "origin", "integrity", "used", "pinned", "model", "torch_version", "schema_version", "inputs",
         "outputs", "parameters", "buffers", "cache", "vocab_size", "verified", "engines"]
ABSENT = "0123456789abcdef" * 4
made = {}


def archive(d, n=16):
    """The bytes of a good program; n, its cache's length, tells them apart."""
    if n not in made:
        job = export(d, cache={"max_cache_len": n})
        made[n] = d.get(f"/v1/programs/{job['program']}/file", expect=200).body
        d.delete(f"/v1/programs/{job['program']}", expect=204)
        d.delete(f"/v1/exports/{job['id']}", expect=204)
    return made[n]


def upload(d, data, expect=(200, 201), **more):
    return d.post("/v1/programs", body=data, expect=expect, **more)


def stored(d, n=16):
    """Upload one, and answer its id."""
    return upload(d, archive(d, n)).json["id"]


def forget_all(d):
    for alias in d.get("/v1/aliases", expect=200).json["data"]:
        d.delete(f"/v1/aliases/{alias['name']}", expect=204)
    for program in d.get("/v1/programs", expect=200).json["data"]:
        d.delete(f"/v1/programs/{program['id']}", expect=204)


def repacked(data, **changes):
    """The archive with other records: {"models/model.json": bytes}."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for info in old.infolist():
            name = info.filename.split("/", 1)[1]
            new.writestr(info.filename, changes.pop(name) if name in changes else old.read(info))
    assert not changes, changes
    return out.getvalue()


# ---- uploads ----

def story_an_upload_is_kept_under_its_digest(d):
    data = archive(d)
    reply = upload(d, data, expect=201)
    assert reply.json["id"] == sha256(data) and reply.json["bytes"] == len(data)
    assert reply.json["origin"] == "upload" and reply.json["model"] is None
    assert reply.headers["Location"] == f"/v1/programs/{sha256(data)}"
    again = upload(d, data, expect=200)
    assert again.json["id"] == reply.json["id"] and again.json["created"] == reply.json["created"]
    d.request("PUT", f"/v1/programs/{sha256(data)}", body=data, expect=200, label="the same by PUT")
    assert d.get(f"/v1/programs/{sha256(data)}/file", expect=200).body == data
    listed = d.get("/v1/programs", expect=200).json["data"]
    assert [p["id"] for p in listed] == [sha256(data)]
    forget_all(d)
    assert state_files(d, "objects") == [], "a deleted program takes no room"


def story_put_checks_the_digest(d):
    data = archive(d)
    reply = d.request("PUT", f"/v1/programs/{ABSENT}", body=data, expect=422)
    assert reply.problem == "digest-mismatch" and sha256(data) in reply.json["detail"]
    for bad in (sha256(data).upper(), sha256(data)[:-1], sha256(data) + "0", "g" * 64):
        d.request("PUT", f"/v1/programs/{bad}", body=data, expect=422, label=bad)
    check_nothing_left(d)
    d.request("PUT", f"/v1/programs/{sha256(data)}", body=data, expect=201)


def story_limits_are_told_before_the_body():
    with Daemon("--set", "programs.max_upload_bytes=100000") as d:
        head = "POST /v1/programs HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\n"
        reply = d.raw(head + "Content-Length: 100001\r\nExpect: 100-continue\r\n\r\n").reply()
        assert reply.status == 413 and reply.problem == "too-large", reply
        reply = d.raw(head.replace("POST /v1/programs", f"PUT /v1/programs/{ABSENT}") +
                      "Content-Length: 100001\r\nExpect: 100-continue\r\n\r\n").reply()
        assert reply.status == 413, reply
        raw = d.raw(head + "Transfer-Encoding: chunked\r\n\r\n")
        raw.send(b"18000\r\n" + bytes(0x18000) + b"\r\n" + b"1000\r\n" + bytes(0x1000) + b"\r\n")
        assert raw.reply().status == 413, "the length was not said"
        until(lambda: state_files(d, "tmp") == [], "the temporary file's end")
        upload(d, bytes(100000), expect=422)


def story_other_media_types_are_refused(d):
    upload(d, b"PK", expect=415, headers={"Content-Type": "application/json"})
    upload(d, b"PK", expect=415, headers={"Content-Encoding": "gzip"})


def case_error(folder):
    with open(os.path.join(folder, "error")) as f:
        name, _, text = f.read().rstrip("\n").partition("\n")
    return name, text


def check_refused(d, data, folder):
    name, text = case_error(folder)
    reply = upload(d, data, expect=422, label=folder)
    assert reply.json["detail"] and reply.problem, reply
    return reply.problem == name.lower().replace("_", "-") and text in reply.json["detail"], reply


def story_bad_archives_are_refused_and_leave_nothing(d):
    folders = sorted(glob.glob(os.path.join(DATA, "archive-invalid", "*", "")))
    assert len(folders) > 50
    for folder in folders:
        with open(os.path.join(folder, "input"), "rb") as f:
            data = f.read()
        told, reply = check_refused(d, data, folder)
        assert told or not data, (folder, case_error(folder), reply)
    check_nothing_left(d)
    assert d.get("/v1/programs", expect=200).json["data"] == []


def story_bad_programs_are_refused_and_leave_nothing(d):
    good = archive(d)
    folders = sorted(glob.glob(os.path.join(DATA, "program-invalid", "*", "")))
    assert len(folders) > 50
    for folder in folders:
        with open(os.path.join(folder, "input.json"), "rb") as f:
            model = f.read()
        told, reply = check_refused(d, repacked(good, **{"models/model.json": model}), folder)
        assert told, (folder, case_error(folder), reply)
    check_nothing_left(d)


def story_unusual_archives_are_let_in(d):
    """Whatever another zip writer makes of the same records is the same program."""
    data = repacked(archive(d))
    assert sha256(data) != sha256(archive(d))
    first, second = upload(d, archive(d)).json, upload(d, data).json
    for name in FACTS:
        if name not in ("id", "bytes", "created", "used", "engines"):
            assert first[name] == second[name], name


def story_damage_is_found_by_the_sums(d):
    data = archive(d)
    with zipfile.ZipFile(io.BytesIO(data)) as z:
        records = [i for i in z.infolist() if "/data/weights/" in i.filename and i.file_size > 64]
    assert len(records) > 4
    for info in (records[0], records[-1], max(records, key=lambda i: i.file_size)):
        name, extra = struct.unpack_from("<HH", data, info.header_offset + 26)
        begin = info.header_offset + 30 + name + extra
        for at in (begin, begin + info.file_size // 2, begin + info.file_size - 1):
            bad = bytearray(data)
            bad[at] ^= 0x10
            reply = upload(d, bytes(bad), expect=422, label=f"{info.filename} at {at}")
            assert reply.problem == "bad-archive" and "CRC" in reply.json["detail"], reply
            assert info.filename.split("/", 1)[1] in reply.json["detail"], reply
    check_nothing_left(d)


def story_a_cut_archive_is_none(d):
    data = archive(d)
    for n in (1, 4, 30, len(data) // 2, len(data) - 22, len(data) - 1):
        assert upload(d, data[:n], expect=422).problem == "bad-archive"
    check_nothing_left(d)


def story_an_upload_that_breaks_off_leaves_nothing(d):
    data = archive(d)
    head = f"POST /v1/programs HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\n" \
           f"Content-Length: {len(data)}\r\n\r\n"
    for how in ("close", "reset", "half_close"):
        raw = d.raw(head).send(data[:len(data) // 2])
        until(lambda: state_files(d, "tmp") != [], "the temporary file")
        getattr(raw, how)()
        until(lambda: state_files(d, "tmp") == [], f"its end after {how}")
    check_nothing_left(d)
    assert d.get("/v1/programs", expect=200).json["data"] == []


# ---- what is said ----

def story_facts_have_the_shape_of_the_contract(d):
    data = archive(d)
    program = upload(d, data).json
    assert sorted(program) == sorted(FACTS), program
    assert program["bytes"] == len(data) and program["schema_version"][0] == "8", program
    assert program["inputs"] == [{"name": "input_ids", "dtype": "int64", "shape": [1, 1]},
                                 {"name": "cache_position", "dtype": "int64", "shape": [1]}]
    output, = program["outputs"]
    assert output["dtype"] == "bfloat16" and output["shape"] == [1, 1, 258], output
    assert sorted(program["parameters"]) == ["bytes", "count", "dtypes", "elements"]
    assert program["parameters"]["dtypes"] == {"bfloat16": program["parameters"]["elements"]}
    assert program["parameters"]["bytes"] == 2 * program["parameters"]["elements"]
    assert sorted(program["buffers"]) == ["bytes", "count"]
    assert program["buffers"]["count"] >= 8, "keys and values of four layers"
    assert program["cache"] == {"batch_size": 1, "max_cache_len": 16, "layers": 4}
    assert program["vocab_size"] == 258
    assert sorted(program["engines"]) == ["aten", "native"]
    for engine in program["engines"].values():
        assert sorted(engine) == ["ok", "reason"] and (engine["reason"] is None) == (engine["ok"] is True)
    assert d.get(f"/v1/programs/{program['id']}", expect=200).json == program
    assert d.get("/v1/programs", expect=200).json["data"] == [program]
    assert d.head(f"/v1/programs/{program['id']}", expect=200).body == b""


def story_the_graph_is_text_a_node_a_line(d):
    program = stored(d)
    reply = d.get(f"/v1/programs/{program}/graph", expect=200)
    assert reply.headers["Content-Type"].startswith("text/plain")
    lines = [line for line in reply.text.splitlines() if " = aten." in line]
    with zipfile.ZipFile(io.BytesIO(archive(d))) as z:
        name, = [n for n in z.namelist() if n.endswith("/models/model.json")]
        model = z.read(name)
    assert len(lines) == model.count(b'"target"'), (len(lines), model.count(b'"target"'))
    d.get(f"/v1/programs/{program}/graph", headers={"Accept": "application/json"}, expect=406)


def story_the_plan_is_text_a_step_a_line(d):
    program = stored(d)
    reply = d.get(f"/v1/programs/{program}/plan", expect=200)
    assert reply.headers["Content-Type"].startswith("text/plain")
    head, *lines = reply.text.splitlines()
    steps = [line for line in lines if not line.startswith(("layer ", "for rows"))]
    assert head.startswith(f"{len(steps)} steps, kernels "), (head, len(steps))
    assert sum(line.startswith("layer ") for line in lines) == 4
    assert sum(" = attend(" in line for line in steps) == 4
    assert any(line.endswith(" bytes") and "q_proj.weight bfloat16" in line for line in steps)
    d.get(f"/v1/programs/{program}/plan", headers={"Accept": "application/json"}, expect=406)


def story_a_program_without_a_plan_says_why(d):
    with zipfile.ZipFile(io.BytesIO(archive(d))) as z:
        name, = [n for n in z.namelist() if n.endswith("/models/model.json")]
        model = z.read(name)
    data = repacked(archive(d), **{name.split("/", 1)[1]: model.replace(
        b"torch.ops.aten.silu.default", b"torch.ops.aten.erfinv.default")})
    program = upload(d, data).json["id"]
    d.get(f"/v1/programs/{program}/graph", expect=200)
    reply = d.get(f"/v1/programs/{program}/plan", expect=422)
    assert reply.problem == "program-refused" and "aten.erfinv" in reply.json["detail"], reply.json


def story_programs_are_listed_by_pages(d):
    ids = [stored(d, n) for n in (16, 17, 18, 19, 20)]
    everything = [p["id"] for p in d.get("/v1/programs", expect=200).json["data"]]
    assert sorted(everything) == sorted(ids)
    for limit in (1, 2, 4, 5, 6):
        assert [p["id"] for p in pages(d, "/v1/programs", limit)] == everything, limit
    d.get("/v1/programs?limit=0", expect=422)


def story_aliases_take_conditions(d):
    body, path = {"program": stored(d)}, "/v1/aliases/conditional"
    d.put(path, body, headers={"If-Match": "*"}, expect=412, label="there is none")
    d.put(path, body, headers={"If-None-Match": "*"}, expect=201)
    reply = d.put(path, body, headers={"If-None-Match": "*"}, expect=412)
    assert reply.problem == "precondition-failed", reply
    d.put(path, body, headers={"If-None-Match": '"x"'}, expect=200, label="an alias has no tag")
    d.put(path, body, headers={"If-Match": '"x"'}, expect=412)
    d.put(path, body, headers={"If-Match": "*"}, expect=200)
    d.delete(path, expect=204)


def story_uploads_are_held_to_what_they_say(d):
    data = archive(d)
    kind = {"Content-Type": "application/octet-stream"}

    def said(of):
        return {**kind, "Repr-Digest": f"sha-256=:{base64.b64encode(hashlib.sha256(of).digest()).decode()}:"}

    for method, path in (("POST", "/v1/programs"), ("PUT", f"/v1/programs/{hashlib.sha256(data).hexdigest()}")):
        reply = d.request(method, path, body=data, headers=said(data + b"x"), expect=422)
        assert reply.problem == "digest-mismatch" and "Repr-Digest" in reply.json["detail"], reply
        d.request(method, path, body=data, headers={**kind, "Repr-Digest": "sha-256=x"}, expect=400)
        d.request(method, path, body=data, headers={**kind, "Content-Range": "bytes 0-4/5"}, expect=400)
        d.request(method, path, body=data, headers=said(data), expect=(200, 201))


# ---- files ----

def story_files_come_with_their_digest(d):
    data, program = archive(d), stored(d)
    path = f"/v1/programs/{program}/file"
    reply = d.get(path, expect=200)
    assert reply.body == data
    wanted = {"ETag": f'"{program}"', "Accept-Ranges": "bytes", "Content-Length": str(len(data)),
              "Content-Type": "application/octet-stream",
              "Content-Disposition": f'attachment; filename="{program}.pt2"',
              "Repr-Digest": "sha-256=:" +
              base64.b64encode(hashlib.sha256(data).digest()).decode() + ":"}
    headed = d.head(path, expect=200)
    assert headed.body == b""
    part = d.get(path, headers={"Range": "bytes=0-0"}, expect=206)
    for name, value in wanted.items():
        assert reply.headers[name] == value, (name, reply.headers[name])
        assert headed.headers[name] == value, (name, headed.headers[name])
        assert name == "Content-Length" or part.headers[name] == value, name
    assert "immutable" in reply.headers["Cache-Control"]


def story_ranges_are_parts_of_the_file(d):
    data, n = archive(d), len(archive(d))
    path = f"/v1/programs/{stored(d)}/file"

    def part(spec, first, last):
        reply = d.get(path, headers={"Range": spec}, expect=206)
        assert reply.body == data[first:last + 1], spec
        assert reply.headers["Content-Range"] == f"bytes {first}-{last}/{n}", spec

    part("bytes=0-0", 0, 0)
    part("bytes=10-99", 10, 99)
    part(f"bytes={n - 1}-", n - 1, n - 1)
    part("bytes=7-", 7, n - 1)
    part("bytes=-5", n - 5, n - 1)
    part(f"bytes=-{n + 100}", 0, n - 1)
    part(f"bytes=5-{n + 100}", 5, n - 1)
    part("bytes=5-99999999999999999999999", 5, n - 1)
    for bad in (f"bytes={n}-", f"bytes={n}-{n + 1}", "bytes=-0", "bytes=99999999999999999999999-"):
        reply = d.get(path, headers={"Range": bad}, expect=416)
        assert reply.headers["Content-Range"] == f"bytes */{n}" and reply.problem, bad
    for ignored in ("bytes=5-4", "bytes=a-b", "bytes=", "bytes=-", "lines=1-2", "bytes=0-1,3-4"):
        assert d.get(path, headers={"Range": ignored}, expect=200).body == data, ignored
    assert d.head(path, headers={"Range": "bytes=0-4"}, expect=200).headers["Content-Length"] == str(n)


def story_conditions_spare_the_body(d):
    program, data = stored(d), archive(d)
    path, etag = f"/v1/programs/{program}/file", f'"{program}"'
    for value in (etag, f"W/{etag}", "*", f'"x", {etag}', f'W/"a",{etag} , "b"'):
        reply = d.get(path, headers={"If-None-Match": value}, expect=304)
        assert reply.body == b"" and reply.headers["ETag"] == etag, value
        d.head(path, headers={"If-None-Match": value}, expect=304)
    for value in ('"x"', f'"{program[:-1]}"', program, ""):
        d.get(path, headers={"If-None-Match": value}, expect=200, label=f"If-None-Match: {value}")
    d.get(path, headers={"If-None-Match": etag, "Range": "bytes=0-4"}, expect=304)
    reply = d.get(path, headers={"If-None-Match": etag}, expect=304)
    assert reply.headers["Content-Length"] == str(len(data)), "that of the file, or none"
    raw = d.raw(f'GET {path} HTTP/1.1\r\nHost: x\r\nIf-None-Match: "x"\r\nIf-None-Match: {etag}\r\n\r\n')
    assert raw.reply().status == 304, "two lines are one list"
    assert raw.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").reply().status == 200, "no byte of it came"
    for value in (etag, "*", f'"x", {etag}'):
        assert d.get(path, headers={"If-Match": value}, expect=200).body == data
    for value in ('"x"', f"W/{etag}", ""):
        assert d.get(path, headers={"If-Match": value}, expect=412).problem == "precondition-failed"
        d.head(path, headers={"If-Match": value}, expect=412)
    ranged = {"Range": "bytes=1-4"}
    assert d.get(path, headers={**ranged, "If-Range": etag}, expect=206).body == data[1:5]
    for value in (f"W/{etag}", '"x"', program, "Wed, 21 Oct 2015 07:28:00 GMT"):
        reply = d.get(path, headers={**ranged, "If-Range": value}, expect=200)
        assert reply.body == data, value


def story_an_interrupted_download_goes_on(d):
    program, data = stored(d), archive(d)
    raw = d.raw(f"GET /v1/programs/{program}/file HTTP/1.1\r\nHost: x\r\n\r\n")
    assert raw.head()[0] == 200
    got = raw.exactly(5000)
    raw.reset()
    rest = d.get(f"/v1/programs/{program}/file", expect=206,
                 headers={"Range": f"bytes={len(got)}-", "If-Range": f'"{program}"'})
    assert sha256(got + rest.body) == program and got + rest.body == data


# ---- names ----

def story_programs_are_named_in_four_ways():
    with gate() as g, Daemon(env=g.env) as d:
        job_id = submit_id(d, cache={"max_cache_len": 16})
        in_state(d, job_id, "running")
        d.get(f"/v1/programs/{job_id}", expect=409, label="not finished")
        g.open()
        job = in_state(d, job_id, "succeeded")
        program = job["program"]
        d.put("/v1/aliases/prod", {"program": program}, expect=201)
        for name in (program, program[:8], program[:40], job_id, "prod"):
            reply = d.get(f"/v1/programs/{name}", expect=200)
            assert reply.json["id"] == program, name
            assert (reply.headers["Cache-Control"] == "no-cache") == (name != program), name
            file = d.get(f"/v1/programs/{name}/file", expect=200)
            assert file.headers["ETag"] == f'"{program}"'
            assert ("no-cache" in file.headers["Cache-Control"]) == (name != program), name
            d.get(f"/v1/programs/{name}/graph", expect=200)
            d.get(f"/v1/programs/{name}/plan", expect=200)
        for name in (program[:7], program.upper(), ABSENT, "nope", "exp_nope", program + "0"):
            for call in ("", "/file", "/graph", "/plan"):
                assert d.get(f"/v1/programs/{name}{call}", expect=404).problem == "not-found"
        d.delete("/v1/aliases/prod", expect=204)
        for name in (program[:40], job_id):
            d.delete(f"/v1/programs/{name}", expect=404, label="deleting takes the full id")
        d.delete(f"/v1/programs/{program}", expect=204)
        d.delete(f"/v1/programs/{program}", expect=404)
        assert "deleted" in d.get(f"/v1/programs/{job_id}", expect=404).json["detail"]


def story_an_ambiguous_prefix_lists_its_matches():
    with without_engines() as env, Daemon(env=env) as d:
        program = stored(d)
        # Two whose digests begin alike are too dear to find: the database is told of them.
        ids = "abcdef01" + "2" * 56, "abcdef01" + "3" * 56
        d.stop()
        with contextlib.closing(sqlite3.connect(os.path.join(d.state, "pt2d.db"))) as db, db:
            columns = [c[1] for c in db.execute("PRAGMA table_info(programs)") if c[1] not in ("id", "seq")]
            for other in ids:
                names = ", ".join(columns)
                db.execute(f"INSERT INTO programs (id, {names}) SELECT ?, {names} FROM programs WHERE id = ?",
                           (other, program))
        d.start()
        reply = d.get("/v1/programs/abcdef01", expect=409)
        assert reply.problem == "ambiguous-name" and all(i in reply.json["detail"] for i in ids)
        reply = d.put("/v1/aliases/a", {"program": "abcdef01"}, expect=409)
        assert reply.json["errors"][0]["pointer"] == "/program"
        assert d.get("/v1/programs/abcdef012", expect=200).json["id"] == ids[0]
        d.delete(f"/v1/programs/{ids[0]}", expect=204)
        assert d.get("/v1/programs/abcdef01", expect=200).json["id"] == ids[1]


def story_aliases_are_moved_at_once(d):
    one, two = stored(d, 16), stored(d, 17)
    reply = d.put("/v1/aliases/chat", {"program": one}, expect=201)
    assert reply.json["name"] == "chat" and reply.json["program"] == one
    assert reply.headers["Location"] == "/v1/aliases/chat"
    assert d.put("/v1/aliases/chat", {"program": two[:12]}, expect=200).json["program"] == two
    assert d.get("/v1/aliases/chat", expect=200).json["program"] == two
    d.put("/v1/aliases/spare", {"program": "chat"}, expect=201)
    d.put("/v1/aliases/chat", {"program": one}, expect=200)
    assert d.get("/v1/programs/spare", expect=200).json["id"] == two, "it is not an alias of chat"
    assert [a["name"] for a in pages(d, "/v1/aliases", 1)] == ["chat", "spare"]
    reply = d.delete(f"/v1/programs/{one}", expect=409)
    assert reply.problem == "in-use" and "chat" in reply.json["detail"]
    d.delete("/v1/aliases/chat", expect=204)
    d.delete("/v1/aliases/chat", expect=404)
    d.get("/v1/aliases/chat", expect=404)
    d.delete(f"/v1/programs/{one}", expect=204)
    reply = d.put("/v1/aliases/chat", {"program": one}, expect=404)
    assert reply.json["errors"][0]["pointer"] == "/program", reply.json


def story_alias_names_are_held_to_their_rules(d):
    program = stored(d)
    good = ["a", "g" * 64, "a.b_c-d", "abcdef0", "cafe-babe", "exp-1", "exp", "z9"]
    for name in good:
        d.put(f"/v1/aliases/{name}", {"program": program}, expect=201, label=name)
    for name in ("A", "9a", "-a", "_a", ".a", "g" * 65, "a%20b", "a%2Fb", "%C3%A4", "deadbeef",
                 "abcdef0123", "exp_1", "aB"):
        reply = d.put(f"/v1/aliases/{name}", {"program": program}, expect=(400, 422), label=name)
        assert reply.problem and reply.json["detail"]
    for body in ({}, {"program": 7}, {"program": program, "x": 1}, {"program": ""}):
        d.put("/v1/aliases/b", body, expect=(404, 422))
    assert sorted(a["name"] for a in d.get("/v1/aliases", expect=200).json["data"]) == sorted(good)


def story_aliases_and_programs_survive_a_crash():
    with without_engines() as env, Daemon(env=env) as d:
        program = stored(d)
        d.put("/v1/aliases/prod", {"program": program}, expect=201)
        d.kill()
        d.start()
        assert d.get("/v1/programs/prod", expect=200).json["id"] == program
        assert d.get("/v1/programs/prod/file", expect=200).body == archive(d)


def story_a_program_in_use_is_not_deleted():
    with Daemon() as d:
        program = stored(d)
        if not os.path.exists(os.path.join(BUILD, "pt2-aten")):
            print("     (no engine is built: skipped)")
            return
        until(lambda: d.get(f"/v1/programs/{program}", expect=200).json["engines"]["aten"] ==
              {"ok": True, "reason": None}, "the engine's verdict")
        session = d.post("/v1/sessions", {"program": program}, expect=201).json["id"]
        reply = d.delete(f"/v1/programs/{program}", expect=409)
        assert reply.problem == "in-use" and "session" in reply.json["detail"], reply.json
        d.delete(f"/v1/sessions/{session}", expect=204)
        d.delete(f"/v1/programs/{program}", expect=204)


def on_an_empty_daemon(story):
    @functools.wraps(story)
    def wrapped(d):
        forget_all(d)
        story(d)
    return wrapped if inspect.signature(story).parameters else story


if __name__ == "__main__":
    with without_engines() as libexec:
        main({name: on_an_empty_daemon(story) if name.startswith("story_") else story
              for name, story in globals().items()}, env=libexec)
