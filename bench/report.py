"""report.py - the table of steps.py, from its raw figures."""

import statistics

MB = 1e6


def of(figures, **wanted):
    return [f for f in figures if all(f[name] == value for name, value in wanted.items())]


def speed(values):
    """Tokens a second: the rounds' median, and the best."""
    digits = 0 if min(values) >= 100 else 1
    return f"{statistics.median(values):.{digits}f} ({max(values):.{digits}f})"


def milliseconds(value):
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


class Report:
    def __init__(self, raw):
        self.raw, self.settings = raw, raw["settings"]
        # one probe in many times is far off: the clock of a virtual machine jumps
        self.bandwidth = statistics.median(raw["bandwidth"]["anonymous"])

    def limit(self, dtype):
        """Tokens a second that reading the weights alone allows."""
        return self.bandwidth / self.raw["weight_bytes"][dtype]

    # ---- cells ----

    def steps(self, name, dtype, length, mode="steps"):
        for f in of(self.raw["steps"], contestant=name, dtype=dtype, length=length, mode=mode):
            return speed(f["rounds"])
        for i, f in enumerate(self.raw["unavailable"]):
            if (f["contestant"], f["dtype"], f["length"], f["mode"]) == \
                    (name, dtype, length, mode):
                return f"no [{i + 1}]"
        return "–"

    def share(self, name, dtype):
        for f in of(self.raw["steps"], contestant=name, dtype=dtype, mode="steps",
                    length=self.settings["main_length"]):
            return f"{100 * statistics.median(f['rounds']) / self.limit(dtype):.0f} %"
        return "–"

    def facts(self, name, dtype):
        """Seconds to load, megabytes."""
        for f in of(self.raw["memory"], contestant=name, dtype=dtype):
            return (f"{statistics.median(f['load_seconds']):.2f}",
                    f"{f['program_bytes'] / MB:.0f} + {f['session_bytes'] / MB:.1f}")
        for f in of(self.raw["steps"], contestant=name, dtype=dtype, mode="steps",
                    length=self.settings["main_length"]):
            if f["facts"]:
                return (f"{f['facts']['load_seconds']:.1f}",
                        f"{f['facts']['memory_bytes'] / MB:.0f}")
        return "–", "–"

    def sessions(self, name, dtype, n):
        runs = [f["load"] for f in of(self.raw["service"], contestant=name, dtype=dtype,
                                      sessions=n, answer="binary")]
        if not runs:
            return "–"
        p50, p99 = (statistics.median(r["latency_ms"][p] for r in runs) for p in ("p50", "p99"))
        return (f"{speed([r['tokens_per_second'] for r in runs])}, "
                f"{milliseconds(p50)}/{milliseconds(p99)}")

    # ---- rows ----

    def table(self):
        lengths, counts = self.settings["lengths"], self.settings["sessions"]
        main = self.settings["main_length"]
        head = ["contestant", *(f"cache {n}" for n in lengths), f"of limit, {main}",
                f"prefill {self.settings['prefill_tokens']}", "load s", "MB",
                *(f"{n} over HTTP, ms" for n in counts)]
        yield "| " + " | ".join(head) + " |"
        yield "|---" * len(head) + "|"
        for name, dtype in self.rows():
            cells = [f"{name}, {dtype}", *(self.steps(name, dtype, n) for n in lengths),
                     self.share(name, dtype),
                     self.steps(name, dtype, main, "prefill"), *self.facts(name, dtype),
                     *(self.sessions(name, dtype, n) for n in counts)]
            yield "| " + " | ".join(cells) + " |"
        yield "| **limit by reading**, " + ", ".join(
            f"{d}: {self.limit(d):.1f}" for d in self.raw["weight_bytes"]) + \
            " |" * len(head)

    def rows(self):
        """(contestant, dtype), dtypes together."""
        seen = []
        for dtype in self.raw["weight_bytes"]:
            for f in self.raw["steps"] + self.raw["unavailable"]:
                if f["dtype"] == dtype and (f["contestant"], dtype) not in seen:
                    seen.append((f["contestant"], dtype))
        order = self.settings["contestants"]
        dtypes = list(self.raw["weight_bytes"])
        return sorted(seen, key=lambda row: (dtypes.index(row[1]), order.index(row[0])))

    # ---- lines ----

    def http(self):
        for name in self.settings["contestants"]:
            for dtype in self.raw["weight_bytes"]:
                runs = {a: [f["load"] for f in of(self.raw["service"], contestant=name,
                                                  dtype=dtype, sessions=1, answer=a)]
                        for a in ("binary", "none", "top", "json")}
                if not all(runs.values()):
                    continue
                beside = {a: statistics.median(r["http_ms"]["p50"] + r["queue_ms"]["p50"]
                                               for r in loads) for a, loads in runs.items()}
                yield (f"- {name}, {dtype}: latency beside the run of the step (median): "
                       f"{1e3 * beside['binary']:.0f} µs with "
                       f"{runs['binary'][0]['answer_bytes']:,} bytes of logits, {1e3 * beside['none']:.0f} µs with none, "
                       f"{1e3 * beside['top']:.0f} µs with the best token's id in JSON, "
                       f"{beside['json']:.2f} ms with all logits in JSON "
                       f"({beside['json'] - beside['binary']:.2f} ms more than as bytes)")

    def start(self):
        starts = self.raw["start"]
        if not starts:
            return
        yield (f"- start to ready: {1e3 * statistics.median(s['seconds'] for s in starts):.0f} ms "
               f"(best {1e3 * min(s['seconds'] for s in starts):.0f}); then resident "
               f"{statistics.median(s['rss_bytes'] for s in starts) / MB:.1f} MB, private "
               f"{statistics.median(s['private_bytes'] for s in starts) / MB:.1f} MB; libtorch "
               f"{'is' if any(s['libtorch'] for s in starts) else 'not'} loaded")

    def lines(self):
        raw, settings = self.raw, self.settings
        yield (f"{raw['date']}, {raw['machine']['cpu']}, {raw['machine']['cores']} cores, "
               f"{raw['machine']['memory_gb']:.0f} GB, {raw['machine']['system']}, load "
               f"{raw['machine']['load']:.2f} at the start; pt2d {raw['versions']['pt2d']}, "
               + ", ".join(f"{n} {v}" for n, v in raw["versions"].items() if n != "pt2d")
               + f". `{raw['command']}`")
        yield ""
        yield (f"SmolLM2-135M-Instruct, {settings['threads']} threads. Tokens a second, one at a "
               f"time at the end of a static cache of that length, all contestants in turn, "
               f"{settings['rounds']} rounds: median (best). Reading reaches "
               f"{self.bandwidth / 1e9:.1f} GB/s in anonymous memory, "
               f"{statistics.median(raw['bandwidth']['file']) / 1e9:.1f} GB/s in a mapped program; the limit is "
               f"that over the bytes of all matrices. Over HTTP: tokens a second of all sessions "
               f"together, answers as bytes, then the latency's p50/p99. MB: private memory, "
               f"weights included where they are not mapped; of pt2d a program + a session.")
        yield ""
        yield from self.table()
        yield ""
        yield from self.http()
        yield from self.start()
        for i, f in enumerate(raw["unavailable"]):
            yield (f"- [{i + 1}] {f['contestant']}, {f['dtype']}, {f['mode']} at {f['length']}: "
                   f"{f['reason']}")
