"""Profile edge: the same logits as Transformers', in torch, by both engines and in ExecuTorch,
where it runs in few pieces."""

import pytest
import torch

import device
import reference
import tiny

N = 24
CHUNKS = [9, 1, 13, 1]
FAMILIES = [case for case in tiny.FAMILIES if case != "gpt_oss"]  # refused: its sinks
KNOBS = [case for case in tiny.KNOBS if tiny.KNOBS[case][0] != "gpt_oss"]


def check(got, want):
    difference, largest = reference.largest_difference(got, want)
    assert difference <= 1e-5 * largest, f"{difference} of {largest}"
    return f"{difference / largest:.1e} of the largest logit"


def logits(case, folder, ids):
    return (reference.stepped_logits if case in tiny.STEPPED else reference.eager_logits)(folder, ids)


def compare(case, build, folder, export, **options):
    """In torch, static and dynamic, and by the native engine."""
    ids = tiny.ids(1, N)
    want = logits(case, folder, ids)
    static = export(folder, profile="edge", **options)
    dynamic = export(folder, profile="edge", dynamic=True, **options)
    check(reference.run_program(dynamic, ids, CHUNKS), want)
    for path in (static, dynamic):
        native = reference.plan_logits(build, path, ids[0], 1, 1)
        assert torch.equal(native, reference.plan_logits(build, path, ids[0], N, 1))
        check(native, want)
    return check(reference.run_program(static, ids), want)


@pytest.mark.parametrize("case", ["llama", "mistral-window", "qwen2", *FAMILIES, *tiny.STEPPED])
def test_logits(case, build, checkpoint, export, record_property):
    record_property("measured", compare(case, build, checkpoint(case), export))


@pytest.mark.nightly
@pytest.mark.parametrize("case", KNOBS)
def test_logits_of_knobs(case, build, checkpoint, export, record_property):
    record_property("measured", compare(case, build, checkpoint(case), export))


@pytest.mark.parametrize("max_cache_len", [1100, 70000], ids=["mask", "rotation"])
@pytest.mark.parametrize("case", ["mistral-window", "phi3-longrope-attention", "glm"])
def test_what_is_computed_where_a_table_would_be_large(case, max_cache_len, build, checkpoint,
                                                       export):
    """Masks beyond 4 MiB, then cos and sin beyond 8."""
    folder, ids = checkpoint(case), tiny.ids(1, 6)
    want = reference.eager_logits(folder, ids)
    path = export(folder, profile="edge", max_cache_len=max_cache_len)
    assert path.stat().st_size < 1 << 24
    check(reference.run_program(path, ids), want)
    check(reference.plan_logits(build, path, ids[0], 1, 1), want)


@pytest.mark.parametrize("cache", ["static", "hybrid"])
def test_last_logits(cache, build, checkpoint, export):
    """(batch, vocab), of the last token; rings too."""
    folder, ids = checkpoint("mistral-window"), tiny.ids(1, N)
    want = reference.eager_logits(folder, ids)
    path = export(folder, profile="edge", dynamic=True, logits="last", cache=cache)
    module = torch.export.load(str(path)).module()
    start, got = 0, []
    for n in (4, 1, 5, 5, 4, 5):
        got.append(module(input_ids=torch.tensor(ids)[:, start:start + n],
                          cache_position=torch.arange(start, start + n)))
        start += n
        check(got[-1], want[:, start - 1])
    assert got[-1].shape == (1, tiny.BASE["vocab_size"])
    check(reference.plan_logits(build, path, ids[0], 1, 1), want)


@pytest.mark.parametrize("engine", ["native", "aten"])
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_engines(engine, dynamic, models, daemon):
    folder, ids = models("gemma3_text"), tiny.ids(1, N)
    job = daemon.export("gemma3_text", profile="edge", cache={"max_cache_len": 32},
                        dynamic_shapes=dynamic)
    assert job["options"]["profile"] == "edge" and job["options"]["dtype"] == "float32"
    with daemon.session(job["program"], engine) as session:
        got = torch.cat([daemon.step(session, [ids[0][a:b]]) for a, b in ((0, 9), (9, 10), (10, N))], 1)
    check(got, reference.eager_logits(folder, ids))


def in_executorch(case, folder, export, backend, reinplace, dynamic):
    """(the pieces, what was measured)"""
    ids = tiny.ids(1, N)
    want = logits(case, folder, ids)
    if backend == "xnnpack" and case not in tiny.STEPPED:
        want = device.eager_logits_of_xnnpack(folder, ids)
    program = device.to_executorch(export(folder, profile="edge", dynamic=dynamic), backend,
                                   reinplace)
    got = device.run(bytes(program.buffer), ids, CHUNKS if dynamic else None)
    return device.pieces(program), check(got, want)


@pytest.mark.parametrize("reinplace", [False, True], ids=["plain", "reinplace"])
@pytest.mark.parametrize("backend", ["xnnpack", "portable"])
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_executorch(dynamic, backend, reinplace, checkpoint, export, record_property):
    """Two layers: a piece before, between and behind the caches; beside them the embedding,
    the rows of three tables, and the writes, which are four in place and eight otherwise.
    (A head that is tied to the embedding becomes a piece of its own.)"""
    pieces, measured = in_executorch("llama", checkpoint("llama"), export, backend, reinplace,
                                     dynamic)
    if backend == "xnnpack":
        most = (5, 9) if dynamic else (3, 8)
        assert pieces <= (most[0], most[1] + (0 if reinplace else 4))
    record_property("measured", f"{measured}, {pieces[0]} delegated pieces, {pieces[1]} others")


@pytest.mark.nightly
@pytest.mark.parametrize("reinplace", [False, True], ids=["plain", "reinplace"])
@pytest.mark.parametrize("backend", ["xnnpack", "portable"])
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("case", [*FAMILIES, *tiny.STEPPED])
def test_executorch_of_families(case, dynamic, backend, reinplace, checkpoint, export,
                                record_property):
    pieces, measured = in_executorch(case, checkpoint(case), export, backend, reinplace, dynamic)
    record_property("measured", f"{measured}, {pieces[0]} delegated pieces, {pieces[1]} others")
