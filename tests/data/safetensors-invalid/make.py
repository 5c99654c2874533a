#!/usr/bin/env python3
"""Write the cases of this folder: <case>/, a checkpoint with one thing wrong with its
weights, and <case>/error: the error's name, then a text that its message must hold.

usage: python3 make.py        (in this folder; needs nothing but Python)
"""
import json, pathlib, shutil, struct

HERE = pathlib.Path(__file__).resolve().parent
INDEX = "model.safetensors.index.json"


def t(begin, end, dtype="F32", shape=None):
    return {"dtype": dtype, "shape": [(end - begin) // 4] if shape is None else shape, "data_offsets": [begin, end]}


def st(header, data=8, n=None):
    """A file: header is a dict or its text, data a number of zeros, n what the length says."""
    text = header if isinstance(header, bytes) else (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(text) if n is None else n) + text + bytes(data)


def index(weight_map):
    return json.dumps({"metadata": {"total_size": 8}, "weight_map": weight_map})


def one(*args, **kw):
    return {"model.safetensors": st(*args, **kw)}


def tensor(**kw):
    """One tensor, of which some member is another one."""
    return one({"a": {k: v for k, v in {**t(0, 8), **kw}.items() if v is not None}})


good = st({"a": t(0, 8)})
cases = {
    # the file
    "empty": ({"model.safetensors": b""}, "0 bytes: not a safetensors file"),
    "length-cut": ({"model.safetensors": b"\x01\0\0"}, "3 bytes: not a safetensors file"),
    "header-beyond-the-file": (one({"a": t(0, 8)}, n=1 << 20), "cut, or not a safetensors file"),
    "header-length-huge": (one({"a": t(0, 8)}, n=(1 << 64) - 1), "cut, or not a safetensors file"),
    "header-length-zero": (one({"a": t(0, 8)}, n=0), "expected an object"),
    "a-pickle": ({"model.safetensors": b"PK\x03\x04" + bytes(60)}, "cut, or not a safetensors file"),
    "data-cut": ({"model.safetensors": good[:-1]}, "tensor 'a' spans bytes 0 to 8; the file has 7"),
    "data-longer": ({"model.safetensors": good + b"\0"}, "1 bytes at the end belong to no tensor"),
    # the JSON
    "not-json": (one("hello"), "expected an object"),
    "an-array": (one("[]"), "expected an object"),
    "json-cut": (one('{"a": {"dtype": "F32"', data=0), "expected ',' or '}'"),
    "something-behind": (one(json.dumps({"a": t(0, 8)}) + "x"), "something follows"),
    "not-utf8": (one(b'{"\xff": 1}'), "not UTF-8"),
    "nul-in-a-name": (one('{"a\\u0000b": 1}'), "U+0000"),
    "deep": (one('{"a": {"x": ' + "[" * 90 + "]" * 90 + "}}"), "nested more than"),
    "metadata-number": (one({"__metadata__": {"x": 1}, "a": t(0, 8)}), "expected a string"),
    "metadata-twice": (one('{"__metadata__": {}, "__metadata__": {}}', data=0), "twice"),
    # one tensor
    "name-empty": (one({"": t(0, 8)}), "1 to 1024 bytes"),
    "name-long": (one({"a" * 1025: t(0, 8)}), "1 to 1024 bytes"),
    "name-twice": (one('{"a": %s, "a": %s}' % (json.dumps(t(0, 4)), json.dumps(t(4, 8)))), "tensor 'a' is there twice"),
    "tensor-a-number": (one({"a": 1}), "expected an object"),
    "dtype-missing": (tensor(dtype=None), "lacks \"dtype\""),
    "dtype-unknown": (tensor(dtype="F33"), "unknown dtype 'F33'"),
    "dtype-a-number": (tensor(dtype=7), "expected a string"),
    "shape-missing": (tensor(shape=None), "lacks"),
    "shape-a-number": (tensor(shape=2), "expected an array"),
    "shape-negative": (tensor(shape=[-2]), "at least 0, not -2"),
    "shape-a-float": (tensor(shape=[2.0]), "expected an integer"),
    "shape-too-small": (tensor(shape=[1]), "spans 8 bytes; its dtype and shape take 4"),
    "shape-too-big": (tensor(shape=[3]), "spans 8 bytes; its dtype and shape take 12"),
    "shape-overflows": (tensor(shape=[1 << 62, 1 << 62]), "its shape is too big"),
    "shape-overflows-to-fit": (tensor(shape=[1 << 32, 1 << 30, 2, 1, 1, 2]), "its shape is too big"),
    "shape-beyond-64-bits": (tensor(shape=[1 << 64]), "an integer of 64 bits"),
    "shape-nine-dimensions": (tensor(shape=[1] * 8 + [2]), "more than 8 dimensions"),
    "bits-not-whole-bytes": (tensor(dtype="F6_E2M3", shape=[11]), "66 bits: no whole bytes"),
    "offsets-missing": (tensor(data_offsets=None), "lacks"),
    "offsets-one": (tensor(data_offsets=[0]), "expected two offsets"),
    "offsets-three": (tensor(data_offsets=[0, 8, 8]), "more than two offsets"),
    "offsets-backwards": (tensor(data_offsets=[8, 0]), "spans bytes 8 to 0"),
    "offsets-negative": (tensor(data_offsets=[-8, 0]), "at least 0"),
    "offsets-beyond": (tensor(data_offsets=[8, 16]), "the file has 8"),
    "member-twice": (one('{"a": {"dtype": "F32", "dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}'), "\"dtype\" twice"),
    # tensors together
    "overlap": (one({"a": t(0, 8), "b": t(4, 12)}, data=12), "'a' and 'b' overlap"),
    "same-place": (one({"a": t(0, 8), "b": t(0, 8)}), "overlap"),
    "hole-in-front": (one({"a": t(4, 8)}), "4 bytes before tensor 'a' belong to none"),
    "hole-between": (one({"a": t(0, 4), "b": t(8, 12)}, data=12), "4 bytes before tensor 'b'"),
    # which files
    "no-weights": ({"pytorch_model.bin": b"x"}, "no *.safetensors beside config.json"),
    "several-without-index": ({"a.safetensors": good, "b.safetensors": good}, "2 files *.safetensors, but no"),
    # the index
    "index-not-json": ({INDEX: "x"}, "expected an object"),
    "index-no-map": ({INDEX: "{}"}, "names no tensors"),
    "index-empty-map": ({INDEX: index({})}, "names no tensors"),
    "index-map-twice": ({INDEX: '{"weight_map": {}, "weight_map": {}}'}, "\"weight_map\" is there twice"),
    "index-shard-missing": ({INDEX: index({"a": "s.safetensors"})}, "'s.safetensors', which the index names, is missing"),
    "index-shard-elsewhere": ({INDEX: index({"a": "../s.safetensors"})}, "not the name of a .safetensors file"),
    "index-shard-absolute": ({INDEX: index({"a": "/etc/s.safetensors"})}, "not the name of a .safetensors file"),
    "index-shard-a-pickle": ({INDEX: index({"a": "pytorch_model.bin"})}, "not the name of a .safetensors file"),
    "index-tensor-missing": ({INDEX: index({"a": "s.safetensors", "b": "s.safetensors"}), "s.safetensors": good},
                             "names tensor 'b' in 's.safetensors', which lacks it"),
    "index-tensor-in-another-shard": ({INDEX: index({"a": "s.safetensors", "b": "s.safetensors"}), "s.safetensors": good,
                                       "r.safetensors": st({"b": t(0, 8)})}, "names tensor 'b' in 's.safetensors', which lacks it"),
    "index-shards-swapped": ({INDEX: index({"a": "r.safetensors", "b": "s.safetensors"}), "s.safetensors": good,
                              "r.safetensors": st({"b": t(0, 8)})}, "names tensor 'a' in 'r.safetensors'; it is in 's.safetensors'"),
    "tensor-in-two-shards": ({INDEX: index({"a": "s.safetensors", "b": "r.safetensors"}), "s.safetensors": good,
                              "r.safetensors": st({"a": t(0, 8), "b": t(8, 16)}, data=16)}, "tensor 'a' is there twice: in"),
    "second-shard-cut": ({INDEX: index({"a": "s.safetensors", "b": "t.safetensors"}), "s.safetensors": good,
                          "t.safetensors": good[:20]}, "'t.safetensors': its header has"),
}

if __name__ == "__main__":
    for old in HERE.iterdir():
        if old.is_dir():
            shutil.rmtree(old)
    for name, (files, text) in cases.items():
        folder = HERE / name
        folder.mkdir()
        for file, data in {"config.json": "{}\n", **files}.items():
            (folder / file).write_bytes(data if isinstance(data, bytes) else data.encode())
        (folder / "error").write_text(f"bad-checkpoint\n{text}\n")
    print(len(cases), "cases")
