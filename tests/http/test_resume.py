#!/usr/bin/env python3
"""Files of models that come by several requests: PATCH with Upload-Offset, from where the last
one ended, however it did."""

import os
import random
import tempfile
import threading
import time

from exporting import sha256
from harness import SEED, Daemon, bearer, main, token_file, token_line, until
from test_uploads import repr_digest
from uploading import FILES, empty_models, in_folder, publish, put, staged, url

NAME = "model.safetensors"
DATA = FILES[NAME]
FILE = "/files/" + NAME
BIG = random.Random(5).randbytes(3 << 20)  # several slices of the daemon's


def part(offset, last=False, **more):
    return {"Content-Type": "application/partial-upload", "Upload-Offset": str(offset),
            "Upload-Complete": "?1" if last else "?0", **more}


def patch(d, model, data, offset, last=False, expect=204, headers=None, file=FILE):
    return d.request("PATCH", url(model, file), body=data, expect=expect,
                     headers={**part(offset, last), **(headers or {})})


def offset(d, model, headers=None, file=FILE):
    """What HEAD says; None: there is none."""
    reply = until(lambda: (r := d.head(url(model, file), headers=headers,
                                       expect=(200, 404, 409))).status != 409 and r,
                  "the end of the request that writes")
    assert reply.status == 404 or reply.headers["Upload-Complete"] == "?0", reply
    return int(reply.headers["Upload-Offset"]) if reply.status == 200 else None


def unfinished(models):
    return [f for f in staged(models) if f.startswith("unfinished/")]


def broken(d, model, data, start, n, how="close", headers=None, file=FILE):
    """A request for all that is left of data, of which n bytes are sent."""
    more = "".join(f"{k}: {v}\r\n" for k, v in {**part(start, True), **(headers or {})}.items())
    raw = d.raw(f"PATCH {url(model, file)} HTTP/1.1\r\nHost: x\r\n{more}"
                f"Content-Length: {len(data) - start}\r\n\r\n")
    raw.send(data[start:start + n])
    until(lambda: d.head(url(model, file), headers=headers).status == 409, "its begin")
    if how == "close":
        raw.close()
    elif how == "reset":
        raw.reset()
    return raw


def story_a_file_comes_in_parts():
    with empty_models() as models, Daemon(models=models) as d:
        third = len(DATA) // 3
        assert offset(d, "m") is None
        d.delete(url("m", FILE), expect=404)
        reply = patch(d, "m", DATA[:third], 0)
        assert reply.headers["Upload-Offset"] == str(third), reply
        assert reply.headers["Upload-Complete"] == "?0" and reply.body == b"", reply
        told = d.get(url("m", FILE), expect=200)
        assert told.json == {"name": NAME, "bytes": third, "complete": False}, told
        assert told.headers["Upload-Offset"] == str(third)
        assert told.headers["Upload-Limit"] == f"max-size={64 << 30}", told
        patch(d, "m", DATA[third:2 * third], third)
        assert offset(d, "m") == 2 * third
        assert offset(d, "n") is None and offset(d, "m", file="/files/config.json") is None
        reply = patch(d, "m", DATA[2 * third:], 2 * third, last=True, expect=201,
                      headers=repr_digest(DATA))
        assert reply.headers["Upload-Complete"] == "?1"
        assert reply.json == {"name": NAME, "bytes": len(DATA), "sha256": sha256(DATA)}, reply
        assert offset(d, "m") is None and unfinished(models) == []
        assert os.listdir(os.path.join(models, ".uploads", "unfinished")) == []
        # Again: at once, without a body at the end, and beside a PUT.
        reply = patch(d, "m", DATA, 0, last=True, expect=200)
        assert reply.json["sha256"] == sha256(DATA)
        patch(d, "m", DATA, 0)
        assert patch(d, "m", b"", len(DATA), last=True, expect=200).json["sha256"] == sha256(DATA)
        assert put(d, "m", NAME, DATA, expect=200).json["bytes"] == len(DATA)
        assert d.metric("pt2d_model_files_total") == 4
        for name in set(FILES) - {NAME}:
            put(d, "m", name, FILES[name])
        publish(d, "m", FILES)
        assert in_folder(models, "m") == FILES
        # What is published does not go on; a plain PUT replaces what was begun, and so does DELETE.
        patch(d, "m", b"abc", 0)
        put(d, "m", NAME, DATA)
        assert offset(d, "m") is None and unfinished(models) == []
        patch(d, "m", b"abc", 0)
        d.delete(url("m", FILE), expect=204)
        assert offset(d, "m") is None and unfinished(models) == []
        patch(d, "m", b"abc", 0)
        d.delete(url("m"), expect=204)
        assert offset(d, "m") is None and staged(models) == []
        lines = [line for line in d.log().splitlines() if "audit" in line and "PATCH" in line]
        assert len(lines) == 9, lines


def story_broken_connections_lose_nothing_that_was_told():
    print(f"     PT2_SEED={SEED}", flush=True)
    rng = random.Random(SEED)
    with empty_models() as models, Daemon("--set", "daemon.grace=0", models=models) as d:
        for data in (DATA, BIG):
            at = 0
            for turn in range(4):
                n = rng.choice((0, 1, rng.randrange(1 << 16), rng.randrange(len(data) - at)))
                how = rng.choice(("close", "reset", "hold"))
                raw = broken(d, "m", data, at, min(n, len(data) - at - 1), how)
                if how == "hold":  # SIGTERM or SIGKILL with the request under way
                    d.kill() if rng.random() < 0.7 else d.stop()
                    raw.close()
                    d.start()
                now = offset(d, "m")
                assert at <= now <= at + n, (turn, how, at, n, now)
                if how == "close":  # what the library had read when it saw the end may be lost
                    sent = min(n, len(data) - at - 1)
                    assert now >= at + sent - (0 if sent < 1 << 17 else 1 << 17), (turn, at, n, now)
                at = now
                if rng.random() < 0.3:
                    d.kill()
                    d.start()
                assert offset(d, "m") == at, "what was told holds"
            reply = patch(d, "m", data[at:], at, last=True, expect=201, headers=repr_digest(data))
            assert reply.json["sha256"] == sha256(data), reply
            assert unfinished(models) == []


def story_what_is_wrong_is_refused():
    with empty_models() as models, \
            Daemon("--set", "models.max_upload_bytes=1000", "--set", "models.max_unfinished_bytes=1500",
                   models=models) as d:
        patch(d, "m", b"0123456789", 0)
        for wrong in (0, 9, 11):
            reply = patch(d, "m", b"xyz", wrong, expect=409)
            assert reply.problem == "conflict" and "10 bytes" in reply.json["detail"], reply
            assert reply.headers["Upload-Offset"] == "10" and \
                reply.headers["Upload-Complete"] == "?0", reply
        assert patch(d, "n", b"xyz", 7, expect=409).headers["Upload-Offset"] == "0"
        # Before a long body, too.
        raw = d.raw(f"PATCH {url('m', FILE)} HTTP/1.1\r\nHost: x\r\nUpload-Offset: 9\r\n"
                    "Upload-Complete: ?0\r\nContent-Length: 900\r\nExpect: 100-continue\r\n\r\n")
        reply = raw.reply()
        assert reply.status == 409 and reply.headers["Upload-Offset"] == "10", reply
        for headers, status in (
                ({"Upload-Offset": ""}, 400), ({"Upload-Offset": "-1"}, 400),
                ({"Upload-Offset": "1" * 16}, 400), ({"Upload-Offset": "10x"}, 400),
                ({"Upload-Complete": "1"}, 400), ({"Upload-Complete": ""}, 400),
                ({"Repr-Digest": "sha-256=x"}, 400),
                ({"Content-Type": "application/octet-stream"}, 415)):
            patch(d, "m", b"x", 10, expect=status, headers=headers)
        for without in ("Upload-Offset", "Upload-Complete"):
            headers = {k: v for k, v in part(10).items() if k != without}
            d.request("PATCH", url("m", FILE), body=b"x", headers=headers, expect=400)
        patch(d, "m", b"x", 0, expect=422, file="/files/x.py")
        patch(d, ".m", b"x", 0, expect=422)
        for method in ("GET", "HEAD", "DELETE"):
            d.request(method, url("m", "/files/x.py"), expect=422)
        patch(d, "m", b"x" * 991, 10, expect=413)
        patch(d, "m", b"x", 1000, expect=413)
        assert offset(d, "m") == 10
        # The digest, at the end: what came was another file.
        patch(d, "m", b"more", 10, headers=repr_digest(b"as yet nothing is compared"))
        reply = patch(d, "m", b"end", 14, last=True, expect=422, headers=repr_digest(b"other"))
        assert reply.problem == "digest-mismatch" and sha256(b"0123456789moreend") in reply.text, reply
        assert "Upload-Complete" not in reply.headers, reply
        assert offset(d, "m") is None and staged(models) == []
        # All of them together.
        patch(d, "m", b"x" * 1000, 0)
        assert patch(d, "n", b"x" * 501, 0, expect=507).problem == "no-space"
        patch(d, "n", b"x" * 500, 0)
        patch(d, "n", b"x", 500, expect=507)
        raw = d.raw(f"PATCH {url('n', FILE)} HTTP/1.1\r\nHost: x\r\nUpload-Offset: 500\r\n"
                    "Upload-Complete: ?0\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n")
        assert raw.reply().status == 507
        put(d, "n", "config.json", b"x" * 1000)
        patch(d, "m", b"", 1000, last=True, expect=201)
        assert offset(d, "n") == 500
        patch(d, "n", b"x", 500)


def story_they_are_bounded_in_number():
    with empty_models() as models, Daemon(models=models) as d:
        connection = d.connection()
        for n in range(100):
            d.request("PATCH", url(f"m{n}", FILE), body=b"x", headers=part(0), expect=204,
                      connection=connection)
        assert patch(d, "more", b"x", 0, expect=429).problem == "queue-full"
        patch(d, "m7", b"x", 1)
        put(d, "more", "config.json", b"{}")
        patch(d, "m7", b"x", 2, last=True, expect=201)
        patch(d, "more", b"x", 0)
        connection.close()


def story_one_name_has_half_of_them():
    with tempfile.TemporaryDirectory() as directory, empty_models() as models, \
            Daemon("--set", "http.token_file=" + token_file(
                directory, token_line("alice", "a"), token_line("bob", "b")), models=models) as d:
        connection = d.connection()
        for n in range(50):
            d.request("PATCH", url(f"m{n}", FILE), body=b"x", headers={**part(0), **bearer("a")},
                      expect=204, connection=connection)
        held = broken(d, "held", b"xx", 0, 1, headers=bearer("b"), how="hold")
        reply = patch(d, "more", b"x", 0, headers=bearer("a"), expect=429)
        assert reply.problem == "token-limit" and "'alice'" in reply.json["detail"], reply
        patch(d, "m7", b"x", 1, headers=bearer("a"))
        for n in range(49):
            d.request("PATCH", url(f"m{n}", FILE), body=b"x", headers={**part(0), **bearer("b")},
                      expect=204, connection=connection)
        assert patch(d, "more", b"x", 0, headers=bearer("b"), expect=429).problem == "queue-full"
        patch(d, "m7", b"x", 2, last=True, headers=bearer("a"), expect=201)
        assert patch(d, "more", b"x", 0, headers=bearer("b"), expect=429).problem == "token-limit"
        patch(d, "more", b"x", 0, headers=bearer("a"))
        held.close()
        connection.close()


def story_one_request_at_a_time_writes():
    with empty_models() as models, Daemon(models=models) as d:
        raw = broken(d, "m", DATA, 0, 1000, how="hold")
        for reply in (patch(d, "m", b"x", 0, expect=409), d.head(url("m", FILE), expect=409),
                      patch(d, "m", b"x", 1000, expect=409), d.delete(url("m", FILE), expect=409)):
            assert reply.headers["Retry-After"] == "1", reply
            assert "Upload-Offset" not in reply.headers, reply
        put(d, "m", NAME, DATA)  # a plain one is of its own
        assert raw.send(DATA[1000:]).reply().status == 200
        assert offset(d, "m") is None
        # Ten at once, again and again: one of them writes, or each in its turn.
        won = []

        def client(n):
            at = 0
            while at < 40:
                reply = patch(d, "w", bytes([n]) * 4, at, expect=(204, 409))
                if reply.status == 204:
                    won.append((at, n))
                    at += 4
                else:
                    at = int(reply.headers.get("Upload-Offset", at))
        threads = [threading.Thread(target=client, args=(n,)) for n in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        written = b"".join(bytes([n]) * 4 for at, n in sorted(won))
        assert [at for at, _ in sorted(won)] == list(range(0, 4 * len(won), 4)), won
        assert offset(d, "w") == len(written)
        reply = patch(d, "w", b"", len(written), last=True, expect=201)
        assert reply.json["sha256"] == sha256(written), won
        # Deleted beneath a writer: its bytes are gone, and it is told.
        raw = broken(d, "m", DATA, 0, 1000, how="hold")
        d.delete(url("m"), expect=204)
        assert raw.send(DATA[1000:]).reply().status == 409
        patch(d, "m", DATA, 0, last=True, expect=201)


def story_another_owners_is_not_seen():
    with empty_models() as models, tempfile.TemporaryDirectory() as directory:
        tokens = token_file(directory, token_line("ann", "one", "read,export"),
                            token_line("bob", "two", "read,export"), token_line("root", "three"),
                            token_line("eve", "four", "read"))
        ann, bob, root, eve = map(bearer, ("one", "two", "three", "four"))
        with Daemon("--set", f"http.token_file={tokens}", models=models) as d:
            patch(d, "m", b"ann's", 0, headers=ann)
            for other in (bob, root):
                assert offset(d, "m", headers=other) is None
                d.delete(url("m", FILE), headers=other, expect=404)
                assert patch(d, "m", b"x", 5, headers=other,
                             expect=409).headers["Upload-Offset"] == "0"
            assert offset(d, "m", headers=eve) is None
            d.delete(url("m", FILE), headers=eve, expect=403)
            patch(d, "m", b"x", 5, headers=eve, expect=403)
            patch(d, "m", b"bob", 0, headers=bob)
            put(d, "m", NAME, b"root's", headers=root)
            d.restart()
            assert offset(d, "m", headers=ann) == 5 and offset(d, "m", headers=bob) == 3
            for who, at, whole in ((ann, 5, b"ann's!"), (bob, 3, b"bob!")):
                reply = patch(d, "m", b"!", at, last=True, expect=201, headers=who)
                assert reply.json["sha256"] == sha256(whole), reply


def story_they_expire_and_survive():
    with empty_models() as models, Daemon("--set", "models.upload_ttl=1 s", models=models) as d:
        patch(d, "m", b"old", 0)
        patch(d, "n", b"old", 0)
        time.sleep(1.1)
        assert offset(d, "m") is None
        patch(d, "m", b"new!", 0)
        until(lambda: offset(d, "m") is None, "its end")
        assert len(unfinished(models)) == 1, "the next one swept the rest"
        d.stop()
        d.start()
        assert unfinished(models) == []
        patch(d, "m", b"", 0)
        raw = broken(d, "n", DATA, 0, 10, how="hold")
        time.sleep(1.1)
        put(d, "x", "config.json", b"{}")  # sweeps, but not beneath a writer
        assert [f for f in unfinished(models) if "/n/" in f], unfinished(models)
        assert raw.send(DATA[10:]).reply().status == 201
        assert unfinished(models) == []


if __name__ == "__main__":
    main(globals())
