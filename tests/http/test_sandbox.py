#!/usr/bin/env python3
"""Workers that a file has taken over: what they try is refused, and the daemon goes on.

The stand-ins attack from within the real workers (tests/hostile.c) and report how many
attempts were refused.  Where the kernel has Landlock nothing here is skipped."""

import contextlib
import ctypes
import os
import re
import shutil
import tempfile

from exporting import check_nothing_left, export, finish, submit_id
from harness import BUILD, MODELS, Daemon, main

CREATE_RULESET = 444  # the same on every machine
N_FILTER, N_LANDLOCK = 25, 20  # at least, of the attempts


def landlock():
    return max(0, ctypes.CDLL(None).syscall(CREATE_RULESET, None, 0, 1))


@contextlib.contextmanager
def hostile(place=None, aten=False):
    """What makes a daemon whose workers attack there, and a secret for them to find."""
    with tempfile.TemporaryDirectory(prefix="pt2d-hostile-") as directory, \
            tempfile.TemporaryDirectory(prefix="pt2d-secret-") as other:
        for name, is_hostile in (("export", place is not None), ("aten", aten)):
            os.symlink(os.path.join(BUILD, ("hostile-" if is_hostile else "pt2-") + name),
                       os.path.join(directory, "pt2-" + name))
        with open(os.path.join(other, "secret"), "w") as f:
            f.write("secret")
        yield {"PT2_LIBEXEC": directory, "PT2_HOSTILE_IN": place or "",
               "PT2_HOSTILE": other}
        with open(os.path.join(other, "secret")) as f:
            assert f.read() == "secret"
        assert not os.path.exists(os.path.join(other, "beside"))


def check_refused(text):
    found = re.search(r"hostile: (\d+) refused", text)
    assert found, text
    least = N_FILTER + (N_LANDLOCK if landlock() else 0)
    assert int(found.group(1)) >= least, f"{found.group(0)}, of {least}"


def check_job(place, **options):
    with hostile(place) as env, Daemon(env=env) as d:
        job = finish(d, submit_id(d, **options), "failed")
        assert "status 42" in job["error"]["detail"], job["error"]
        check_refused(job["error"]["detail"])
        check_nothing_left(d)
        d.get("/healthz", expect=200)


def story_the_export_worker_can_only_read_its_checkpoint():
    check_job("export", dtype="float32")


def story_the_worker_that_makes_a_pte_can_open_nothing():
    check_job("pte", format="pte", dtype="float32")


def story_the_worker_that_verifies_keeps_to_its_archive():
    check_job("verify", dtype="float32", verify=2)


def story_the_engines_worker_can_open_nothing():
    with hostile(aten=True) as env, Daemon(env=env) as d:
        program = export(d, dtype="float32")["program"]
        reply = d.post("/v1/sessions", {"program": program, "engine": "aten"},
                       expect=201)
        step = d.post(f"/v1/sessions/{reply.json['id']}/step", {"input_ids": [[1]]})
        check_refused(step.json["detail"])


def story_the_engines_worker_of_a_verification_can_open_nothing():
    with hostile(aten=True) as env, Daemon(env=env) as d:
        job = finish(d, submit_id(d, dtype="float32", verify=2), "failed")
        check_refused(job["error"]["detail"])


def story_links_within_the_models_lead_a_worker():
    with tempfile.TemporaryDirectory(prefix="pt2d-links-") as models:
        blobs, model = os.path.join(models, "blobs"), os.path.join(models, "linked")
        os.mkdir(blobs)
        os.mkdir(model)
        demo = os.path.join(MODELS, "demo")
        for name in os.listdir(demo):
            shutil.copy(os.path.join(demo, name), os.path.join(blobs, "b-" + name))
            os.symlink(f"../blobs/b-{name}", os.path.join(model, name))
        with Daemon(models=models) as d:
            linked = export(d, model="linked", dtype="float32")
        with Daemon() as d:
            assert export(d, dtype="float32")["program"] == linked["program"]


def story_the_start_says_what_protects():
    with Daemon() as d:
        log, abi = d.log(), landlock()
        if abi:
            assert f"workers are confined by seccomp and Landlock (ABI {abi})" in log, log
        else:
            assert "no Landlock" in log, log


if __name__ == "__main__":
    main(globals())
