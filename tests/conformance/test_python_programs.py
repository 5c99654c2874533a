"""Programs that Python exported, uploaded and stepped by both engines: the logits of eager
Transformers."""

import pytest
import torch

import python_custom_ops
import reference
import tiny

N = 24
ENGINES = ("native", "aten")


def uploaded(daemon, path):
    program = daemon.upload(path)
    assert program["origin"] == "upload"
    assert all(program["engines"][e]["ok"] for e in ENGINES), program["engines"]
    return program


def stepped(daemon, program, ids, chunks, engine):
    """(batch, n, vocab) float64, by steps of the lengths given, cache_position left out."""
    out, start = [], 0
    with daemon.session(program, engine) as session:
        for n in chunks:
            out.append(daemon.step(session, [row[start:start + n] for row in ids]))
            start += n
    return torch.cat(out, 1)


def difference(got, folder, ids):
    worst, largest = reference.largest_difference(got, reference.eager_logits(folder, ids))
    assert worst <= 1e-5 * largest, f"{worst} of {largest}"
    return f"{worst / largest:.1e} of the largest logit"


@pytest.mark.parametrize("case,options", [
    ("llama", {}), ("llama", dict(dynamic=True)), ("llama", dict(batch_size=2)),
    ("llama-tied", {}), ("llama-biases", {}), ("llama-llama3", {}),
    ("llama-yarn-knobs", {}), ("llama-linear", dict(dynamic=True)),
    ("mistral", {}), ("mistral-window", {}), ("mistral-window", dict(dynamic=True)),
    ("qwen2", {}), ("qwen2-window", {}), ("qwen2-window", dict(seq_len=4)),
], ids=str)
def test_float32(case, options, checkpoint, daemon, tmp_path, record_property):
    folder = checkpoint(case)
    reference.python_export(folder, tmp_path / "python.pt2", **options)
    program = uploaded(daemon, tmp_path / "python.pt2")
    ids = tiny.ids(options.get("batch_size", 1), N)
    for engine in ENGINES:
        one = stepped(daemon, program["id"], ids, [1] * N, engine)
        record_property("measured", f"{engine}: {difference(one, folder, ids)}")
        several = stepped(daemon, program["id"], ids, [7, 1, 12, 4], engine)
        difference(several, folder, ids)
        assert engine == "aten" or torch.equal(one, several)


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("case", ["llama", "llama-mqa", "qwen2"])
def test_executorch_ops(case, dynamic, checkpoint, daemon, tmp_path):
    """Caches and attention of ExecuTorch's, each layer with a number of its own for where it
    begins, and assertions about it."""
    folder, ids = checkpoint(case), tiny.ids(1, N)
    python_custom_ops.export(folder, tmp_path / "python.pt2", dynamic=dynamic)
    program = uploaded(daemon, tmp_path / "python.pt2")
    for engine in ENGINES:
        for chunks in [1] * N, [7, 1, 12, 4]:
            difference(stepped(daemon, program["id"], ids, chunks, engine), folder, ids)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("case", ["llama", "qwen2-window"])
def test_half_precision(case, dtype, checkpoint, daemon, tmp_path, record_property):
    folder = tiny.make(case, tmp_path / case, dtype=reference.DTYPES[dtype])
    reference.python_export(folder, tmp_path / "python.pt2", dtype=dtype)
    program = uploaded(daemon, tmp_path / "python.pt2")
    ours, theirs = dict.fromkeys(ENGINES, 0.0), 0.0
    for seed in range(4):
        ids = tiny.ids(1, N, seed)
        exact = reference.eager_logits(folder, ids, "float64")
        for engine in ENGINES:
            ours[engine] += reference.rms(stepped(daemon, program["id"], ids, [1] * N, engine), exact)
        theirs += reference.rms(reference.eager_logits(folder, ids, dtype), exact)
    for engine in ENGINES:
        assert ours[engine] <= 1.25 * theirs, f"{engine}: {ours[engine]} against {theirs}"
        record_property("measured", f"{engine}: {ours[engine] / theirs:.2f} times Transformers' error")


@pytest.mark.parametrize("case", ["llama", "mistral-window"])
def test_going_back_is_the_same_as_going_once(case, checkpoint, daemon, tmp_path):
    """A step that overwrites leaves no trace of what was there: the counters that Python's
    programs keep go back too."""
    folder = checkpoint(case)
    reference.python_export(folder, tmp_path / "python.pt2")
    program = uploaded(daemon, tmp_path / "python.pt2")
    ids = tiny.ids(1, 12)
    for engine in ENGINES:
        with daemon.session(program["id"], engine) as session:
            daemon.step(session, tiny.ids(1, 12, seed=99))
            got = daemon.step(session, ids, cache_position=list(range(12)))
            again = daemon.step(session, [ids[0][6:9]], cache_position=[6, 7, 8])
        difference(got, folder, ids)
        assert torch.equal(again, got[:, 6:9])


@pytest.mark.parametrize("family", ["gemma2", "gpt2", "phi", "gpt_neox", "olmo2", "cohere"])
def test_families_that_only_python_exports_yet(family, daemon, tmp_path, record_property):
    """What pt2d can't export yet it steps all the same."""
    from transformers import AutoConfig, AutoModelForCausalLM
    sizes = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, head_dim=16,
                 num_key_value_heads=2, intermediate_size=96, vocab_size=256,
                 max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    if family == "gpt2":
        sizes = dict(n_embd=64, n_layer=2, n_head=4, n_positions=64, vocab_size=256,
                     bos_token_id=1, eos_token_id=2)
    if family in ("phi", "gpt_neox"):
        del sizes["num_key_value_heads"], sizes["head_dim"]
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **sizes))
    folder = tmp_path / family
    model.save_pretrained(folder)
    path = tmp_path / "python.pt2"
    # gemma2's own export leaves its soft cap out: compare with what was exported
    attn = "sdpa" if family == "gemma2" else "eager"
    reference.python_export(folder, path, attn=attn)
    program = uploaded(daemon, path)
    ids = tiny.ids(1, N)
    want = reference.run_program(path, ids)
    for engine in ENGINES:
        got = stepped(daemon, program["id"], ids, [1] * N, engine)
        worst, largest = reference.largest_difference(got, want)
        assert worst <= 1e-5 * largest
        record_property("measured", f"{engine}: {worst / largest:.1e} of the largest logit")
