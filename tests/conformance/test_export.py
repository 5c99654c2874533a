"""Our exports in a bare torch: they load, and say what eager Transformers says.

float32: the largest difference at most 1e-5 of the largest logit.  Half precisions: an
error against a float64 run at most 1.25 times Transformers' own."""

import hashlib
import json
import subprocess
import sys

import pytest
import torch

import reference
import tiny

N = 24  # positions: beyond every window and beyond yarn's and llama3's original length


def compare(path, folder, ids, chunks=None, attn="eager"):
    got = reference.run_program(path, ids, chunks)
    want = reference.eager_logits(folder, ids, attn=attn)
    difference, largest = reference.largest_difference(got, want)
    assert difference <= 1e-5 * largest, f"{difference} of {largest}"
    return f"{difference / largest:.1e} of the largest logit"


def compare_half(case, dtype, export, tmp_path):
    """Weights that the half type holds exactly, so that rounding them is no part of it."""
    folder = tiny.make(case, tmp_path / case, dtype=reference.DTYPES[dtype])
    ours = theirs = 0.0
    path = export(folder, dtype=dtype)
    for seed in range(4):
        ids = tiny.ids(1, N, seed)
        exact = reference.exact_logits(folder, ids)
        ours += reference.rms(reference.run_program(path, ids), exact)
        theirs += reference.rms(
            reference.eager_logits(folder, ids, dtype, tiny.attn_of_half(case)), exact)
    assert ours <= 1.25 * theirs, f"{ours} against {theirs}"
    return f"{ours / theirs:.2f} times Transformers' error"


@pytest.mark.parametrize("case", tiny.CASES)
def test_float32_token_by_token(case, checkpoint, export, record_property):
    folder = checkpoint(case)
    record_property("measured", compare(export(folder), folder, tiny.ids(1, N)))


@pytest.mark.parametrize("case", tiny.CASES)
def test_float32_dynamic(case, checkpoint, export, record_property):
    folder = checkpoint(case)
    path = export(folder, batch_size=2, dynamic=True)
    record_property("measured", compare(path, folder, tiny.ids(2, N), [9, 1, 13, 1]))


@pytest.mark.parametrize("case", ["llama", "mistral-window", "qwen2-window"])
def test_float32_batch_and_sequence(case, checkpoint, export, record_property):
    folder = checkpoint(case)
    path = export(folder, batch_size=3, seq_len=4)
    record_property("measured", compare(path, folder, tiny.ids(3, N), [4] * (N // 4)))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("case", ["llama", "llama-biases", "llama-yarn", "mistral-window",
                                  "qwen2-window", "qwen2-tied"])
def test_half_precision(case, dtype, export, tmp_path, record_property):
    record_property("measured", compare_half(case, dtype, export, tmp_path))


@pytest.mark.parametrize("case", ["llama", "qwen2_moe"])
def test_a_bare_torch_loads_it(case, checkpoint, export):
    """In a process that has imported nothing but torch."""
    code = ("import sys, torch; program = torch.export.load(sys.argv[1]); "
            "out = program.module()(input_ids=torch.tensor([[1]]), "
            "cache_position=torch.tensor([0])); "
            "assert 'transformers' not in sys.modules; print(tuple(out.shape))")
    path = export(checkpoint(case))
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(1, 1, 256)"


@pytest.mark.parametrize("save", [dict(max_shard_size="60KB")])
def test_sharded_is_the_same_program(save, checkpoint, export, tmp_path):
    whole = checkpoint("llama")
    sharded = tiny.make("llama", tmp_path / "sharded", **save)
    assert len(list(sharded.glob("*.safetensors"))) > 2
    ids = tiny.ids(1, 8)
    got = reference.run_program(export(sharded), ids)
    assert torch.equal(got, reference.run_program(export(whole), ids))


def test_same_input_same_bytes(checkpoint, export):
    folder = checkpoint("qwen2-tied")
    assert export(folder).read_bytes() == export(folder).read_bytes()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_are_rounded_as_torch_rounds(dtype, checkpoint, export):
    folder = checkpoint("llama")
    program = torch.export.load(str(export(folder, dtype=dtype)))
    model = reference.load(str(folder), "float32")
    for name, weight in model.named_parameters():
        got = program.state_dict["model." + name]
        assert torch.equal(got, weight.to(reference.DTYPES[dtype])), name


def test_verified_archives_are_archives(checkpoint, export, build, tmp_path):
    """The record that was added behind the others: torch reads it, and the program is the
    same."""
    folder, path = checkpoint("llama"), tmp_path / "verified.pt2"
    subprocess.run([build / "pt2-export", folder, "-o", path, "--dtype", "float32",
                    "--max-cache-len", "32", "--dynamic-shapes", "--verify", "8"], check=True)
    plain = export(folder, dynamic=True)
    extra = {"verify.json": "", "config.json": ""}
    torch.export.load(path, extra_files=extra)
    record = json.loads(extra["verify.json"])
    assert record["tokens"] == 8 and record["runs"]["aten_at_once"]["rows"] == 8, record
    assert record["program"] == hashlib.sha256(plain.read_bytes()).hexdigest()
    assert extra["config.json"] == (folder / "config.json").read_text()
    ids = tiny.ids(1, N)
    assert torch.equal(reference.run_program(path, ids), reference.run_program(plain, ids))
