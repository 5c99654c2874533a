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


@pytest.mark.parametrize("family", FEATURES)
def test_what_is_in_the_file(family, long, pte):  # noqa: F811
    """Windows are chosen by jumps, two for each layer and window but the last.  No node of a
    delegate but fully connected ones reads a constant: what is not packed some releases free."""
    file = pte(long(family), "xnnpack", max_cache_len=LENGTH).file
    jumps = sum(type(call).__name__ == "JumpFalseCall" for call in file.calls)
    assert jumps == 4 * len(file.caches()) // 2
    for payload in file.payloads():
        for kind, node in payload.nodes:
            read = {name for name, value in node.items()
                    if name.endswith("_id") and payload.is_constant(value)}
            assert read <= ({"filter_id", "bias_id"} if kind == "XNNFullyConnected" else set())
