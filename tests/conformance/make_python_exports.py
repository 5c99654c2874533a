#!/usr/bin/env python3
"""Make tests/data/python-exports: small random models, as several versions of Transformers
export them with a static cache, and the logits that torch's own run of each has.

    python make_python_exports.py FOLDER [NAME ...]

makes what is in the table below for the version of Transformers that is installed, or those
of the names given. The README in the folder says which versions were used and how. For each
NAME.pt2 there is a NAME.json: what made it, token ids, and a few of the logits.
"""

import copy
import json
import os
import sys
import tempfile
import zipfile

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, cache_utils
from transformers.integrations import executorch

BASE = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=16,
            vocab_size=40, max_position_embeddings=48, bos_token_id=1, eos_token_id=2,
            pad_token_id=0, initializer_range=0.3, tie_word_embeddings=False)
KV = dict(num_key_value_heads=2)
GPT = dict(n_embd=16, n_layer=2, n_head=4, n_positions=48, n_inner=16)
WINDOW = dict(head_dim=4, query_pre_attn_scalar=8, sliding_window=6, **KV)
MODELS = {
    "llama": KV, "mistral": dict(head_dim=4, sliding_window=6, **KV), "qwen2": KV, "granite": KV,
    "qwen3": dict(head_dim=8, **KV), "phi3": dict(sliding_window=None, **KV), "cohere": KV,
    "gemma2": WINDOW, "gemma3_text": WINDOW, "stablelm": dict(partial_rotary_factor=0.5, **KV),
    "phi": dict(partial_rotary_factor=0.5), "gpt_neox": dict(rotary_pct=0.5), "gpt2": GPT,
    "gptj": dict(rotary_dim=2, **GPT), "opt": dict(ffn_dim=16, word_embed_proj_dim=16),
    "falcon": dict(ffn_hidden_size=16, new_decoder_architecture=True, num_kv_heads=2),
    "gpt_neo": dict(num_layers=2, num_heads=4, window_size=4,
                    attention_types=[[["global", "local"], 1]]),
    "gpt_neox_japanese": dict(rotary_pct=0.5, intermediate_multiple_size=1),
}
EXPERTS = dict(num_experts_per_tok=2, **KV)
GROUPS = dict(n_routed_experts=8, moe_intermediate_size=12, n_shared_experts=1, n_group=4,
              topk_group=2, first_k_dense_replace=1, head_dim=8, routed_scaling_factor=2.5, **EXPERTS)
MODELS |= {
    "mixtral": dict(num_local_experts=5, sliding_window=None, **EXPERTS),
    "qwen2_moe": dict(num_experts=6, moe_intermediate_size=12, shared_expert_intermediate_size=20,
                      norm_topk_prob=False, **EXPERTS),
    "qwen3_moe": dict(num_experts=6, moe_intermediate_size=12, norm_topk_prob=True, head_dim=8,
                      **EXPERTS),
    "olmoe": dict(num_experts=4, **EXPERTS),
    "granitemoe": dict(num_local_experts=4, embedding_multiplier=2.0, residual_multiplier=0.5,
                       attention_multiplier=0.3, logits_scaling=3.0, **EXPERTS),
    "gpt_oss": dict(num_local_experts=4, head_dim=8, sliding_window=6,
                    layer_types=["sliding_attention", "full_attention"], **EXPERTS),
    "glm4_moe": GROUPS, "dots1": dict(GROUPS, n_group=1, topk_group=1, sliding_window=None),
    "phimoe": dict(num_local_experts=4, sliding_window=None, **EXPERTS),
}
LEN = 20     # of the cache
N = 12       # tokens; LONG of them where a window is to be seen
LONG = 18

DYNAMIC = dict(dynamic=True)
BATCH = dict(dynamic=True, batch=2)
HALF = dict(dtype="bfloat16")
EAGER = dict(attn="eager")
BATCHED = dict(experts="batched_mm")  # not the default, grouped_mm
# Before 5 the caches of sliding layers are as long as the window and no longer; a window that
# the cache does not reach is one that nobody sees.
WIDE = dict(config=dict(sliding_window=32))
AS_LONG = dict(config=dict(sliding_window=LEN), n=LONG)

# Transformers: (model, suffix of the file, how it is exported)
CASES = {
    "4.50": [  # fixed lengths alone; decomposed and without mutations in place
        ("llama", "", {}),
        ("qwen2", "-bf16-batch", dict(batch=2, **HALF)),
        ("mistral", "-eager", dict(n=LONG, **EAGER)),
        ("gpt_neox", "", {}),
        ("opt", "", {}),
        ("phi", "", {}),
    ],
    "4.53": [
        ("llama", "-dynamic", DYNAMIC),
        ("qwen3", "-fours", dict(seq_len=4, batch=3)),
        ("gemma2", "-hybrid-dynamic", dict(hybrid=True, **DYNAMIC, **WIDE)),
        ("gemma2", "-rolls", dict(hybrid=True, n=LONG)),
        ("gemma2", "-rolls-fours", dict(  # by one row, whatever the run's length
            hybrid=True, n=4, seq_len=4, refused="does not roll cache 'key_cache_0' by one row")),
        ("gemma2", "-rolls-dynamic", dict(hybrid=True, n=LONG, longest=6, **DYNAMIC)),
        ("gpt2", "", {}),
    ],
    "4.55": [
        ("gemma3_text", "-hybrid-bf16", dict(hybrid=True, **HALF, **WIDE)),
        ("granite", "-dynamic", BATCH),
    ],
    "4.57": [
        ("llama", "-bf16-dynamic", dict(**DYNAMIC, **HALF)),
        ("llama", "-loose", dict(loose=True)),
        ("mistral", "", AS_LONG),
        ("gemma2", "-short", dict(n=6)),
        ("gemma2", "-short-dynamic", dict(n=6, longest=6, **DYNAMIC)),
        ("gemma3_text", "-dynamic", dict(**DYNAMIC, **WIDE)),
        ("stablelm", "-dynamic", BATCH),
        ("phi3", "-eager", EAGER),
    ],
    "5": [
        ("llama", "-dynamic", BATCH),
        ("llama", "-loose-dynamic", dict(loose=True, **DYNAMIC)),
        ("mistral", "-dynamic", dict(n=LONG, **DYNAMIC)),
        ("gemma2", "-eager", dict(n=LONG, **EAGER)),
        ("gemma3_text", "-dynamic", dict(n=LONG, **BATCH)),
        ("qwen2", "-fours", dict(seq_len=4, batch=2)),
        ("qwen3", "-bf16", HALF),
        ("granite", "-eager-dynamic", dict(**DYNAMIC, **EAGER)),
        ("gpt2", "-dynamic", DYNAMIC),
        ("gpt_neox", "-eager", EAGER),
        ("gptj", "-eager", EAGER),
        ("cohere", "", {}),
        ("falcon", "-dynamic", BATCH),
        ("falcon", "-mha-eager", dict(config=dict(
            new_decoder_architecture=False, multi_query=False, parallel_attn=False,
            num_kv_heads=None), **EAGER)),
        # Its local layers see what is not written yet, as the reference has it: wrong there too.
        ("gpt_neo", "-eager", dict(refused="is neither causal nor a window of it", **EAGER)),
        ("gpt_neox_japanese", "-eager-dynamic", dict(**DYNAMIC, **EAGER)),
        # Mixtures of experts.  experts="eager", the loop over those that were chosen, can't be
        # exported: how often it runs depends on data.
        ("mixtral", "-dynamic", DYNAMIC),
        ("mixtral", "-batched", dict(**BATCHED)),
        ("qwen2_moe", "-batched-dynamic", dict(**BATCH, **BATCHED)),
        ("qwen3_moe", "-bf16-fours", dict(seq_len=4, batch=2, config=dict(moe_intermediate_size=16),
                                          **HALF)),  # aten._grouped_mm
        ("olmoe", "", {}),
        ("granitemoe", "-batched", dict(**BATCHED)),
        ("gpt_oss", "-eager-dynamic", dict(n=LONG, **DYNAMIC, **EAGER)),
        # a seed with which no expert is chosen by less than rounding may change
        ("gpt_oss", "-eager-batched-bf16", dict(n=10, seed=202, **EAGER, **BATCHED, **HALF)),
        ("glm4_moe", "-batched-dynamic", dict(**BATCH, **BATCHED)),
        ("dots1", "", {}),
        ("phimoe", "-batched", dict(refused="of one value, with its places", **BATCHED)),
    ],
}


def version():
    major, minor = transformers.__version__.split(".")[:2]
    return major if int(major) >= 5 else f"{major}.{minor}"


def make_model(name, options):
    """Random weights; biases and norms too, so that none could be left out unseen."""
    torch.manual_seed(7)
    config = AutoConfig.for_model(name, **{**BASE, **MODELS[name], **options.get("config", {})})
    config._attn_implementation = options.get("attn", "sdpa")
    config.architectures = ["SomeForCausalLM"]  # 4.50 asks whether it is causal
    dtype = getattr(torch, options.get("dtype", "float32"))
    model = AutoModelForCausalLM.from_config(
        config, torch_dtype=dtype, attn_implementation=options.get("attn", "sdpa")).eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter_name.endswith("bias"):
                parameter.normal_(0, 0.2)
            elif "norm" in parameter_name or "ln_" in parameter_name:
                parameter.normal_(1, 0.2)
            elif parameter_name.endswith("sinks"):
                parameter.normal_(0, 1)
        for buffer_name, buffer in model.named_buffers():
            if buffer_name.endswith("correction_bias"):
                buffer.normal_(0, 0.1)
    if "experts" in options:
        model.set_experts_implementation(options["experts"])
    return model.to(dtype)


def export(model, options):
    batch, s = options.get("batch", 1), options.get("seq_len", 1)
    generation = copy.deepcopy(model.generation_config)
    generation.use_cache = True
    generation.cache_implementation = "static"
    sizes = {"batch_size": batch, "max_cache_len": options.get("len", LEN)}
    if version() in ("4.50", "4.53"):
        generation.cache_config = cache_utils.StaticCacheConfig(**sizes)
    else:
        generation.cache_config = {**sizes, "device": "cpu"}
    model.generation_config = generation
    shapes = {}
    if options.get("dynamic"):
        s = 3
        dim = torch.export.Dim("s", min=1, max=options.get("longest", sizes["max_cache_len"] - 1))
        shapes = {"dynamic_shapes": {"input_ids": {1: dim}, "cache_position": {0: dim}}}
    ids = torch.ones((batch, s), dtype=torch.long)
    position = torch.arange(s, dtype=torch.long)
    if options.get("hybrid"):  # sliding layers whose caches roll, where they are shorter
        module = executorch.TorchExportableModuleForDecoderOnlyLM(
            model, batch, sizes["max_cache_len"])
        return module.export(ids, cache_position=position, strict=True, **shapes)
    if options.get("loose"):  # caches and counters become constants
        shapes["strict"] = False
    return executorch.convert_and_export_with_cache(model, ids, position, **shapes)


def run(program, ids, s):
    """Runs of s tokens: (batch, n, vocab)."""
    module = program.module()
    n_args = len(program.example_inputs[0])  # which of the two go by place
    out = []
    for start in range(0, ids.shape[1], s):
        inputs = {"input_ids": ids[:, start:start + s],
                  "cache_position": torch.arange(start, start + s)}
        args, names = list(inputs.values())[:n_args], list(inputs)[n_args:]
        with torch.no_grad():
            out.append(module(*args, **{name: inputs[name] for name in names}).float())
    return torch.cat(out, 1)


def pack(source, target):
    """The same records, each at a multiple of 64 as torch has them; all but the weights
    deflated: a graph is mostly stack traces."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            # one date for all: the same bytes from the same program
            record = zipfile.ZipInfo(info.filename, (1980, 1, 1, 0, 0, 0))
            if "/data/weights/weight" not in info.filename:
                record.compress_type = zipfile.ZIP_DEFLATED
            begins = new.fp.tell() + 30 + len(info.filename) + 4
            record.extra = b"PD" + (-begins % 64).to_bytes(2, "little") + bytes(-begins % 64)
            new.writestr(record, data, compresslevel=9)


def make(name, suffix, options, folder):
    path = os.path.join(folder, f"{version()}-{name}{suffix}.pt2")
    program = export(make_model(name, options), options)
    with tempfile.TemporaryDirectory() as scratch:
        saved = os.path.join(scratch, "p.pt2")  # whose name is in each record's
        torch.export.save(program, saved)
        pack(saved, path)
    batch, n = options.get("batch", 1), options.get("n", N)
    s = 1 if options.get("dynamic") else options.get("seq_len", 1)
    dice = torch.Generator().manual_seed(options.get("seed", 5))
    ids = torch.randint(3, 40, (batch, n), generator=dice)
    logits = run(torch.export.load(path), ids, s)
    facts = {"model": name, **options, "transformers": transformers.__version__,
             "torch": torch.__version__, "input_ids": ids.tolist(),
             # every fifth of the vocabulary
             "logits": [[[float(f"{x:.6g}") for x in row[::5]] for row in element]
                        for element in logits.tolist()]}
    with open(path[:-4] + ".json", "w") as f:
        json.dump(facts, f, separators=(",", ":"))
        f.write("\n")
    print(f"{os.path.getsize(path):8} {path}", flush=True)


def main(folder, *names):
    os.makedirs(folder, exist_ok=True)
    for name, suffix, options in CASES[version()]:
        if not names or name + suffix in names:
            make(name, suffix, options, folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
