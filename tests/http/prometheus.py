"""prometheus.py - Prometheus' text format 0.0.4, read strictly: what a scraper may be picky about is an error."""

import math
import re

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)\}})? (\S+)")


class Family:
    def __init__(self, name, help_text):
        self.name, self.help, self.kind, self.samples = name, help_text, None, {}

    def value(self, suffix="", **labels):
        """The sum of the samples whose labels hold these."""
        return sum(value for (name, has), value in self.samples.items()
                   if name == self.name + suffix and labels.items() <= dict(has).items())


def number(text):
    assert re.fullmatch(r"[+-]?(\d+(\.\d+)?([eE][+-]?\d+)?|Inf|NaN)", text), f"no number: {text}"
    return float(text)


def read_sample(line, family):
    match = SAMPLE.fullmatch(line)
    assert match, f"no sample: {line}"
    name = match[1]
    suffixes = ("_bucket", "_sum", "_count") if family.kind == "histogram" else ("",)
    assert name in [family.name + suffix for suffix in suffixes], f"{name} within {family.name}"
    labels = tuple(re.findall(LABEL, match[2] or ""))
    names = [label for label, _ in labels]
    assert len(set(names)) == len(names), f"a label is there twice: {line}"
    assert ("le" in names) == name.endswith("_bucket"), line
    assert (name, labels) not in family.samples, f"a sample is there twice: {line}"
    family.samples[name, labels] = number(match[match.lastindex])


def check_histogram(family):
    """Each series: bounds rise, counts too, +Inf is the last one and the count."""
    series = {}
    for (name, labels), value in family.samples.items():
        own = tuple(pair for pair in labels if pair[0] != "le")
        part = series.setdefault(own, {"buckets": []})
        if name.endswith("_bucket"):
            part["buckets"].append((number(dict(labels)["le"]), value))
        else:
            part[name.removeprefix(family.name)] = value
    for own, part in series.items():
        bounds = [bound for bound, _ in part["buckets"]]
        counts = [count for _, count in part["buckets"]]
        where = f"{family.name}{own}"
        assert bounds == sorted(set(bounds)) and math.isinf(bounds[-1]), f"{where}: bounds {bounds}"
        assert counts == sorted(counts) and counts[-1] == part["_count"], f"{where}: counts {counts}"
        assert part["_sum"] >= 0, where


def check_conventions(family):
    """What promtool's linter says of names and units."""
    assert family.help and not family.help.endswith("."), f"{family.name}: help '{family.help}'"
    assert (family.kind == "counter") == family.name.endswith("_total"), f"{family.name} is a {family.kind}"
    assert not re.search(r"_(ms|millis\w*|minutes?|hours?|kb|mb|percent|micros\w*)(_|$)", family.name), family.name
    assert not re.search(r"_(bucket|count|sum|info_total)$", family.name), family.name
    for (name, labels) in family.samples:
        assert not {"job", "instance"} & {label for label, _ in labels}, f"{name}: Prometheus has these"


def parse(text):
    """{name: Family}"""
    families, family = {}, None
    assert text.endswith("\n")
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            name, help_text = line[7:].split(" ", 1)
            assert re.fullmatch(NAME, name) and name not in families, line
            family = families[name] = Family(name, help_text)
        elif line.startswith("# TYPE "):
            name, kind = line[7:].split(" ")
            assert family and name == family.name and family.kind is None and not family.samples, line
            assert kind in ("counter", "gauge", "histogram"), line
            family.kind = kind
        else:
            assert family and family.kind, f"a sample before its TYPE: {line}"
            read_sample(line, family)
    for family in families.values():
        if family.kind == "histogram":
            check_histogram(family)
        if family.kind != "gauge":
            assert all(value >= 0 for value in family.samples.values()), family.name
        check_conventions(family)
    return families
