"""Big checkpoints: what they take in memory, and that torch reads archives and tensors
beyond 4 GiB.  Files go under $PT2_BIG_DIR, otherwise pytest's own folder: up to 10 GB."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import pytest
import torch
from safetensors import safe_open

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench"))
import big  # noqa: E402
import export as bench_export  # noqa: E402

pytestmark = [pytest.mark.nightly, pytest.mark.xdist_group("big")]  # one at a time
GIB = 1 << 30


@pytest.fixture
def folder(tmp_path):
    made = pathlib.Path(tempfile.mkdtemp(dir=os.environ.get("PT2_BIG_DIR", tmp_path)))
    yield made
    shutil.rmtree(made)


def run_export(build, folder, shape, **made):
    """(the archive, the digest that was printed, peak memory in bytes, file pages included)"""
    path = folder / "out.pt2"
    big.make(folder / "in", shape, "BF16", **made)
    process = subprocess.Popen([build / "pt2-export", folder / "in", "-o", path, "--json"],
                               stdout=subprocess.PIPE)
    peak = 0
    while process.poll() is None:
        peak = max(peak, bench_export.peak_kib(process.pid))
        time.sleep(0.02)
    assert process.returncode == 0
    return path, json.load(process.stdout)["sha256"], peak * 1024


def disk_bytes(folder):
    return sum(512 * path.stat().st_blocks for path in folder.rglob("*"))


def test_eight_billion_parameters(build, folder, record_property):
    """Llama 3 8B's shape in four shards without data: holes stay holes, memory is small,
    and our reader finds the digest that was said."""
    path, digest, peak = run_export(build, folder, "llama-3-8b", holes=True, shards=4)
    if disk_bytes(folder / "in") > 1 << 20:
        pytest.skip("no holes in files here")
    assert path.stat().st_size > 16e9 and disk_bytes(folder) < 64e6
    assert peak < 64e6
    read = subprocess.run([build / "pt2ctl", "inspect", path], capture_output=True, text=True,
                          check=True).stdout
    assert digest in read and "291 tensors, 8030261248 elements" in read
    record_property("measured", f"{peak / 1e6:.1f} MB")


@pytest.mark.parametrize("shape", ["4.5gib", "tensor-4.5gib"])
def test_torch_reads_more_than_four_gib(shape, build, folder, record_property):
    """An archive of 4.6 GiB; one whose first tensor alone has 4.5 GiB."""
    path, _, peak = run_export(build, folder, shape)
    assert path.stat().st_size > 4.5 * GIB and peak < 64e6
    weights = torch.export.load(str(path)).state_dict
    with safe_open(folder / "in/model.safetensors", "pt") as stored:
        names = [name for name in stored.keys()]
        assert len(names) == len(weights) - big.is_tied(shape)
        for name in names:
            want, got = stored.get_tensor(name), weights[f"model.{name}"]
            assert torch.equal(got.view(torch.int16), want.view(torch.int16)), name
    record_property("measured", f"{peak / 1e6:.1f} MB")
