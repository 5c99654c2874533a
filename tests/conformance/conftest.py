"""Fixtures: the build under test, tiny checkpoints, a running daemon."""

import contextlib
import os
import pathlib
import subprocess
import sys

import pytest
import torch

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent / "http"))

import harness  # noqa: E402
import tiny  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "nightly: longer than CI has time for")


def pytest_terminal_summary(terminalreporter):
    """What was measured, a line each, behind pytest's own dots."""
    lines = [f"{report.nodeid.split('::')[-1]}: {value}"
             for report in terminalreporter.stats.get("passed", [])
             for key, value in report.user_properties if key == "measured"]
    if lines:
        terminalreporter.section("measured")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def build():
    """The folder with pt2d and pt2-export in it ($PT2_BUILD)."""
    folder = pathlib.Path(os.environ.get("PT2_BUILD", HERE.parents[1] / "build")).resolve()
    assert (folder / "pt2-export").exists(), f"no pt2-export in {folder}: set PT2_BUILD"
    return folder


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory):
    """The models directory of the daemon."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def models(models_dir):
    """models("llama-mqa"): that tiny model's folder, made once, in the daemon's models
    directory; models("llama", "my-name", torch.float16): under another name and dtype."""

    def get(case, name=None, dtype=torch.float32):
        path = models_dir / (name or case)
        if not path.exists():
            tiny.make(case, path, dtype)
        return path

    return get


@pytest.fixture(scope="session")
def checkpoint(models):
    """The same, for tests that need no daemon."""
    return models


@pytest.fixture(scope="session")
def export(build, tmp_path_factory):
    """export(folder, dtype=…, max_cache_len=…, …): the .pt2 that pt2-export makes of it."""
    out = tmp_path_factory.mktemp("exports")
    count = iter(range(10**6))

    def run(folder, *, dtype="float32", max_cache_len=32, batch_size=1, seq_len=1, dynamic=False,
            attn="eager", cache="static", logits="all", profile="torch", custom_ops=False, notes=None):
        """notes, a list: what pt2-export says of deviations is added."""
        path = out / f"{folder.name}-{next(count)}.pt2"
        command = [build / "pt2-export", folder, "-o", path, "--dtype", dtype,
                   "--max-cache-len", str(max_cache_len), "--batch-size", str(batch_size),
                   "--attn-implementation", attn, "--cache-implementation", cache,
                   "--logits-to-keep", logits, "--profile", profile]
        command += ["--custom-ops"] if custom_ops else []
        command += ["--dynamic-shapes"] if dynamic else ["--seq-len", str(seq_len)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        if notes is not None:
            notes += [line for line in done.stderr.splitlines() if "note:" in line]
        return path

    return run


class Client(harness.Daemon):
    """A daemon, and what the tests ask of it; any other answer is an error."""

    def json(self, method, path, body=None):
        reply = self.request(method, path, json_body=body, expect=(200, 201, 202, 204))
        return reply.json if reply.body else None

    def bytes(self, method, path):
        return self.request(method, path, expect=200).body

    def upload(self, path):
        return self.post("/v1/programs", body=pathlib.Path(path).read_bytes(),
                         expect=(200, 201)).json

    def export(self, model, **options):
        """The job, once it has succeeded."""
        job = self.json("POST", "/v1/exports", {"model": model, **options})
        while job["state"] in ("queued", "running"):
            job = self.json("GET", f"/v1/exports/{job['id']}?wait=60")
        assert job["state"] == "succeeded", job["error"]
        return job

    @contextlib.contextmanager
    def session(self, program, engine="auto", **options):
        """The id of a session on the program, gone afterwards: only so many programs can
        be open at once."""
        session = self.json("POST", "/v1/sessions", {"program": program, "engine": engine,
                                                **options})["id"]
        yield session
        self.json("DELETE", f"/v1/sessions/{session}")

    def step(self, session, ids, cache_position=None):
        """The logits of all rows, (batch, s, vocab) float64."""
        body = {"input_ids": ids, "rows": "all"}
        if cache_position is not None:
            body["cache_position"] = cache_position
        reply = self.post(f"/v1/sessions/{session}/step", body, expect=200,
                          headers={"Accept": "application/octet-stream"})
        shape = [int(n) for n in reply.headers["X-Tensor-Shape"].split(",")]
        return torch.frombuffer(bytearray(reply.body), dtype=torch.float32).reshape(shape).double()


@pytest.fixture(scope="session")
def daemon(build, models_dir):
    harness.BUILD = str(build)
    with Client(models=str(models_dir)) as client:
        yield client
