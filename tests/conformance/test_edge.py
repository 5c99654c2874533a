"""Profile edge: the same logits as Transformers', in torch, by both engines and in ExecuTorch,
where it runs in few pieces."""

import subprocess

import pytest
import torch
from executorch.extension.llm.custom_ops import custom_ops

import device
import reference
import tiny

N = 24
CHUNKS = [9, 1, 13, 1]
FAMILIES, KNOBS = list(tiny.FAMILIES), list(tiny.KNOBS)
# What llama::custom_sdpa has not.
REFUSED = {"gemma2": "a soft cap", "vaultgemma": "a soft cap", "gpt_oss": "attention sinks"}
CUSTOM = ["llama", "llama-mqa", "mistral-window",
          *(case for case in [*FAMILIES, *tiny.STEPPED] if case not in REFUSED)]
assert custom_ops  # it registers what programs with custom ops call


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


@pytest.mark.parametrize("case", CUSTOM)
def test_logits_with_custom_ops(case, build, checkpoint, export, record_property):
    record_property("measured", compare(case, build, checkpoint(case), export, custom_ops=True))


@pytest.mark.parametrize("case", REFUSED)
def test_custom_ops_are_refused_where_they_compute_another_thing(case, build, checkpoint, tmp_path):
    done = subprocess.run([build / "pt2-export", checkpoint(case), "-o", tmp_path / "no.pt2",
                           "--profile", "edge", "--custom-ops"], capture_output=True, text=True)
    assert done.returncode != 0 and f"{case}: {REFUSED[case]}" in done.stderr
    assert not (tmp_path / "no.pt2").exists()


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


@pytest.mark.parametrize("case", ["mistral-window", "glm"])
def test_custom_ops_beyond_tables(case, build, checkpoint, export):
    folder, ids = checkpoint(case), tiny.ids(1, 6)
    want = reference.eager_logits(folder, ids)
    path = export(folder, profile="edge", custom_ops=True, max_cache_len=70000)
    check(reference.run_program(path, ids), want)
    check(reference.plan_logits(build, path, ids[0], 1, 1), want)


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_engines_with_custom_ops(dynamic, models, daemon):
    """And a cache, positions before heads, goes from one engine to the other and back."""
    folder, ids = models("mistral-window"), tiny.ids(1, N)
    job = daemon.export("mistral-window", profile="edge", custom_ops=True, verify=N,
                        cache={"max_cache_len": 32}, dynamic_shapes=dynamic)
    assert job["options"]["custom_ops"]
    want, cache, got = reference.eager_logits(folder, ids), None, []
    for engine, a, b in (("native", 0, 9), ("aten", 9, 13), ("native", 13, 14), ("aten", 14, N)):
        with daemon.session(job["program"], engine) as session:
            if cache:
                daemon.request("PUT", f"/v1/sessions/{session}/cache", body=cache,
                               expect=(200, 204))
            got.append(daemon.step(session, [ids[0][a:b]]))
            cache = daemon.bytes("GET", f"/v1/sessions/{session}/cache")
    check(torch.cat(got, 1), want)


def in_executorch(case, folder, export, backend, reinplace, dynamic, **options):
    """(the pieces, what was measured)"""
    ids = tiny.ids(1, N)
    want = logits(case, folder, ids)
    if backend == "xnnpack" and case not in tiny.STEPPED:
        want = device.eager_logits_of_xnnpack(folder, ids)
    program = device.to_executorch(export(folder, profile="edge", dynamic=dynamic, **options),
                                   backend, reinplace)
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
        assert pieces[0] <= 3 and pieces[1] <= (8 if reinplace else 12)
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


@pytest.mark.parametrize("backend", ["xnnpack", "portable"])
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("case", ["llama", "mistral-window"])
def test_executorch_with_custom_ops(case, dynamic, backend, checkpoint, export, record_property):
    """A piece before, between and behind attention, of whatever length; beside them the
    embedding, the rows of two tables, the first position (a select and its number), and for
    each layer two writes and attention.  A window has a mask, whose rows are one more."""
    pieces, measured = in_executorch(case, checkpoint(case), export, backend, False, dynamic,
                                     custom_ops=True)
    if backend == "xnnpack":
        assert pieces <= (3, 12 if case == "mistral-window" else 11)
    record_property("measured", f"{measured}, {pieces[0]} delegated pieces, {pieces[1]} others")


@pytest.mark.nightly
@pytest.mark.parametrize("backend", ["xnnpack", "portable"])
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("case", CUSTOM)
def test_executorch_of_families_with_custom_ops(case, dynamic, backend, checkpoint, export,
                                                record_property):
    pieces, measured = in_executorch(case, checkpoint(case), export, backend, False, dynamic,
                                     custom_ops=True)
    record_property("measured", f"{measured}, {pieces[0]} delegated pieces, {pieces[1]} others")
