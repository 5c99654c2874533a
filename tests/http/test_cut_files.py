#!/usr/bin/env python3
"""Files that somebody cuts under a running daemon: no made-up result is answered, nobody else notices,
and the same content heals."""

import os
import subprocess

from harness import BUILD, Daemon, until
from stepping import FLAGS, Session, assert_close, main, only, program

TEXT = list(b"It was the best of times, it was the worst of times, it was the age of wisdom.")


def file_of(d, p):
    return os.path.join(d.state, "objects", p[:2], p)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def cut(path, length):
    os.chmod(path, 0o600)
    os.truncate(path, length)


def upload(d, content, expect=200):
    return d.post("/v1/programs", body=content, headers={"Content-Type": "application/octet-stream"}, expect=expect)


def integrity(d, p):
    return d.get(f"/v1/programs/{p}", expect=200).json["integrity"]


def fails(s, ids, label, **body):
    reply = s.step(ids, expect=500, label=label, **body)
    assert reply.problem == "program-damaged" and s.info["program"][:12] in reply.json["detail"], reply


def is_twin(s, tokens):
    """It answers what one of a session answers that took these tokens in peace."""
    twin = Session(s.d, s.info["program"])
    if tokens:
        twin.step(tokens, logits=False)
    assert_close(s.logits(TEXT[60:63], rows="all"), twin.logits(TEXT[60:63], rows="all"), "afterwards")
    twin.delete()


@only("native")
def story_a_program_that_is_cut_fails_alone_and_heals():
    with Daemon(*FLAGS) as d:
        p, q = program(d), program(d, length=48)
        good, path = read(file_of(d, p)), file_of(d, p)
        s, rewound, long, other = Session(d, p), Session(d, p), Session(d, p), Session(d, q)
        for session in (s, rewound, long, other):
            session.step(TEXT[:10], logits=False)
        saved = s.save()
        cut(path, 4096)
        fails(s, TEXT[10:13], "its weights are cut off")
        assert integrity(d, p) == "damaged" and d.metric("pt2d_programs_damaged_total") == 1
        fails(s, [1], "still")
        fails(rewound, TEXT[5:8], "from before its position", cache_position=[5, 6, 7])
        assert s.position == 10 and s.save() == saved, "as it was"
        for what in (lambda: d.post("/v1/sessions", {"program": p, "engine": "native"}, expect=500),
                     lambda: d.get(f"/v1/programs/{p}/file", expect=500),
                     lambda: d.get(f"/v1/programs/{p}/plan", expect=500)):
            assert what().problem == "program-damaged"
        assert other.step([1]).status == 200 and integrity(d, q) == "whole"
        assert d.metric("pt2d_programs_damaged_total") == 1, "it is counted once"
        upload(d, good)
        assert integrity(d, p) == "whole"
        for session in (s, rewound, long):
            is_twin(session, TEXT[:session.position])
        d.stop()
        assert "is damaged" in d.log()


@only("native")
def story_a_step_that_overwrote_goes_back_to_where_it_began():
    with Daemon(*FLAGS) as d:
        p = program(d)
        good, path = read(file_of(d, p)), file_of(d, p)
        s = Session(d, p)
        s.step(TEXT[:20], logits=False)
        cut(path, 4096)
        fails(s, TEXT[30:33], "overwrites", cache_position=[5, 6, 7])
        assert s.position == 5
        upload(d, good)
        is_twin(s, TEXT[:5])


@only("native")
def story_a_cut_that_raises_no_signal_is_seen():
    """The last page that is left reads as zeros where it is cut."""
    with Daemon(*FLAGS) as d:
        p = program(d)
        good, path = read(file_of(d, p)), file_of(d, p)
        s = Session(d, p)
        s.step(TEXT[:10], logits=False)
        cut(path, len(good) - 1)
        fails(s, TEXT[10:13], "a byte is missing")
        assert integrity(d, p) == "damaged"
        job = d.post("/v1/exports", {"model": "demo", "dtype": "float32", "cache": {"max_cache_len": 64}, "example_input_ids": [[1]],
                                     "example_cache_position": [0]}, expect=202, label="export anew").json["id"]
        job = until(lambda: (j := d.get(f"/v1/exports/{job}?wait=60", expect=200).json)["state"] == "succeeded" and j)
        assert job["program"] == p and not job["cached"], job
        assert integrity(d, p) == "whole" and read(path) == good
        is_twin(s, TEXT[:10])


@only("native")
def story_a_file_that_is_gone_is_damaged():
    with Daemon(*FLAGS) as d:
        p = program(d)
        good, path = read(file_of(d, p)), file_of(d, p)
        os.unlink(path)
        assert d.get(f"/v1/programs/{p}/file", expect=500).problem == "program-damaged"
        assert integrity(d, p) == "damaged"
        assert d.post("/v1/sessions", {"program": p}, expect=500).problem == "program-damaged"
        assert program(d) == p and read(path) == good  # an export makes it again
        assert integrity(d, p) == "whole"
        os.unlink(path)
        job = d.get("/v1/exports", expect=200).json["data"][0]["id"]
        assert d.get(f"/v1/exports/{job}/file", expect=500).problem == "program-damaged"
        upload(d, good)
        assert d.get(f"/v1/programs/{p}/file", expect=200).body == good


@only("native")
def story_a_cut_file_is_found_before_anybody_steps():
    with Daemon(*FLAGS) as d:
        p = program(d)
        good, path = read(file_of(d, p)), file_of(d, p)
        cut(path, len(good) // 2)
        assert d.get(f"/v1/programs/{p}/file", expect=500).problem == "program-damaged"
        assert integrity(d, p) == "damaged"
        upload(d, good)
        assert d.get(f"/v1/programs/{p}/file", expect=200).body == good
        cut(path, len(good) // 2)
        upload(d, good)  # is the first who looks
        assert d.get(f"/v1/programs/{p}/file", expect=200).body == good
        cut(path, len(good) // 2)
        d.stop()
        fsck = subprocess.run([os.path.join(BUILD, "pt2d"), "--config", "/dev/null", "--state-dir", d.state, "--models-dir",
                               d.models, "--fsck=check"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
        assert fsck.returncode == 4 and f"program {p}" in fsck.stdout, fsck
        d.start()
        upload(d, good)
        is_twin(Session(d, p), [])


@only("native")
def story_packed_weights_that_are_cut_are_packed_anew():
    with Daemon(*FLAGS) as d:
        job = d.post("/v1/exports", {"model": "demo", "dtype": "float32", "cache": {"max_cache_len": 64}, "quantization": {"linear": "8da8w", "group_size": 0}},
                     expect=202).json["id"]
        job = until(lambda: (j := d.get(f"/v1/exports/{job}?wait=60", expect=200).json)["state"] == "succeeded" and j)
        p = job["program"]
        Session(d, p).step(TEXT[:10], logits=False)
        # Two that open it at once may both write the file; from now on there is the one.
        d.restart()
        s = Session(d, p)
        s.step(TEXT[:10], logits=False)
        twin = s.fork()
        want = twin.logits(TEXT[10:13], rows="all")
        packed = file_of(d, p) + ".packed"
        good = read(packed)
        cut(packed, 8192)
        reply = s.step(TEXT[10:13], expect=500)
        assert reply.problem == "program-damaged" and "packed" in reply.json["detail"], reply
        assert integrity(d, p) == "whole" and s.position == 10
        assert s.logits(TEXT[10:13], rows="all") == want
        assert read(packed) == good, "packed anew"
        assert d.metric("pt2d_programs_damaged_total") == 0


if __name__ == "__main__":
    main(globals())
