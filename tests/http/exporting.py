"""exporting.py - what the stories about exports and programs share."""

import contextlib
import hashlib
import json
import os
import shutil
import stat
import subprocess
import tempfile

from harness import BUILD, MODELS, until


class Gate:
    """An exporter that waits before it begins: each export holds until open() was called.  It
    stands in a directory of its own, which takes the place of PT2_LIBEXEC."""

    def __init__(self, directory):
        self.directory = directory
        self.go, self.runs = os.path.join(directory, "go"), os.path.join(directory, "runs")
        script = os.path.join(directory, "pt2-export")
        with open(script, "w") as f:
            f.write(f"#!/bin/sh\n"
                    f"echo \"$2\" >> '{self.runs}'\n"
                    f"while [ ! -e '{self.go}' ]; do sleep 0.05; done\n"
                    f"PT2_LIBEXEC='{BUILD}' exec '{BUILD}/pt2-export' \"$@\"\n")
        os.chmod(script, 0o755)
        os.symlink(os.path.join(BUILD, "pt2-aten"), os.path.join(directory, "pt2-aten"))
        self.env = {"PT2_LIBEXEC": directory}

    def open(self):
        with open(self.go, "w"):
            pass

    def shut(self):
        os.unlink(self.go)

    def n_runs(self):
        with contextlib.suppress(FileNotFoundError), open(self.runs) as f:
            return len(f.readlines())
        return 0


@contextlib.contextmanager
def gate():
    with tempfile.TemporaryDirectory(prefix="pt2d-gate-") as directory:
        yield Gate(directory)


@contextlib.contextmanager
def without_engines():
    """What makes a daemon that exports, but runs nothing: where it is all the same whether an
    engine takes a program, no worker has to load libtorch for each."""
    with tempfile.TemporaryDirectory(prefix="pt2d-libexec-") as directory:
        os.symlink(os.path.join(BUILD, "pt2-export"), os.path.join(directory, "pt2-export"))
        yield {"PT2_LIBEXEC": directory}


@contextlib.contextmanager
def models_of(*names):
    """A models directory with copies of the bundled model, under these names."""
    with tempfile.TemporaryDirectory(prefix="pt2d-models-") as directory:
        for name in names:
            copy_demo(os.path.join(directory, name))
        yield directory


def copy_demo(to, **changes):
    """A copy of the bundled model; changes are members of its config.json, None takes one out."""
    shutil.copytree(os.path.join(MODELS, "demo"), to, copy_function=shutil.copyfile)
    for folder, _, files in os.walk(to):
        os.chmod(folder, stat.S_IRWXU)
        for name in files:
            os.chmod(os.path.join(folder, name), 0o644)
    change_config(to, **changes)
    return to


def change_config(model, **changes):
    path = os.path.join(model, "config.json")
    with open(path) as f:
        config = json.load(f)
    for name, value in changes.items():
        if value is None:
            config.pop(name, None)
        else:
            config[name] = value
    with open(path, "w") as f:
        json.dump(config, f)


def submit(d, model="demo", expect=202, headers=None, **options):
    return d.post("/v1/exports", {"model": model, **options}, headers=headers, expect=expect,
                  label=f"POST export {options}")


def submit_id(d, **options):
    return submit(d, **options).json["id"]


def job_of(d, job_id):
    return d.get(f"/v1/exports/{job_id}", expect=200).json


def in_state(d, job_id, *states):
    """Wait until the job is in one of these states, and answer it."""
    def look():
        job = job_of(d, job_id)
        return job if job["state"] in states else None
    return until(look, f"export {job_id} {' or '.join(states)}")


def finish(d, job_id, state="succeeded"):
    """Wait until it is finished, and answer it."""
    job = in_state(d, job_id, "succeeded", "failed", "cancelled")
    assert job["state"] == state, job
    return job


def export(d, **options):
    """Export, and answer the finished job."""
    return finish(d, submit_id(d, **options))


def pages(d, path, limit=2, **filters):
    """All of a list, by pages: the cursor ends it."""
    query = "".join(f"&{k}={v}" for k, v in filters.items())
    data, after = [], ""
    while True:
        page = d.get(f"{path}?limit={limit}{query}{after}", expect=200).json
        assert len(page["data"]) <= limit, page
        data += page["data"]
        if page["next"] is None:
            return data
        assert len(page["data"]) > 0, page
        after = f"&after={page['next']}"


def sha256(data):
    return hashlib.sha256(data).hexdigest()


@contextlib.contextmanager
def small_disk(mib):
    """A file system of that size; None where it can't be mounted."""
    with tempfile.TemporaryDirectory(prefix="pt2d-disk-") as directory:
        mounted = os.geteuid() == 0 and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", directory],
            stderr=subprocess.DEVNULL).returncode == 0
        try:
            yield directory if mounted else None
        finally:
            if mounted:
                subprocess.run(["umount", "-l", directory], check=True)


def state_files(d, *below):
    """The files beneath a folder of the state directory."""
    return sorted(os.path.join(folder, name)
                  for folder, _, files in os.walk(os.path.join(d.state, *below)) for name in files)


def check_nothing_left(d):
    """No program's file is there, and after a moment no temporary one."""
    assert state_files(d, "objects") == []
    until(lambda: state_files(d, "tmp") == [], "the end of temporary files")


def check_errors(reply, *pointers):
    """A 422 that names these members, and no others."""
    assert reply.status == 422, reply
    assert sorted(e["pointer"] for e in reply.json["errors"]) == sorted(pointers), reply.json
    assert all(e["detail"] for e in reply.json["errors"])
