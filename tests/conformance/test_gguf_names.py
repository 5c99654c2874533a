"""The table of GGUF architectures against Transformers' own: each tensor of a tiny model of
every one, read from a GGUF file by both, is the same; and so is the config."""

import json
import subprocess

import gguf
import numpy as np
import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor
from transformers.modeling_gguf_pytorch_utils import get_gguf_hf_weights_map

import reference

SHARED = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
              num_key_value_heads=2, vocab_size=64, max_position_embeddings=32, pad_token_id=0)
MOE = dict(num_experts=3, num_experts_per_tok=2, moe_intermediate_size=24,
           shared_expert_intermediate_size=40)

# name of the case: (architecture, config class, fields)
CASES = {
    "llama": ("llama", transformers.LlamaConfig, dict(head_dim=8)),
    "qwen2": ("qwen2", transformers.Qwen2Config, {}),
    "qwen3": ("qwen3", transformers.Qwen3Config, dict(head_dim=128)),
    "qwen2moe": ("qwen2moe", transformers.Qwen2MoeConfig, MOE),
    "qwen3moe": ("qwen3moe", transformers.Qwen3MoeConfig, dict(head_dim=8, **MOE)),
    "gemma2": ("gemma2", transformers.Gemma2Config, dict(head_dim=8, sliding_window=16)),
    "gemma3": ("gemma3", transformers.Gemma3TextConfig, dict(head_dim=8, sliding_window=16)),
    "phi3": ("phi3", transformers.Phi3Config, {}),
    "starcoder2": ("starcoder2", transformers.Starcoder2Config, dict(use_bias=True)),
    "stablelm": ("stablelm", transformers.StableLmConfig, dict(use_qkv_bias=True)),
    "nemotron": ("nemotron", transformers.NemotronConfig, {}),
    "gpt2": ("gpt2", transformers.GPT2Config, dict(
        n_layer=2, n_embd=32, n_head=4, n_positions=32, n_ctx=32, vocab_size=64)),
}
LAYER_NORM = ("gpt2", "nemotron", "stablelm", "starcoder2")
# What the file says and Transformers leaves at its class's default.
LEFT_OUT = {"gpt2": ["n_positions", "n_inner", "vocab_size"], "starcoder2": ["vocab_size"],
            "nemotron": ["norm_eps"],
            "qwen2moe": ["moe_intermediate_size", "shared_expert_intermediate_size"],
            "qwen3moe": ["moe_intermediate_size"]}


def add_metadata(writer, arch, config):
    writer.add_block_count(2)
    writer.add_context_length(32)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(128 if arch == "gpt2" else 48)
    writer.add_head_count(4)
    writer.add_vocab_size(64)
    writer.add_pad_token_id(0)
    if arch in LAYER_NORM:
        writer.add_layer_norm_eps(1e-4)
    else:
        writer.add_layer_norm_rms_eps(1e-4)
    if arch == "gpt2":
        return
    writer.add_head_count_kv(2)
    writer.add_rope_freq_base(5000.0)
    if arch == "llama":
        writer.add_rope_dimension_count(8)
    if getattr(config, "head_dim", None) and arch != "llama":
        writer.add_key_length(config.head_dim)
    if arch.startswith("gemma"):
        writer.add_sliding_window(16)
    if arch.endswith("moe"):
        writer.add_expert_count(3)
        writer.add_expert_used_count(2)
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    if arch == "qwen2moe":
        writer.add_expert_shared_feed_forward_length(config.shared_expert_intermediate_size)


def write(path, arch, model, config):
    """Random values under the names that Transformers has for the model's."""
    rng = np.random.default_rng(3)
    writer = gguf.GGUFWriter(path, arch)
    add_metadata(writer, arch, config)
    processor = TENSOR_PROCESSORS.get(arch, TensorProcessor)(config=config.to_dict())
    names = get_gguf_hf_weights_map(model, processor)
    shapes = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    for name, hf_name in sorted(names.items()):
        if name == "output.weight" and config.tie_word_embeddings:
            continue
        shape = shapes[hf_name]
        if "_exps" in name and name.split(".")[2] != "ffn_down_exps":
            shape = (shape[0], shape[1] // 2, shape[2])  # gate and up are one there
        if name.endswith("ffn_gate_inp_shexp.weight"):
            shape = shape[1:]
        if arch == "gpt2" and len(shape) == 2 and name.startswith("blk."):
            shape = shape[::-1]
        if "_exps" in name:
            name += ".weight"  # a parameter of no module there
        writer.add_tensor(name, rng.normal(0, 1, shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def ours(build, path, *name):
    return subprocess.run([build / "gguf-dump", path, *name], check=True,
                          capture_output=True).stdout


def expected(model):
    """Transformers' weights as a checkpoint has them: a tensor for each expert."""
    for name, weight in model.state_dict().items():
        if name.endswith("mlp.experts.gate_up_proj"):
            half = weight.shape[1] // 2
            for i, expert in enumerate(weight):
                stem = name.removesuffix("gate_up_proj") + str(i)
                yield stem + ".gate_proj.weight", expert[:half]
                yield stem + ".up_proj.weight", expert[half:]
        elif name.endswith("mlp.experts.down_proj"):
            for i, expert in enumerate(weight):
                yield f"{name.removesuffix('down_proj')}{i}.down_proj.weight", expert
        else:
            yield name, weight


@pytest.mark.parametrize("case", CASES)
def test_tensors_and_config_are_transformers(case, build, tmp_path):
    arch, config_class, fields = CASES[case]
    config = config_class(**({} if arch == "gpt2" else SHARED), **fields)
    path = tmp_path / f"{case}.gguf"
    write(path, arch, AutoModelForCausalLM.from_config(config), config)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name,
                                                 dtype=torch.float32)
    read = json.loads(ours(build, path))
    for name, weight in expected(model):
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        dtype, sizes = read["tensors"].pop(name)
        assert (dtype, sizes) == ("float32", list(weight.shape)), name
        got = torch.frombuffer(bytearray(ours(build, path, name)), dtype=torch.float32)
        assert torch.equal(got.view(weight.shape), weight), name
    assert read["tensors"] == {}
    config = AutoConfig.from_pretrained(tmp_path, gguf_file=path.name)
    for name, value in read["config"].items():
        if name == "architectures":
            assert value == [type(model).__name__]
        elif name == "rope_theta":
            assert value == 5000.0
        elif name in LEFT_OUT.get(arch, []):
            assert fields.get(name, value) == value, name
        elif name != "dtype":
            assert getattr(config, name) == value, name


@pytest.mark.parametrize("case", ["qwen2moe", "qwen3moe"])
def test_experts_export(case, build, tmp_path, record_property):
    """Stacked in the file, one by one in the checkpoint, stacked again in the program."""
    arch, config_class, fields = CASES[case]
    config = config_class(**SHARED, **fields)
    path, program = tmp_path / f"{case}.gguf", tmp_path / "out.pt2"
    write(path, arch, AutoModelForCausalLM.from_config(config), config)
    subprocess.run([build / "pt2-export", path, "-o", program, "--dtype", "float32"], check=True,
                   capture_output=True)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name,
                                                 dtype=torch.float32).eval()
    ids = torch.randint(0, 64, (1, 20), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        want = model(ids, use_cache=False).logits
    worst, largest = reference.largest_difference(
        reference.run_program(program, ids.tolist()), want)
    assert worst <= 1e-5 * largest, f"{worst} of {largest}"
    record_property("measured", f"{worst / largest:.1e} of the largest logit")
