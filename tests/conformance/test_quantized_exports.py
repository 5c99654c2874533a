"""Quantised exports against torchao: the same numbers, bit for bit, and the same logits."""

import copy
import json
import subprocess
import zipfile

import executorch.kernels.quantized  # noqa: F401  embedding_byte
import gguf
import numpy as np
import pytest
import torch
import torchao.quantization.quant_primitives  # noqa: F401  the ops that the programs call
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import (EdgeCompileConfig, ExecutorchBackendConfig,
                             to_edge_transform_and_lower)
from gguf import GGMLQuantizationType as T

import device
import reference
import test_gguf
import tiny
import torchao_models

N = 12
DTYPES = {2: torch.int8, 5: torch.int64, 6: torch.float16, 7: torch.float32, 13: torch.bfloat16}
FLAGS = dict(linear="quantize-linear", embedding="quantize-embedding", group="group-size",
             embedding_group="embedding-group-size", fallback="quantize-fallback")


@pytest.fixture(scope="session")
def quantised(build, tmp_path_factory):
    """quantised(folder, linear="8da4w", …, options=["--profile", "edge"]): (the .pt2, what
    pt2-export notes)."""
    out, count = tmp_path_factory.mktemp("quantised"), iter(range(10**6))

    def run(folder, *, options=(), dtype="float32", skip=(), **schemes):
        path = out / f"{next(count)}.pt2"
        command = [build / "pt2-export", folder, "-o", path, "--dtype", dtype, "--max-cache-len", "32",
                   *options, *(f"--skip={name}" for name in skip)]
        command += [f"--{FLAGS[key]}={value}" for key, value in schemes.items() if value is not None]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return path, done.stderr

    return run


def tensors(path):
    """{name: tensor} of the weights, read without torch.export, which takes seconds."""
    found = {}
    with zipfile.ZipFile(path) as z:
        root = z.namelist()[0].split("/")[0]
        table = json.loads(z.read(f"{root}/data/weights/model_weights_config.json"))["config"]
        for name, entry in table.items():
            meta = entry["tensor_meta"]
            data = bytearray(z.read(f"{root}/data/weights/{entry['path_name']}"))
            found[name] = torch.frombuffer(data, dtype=DTYPES[meta["dtype"]]).reshape(
                [size["as_int"] for size in meta["sizes"]])
    return found


def check_numbers(got, want):
    assert want and {name for name in got if ".parametrizations." in name} == want.keys()
    for name, tensor in want.items():
        assert got[name].dtype == tensor.dtype and got[name].shape == tensor.shape, name
        assert torch.equal(got[name], tensor), name


@pytest.fixture(scope="session")
def wide(tmp_path_factory):
    """Rows of 256 and 512."""
    return tiny.write("llama", dict(hidden_size=256, intermediate_size=512, num_hidden_layers=1),
                      tmp_path_factory.mktemp("wide"), seed=3)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("linear", ["8da4w", "8da8w", "8w", "4w"])
@pytest.mark.parametrize("group", [0, 32, 64, 128, 256])
def test_numbers_of_all_schemes(linear, group, dtype, wide, quantised):
    options = dict(linear=linear, group=group, embedding_group=group,
                   embedding="4w" if linear.endswith("4w") else "8w")
    path, _ = quantised(wide, dtype=dtype, **options)
    check_numbers(tensors(path), torchao_models.tensors(torchao_models.load(wide, dtype, **options)))


@pytest.mark.parametrize("case", ["qwen2-tied", *sorted(tiny.FAMILIES)])
def test_numbers_of_families(case, checkpoint, quantised):
    options = dict(linear="8da4w", fallback="8da8w", embedding="8w")
    path, _ = quantised(checkpoint(case), **options)
    check_numbers(tensors(path), torchao_models.tensors(torchao_models.load(checkpoint(case), **options)))


def test_what_is_skipped(checkpoint, quantised):
    options = dict(linear="8w", group=64, embedding="4w", embedding_group=32,
                   skip=["lm_head", "model.layers.1", "self_attn.o_proj"])
    path, notes = quantised(checkpoint("llama-biases"), **options)
    want = torchao_models.tensors(torchao_models.load(checkpoint("llama-biases"), **options))
    assert len(want) == 3 * (1 + 5)  # the table; q, k, v, gate and up of one layer
    check_numbers(tensors(path), want)
    assert "does not divide the rows of 1 of them ('model.layers.0.mlp.down_proj.weight': 96)" in notes


# ---- graphs ----

def differs(got, want, most):
    difference, largest = reference.largest_difference(got, want)
    assert difference <= most * largest, f"{difference} of {largest}"
    return f"{difference / largest:.1e} of the largest logit"


@pytest.mark.parametrize("case,linear,profile,dynamic", [
    ("llama-biases", "8da4w", "torch", True), ("llama-biases", "8da4w", "edge", False),
    ("qwen2-tied", "8w", "torch", False), ("gemma2", "4w", "edge", True),
    ("phi3", "8da8w", "edge", False), ("opt", "8w", "torch", False),
    ("qwen2_moe", "8da4w", "torch", True)])
def test_logits_are_torchaos(case, linear, profile, dynamic, checkpoint, quantised,
                             record_property):
    """Where tokens are rounded to 8 bits, another sum of theirs can go to the next number."""
    options = dict(linear=linear, embedding="8w", fallback="8w")
    flags = ["--profile", profile, *(["--dynamic-shapes"] if dynamic else [])]
    path, _ = quantised(checkpoint(case), options=flags, **options)
    ids = tiny.ids(1, N)
    want = torchao_models.logits(torchao_models.load(checkpoint(case), **options), ids)
    got = reference.run_program(path, ids, [7, 1, 4] if dynamic else None)
    record_property("measured", differs(got, want, 2e-2 if linear.startswith("8da") else 1e-5))


@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.nightly)])
def test_program_is_pythons(dtype, checkpoint, quantised, tmp_path):
    """Names, signature, nodes of torchao's and their arguments, and all logits to the bit."""
    options = dict(linear="8da4w", embedding="8w")
    folder = checkpoint("llama-biases")
    ours = torch.export.load(str(quantised(folder, dtype=dtype, **options)[0]))
    theirs = torch.export.load(str(torchao_models.python_export(
        folder, tmp_path / "python.pt2", dtype, **options)))
    parameters = [[(s.arg.name, s.target) for s in p.graph_signature.input_specs
                   if s.kind.name == "PARAMETER"] for p in (ours, theirs)]
    assert parameters[0] == parameters[1]
    for name, tensor in theirs.state_dict.items():
        assert torch.equal(ours.state_dict[name], tensor), name
        assert ours.state_dict[name].requires_grad == tensor.requires_grad, name
    calls = [[(str(n.target), str([a if not isinstance(a, torch.fx.Node) else
                                   a.name if a.op == "placeholder" else "node" for a in n.args]),
               str(n.kwargs), str([(v.dtype, tuple(v.shape)) for v in
                                   (n.meta["val"] if isinstance(n.meta["val"], tuple) else [n.meta["val"]])]))
              for n in p.graph.nodes if "torchao" in str(n.target)] for p in (ours, theirs)]
    assert len(calls[0]) == 1 + 15 * 4 and calls[0] == calls[1]
    ids = tiny.ids(1, N)
    if dtype == "float32":
        assert torch.equal(reference.run_program(ours, ids), reference.run_program(theirs, ids))


# ---- ExecuTorch ----

def lower(path):
    edge = to_edge_transform_and_lower(
        torch.export.load(str(path)), partitioner=[XnnpackPartitioner()],
        compile_config=EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True))
    return edge.to_executorch(ExecutorchBackendConfig(do_quant_fusion_and_const_prop=True))


@pytest.mark.parametrize("linear,group", [
    ("8da4w", 32), pytest.param("8da8w", 0, marks=pytest.mark.nightly)])
def test_edge_lowers_to_xnnpack(linear, group, quantised, tmp_path, record_property):
    """All linears are XNNPACK's, the table is embedding_byte's (of Python's only where it has no
    padding_idx, which ExecuTorch's pattern does not take); the logits are those of Python's
    own program there.  XNNPACK rounds scales to bfloat16, so torch's are a little others."""
    folder = tiny.write("llama", dict(num_hidden_layers=1, tie_word_embeddings=True, pad_token_id=None),
                        tmp_path / "llama", seed=5)
    options = dict(linear=linear, group=group, embedding="8w")
    path, _ = quantised(folder, options=["--profile", "edge"], **options)
    ours, ids = lower(path), tiny.ids(1, N)
    theirs = lower(torchao_models.python_export(folder, tmp_path / "python.pt2", **options))
    plan = ours.executorch_program.execution_plan[0]
    kernels = {operator.name for operator in plan.operators}
    assert "quantized_decomposed::embedding_byte" in kernels
    assert not any("linear" in name or "mm" in name or "affine" in name for name in kernels)
    assert device.pieces(ours)[1] < device.pieces(theirs)[1]
    got = device.run(bytes(ours.buffer), ids)
    record_property("measured", differs(got, device.run(bytes(theirs.buffer), ids), 1e-2) +
                    " from Python's, " + differs(got, reference.run_program(path, ids), 5e-2) +
                    " from torch's")


# ---- GGUF ----

def groups(path, name):
    """The numbers and scales of a stored tensor."""
    tensor = next(t for t in gguf.GGUFReader(path).tensors if t.name == name)
    rows, cols = int(tensor.shape[1]), int(tensor.shape[0])
    blocks = np.asarray(tensor.data).reshape(rows, cols // 32, -1)
    scales = blocks[..., :2].copy().view(np.float16)[..., 0].astype(np.float32)
    if tensor.tensor_type == T.Q8_0:
        return blocks[..., 2:].view(np.int8).reshape(rows, cols), scales
    low, high = blocks[..., 2:] & 15, blocks[..., 2:] >> 4
    return (np.concatenate([low, high], -1).astype(np.int8) - 8).reshape(rows, cols), scales


@pytest.mark.parametrize("kind,linear,embedding", [
    (T.Q8_0, "8da8w", "8w"), (T.Q4_0, "8da4w", "4w"), (T.Q4_0, "8w", "8w")], ids=str)
def test_gguf_keeps_its_bits(kind, linear, embedding, quantised, tmp_path):
    model = test_gguf.write(tmp_path / "m.gguf", "llama", kinds=[kind])
    path, notes = quantised(model, linear=linear, embedding=embedding, embedding_group=32)
    assert "16 weights keep the numbers and scales" in notes and "made anew" not in notes
    got, floats = tensors(path), test_gguf.load(model).state_dict()
    for name in [name for name in got if name.endswith("original0")]:
        numbers, scales = got[name], got[name[:-1] + "1"].repeat_interleave(32, 1)
        plain = name.removeprefix("model.").replace("parametrizations.weight.original0", "weight")
        assert torch.equal(numbers.float() * scales, floats[plain]), name
    for ours, theirs in (("model.embed_tokens", "token_embd"), ("lm_head", "output"),
                         ("model.layers.1.mlp.down_proj", "blk.1.ffn_down")):
        values, scales = groups(model, theirs + ".weight")
        stem = f"model.{ours}.parametrizations.weight.original"
        assert np.array_equal(got[stem + "0"].numpy(), values), ours
        assert np.array_equal(got[stem + "1"].numpy(), scales), ours


@pytest.mark.parametrize("kind,options", [
    (T.Q8_0, dict(linear="8da4w", embedding="8w")),                       # of 8 bits, a row
    (T.Q8_0, dict(linear="8w", group=64)),
    (T.Q8_0, dict(linear="8w", dtype="bfloat16")),
    (T.Q4_0, dict(linear="8da4w", options=["--profile", "edge"])),        # negative scales
    (T.Q4_1, dict(linear="8da4w", embedding="4w", embedding_group=32))], ids=str)
def test_gguf_from_floats(kind, options, quantised, tmp_path):
    model = test_gguf.write(tmp_path / "m.gguf", "llama", kinds=[kind])
    path, notes = quantised(model, **options)
    assert "keep the numbers" not in notes and ("made anew" in notes) == (kind != T.Q4_1)
    options = {key: value for key, value in options.items() if key != "options"}
    dtype = options.pop("dtype", "float32")
    want = torchao_models.quantise(copy.deepcopy(test_gguf.load(model, dtype)), **options)
    check_numbers(tensors(path), torchao_models.tensors(want))
