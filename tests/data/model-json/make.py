#!/usr/bin/env python3
"""Make the model.json files of this folder: what torch.export.save writes for small random
decoders exported by Transformers' convert_and_export_with_cache.

Made with torch 2.13.0 (CPU), transformers 5.18.0, Python 3.11:
    python tests/data/model-json/make.py tests/data/model-json
llama.json is as it was written, but for where the packages lay; of the others the nodes'
metadata (stack traces, nine tenths of the bytes) is emptied.
"""
import io
import json
import os
import sys
import zipfile

import torch
from transformers import (GenerationConfig, LlamaConfig, LlamaForCausalLM, MistralConfig,
                          MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM)
from transformers.integrations.executorch import convert_and_export_with_cache

CACHE = 16
SHAPE = dict(hidden_size=16, intermediate_size=24, num_attention_heads=4,
             num_key_value_heads=2, vocab_size=32, max_position_embeddings=64)


def model_json(model, batch=1, seq=1, dynamic=False):
    model.eval()
    model.generation_config = GenerationConfig(
        use_cache=True, cache_implementation="static", max_length=CACHE,
        cache_config={"batch_size": batch, "max_cache_len": CACHE})
    options = dict(example_input_ids=torch.zeros((batch, seq), dtype=torch.long),
                   example_cache_position=torch.arange(seq))
    if dynamic:
        s = torch.export.Dim("s", min=1, max=CACHE)
        options["dynamic_shapes"] = {"input_ids": {1: s}, "cache_position": {0: s}}
    file = io.BytesIO()
    torch.export.save(convert_and_export_with_cache(model, **options), file)
    with zipfile.ZipFile(file) as archive:
        name = next(n for n in archive.namelist() if n.endswith("models/model.json"))
        text = archive.read(name).decode()
    return text.replace(os.path.dirname(os.path.dirname(torch.__file__)), "site-packages")


def without_metadata(text):
    program = json.loads(text)
    for node in program["graph_module"]["graph"]["nodes"]:
        node["metadata"] = {}
    return json.dumps(program)


def main(folder):
    torch.manual_seed(0)
    llama = LlamaForCausalLM(LlamaConfig(num_hidden_layers=1, **SHAPE))
    mistral = MistralForCausalLM(MistralConfig(num_hidden_layers=1, head_dim=8,
                                               sliding_window=8, **SHAPE))
    qwen2 = Qwen2ForCausalLM(Qwen2Config(num_hidden_layers=2, use_sliding_window=True,
                                         sliding_window=8, max_window_layers=1, **SHAPE))
    texts = {
        "llama": model_json(llama),
        "llama-dynamic": without_metadata(model_json(llama, seq=3, dynamic=True)),
        "llama-batch2-seq4": without_metadata(model_json(llama, batch=2, seq=4)),
        "mistral-window": without_metadata(model_json(mistral)),
        "qwen2-bfloat16": without_metadata(model_json(qwen2.bfloat16())),
    }
    for name, text in texts.items():
        with open(f"{folder}/{name}.json", "w") as file:
            file.write(text)


main(sys.argv[1])
