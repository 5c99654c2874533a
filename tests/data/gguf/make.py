#!/usr/bin/env python3
"""Write the files of this folder, by the gguf package (0.19) and numpy:

quants.gguf      a tensor of random blocks for each quantisation that is read, and beside it
                 "<name>.values", F32: what gguf.quants.dequantize makes of it
llama.gguf       a random llama of two layers in Q8_0, Q4_0 and F32, with a byte-level tokenizer
sentences.gguf   the metadata of a SentencePiece tokenizer whose merges follow from its scores

usage: make.py        (in this folder)
"""
import pathlib
import warnings

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T

HERE = pathlib.Path(__file__).resolve().parent
TYPES = [T.F16, T.BF16, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K,
         T.Q6_K, T.IQ4_NL]
ROWS, COLUMNS = 3, 512


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def random_blocks(rng, kind):
    """(ROWS, bytes of a row), such that all values are finite: float16 scales may not be."""
    elements, bytes_ = gguf.GGML_QUANT_SIZES[kind]
    rows = []
    while len(rows) < ROWS * COLUMNS // elements:
        block = rng.integers(0, 256, size=(1, bytes_), dtype=np.uint8)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if np.isfinite(gguf.dequantize(block, kind).astype(np.float32)).all():
                rows.append(block)
    return np.concatenate(rows).reshape(ROWS, -1)


def quants():
    rng = np.random.default_rng(1)
    writer = gguf.GGUFWriter(HERE / "quants.gguf", "llama")
    for kind in TYPES:
        blocks = random_blocks(rng, kind)
        values = gguf.dequantize(blocks, kind).astype(np.float32)
        writer.add_tensor(kind.name, blocks, raw_dtype=kind)
        writer.add_tensor(kind.name + ".values", values)
    finish(writer)


def byte_alphabet():
    """GPT-2's characters for bytes, and its order of them."""
    printable = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
    rest = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(0x100 + i) for i in range(len(rest))]


def add_llama(writer, vocab):
    writer.add_block_count(2)
    writer.add_context_length(64)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_dimension_count(16)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(vocab)


def llama():
    rng = np.random.default_rng(2)
    tokens = ["<|endoftext|>", "<|end|>", "<think>", *byte_alphabet(), "\u0120t", "he", "\u0120the"]
    writer = gguf.GGUFWriter(HERE / "llama.gguf", "llama")
    add_llama(writer, len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 4] + [1] * (len(tokens) - 3))
    writer.add_token_merges(["\u0120 t", "h e", "\u0120t he"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_add_bos_token(True)
    writer.add_chat_template("{% for m in messages %}<|endoftext|>{{ m.content }}<|end|>{% endfor %}")

    def add(name, *shape, kind=None):
        values = rng.normal(0, 0.1, shape).astype(np.float32) + (len(shape) == 1)
        if kind is None:
            writer.add_tensor(name, values)
        else:
            writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)

    add("token_embd.weight", len(tokens), 64, kind=T.Q8_0)
    for i in range(2):
        add(f"blk.{i}.attn_norm.weight", 64)
        add(f"blk.{i}.attn_q.weight", 64, 64, kind=T.Q4_0)
        add(f"blk.{i}.attn_k.weight", 32, 64, kind=T.Q4_0)
        add(f"blk.{i}.attn_v.weight", 32, 64, kind=T.Q4_0)
        add(f"blk.{i}.attn_output.weight", 64, 64, kind=T.Q4_0)
        add(f"blk.{i}.ffn_norm.weight", 64)
        add(f"blk.{i}.ffn_gate.weight", 96, 64, kind=T.Q4_0)
        add(f"blk.{i}.ffn_up.weight", 96, 64, kind=T.Q4_0)
        add(f"blk.{i}.ffn_down.weight", 64, 96, kind=T.Q4_0)
    add("output_norm.weight", 64)
    finish(writer)


def sentences():
    pieces = ["\u2581t", "he", "\u2581the", "\u2581a", "in", "\u2581", "t", "h", "e", "a", "i", "n",
              "\u00e4", '"']
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *pieces]
    writer = gguf.GGUFWriter(HERE / "sentences.gguf", "llama")
    add_llama(writer, len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_types([2, 3, 3] + [6] * 256 + [1] * len(pieces))
    writer.add_token_scores([0.0] * 259 + [-float(i) for i in range(len(pieces))])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    finish(writer)


if __name__ == "__main__":
    quants()
    llama()
    sentences()
