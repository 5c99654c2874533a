"""What is particular to families: by the native engine too, the other values of their knobs,
half precision, rotations that change with the position, soft caps, old names of tensors."""

import os
import random
import secrets
import subprocess

import pytest
import torch
from safetensors.torch import load_file, save_file

import reference
import tiny
from test_export import compare, compare_half

N = 24


@pytest.mark.parametrize("case", tiny.FAMILIES)
def test_native(case, build, checkpoint, export, record_property):
    folder = checkpoint(case)
    path, ids = export(folder, batch_size=2), tiny.ids(1, N)[0]
    got = reference.plan_logits(build, path, ids, 1, 2)
    assert torch.equal(got, reference.plan_logits(build, path, ids, N, 2))
    want = reference.eager_logits(folder, [ids, [i + 1 for i in ids]])
    difference, largest = reference.largest_difference(got, want)
    assert difference <= 1e-5 * largest, f"{difference} of {largest}"
    record_property("measured", f"{difference / largest:.1e} of the largest logit")


@pytest.mark.nightly
@pytest.mark.parametrize("options,chunks", [
    ({}, None), (dict(batch_size=2, dynamic=True), [9, 1, 13, 1])], ids=str)
@pytest.mark.parametrize("case", tiny.KNOBS)
def test_knobs(case, options, chunks, checkpoint, export, record_property):
    folder = checkpoint(case)
    ids = tiny.ids(options.get("batch_size", 1), N)
    record_property("measured", compare(export(folder, **options), folder, ids, chunks))


@pytest.mark.parametrize("dtype", ["bfloat16"])
@pytest.mark.parametrize("case", ["gemma2", "cohere", "ernie4_5", "olmo2", "mixtral", "gpt_oss",
                                  "glm4_moe"])
def test_half_precision(case, dtype, export, tmp_path, record_property):
    """A kind of norm, of rotation or of router each, which round in places of their own."""
    record_property("measured", compare_half(case, dtype, export, tmp_path))


@pytest.mark.nightly
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("case", [*tiny.FAMILIES, *tiny.KNOBS])
def test_half_precision_of_all(case, dtype, export, tmp_path, record_property):
    record_property("measured", compare_half(case, dtype, export, tmp_path))


def test_longrope_beyond_the_original_length(checkpoint, export, record_property):
    """The long factors from there on, as Transformers has them token by token."""
    folder, ids, notes = checkpoint("phi3-longrope-long"), tiny.ids(2, N), []
    got = reference.run_program(export(folder, batch_size=2, notes=notes), ids)
    difference, largest = reference.largest_difference(got, reference.stepped_logits(folder, ids))
    assert difference <= 1e-5 * largest, f"{difference} of {largest}"
    record_property("measured", f"{difference / largest:.1e} of the largest logit")
    assert any("longrope" in note and "each position" in note for note in notes)
    path = export(folder, max_cache_len=10, notes=notes)
    assert "long_inv_freq" not in str(torch.export.load(str(path)).graph_signature)
    assert "the short factors" in notes[-1]


@pytest.mark.parametrize("attn", ["eager", "sdpa"])
@pytest.mark.parametrize("case", ["gemma2", "vaultgemma"])
def test_soft_cap_is_as_asked_for(case, attn, checkpoint, export, record_property):
    """eager keeps it, and says so; sdpa leaves it out, as the reference export does."""
    folder, notes = checkpoint(case), []
    path = export(folder, attn=attn, notes=notes)
    record_property("measured", compare(path, folder, tiny.ids(1, N), attn=attn))
    assert bool([note for note in notes if "attn_logit_softcapping" in note]) == (attn == "eager")


def renamed(folder, change):
    """The checkpoint under other names: change(name) -> name."""
    weights = {change(name): w for name, w in load_file(folder / "model.safetensors").items()}
    weights |= {name.replace(".c_attn.weight", suffix): torch.zeros(1, 1)
                for name in weights if name.endswith("attn.c_attn.weight")
                for suffix in (".bias", ".masked_bias")}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("case,change", [
    ("gpt2", lambda name: name.removeprefix("transformer.")),
    ("gpt_neox", lambda name: name.replace("lm_head.", "embed_out.")),
    ("qwen3-tied", lambda name: name.removeprefix("model."))], ids=["gpt2", "gpt_neox", "qwen3"])
def test_names_of_old(case, change, export, tmp_path, record_property):
    """Without the prefix of the model within, with what GPT-2 once saved beside; the head as
    Pythia has it."""
    folder = renamed(tiny.make(case, tmp_path / case), change)
    names = load_file(folder / "model.safetensors")
    assert not any(name.startswith(("transformer.", "model.")) for name in names)
    record_property("measured", compare(export(folder), folder, tiny.ids(1, N)))


def test_learned_positions_end(checkpoint, build, tmp_path):
    done = subprocess.run([build / "pt2-export", checkpoint("gpt2"), "-o", tmp_path / "x.pt2",
                           "--max-cache-len", "65"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "max_cache_len is 65, but the model's learned positions are 64" in done.stderr


def random_sizes(rng, family):
    """Fields over the base's: heads, head_dim, and what else has a size."""
    heads = rng.choice([1, 2, 3, 4, 6]) if family != "codegen" else rng.choice([4, 8])
    head_dim = rng.choice([8, 16, 24, 32])
    fields = dict(num_attention_heads=heads, hidden_size=heads * head_dim,
                  intermediate_size=rng.randint(1, 80), vocab_size=rng.randint(5, 200),
                  num_hidden_layers=rng.randint(1, 4), tie_word_embeddings=rng.random() < 0.5)
    if "num_key_value_heads" not in tiny.FIELDS.get(family, {}):
        fields["num_key_value_heads"] = rng.choice(
            [n for n in range(1, heads + 1) if heads % n == 0])
    if family in ("gptj", "codegen"):
        fields["rotary_dim"] = 2 * rng.randint(1, head_dim // 2)
    elif "head_dim" in tiny.FAMILIES[family]:
        fields["head_dim"] = head_dim
    names = tiny.FIELDS.get(family, {})
    return {names.get(name, name): value for name, value in fields.items()}


def random_case(rng):
    """(family, fields): of one of its cases, with other sizes."""
    cases = [case for case in (tiny.CASES | tiny.KNOBS).values() if case[0] in tiny.FAMILIES]
    family, fields = rng.choice(cases)
    sizes = random_sizes(rng, family)
    fixed = {"layer_types", "no_rope_layers"} & fields.keys()
    if fixed or fields.get("head_dim") not in (None, 16):
        sizes.pop("num_hidden_layers", None)
        sizes.pop("head_dim", None)
    if fields.get("rope_parameters", {}).get("rope_type") == "longrope":
        fields = {k: v for k, v in fields.items() if k != "rope_parameters"}
    return family, {**fields, **sizes}


def check_random(seed, build, export, folder):
    print(f"seed {seed}")
    rng = random.Random(seed)
    family, fields = random_case(rng)
    tiny.write(family, fields, folder, rng.getrandbits(60))
    batch_size = rng.choice([1, 2, 3])
    ids = [[rng.randrange(fields["vocab_size"]) for _ in range(N)] for _ in range(batch_size)]
    path = export(folder, batch_size=batch_size, dynamic=True)
    want = reference.eager_logits(folder, ids)
    got = [reference.run_program(path, ids, chunks) for chunks in ([N], [1, 10, 12, 1])]
    if batch_size == 1:
        got.append(reference.plan_logits(build, path, ids[0], 5, 1))
    for logits in got:
        difference, largest = reference.largest_difference(logits, want)
        assert difference <= 1e-5 * largest, f"{difference} of {largest}: {family} {fields}"


SEED = os.environ.get("PT2_SEED", secrets.token_hex(4))


@pytest.mark.nightly
@pytest.mark.parametrize("i", range(int(os.environ.get("PT2_CONFIGS", "200"))),
                         ids=lambda i: f"{SEED}-{i}")
def test_random_sizes(i, build, export, tmp_path):
    check_random(f"{SEED}-{i}", build, export, tmp_path / "model")
