"""Our exports lower in ExecuTorch as they are, and run there with the right logits."""

import pytest
import torch

import device
import reference
import tiny

N = 10


@pytest.mark.parametrize("backend", ["xnnpack", "portable"])
@pytest.mark.parametrize("case", ["llama-tied", "llama-yarn-knobs", "mistral-window",
                                  "qwen2-window"])
def test_float32(case, backend, checkpoint, export, record_property):
    record_property("measured", compare(checkpoint(case), backend, export))


def compare(folder, backend, export, want=reference.eager_logits):
    ids = tiny.ids(1, N)
    got = device.run(device.lower(export(folder), backend), ids)
    difference, largest = reference.largest_difference(got, want(folder, ids))
    assert difference <= 1e-5 * largest
    return f"{difference / largest:.1e} of the largest logit"


@pytest.mark.nightly
@pytest.mark.parametrize("backend", ["xnnpack", "portable"])
@pytest.mark.parametrize("case", tiny.FAMILIES)
def test_float32_of_families(case, backend, checkpoint, export, record_property):
    want = device.eager_logits_of_xnnpack if backend == "xnnpack" else reference.eager_logits
    record_property("measured", compare(checkpoint(case), backend, export, want))


@pytest.mark.parametrize("backend", ["xnnpack", "portable"])
def test_float32_dynamic(backend, checkpoint, export, record_property):
    folder = checkpoint("llama")
    ids = tiny.ids(1, N)
    got = device.run(device.lower(export(folder, dynamic=True), backend), ids, [6, 1, 3])
    difference, largest = reference.largest_difference(got, reference.eager_logits(folder, ids))
    assert difference <= 1e-5 * largest
    record_property("measured", f"{difference / largest:.1e} of the largest logit")


@pytest.mark.parametrize("case,backend,options,chunks", [
    ("qwen2-window", "portable", dict(dynamic=True), [5, 1, 4]),
    ("mistral-window", "xnnpack", dict(), [1] * N)], ids=["dynamic", "one"])
def test_hybrid_caches(case, backend, options, chunks, checkpoint, export, record_property):
    folder, ids = checkpoint(case), tiny.ids(1, N)
    path = export(folder, cache="hybrid", logits="last", **options)
    want = reference.eager_logits(folder, ids)[:, torch.tensor(chunks).cumsum(0) - 1]
    difference, largest = reference.largest_difference(
        device.run(device.lower(path, backend), ids, chunks), want)
    assert difference <= 1e-5 * largest
    record_property("measured", f"{difference / largest:.1e} of the largest logit")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_portable(dtype, export, tmp_path, record_property):
    """ExecuTorch sums in other orders than torch: twice Transformers' own error at most."""
    folder = tiny.make("llama", tmp_path / "llama", dtype=reference.DTYPES[dtype])
    ids = tiny.ids(1, N)
    exact = reference.eager_logits(folder, ids, "float64")
    ours = reference.rms(device.run(device.lower(export(folder, dtype=dtype), "portable"), ids),
                         exact)
    theirs = reference.rms(reference.eager_logits(folder, ids, dtype), exact)
    assert ours <= 2 * theirs, f"{ours} against {theirs}"
    record_property("measured", f"{ours / theirs:.2f} times Transformers' error")
