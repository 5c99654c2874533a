"""Random checkpoints over the whole range of the knobs, each exported and compared with eager
Transformers, which steps the same tokens with a cache of its own.

PT2_SEED and PT2_CONFIGS say which and how many; case i of a seed is always the same, so
PT2_SEED=S PT2_CASE=i runs that one again.  Nightly takes another seed every time."""

import copy
import json
import os
import random
import re
import secrets
import subprocess

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache, StaticCache

import reference
import tiny

SEED = os.environ.get("PT2_SEED", "1")
N_CONFIGS = int(os.environ.get("PT2_CONFIGS", "16"))
NIGHTLY_SEED = os.environ.get("PT2_SEED", secrets.token_hex(4))
N_NIGHTLY = int(os.environ.get("PT2_CONFIGS", "300"))
N = 24  # positions at most

ACTS = ["silu", "swish", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "relu2", "sigmoid",
        "tanh"]
# What pt2-export may refuse, and Transformers may not be able to run either.
REFUSALS = {
    "odd": r"head_dim: is \d+, and must be even",
    "partial": r"partial_rotary_factor: is [\d.]+, but this model type rotates whole heads",
    "small": r"dynamic wants heads of more than 2",
    "dynamic": r"dynamic changes the frequencies beyond max_position_embeddings",
    "contradiction": r"layer_types: layer \d+ is ",
}


def random_rope(rng, max_position):
    """(rope_parameters without rope_theta, the refusal to be expected or None)"""
    kind = rng.choice(["default", "default", "linear", "dynamic", "llama3", "yarn", "yarn"])
    rope = {"rope_type": kind}
    if kind == "default":
        return rope
    rope["factor"] = rng.choice([1.0, 1.5, 2, 4.0, 8.0, round(rng.uniform(1, 40), 3)])
    original = rng.choice([None, 4, 8, 16, max_position, 64])
    if kind in ("llama3", "yarn") and original:
        rope["original_max_position_embeddings"] = original
    if kind == "llama3":
        low = rng.choice([1.0, 1, 0.5, 2.0])
        rope.update(low_freq_factor=low, high_freq_factor=low * rng.choice([1.5, 2, 4.0, 8]))
    if kind == "yarn":
        for name, values in (("attention_factor", [1.0, 0.8, 1.3, None]),
                             ("beta_fast", [32, 16.0, 8.5, 64]), ("beta_slow", [1, 2.0, 0.25]),
                             ("mscale", [1.0, 0.7, 1.2, 0]), ("mscale_all_dim", [1.0, 0.7, 0]),
                             ("truncate", [True, False])):
            if rng.random() < 0.4:
                rope[name] = rng.choice(values)
        if original and rng.random() < 0.15:
            rope["factor"] = None  # max_position over the original, then
    return rope


def random_window(rng, family, n_layers):
    window = rng.choice([1, 2, 3, 5, 8, 16, 23, 64, 4096])
    if family == "mistral":
        return rng.choice([{"sliding_window": window}, {"sliding_window": window},
                           {"sliding_window": None}, {}])
    if family == "llama":
        return {}
    fields = {"use_sliding_window": rng.random() < 0.7, "sliding_window": window,
              "max_window_layers": rng.randint(0, n_layers + 1)}
    if rng.random() < 0.4:
        fields["layer_types"] = [
            rng.choice(["full_attention", "sliding_attention"])
            if fields["use_sliding_window"] else "full_attention" for _ in range(n_layers)]
    elif rng.random() < 0.1:
        fields["sliding_window"] = None
    return fields


def random_config(rng):
    """(family, fields of the config)"""
    family = rng.choice(["llama", "mistral", "qwen2"])
    heads = rng.randint(1, 8)
    head_dim = 2 * rng.randint(1, 20)
    free = rng.random() < 0.5
    hidden = heads * 2 * rng.randint(1, 10) if free and family == "llama" else heads * head_dim
    if free and family != "llama":
        hidden = rng.randint(3, 90)
    n_layers = rng.randint(1, 3)
    fields = dict(
        hidden_size=hidden, num_attention_heads=heads, num_hidden_layers=n_layers,
        num_key_value_heads=rng.choice([n for n in range(1, heads + 1) if heads % n == 0]),
        intermediate_size=rng.randint(1, 100), vocab_size=rng.randint(5, 300),
        max_position_embeddings=rng.choice([8, 16, 24, 31, 64, 2048]),
        rms_norm_eps=rng.choice([1e-5, 1e-6, 1e-3, 1e-8, 0.1]),
        hidden_act=rng.choice(ACTS) if rng.random() < 0.5 else "silu",
        tie_word_embeddings=rng.random() < 0.4, initializer_range=rng.choice([0.05, 0.1, 0.3]),
        bos_token_id=1, eos_token_id=2, **random_window(rng, family, n_layers))
    if free:
        fields["head_dim"] = head_dim
    if family == "llama":
        fields.update(attention_bias=rng.random() < 0.4, mlp_bias=rng.random() < 0.4)
    return family, fields


def spell(rng, config, rope, theta):
    """Write rope into config (a config.json) in one of the spellings that there are."""
    config.pop("rope_parameters", None)
    config.pop("rope_theta", None)
    if rng.random() < 0.5:  # transformers 5
        config["rope_parameters"] = rope
        if theta is not None and rng.random() < 0.8:
            rope["rope_theta"] = theta
        elif theta is not None:
            config["rope_theta"] = theta
        return
    if theta is not None:
        config["rope_theta"] = theta
    if rng.random() < 0.5:
        rope["type"] = rope.pop("rope_type")
    if rng.random() < 0.2:
        rope["rope_type"] = rope.get("rope_type", rope.get("type"))
    is_default = rope.get("type", rope.get("rope_type")) == "default"
    config["rope_scaling"] = None if is_default and rng.random() < 0.7 else rope
    if "dtype" in config:
        config["torch_dtype"] = config.pop("dtype")


def leave_out(rng, config, rope):
    """Drop what has a default, or say null; and say what loses against something else."""
    names = ["rms_norm_eps", "hidden_act", "use_sliding_window", "max_window_layers",
             "sliding_window", "initializer_range", "architectures", "transformers_version"]
    names += [name for name in ("attention_bias", "mlp_bias", "tie_word_embeddings")
              if config.get(name) is False]
    if config["model_type"] != "qwen2":
        names.append("layer_types")
    elif config.get("layer_types"):
        names = [name for name in names if "window" not in name]
    if rope["rope_type" if "rope_type" in rope else "type"] != "dynamic":
        names.append("max_position_embeddings")
    for name in names:
        if rng.random() < 0.1:
            config.pop(name, None)
    if (config["num_key_value_heads"] == config["num_attention_heads"]
            and config["model_type"] != "mistral" and rng.random() < 0.3):
        config["num_key_value_heads"] = None
    if config.get("rope_scaling") and rng.random() < 0.3:
        config["rope_parameters"] = {"rope_type": "linear", "factor": 9.0}
    if config.get("rope_scaling") and "rope_type" in rope and rng.random() < 0.3:
        rope["type"] = "linear"  # rope_type counts


class Case:
    """One random checkpoint in folder, and how it is exported and run."""

    def __init__(self, seed, folder):
        rng = random.Random(seed)
        family, fields = random_config(rng)
        half = rng.choice(["bfloat16", "float16"])
        self.folder = folder
        self.stored = rng.choice(["float32", "float32", half])
        self.dtype = rng.choice(["float32", "float32", half])
        self.cache = rng.choice(["dynamic", "static", "none"])
        self.batch_size = rng.choice([1, 1, 2, 3])
        self.max_cache_len = rng.choice([2, 5, 11, 24, 31, 70])
        self.dynamic = rng.random() < 0.4
        self.seq_len = 1 if self.dynamic else rng.choice([1, 1, 2])
        self.n = min(N, self.max_cache_len) // self.seq_len * self.seq_len
        self.chunks = [self.seq_len] * (self.n // self.seq_len)
        self.refusal = None
        if self.dynamic:
            self.chunks = []
            while sum(self.chunks) < self.n:
                self.chunks.append(rng.randint(1, self.n - sum(self.chunks)))
        self.build(rng, seed, family, fields)

    def build(self, rng, seed, family, fields):
        generator = torch.Generator().manual_seed(rng.getrandbits(60))
        torch.manual_seed(rng.getrandbits(60))
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **fields))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("bias") or "norm" in name:
                    parameter.normal_(1.0 if "norm" in name else 0.0, 0.2, generator=generator)
        save = {"max_shard_size": "20KB"} if rng.random() < 0.3 else {}
        model.to(reference.DTYPES[self.stored]).save_pretrained(self.folder, **save)
        self.vocab_size = fields["vocab_size"]
        path = self.folder / "config.json"
        config = json.loads(path.read_text())
        rope = random_rope(rng, fields["max_position_embeddings"])
        if (rope["rope_type"] == "dynamic"
                and self.max_cache_len > fields["max_position_embeddings"]):
            self.refusal = "dynamic"
        if rope["rope_type"] == "dynamic" and model.config.head_dim == 2:
            self.refusal = "small"  # its exponent is d / (d - 2)
        theta = rng.choice([None, 10000.0, 500, 100.0, 1e6, 500000])
        spell(rng, config, rope, theta)
        leave_out(rng, config, rope)
        self.contradict(rng, family, config)
        path.write_text(json.dumps(config, indent=1))
        if config.get("sliding_window") == 1:
            self.cache = "none"  # DynamicCache keeps all of [-0:] there, and fails
        self.config = config

    def contradict(self, rng, family, config):
        """Now and then, something that no program can be made of."""
        what = rng.choice(["odd", "partial", "contradiction"]) if rng.random() < 0.08 else None
        if what == "odd":
            config["head_dim"] = rng.choice([1, 3, 7])
        elif what == "partial":
            # rope_parameters count for nothing beside a rope_scaling
            spelling = config if config.get("rope_scaling") else config.get("rope_parameters") or config
            spelling["partial_rotary_factor"] = rng.choice([0.5, 0.25])
        elif what == "contradiction" and family == "mistral":
            kind = "full_attention" if config.get("sliding_window", 1) else "sliding_attention"
            config["layer_types"] = [kind] * config["num_hidden_layers"]
        else:
            what = None
        self.refusal = what or self.refusal

    def describe(self):
        return json.dumps({k: v for k, v in vars(self).items() if k != "folder"})

    def load(self, dtype):
        model = AutoModelForCausalLM.from_pretrained(
            self.folder, dtype=reference.DTYPES[dtype], attn_implementation="eager")
        return model.eval()

    def ids(self, seed):
        """The rows of a batch follow each other, as plan-run makes them."""
        generator = torch.Generator().manual_seed(seed)
        first = torch.randint(0, self.vocab_size, (1, self.n), generator=generator)
        return (first + torch.arange(self.batch_size)[:, None]) % self.vocab_size

    def eager(self, model, ids):
        """Transformers' logits with its own cache, in the chunks that the program takes."""
        with torch.no_grad():
            if self.cache == "none":
                return model(ids, use_cache=False).logits.double()
            cache = (DynamicCache(config=model.config) if self.cache == "dynamic" else
                     StaticCache(config=model.config, max_cache_len=self.max_cache_len))
            out, start = [], 0
            for n in self.chunks:
                part = ids[:, start:start + n]
                out.append(model(part, past_key_values=cache, use_cache=True).logits.double())
                start += n
        return torch.cat(out, 1)

    def export(self, build):
        path = self.folder / "program.pt2"
        command = [build / "pt2-export", self.folder, "-o", path, "--dtype", self.dtype,
                   "--max-cache-len", str(self.max_cache_len),
                   "--batch-size", str(self.batch_size)]
        command += ["--dynamic-shapes"] if self.dynamic else ["--seq-len", str(self.seq_len)]
        return path, subprocess.run(command, capture_output=True, text=True)


def native(case, build, path, ids):
    """The plan's logits, token by token; they must be the same bits all at once."""
    first = ids[0].tolist()
    one = reference.plan_logits(build, path, first, 1, case.batch_size)
    assert torch.equal(one, reference.plan_logits(build, path, first, case.n, case.batch_size))
    return one.double()


def compare(case, build, path):
    """What was measured, in torch and by the native engine; assertion where the program says
    something else."""
    program = torch.export.load(str(path))
    model = case.load(case.dtype)
    if case.dtype == "float32":
        ids = case.ids(1)
        got, want = reference.run_program(program, ids.tolist(), case.chunks), case.eager(model, ids)
        differences = []
        for logits in (got, native(case, build, path, ids)):
            difference, largest = reference.largest_difference(logits, want)
            assert difference <= 1e-5 * largest, f"{difference} of {largest}: {case.describe()}"
            differences.append(f"{difference / largest:.1e}")
        return f"{', '.join(differences)} of the largest logit"
    exact = copy.deepcopy(model).double()
    ours = ours_native = theirs = 0.0
    for seed in range(4):
        ids = case.ids(seed)
        want = case.eager(exact, ids)
        ours += reference.rms(reference.run_program(program, ids.tolist(), case.chunks), want)
        ours_native += reference.rms(native(case, build, path, ids), want)
        theirs += reference.rms(case.eager(model, ids), want)
    for error in (ours, ours_native):
        assert error <= 1.25 * theirs, f"{error} against {theirs}: {case.describe()}"
    return f"{ours / theirs:.2f}, {ours_native / theirs:.2f} times Transformers' error"


def check(seed, build, folder, record_property):
    print(f"seed {seed}")
    case = Case(seed, folder)
    path, done = case.export(build)
    if case.refusal:
        assert done.returncode == 1, f"{done.stderr}: {case.describe()}"
        assert re.search(REFUSALS[case.refusal], done.stderr), f"{done.stderr}: {case.describe()}"
        assert not path.exists()
        return
    assert done.returncode == 0, f"{done.stderr}: {case.describe()}"
    record_property("measured", compare(case, build, path))


def cases(n):
    return [int(os.environ["PT2_CASE"])] if "PT2_CASE" in os.environ else range(n)


@pytest.mark.parametrize("i", cases(N_CONFIGS), ids=lambda i: f"{SEED}-{i}")
def test_random_config(i, build, tmp_path, record_property):
    check(f"{SEED}-{i}", build, tmp_path, record_property)


@pytest.mark.nightly
@pytest.mark.parametrize("i", cases(N_NIGHTLY), ids=lambda i: f"{NIGHTLY_SEED}-{i}")
def test_random_config_nightly(i, build, tmp_path, record_property):
    check(f"{NIGHTLY_SEED}-{i}", build, tmp_path, record_property)
