#!/usr/bin/env python3
"""Verified exports: what a job and its program say, wrong programs, cancelling."""

import contextlib
import io
import json
import os
import subprocess
import tempfile
import zipfile

from exporting import (check_errors, check_nothing_left, export, finish, in_state, job_of, sha256,
                       submit, submit_id, without_engines)
from harness import BUILD, Daemon, main, until

RECORD = "program/extra/verify.json"
LIMITS = {"float32": 1e-4, "float16": 40 / 2**11, "bfloat16": 40 / 2**8}


@contextlib.contextmanager
def workers(aten):
    """What makes a daemon whose pt2-aten is that program."""
    with tempfile.TemporaryDirectory(prefix="pt2d-libexec-") as directory:
        os.symlink(os.path.join(BUILD, "pt2-export"), os.path.join(directory, "pt2-export"))
        os.symlink(aten, os.path.join(directory, "pt2-aten"))
        yield {"PT2_LIBEXEC": directory}


def file_of(d, program):
    return d.get(f"/v1/programs/{program}/file", expect=200).body


def record_of(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert archive.namelist()[-1] == RECORD, "the record is the last one"
        return json.loads(archive.read(RECORD))


def check_verified(d, at_once, **options):
    dry = submit(d, dry_run=True, expect=200, **options).json
    job = export(d, **options)
    verify, dtype = job["verify"], options["dtype"]
    assert job["options"] == dry["options"] and job["options"]["verify"] == options["verify"]
    rows = options["verify"] * options.get("cache", {}).get("batch_size", 1)
    assert verify["tokens"] == options["verify"] and verify["dtype"] == dtype, verify
    assert verify["reference"] == "native" and verify["seconds"] > 0, verify
    assert verify["runs"].keys() == {"aten", "native_at_once", "aten_at_once"}, verify
    native = verify["runs"]["native_at_once"]
    assert native["rows"] == rows and native["largest_difference"] == 0 == native["rms"], verify
    for name in ("aten", "aten_at_once"):
        run = verify["runs"][name]
        if name == "aten_at_once" and not at_once:
            assert run["rows"] == 0 and "one token a call" in run["reason"], verify
            continue
        assert run["rows"] == rows and run["reason"] is None, verify
        ratio = run["largest_difference"] / run["largest_logit"]
        assert 0 < ratio <= LIMITS[dtype] == run["limits"]["largest"], verify
        assert 0 < run["rms"] <= run["limits"]["rms"], verify
        assert verify["largest_difference"] / verify["largest_logit"] >= ratio, verify

    program = d.get(f"/v1/programs/{job['program']}", expect=200).json
    data = file_of(d, job["program"])
    record = record_of(data)
    assert len(data) == dry["program_bytes"] and sha256(data) == job["program"]
    assert program["verified"] == record, program
    assert record["seed"] == verify["seed"] == int(record["program"][:8], 16)
    for name, run in record["runs"].items():
        run = run or {"rows": 0, "largest_within": None}
        assert run["rows"] == verify["runs"][name]["rows"], record
        if run["rows"] and verify["runs"][name]["largest_difference"]:
            ratio = verify["runs"][name]["largest_difference"] / verify["runs"][name]["largest_logit"]
            assert ratio <= run["largest_within"] * 1.000001 <= ratio * 10.1, (ratio, record)
    return job, record


def story_exports_are_verified(d):
    job, record = check_verified(d, False, dtype="float32", verify=6)
    check_verified(d, True, dtype="bfloat16", verify=5, dynamic_shapes=True)
    check_verified(d, True, dtype="float16", verify=7, dynamic_shapes=True,
                   cache={"batch_size": 2, "max_cache_len": 7})
    check_verified(d, True, dtype="float32", verify=8, example_input_ids=[[1, 1, 1]])

    # The record says which program it is of: the one that is not verified.
    plain = export(d, dtype="float32")
    assert plain["program"] == record["program"] != job["program"] and plain["verify"] is None
    assert not plain["cached"], "verifying is an option, so a part of the key"

    # Again: at once, with what was found out; made again: the same bytes.
    again = export(d, dtype="float32", verify=6)
    assert again["cached"] and again["verify"] == job["verify"], again
    d.delete(f"/v1/programs/{job['program']}", expect=204)
    again = export(d, dtype="float32", verify=6)
    assert not again["cached"] and again["program"] == job["program"], again


def story_a_verified_program_can_be_stepped_and_uploaded(d):
    job = export(d, dtype="float32", verify=2, cache={"max_cache_len": 16})
    data = file_of(d, job["program"])
    session = d.post("/v1/sessions", {"program": job["program"]}, expect=201).json
    d.post(f"/v1/sessions/{session['id']}/step", {"input_ids": [[5]]}, expect=200)
    with Daemon() as other:
        program = other.post("/v1/programs", body=data, expect=201).json
        assert program["id"] == job["program"] and program["verified"]["tokens"] == 2
        done = subprocess.run([os.path.join(BUILD, "pt2ctl"), "inspect", program["id"]],
                              env={**os.environ, "PT2_SERVER": other.address},
                              capture_output=True, text=True, check=True)
        assert "verified" in done.stdout and "2 tokens" in done.stdout, done.stdout


def story_the_number_of_tokens_is_bounded(d):
    check_errors(submit(d, expect=422, verify=9, cache={"max_cache_len": 8}), "/verify")
    check_errors(submit(d, expect=422, verify=4097), "/verify")
    check_errors(submit(d, expect=422, verify=True), "/verify")
    reply = submit(d, expect=422, verify=257)
    assert "256" in reply.json["detail"] and "257" in reply.json["detail"], reply.json
    submit(d, expect=200, dry_run=True, verify=256)


def story_pt2ctl_verifies(d):
    with tempfile.TemporaryDirectory(prefix="pt2d-ctl-") as directory:
        def ctl(*args, program="pt2ctl"):
            env = {**os.environ, "PT2_SERVER": d.address, "PT2_LIBEXEC": BUILD}
            return subprocess.run([os.path.join(BUILD, program), *args], env=env,
                                  capture_output=True, text=True, check=True).stdout

        path, other = os.path.join(directory, "a.pt2"), os.path.join(directory, "b.pt2")
        out = ctl("export", "demo", "--dtype", "float32", "--verify", "6", "-o", path)
        assert "6 tokens; logits up to" in out and "without aten_at_once" in out, out
        assert "6 tokens" in ctl("inspect", path)
        facts = json.loads(ctl("inspect", path, "--json"))
        assert facts["verified"]["runs"]["aten"]["rows"] == 6, facts
        # the exporter by itself makes the same file
        ctl(os.path.join(d.models, "demo"), "-o", other, "--dtype", "float32", "--verify", "6",
            program="pt2-export")
        with open(path, "rb") as a, open(other, "rb") as b:
            assert a.read() == b.read()


def story_a_wrong_program_fails_its_job():
    with workers(os.path.join(BUILD, "wrong-aten")) as env, Daemon(env=env) as d:
        job = finish(d, submit_id(d, dtype="float32", verify=6), "failed")
        error = job["error"]
        assert error["type"] == "/problems/verification-failed" and error["status"] == 500, error
        assert "native, a token at a time, and aten, a token at a time" in error["detail"], error
        assert "position 3 of batch element 0" in error["detail"], error
        assert job["program"] is None and job["verify"] is None, job
        assert d.get("/v1/programs", expect=200).json["data"] == []
        d.get(f"/v1/exports/{job['id']}/file", expect=409)
        check_nothing_left(d)
        # up to there it is right, and what is not verified nobody has missed
        assert export(d, dtype="float32", verify=3)["verify"]["tokens"] == 3
        export(d, dtype="float32")


def story_what_can_not_be_verified_fails():
    with without_engines() as env, Daemon(env=env) as d:
        job = finish(d, submit_id(d, verify=2), "failed")
        assert job["error"]["type"] == "/problems/input-output", job["error"]
        assert "pt2-aten" in job["error"]["detail"], job["error"]
        check_nothing_left(d)


def process_of(path):
    """The process that runs the script at path; a worker can write none for us to read."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as f:
            if path.encode() in f.read().split(b"\0"):
                return int(pid)
    return None


def story_a_verification_is_cancelled():
    with tempfile.TemporaryDirectory(prefix="pt2d-slow-") as directory:
        slow = os.path.join(directory, "slow")
        with open(slow, "w") as f:
            f.write("#!/bin/sh\nkill -STOP $$\n")
        os.chmod(slow, 0o755)
        with workers(slow) as env, Daemon(env=env) as d:
            job_id = submit_id(d, verify=2)
            until(lambda: job_of(d, job_id)["progress"]["stage"] == "verifying", "verifying")
            worker = until(lambda: process_of(os.path.join(env["PT2_LIBEXEC"], "pt2-aten")), "the worker")
            d.post(f"/v1/exports/{job_id}/cancel", expect=202)
            assert in_state(d, job_id, "cancelled")["verify"] is None

            def is_gone():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker, 0)
                    return False
                return True
            until(is_gone, "the end of the worker")
            check_nothing_left(d)


if __name__ == "__main__":
    main(globals())
