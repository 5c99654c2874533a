"""Attention by windows in programs that pt2-export writes for ExecuTorch: families by what is
theirs, at every position of caches that are several windows long."""

import pytest

import tiny
from test_pte import compare, pte  # noqa: F401  the fixture

LENGTH = 300  # windows of 128, 256 and 300
# A token at a time about the borders, and calls that lie across them.
CHUNKS = [100, *[1] * 32, 100, *[1] * 30, 38]
# By what they have: sliding windows, soft caps, pairs that are neighbours, heads that rotate in
# part, norms of queries and keys, biases, learned positions, layers without any, other norms.
FEATURES = ["cohere2", "gemma2", "gemma3_text", "glm4", "gpt2", "gpt_neox", "gptj", "ministral",
            "olmo2", "phi", "qwen3", "smollm3"]
CASES = [pytest.param(family, marks=[] if family in FEATURES else [pytest.mark.nightly])
         for family in sorted(tiny.FAMILIES)]


@pytest.fixture(scope="module")
def long(models_dir):
    """long("gpt2"): the family's tiny checkpoint, with as many positions as the cache has."""
    def get(family):
        folder = models_dir / f"{family}-long"
        if not folder.exists():
            tiny.write(family, {tiny.FIELDS.get(family, {}).get(
                "max_position_embeddings", "max_position_embeddings"): LENGTH,
                **tiny.FAMILIES[family]}, folder, seed=3)
        return folder

    return get


@pytest.mark.parametrize("family", CASES)
def test_every_position(family, long, pte, record_property):  # noqa: F811
    options, chunks = ([], [1]) if family in tiny.MOE else (["--dynamic-shapes"], CHUNKS)
    record_property("measured", compare(pte, long(family), *options, n=LENGTH, chunks=chunks,
                                        backends=["xnnpack"], max_cache_len=LENGTH))


def test_windows_are_chosen(long, build, pte):  # noqa: F811
    """By jumps: two for each layer and window but the last."""
    for family in FEATURES:
        file = pte(long(family), "xnnpack", max_cache_len=LENGTH).file
        jumps = sum(type(call).__name__ == "JumpFalseCall" for call in file.calls)
        layers = len(file.caches()) // 2
        assert jumps == 4 * layers, family
