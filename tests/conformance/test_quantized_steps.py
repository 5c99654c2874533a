"""Programs that torchao quantised and torch exported, compiled into plans: the logits of torch's
own run of them.  A number of a row that lies between two whole ones may be rounded to the other
where what it was computed from differs in the last bit (once in some 30 tokens of such a model);
then all that follows of that token is off by steps of 1 in 255, and so is each later token, which
sees it.  So short texts are run, each from the first position on, and those without such a step are
counted."""

import copy

import pytest
import torch
from torch.export import Dim
from torchao.quantization import (Int8DynamicActivationIntxWeightConfig, IntxWeightOnlyConfig,
                                  quantize_)
from torchao.quantization.granularity import PerAxis, PerGroup
from torchao.utils import unwrap_tensor_subclass
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.integrations.executorch import convert_and_export_with_cache

import reference

N_TEXTS, N = 12, 3
BASE = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            intermediate_size=96, vocab_size=250, max_position_embeddings=64, bos_token_id=1,
            eos_token_id=2, pad_token_id=0, initializer_range=0.1, tie_word_embeddings=False)
MODELS = {
    "llama": {}, "qwen2": {}, "gemma3_text": dict(head_dim=16, sliding_window=5,
                                                  query_pre_attn_scalar=16),
    "phi": dict(num_key_value_heads=4, partial_rotary_factor=0.5),
}


def scheme(name):
    """(the linears' configuration, the table's; None: floats)"""
    linear, table = {
        "8da4w": (Int8DynamicActivationIntxWeightConfig(
            weight_dtype=torch.int4, weight_granularity=PerGroup(32)), torch.int8),
        "8da8w": (Int8DynamicActivationIntxWeightConfig(
            weight_dtype=torch.int8, weight_granularity=PerAxis(0)), None),
        "4w": (IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerGroup(32)),
               torch.int4),
        "8w": (IntxWeightOnlyConfig(weight_dtype=torch.int8, granularity=PerAxis(0)), torch.int8),
    }[name]
    granularity = PerGroup(32) if table == torch.int4 else PerAxis(0)
    return linear, table and IntxWeightOnlyConfig(weight_dtype=table, granularity=granularity)


def export(kind, name, path, dynamic):
    """That model with random weights, quantised, saved at path; the program."""
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(kind, **{**BASE, **MODELS[kind]})).eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter_name.endswith("bias"):
                parameter.normal_(0, 0.2)
    linear, table = scheme(name)
    if table:
        quantize_(model, table, lambda module, _: isinstance(module, torch.nn.Embedding))
    quantize_(model, linear, lambda module, _: isinstance(module, torch.nn.Linear))
    unwrap_tensor_subclass(model)
    generation = copy.deepcopy(model.generation_config)
    generation.use_cache = True
    generation.cache_implementation = "static"
    generation.cache_config = {"batch_size": 1, "max_cache_len": 32}
    model.generation_config = generation
    s, shapes = 1, None
    if dynamic:
        s, length = 3, Dim("s", min=1, max=31)
        shapes = {"input_ids": {1: length}, "cache_position": {0: length}}
    with torch.no_grad():
        program = convert_and_export_with_cache(
            model, example_input_ids=torch.ones((1, s), dtype=torch.long),
            example_cache_position=torch.arange(s), dynamic_shapes=shapes)
    torch.export.save(program, str(path))
    return program


@pytest.mark.parametrize("kind,name,dynamic", [
    ("llama", "8da4w", False), ("llama", "8da4w", True), ("llama", "8da8w", False),
    ("llama", "4w", False), ("llama", "8w", True), ("qwen2", "8da4w", False),
    ("gemma3_text", "8da4w", False), ("phi", "8da4w", True)])
def test_torchao(kind, name, dynamic, build, tmp_path, record_property):
    path = tmp_path / "torchao.pt2"
    program = export(kind, name, path, dynamic)
    ids = torch.randint(3, 250, (N_TEXTS, N), generator=torch.Generator().manual_seed(5)).tolist()
    plan = reference.plan_text(build, path)
    linears = [line for line in plan.splitlines() if "= linear(" in line]
    assert not any("float32" in line for line in linears), "a linear of dequantised weights"
    want = f" {name} g32" if "4w" in name else f" {name}"
    assert sum(line.count(want) for line in linears) == (13 if kind == "phi" else 15)
    module = program.module()
    for chunk in (1, N):
        off = torch.stack([of_text(module, build, path, text, chunk) for text in ids])
        same = (off < 1e-5).sum().item()
        record_property(f"measured {chunk}", f"{same} of {N_TEXTS} texts to rounding, median "
                        f"{off.median():.1e}, largest {off.max():.1e} of the largest logit")
        assert same >= (N_TEXTS * 3 // 4 if name.startswith("8da") else N_TEXTS)
        assert off.max() < 0.05


def of_text(module, build, path, ids, chunk):
    """How far the logits are off, of the largest."""
    with torch.no_grad():
        want = torch.cat([module(input_ids=torch.tensor([[token]]),
                                 cache_position=torch.tensor([position]))
                          for position, token in enumerate(ids)], 1)
    got = reference.plan_logits(build, path, ids, chunk, 1)
    return (got - want).abs().max() / want.abs().max()
