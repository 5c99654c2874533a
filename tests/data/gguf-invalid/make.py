#!/usr/bin/env python3
"""Write the cases of this folder: <case>/, a GGUF model with one thing wrong with it, and
<case>/error: the error's name, then a text that its message must hold.

usage: python3 make.py        (in this folder; needs nothing but Python)
"""
import pathlib, shutil, struct

HERE = pathlib.Path(__file__).resolve().parent
U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
FORMATS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B",
           U64: "Q", I64: "q", F64: "d"}


def s(text):
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(data)) + data


def value(kind, x):
    return s(x) if kind == STRING else struct.pack("<" + FORMATS[kind], x)


def kv(key, kind, x):
    return s(key) + struct.pack("<I", kind) + value(kind, x)


def array(key, kind, items, n=None):
    return (s(key) + struct.pack("<IIQ", ARRAY, kind, len(items) if n is None else n)
            + b"".join(value(kind, x) for x in items))


def tensor(name="token_embd.weight", sizes=(8, 4), kind=0, offset=0, n_dims=None):
    return (s(name) + struct.pack("<I", len(sizes) if n_dims is None else n_dims)
            + struct.pack(f"<{len(sizes)}Q", *sizes) + struct.pack("<IQ", kind, offset))


ARCH = kv("general.architecture", STRING, "llama")
HEADS = kv("llama.attention.head_count", U32, 2)
T = tensor()


def gguf(values=(ARCH,), tensors=(T,), data=128, magic=b"GGUF", version=3, n_values=None,
         n_tensors=None, alignment=32):
    """A file: data zeros behind the padding."""
    head = magic + struct.pack("<IQQ", version, len(tensors) if n_tensors is None else n_tensors,
                               len(values) if n_values is None else n_values)
    head += b"".join(values) + b"".join(tensors)
    return head + bytes(-len(head) % alignment) + bytes(data)


def one(*args, **kw):
    return {"model.gguf": gguf(*args, **kw)}


def values(*more):
    return one((ARCH, *more))


def first_part(no=0, count=2, tensors=(T,)):
    return gguf((ARCH, kv("split.no", U16, no), kv("split.count", U16, count)), tensors)


PARTS = "m-0000%d-of-00002.gguf"
good = gguf()
# name: (files, text) of bad-checkpoint, or (files, text, error)
cases = {
    # the file
    "empty": ({"model.gguf": b""}, "'model.gguf', byte 0: 4 bytes are expected"),
    "magic": (one(magic=b"GGML"), "'model.gguf' is not a GGUF file"),
    "version-1": (one(version=1), "version 1; 2 and 3 are read"),
    "big-endian": (one(version=3 << 24), "version 50331648"),
    "cut-in-the-counts": ({"model.gguf": good[:20]}, "byte 16: 8 bytes are expected, and the file ends at 20"),
    "values-too-many": (one(n_values=70000), "70000 metadata values, at most 65536"),
    "values-huge": (one(n_values=(1 << 64) - 1), "at most 65536"),
    "tensors-huge": (one(n_tensors=(1 << 64) - 1, data=0), "bytes are expected"),
    "one-tensor-too-few": (one(n_tensors=2, data=0), "bytes are expected"),
    # metadata
    "key-empty": (values(kv("", U8, 1)), "a key must have 1 to 256 bytes, not 0"),
    "key-long": (values(kv("k" * 257, U8, 1)), "not 257"),
    "key-not-utf8": (values(kv(b"\xff", U8, 1)), "a key is not UTF-8"),
    "key-with-a-nul": (values(kv(b"a\0b", U8, 1)), "a key is not UTF-8"),
    "key-twice": (values(kv("a", U8, 1), kv("a", U8, 1)), "'a' is there twice"),
    "type-unknown": (values(s("a") + struct.pack("<I", 13)), "'a' is of type 13, which there is not"),
    "bool-of-2": (values(kv("a", BOOL, 2)), "'a' is a bool of value 2"),
    "string-beyond-the-file": (values(s("a") + struct.pack("<IQ", STRING, 1 << 40)), "1099511627776 bytes are expected"),
    "string-overflows": (values(s("a") + struct.pack("<IQ", STRING, (1 << 64) - 1)), "18446744073709551615 bytes are expected"),
    "array-of-arrays": (values(s("a") + struct.pack("<IIQ", ARRAY, ARRAY, 1)), "'a' is an array of arrays"),
    "array-type-unknown": (values(s("a") + struct.pack("<IIQ", ARRAY, 99, 1)), "'a' is of type 99"),
    "array-overflows": (values(array("a", F64, [], n=1 << 61)), "18446744073709551615 bytes are expected"),
    "array-beyond-the-file": (values(array("a", U32, [], n=1 << 20)), "4194304 bytes are expected"),
    "array-of-strings-cut": (values(array("a", STRING, ["x"], n=1 << 50)), "bytes are expected"),
    "arch-missing": (one((kv("a", U8, 1),)), "general.architecture must be a name"),
    "arch-a-number": (one((kv("general.architecture", U32, 1),)), "general.architecture must be a name"),
    "arch-not-utf8": (one((kv("general.architecture", STRING, b"\xff"),)), "general.architecture is not UTF-8"),
    "arch-unknown": (one((kv("general.architecture", STRING, "mamba"),)),
                     "'model.gguf' is of architecture 'mamba'; read from GGUF are llama, qwen2", "not-exportable"),
    "alignment-zero": (values(kv("general.alignment", U32, 0)), "general.alignment must be a multiple of 8"),
    "alignment-odd": (values(kv("general.alignment", U32, 33)), "general.alignment must be a multiple of 8"),
    "alignment-a-string": (values(kv("general.alignment", STRING, "32")), "general.alignment must be a multiple of 8"),
    # fields of the config
    "count-a-string": (values(kv("llama.block_count", STRING, "2")), "metadata 'llama.block_count' must be a finite number"),
    "number-not-finite": (values(kv("llama.rope.freq_base", F32, float("inf"))), "metadata 'llama.rope.freq_base' must be a finite number"),
    "heads-differ": (values(array("llama.attention.head_count_kv", U32, [2, 1])),
                     "metadata 'llama.attention.head_count_kv' is an array: layers that differ", "not-exportable"),
    "scaling-unknown": (values(kv("llama.rope.scaling.type", STRING, "spiral")),
                        "'llama.rope.scaling.type' is neither none, linear nor yarn", "not-exportable"),
    "scaling-a-number": (values(kv("llama.rope.scaling.type", U32, 1)), "'llama.rope.scaling.type' must be a string"),
    "longrope-without-factors": (values(kv("llama.rope.scaling.type", STRING, "longrope")), "no 'rope_factors_*.weight' are there", "not-exportable"),
    "rope-factors-of-one-kind": (one(tensors=(tensor("rope_factors_long.weight", (4,)),)), "one is missing"),
    "rope-freqs-not-llama3s": (one((ARCH, kv("llama.rope.freq_base", F32, 5e5)), (tensor("rope_freqs.weight", (4,)),)),
                               "tensor 'rope_freqs.weight' holds other factors", "not-exportable"),
    "rope-freqs-halves": (one(tensors=(tensor("rope_freqs.weight", (4,), 1),)), "must be at most 4096 of F32"),
    # one tensor
    "name-empty": (one(tensors=(tensor(""),)), "a tensor's name must have 1 to 256 bytes"),
    "name-long": (one(tensors=(tensor("t" * 300),)), "a tensor's name must have 1 to 256 bytes"),
    "name-twice": (one(tensors=(T, tensor(offset=128)), data=256), "tensor 'model.embed_tokens.weight' is there twice"),
    "dimensions-none": (one(tensors=(tensor(sizes=()),)), "has 0 dimensions; 1 to 4 are read"),
    "dimensions-many": (one(tensors=(tensor(sizes=(1,) * 5),)), "has 5 dimensions"),
    "size-zero": (one(tensors=(tensor(sizes=(8, 0)),)), "dimension 1 of 0 elements"),
    "sizes-overflow": (one(tensors=(tensor(sizes=(1 << 40, 1 << 40)),)), "dimension 1 of 1099511627776 elements"),
    "bytes-overflow": (one(tensors=(tensor(sizes=(1 << 62, 1)),)), "its shape is too big"),
    "type-of-elements-unknown": (one(tensors=(tensor(kind=4),)), "is of element type 4, which is not known"),
    "row-no-whole-blocks": (one(tensors=(tensor(sizes=(48, 4), kind=2),)), "rows of 48 are no whole blocks of Q4_0, 32 each"),
    "offset-unaligned": (one(tensors=(tensor(offset=4),)), "lies at 4, no multiple of 32"),
    "offset-beyond-the-file": (one(tensors=(tensor(offset=1 << 40),)), "of the weights, which have 128: cut?"),
    "offset-overflows": (one(tensors=(tensor(offset=(1 << 64) - 32),)), "of the weights, which have 128: cut?"),
    "data-cut": ({"model.gguf": good[:-1]}, "takes bytes 0 and 128 more of the weights, which have 127: cut?"),
    "no-data": (one(data=0), "of the weights, which have 0: cut?"),
    "overlap": (one(tensors=(T, tensor("output.weight", offset=96)), data=224), "tensors 'token_embd.weight' and 'output.weight' overlap"),
    # what the table of names asks for
    "head-count-missing": (one(tensors=(tensor("blk.0.attn_q.weight"),)), "llama.attention.head_count is missing"),
    "heads-no-pairs": (one((ARCH, HEADS), (tensor("blk.0.attn_q.weight", (8, 3)),)), "has 3 rows, no pairs for each of 2 heads"),
    "heads-zero": (one((ARCH, kv("llama.attention.head_count", U32, 0)), (tensor("blk.0.attn_q.weight"),)), "head_count is missing, or no count"),
    "transposed-vector": (one((kv("general.architecture", STRING, "gpt2"),), (tensor("blk.0.ffn_up.weight", (32,)),)), "has 1 dimensions, and must have 2"),
    "experts-vector": (one((kv("general.architecture", STRING, "qwen3moe"),), (tensor("blk.0.ffn_up_exps.weight", (32,)),)), "has 1 dimensions, and must have 3"),
    # which files
    "two-models": ({"a.gguf": good, "b.gguf": good}, "2 files *.gguf, the first being 'a.gguf'"),
    "part-missing": ({PARTS % 1: first_part()}, "1 files *.gguf, the first being 'm-00001-of-00002.gguf'"),
    "part-cut": ({PARTS % 1: first_part(), PARTS % 2: good[:10]}, "'m-00002-of-00002.gguf', byte 8"),
    "part-of-another": ({PARTS % 1: first_part(), "n-00002-of-00002.gguf": good}, "'m-00002-of-00002.gguf' is missing"),
    "part-twice": ({PARTS % 1: first_part(), PARTS % 2: good}, "tensor 'model.embed_tokens.weight' is there twice: in"),
    "part-by-its-metadata": ({"model.gguf": first_part(count=3)}, "is one of 3 parts by its metadata, of 1 by its name"),
    "last-part-alone": ({PARTS % 2: good}, "1 files *.gguf"),
    "part-zero": ({"m-00000-of-00001.gguf": good}, "is not the first of"),
}

if __name__ == "__main__":
    for old in HERE.iterdir():
        if old.is_dir():
            shutil.rmtree(old)
    for name, (files, text, *error) in cases.items():
        folder = HERE / name
        folder.mkdir()
        for file, data in files.items():
            (folder / file).write_bytes(data)
        (folder / "error").write_text(f"{(error or ['bad-checkpoint'])[0]}\n{text}\n")
    print(len(cases), "cases")
