#!/usr/bin/env python3
"""Write the cases of this folder: <case>/input, an archive with one thing wrong, and
<case>/error: the error's name, then a text that its message must hold.  And beside it
archive-valid/<case>.pt2: archives that are unusual, but good.

usage: python3 make.py        (in this folder; needs nothing but Python)
"""
import json, pathlib, shutil, struct, zlib

HERE = pathlib.Path(__file__).resolve().parent


def meta(dtype=7, sizes=(2,), strides=(1,), offset=0, layout=7, **more):
    dims = lambda d: [{"as_int": n} for n in d]
    return {"dtype": dtype, "sizes": dims(sizes), "requires_grad": False,
            "device": {"type": "cpu", "index": None}, "strides": dims(strides),
            "storage_offset": {"as_int": offset}, "layout": layout, **more}


def payload(path="weight_0", pickle=False, **kw):
    return {"path_name": path, "is_param": True, "use_pickle": pickle, "tensor_meta": meta(**kw)}


def rec(name, data=b"", root="m", **kw):
    """kw: method, flags, crc, size, packed: in both headers; local, central: in one of them;
    extra, central_extra, descriptor; at: the offset that the central header gives"""
    return {"name": f"{root}/{name}" if root is not None else name,
            "data": data.encode() if isinstance(data, str) else data, **kw}


def table(config):
    return json.dumps({"config": config})


def records(weights=None, constants="{\"config\": {}}", **kw):
    return [rec("archive_format", "pt2"), rec("archive_version", "0"), rec("byteorder", "little"),
            rec(".data/version", "6\n"), rec("models/model.json", "{}"),
            rec("data/weights/weight_0", struct.pack("<2f", 1, 2)),
            rec("data/weights/model_weights_config.json",
                table({"w": payload()}) if weights is None else weights),
            rec("data/constants/model_constants_config.json", constants)]


def build(recs, tail=b"", **end):
    out, central = b"", b""
    for r in recs:
        raw = r["data"]
        f = {"flags": 0, "method": 0, "crc": zlib.crc32(raw), "size": len(raw)}
        if r.get("method") == 8:
            c = zlib.compressobj(9, zlib.DEFLATED, -15)
            raw = c.compress(raw) + c.flush()
        f["packed"] = len(raw)
        f.update({k: r[k] for k in f if k in r})
        at = r.get("at", len(out))
        name = r["name"] if isinstance(r["name"], bytes) else r["name"].encode()
        lo, ce = dict(f, name=name, sig=0x04034b50), dict(f, name=name, disk=0, sig=0x02014b50)
        if f["flags"] & 8:
            lo.update(crc=0, size=0, packed=0)
        lo.update(r.get("local", {})); ce.update(r.get("central", {}))
        extra, cextra = r.get("extra", b""), r.get("central_extra", b"")
        out += struct.pack("<IHHHHHIIIHH", lo["sig"], 20, lo["flags"], lo["method"], 0, 33, lo["crc"],
                           lo["packed"], lo["size"], len(lo["name"]), len(extra)) + lo["name"] + extra
        out += raw
        if f["flags"] & 8:
            out += r.get("descriptor", struct.pack("<IIII", 0x08074b50, f["crc"], f["packed"], f["size"]))
        central += struct.pack("<IHHHHHHIIIHHHHHII", ce["sig"], 20, 20, ce["flags"], ce["method"], 0, 33,
                               ce["crc"], ce["packed"], ce["size"], len(ce["name"]), len(cextra), 0,
                               ce["disk"], 0, 0, at) + ce["name"] + cextra
    e = dict(disk=0, n_disk=len(recs), n=len(recs), size=len(central), offset=len(out), comment=0, zip64=b"")
    e.update(end)
    if callable(e["zip64"]):
        e["zip64"] = e["zip64"](len(recs), len(central), len(out))
    return (out + central + e["zip64"] + struct.pack("<IHHHHIIH", 0x06054b50, e["disk"], 0, e["n_disk"], e["n"],
            e["size"], e["offset"], e["comment"]) + tail)


def zip64(n=None, size=None, offset=None, at=0, sig=0x06064b50, length=44, disks=1):
    """The zip64 end record and its locator; None: the true value."""
    def make(n_, size_, offset_):
        v = [a if b is None else b for a, b in ((n_, n), (size_, size), (offset_, offset))]
        return (struct.pack("<IQHHIIQQQQ", sig, length, 45, 45, 0, 0, v[0], v[0], v[1], v[2]) +
                struct.pack("<IIQI", 0x07064b50, 0, offset_ + size_ + at, disks))
    return make


def change(which, **kw):
    """The usual records, one of them changed."""
    out = records()
    for r in out:
        if r["name"] == "m/" + which:
            r.update(kw)
    return out


def without(name):
    return [r for r in records() if r["name"] != "m/" + name]


W = "data/weights/weight_0"
good = build(records())
weights = lambda **kw: build(records(table({"w": payload(**kw)})))
raw_table = lambda text: build(records(text))
cases = {
    # the end records
    "empty": (b"", "the file is empty"),
    "not-a-zip": (b"GIF89a" + bytes(100), "no end record"),
    "cut-before-the-end-record": (good[:-22], "no end record"),
    "cut-in-the-end-record": (good[:-5], "no end record"),
    "junk-behind": (good + b"junk", "4 bytes follow it"),
    "junk-in-front": (b"junk" + good, "does not end where the end records begin"),
    "comment-longer-than-the-file": (build(records(), comment=9), "its comment has 9"),
    "split-over-disks": (build(records(), disk=1), "split over disks"),
    "counts-differ": (build(records(), n_disk=7), "split over disks"),
    "one-record-too-few": (build(records(), n=7, n_disk=7), "behind its 7 headers"),
    "one-record-too-many": (build(records(), n=9, n_disk=9), "no header where one should be"),
    "more-records-than-room": (build(records(), n=60000, n_disk=60000), "more records than"),
    "directory-beyond-the-file": (build(records(), offset=1 << 30), "does not end where"),
    "directory-size-wrong": (build(records(), size=10), "does not end where"),
    "zip64-locator-outside": (build(records(), zip64=zip64(at=1 << 40)), "points outside"),
    "zip64-locator-elsewhere": (build(records(), zip64=zip64(at=-4)), "does not point to a zip64"),
    "zip64-length-wrong": (build(records(), zip64=zip64(length=1 << 60)), "size is wrong"),
    "zip64-contradicts": (build(records(), zip64=zip64(n=9)), "contradicts the zip64"),
    "zip64-count-huge": (build(records(), n=65535, n_disk=65535, zip64=zip64(n=1 << 50)), "records with"),
    "zip64-offset-wraps": (build(records(), offset=0xffffffff, zip64=zip64(offset=(1 << 64) - 8)),
                           "does not end where"),
    "zip64-disks": (build(records(), zip64=zip64(disks=3)), "split over disks"),
    # the central directory
    "central-signature": (build(change(W, central={"sig": 0})), "no header where one should be"),
    "name-empty": (build(change(W, name=b"")), "plain relative path"),
    "name-absolute": (build(change(W, name=b"/etc/passwd")), "plain relative path"),
    "name-dot-dot": (build(change(W, name=b"m/../x")), "plain relative path"),
    "name-dot": (build(change(W, name=b"m/./x")), "plain relative path"),
    "name-double-slash": (build(change(W, name=b"m//x")), "plain relative path"),
    "name-backslash": (build(change(W, name=b"m/a\\b")), "plain relative path"),
    "name-nul": (build(change(W, name=b"m/a\0b")), "plain relative path"),
    "name-newline": (build(change(W, name=b"m/a\nb")), "plain relative path"),
    "name-not-utf8": (build(change(W, name=b"m/\xff")), "plain relative path"),
    "name-too-long": (build(change(W, name=b"m/" + b"x" * 1500)), "plain relative path"),
    "name-twice": (build(records() + [rec("byteorder", "little")]), "'byteorder' is there twice"),
    "encrypted": (build(change(W, flags=1)), "encrypted"),
    "flags-unknown": (build(change(W, flags=0x40)), "unknown flags"),
    "method-unknown": (build(change(W, local={"method": 12}, central={"method": 12})), "compression method 12"),
    "stored-sizes-differ": (build(change(W, size=9)), "its two sizes differ"),
    "deflated-beyond-belief": (build(change(W, method=8, size=1 << 31)), "fewer bytes than can be"),
    "on-another-disk": (build(change(W, central={"disk": 1})), "another disk"),
    "folder-with-bytes": (build(records() + [rec("x/", b"abc")]), "a folder that holds bytes"),
    "zip64-extra-short": (build(change(W, central={"size": 0xffffffff, "packed": 0xffffffff},
                                       central_extra=struct.pack("<HHQ", 1, 8, 8))), "zip64 extra field is too short"),
    "zip64-extra-twice": (build(change(W, central_extra=struct.pack("<HHHH", 1, 0, 1, 0))), "two zip64 extra fields"),
    "zip64-size-lies": (build(change(W, central={"size": 0xffffffff, "packed": 0xffffffff},
                                     central_extra=struct.pack("<HHQQ", 1, 16, 1 << 40, 1 << 40))),
                        "another CRC-32 or other sizes"),
    "extra-does-not-add-up": (build(change(W, central_extra=struct.pack("<HH", 9, 50))), "do not add up"),
    "extra-cut": (build(change(W, central_extra=b"abc")), "do not add up"),
    # the local headers
    "local-outside": (build(change(W, at=1 << 30)), "outside of the records"),
    "local-elsewhere": (build(change(W, at=1)), "no local header"),
    "local-name-differs": (build(change(W, local={"name": b"m/data/weights/weight_1"})), "another name"),
    "local-name-longer": (build(change(W, local={"name": b"m/data/weights/weight_00"})), "another name"),
    "local-flags-differ": (build(change(W, local={"flags": 2})), "other flags"),
    "local-method-differs": (build(change(W, local={"method": 8})), "other flags or another method"),
    "local-size-differs": (build(change(W, local={"size": 4, "packed": 4})), "other sizes"),
    "local-crc-differs": (build(change(W, local={"crc": 1})), "another CRC-32"),
    "descriptor-lies": (build(change(W, flags=8, descriptor=struct.pack("<IIII", 0x08074b50, 1, 8, 8))),
                        "data descriptor"),
    "descriptor-missing": (build(change(W, flags=8, descriptor=b"")), "data descriptor"),
    "bytes-reach-into-the-directory": (build(records() + [rec("x", b"abc", size=900, packed=900)]), "beyond the records"),
    "records-overlap": (build(change(W, size=60, packed=60)), "overlap"),
    "same-bytes-twice": (build([rec("a", b"", local={"name": b"m/b"}), rec("b", b"", at=0)] + records()), "another name"),
    # the folder
    "no-records": (build([]), "holds no records"),
    "no-root": (build([rec("archive_format", "pt2", root=None)] + records()), "lies under no folder"),
    "second-root": (build(records() + [rec("x", "", root="n")]), "outside of the folder 'm'"),
    "root-is-a-prefix": (build(records() + [rec("x", "", root="mm")]), "outside of the folder 'm'"),
    # the layout
    "no-archive-format": (build(without("archive_format")), "'archive_format' is missing"),
    "other-archive-format": (build(change("archive_format", data=b"pt3")), "'archive_format' is 'pt3'"),
    "other-archive-version": (build(change("archive_version", data=b"1")), "'archive_version' is '1'; must be '0'"),
    "big-endian": (build(change("byteorder", data=b"big")), "'byteorder' is 'big'"),
    "archive-format-crc": (build(change("archive_format", crc=7)), "'archive_format': its CRC-32"),
    "no-model": (build(without("models/model.json")), "'models/model.json' is missing"),
    "no-weights-table": (build(without("data/weights/model_weights_config.json")), "model_weights_config.json' is missing"),
    "no-constants-table": (build(without("data/constants/model_constants_config.json")), "model_constants_config.json' is missing"),
    "table-deflated-badly": (build(change("data/weights/model_weights_config.json", method=8, size=50)), "deflated bytes are damaged"),
    # the payload tables
    "table-not-json": (raw_table("config"), "expected an object"),
    "table-cut": (raw_table('{"config": {"w": {"path_na'), "a string does not end"),
    "table-something-behind": (raw_table('{"config": {}} x'), "something follows"),
    "table-no-config": (raw_table('{"a": {"config": 1}}'), '"config" is missing'),
    "table-two-configs": (raw_table('{"config": {}, "config": {}}'), '"config" is there twice'),
    "table-deep": (raw_table('{"x": ' + "[" * 100 + "]" * 100 + "}"), "nested more than"),
    "fqn-empty": (build(records(table({"": payload()}))), "1 to 1024 bytes"),
    "fqn-long": (build(records(table({"w" * 2000: payload()}))), "1 to 1024 bytes"),
    "fqn-twice": (raw_table('{"config": {"w": %s, "w": %s}}' % ((json.dumps(payload()),) * 2)), "'w' is there twice"),
    "fqn-in-both-tables": (build(records(constants=table({"w": payload("tensor_0")})) + [rec("data/constants/tensor_0", bytes(8))]),
                           "'w' is there twice"),
    "pickle": (weights(pickle=True), "'w' is a pickle"),
    "no-tensor-meta": (raw_table('{"config": {"w": {"path_name": "weight_0", "tensor_meta": null}}}'), "not a tensor"),
    "no-path": (raw_table('{"config": {"w": {"tensor_meta": %s}}}' % json.dumps(meta())), "not a tensor"),
    "path-with-a-slash": (weights(path="../x"), "no record's name"),
    "record-missing": (weights(path="weight_7"), "'data/weights/weight_7' is missing"),
    "dtype-unknown": (weights(dtype=99), "dtype 99"),
    "dtype-missing": (raw_table('{"config": {"w": {"path_name": "weight_0", "tensor_meta": {"sizes": []}}}}'), "lacks dtype"),
    "layout-sparse": (weights(layout=1), "layout 1 is not strided"),
    "size-symbolic": (raw_table('{"config": {"w": {"path_name": "weight_0", "tensor_meta": {"sizes": [{"as_expr": 1}]}}}}'), '"as_int"'),
    "size-not-an-integer": (weights(sizes=(2.5,)), "expected an integer"),
    "size-too-big-a-number": (weights(sizes=(1 << 64,)), "an integer of 64 bits"),
    "size-negative": (weights(sizes=(-2,)), "sizes can not be"),
    "sizes-overflow": (weights(sizes=(1 << 40, 1 << 40), strides=(0, 0)), "sizes can not be"),
    "stride-negative": (weights(strides=(-1,)), "stride -1"),
    "strides-overflow": (weights(sizes=(5, 1), strides=((1 << 63) - 1, 1)), "strides overflow"),
    "strides-fewer": (weights(strides=()), "1 sizes and 0 strides"),
    "offset-negative": (weights(offset=-1), "storage offset -1"),
    "dimensions-many": (weights(sizes=(1,) * 9, strides=(1,) * 9), "more than 8 dimensions"),
    "tensor-beyond-its-record": (weights(sizes=(3,)), "reaches beyond its record"),
    "tensor-beyond-by-offset": (weights(offset=1), "reaches beyond its record"),
    "tensor-beyond-by-stride": (weights(strides=(2,)), "reaches beyond its record"),
    "shared-record-other-dtype": (build(records(table({"w": payload(), "v": payload(dtype=4)}))), "not the dtype"),
}

wide = lambda *v: struct.pack("<HH", 1, 8 * len(v)) + struct.pack(f"<{len(v)}Q", *v)
ones = {"size": 0xffffffff, "packed": 0xffffffff}
two = struct.pack("<2f", 1, 2)
valid = {
    "plain": good,
    "deflated": build([dict(r, method=8) for r in records()]),
    "comment": build(records(), tail=b"hello", comment=5),
    "folders": build([rec("", root="m")] + records() + [rec("data/weights/")]),
    "root-unusual": build([dict(r, name="a b.pt2" + r["name"][1:]) for r in records()]),
    "line-ends": build(change("archive_version", data=b"0\n")),
    "zip64-end": build(records(), n=65535, n_disk=65535, size=0xffffffff, offset=0xffffffff, zip64=zip64()),
    "zip64-end-needless": build(records(), zip64=zip64()),
    "zip64-sizes": build(change(W, local=ones, extra=wide(8, 8), central=ones, central_extra=wide(8, 8))),
    "descriptor": build(change(W, flags=8)),
    "descriptor-bare": build(change(W, flags=8, descriptor=struct.pack("<III", zlib.crc32(two), 8, 8))),
    "descriptor-wide": build(change(W, flags=8, local=dict(ones, crc=0), extra=wide(0, 0),
                                    descriptor=struct.pack("<IIQQ", 0x08074b50, zlib.crc32(two), 8, 8))),
    "extra-padding": build(change(W, extra=struct.pack("<HH", 0x4246, 5) + b"ZZZZZ")),
    "payloads": build(records(
        table({"w": payload(), "tied": payload(), "transposed": payload("weight_1", sizes=(2, 3), strides=(1, 2)),
               "broadcast": payload("weight_1", sizes=(4, 6), strides=(0, 1)), "scalar": payload("weight_1", sizes=(), strides=(), offset=5),
               "empty": payload("weight_2", sizes=(0, 1 << 40), strides=(1, 1))}),
        table({"zeros": payload("tensor_0", dtype=13, sizes=(1, 2, 64, 8), strides=(1024, 512, 8, 1))})) +
        [rec("data/weights/weight_1", bytes(24)), rec("data/weights/weight_2"), rec("data/constants/tensor_0")]),
}

if __name__ == "__main__":
    for old in HERE.iterdir():
        if old.is_dir():
            shutil.rmtree(old)
    for name, (data, text) in cases.items():
        folder = HERE / name
        folder.mkdir()
        (folder / "input").write_bytes(data)
        (folder / "error").write_text(f"bad-archive\n{text}\n")
    for name, data in valid.items():
        (HERE.parent / "archive-valid" / (name + ".pt2")).write_bytes(data)
    print(len(cases), "bad ones,", len(valid), "good ones")
