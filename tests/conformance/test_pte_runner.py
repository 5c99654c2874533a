"""ExecuTorch's runner on files that pt2-export writes itself: it continues prompts with the text
that Transformers adds.  SmolLM2-135M-Instruct's real weights; its first layers alone, but for
nightly."""

import functools
import subprocess

import pytest

import reference
from test_runner import FEW, N_NEW, PROMPTS, checkpoint_of, texts  # noqa: F401

pytestmark = pytest.mark.xdist_group("smollm2")  # converted once


@pytest.fixture(scope="module")
def greedy(checkpoint_of):  # noqa: F811
    """greedy(2): what Transformers adds to each prompt, with so many layers."""
    @functools.cache
    def get(n_layers):
        from transformers import AutoTokenizer
        checkpoint = checkpoint_of(n_layers)
        tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        return [tokenizer.decode(reference.greedy(checkpoint, tokenizer(prompt).input_ids, N_NEW))
                for prompt in PROMPTS]

    return get


@pytest.mark.parametrize("flags", [[], ["--dynamic-shapes"], ["--custom-ops"],
                                   ["--custom-ops", "--dynamic-shapes"]],
                         ids=["windows", "windows-dynamic", "custom", "custom-dynamic"])
@pytest.mark.parametrize("n_layers", FEW)
def test_the_runner_says_what_transformers_says(n_layers, flags, build, checkpoint_of,  # noqa: F811
                                                greedy, tmp_path, record_property):
    checkpoint = checkpoint_of(n_layers)
    subprocess.run([build / "pt2-export", checkpoint, "-q", "-o", tmp_path / "smollm2.pte", "--format",
                    "pte", "--dtype", "float32", "--max-cache-len", "256", *flags],
                   check=True, capture_output=True)
    (tmp_path / "tokenizer.json").symlink_to(checkpoint / "tokenizer.json")
    assert texts(tmp_path, PROMPTS) == greedy(n_layers)
    record_property("measured", f"{n_layers} layers: {greedy(n_layers)[-1]!r}")
