#!/usr/bin/env python3
"""Write the cases of this folder: <case>/config.json, which can not be read, and
<case>/error: the error's name, then a text that its message must hold.

usage: python3 make.py        (in this folder; needs nothing but Python)
"""
import pathlib, shutil

HERE = pathlib.Path(__file__).resolve().parent
cases = {
    "missing": (None, "not-found", "holds no config.json"),
    "empty": ("", "bad-config", "'config.json': line 1"),
    "not-json": ("hidden_size: 64", "bad-config", "'config.json': line 1"),
    "cut": ('{"hidden_size": 64', "bad-config", "'config.json': line 1"),
    "cut-in-a-string": ('{"hidden', "bad-config", "'config.json': line 1"),
    "an-array": ("[1]", "bad-config", "must be an object"),
    "a-number": ("1", "bad-config", "must be an object"),
    "something-behind": ("{} {}", "bad-config", "'config.json': line 1"),
    "trailing-comma": ('{"a": 1,}', "bad-config", "'config.json': line 1"),
    "member-twice": ('{"hidden_size": 64, "hidden_size": 128}', "bad-config", "a member is there twice"),
    "not-utf8": (b'{"a": "\xff"}', "bad-config", "'config.json': line 1"),
    "byte-order-mark": (b'\xef\xbb\xbf{}', "bad-config", "'config.json': line 1"),
    "nan-misspelt": ('{"a": nan}', "bad-config", "'config.json': line 1"),
    "infinity-misspelt": ('{"a": +Infinity}', "bad-config", "'config.json': line 1"),
    "nan-as-a-name": ('{NaN : 1}', "bad-config", "'config.json': line 1"),
    "number-misspelt": ('{"a": 1.2.3}', "bad-config", "'config.json': line 1"),
    "number-too-big": ('{"a": 1e999}', "bad-config", "a number is too big"),
    "deep": ('{"a": ' + "[" * 70 + "]" * 70 + "}", "bad-config", "nested more than"),
}

if __name__ == "__main__":
    for old in HERE.iterdir():
        if old.is_dir():
            shutil.rmtree(old)
    for name, (data, code, text) in cases.items():
        folder = HERE / name
        folder.mkdir()
        if data is not None:
            (folder / "config.json").write_bytes(data if isinstance(data, bytes) else data.encode())
        (folder / "error").write_text(f"{code}\n{text}\n")
    print(len(cases), "cases")
