"""What torchao makes of a checkpoint: Transformers' model, quantised in the way of
optimum-executorch, whose filters are for nn.Linear and nn.Embedding."""

import copy

import torch
from torchao.quantization.granularity import PerAxis, PerGroup
from torchao.quantization.quant_api import (Int8DynamicActivationIntxWeightConfig,
                                            IntxWeightOnlyConfig, quantize_)
from torchao.utils import unwrap_tensor_subclass
from transformers import AutoModelForCausalLM
from transformers.integrations.executorch import convert_and_export_with_cache

import reference

PARTS = ("qdata", "scale", "zero_point")


def granularity(group):
    return PerGroup(group) if group else PerAxis(0)


def config(scheme, group):
    bits = torch.int4 if scheme.endswith("4w") else torch.int8
    if scheme.startswith("8da"):
        return Int8DynamicActivationIntxWeightConfig(weight_dtype=bits,
                                                     weight_granularity=granularity(group))
    return IntxWeightOnlyConfig(weight_dtype=bits, granularity=granularity(group))


def is_skipped(name, skip):
    return any(name == s or name.endswith("." + s) or name.startswith(s + ".") for s in skip)


def quantise(model, *, linear=None, embedding=None, group=32, embedding_group=0, fallback=None,
             skip=()):
    """In place; routers stay floats, which are an nn.Linear in granitemoe alone."""
    def of(kind, fits):
        return lambda m, name: (isinstance(m, kind) and fits(m.weight.shape[1]) and
                                not is_skipped(name, skip) and not name.endswith("router.layer"))

    if embedding:
        quantize_(model, config(embedding, embedding_group),
                  of(torch.nn.Embedding, lambda k: not embedding_group or k % embedding_group == 0))
    if linear:
        quantize_(model, config(linear, group),
                  of(torch.nn.Linear, lambda k: not group or k % group == 0))
    if fallback:
        quantize_(model, config(fallback, 0), of(torch.nn.Linear, lambda k: k % group != 0))
    return model


def load(folder, dtype="float32", attn="eager", **options):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=reference.DTYPES[dtype],
                                                 attn_implementation=attn)
    return quantise(model.eval(), **options)


def tensors(model):
    """{the name that an export has: the tensor}, of what is quantised."""
    found = {}
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        for i, part in enumerate(PARTS):
            if hasattr(weight, "qdata"):
                found[f"model.{name}.parametrizations.weight.original{i}"] = getattr(weight, part)
    return found


def logits(model, ids):
    with torch.no_grad():
        return model(torch.tensor(ids), use_cache=False).logits.double()


def python_export(folder, path, dtype="float32", max_cache_len=32, **options):
    """The quantised model, exported to path with a static cache; the path."""
    model = load(folder, dtype, attn="sdpa", **options)
    unwrap_tensor_subclass(model)
    generation = copy.deepcopy(model.generation_config)
    generation.use_cache, generation.cache_implementation = True, "static"
    generation.cache_config = {"batch_size": 1, "max_cache_len": max_cache_len}
    model.generation_config = generation
    with torch.no_grad():
        program = convert_and_export_with_cache(
            model, example_input_ids=torch.ones((1, 1), dtype=torch.long),
            example_cache_position=torch.arange(1))
    torch.export.save(program, str(path))
    return path
