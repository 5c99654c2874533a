#!/usr/bin/env python3
"""Sessions: made, listed, forked, rewound, saved and restored, deleted, expired, lost."""

import contextlib
import datetime
import io
import json
import struct
import zipfile

from harness import Daemon, until
from stepping import (FLAGS, VOCAB, Session, assert_close, frozen, main, only, program,
                      until_running, until_waiting)

PROMPT = list(b"The quick brown fox jumps over the lazy dog.")
CACHE_BYTES = 4 * 2 * 2 * 64 * 24 * 4  # layers, k and v, heads, positions, elements, float32


def seconds(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


# ---- making and looking ----

def story_a_session_says_what_it_is(d):
    p = program(d)
    labels = {"user": "ann", "run": "7"}
    reply = d.post("/v1/sessions", {"program": p, "engine": Session.engine, "ttl": 77, "labels": labels},
                   expect=201)
    info = reply.json
    assert reply.headers["Location"] == f"/v1/sessions/{info['id']}"
    assert reply.headers["Server-Timing"].startswith("queue;dur=")
    assert info["id"].startswith("ses_local-") and len(info["id"]) == len("ses_local-") + 26
    assert info["program"] == p and info["engine"] == Session.engine and info["labels"] == labels
    assert (info["batch_size"], info["max_cache_len"], info["vocab_size"]) == (1, 64, VOCAB)
    assert info["cache_bytes"] == CACHE_BYTES, info
    assert info["position"] == info["rewind_floor"] == 0
    assert abs(seconds(info["expires"]) - seconds(info["created"]) - 77) < 30
    assert set(info) == {"id", "program", "engine", "batch_size", "max_cache_len", "vocab_size",
                         "cache_bytes", "cache_dtype", "position", "rewind_floor", "created", "expires", "ttl",
                         "resident", "labels"}
    assert info["resident"] is True
    assert info["cache_dtype"] == "float32"
    again = d.get(reply.headers["Location"], expect=200).json
    assert {**again, "expires": 0} == {**info, "expires": 0}
    assert seconds(again["expires"]) >= seconds(info["expires"]), "a look is a use"
    headed = d.head(reply.headers["Location"], expect=200)
    assert headed.body == b"" and int(headed.headers["Content-Length"]) > 0
    two = Session(d, program(d, batch=2))
    assert two.info["batch_size"] == 2 and two.info["cache_bytes"] == 2 * CACHE_BYTES
    assert two.info["labels"] == {} and two.info["ttl"] == 600 and two.id != info["id"]


@only("native")
def story_what_is_open_in_one_engine_opens_in_the_other_as_well(d):
    p = program(d)
    s = [Session(d, p, engine=engine) for engine in ("auto", "native", "aten", "auto")]
    assert [x.info["engine"] for x in s] == ["native", "native", "aten", "native"]
    verdicts = until(lambda: (e := d.get(f"/v1/programs/{p}", expect=200).json["engines"])["aten"]["ok"] and e,
                     "the engines' verdicts")
    assert all(v == {"ok": True, "reason": None} for v in verdicts.values()), verdicts
    a, b = (s[i].logits(PROMPT[:9], rows="all") for i in (1, 2))
    assert_close(a, b, "native and aten")
    s[2].restore(s[1].save())
    s[3].restore(s[2].save())
    assert s[3].save() == s[1].save(), "a cache goes through both engines as it is"


def story_bad_requests_for_sessions_are_refused(d):
    p = program(d)
    for body, where in (({}, "/program"), ({"program": 7}, "/program"), ({"program": None}, "/program"),
                        ({"program": p, "engine": "gpu"}, "/engine"), ({"program": p, "engine": 1}, "/engine"),
                        ({"program": p, "ttl": 0}, "/ttl"), ({"program": p, "ttl": -1}, "/ttl"),
                        ({"program": p, "ttl": 1.5}, "/ttl"), ({"program": p, "ttl": "9"}, "/ttl"),
                        ({"program": p, "ttl": 86401}, "/ttl"), ({"program": p, "tll": 9}, "/tll"),
                        ({"program": p, "labels": {"a": 1}}, "/labels/a"),
                        ({"program": p, "cache_dtype": "int4"}, "/cache_dtype"),
                        ({"program": p, "cache_dtype": 8}, "/cache_dtype"),
                        ({"program": p, "cache_dtype": None}, "/cache_dtype"),
                        ({"program": p, "engine": "aten", "cache_dtype": "int8"}, "/cache_dtype"),
                        ({"program": p, "labels": []}, "/labels")):
        reply = d.post("/v1/sessions", body, expect=422, label=str(body))
        assert [e["pointer"] for e in reply.json["errors"]] == [where], (body, reply)
    for name in ("0" * 64, "nobody", "exp_nothing", p[:7], ""):
        d.post("/v1/sessions", {"program": name}, expect=(404, 422), label=f"program {name}")
    assert d.get("/v1/sessions").json["data"] == []
    d.delete("/v1/sessions", expect=405)
    d.get("/v1/sessions/ses_local-nobody", expect=404)
    d.delete("/v1/sessions/ses_local-nobody", expect=404)


def story_a_program_has_several_names(d):
    p = program(d)
    export = d.get("/v1/exports?state=succeeded", expect=200).json["data"][-1]
    d.put("/v1/aliases/chat", {"program": p}, expect=(200, 201))
    for name, of in ((p, p), (p[:8], p), ("chat", p), (export["id"], export["program"])):
        assert Session(d, name).info["program"] == of, name
    s = Session(d, "chat")
    other = program(d, batch=2)
    d.put("/v1/aliases/chat", {"program": other}, expect=(200, 201))
    assert s.get()["program"] == p, "a session stays on its program"
    assert Session(d, "chat").info["program"] == other
    d.delete("/v1/aliases/chat", expect=204)


def story_the_node_is_in_the_id():
    with Daemon(*FLAGS, "--set", "sessions.node=b7") as d:
        assert Session(d, program(d)).id.startswith("ses_b7-")


def story_sessions_are_listed(d):
    p = program(d)
    made = [Session(d, p, labels={"n": str(i % 3), "all": "yes"}).id for i in range(7)]
    whole = d.get("/v1/sessions", expect=200).json
    assert [s["id"] for s in whole["data"]] == made[::-1] and whole["next"] is None
    got, after = [], ""
    while True:
        page = d.get(f"/v1/sessions?limit=3{after}", expect=200).json
        got += [s["id"] for s in page["data"]]
        if page["next"] is None:
            break
        assert len(page["data"]) == 3
        after = f"&after={page['next']}"
    assert got == made[::-1]
    one = d.get("/v1/sessions?label.n=1&label.all=yes", expect=200).json["data"]
    assert [s["id"] for s in one] == [made[4], made[1]]
    assert d.get("/v1/sessions?label.n=9", expect=200).json == {"data": [], "next": None}
    for query in ("limit=0", "limit=1001", "limit=x", "after=x", "after=-1", "state=live"):
        d.get("/v1/sessions?" + query, expect=422, label=query)
    assert d.head("/v1/sessions", expect=200).body == b""


@only("aten")
def story_an_idempotency_key_makes_one_session():
    with Daemon(*FLAGS) as d:
        p = program(d)
        key, body = {"Idempotency-Key": "k-1"}, {"program": p, "ttl": 60, "engine": "aten"}
        first = d.post("/v1/sessions", body, headers=key, expect=201)
        again = d.post("/v1/sessions", {"engine": "aten", "ttl": 60, "program": p}, headers=key, expect=201)
        assert again.json == first.json and again.headers["Location"] == first.headers["Location"]
        assert len(d.get("/v1/sessions").json["data"]) == 1
        reply = d.post("/v1/sessions", {"program": p}, headers=key, expect=422, label="another body")
        assert reply.problem == "idempotency-key-mismatch"
        d.delete(first.headers["Location"], expect=204)
        second = d.post("/v1/sessions", body, headers=key, expect=201, label="free again")
        assert second.json["id"] != first.json["id"]
        bad = {"Idempotency-Key": "k-2"}
        d.post("/v1/sessions", {"program": "nobody"}, headers=bad, expect=404)
        d.post("/v1/sessions", body, headers=bad, expect=201, label="a failure is not kept")
        data = json.dumps(body).encode()
        with frozen(d):
            waits = d.raw("POST /v1/sessions HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k-3\r\nContent-Type: "
                          f"application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
            until_running(d)
            busy = d.post("/v1/sessions", body, headers={"Idempotency-Key": "k-3"}, expect=409)
            assert busy.problem == "idempotency-key-busy" and busy.headers["Retry-After"]
        made = waits.reply()
        assert made.status == 201
        waits.close()
        assert d.post("/v1/sessions", body, headers={"Idempotency-Key": "k-3"}, expect=201).json == made.json
        d.restart()
        third = d.post("/v1/sessions", body, headers=key, expect=201, label="the restart took it")
        assert third.json["id"] != second.json["id"]


# ---- forks and rewinds ----

def story_a_fork_goes_its_own_way(d):
    for kind in ({}, {"seq": 4, "batch": 2}):
        p = program(d, **kind)
        def ids(start, end):
            return [PROMPT[start + b:end + b] for b in range(kind.get("batch", 1))]
        a = Session(d, p, labels={"a": "b"}, ttl=55)
        a.step(ids(0, 20))
        reply = d.post(a.path + "/fork", {}, expect=201)
        b = Session.__new__(Session).on(d).of(reply.json)
        assert reply.headers["Location"] == b.path and b.id != a.id
        assert b.info["position"] == 20 and b.info["program"] == p and b.info["ttl"] == 55
        assert b.info["labels"] == {"a": "b"} and b.info["cache_bytes"] == a.info["cache_bytes"]
        early = a.fork(position=7, ttl=44)
        assert early.info["position"] == 7 and early.info["ttl"] == 44
        twin = Session(d, p)
        twin.step(ids(0, 20))
        # What the fork overwrites is its own, and so is what the first one overwrites.
        b.step(ids(22, 30), cache_position=list(range(5, 13)))
        want = twin.logits(ids(9, 12))
        assert a.logits(ids(9, 12)) == want, "the fork's writes do not show"
        a.rewind(3)
        a.step(ids(24, 30))
        third = Session(d, p)
        third.step(ids(0, 7))
        assert_close(early.logits(ids(7, 9)), third.logits(ids(7, 9)), "forked at an earlier position")
        fourth = Session(d, p)
        fourth.step(ids(0, 5))
        fourth.step(ids(22, 30))
        a.delete()
        assert_close(b.logits(ids(1, 3)), fourth.logits(ids(1, 3)), "the fork outlives the first")
        assert b.position == 15


def story_forks_are_refused_where_they_make_no_sense(d):
    s = Session(d, program(d))
    s.step(PROMPT[:5])
    reply = d.post(s.path + "/fork", {"position": 6}, expect=409)
    assert reply.problem == "position-gap" and reply.json["position"] == 5
    for body in ({"position": -1}, {"position": 65}, {"position": "1"}, {"ttl": 0}, {"ttl": 86401}, {"x": 1}):
        d.post(s.path + "/fork", body, expect=422, label=str(body))
    d.post("/v1/sessions/nobody/fork", {}, expect=404)
    d.get(s.path + "/fork", expect=405)
    assert len(d.get("/v1/sessions").json["data"]) == 1


def story_a_rewind_goes_back(d):
    p = program(d)
    s, twin = Session(d, p), Session(d, p)
    s.step(PROMPT[:20])
    info = s.rewind(8).json
    assert info["position"] == 8 and info["id"] == s.id and info["rewind_floor"] == 0
    twin.step(PROMPT[:8])
    assert_close(s.logits(PROMPT[30:33]), twin.logits(PROMPT[30:33]))
    s.rewind(11, label="where it is")
    for n in (12, 64):
        reply = s.rewind(n, expect=409)
        assert reply.problem == "position-gap" and reply.json["position"] == 11, reply
    for body in ({}, {"position": -1}, {"position": 65}, {"position": 1.0}, {"position": None},
                 {"position": 1, "x": 2}):
        d.post(s.path + "/rewind", body, expect=422, label=str(body))
    s.rewind(0)
    assert s.position == 0
    d.post("/v1/sessions/nobody/rewind", {"position": 0}, expect=404)


# ---- saved caches ----

def parse(file):
    n, = struct.unpack("<Q", file[:8])
    return json.loads(file[8:8 + n]), file[8 + n:]


def build(header, data):
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(text)) + text + data


def story_a_saved_cache_is_a_safetensors_file(d):
    s = Session(d, program(d))
    s.step(PROMPT[:9])
    reply = d.get(s.path + "/cache", expect=200)
    assert reply.headers["Content-Type"] == "application/octet-stream"
    assert reply.headers["X-Session-Position"] == "9"
    assert reply.headers["Content-Disposition"] == f'attachment; filename="{s.id}.safetensors"'
    header, data = parse(reply.body)
    assert header.pop("__metadata__") == {"program": s.info["program"], "position": "9"}
    caches = {name: e for name, e in header.items() if len(e["shape"]) == 4}
    assert len(caches) == 8, header.keys()
    for name, entry in caches.items():
        assert entry["dtype"] == "F32" and entry["shape"] == [1, 2, 9, 24], (name, entry)
    ends = sorted(e["data_offsets"] for e in header.values())
    assert ends[0][0] == 0 and ends[-1][1] == len(data)
    assert all(a[1] == b[0] for a, b in zip(ends, ends[1:])), "no holes"
    assert all((len(reply.body) - len(data) + e["data_offsets"][0]) % 4 == 0 for e in caches.values())
    headed = d.head(s.path + "/cache", expect=200)
    assert headed.body == b"" and int(headed.headers["Content-Length"]) == len(reply.body)


def story_a_saved_cache_goes_on_elsewhere_and_after_a_restart():
    with Daemon(*FLAGS) as d:
        kinds = ({}, {"seq": 3, "dynamic": True}, {"seq": 4, "batch": 2, "dtype": "bfloat16"})
        kept = []
        for kind in kinds:
            p = program(d, **kind)
            def ids(start, end):
                return [PROMPT[start + b:end + b] for b in range(kind.get("batch", 1))]
            s = Session(d, p)
            s.step(ids(0, 13))
            file = s.save()
            want = s.logits(ids(13, 20), rows="all")
            kept.append((p, file, ids(13, 20), want))
            other = Session(d, p)
            other.step(ids(5, 30), label="what it held is overwritten")
            info = other.restore(file, expect=200).json
            assert info["position"] == 13 and info["id"] == other.id
            assert other.logits(ids(13, 20), rows="all") == want, kind
            assert other.save() == s.save()
            other.rewind(6)
            s.rewind(6)
            assert other.logits(ids(1, 4)) == s.logits(ids(1, 4)), "and can go back"
        empty = Session(d, p)
        other.restore(empty.save())
        assert other.position == 0
        d.restart()
        for p, file, ids, want in kept:
            s = Session(d, p)
            s.restore(file)
            assert s.logits(ids, rows="all") == want, "after a restart"
            reply = s.restore(kept[0][1] if p != kept[0][0] else kept[1][1], expect=409)
            assert reply.problem == "other-program", reply
            assert s.position == 20


def bad_files(file):
    """(what is wrong, the file)"""
    header, data = parse(file)
    names = [n for n in header if n != "__metadata__"]
    first, second = names[0], names[1]

    def changed(**members):
        return build({**header, **members}, data)

    def entry(**members):
        return changed(**{first: {**header[first], **members}})

    def metadata(**members):
        return changed(__metadata__={**header["__metadata__"], **members})

    begin, end = header[first]["data_offsets"]
    yield "empty", b""
    yield "seven bytes", file[:7]
    yield "the length alone", file[:8]
    yield "half a header", file[:100]
    yield "no data", build(header, b"")
    yield "a byte too few", file[:-1]
    yield "a byte too many", file + b"\0"
    yield "a header as long as 2^63", struct.pack("<Q", 1 << 63) + file[8:]
    yield "a header as long as 2^64 - 1", b"\xff" * 8 + file[8:]
    yield "a header longer than the file", struct.pack("<Q", len(file)) + file[8:]
    yield "no JSON", build("{", data)
    yield "no object", build("[]", data)
    yield "bad UTF-8", struct.pack("<Q", 4) + b'{"\xff"' + data
    yield "a member twice", build(json.dumps(header)[:-1] + f', "{first}": {json.dumps(header[first])}}}', data)
    yield "deep nesting", build('{"a":' + "[" * 100000 + "]" * 100000 + "}", data)
    yield "no metadata", build({n: header[n] for n in names}, data)
    yield "metadata that are none", changed(__metadata__=[])
    yield "no program", changed(__metadata__={"position": "9"})
    yield "no position", changed(__metadata__={"program": header["__metadata__"]["program"]})
    for position in ("-1", "65", "8", "10", "09", "x", "", "9 ", " 9", "9.0", "99999999999999999999", 9, None):
        yield f"position {position!r}", metadata(position=position)
    yield "no such buffer", build({n: e for n, e in header.items() if n != first}, data)
    yield "one more buffer", changed(more={"dtype": "F32", "shape": [0], "data_offsets": [0, 0]})
    for dtype in ("F16", "I32", "f32", "", 7, None):
        yield f"dtype {dtype!r}", entry(dtype=dtype)
    for shape in ([1, 2, 9], [1, 2, 24, 9], [1, 2, 9, 24, 1], [2, 1, 9, 24], [], 7, [1, 2, "9", 24],
                  [1, 2, 9.0, 24], [1, 2, -9, -24]):
        yield f"shape {shape}", entry(shape=shape)
    for offsets in ([end, begin], [begin, end + 1], [begin, end - 4], [begin - 4, end - 4], [-4, end - begin - 4],
                    [len(data), len(data) + end - begin], [begin], [begin, end, end], [float(begin), end], "x",
                    [2**62, 2**62 + end - begin], [2**63 - 1, 2**63 - 1], [begin + 1, end + 1], None):
        yield f"data_offsets {offsets}", entry(data_offsets=offsets)
    yield "two buffers in one place", entry(data_offsets=header[second]["data_offsets"])
    yield "an entry that is none", changed(**{first: 7})


def restore_in_chunks(s, data):
    raw = s.d.raw(f"PUT {s.path}/cache HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\n"
                  "Transfer-Encoding: chunked\r\n\r\n")
    with contextlib.suppress(OSError):  # it may have closed by then, and said why
        raw.send(f"{len(data):x}\r\n".encode() + data + b"\r\n0\r\n\r\n")
    reply = raw.reply()
    raw.close()
    return reply


def story_bad_cache_files_change_nothing(d):
    s, p = Session(d, program(d)), program(d)
    s.step(PROMPT[:9])
    good = s.save()
    n = 0
    for what, file in bad_files(good):
        reply = s.restore(file, expect=422, label=what)
        assert reply.problem in ("invalid-request", "limit-exceeded") and reply.json["detail"], (what, reply)
        n += 1
    assert n > 50
    header, data = parse(good)
    other = {**header["__metadata__"], "program": "0" * 64}
    assert s.restore(build({**header, "__metadata__": other}, data), expect=409).problem == "other-program"
    assert s.restore(good + b"x" * (3 << 20), expect=413).problem == "too-large"
    assert restore_in_chunks(s, good + b"x" * (3 << 20)).status == 413, "nor where no length is said"
    assert restore_in_chunks(s, good[:-1]).status == 422
    assert s.save() == good and s.position == 9
    twin = Session(d, p)
    twin.step(PROMPT[:9])
    assert s.logits([1, 2, 3], rows="all") == twin.logits([1, 2, 3], rows="all")
    d.put(s.path + "/cache", {"a": 1}, expect=415, label="JSON")
    d.get("/v1/sessions/nobody/cache", expect=404)
    d.put("/v1/sessions/nobody/cache", body=good, expect=404)
    s.rewind(0)
    s.restore(good, label="the good one is taken")


def story_tensors_may_lie_in_any_order(d):
    s = Session(d, program(d))
    s.step(PROMPT[:9])
    header, data = parse(s.save())
    moved, out = {"__metadata__": header.pop("__metadata__")}, b""
    for name in sorted(header, reverse=True):
        begin, end = header[name]["data_offsets"]
        moved[name] = {**header[name], "data_offsets": [len(out), len(out) + end - begin]}
        out += data[begin:end]
    t = Session(d, s.info["program"])
    t.restore(build(moved, out))
    assert t.logits([7, 8]) == s.logits([7, 8])


# ---- caches of whole numbers ----

INT8_BYTES = 4 * 2 * (2 * 64 * 24 + 2 * 64 * 2)  # a byte an element, and a scale of 2 for 24


@only("native")
def story_a_cache_of_whole_numbers_goes_through_everything():
    with Daemon(*FLAGS) as d:
        p = program(d)
        plain, s = Session(d, p), Session(d, p, cache_dtype="int8")
        assert (s.info["cache_dtype"], s.info["cache_bytes"]) == ("int8", INT8_BYTES), s.info
        assert Session(d, p, cache_dtype="int8", engine="auto").info["engine"] == "native"
        assert Session(d, p, cache_dtype="program").info["cache_dtype"] == "float32"
        want, got = plain.logits(PROMPT, rows="all"), s.logits(PROMPT[:20], rows="all")
        got += b"".join(s.logits([t]) for t in PROMPT[20:])
        assert got != want
        assert_close(got, want, "near the logits of floats", 0.3)
        fork = s.fork(position=30)
        assert fork.info["cache_dtype"] == "int8" and fork.info["cache_bytes"] == INT8_BYTES
        s.rewind(30)
        rest = s.logits(PROMPT[30:], rows="all")
        assert fork.logits(PROMPT[30:], rows="all") == rest == got[30 * 4 * VOCAB:]
        file = s.save()
        more = s.logits(PROMPT[:9], rows="all")
        other = Session(d, p, cache_dtype="int8")
        other.step(PROMPT[5:30], label="what it held is overwritten")
        assert other.restore(file).json["position"] == len(PROMPT)
        assert other.save() == file
        assert other.logits(PROMPT[:9], rows="all") == more, "bit for bit"
        fork.delete()
        d.restart()
        again = Session(d, p, cache_dtype="int8")
        again.restore(file)
        assert again.logits(PROMPT[:9], rows="all") == more, "after a restart, too"


@only("native")
def story_a_file_of_whole_numbers_says_what_they_are(d):
    s = Session(d, program(d), cache_dtype="int8")
    s.step(PROMPT[:9])
    header, data = parse(s.save())
    assert header.pop("__metadata__") == {"program": s.info["program"], "position": "9"}
    caches = [name for name in header if not name.endswith(".scale") and len(header[name]["shape"]) == 4]
    assert len(caches) == 8
    for name in caches:
        values, scales = header[name], header[name + ".scale"]
        assert (values["dtype"], values["shape"]) == ("I8", [1, 2, 9, 24]), values
        assert (scales["dtype"], scales["shape"]) == ("BF16", [1, 2, 9, 1]), scales
        whole = data[slice(*values["data_offsets"])]
        for row in range(18):
            # scales are the next bfloat16 above largest / 127
            assert 126 <= max(min(b, 256 - b) for b in whole[row * 24:row * 24 + 24]) <= 127


@only("native")
def story_files_go_from_floats_to_whole_numbers_and_back(d):
    p = program(d)
    plain, s, back, aten = (Session(d, p), Session(d, p, cache_dtype="int8"), Session(d, p),
                            Session(d, p, engine="aten"))
    want = plain.logits(PROMPT[:30], rows="all")
    file = plain.save()
    assert s.restore(file).json["position"] == 30, "floats are rounded"
    aten.step(PROMPT[:30])
    assert s.restore(aten.save()).json["position"] == 30, "of either engine"
    rounded = s.save()
    assert len(rounded) < 0.4 * len(file)
    assert back.restore(rounded).json["cache_dtype"] == "float32"
    a, b, c = (x.logits(PROMPT[30:], rows="all") for x in (plain, s, back))
    assert_close(b, a, "whole numbers", 0.3)
    assert_close(c, b, "the floats that they are, but for later tokens", 0.3)
    before = aten.save()
    reply = aten.restore(rounded, expect=422)
    assert "I8" in reply.json["detail"], reply
    assert aten.save() == before
    header, data = parse(rounded)
    scale = next(n for n in header if n.endswith(".scale"))
    header[scale]["dtype"] = "F16"
    held = s.save()
    assert scale in s.restore(build(header, data), expect=422).json["detail"]
    assert s.save() == held


@only("native")
def story_whole_numbers_cost_less():
    with Daemon(*FLAGS) as d:
        p, sizes = program(d, dtype="bfloat16"), []
        for dtype in ("program", "int8"):
            s = Session(d, p, cache_dtype=dtype)
            before = d.metric("pt2d_session_cache_bytes")
            s.step(PROMPT + PROMPT[:20])
            sizes.append(d.metric("pt2d_session_cache_bytes") - before)
            s.delete()
        # heads of 24: 26 bytes for 48
        assert 26 / 48 <= sizes[1] / sizes[0] < 0.58, sizes


@only("native")
def story_what_runs_on_aten_alone_has_no_whole_numbers(d):
    data = d.get(f"/v1/programs/{program(d)}/file", expect=200).body
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b"torch.ops.aten.silu.default",
                                                      b"torch.ops.aten.erf.default"))
    p = d.post("/v1/programs", body=out.getvalue(), expect=(200, 201)).json["id"]
    assert Session(d, p, engine="auto").info["engine"] == "aten"
    reply = d.post("/v1/sessions", {"program": p, "cache_dtype": "int8"}, expect=422)
    assert reply.problem == "program-refused", reply
    assert "cache_dtype" in reply.json["detail"] and "erf" in reply.json["detail"], reply
    d.post("/v1/sessions", {"program": p, "cache_dtype": "program"}, expect=201)


# ---- the end of sessions ----

def story_a_deleted_session_is_gone(d):
    p = program(d)
    s = Session(d, p)
    reply = d.delete(f"/v1/programs/{p}", expect=409, label="the program is in use")
    assert reply.problem == "in-use", reply
    s.delete()
    d.delete(s.path, expect=404)
    assert d.get(s.path, expect=404).problem == "not-found"
    d.get(s.path + "/cache", expect=404)
    d.delete(f"/v1/programs/{p}", expect=204, label="now it can go")
    d.post("/v1/sessions", {"program": p}, expect=404)


@only("aten")
def story_steps_that_wait_are_told_of_a_deletion(d):
    p = program(d)
    s, other = Session(d, p), Session(d, p)
    with frozen(d):
        runs = s.ask([1])
        until_running(d)
        waiting = []
        for i in range(3):
            waiting.append(s.ask([2]))
            until_waiting(d, i + 1)
        s.delete()
        for raw in waiting:
            reply = raw.reply()
            assert reply.status == 410 and reply.problem == "gone", reply
            raw.close()
        d.get(s.path, expect=404)
    assert runs.reply().status in (200, 410)
    runs.close()
    assert other.step([1]).json["position"] == 1


@only("aten")
def story_sixteen_calls_wait_not_seventeen(d):
    p = program(d)
    s, other = Session(d, p), Session(d, p)
    with frozen(d):
        asked = [s.ask([1])]
        until_running(d)
        for i in range(16):
            asked.append(s.ask([1]))
            until_waiting(d, i + 1)
        reply = s.step([1], expect=429)
        assert reply.problem == "queue-full" and int(reply.headers["Retry-After"]) > 0, reply
        result, = d.post("/v1/steps", {"steps": [{"session": s.id, "input_ids": [[1]]}]},
                         expect=200).json["results"]
        assert result["status"] == 429
        another = other.ask([1])
        until_waiting(d, 17)
    positions = []
    for raw in asked:
        positions.append(raw.reply().json["position"])
        raw.close()
    assert positions == list(range(1, 18)), "in the order received"
    assert another.reply().status == 200
    another.close()


def ids_of(d):
    return {s["id"] for s in d.get("/v1/sessions", expect=200).json["data"]}


def story_an_unused_session_expires(d):
    p = program(d)
    s, long = Session(d, p, ttl=1), Session(d, p, ttl=1000)
    # Listing is no use, so it does not keep the session.
    until(lambda: s.id not in ids_of(d), "it expires")
    for reply in (d.get(s.path, expect=404), s.step([1], expect=404), d.delete(s.path, expect=404),
                  d.get(s.path + "/cache", expect=404), d.post(s.path + "/fork", {}, expect=404),
                  s.rewind(0, expect=404)):
        assert reply.problem == "session-expired", reply
    result, = d.post("/v1/steps", {"steps": [{"session": s.id, "input_ids": [[1]]}]}).json["results"]
    assert result["status"] == 404 and result["body"]["type"] == "/problems/session-expired"
    assert ids_of(d) == {long.id}
    until(lambda: d.metric("pt2d_sessions_ended_total", how="expired") >= 1, "it is counted")


@only("aten")
def story_a_session_at_work_does_not_expire(d):
    p = program(d)
    busy, idle = Session(d, p, ttl=3), Session(d, p, ttl=3)  # time enough to get to work
    with frozen(d):
        steps = [busy.ask([1])]
        until_running(d)
        steps.append(busy.ask([2]))
        until(lambda: idle.id not in ids_of(d), "the idle one expires")
        assert busy.id in ids_of(d)
    for raw in steps:
        assert raw.reply().status == 200
        raw.close()
    until(lambda: busy.id not in ids_of(d), "then it does")


def story_a_restart_takes_sessions():
    with Daemon(*FLAGS) as d:
        p = program(d)
        s, gone, short = Session(d, p), Session(d, p), Session(d, p, ttl=1)
        gone.delete()
        until(lambda: short.id not in ids_of(d), "it expires")
        for stop in (d.stop, d.kill):
            s = Session(d, p)
            stop()
            d.start()
            assert d.get(s.path, expect=404).problem == "session-lost"
            assert s.step([1], expect=404).problem == "session-lost"
            assert d.get(short.path, expect=404).problem == "session-expired"
            assert d.get(gone.path, expect=404).problem == "not-found"
            assert ids_of(d) == set()
            d.delete(s.path, expect=404)


# ---- budgets ----

def check_budget(reply):
    assert reply.problem == "memory-budget" and int(reply.headers["Retry-After"]) > 0, reply


@only("aten")
def story_memory_for_caches_has_an_end():
    with Daemon(*FLAGS, "--set", "sessions.max_cache_bytes=1 MiB", "--set", "sessions.spill_bytes=0") as d:
        p = program(d)
        sessions = [Session(d, p) for _ in range((1 << 20) // CACHE_BYTES)]
        sessions[0].step(PROMPT[:5])
        for _ in range(3):
            check_budget(d.post("/v1/sessions", {"program": p, "engine": "aten"}, expect=429))
            check_budget(d.post(sessions[0].path + "/fork", {}, expect=429))
        assert sessions[0].step([1]).json["position"] == 6
        sessions.pop().delete()
        sessions.append(sessions[0].fork())
        check_budget(d.post("/v1/sessions", {"program": p, "engine": "aten"}, expect=429))
        sessions.pop().delete()
        Session(d, p)


@only("native")
def story_a_session_costs_what_it_has_written():
    with Daemon(*FLAGS, "--set", "sessions.max_cache_bytes=1 MiB", "--set", "sessions.spill_bytes=0") as d:
        p = program(d)
        held = lambda: d.metric("pt2d_session_cache_bytes")
        block = CACHE_BYTES // 4  # 16 of 64 positions
        sessions = [Session(d, p) for _ in range(40)]
        empty = held()
        assert empty < block
        sessions[0].step(PROMPT[:5])
        assert block <= held() - empty < block + 256
        fork = sessions[0].fork()
        assert held() - empty < block + 1024, "shared"
        fork.step([1])
        assert 2 * block <= held() - empty < 2 * block + 1024, "its own, once it is written"
        for s in sessions:
            reply = s.step(PROMPT[:17], expect=(200, 429))
            if reply.status == 429:
                break
        check_budget(reply)
        assert s.position == 0 and held() <= 1 << 20
        check_budget(s.step(PROMPT[:17], expect=429))
        fork.delete()
        sessions[0].delete()
        assert s.step(PROMPT[:17]).json["position"] == 17, "room again"


def story_sessions_and_open_programs_have_a_maximum():
    with Daemon(*FLAGS, "--set", "sessions.max_sessions=3", "--set", "engine.max_programs=1") as d:
        p, q = program(d), program(d, batch=2)
        a, b, c = Session(d, p), Session(d, p), Session(d, p)
        check_budget(d.post("/v1/sessions", {"program": p}, expect=429))
        check_budget(d.post(a.path + "/fork", {}, expect=429))
        c.delete()
        check_budget(d.post("/v1/sessions", {"program": q}, expect=429))
        a.delete()
        b.delete()
        assert Session(d, q).step([[1], [2]]).json["position"] == 1, "the idle program makes room"


if __name__ == "__main__":
    main(globals())
