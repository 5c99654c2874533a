"""states.py - state directories as a pt2d of some version left them, for test_upgrade.py.

    python3 tests/http/states.py FILE.tar.xz          (in the tree of that version, built; killed)
    python3 tests/http/states.py --saved FILE.tar.xz  (stopped, its sessions saved)

makes one (first.tar.xz is of commit 9d0993a, saved.tar.xz of 8755736): a model that came by upload, files of another that was not published, exports of each
kind (with a key, twice, as .pte, cancelled, one that ran and one that waited at the end), an
uploaded program, aliases, sessions.  Beside state/ lies facts.json, which says what was answered."""

import io
import json
import os
import random
import struct
import sys
import tarfile
import zipfile

from exporting import export, gate, in_state, sha256, submit, submit_id
from harness import Daemon
from uploading import put, upload

TEXT = [1, 7, 3, 9, 2, 6, 8, 4]
KEY, BODY = "a-key", {"cache": {"max_cache_len": 9}}
SIZES = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2,
         "num_key_value_heads": 1, "vocab_size": 10, "max_position_embeddings": 32}


def tiny():
    """{name: bytes} of a model of a few hundred numbers."""
    rng, layer = random.Random(1), "model.layers.0."
    shapes = {"model.embed_tokens.weight": [10, 8], "model.norm.weight": [8],
              layer + "input_layernorm.weight": [8], layer + "post_attention_layernorm.weight": [8],
              layer + "self_attn.q_proj.weight": [8, 8], layer + "self_attn.k_proj.weight": [4, 8],
              layer + "self_attn.v_proj.weight": [4, 8], layer + "self_attn.o_proj.weight": [8, 8],
              layer + "mlp.gate_proj.weight": [12, 8], layer + "mlp.up_proj.weight": [12, 8],
              layer + "mlp.down_proj.weight": [8, 12]}
    header, data = {}, b""
    for name, shape in shapes.items():
        n = shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + 4 * n]}
        data += struct.pack(f"<{n}f", *[rng.uniform(-1, 1) for _ in range(n)])
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    config = {"model_type": "llama", "tie_word_embeddings": True, **SIZES}
    return {"config.json": json.dumps(config).encode(),
            "model.safetensors": struct.pack("<Q", len(head)) + head + data}


def commented(data):
    """The same archive under another digest."""
    out = io.BytesIO(data)
    with zipfile.ZipFile(out, "a") as z:
        z.comment = b"uploaded"
    return out.getvalue()


def logits(d, session, ids):
    return d.post(f"/v1/sessions/{session}/step", {"input_ids": [ids], "rows": "all"}, expect=200).json["logits"]


def open_session(d, program):
    return d.post("/v1/sessions", {"program": program, "engine": "native", "ttl": 600,
                                   "labels": {"a": "b"}}, expect=201).json["id"]


def jobs_of_each_kind(d, facts):
    """The id of a program."""
    job = submit(d, "tiny", headers={"Idempotency-Key": KEY}, labels={"k": "v"}, **BODY).json["id"]
    program = in_state(d, job, "succeeded")["program"]
    facts["key"] = {"key": KEY, "body": {"model": "tiny", "labels": {"k": "v"}, **BODY}, "job": job}
    again = export(d, model="tiny", **BODY)
    assert again["cached"] and again["program"] == program, again
    facts["pte"] = export(d, model="tiny", cache={"max_cache_len": 10}, format="pte")["id"]
    return program


def programs_and_names(d, program, facts):
    data = commented(d.get(f"/v1/programs/{program}/file", expect=200).body)
    uploaded = d.request("POST", "/v1/programs", body=data, expect=201).json["id"]
    d.put("/v1/aliases/prod", {"program": program}, expect=201)
    d.put("/v1/aliases/next", {"program": uploaded}, expect=201)
    facts["pinned"] = d.put(f"/v1/programs/{uploaded}/pin").status < 300
    facts["uploaded"] = uploaded
    gone = export(d, model="tiny", cache={"max_cache_len": 11})["program"]
    d.delete(f"/v1/programs/{gone}", expect=204)
    facts["deleted"] = gone


def unfinished(d, exporter, facts):
    """One that runs, one that waits, one that was cancelled."""
    exporter.shut()
    running = submit_id(d, model="tiny", cache={"max_cache_len": 12})
    in_state(d, running, "running")
    waiting = submit_id(d, model="tiny", cache={"max_cache_len": 13})
    cancelled = submit_id(d, model="tiny", cache={"max_cache_len": 14})
    d.post(f"/v1/exports/{cancelled}/cancel", expect=202)
    in_state(d, cancelled, "cancelled")
    facts["unfinished"] = [running, waiting]


def make(path, is_saved):
    facts = {"saved": is_saved}
    flags = ["--set", "exports.workers=1", "--set", "daemon.grace=1 s"]
    flags += ["--set", "sessions.persist=yes"] if is_saved else []
    with gate() as exporter:
        d = Daemon(*flags, env=exporter.env)
        d.models = os.path.join(d.directory, "state", "models")
        os.makedirs(d.models)
        os.chmod(d.state, 0o700)
        with d:
            exporter.open()
            upload(d, "tiny", tiny())
            put(d, "org/half", "config.json", tiny()["config.json"])
            program = jobs_of_each_kind(d, facts)
            programs_and_names(d, program, facts)
            session = open_session(d, program)
            facts["session"] = {"id": session, "program": program, "logits": logits(d, session, TEXT[:5])}
            unfinished(d, exporter, facts)
            for name in ("programs", "exports", "aliases", "models"):
                facts[name] = d.get("/v1/" + name, expect=200).json["data"]
            facts["version"] = d.get("/version", expect=200).json
            assert (d.stop() if is_saved else d.kill()) in (0, -9)
            facts["files"] = {n: sha256(data) for n, data in tiny().items()}
            pack(d, path, facts)


def pack(d, path, facts):
    with open(os.path.join(d.directory, "facts.json"), "w") as f:
        json.dump(facts, f, indent=1)
    skipped = ("lock", "pt2d.db-shm")  # made at each start

    def plain(info):
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        return None if os.path.basename(info.name) in skipped and info.isfile() and \
            os.path.dirname(info.name) == "state" else info

    with tarfile.open(path, "w:xz") as tar:
        for name in ("facts.json", "state"):
            tar.add(os.path.join(d.directory, name), name, filter=plain)


if __name__ == "__main__":
    make(sys.argv[-1], sys.argv[1] == "--saved")
