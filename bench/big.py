#!/usr/bin/env python3
"""Checkpoints of a given size, for measuring exports: Llama's shapes, no training.

usage: big.py DIR [--shape NAME] [--dtype NAME] [--holes] [--shards N]

Weights are random bytes (of one 64 MiB block, again and again), or with --holes a sparse
file that takes no room on the disk.  float8 has scales of blocks of 128 x 128, as
published checkpoints do.  Needs nothing but Python."""

import argparse
import json
import os
import pathlib
import struct

SHAPES = {  # hidden, intermediate, layers, heads, key-value heads, vocabulary
    "llama-3-8b": (4096, 14336, 32, 32, 8, 128256),
    "56m": (512, 1408, 8, 8, 4, 32000),
    "0.76b": (2048, 5632, 14, 32, 8, 32000),
    "tensor-4.5gib": (4096, 512, 1, 4, 1, 589824),  # its embedding alone
    "4.5gib": (4096, 11008, 11, 32, 8, 64000),
}
SIZES = {"F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1}
BLOCK = 128


def tensors(shape, dtype):
    """(name, dtype, sizes) of all."""
    hidden, inter, layers, heads, kv_heads, vocab = SHAPES[shape]
    kv = hidden // heads * kv_heads
    rest = "BF16" if dtype == "F8_E4M3" else dtype

    def linear(name, rows, cols):
        yield f"{name}.weight", dtype, (rows, cols)
        if dtype == "F8_E4M3":
            yield f"{name}.weight_scale_inv", "F32", (-(-rows // BLOCK), -(-cols // BLOCK))

    yield "model.embed_tokens.weight", rest, (vocab, hidden)
    for i in range(layers):
        layer = f"model.layers.{i}"
        yield f"{layer}.input_layernorm.weight", rest, (hidden,)
        yield f"{layer}.post_attention_layernorm.weight", rest, (hidden,)
        yield from linear(f"{layer}.self_attn.q_proj", hidden, hidden)
        yield from linear(f"{layer}.self_attn.k_proj", kv, hidden)
        yield from linear(f"{layer}.self_attn.v_proj", kv, hidden)
        yield from linear(f"{layer}.self_attn.o_proj", hidden, hidden)
        yield from linear(f"{layer}.mlp.gate_proj", inter, hidden)
        yield from linear(f"{layer}.mlp.up_proj", inter, hidden)
        yield from linear(f"{layer}.mlp.down_proj", hidden, inter)
    yield "model.norm.weight", rest, (hidden,)
    if not is_tied(shape):
        yield "lm_head.weight", rest, (vocab, hidden)


def is_tied(shape):
    return shape == "tensor-4.5gib"


def config(shape, dtype):
    hidden, inter, layers, heads, kv_heads, vocab = SHAPES[shape]
    made = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": hidden,
            "intermediate_size": inter, "num_hidden_layers": layers,
            "num_attention_heads": heads, "num_key_value_heads": kv_heads,
            "vocab_size": vocab, "max_position_embeddings": 8192, "rope_theta": 500000.0,
            "rms_norm_eps": 1e-5, "tie_word_embeddings": is_tied(shape)}
    if dtype == "F8_E4M3":
        made |= {"dtype": "bfloat16",
                 "quantization_config": {"quant_method": "fp8", "activation_scheme": "dynamic",
                                         "weight_block_size": [BLOCK, BLOCK]}}
    return made


def bytes_of(dtype, sizes):
    n = SIZES[dtype]
    for size in sizes:
        n *= size
    return n


def write_shard(path, shard, holes, noise):
    header, at = {}, 0
    for name, dtype, sizes in shard:
        n = bytes_of(dtype, sizes)
        header[name] = {"dtype": dtype, "shape": sizes, "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        if holes:
            file.truncate(8 + len(text) + at)
            return
        while at > 0:
            at -= file.write(noise[:at])


def make(folder, shape, dtype, holes=False, shards=1):
    """The folder, made."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config(shape, dtype)))
    everything = list(tensors(shape, dtype))
    total = sum(bytes_of(*t[1:]) for t in everything)
    parts, taken = [[] for _ in range(shards)], 0
    for t in everything:
        parts[min(shards - 1, taken * shards // total)].append(t)
        taken += bytes_of(*t[1:])
    noise = b"" if holes else os.urandom(1 << 26)
    names = ["model.safetensors"] if shards == 1 else [
        f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
    for name, part in zip(names, parts):
        write_shard(folder / name, part, holes, noise)
    if shards > 1:
        (folder / "model.safetensors.index.json").write_text(json.dumps(
            {"weight_map": {t[0]: name for name, part in zip(names, parts) for t in part}}))
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--shape", choices=SHAPES, default="llama-3-8b")
    parser.add_argument("--dtype", choices=SIZES, default="BF16")
    parser.add_argument("--holes", action="store_true")
    parser.add_argument("--shards", type=int, default=1)
    args = parser.parse_args()
    make(args.folder, args.shape, args.dtype, args.holes, args.shards)
