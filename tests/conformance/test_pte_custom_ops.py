"""ExecuTorch programs of pt2-export's own with ExecuTorch's ops for caches and attention."""

import subprocess

import pytest
import torch
from executorch.extension.llm.custom_ops import custom_ops

import reference
import tiny
from test_edge import REFUSED
from test_pte import BACKENDS, CHUNKS, KNOBS, compare, pte, python_lowering, short  # noqa: F401

assert custom_ops  # it registers what the programs call


@pytest.mark.parametrize("case", sorted({*tiny.FAMILIES, *KNOBS} - set(REFUSED)))
def test_float32(case, checkpoint, pte, record_property):  # noqa: F811
    record_property("measured", compare(pte, checkpoint(case), "--custom-ops", n=10))


@pytest.mark.parametrize("case", ["llama", "mistral-window"])
@pytest.mark.parametrize("options,chunks", [([], [1]), (["--dynamic-shapes"], CHUNKS),
                                            (["--seq-len=4"], [4])],
                         ids=["static", "dynamic", "four"])
def test_every_position(case, options, chunks, checkpoint, pte, record_property):  # noqa: F811
    record_property("measured", compare(pte, checkpoint(case), "--custom-ops", *options, n=160,
                                        chunks=chunks, max_cache_len=160))


@pytest.mark.parametrize("backend", BACKENDS)
def test_experts_of_several_tokens(backend, checkpoint, pte, record_property):  # noqa: F811
    record_property("measured", compare(pte, checkpoint("mixtral"), "--custom-ops", "--dynamic-shapes",
                                        n=40, chunks=[1, 9, 21], backends=[backend]))


@pytest.mark.parametrize("options", [
    ["--quantize-linear=8da4w", "--quantize-embedding=8w"],
    ["--quantize-linear=8da8w", "--group-size=0", "--dynamic-shapes"],
], ids=["8da4w-8w", "8da8w-dynamic"])
def test_quantised_is_pythons_lowering(options, short, pte, record_property):  # noqa: F811
    options, ids = ["--custom-ops", *options], tiny.ids(1, 12)[0]
    chunks = [1, 5] if "--dynamic-shapes" in options else [1]
    ours = torch.cat(pte(short, "xnnpack", *options).run(ids, chunks))
    theirs = torch.cat(python_lowering(pte(short, "pt2", *options)).run(ids, chunks))
    difference, largest = reference.largest_difference(ours, theirs)
    assert difference <= 1e-5 * largest
    record_property("measured", f"{difference / largest:.1e} of the largest logit")


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_ops_do_not_compute_is_refused(case, checkpoint, build, tmp_path):
    done = subprocess.run([build / "pt2-export", checkpoint(case), "-o", tmp_path / "x.pte",
                           "--format", "pte", "--custom-ops"], capture_output=True, text=True)
    assert done.returncode == 1 and f"{case}: {REFUSED[case]}" in done.stderr
    assert not list(tmp_path.iterdir())
