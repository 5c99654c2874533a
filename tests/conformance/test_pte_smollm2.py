"""SmolLM2-135M-Instruct, real weights, as an ExecuTorch program that pt2-export writes: the logits
of Transformers at every position of a text that fills the cache, in every window of attention."""

import pytest

import edge_page
import reference
from test_pte import pte  # noqa: F401  the fixture
from test_smollm2 import smollm2  # noqa: F401  the same

pytestmark = pytest.mark.xdist_group("smollm2")  # converted once
TEXT = edge_page.PAGE.parents[1] / "doc/http.md"


@pytest.mark.parametrize("length,options,chunks", [
    # a token at a time about the borders of the windows, 128 and 256, and calls across them
    (300, ["--dynamic-shapes"], [100, *[1] * 30, 100, *[1] * 30, 40]),
    pytest.param(1024, [], [1], marks=pytest.mark.nightly),
], ids=["dynamic-300", "static-1024"])
def test_every_position(length, options, chunks, smollm2, pte, record_property):  # noqa: F811
    from transformers import AutoTokenizer
    ids = AutoTokenizer.from_pretrained(smollm2)(TEXT.read_text()).input_ids[:length]
    assert len(ids) == length
    want = reference.eager_logits(smollm2, [ids])[0]
    worst, at = 0, 0
    for rows in pte(smollm2, "xnnpack", *options, max_cache_len=length).run(ids, chunks):
        difference = (rows.double() - want[at:at + len(rows)]).abs().max().item()
        worst, at = max(worst, difference), at + len(rows)
    largest = want.abs().max().item()
    assert at == length and worst <= 1e-5 * largest, f"{worst} of {largest}"
    record_property("measured", f"{worst / largest:.1e} of the largest logit, {largest:.1f}")
