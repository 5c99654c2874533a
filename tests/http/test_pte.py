#!/usr/bin/env python3
"""Exports of format pte: the job, its second file, what keeps and what removes it."""

import base64
import contextlib
import hashlib
import os
import subprocess
import tempfile

from exporting import (check_errors, check_nothing_left, export, finish, gate, job_of, sha256,
                       state_files, submit, submit_id, without_engines)
from harness import BUILD, MODELS, Daemon, main, until

PTE = {"format": "pte", "dtype": "float32"}


def file_of(d, job, expect=200, **headers):
    return d.get(f"/v1/exports/{job['id']}/file?format=pte", headers=headers, expect=expect)


def objects(d):
    return {os.path.basename(path) for path in state_files(d, "objects")}


def by_command(*options):
    """What pt2-export writes of the same."""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "a.pte")
        subprocess.run([os.path.join(BUILD, "pt2-export"), os.path.join(MODELS, "demo"), "-q", "-o",
                        path, "--format", "pte", *options], check=True, stdout=subprocess.DEVNULL)
        with open(path, "rb") as f:
            return f.read()


def story_a_job_makes_both_files(d):
    dry = submit(d, dry_run=True, expect=200, **PTE).json
    assert dry["options"]["profile"] == "edge" and dry["options"]["format"] == "pte", dry
    assert dry["options"]["pte"] == {"backend": "xnnpack", "custom_ops": False}, dry
    job_id = submit_id(d, **PTE)
    assert job_of(d, job_id)["pte"] is None or job_of(d, job_id)["state"] == "succeeded"
    job = finish(d, job_id)
    assert job["options"] == dry["options"], job
    assert job["pte"]["backend"] == "xnnpack" and job["pte"]["delegates"] == 7, job
    reply = file_of(d, job)
    digest = hashlib.sha256(reply.body)
    assert digest.hexdigest() == job["pte"]["sha256"]
    assert len(reply.body) == job["pte"]["bytes"] == dry["pte_bytes"]
    assert reply.body == by_command("--dtype", "float32"), "as the command writes it"
    assert reply.headers["ETag"] == f'"{job["pte"]["sha256"]}"'
    assert reply.headers["Repr-Digest"] == f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
    assert reply.headers["Content-Disposition"] == \
        f'attachment; filename="{job["pte"]["sha256"]}.pte"'
    part = file_of(d, job, expect=206, Range="bytes=4-7")
    assert part.body == b"ET12", part
    file_of(d, job, expect=304, **{"If-None-Match": reply.headers["ETag"]})
    file_of(d, job, expect=416, Range=f"bytes={len(reply.body)}-")
    assert d.head(f"/v1/exports/{job['id']}/file?format=pte", expect=200).headers["Content-Length"] \
        == str(len(reply.body))
    pt2 = d.get(f"/v1/exports/{job['id']}/file?format=pt2", expect=200)
    assert sha256(pt2.body) == job["program"] != job["pte"]["sha256"]
    assert d.get(f"/v1/exports/{job['id']}/file", expect=200).body == pt2.body
    edge = export(d, profile="edge", dtype="float32")
    assert edge["program"] == job["program"] and edge["pte"] is None, "the same program without"
    file_of(d, edge, expect=404)
    d.get(f"/v1/exports/{job['id']}/file?format=zip", expect=422)
    d.get("/v1/exports/exp_nope/file?format=pte", expect=404)


def story_the_same_again_is_cached(d):
    options = dict(PTE, cache={"max_cache_len": 41}, pte={"backend": "portable"})
    first = export(d, **options)
    assert first["pte"]["backend"] == "portable" and first["pte"]["delegates"] == 0, first
    again = submit(d, **options).json
    assert again["state"] == "succeeded" and again["cached"] and again["pte"] == first["pte"], again
    assert file_of(d, again).body == file_of(d, first).body
    other = export(d, **dict(options, pte=None))
    assert other["program"] == first["program"] and not other["cached"]
    assert other["pte"]["sha256"] != first["pte"]["sha256"], "one program, two of its files"


def story_custom_ops_are_the_programs(d):
    """Said of the .pte, they are the program's that it is made of."""
    job = export(d, **PTE, pte={"custom_ops": True})
    assert job["options"]["custom_ops"] and job["options"]["pte"]["custom_ops"], job
    assert b"llama::custom_sdpa" in file_of(d, job).body
    same = submit(d, **PTE, custom_ops=True).json
    assert same["cached"] and same["pte"] == job["pte"], same
    assert submit(d, **PTE, custom_ops=True, pte={"custom_ops": True}).json["cached"]
    assert file_of(d, job).body == by_command("--custom-ops", "--dtype", "float32")


def story_files_go_with_their_program():
    """Also one that two programs share: their records of verification alone differ."""
    with without_engines() as env, Daemon(env=env) as d:
        kept = export(d, **PTE)
        dynamic = export(d, **PTE, dynamic_shapes=True)
        twice = export(d, **PTE, pte={"backend": "portable"})
        assert twice["program"] == kept["program"]
        names = {kept["program"], dynamic["program"], kept["pte"]["sha256"],
                 dynamic["pte"]["sha256"], twice["pte"]["sha256"]}
        assert len(names) == 5 and objects(d) == names
        d.delete(f"/v1/programs/{kept['program']}", expect=204)
        assert objects(d) == {dynamic["program"], dynamic["pte"]["sha256"]}
        file_of(d, kept, expect=404)
        anew = export(d, **PTE)
        assert not anew["cached"] and anew["pte"] == kept["pte"], "same input, same bytes"


def story_a_file_of_two_programs_stays_for_the_other():
    with Daemon() as d:
        plain = export(d, **PTE)
        verified = export(d, **PTE, verify=2)
        assert verified["verify"]["tokens"] == 2 and verified["program"] != plain["program"]
        assert verified["pte"] == plain["pte"]
        d.delete(f"/v1/programs/{plain['program']}", expect=204)
        assert sha256(file_of(d, verified).body) == verified["pte"]["sha256"]
        d.delete(f"/v1/programs/{verified['program']}", expect=204)
        check_nothing_left(d)


def story_a_restart_keeps_what_is_recorded():
    with without_engines() as env, Daemon(env=env) as d:
        job = export(d, **PTE)
        stray = os.path.join(d.state, "objects", "ab", "ab" * 32)
        os.makedirs(os.path.dirname(stray), exist_ok=True)
        with open(stray, "w") as f:
            f.write("left by a crash")
        d.restart()
        assert objects(d) == {job["program"], job["pte"]["sha256"]}
        assert job_of(d, job["id"])["pte"] == job["pte"]
        assert sha256(file_of(d, job).body) == job["pte"]["sha256"]


def story_what_can_not_be_written_is_refused(d):
    def refused(pointer, **options):
        check_errors(submit(d, expect=422, **options), pointer)

    refused("/profile", format="pte", profile="torch")
    refused("/format", pte={"backend": "xnnpack"})
    refused("/format", format="onnx")
    refused("/pte", format="pte", pte="xnnpack")
    refused("/pte/backend", format="pte", pte={"backend": "coreml"})
    refused("/pte/custom_ops", format="pte", custom_ops=False, pte={"custom_ops": True})
    for dry_run in (False, True):
        for text, options in (
                ("dtype must be float32", {"dtype": "bfloat16"}),
                ("batch_size must be 1", {"cache": {"batch_size": 2}}),
                ("only weights or only rows", {"quantization": {"linear": "8w"}}),
                ("8 bits in groups", {"quantization": {"linear": "8da8w"}}),
                ("want the backend xnnpack", {"quantization": {"linear": "8da4w"},
                                              "pte": {"backend": "portable"}})):
            reply = submit(d, expect=422, format="pte", dry_run=dry_run, **options)
            assert text in reply.json["detail"], reply.json


def story_an_unfinished_job_has_no_file():
    with gate() as exporter, Daemon(env=exporter.env) as d:
        job_id = submit_id(d, **PTE)
        d.get(f"/v1/exports/{job_id}/file?format=pte", expect=409)
        exporter.open()
        file_of(d, finish(d, job_id))


@contextlib.contextmanager
def exporter_whose_pte(does):
    """Its --job is the true one; --pte-job does that."""
    with tempfile.TemporaryDirectory(prefix="pt2d-libexec-") as directory:
        script = os.path.join(directory, "pt2-export")
        with open(script, "w") as f:
            f.write(f"#!/bin/sh\n[ \"$1\" = --pte-job ] && {{\n{does}\n}}\n"
                    f"PT2_LIBEXEC='{BUILD}' exec '{BUILD}/pt2-export' \"$@\"\n")
        os.chmod(script, 0o755)
        yield {"PT2_LIBEXEC": directory}


def story_a_worker_that_makes_no_pte_fails_the_job():
    """And nothing half-written is ever offered."""
    half = "printf half > \"$4\"; "
    for does in ("exit 0", f"{half}kill -9 $$", f"{half}echo '{{\"result\": {{}}}}'; exit 0",
                 f"{half}echo '{{\"result\": {{\"sha256\": \"x\", \"bytes\": 4}}}}'; exit 0",
                 f"{half}echo '{{\"result\": {{\"sha256\": \"{'0' * 64}\", \"bytes\": 5}}}}'; exit 0"):
        with exporter_whose_pte(does) as env, Daemon(env=env) as d:
            job = finish(d, submit_id(d, **PTE), state="failed")
            assert job["error"]["type"] == "/problems/worker-died", job
            assert job["pte"] is None and job["program"] is None, job
            file_of(d, job, expect=409)
            check_nothing_left(d)


def story_a_job_is_cancelled_while_the_pte_is_made():
    with exporter_whose_pte("echo '{\"progress\": {\"stage\": \"pte\", \"done\": 1, \"total\": 9}}'; "
                            "printf half > \"$4.tmp-1\"; exec sleep 1000") as env, Daemon(env=env) as d:
        job_id = submit_id(d, **PTE)
        until(lambda: job_of(d, job_id)["progress"]["stage"] == "pte", "the stage")
        d.post(f"/v1/exports/{job_id}/cancel", expect=202)
        finish(d, job_id, state="cancelled")
        check_nothing_left(d)


if __name__ == "__main__":
    main(globals())
