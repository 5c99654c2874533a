#!/usr/bin/env python3
"""Write the cases of this folder: <case>/, a checkpoint of quantised tensors, and
<case>/expected/, one of the float32 values that they stand for, both with a config.json.

usage: python3 make.py     (in this folder; torch 2.13, Transformers 5.18, safetensors)

The values are Transformers' own: Fp8Dequantize._dequantize_one where the grid of scales
divides the tensor, convert_moe_packed_tensors for mxfp4.  Where the last block is cut
(h.weight), and for a scale a matrix (i.weight), Transformers has no answer: there the
scales are repeated over the tensor, and multiplied."""

import json
import pathlib

import torch
from safetensors.torch import save_file
from transformers.integrations.finegrained_fp8 import Fp8Dequantize
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

HERE = pathlib.Path(__file__).resolve().parent
E4M3, E5M2, E8M0 = torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e8m0fnu


def put(case, tensors, expected, quantization):
    config = {"model_type": "llama", "quantization_config": quantization}
    for folder, content in ((HERE / case, tensors), (HERE / case / "expected", expected)):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config if content is tensors else {}) + "\n")
        save_file({k: v.clone().contiguous() for k, v in content.items()}, folder / "model.safetensors")


def float8():
    generator = torch.Generator().manual_seed(8)
    every = torch.arange(256, dtype=torch.uint8)

    def some(*shape):
        return torch.randint(0, 256, shape, generator=generator).to(torch.uint8).view(E4M3)

    def scales(*shape, dtype=torch.float32):
        return (torch.rand(shape, generator=generator) * 0.01 + 1e-4).to(dtype)

    pairs = {
        "a.weight": (every.view(E4M3).reshape(16, 16), "a.weight_scale_inv", scales(4, 4)),
        "b.weight": (every.view(E5M2).reshape(16, 16), "b.weight_scale_inv", scales(1)[0]),
        "c.weight": (some(16, 20), "c.weight_scale", scales(16, 1, dtype=torch.bfloat16)),
        "d.weight": (some(16, 20), "d.weight_scale", scales(16)),
        "e.gate_up_proj": (some(2, 4, 6), "e.gate_up_proj_scale", scales(2, 1, 6)),
        "f.weight": (some(4, 64), "f.weight_scale_inv",
                     torch.tensor([[0, 1], [127, 130], [100, 254], [255, 120]], dtype=torch.uint8)),
        "g.weight": (some(4, 64), "g.scale",
                     torch.tensor([[0, 1], [127, 130], [100, 254], [255, 120]],
                                  dtype=torch.uint8).view(E8M0)),
        "h.weight": (some(6, 10), "h.weight_scale_inv", scales(2, 3)),
        "i.weight": (some(3, 4, 4), "i.weight_scale_inv", scales(3)),
        # more scales than are read at once
        "j.weight": (some(2, 700), "j.weight_scale", scales(2, 700, dtype=torch.float16)),
    }
    tensors, expected = {}, {}
    for name, (weight, scale_name, scale) in pairs.items():
        tensors |= {name: weight, scale_name: scale}
        if name == "h.weight":
            grid = scale.repeat_interleave(4, 0).repeat_interleave(4, 1)[:6, :10]
            expected[name] = weight.float() * grid
        elif name == "i.weight":
            expected[name] = weight.float() * scale[:, None, None]
        else:
            if name == "d.weight":
                scale = scale[:, None]
            expected[name] = Fp8Dequantize(None)._dequantize_one(weight, scale, torch.float32)
    tensors["a.activation_scale"] = tensors["b.input_scale"] = torch.ones(1)
    tensors["e.gate_up_proj_activation_scale"] = torch.ones(2)
    tensors["norm.weight"] = expected["norm.weight"] = torch.ones(4)
    put("float8", tensors, expected, {"quant_method": "fp8", "weight_block_size": [4, 4]})


def mxfp4():
    generator = torch.Generator().manual_seed(4)
    tensors, expected = {}, {}
    for name, shape in (("gate_up_proj", (2, 6, 2)), ("down_proj", (3, 70, 3))):
        blocks = torch.randint(0, 256, (*shape, 16), generator=generator).to(torch.uint8)
        scales = torch.randint(110, 140, shape, generator=generator).to(torch.uint8)
        scales[0, 0, 0], scales[0, 1, 0], scales[0, 2, 1] = 0, 255, 254
        name = f"model.layers.0.mlp.experts.{name}"
        tensors |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
        expected[name] = convert_moe_packed_tensors(blocks, scales).float()
    tensors["down_proj_bias"] = expected["down_proj_bias"] = torch.ones(4)
    put("mxfp4", tensors, expected, {"quant_method": "mxfp4"})


float8()
mxfp4()
