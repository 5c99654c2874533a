"""The whole path: a checkpoint exported by a job, stepped over HTTP by both engines, beside
Transformers."""

import hashlib

import pytest
import torch

import reference
import tiny

N = 24
engines = pytest.mark.parametrize("engine", ["native", "aten"])


@engines
@pytest.mark.parametrize("case", ["llama", "llama-mqa", "llama-tied", "llama-biases",
                                  "llama-head-dim", "llama-yarn-knobs", "mistral-window",
                                  "qwen2-window"])
def test_float32(case, engine, models, daemon, record_property):
    folder = models(case)
    job = daemon.export(case, dtype="float32", cache={"max_cache_len": 32})
    assert job["deviations"] == []
    ids = tiny.ids(1, N)
    want = reference.eager_logits(folder, ids)
    with daemon.session(job["program"], engine) as session:
        got = daemon.step(session, ids)
    worst, largest = reference.largest_difference(got, want)
    assert worst <= 1e-5 * largest
    record_property("measured", f"{worst / largest:.1e} of the largest logit")


@engines
@pytest.mark.parametrize("options", [
    dict(dynamic_shapes=True, example_input_ids=[[1, 2, 3]], example_cache_position=[0, 1, 2]),
    dict(cache={"max_cache_len": 32, "batch_size": 2}, example_input_ids=[[1], [1]]),
    dict(example_input_ids=[[5, 5, 5, 5, 5]], example_cache_position=[0, 1, 2, 3, 4]),
], ids=["dynamic", "batch", "five-tokens"])
def test_shapes(options, engine, models, daemon):
    folder = models("llama")
    options = {"dtype": "float32", "cache": {"max_cache_len": 32}, **options}
    job = daemon.export("llama", **options)
    batch = options["cache"].get("batch_size", 1)
    ids = tiny.ids(batch, 32)  # up to the cache's last position
    with daemon.session(job["program"], engine) as session:
        got = torch.cat([daemon.step(session, [row[a:b] for row in ids])
                         for a, b in ((0, 7), (7, 8), (8, 30), (30, 32))], 1)
    worst, largest = reference.largest_difference(got, reference.eager_logits(folder, ids))
    assert worst <= 1e-5 * largest


def test_the_download_is_what_torch_loads(models, daemon, tmp_path):
    folder = models("qwen2-tied")
    job = daemon.export("qwen2-tied", dtype="float32", cache={"max_cache_len": 32})
    data = daemon.bytes("GET", f"/v1/exports/{job['id']}/file")
    assert hashlib.sha256(data).hexdigest() == job["program"]
    path = tmp_path / "downloaded.pt2"
    path.write_bytes(data)
    ids = tiny.ids(1, 8)
    got = reference.run_program(path, ids)
    worst, largest = reference.largest_difference(got, reference.eager_logits(folder, ids))
    assert worst <= 1e-5 * largest


@engines
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision(dtype, engine, models, daemon, record_property):
    name = f"llama-{dtype}"
    folder = models("llama", name, dtype=reference.DTYPES[dtype])
    job = daemon.export(name, cache={"max_cache_len": 32})
    assert job["options"]["dtype"] == dtype  # the checkpoint's
    ours = theirs = 0.0
    for seed in range(4):
        ids = tiny.ids(1, N, seed)
        exact = reference.eager_logits(folder, ids, "float64")
        with daemon.session(job["program"], engine) as session:
            ours += reference.rms(daemon.step(session, ids), exact)
        theirs += reference.rms(reference.eager_logits(folder, ids, dtype), exact)
    assert ours <= 1.25 * theirs, f"{ours} against {theirs}"
    record_property("measured", f"{ours / theirs:.2f} times Transformers' error")
