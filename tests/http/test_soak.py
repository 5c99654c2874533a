#!/usr/bin/env python3
"""A long life, made short: lives of sessions from 16 clients at once, and nothing is left of them.

PT2_SOAK=10000 tells how many (120).  From 4000 on memory must be flat, too: doc/reliability.md,
"A long life"."""

import json
import os
import signal

import soaking
from exporting import models_of
from harness import SEED, Daemon, main, until
from stepping import workers

N_LIVES = int(os.environ.get("PT2_SOAK") or 120)
N_LONG = 4000      # from here on memory is looked at; by half of them 32 programs had their metrics
IDLE = "1h" if N_LIVES >= N_LONG else "100ms"
MAX_GROWTH = 0.05  # of memory, over the second half; or MAX_BYTES, whichever is more
MAX_BYTES = 2 << 20
MAX_WAL = 8 << 20  # SQLite takes it over into the database from 4 MiB on
ROW_BYTES = 2048   # of the database, for an id or a key that is kept, index and all


def quiet(d):
    """Nobody is there, and what ended has been put away.  A short run's programs close as well;
    a long one's stay open, so that their workers grow old."""
    until(lambda: d.metric("pt2d_sessions") == 0, "the end of sessions")
    until(lambda: d.metric("pt2d_http_connections") <= 1, "the end of connections")
    until(lambda: d.metric("pt2d_http_uploads_active") == 0, "the end of uploads")
    if N_LIVES < N_LONG:
        until(lambda: d.metric("pt2d_programs_open") == 0, "the end of programs")
    until(lambda: len(workers(d)) <= (2 if N_LIVES >= N_LONG else 0), "the end of checks")
    tmp = os.path.join(d.state, "tmp")
    until(lambda: not os.path.isdir(tmp) or not soaking.files_below(tmp), "the end of temporary files")


def growth(samples, name):
    """What a line through the second half's samples gains from its first to its last."""
    ys = [sample[name] for sample in samples[len(samples) // 2:]]
    xs = range(len(ys))
    x0, y0 = sum(xs) / len(xs), sum(ys) / len(ys)
    slope = sum((x - x0) * (y - y0) for x, y in zip(xs, ys)) / sum((x - x0) ** 2 for x in xs)
    return slope * (len(ys) - 1), y0


def check_flat(samples):
    first, second = samples[:len(samples) // 2], samples[len(samples) // 2:]
    for name in ("fds", "threads", "workers", "files", "state"):
        most = max(sample[name] for sample in first)
        assert all(sample[name] <= most for sample in second), (name, samples)
    if N_LIVES < N_LONG:
        return
    assert max(s["series"] for s in second) <= max(s["series"] for s in first), samples
    for name in ("memory", "workers_memory"):
        more, mean = growth(samples, name)
        print(f"{name}: {mean / 2**20:.1f} MiB, {more / 2**10:+.0f} KiB in the second half")
        assert more <= max(MAX_GROWTH * mean, MAX_BYTES), (name, samples)


def story_nothing_is_left_of_many_lives():
    print(f"seed {SEED}, {N_LIVES} lives")
    n_rounds = 20 if N_LIVES >= N_LONG else 4
    with models_of("demo") as models, \
            Daemon(*soaking.FLAGS, "--set", f"engine.idle={IDLE}", models=models) as d:
        soak, samples = soaking.Soak(d, SEED), []
        for i in range(n_rounds):
            soak.round(N_LIVES // n_rounds)
            if i % 2:
                d.signal(signal.SIGHUP)
            quiet(d)
            samples.append(soaking.held(d))
            if N_LIVES >= N_LONG:
                print(json.dumps({"lives": soak.next, **samples[-1]}), flush=True)
        print(json.dumps(dict(sorted(soak.counts.items()))))
        check_flat(samples)
        print("spilled", d.metric("pt2d_session_spills_total", result="ok"))
        assert d.stop() == 0, d.log()
        rows = soaking.rows(d)
        print(json.dumps(rows))
        assert rows["sessions"] <= soak.counts.get("left to expire", 0), rows
        assert rows["programs"] == 3 and rows["jobs"] == len(soak.jobs) == 3, rows
        assert rows["builds"] == 3 and rows["aliases"] == 0, rows
        assert all(sample["wal"] <= MAX_WAL for sample in samples), samples
        n_kept = rows["sessions"] + rows["idempotency"] + rows["files"]
        assert samples[-1]["database"] - samples[0]["database"] <= ROW_BYTES * n_kept + (1 << 20), samples


if __name__ == "__main__":
    main(globals())
