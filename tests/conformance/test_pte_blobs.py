"""Weights of quantised programs, byte for byte: what pt2-export writes beside what Python's
lowering of the same program does, both read by ExecuTorch's own readers."""

import collections
import subprocess

import pytest
import torch
import torchao.quantization.quant_primitives  # noqa: F401  the ops that the programs call

import pte_file
import tiny

NAMES = ["tokenizer.json", "chat_template.jinja"]  # the page's lines copy them
CASES = {
    "8da4w-32-8w": ["--quantize-linear=8da4w", "--group-size=32", "--quantize-embedding=8w"],
    "8da4w-64-4w-32": ["--quantize-linear=8da4w", "--group-size=64", "--quantize-embedding=4w",
                       "--embedding-group-size=32"],
    "8da4w-128-4w-128": ["--quantize-linear=8da4w", "--group-size=128", "--quantize-embedding=4w",
                         "--embedding-group-size=128"],
    "8da8w-8w": ["--quantize-linear=8da8w", "--group-size=0", "--quantize-embedding=8w"],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """One layer with biases, of rows that are several groups long."""
    folder = tmp_path_factory.mktemp("blobs")
    tiny.write("llama", dict(num_hidden_layers=1, hidden_size=256, intermediate_size=384,
                             attention_bias=True), folder, seed=11)
    for name in NAMES:
        (folder / name).write_text("{}")
    return folder


def written(build, folder, to, *flags):
    subprocess.run([build / "pt2-export", folder, "-q", "-o", to, "--dtype", "float32",
                    "--max-cache-len", "40", *flags], check=True, capture_output=True)
    return to


def weights(file):
    """How often each of the quantised weights is there."""
    return collections.Counter(w for payload in file.payloads() for w in payload.weights()
                               if not w[0].endswith("fp32"))


@pytest.mark.parametrize("case", CASES)
def test_weights_and_scales_are_pythons(case, model, build, tmp_path, record_property):
    flags = CASES[case]
    program = written(build, model, tmp_path / "a.pt2", "--profile=edge", *flags)
    pte_file.by_page(program, tmp_path / "python.pte")
    ours = pte_file.File(written(build, model, tmp_path / "ours.pte", "--format=pte",
                                 *flags).read_bytes())
    theirs = pte_file.File((tmp_path / "python.pte").read_bytes())
    got, want = weights(ours), weights(theirs)
    assert sum(want.values()) == 8  # q, k, v, o, gate, up, down, lm_head
    assert got == want
    for file in (ours, theirs):
        assert len(file.calls_of("quantized_decomposed::embedding")) == 1
    (a,), (b,) = (f.calls_of("quantized_decomposed::embedding") for f in (ours, theirs))
    assert ours.kernel(a) == theirs.kernel(b)
    for i in (0, 1):  # the table, its scales
        assert ours.values[a.args[i]].sizes == theirs.values[b.args[i]].sizes
        assert ours.constant(a.args[i]) == theirs.constant(b.args[i])
    n = sum(len(w[3]) + len(w[4]) for w in got.elements())
    record_property("measured", f"{n} bytes of linears, "
                                f"{len(ours.constant(a.args[0]))} of the embedding")
