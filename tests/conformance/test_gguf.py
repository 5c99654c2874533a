"""GGUF files, exported by pt2-export, against Transformers' from_pretrained(gguf_file=...).

The files are random, written by the gguf package."""

import functools
import json
import pathlib
import subprocess
import zipfile

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as T
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

import reference
import tiny

DATA = pathlib.Path(__file__).resolve().parents[1] / "data/gguf"
N = 24  # positions


def write(path, arch, kinds=(T.F32,), tied=False, biases=False, kv_heads=2, theta=10000.0):
    """A random decoder of two layers; matrices take one of the kinds after the other."""
    rng = np.random.default_rng(len(path.name))
    writer = gguf.GGUFWriter(path, arch)
    writer.add_block_count(2)
    writer.add_context_length(64)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_head_count_kv(kv_heads)
    writer.add_vocab_size(256)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(theta)
    if arch == "llama":
        writer.add_rope_dimension_count(16)
    count = iter(range(10**6))

    def add(name, *shape):
        values = rng.normal(0, 0.1, shape).astype(np.float32) + ("norm" in name)
        kind = kinds[next(count) % len(kinds)] if len(shape) == 2 else T.F32
        if kind in (T.F32, T.F16):
            writer.add_tensor(name, values.astype(np.float16 if kind == T.F16 else np.float32))
        else:
            writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)

    add("token_embd.weight", 256, 64)
    for i in range(2):
        for name, *shape in (("attn_norm", 64), ("attn_q", 64, 64), ("attn_k", 16 * kv_heads, 64),
                             ("attn_v", 16 * kv_heads, 64), ("attn_output", 64, 64),
                             ("ffn_norm", 64), ("ffn_gate", 96, 64), ("ffn_up", 96, 64),
                             ("ffn_down", 64, 96)):
            add(f"blk.{i}.{name}.weight", *shape)
            if biases and name in ("attn_q", "attn_k", "attn_v"):
                add(f"blk.{i}.{name}.bias", shape[0])
    add("output_norm.weight", 64)
    if not tied:
        add("output.weight", 256, 64)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


CASES = {
    "llama-f32": dict(arch="llama"),
    "llama-f16": dict(arch="llama", kinds=[T.F16]),
    "llama-bf16": dict(arch="llama", kinds=[T.BF16]),
    "llama-q8_0-tied": dict(arch="llama", kinds=[T.Q8_0], tied=True),
    "llama-mixed": dict(arch="llama", kinds=[T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0], kv_heads=4),
    "llama-mqa": dict(arch="llama", kinds=[T.Q4_1], kv_heads=1, theta=500000.0),
    "qwen2-f32": dict(arch="qwen2", biases=True, theta=1e6),
    "qwen2-q5_1-tied": dict(arch="qwen2", kinds=[T.Q5_1], biases=True, tied=True),
}


@functools.lru_cache(maxsize=2)
def load(path, dtype="float32"):
    return AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=reference.DTYPES[dtype],
        attn_implementation="eager").eval()


def export(build, source, path, *options):
    done = subprocess.run([build / "pt2-export", source, "-o", path, "--max-cache-len", "32",
                           *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture(params=CASES)
def model(request, tmp_path):
    return write(tmp_path / f"{request.param}.gguf", **CASES[request.param])


def test_weights_and_logits_are_transformers(model, build, tmp_path, record_property):
    path = export(build, model, tmp_path / "out.pt2", "--dtype", "float32")
    program = torch.export.load(str(path))
    want = load(model)
    for name, weight in want.named_parameters():
        assert torch.equal(program.state_dict["model." + name], weight), name
    ids = tiny.ids(1, N)
    with torch.no_grad():
        logits = want(torch.tensor(ids), use_cache=False).logits.double()
    worst, largest = reference.largest_difference(reference.run_program(program, ids), logits)
    assert worst <= 1e-5 * largest, f"{worst} of {largest}"
    record_property("measured", f"{worst / largest:.1e} of the largest logit")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_are_rounded_as_torch_rounds(dtype, build, tmp_path):
    model = write(tmp_path / "m.gguf", **CASES["llama-mixed"])
    path = export(build, tmp_path, tmp_path / "out.pt2", "--dtype", dtype)  # the folder of it
    program = torch.export.load(str(path))
    for name, weight in load(model).named_parameters():
        got = program.state_dict["model." + name]
        assert torch.equal(got, weight.to(reference.DTYPES[dtype])), name


@pytest.mark.parametrize("case,dtype", [("llama-f16", "float16"), ("llama-bf16", "bfloat16"),
                                        ("llama-f32", "float32"), ("llama-mixed", "float32")])
def test_the_files_own_dtype_is_the_default(case, dtype, build, tmp_path):
    model = write(tmp_path / "m.gguf", **CASES[case])
    program = torch.export.load(str(export(build, model, tmp_path / "out.pt2")))
    weight = program.state_dict["model.model.layers.0.self_attn.q_proj.weight"]
    assert weight.dtype == reference.DTYPES[dtype]


# ---- tokenizers ----

TEXTS = ["the the", " the  hen in a", "a\n\n1 <think>the", "h\u00e4 \u20ac <|end|>", ""]


def without(tokenizer, *names):
    return {k: v for k, v in tokenizer.items() if k not in names}


@pytest.mark.parametrize("name,differs", [("llama", ["pre_tokenizer", "post_processor"]),
                                          ("sentences", ["post_processor"])])
def test_tokenizers_are_transformers(name, differs, build, tmp_path):
    """But for what the file says and Transformers leaves out: see doc/exports.md."""
    source = DATA / f"{name}.gguf"
    made = subprocess.run([build / "gguf-dump", source, "tokenizer.json"], check=True,
                          capture_output=True).stdout
    theirs = AutoTokenizer.from_pretrained(DATA, gguf_file=source.name)
    want = json.loads(theirs.backend_tokenizer.to_str())
    assert without(json.loads(made), *differs) == without(want, *differs)
    ours = Tokenizer.from_str(made.decode())
    for text in TEXTS:
        ids = ours.encode(text, add_special_tokens=False).ids
        assert ids == theirs(text, add_special_tokens=False).input_ids, text
        assert ours.encode(text).ids == [theirs.bos_token_id, *ids], text


def write_vocabulary(path, arch, model, tokens, types, pre=None, scores=None, merges=None, **ids):
    writer = gguf.GGUFWriter(path, arch)
    writer.add_block_count(1)
    writer.add_tokenizer_model(model)
    if pre:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if scores:
        writer.add_token_scores(scores)
    if merges:
        writer.add_token_merges(merges)
    for name, value in ids.items():
        getattr(writer, "add_" + name)(value)
    writer.add_tensor("token_embd.weight", np.zeros((len(tokens), 8), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def both_tokenizers(build, path):
    """(ours, Transformers'), the post-processor left out."""
    made = subprocess.run([build / "gguf-dump", path, "tokenizer.json"], check=True,
                          capture_output=True).stdout
    theirs = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    return (without(json.loads(made), "post_processor"),
            without(json.loads(theirs.backend_tokenizer.to_str()), "post_processor"))


@pytest.mark.parametrize("pre", [None, "gpt-2", "llama-bpe", "smaug-bpe", "qwen2",
                                 "deepseek-r1-qwen", "tekken", "gpt-4o", "llama4"])
def test_byte_level_patterns_are_transformers(pre, build, tmp_path):
    path = tmp_path / "m.gguf"
    tokens = ["<|endoftext|>", "<a b>", *(bytes_to_unicode().values()), "he"]
    types = [3, 4] + [1] * 257
    write_vocabulary(path, "llama", "gpt2", tokens, types, pre=pre, merges=["h e"],
                     eos_token_id=0)
    ours, theirs = both_tokenizers(build, path)
    if ours["model"].pop("ignore_merges"):  # as llama.cpp has it, where Transformers doesn't
        assert pre == "llama-bpe"
    theirs["model"].pop("ignore_merges")
    assert ours == theirs


@pytest.mark.parametrize("arch", ["llama", "phi3", "gemma2"])
def test_sentencepiece_is_transformers(arch, build, tmp_path):
    path = tmp_path / "m.gguf"
    pieces = ["\u2581t", "he", "\u2581the", "in", "\u2581", "t", "h", "e", "i", "n", "  ", "    "]
    # All that the class there would add of itself is there.
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    if arch != "gemma2":
        special = ["<pad>", "</s>", "<s>", "<unk>", "<mask>"]
    tokens = [*special, *(f"<0x{b:02X}>" for b in range(256)), *pieces]
    types = [3] * 5 + [6] * 256 + [1] * 10 + [4] * 2
    write_vocabulary(path, arch, "llama", tokens, types, scores=[-float(i) for i in range(273)],
                     bos_token_id=2, eos_token_id=1, unk_token_id=3, pad_token_id=0)
    ours, theirs = both_tokenizers(build, path)
    assert ours == theirs


def test_what_goes_along(build, tmp_path):
    source = DATA / "llama.gguf"
    archive = zipfile.ZipFile(export(build, source, tmp_path / "out.pt2"))
    records = {n.split("/extra/")[1]: archive.read(n).decode() for n in archive.namelist()
               if "/extra/" in n}
    assert sorted(records) == ["chat_template.jinja", "config.json", "executorch_metadata.json",
                               "tokenizer.json", "tokenizer_config.json"]
    folder = tmp_path / "along"
    folder.mkdir()
    for name, text in records.items():
        (folder / name).write_text(text)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1)
    chat = [{"role": "user", "content": "the"}]
    assert tokenizer.apply_chat_template(chat, tokenize=False) == "<|endoftext|>the<|end|>"
    assert json.loads(records["executorch_metadata.json"])["get_eos_ids"] == [1]
