#!/usr/bin/env python3
"""Time exports of one checkpoint: pt2-export, the daemon's jobs, copying and hashing, Python.

usage: export.py CHECKPOINT_DIR [--build DIR] [--python PYTHON] [--runs N] [--dtype float32]

Prints a Markdown table: seconds (median of the runs, minimum and maximum) and the peak
resident size (VmHWM, file pages included) of the process that does the work.  The rows run
in turn, one run of each after the other, so that a busy machine slows all alike.  --python names
the python of the conformance environment (tools/python-env); without it Python's row is
left out."""

import argparse
import http.client
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

PYTHON_EXPORT = """
import sys, torch
sys.path.insert(0, sys.argv[1])
import reference
reference.python_export(sys.argv[2], sys.argv[3], dtype=sys.argv[4], max_cache_len=1024)
"""
PYTHON_QUANTISED = """
import sys
sys.path.insert(0, sys.argv[1])
import torchao_models
torchao_models.python_export(sys.argv[2], sys.argv[3], dtype=sys.argv[4], max_cache_len=1024,
                             linear="8da4w", embedding="8w")
"""
QUANTISED = ["--quantize-linear", "8da4w", "--quantize-embedding", "8w"]


def peak_kib(pid):
    """VmHWM, or 0 where the process is gone."""
    try:
        with open(f"/proc/{pid}/status") as status:
            return next((int(line.split()[1]) for line in status if line.startswith("VmHWM")), 0)
    except (FileNotFoundError, ProcessLookupError):
        return 0


def run(argv, **kw):
    """(seconds, peak KiB) of one child process, begun with nothing left to write back."""
    os.sync()
    start = time.monotonic()
    child = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **kw)
    peak = 0
    while child.poll() is None:
        peak = max(peak, peak_kib(child.pid))
        time.sleep(0.002)
    if child.returncode:
        sys.exit(f"export.py: {argv[0]} ended with status {child.returncode}")
    return time.monotonic() - start, peak


class Daemon:
    """pt2d on a fresh state directory."""

    def __init__(self, build, checkpoint, scratch):
        models = scratch / "models"
        models.mkdir()
        shutil.copytree(checkpoint, models / "bench")
        port_file = scratch / "port"
        self.child = subprocess.Popen(
            [build / "pt2d", "--listen", "127.0.0.1:0", "--state-dir", scratch / "state",
             "--models-dir", models, "--port-file", port_file],
            env={**os.environ, "PT2_LIBEXEC": str(build)}, stderr=subprocess.DEVNULL)
        while not port_file.exists() or not port_file.read_text().strip():
            time.sleep(0.01)
        host, port = port_file.read_text().strip().rsplit(":", 1)
        self.connection = http.client.HTTPConnection(host, int(port), timeout=600)

    def call(self, method, path, body=None):
        self.connection.request(method, path, json.dumps(body) if body else None,
                                {"Content-Type": "application/json"} if body else {})
        reply = self.connection.getresponse()
        text = reply.read()
        if reply.status >= 300:
            sys.exit(f"export.py: {method} {path}: {reply.status} {text.decode()}")
        return json.loads(text) if text else None

    def export(self, **options):
        """Seconds from the POST to the job's success; the job."""
        os.sync()
        start = time.monotonic()
        job = self.call("POST", "/v1/exports", {"model": "bench", **options})
        while job["state"] not in ("succeeded", "failed", "cancelled"):
            job = self.call("GET", f"/v1/exports/{job['id']}?wait=60")
        if job["state"] != "succeeded":
            sys.exit(f"export.py: the job {job['state']}: {job['error']}")
        return time.monotonic() - start, job

    def stop(self):
        self.child.terminate()
        self.child.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build"))
    parser.add_argument("--python")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--dtype", default="float32")
    args = parser.parse_args()
    build = args.build.resolve()
    rows = {}

    def note(name, seconds, peak=None):
        rows.setdefault(name, []).append((seconds, peak))

    for i in range(args.runs):
        with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as scratch:
            scratch = pathlib.Path(scratch)
            out = scratch / "out.pt2"
            note("`pt2-export`, no sync",
                 *run([build / "pt2-export", args.checkpoint, "-o", out, "--dtype", args.dtype,
                       "--max-cache-len", "1024"]))
            note("`cp` of the file", *run(["cp", out, scratch / "copy"]))
            note("`sha256sum` of the file", *run(["sha256sum", out]))
            out.unlink()
            (scratch / "copy").unlink()
            note("`pt2-export`, 8da4w and 8w",
                 *run([build / "pt2-export", args.checkpoint, "-o", out, "--dtype", args.dtype,
                       "--max-cache-len", "1024", *QUANTISED]))
            out.unlink()
            daemon = Daemon(build, args.checkpoint, scratch)
            time.sleep(3)  # the digest of a file that has just changed is not remembered
            for name, length in (("job with sync, new checkpoint", 1024),
                                 ("job with sync, digests remembered", 1000),
                                 ("job for a program that is there", 1024)):
                seconds, job = daemon.export(dtype=args.dtype, cache={"max_cache_len": length})
                if job["cached"] != (name == "job for a program that is there"):
                    sys.exit(f"export.py: {name}: cached is {job['cached']}")
                note(name, seconds)
            daemon.stop()
            if args.python and i < 3:
                here = pathlib.Path(__file__).resolve().parent.parent / "tests/conformance"
                note("Python: `convert_and_export_with_cache`, `torch.export.save`",
                     *run([args.python, "-c", PYTHON_EXPORT, here, args.checkpoint,
                           scratch / "python.pt2", args.dtype]))
                note("Python: the same, after torchao's `quantize_` to 8da4w and 8w",
                     *run([args.python, "-c", PYTHON_QUANTISED, here, args.checkpoint,
                           scratch / "quantised.pt2", args.dtype]))
    print(f"| {args.checkpoint.name}, {args.dtype} | seconds (median) | min–max | peak MB |\n|---|---|---|---|")
    for name, runs in rows.items():
        seconds = [s for s, _ in runs]
        peaks = [p for _, p in runs if p]
        peak = f"{max(peaks) / 1024:.0f}" if peaks else "–"
        print(f"| {name} | {statistics.median(seconds):.2f} | "
              f"{min(seconds):.2f}–{max(seconds):.2f} | {peak} |")


if __name__ == "__main__":
    main()
