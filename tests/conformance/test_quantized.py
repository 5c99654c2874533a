"""Quantised checkpoints: the exported weights are Transformers' dequantised ones, bit for bit."""

import importlib.util
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import reference
import tiny

E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2
FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic"}


def blocks(weight, rows, cols, scale_of=lambda scale: scale):
    """(float8 weight, one scale for each block of rows x cols)."""
    tiles = weight.reshape(weight.shape[0] // rows, rows, weight.shape[1] // cols, cols)
    scale = scale_of(tiles.abs().amax((1, 3)) / torch.finfo(E4M3).max)
    return (tiles / scale[:, None, :, None]).reshape(weight.shape).to(E4M3), scale


def power_of_two(scale):
    return scale.log2().ceil().exp2()


def by_blocks(name, weight):
    weight, scale = blocks(weight, 16, 32)
    return {name: weight, f"{name}_scale_inv": scale}


def by_blocks_e8m0(name, weight):
    weight, scale = blocks(weight, 16, 32, power_of_two)
    return {name: weight, f"{name}_scale_inv": scale.to(torch.float8_e8m0fnu)}


def by_tensor(name, weight):
    weight, scale = blocks(weight, *weight.shape)
    return {name: weight, f"{name}_scale_inv": scale.reshape(()),
            name.replace("weight", "activation_scale"): torch.tensor(0.5)}


def by_groups(name, weight):
    weight, scale = blocks(weight, 1, 32, power_of_two)
    return {name: weight, f"{name}_scale_inv": (scale.log2() + 127).to(torch.uint8)}


def by_rows(name, weight):
    weight, scale = blocks(weight, 1, weight.shape[1])
    return {name: weight, f"{name}_scale": scale.to(torch.bfloat16)}


def plain(name, weight):
    return {name: weight.to(E5M2 if "mlp" in name else E4M3)}


COMPRESSED = {
    "quant_method": "compressed-tensors", "format": "float-quantized", "ignore": ["lm_head"],
    "quantization_status": "compressed",
    "config_groups": {"group_0": {
        "targets": ["Linear"],
        "weights": {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True},
        "input_activations": {"num_bits": 8, "type": "float", "strategy": "token",
                              "dynamic": True, "symmetric": True}}}}
CASES = {
    "blocks": (by_blocks, FP8 | {"weight_block_size": [16, 32]}),
    "blocks-e8m0": (by_blocks_e8m0, FP8 | {"weight_block_size": [16, 32], "scale_fmt": "ue8m0"}),
    "tensor-static": (by_tensor, FP8 | {"weight_block_size": None,
                                        "activation_scheme": "static"}),
    "mxfp8": (by_groups, FP8 | {"quant_method": "mxfp8", "weight_block_size": [1, 32]}),
    "compressed-tensors": (by_rows, COMPRESSED),
    "plain": (plain, None),
}


def quantise(case, folder):
    """A tiny llama with its layers' matrices quantised."""
    quantiser, config = CASES[case]
    tiny.make("llama", folder, torch.bfloat16)
    tensors = {}
    for name, weight in load_file(folder / "model.safetensors").items():
        is_linear = "proj" in name
        tensors |= quantiser(name, weight.float()) if is_linear else {name: weight}
    save_file({name: t.contiguous() for name, t in tensors.items()},
              folder / "model.safetensors", {"format": "pt"})
    if config:
        said = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(said | {"quantization_config": config}))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("case", CASES)
def test_weights_are_transformers(case, dtype, export, tmp_path):
    if case == "compressed-tensors" and not importlib.util.find_spec("compressed_tensors"):
        pytest.skip("no compressed-tensors package")
    folder = tmp_path / case
    quantise(case, folder)
    more = {}
    if case == "compressed-tensors":
        from transformers import CompressedTensorsConfig
        more["quantization_config"] = CompressedTensorsConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=reference.DTYPES[dtype], **more)
    want = model.state_dict()
    got = torch.export.load(str(export(folder, dtype=dtype))).state_dict
    assert len([name for name in want if "_scale" not in name]) == len(got)
    for name, tensor in got.items():
        other = want[name.removeprefix("model.")]
        assert tensor.dtype == other.dtype == reference.DTYPES[dtype], name
        assert torch.equal(tensor, other), name
