#!/usr/bin/env python3
"""What is installed for Grafana and Prometheus asks for metrics and labels that the daemon has, and for nothing else."""

import json
import os
import re

import prometheus
from exporting import export
from harness import SOURCE, main
from stepping import Session, program

DASHBOARD = os.path.join(SOURCE, "share", "grafana", "pt2d.json")
ALERTS = os.path.join(SOURCE, "share", "prometheus", "pt2d-alerts.yml")
TABLE = os.path.join(SOURCE, "src", "base", "tbl_metrics.h")
RULE = re.compile(r"""      - alert: (Pt2d\w+)
        expr: (.+)
        for: \d+m
        labels: \{severity: (?:critical|warning)\}
        annotations: \{summary: "[^"\n]+"\}
""")
# A metric with its selector: what is not a function, a keyword or a label within "by (…)".
NAMES = re.compile(r"\b((?:pt2d|process)_\w+)(?:\{([^}]*)\})?")


def table():
    """{metric: labels} as the source says."""
    with open(TABLE) as f:
        rows = re.findall(r'^METRIC\(\w+, (\w+), "(\w+)", "([^"]*)"', f.read(), re.M)
    assert len(rows) > 40
    return {name: labels.split() for _, name, labels in rows}


def dashboard():
    with open(DASHBOARD) as f:
        return json.load(f)


def dashboard_expressions():
    d = dashboard()
    return [target["expr"] for panel in d["panels"] for target in panel.get("targets", ())] + \
        [a["expr"] for a in d["annotations"]["list"]] + \
        [v["query"] for v in d["templating"]["list"] if v["type"] == "query"]


def alert_expressions():
    with open(ALERTS) as f:
        text = f.read()
    _, _, rules = text.partition("    rules:\n")
    found = RULE.findall(rules)
    assert RULE.sub("", rules) == "", "a rule is not of the form that is read here"
    assert len(set(name for name, _ in found)) == len(found) > 10
    return [expr for _, expr in found]


def check_expression(expr, families):
    """The metrics that it names are there, as are their labels."""
    names = []
    assert expr.count("(") == expr.count(")") and expr.count("{") == expr.count("}"), expr
    for name, selector in NAMES.findall(expr):
        family = re.sub(r"_(bucket|sum|count)$", "", name) if name not in families else name
        assert family in families, f"there is no metric {name}: {expr}"
        assert (family == name) == (families[family].kind != "histogram"), f"{name}: {expr}"
        labels = set(LABELS[family]) | {"instance"}
        for label in re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', selector):
            assert label in labels, f"{name} has no label {label}: {expr}"
        for group in re.findall(r"by \(([^)]*)\)", expr):
            assert set(group.split(", ")) <= labels | {"le"}, f"{name} is not by {group}: {expr}"
        if families[family].kind == "counter":
            assert re.search(rf"(rate|increase|changes)\({name}\b", expr), f"{name} only grows: {expr}"
        names.append(family)
    assert names, f"it asks for nothing: {expr}"
    return names


LABELS = table()


def story_the_table_is_what_the_daemon_exports(d):
    families = prometheus.parse(d.get("/metrics", expect=200).text)
    assert set(families) == set(LABELS)
    s = Session(d, program(d))
    s.step([1])
    export(d, format="pte", cache={"max_cache_len": 33})
    families = prometheus.parse(d.get("/metrics", expect=200).text)
    for name, family in families.items():
        for _, labels in family.samples:
            assert {label for label, _ in labels} - {"le"} == set(LABELS[name]), f"{name}{labels}"


def story_the_dashboard_asks_for_what_there_is(d):
    families = prometheus.parse(d.get("/metrics", expect=200).text)
    shown = {name for expr in dashboard_expressions() for name in check_expression(expr, families)}
    seldom = {"pt2d_build_info", "process_start_time_seconds", "process_virtual_memory_bytes", "pt2d_jobs_queue_limit",
              "pt2d_store_programs", "pt2d_program_bytes", "pt2d_model_files_total", "pt2d_model_file_bytes_total",
              "pt2d_models_published_total", "pt2d_models_deleted_total",
              "pt2d_tls_certificate_expiry_timestamp_seconds"}
    assert set(families) - shown <= seldom, f"not on the dashboard: {set(families) - shown - seldom}"


def story_the_dashboards_panels_are_whole(d):
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        cells = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
        assert not cells & taken, f"{panel['title']} lies over another panel"
        taken |= cells
        for target in panel.get("targets", ()):
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                assert re.search(rf"by \([^)]*\b{label}\b", target["expr"]) or \
                    label in LABELS[NAMES.search(target["expr"])[1]], f"{panel['title']}: {label}"


def story_the_alerts_ask_for_what_there_is(d):
    families = prometheus.parse(d.get("/metrics", expect=200).text)
    for expr in alert_expressions():
        check_expression(expr, families)


if __name__ == "__main__":
    main(globals())
