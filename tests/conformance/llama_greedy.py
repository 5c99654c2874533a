#!/usr/bin/env python3
"""The tokens that llama.cpp adds to prompts, greedily, in a process of its own.

usage: llama_greedy.py GGUF N < PROMPTS     lists of ids in JSON; prints the same of what is added

llama.cpp unpacks the file's weights to float32 first, and keeps its cache in float32: with
quantised weights it would round what it multiplies them by to 8 bits.

Run by a python that finds llama_cpp, as bench/peers-env makes one."""

import json
import os
import sys
import tempfile

import llama_cpp as lib


def unpack(path, to):
    """The file with float32 weights, by llama.cpp's own quantiser."""
    wants = lib.llama_model_quantize_default_params()
    wants.ftype = 0  # LLAMA_FTYPE_ALL_F32
    wants.allow_requantize = True
    if lib.llama_model_quantize(path.encode(), to.encode(), wants) != 0:
        raise RuntimeError("llama_model_quantize")


def load(path):
    """(vocabulary's size, a fresh context of it for each call)"""
    model = lib.llama_model_load_from_file(path.encode(), lib.llama_model_default_params())
    wants = lib.llama_context_default_params()
    wants.n_ctx = wants.n_batch = 256
    wants.type_k = wants.type_v = 0  # GGML_TYPE_F32
    return (lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model)),
            lambda: lib.llama_init_from_model(model, wants))


def greedy(context, n_vocab, prompt, n):
    added, ids = [], prompt
    while len(added) < n:
        tokens = (lib.llama_token * len(ids))(*ids)  # lives until they are decoded
        if lib.llama_decode(context, lib.llama_batch_get_one(tokens, len(ids))) != 0:
            raise RuntimeError(f"llama_decode of {len(ids)} tokens")
        logits = lib.llama_get_logits_ith(context, -1)[:n_vocab]
        ids = [max(range(n_vocab), key=logits.__getitem__)]
        added += ids
    return added


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    lib.llama_backend_init()
    with tempfile.TemporaryDirectory() as folder:
        unpack(sys.argv[1], f"{folder}/f32.gguf")
        n_vocab, context = load(f"{folder}/f32.gguf")
    json.dump([greedy(context(), n_vocab, prompt, int(sys.argv[2]))
               for prompt in json.load(sys.stdin)], answers)
