#!/usr/bin/env python3
"""under_load.py - what a daemon under load answers, and how late.

First requests, by wrk: each kind on 1, 16, 256 and 1000 connections, kept and closed, and in
the same minute the same number of bytes from bench/hello, a bare libmicrohttpd.  wrk waits for
each answer before it asks again, so its latencies are those of that many patient clients.

Then steps, by bench/load: 1, 16 and 64 sessions as fast as answers come, which says what the
daemon can do; at half of that and at four fifths, by an open loop, whose latencies
count from when a step was due; and at half of it while others upload, download and export.

Prints rows for doc/reliability.md, and writes all figures to --json."""

import argparse
import contextlib
import json
import os
import pathlib
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests/http"))
sys.dont_write_bytecode = True

import harness  # noqa: E402
from exporting import export, sha256  # noqa: E402
from test_vanish import write_model  # noqa: E402

MIB = 1 << 20
POSITIONS = 1024  # of the cache; steps go through the first 512
SHARES = (0.5, 0.8)
VOCAB = 16384


def read_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", default="build", type=pathlib.Path)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--seconds", type=float, default=3, help="of one measurement")
    parser.add_argument("--rounds", type=int, default=3, help="the median counts")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16, 256, 1000])
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--parts", nargs="+", default=["requests", "steps"],
                        choices=["requests", "steps"])
    args = parser.parse_args()
    args.build = args.build.resolve()
    harness.BUILD, harness.TIMEOUT = str(args.build), 600
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return args


@contextlib.contextmanager
def hello(build):
    """The port of a bare libmicrohttpd."""
    child = subprocess.Popen([build / "bench/hello"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield int(child.stdout.readline())
    finally:
        child.stdin.close()
        child.wait()


def by_median(results, key):
    """The result that has the median of key."""
    return sorted(results, key=lambda r: r[key])[len(results) // 2]


# ---- requests ----

def wrk(args, port, path, connections, headers):
    flags = [part for header in headers for part in ("-H", header)]
    done = subprocess.run(
        ["wrk", "-t", str(min(2, connections)), "-c", str(connections), "-d", f"{args.seconds:.0f}s",
         "--timeout", "60s", "-s", HERE / "under_load.lua", *flags, f"http://127.0.0.1:{port}{path}"],
        capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"wrk: {done.stderr or done.stdout}")
    result = json.loads(done.stdout.splitlines()[-1])
    if result["failed"]:
        raise RuntimeError(f"{path}, {connections} connections: {result['failed']} requests failed")
    return {**result, "rate": result["requests"] / result["seconds"]}


def requests(d, bare, program, args):
    size = d.head(f"/v1/programs/{program}/file", expect=200).headers["Content-Length"]
    of = f"/v1/programs/{program}"
    kinds = [("`/healthz`", "/healthz", ()), ("`/v1/programs`", "/v1/programs", ()),
             ("a program", of, ()), ("`/metrics`", "/metrics", ()),
             ("1 MiB of a file", of + "/file", (f"Range: bytes=0-{MIB - 1}",)),
             (f"a file, {int(size) / MIB:.0f} MiB", of + "/file", ())]
    print("| request | connections | requests/s | of bare | p50, ms | p90 | p99 | p99.9 |\n|---|---|---|---|---|---|---|---|")
    for name, path, headers in kinds:
        n_bytes = len(d.get(path, headers=dict(h.split(": ") for h in headers)).body)
        for keep in (True, False):
            for connections in args.connections:
                if n_bytes > 4 * MIB and connections > 16 or not keep and n_bytes >= MIB:
                    continue  # what is measured there is the loopback's memory
                more = (*headers, *(() if keep else ("Connection: close",)))
                pairs = [(wrk(args, d.port, path, connections, more),
                          wrk(args, bare, f"/{n_bytes}", connections, more)) for _ in range(args.rounds)]
                share = statistics.median(ours["rate"] / max(theirs["rate"], 1e-3) for ours, theirs in pairs)
                best = by_median([ours for ours, _ in pairs], "rate")
                print(f"| {name} | {connections}{'' if keep else ', closed'} | {best['rate']:.0f} | {share:.2f} | "
                      f"{best['p50']:.2f} | {best['p90']:.2f} | {best['p99']:.2f} | {best['p99.9']:.2f} |", flush=True)
                yield {"request": name, "connections": connections, "kept": keep, "bytes": n_bytes,
                       "share": share, "rounds": pairs}


# ---- steps ----

def load(args, d, sessions, *flags):
    done = subprocess.run([args.build / "bench/load", "-a", "top", "-c", "512", "-s", str(args.seconds),
                           *flags, str(d.port), *sessions], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"load: {done.stderr.strip()}")
    return json.loads(done.stdout)


def alone(args, d, program):
    """Tokens a second of the engine with one session, and no daemon."""
    path = next(pathlib.Path(d.state, "objects").rglob(f"*{program[8:40]}*"))
    said = subprocess.run([args.build / "bench/library", path], capture_output=True, text=True, check=True).stdout
    return float(re.search(r"one session: ([0-9.]+)", said).group(1))


@contextlib.contextmanager
def others(d, program):
    """While somebody uploads a program, somebody downloads one, and somebody exports, again and again."""
    end, failures = threading.Event(), []
    data = d.get(f"/v1/programs/{program}/file", expect=200).body
    lengths = iter(range(64, POSITIONS))

    def make():
        job = export(d, model="m", cache={"max_cache_len": next(lengths)})
        d.delete(f"/v1/programs/{job['program']}", expect=204)

    def again(act):
        try:
            while not end.is_set():
                act()
        except Exception as e:
            failures.append(e)
    acts = (lambda: d.put(f"/v1/programs/{sha256(data)}", body=data, expect=(200, 201)),
            lambda: d.get(f"/v1/programs/{program}/file", expect=200), make)
    threads = [threading.Thread(target=again, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        end.set()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]


def row(n, what, result, one):
    t, rate = result["latency_ms"], result["tokens_per_second"]
    print(f"| {n} | {what} | {rate:.0f} | {rate / one:.2f} | {t['p50']:.2f} | {t['p90']:.2f} | {t['p99']:.2f} | "
          f"{t['p99.9']:.2f} | {t['max']:.1f} |", flush=True)
    return {"sessions": n, "what": what, "result": result, "alone": one}


def steps(d, program, args):
    one = alone(args, d, program)
    print(f"\nThe engine alone, one session: {one:.0f} tokens/s\n\n"
          "| sessions | load | steps/s | of the engine alone, one session | p50, ms | p90 | p99 | p99.9 | max |\n"
          "|---|---|---|---|---|---|---|---|---|")
    for n in args.sessions:
        sessions = [d.post("/v1/sessions", {"program": program, "engine": "native", "ttl": 86400},
                           expect=201).json["id"] for _ in range(n)]
        full = by_median([load(args, d, sessions) for _ in range(args.rounds)], "tokens_per_second")
        yield row(n, "as fast as answers come", full, one)
        for share in SHARES:
            paced = ("-r", str(share * full["tokens_per_second"]))
            results = [load(args, d, sessions, *paced) for _ in range(args.rounds)]
            yield row(n, f"{share:.0%} of that", by_median(results, "tokens_per_second"), one)
        paced = ("-r", str(SHARES[0] * full["tokens_per_second"]))
        with others(d, program):
            yield row(n, f"{SHARES[0]:.0%}, with an upload, a download and an export",
                      load(args, d, sessions, *paced), one)
        for session in sessions:
            d.delete(f"/v1/sessions/{session}", expect=204)


def main():
    args, raw = read_arguments(), {}
    if not shutil.which("wrk"):
        sys.exit("under_load.py: wrk is not installed")
    with tempfile.TemporaryDirectory(prefix="pt2d-load-") as models:
        write_model(os.path.join(models, "m"), hidden=512, vocab=VOCAB)
        path = pathlib.Path(models, "m", "config.json")
        path.write_text(json.dumps({**json.loads(path.read_text()), "max_position_embeddings": POSITIONS}))
        # every request of 1000 connections may wait, so that none is refused
        with harness.Daemon("--set", "daemon.log_level=warning", "--set", "http.pool_queue=1024",
                            models=models) as d, hello(args.build) as bare:
            program = export(d, model="m", cache={"max_cache_len": POSITIONS})["program"]
            if "requests" in args.parts:
                raw["requests"] = list(requests(d, bare, program, args))
            if "steps" in args.parts:
                raw["steps"] = list(steps(d, program, args))
    if args.json:
        args.json.write_text(json.dumps(raw, indent=1))


if __name__ == "__main__":
    main()
