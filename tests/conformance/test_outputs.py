"""Exports with logits_to_keep last and with hybrid caches: eager Transformers' logits at every
position, beyond the window too, in torch, by the native engine and by the daemon's."""

import pytest
import torch

import reference
import tiny

N = 30  # tokens; the windows are of 5, the caches of 32

# Windows in all layers, in some, with a soft cap, with layers that do not rotate.
WINDOWS = ["mistral-window", "gemma2", "gemma3_text", "cohere2"]
ALL_WINDOWS = WINDOWS + [
    "qwen2-window", "ministral", "ministral3-window", "qwen3-window-biases", "smollm3-window",
    "phi3-window", "cwm", "exaone4", "vaultgemma", "olmo3", "starcoder2-window"]

SHAPES = {
    "one": (dict(), [1] * N),
    "batch-dynamic": (dict(batch_size=2, dynamic=True), [5, 1, 4, 5, 1, 2, 5, 3, 4]),
    "sevens": (dict(batch_size=2, seq_len=7), [7] * 4),
}


def caches(program):
    """Positions that each key cache holds."""
    return [buffer.shape[2] for name, buffer in program.named_buffers() if "key_cache" in name]


def check(program, folder, batch, chunks, logits, record_property):
    ids = tiny.ids(batch, sum(chunks))
    want = reference.eager_logits(folder, ids)
    if logits == "last":
        want = want[:, torch.tensor(chunks).cumsum(0) - 1]
    got = reference.run_program(program, ids, chunks)
    assert got.shape == want.shape
    difference, largest = reference.largest_difference(got, want)
    assert difference <= 1e-5 * largest, f"{difference} of {largest}"
    record_property("measured", f"{difference / largest:.1e} of the largest logit")


def check_in_torch(case, shape, logits, checkpoint, export, record_property):
    folder, (options, chunks), notes = checkpoint(case), SHAPES[shape], []
    program = torch.export.load(
        str(export(folder, cache="hybrid", logits=logits, notes=notes, **options)))
    check(program, folder, options.get("batch_size", 1), chunks, logits, record_property)
    ring = 5 + max(chunks) - 1
    assert set(caches(program)) in ({ring}, {ring, 32})
    assert any("hybrid" in note and f"at most {ring} positions" in note for note in notes)


# Each shape and kind of logits with some family; all with all of them at night.
@pytest.mark.parametrize("case,shape,logits", [
    ("mistral-window", "one", "all"), ("gemma2", "batch-dynamic", "all"),
    ("gemma3_text", "batch-dynamic", "last"), ("cohere2", "sevens", "last")])
def test_hybrid_in_torch(case, shape, logits, checkpoint, export, record_property):
    check_in_torch(case, shape, logits, checkpoint, export, record_property)


@pytest.mark.nightly
@pytest.mark.parametrize("logits", ["all", "last"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("case", ALL_WINDOWS)
def test_all_hybrids_in_torch(case, shape, logits, checkpoint, export, record_property):
    check_in_torch(case, shape, logits, checkpoint, export, record_property)


@pytest.mark.parametrize("options,chunks", [
    (dict(), [1] * 9), (dict(seq_len=3), [3] * 3), (dict(batch_size=2, dynamic=True), [5, 1, 3])],
    ids=["one", "threes", "batch-dynamic"])
def test_last_in_torch(options, chunks, checkpoint, export, record_property):
    folder = checkpoint("llama")
    program = export(folder, logits="last", **options)
    check(program, folder, options.get("batch_size", 1), chunks, "last", record_property)


def by_native(case, shape, logits, build, checkpoint, export, record_property):
    """In runs of any length, bit for bit; what the engine has for static caches."""
    folder, options = checkpoint(case), SHAPES[shape][0]
    batch, ids = options.get("batch_size", 1), tiny.ids(1, N)[0]
    path = export(folder, cache="hybrid", logits=logits, **options)
    got = reference.plan_logits(build, path, ids, 1, batch)
    assert torch.equal(got, reference.plan_logits(build, path, ids, N, batch))
    static = export(folder, batch_size=batch)
    assert torch.equal(got, reference.plan_logits(build, static, ids, N, batch))
    want = reference.eager_logits(folder, [[i + b for i in ids] for b in range(batch)])
    difference, largest = reference.largest_difference(got, want)
    assert difference <= 1e-5 * largest, f"{difference} of {largest}"
    record_property("measured", f"{difference / largest:.1e} of the largest logit")


@pytest.mark.parametrize("case,shape,logits", [
    ("mistral-window", "batch-dynamic", "last"), ("gemma2", "one", "all"),
    ("gemma3_text", "sevens", "last"), ("cohere2", "batch-dynamic", "all")])
def test_hybrid_by_native(case, shape, logits, build, checkpoint, export, record_property):
    by_native(case, shape, logits, build, checkpoint, export, record_property)


@pytest.mark.nightly
@pytest.mark.parametrize("shape,logits", [("one", "all"), ("batch-dynamic", "last"),
                                          ("sevens", "last")])
@pytest.mark.parametrize("case", ALL_WINDOWS)
def test_all_hybrids_by_native(case, shape, logits, build, checkpoint, export, record_property):
    by_native(case, shape, logits, build, checkpoint, export, record_property)


@pytest.mark.parametrize("case,shape,logits", [
    ("mistral-window", "one", "last"), ("gemma2", "batch-dynamic", "all"),
    ("gemma3_text", "sevens", "last"), ("cohere2", "sevens", "all")])
def test_hybrid_by_aten(case, shape, logits, daemon, checkpoint, export, record_property):
    """Steps of any length, beyond the window and up to the cache's end."""
    folder, options = checkpoint(case), SHAPES[shape][0]
    ids = tiny.ids(options.get("batch_size", 1), 32)
    program = daemon.upload(export(folder, cache="hybrid", logits=logits, **options))
    want, start = reference.eager_logits(folder, ids), 0
    assert program["cache"]["max_cache_len"] == 32 and program["engines"]["native"]["ok"]
    with daemon.session(program["id"], "aten") as session:
        for n in (2, 9, 1, 13, 1, 5, 1):
            part = [row[start:start + n] for row in ids]
            got = daemon.step(session, part)
            difference, largest = reference.largest_difference(got, want[:, start:start + n])
            assert difference <= 1e-5 * largest, f"at {start}: {difference} of {largest}"
            start += n
    record_property("measured", f"{difference / largest:.1e} of the largest logit")
