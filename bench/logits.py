#!/usr/bin/env python3
"""The logits that a runtime has for a text's tokens, in a process of its own.

usage: logits.py KIND FILE OUT [WORD ...] < IDS     IDS: a list of token ids in JSON

KIND says what FILE is and what runs it; OUT gets float32 in rows of the vocabulary, one for each id.

    transformers  a checkpoint, in float32
    torchao       a checkpoint, quantised as WORDs say: linear=8da4w group=32 embedding=4w
                  embedding_group=32 (0: a row) skip=lm_head
    torch         a .pt2 program with a dynamic length, by torch (and torchao)
    pt2d          the same, by the daemon of $PT2_BUILD; engine=native or aten
    llama         a GGUF file, by llama.cpp with a cache of float32"""

import json
import os
import sys

import numpy as np

CHUNK = 256  # tokens a run, where not all are one: pt2d answers at most 64 MB


def chunks(ids):
    return [(start, ids[start:start + CHUNK]) for start in range(0, len(ids), CHUNK)]


# ---- Transformers, and what torchao makes of it ----

def load(folder):
    import torch
    from transformers import AutoModelForCausalLM
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def of_model(model, ids):
    import torch
    with torch.no_grad():  # torchao dequantises all weights in each run
        yield model(torch.tensor([ids]), use_cache=False).logits[0].numpy()


def transformers(folder, ids):
    return of_model(load(folder), ids)


def configs(linear, group, embedding, embedding_group):
    """torchao's configuration of the linears, and of the embedding; None: they stay floats."""
    import torch
    from torchao.quantization.granularity import PerAxis, PerGroup
    from torchao.quantization.quant_api import (Int8DynamicActivationIntxWeightConfig,
                                                IntxWeightOnlyConfig)

    def bits(scheme):
        return torch.int4 if scheme.endswith("4w") else torch.int8

    def blocks(size):
        return PerGroup(size) if size else PerAxis(0)

    if not linear:
        of_linears = None
    elif linear.startswith("8da"):
        of_linears = Int8DynamicActivationIntxWeightConfig(
            weight_dtype=bits(linear), weight_granularity=blocks(group))
    else:
        of_linears = IntxWeightOnlyConfig(weight_dtype=bits(linear), granularity=blocks(group))
    return of_linears, embedding and IntxWeightOnlyConfig(weight_dtype=bits(embedding),
                                                          granularity=blocks(embedding_group))


def quantised(folder, linear="", group="32", embedding="", embedding_group="0", skip="-"):
    import torch
    from torchao.quantization import quantize_
    model = load(folder)
    if model.config.tie_word_embeddings:  # as exporters do: each with its own scheme
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
        model.config.tie_word_embeddings = False
    of_linears, of_embedding = configs(linear, int(group), embedding, int(embedding_group))
    if of_embedding:
        quantize_(model, of_embedding, lambda m, _: isinstance(m, torch.nn.Embedding))
    if of_linears:
        quantize_(model, of_linears, lambda m, name: isinstance(m, torch.nn.Linear) and name != skip)
    return model


def torchao(folder, ids, **words):
    return of_model(quantised(folder, **words), ids)


# ---- programs ----

def torch(path, ids):
    import torch as lib
    import torchao.quantization.quant_primitives  # noqa: F401 - registers its ops
    module = lib.export.load(path).module()
    with lib.no_grad():
        yield module(input_ids=lib.tensor([ids]), cache_position=lib.arange(len(ids)))[0].numpy()


def pt2d(path, ids, engine="auto"):
    sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../tests/http"))
    import harness
    harness.BUILD, harness.TIMEOUT = os.environ["PT2_BUILD"], 1800
    with harness.Daemon() as d:
        with open(path, "rb") as f:
            program = d.post("/v1/programs", body=f.read(), expect=(200, 201)).json["id"]
        session = d.post("/v1/sessions", {"program": program, "engine": engine}, expect=201).json
        for _, part in chunks(ids):
            reply = d.post(f"/v1/sessions/{session['id']}/step", {"input_ids": [part], "rows": "all"},
                           expect=200, headers={"Accept": "application/octet-stream"})
            yield np.frombuffer(reply.body, np.float32).reshape(len(part), -1)


# ---- llama.cpp ----

def context_of(lib, path, n):
    wants = lib.llama_context_default_params()
    wants.n_ctx, wants.n_batch, wants.n_ubatch = n + CHUNK, CHUNK, CHUNK
    wants.type_k = wants.type_v = 0  # GGML_TYPE_F32
    wants.n_threads = wants.n_threads_batch = int(os.environ.get("OMP_NUM_THREADS", 1))
    wants.flash_attn_type = 0  # it would have a cache of float16
    model = lib.llama_model_load_from_file(path.encode(), lib.llama_model_default_params())
    return model, lib.llama_init_from_model(model, wants)


def llama(path, ids):
    import llama_cpp as lib
    lib.llama_backend_init()
    model, context = context_of(lib, path, len(ids))
    n_vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    batch = lib.llama_batch_init(CHUNK, 0, 1)
    for start, part in chunks(ids):
        batch.n_tokens = len(part)
        for i, token in enumerate(part):
            batch.token[i], batch.pos[i], batch.logits[i] = token, start + i, 1
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
        if lib.llama_decode(context, batch) != 0:
            raise RuntimeError(f"llama_decode of {len(part)} tokens at {start}")
        yield np.stack([np.ctypeslib.as_array(lib.llama_get_logits_ith(context, i), (n_vocab,))
                        for i in range(len(part))])


def main(kind, file, out, *words):
    kinds = {f.__name__: f for f in (transformers, torchao, torch, pt2d, llama)}
    ids = json.load(sys.stdin)
    with open(out, "wb") as f:
        for rows in kinds[kind](file, ids, **dict(word.split("=", 1) for word in words)):
            f.write(np.ascontiguousarray(rows, np.float32).tobytes())


if __name__ == "__main__":
    main(*sys.argv[1:])
