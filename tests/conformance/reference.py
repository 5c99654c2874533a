"""What Python says: eager Transformers, and its own export with a static cache."""

import copy
import functools
import subprocess

import torch
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.integrations.executorch import convert_and_export_with_cache

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16,
          "float64": torch.float64}


@functools.lru_cache(maxsize=4)
def load(folder, dtype="float32", attn="eager"):
    """The checkpoint as eager Transformers has it, in evaluation mode.  Experts by the one
    of its implementations that takes float64 and sums as the others do."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=DTYPES[dtype],
                                                 attn_implementation=attn,
                                                 experts_implementation="batched_mm")
    return model.eval()


def eager_logits(folder, ids, dtype="float32", attn="eager"):
    """(batch, n, vocab) in one pass with no cache, as float64."""
    with torch.no_grad():
        return load(str(folder), dtype, attn)(torch.tensor(ids), use_cache=False).logits.double()


def stepped_logits(folder, ids):
    """(batch, n, vocab) a token at a time with a cache, as float64."""
    model = load(str(folder))
    cache, out = DynamicCache(config=model.config), []
    with torch.no_grad():
        for position in range(len(ids[0])):
            part = torch.tensor(ids)[:, position:position + 1]
            out.append(model(part, past_key_values=cache, use_cache=True).logits.double())
    return torch.cat(out, 1)


def exact_logits(folder, ids):
    """The same as exactly as Transformers computes it: XGLM's lowest number does not fit float64."""
    kind = load(str(folder)).config.model_type
    return eager_logits(folder, ids, "float32" if kind == "xglm" else "float64")


def greedy(folder, prompt, n_new, dtype="float32"):
    """The ids that Transformers' generate adds to the prompt, greedily, up to an end."""
    model = load(str(folder), dtype)
    with torch.no_grad():
        out = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=n_new,
                             pad_token_id=0)
    return out[0, len(prompt):].tolist()


def quantise(model, linear=None, group_size=0, embedding=None, embedding_group_size=0):
    """What torchao makes of its linears ("8da4w", "8da8w", "8w", "4w") and embeddings ("8w", "4w"), as
    exporters ask for it; groups of 0 are rows."""
    from torchao.quantization import quantize_
    from torchao.quantization.granularity import PerAxis, PerGroup
    from torchao.quantization.quant_api import (Int8DynamicActivationIntxWeightConfig,
                                                IntxWeightOnlyConfig)
    from torchao.utils import unwrap_tensor_subclass

    def apply(scheme, size, kind):
        bits = torch.int4 if scheme.endswith("4w") else torch.int8
        blocks = PerGroup(size) if size else PerAxis(0)
        config = Int8DynamicActivationIntxWeightConfig(weight_dtype=bits, weight_granularity=blocks) \
            if scheme.startswith("8da") else IntxWeightOnlyConfig(weight_dtype=bits, granularity=blocks)
        quantize_(model, config, lambda module, _: isinstance(module, kind))

    if embedding:
        apply(embedding, embedding_group_size, torch.nn.Embedding)
    if linear:
        apply(linear, group_size, torch.nn.Linear)
    unwrap_tensor_subclass(model)


def python_export(folder, path, *, dtype="float32", batch_size=1, max_cache_len=32, seq_len=1,
                  dynamic=False, attn=None, quantised=None):
    """convert_and_export_with_cache of the checkpoint, saved at path; the program.  quantised:
    what quantise takes."""
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=DTYPES[dtype], **({"attn_implementation": attn} if attn else {})).eval()
    if quantised:
        quantise(model, **quantised)
    generation = copy.deepcopy(model.generation_config)
    generation.use_cache = True
    generation.cache_implementation = "static"
    generation.cache_config = {"batch_size": batch_size, "max_cache_len": max_cache_len}
    model.generation_config = generation
    ids = torch.ones((batch_size, seq_len), dtype=torch.long)
    position = torch.arange(seq_len, dtype=torch.long)
    shapes = None
    if dynamic:
        ids = torch.ones((batch_size, 3), dtype=torch.long)
        position = torch.arange(3, dtype=torch.long)
        s = torch.export.Dim("s", min=1, max=max_cache_len - 1)
        shapes = {"input_ids": {1: s}, "cache_position": {0: s}}
    with torch.no_grad():
        program = convert_and_export_with_cache(
            model, example_input_ids=ids, example_cache_position=position,
            dynamic_shapes=shapes)
    torch.export.save(program, str(path))
    return program


def run_program(path_or_program, ids, chunks=None):
    """A program's logits in torch, token by token (or by chunks of the lengths given):
    (batch, n, vocab) as float64."""
    program = path_or_program
    if not isinstance(program, torch.export.ExportedProgram):
        program = torch.export.load(str(program))
    module = program.module()
    ids = torch.tensor(ids)
    out, start = [], 0
    for n in chunks or [1] * ids.shape[1]:
        position = torch.arange(start, start + n)
        with torch.no_grad():
            out.append(module(input_ids=ids[:, start:start + n],
                              cache_position=position).double())
        start += n
    return torch.cat(out, 1)


def largest_difference(got, want):
    """(the largest absolute difference, the largest absolute logit wanted)."""
    got, want = torch.as_tensor(got).double(), torch.as_tensor(want).double()
    return (got - want).abs().max().item(), want.abs().max().item()


def rms(got, want):
    return (torch.as_tensor(got).double() - torch.as_tensor(want).double()).pow(2).mean().sqrt().item()


def plan_text(build, path):
    """The plan as plan-run prints it."""
    run = subprocess.run([build / "plan-run", path], capture_output=True, check=False)
    assert run.returncode == 0, run.stderr.decode()
    return run.stdout.decode()


def plan_logits(build, path, ids, chunk, batch):
    """(batch, n, vocab) of plan-run; batch element b gets the ids + b."""
    run = subprocess.run([build / "plan-run", path, str(chunk), *map(str, ids)],
                         capture_output=True, check=False)
    assert run.returncode == 0, run.stderr.decode()
    return torch.frombuffer(bytearray(run.stdout), dtype=torch.float32).view(
        batch, len(ids), -1)
