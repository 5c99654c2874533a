#!/usr/bin/env python3
"""Time token steps of SmolLM2-135M-Instruct: pt2d's engines beside the other runtimes.

usage: steps.py [--build DIR] [--quick] [--only WORD ...] [...]      see --help

One run measures everything: contestants on one machine, at one time, in turn, round by round,
so that a busy machine slows all alike; then pt2d's sessions over HTTP, its memory, its
start.  Progress goes to standard error, the table to standard output; --json and --plot name
the files for the raw figures and the picture.  `--report FILE` prints the table of earlier
figures again.

The other runtimes come from PyPI (peers-env).  One that can't take part is in the table with
the reason."""

import argparse
import datetime
import json
import os
import pathlib
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import contestants
import plot
import report
import service

HERE = pathlib.Path(__file__).resolve().parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"),
                     "pt2d/bench")
BUSY = 0.5  # load average above which spinning runtimes suffer
TOO_SLOW = 20  # seconds of one turn, after which a contestant has no more in this case
PACKAGES = ("torch", "transformers", "executorch")


def progress(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build"))
    parser.add_argument("--quick", action="store_true", help="short settings, to try it out")
    parser.add_argument("--only", nargs="+", metavar="WORD",
                        help="contestants whose name holds one of these")
    parser.add_argument("--parts", nargs="+", default=["steps", "prefill", "service", "memory"],
                        choices=["steps", "prefill", "service", "memory"])
    parser.add_argument("--dtypes", nargs="+",
                        default=["float32", "bfloat16", contestants.FOUR_BITS])
    parser.add_argument("--lengths", nargs="+", type=int, default=[64, 512, 2048, 8192])
    parser.add_argument("--sessions", nargs="+", type=int, default=[1, 4, 16, 64])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="of each turn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=pathlib.Path, help="where the raw figures go")
    parser.add_argument("--plot", type=pathlib.Path, help="where the SVG goes")
    parser.add_argument("--report", type=pathlib.Path, help="figures of an earlier --json")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.seconds, args.lengths = 2, 0.5, args.lengths[:2]
    return args


# ---- the machine ----

def first_line(path, word):
    with open(path) as f:
        return next((line.split(":", 1)[1].strip() for line in f if line.startswith(word)), "?")


def machine():
    return {"cpu": first_line("/proc/cpuinfo", "model name"), "cores": os.cpu_count(),
            "flags": first_line("/proc/cpuinfo", "flags"),
            "memory_gb": int(first_line("/proc/meminfo", "MemTotal").split()[0]) / 1e6,
            "system": f"{platform.freedesktop_os_release().get('PRETTY_NAME')}, "
                      f"Linux {platform.release()}",
            "load": os.getloadavg()[0]}


def versions(files):
    code = "import importlib.metadata as m, sys; print(*map(m.version, sys.argv[1:]))"
    names = [*PACKAGES, *(["llama-cpp-python"] if os.path.exists(files.llama) else [])]
    said = subprocess.run([files.python, "-c", code, *names], env=files.environment(),
                          capture_output=True, text=True, check=True).stdout.split()
    pt2d = subprocess.run([files.build / "pt2d", "--version"], capture_output=True, text=True,
                          check=True).stdout.split()
    revision = subprocess.run(["git", "-C", HERE, "describe", "--always", "--dirty"],
                              capture_output=True, text=True).stdout.strip()
    return {"pt2d": " ".join([*pt2d[1:2], revision]).strip(), **dict(zip(names, said))}


def bandwidth(files, program=None):
    done = subprocess.run([files.build / "bench/bandwidth", str(files.threads), "1024", "8",
                           *([program] if program else [])],
                          capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["best"]


def weight_bytes(files, dtype):
    """Of all that one token reads: each matrix once, the embedding as the head where they are
    tied, otherwise one row of it."""
    with open(files.checkpoint / "model.safetensors", "rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
    tensors = {name: t for name, t in header.items() if name != "__metadata__"}
    if "lm_head.weight" in tensors:
        del tensors["model.embed_tokens.weight"]
    sizes = [((t["data_offsets"][1] - t["data_offsets"][0]) // 4, len(t["shape"]))
             for t in tensors.values()]  # it holds float32
    if dtype == contestants.FOUR_BITS:  # matrices: 4 bits, a float32 for each group
        group = contestants.QUANTIZATION["group_size"]
        return sum(n // 2 + 4 * n // group if n_dims == 2 else 4 * n for n, n_dims in sizes)
    return sum(n for n, _ in sizes) * contestants.DTYPE_BYTES[dtype]


# ---- contestants in turn ----

class Run:
    """All figures of one run."""

    def __init__(self, args, files):
        self.args, self.files = args, files
        self.raw = {"date": datetime.date.today().isoformat(),
                    "command": shlex.join(["bench/steps.py", *sys.argv[1:]]),
                    "machine": machine(), "versions": versions(files),
                    "bandwidth": {"anonymous": [], "file": []},
                    "steps": [], "unavailable": [], "service": [], "memory": [], "start": []}
        self.main_length = 512 if 512 in args.lengths else args.lengths[-1]

    def all(self, daemon):
        peers = [("Transformers", "eager"), ("Transformers, torch.compile", "compiled"),
                 ("torch.export module", "exported"), ("ExecuTorch, XNNPACK", "executorch")]
        everyone = [*(contestants.Pt2d(e, daemon) for e in ("native", "aten")),
                    *(contestants.Peer(name, peer, self.files) for name, peer in peers),
                    contestants.Peer("llama.cpp", "llama.cpp", self.files),
                    *(contestants.Peer(f"llama.cpp, {kind.upper()}", "llama.cpp", self.files,
                                       (contestants.FOUR_BITS,), kind)
                      for kind in ("q4_0", "q4_1"))]
        words = self.args.only
        return [c for c in everyone if not words or any(w in c.name for w in words)]

    def settings(self, everyone):
        self.raw["settings"] = {
            **{n: getattr(self.args, n) for n in ("dtypes", "lengths", "sessions", "rounds",
                                                  "seconds", "threads")},
            "main_length": self.main_length, "prefill_tokens": self.main_length,
            "contestants": [c.name for c in everyone]}
        self.raw["weight_bytes"] = {d: weight_bytes(self.files, d) for d in self.args.dtypes}

    def refuse(self, contestant, case, reason):
        progress(f"{contestant.name}, {case.dtype}, {case.mode} at {case.length}: {reason}")
        self.raw["unavailable"].append({"contestant": contestant.name, "dtype": case.dtype,
                                        "length": case.length, "mode": case.mode,
                                        "reason": str(reason)})

    def open(self, everyone, case):
        ready = []
        for contestant in everyone:
            if case.dtype not in contestant.dtypes:
                continue
            progress(f"{case.dtype}, {case.mode} at {case.length}: opening {contestant.name}")
            try:
                contestant.open(case)
                ready.append(contestant)
            except contestants.Unavailable as e:
                contestant.close()
                self.refuse(contestant, case, e)
        return ready

    def case(self, everyone, case):
        opened = self.open(everyone, case)
        turns, rounds = list(opened), {c: [] for c in opened}
        for i in range(self.args.rounds):
            self.raw["bandwidth"]["anonymous"].append(bandwidth(self.files))
            for contestant in list(turns):
                begin = time.monotonic()
                try:
                    rounds[contestant].append(contestant.measure(self.args.seconds))
                except contestants.Unavailable as e:
                    turns.remove(contestant)
                    self.refuse(contestant, case, e)
                if time.monotonic() - begin > TOO_SLOW and contestant in turns:
                    turns.remove(contestant)  # what it has must do
            progress(f"{case.dtype}, {case.mode} at {case.length}, round {i + 1}: " + ", ".join(
                f"{c.name} {rounds[c][-1]:.1f}" for c in opened if len(rounds[c]) > i))
        for contestant in opened:
            if rounds[contestant]:
                self.raw["steps"].append({
                    "contestant": contestant.name, "dtype": case.dtype, "length": case.length,
                    "mode": case.mode, "rounds": rounds[contestant], "facts": contestant.facts})
            contestant.close()
        self.save()

    def cases(self, everyone):
        dtypes = list(self.raw["weight_bytes"])
        for dtype in dtypes if "steps" in self.args.parts else []:
            for length in self.args.lengths:
                self.case(everyone, contestants.Case(dtype, length))
        for dtype in dtypes if "prefill" in self.args.parts else []:
            self.case(everyone, contestants.Case(dtype, self.main_length, "prefill",
                                                 self.main_length))
        program = self.files.program(contestants.Case(self.args.dtypes[0], self.main_length))
        self.raw["bandwidth"]["file"] = [bandwidth(self.files, program) for _ in range(3)]

    def save(self):
        """What there is so far, lest it be lost."""
        if self.args.json:
            self.args.json.write_text(json.dumps(self.raw, indent=1) + "\n")

    # ---- the daemon ----

    def engines(self, everyone):
        return [c for c in everyone if isinstance(c, contestants.Pt2d)]

    def service(self, daemon, everyone, dtype):
        """The sessions of all engines with one dtype, in turn."""
        case, served = contestants.Case(dtype, self.main_length), {}
        for engine in self.engines(everyone):
            if dtype not in engine.dtypes:
                continue
            try:
                served[engine] = service.Served(daemon, engine.engine, case, self.args.sessions)
            except contestants.Unavailable as e:
                self.refuse(engine, case, e)
        for i in range(self.args.rounds):
            for engine, sessions in served.items():
                sessions.measure(self.args.seconds, lambda n, answer, load: self.raw[
                    "service"].append({"contestant": engine.name, "dtype": dtype, "sessions": n,
                                       "answer": answer, "load": load}))
                progress(f"{dtype}, over HTTP, round {i + 1}: {engine.name}: " + ", ".join(
                    f"{f['load']['tokens_per_second']:.1f} by {f['sessions']} ({f['answer']})"
                    for f in self.raw["service"][-len(self.args.sessions) - 3:]))
        for sessions in served.values():
            sessions.close()
        self.save()

    def memory(self, everyone):
        for engine in self.engines(everyone):
            for dtype in (d for d in self.args.dtypes if d in engine.dtypes):
                case = contestants.Case(dtype, self.main_length)
                progress(f"memory and load: {engine.name}, {dtype}")
                try:
                    figures = service.memory(self.files, engine.engine, case)
                except contestants.Unavailable as e:
                    self.refuse(engine, case, e)
                    continue
                self.raw["memory"].append({"contestant": engine.name, "dtype": dtype, **figures})
        self.raw["start"] = service.starts(self.files)

    def measure(self):
        if self.raw["machine"]["load"] > BUSY:
            progress(f"the machine is busy (load {self.raw['machine']['load']:.1f}): "
                     "these figures will say little")
        with contestants.Daemon(self.files) as daemon:
            everyone = self.all(daemon)
            self.settings(everyone)
            self.cases(everyone)
            for dtype in self.args.dtypes if "service" in self.args.parts else []:
                self.service(daemon, everyone, dtype)
        if "memory" in self.args.parts and self.engines(everyone):
            self.memory(everyone)
        self.save()
        return self.raw


def measured(args):
    python, llama = subprocess.run([HERE / "peers-env"], stdout=subprocess.PIPE, text=True,
                                   check=True).stdout.split()
    contestants.use_build(args.build.resolve())
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="pt2d-bench-",
                                            dir=os.environ.get("TMPDIR", "/var/tmp")))
    try:
        return Run(args, contestants.Files(args.build.resolve(), CACHE, scratch, python, llama,
                                           args.threads)).measure()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def main():
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit("steps.py: ended"))
    args = arguments()
    raw = json.loads(args.report.read_text()) if args.report else measured(args)
    told = report.Report(raw)
    print("\n".join(told.lines()))
    if args.plot:
        args.plot.write_text(plot.draw(told))


if __name__ == "__main__":
    main()
