#!/usr/bin/env python3
"""What an operator watches: GET /metrics says what happened, in a format that scrapers take."""

import os
import time

import prometheus
from exporting import export, finish, gate, in_state, submit, submit_id
from harness import Daemon, main, until
from stepping import Session, program


def metrics(d):
    return prometheus.parse(d.get("/metrics", expect=200).text)


def refuses(text):
    try:
        prometheus.parse(text)
    except AssertionError:
        return True
    return False


def story_the_reader_is_strict():
    good = "# HELP a_total What\n# TYPE a_total counter\na_total{x=\"1\"} 3\n"
    assert prometheus.parse(good)["a_total"].value(x="1") == 3
    for bad in (good[:-1], good + good, good.replace("TYPE a_total counter", "TYPE a_total gauge"),
                good.replace("} 3", "} x"), good.replace("} 3", "}  3"), good.replace("a_total{", "b_total{"),
                good.replace('"1"', '"1'), good.replace('"1"', '"\\q"'), good + 'a_total{x="1"} 4\n',
                good.replace(" 3", " -3"), good.split("\n", 1)[1],
                good.replace("counter", "histogram").replace("a_total", "a_ms")):
        assert refuses(bad), bad
    buckets = ('# HELP h_seconds What\n# TYPE h_seconds histogram\nh_seconds_bucket{le="1"} 1\n'
               'h_seconds_bucket{le="+Inf"} 2\nh_seconds_sum 3\nh_seconds_count 2\n')
    assert prometheus.parse(buckets)["h_seconds"].value("_count") == 2
    for bad in (buckets.replace('"1"} 1', '"1"} 3'), buckets.replace("count 2", "count 3"),
                buckets.replace("+Inf", "2")):
        assert refuses(bad), bad


def story_all_is_well_formed_from_the_start(d):
    m = metrics(d)
    assert m["pt2d_build_info"].value(version=d.get("/version").json["version"]) == 1
    assert m["pt2d_jobs_finished_total"].value(outcome="failed", format="pte") == 0
    assert len(m["pt2d_jobs_finished_total"].samples) == 8, "so that the first failure is an increase"
    assert m["pt2d_session_cache_limit_bytes"].value() == 1 << 30
    assert m["pt2d_job_workers"].value() == 2 and m["pt2d_jobs_queue_limit"].value() == 1000


def story_the_process_is_measured(d):
    m = metrics(d)
    began = m["process_start_time_seconds"].value()
    assert abs(time.time() - began) < 600 and began > time.time() - 600
    pid = d.process.pid
    with open(f"/proc/{pid}/statm") as f:
        total, resident = [int(word) * os.sysconf("SC_PAGE_SIZE") for word in f.read().split()[:2]]
    assert abs(m["process_resident_memory_bytes"].value() - resident) < 32 << 20
    assert abs(m["process_virtual_memory_bytes"].value() - total) < 256 << 20
    assert 5 < m["process_open_fds"].value() < m["process_max_fds"].value()
    assert metrics(d)["process_start_time_seconds"].value() == began
    assert 0 < m["process_cpu_seconds_total"].value() < 600


def story_exports_are_counted_by_their_end_and_format(d):
    before = metrics(d)
    exported = export(d, cache={"max_cache_len": 72})
    assert submit(d, cache={"max_cache_len": 72}).json["cached"]
    export(d, cache={"max_cache_len": 72}, format="pte")
    after = metrics(d)

    def more(name, suffix="", **labels):
        return after[name].value(suffix, **labels) - before[name].value(suffix, **labels)
    finished = "pt2d_jobs_finished_total"
    assert more(finished, outcome="succeeded", format="pt2") == 1
    assert more(finished, outcome="succeeded", format="pte") == 1
    assert more(finished, outcome="cached", format="pt2") == 1
    assert more(finished, outcome="failed") == more(finished, outcome="cancelled") == 0
    assert more("pt2d_job_duration_seconds", "_count", format="pt2") == 1
    assert more("pt2d_job_duration_seconds", "_sum", format="pt2") > 0
    assert more("pt2d_job_queue_seconds", "_count") == 2
    assert exported["id"] in d.log() and "of model 'demo' succeeded after" in d.log()


def story_a_queue_and_its_oldest_job_show():
    with gate() as door, Daemon("--set", "exports.workers=1", env=door.env) as d:
        first = submit_id(d, cache={"max_cache_len": 40})
        in_state(d, first, "running")
        second = submit_id(d, cache={"max_cache_len": 41})
        time.sleep(0.3)
        m = metrics(d)
        assert m["pt2d_jobs_queued"].value() == 1 and m["pt2d_job_workers_busy"].value() == 1
        assert 0.3 <= m["pt2d_jobs_oldest_queued_age_seconds"].value() < 60
        d.post(f"/v1/exports/{second}/cancel", expect=202)
        m = metrics(d)
        assert m["pt2d_jobs_queued"].value() == m["pt2d_jobs_oldest_queued_age_seconds"].value() == 0
        assert m["pt2d_jobs_finished_total"].value(outcome="cancelled", format="pt2") == 1
        door.open()
        finish(d, first)
        until(lambda: metrics(d)["pt2d_job_workers_busy"].value() == 0, "the worker rests")


def story_steps_are_counted_by_program_and_kind(d):
    p = program(d)
    label = p[:12]
    before = metrics(d)
    s = Session(d, p)
    s.step([5, 6, 7])
    for token in (8, 9):
        s.step([token])
    s.step([1], cache_position=[9], expect=409)
    after = metrics(d)

    def more(name, suffix="", **labels):
        return after[name].value(suffix, **labels) - before[name].value(suffix, **labels)
    assert more("pt2d_step_tokens_total", program=label, kind="prompt") == 3
    assert more("pt2d_step_tokens_total", program=label, kind="generated") == 2
    assert more("pt2d_step_run_seconds", "_count", program=label) == 3
    assert more("pt2d_step_queue_seconds", "_count") == 3
    assert more("pt2d_steps_total", result="ok") == 3 and more("pt2d_steps_total", result="failed") == 1
    assert more("pt2d_step_batch_steps", "_count") >= 3
    assert more("pt2d_step_batch_rows", "_sum") == 5
    assert after["pt2d_programs_open"].value() >= 1
    assert after["pt2d_session_cache_bytes"].value() > 0
    s.delete()
    assert metrics(d)["pt2d_sessions_ended_total"].value(how="deleted") == \
        before["pt2d_sessions_ended_total"].value(how="deleted") + 1


def story_tokens_count_for_each_row_of_a_batch(d):
    p = program(d, batch=3)
    s = Session(d, p)
    s.step([[1], [2], [3]])
    assert metrics(d)["pt2d_step_tokens_total"].value(program=p[:12]) == 3


def story_refusals_are_counted_by_reason(d):
    def counted(**labels):
        return metrics(d)["pt2d_http_problems_total"].value(**labels)
    before = counted(type="not-found", route="/v1/programs/{id}", status="404")
    d.get("/v1/programs/nothing", expect=404)
    until(lambda: counted(type="not-found", route="/v1/programs/{id}", status="404") == before + 1, "404")
    d.post("/v1/exports", {"modl": "demo"}, expect=422)
    until(lambda: counted(type="invalid-request", route="/v1/exports", status="422") == 1, "422")
    assert d.raw("POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                 f"Content-Length: {1 << 30}\r\n\r\n").reply().status == 413
    until(lambda: counted(type="too-large", route="/v1/sessions", status="413") == 1, "413, answered by ourselves")
    assert counted(status="500") == 0


def story_a_full_budget_shows_as_refusals():
    with Daemon("--set", "sessions.max_sessions=1", "--set", "exports.max_queued=1") as d:
        p = program(d)
        Session(d, p)
        d.post("/v1/sessions", {"program": p}, expect=429)
        until(lambda: metrics(d)["pt2d_http_problems_total"].value(type="memory-budget", status="429") == 1, "429")
        m = metrics(d)
        assert m["pt2d_sessions"].value() == m["pt2d_sessions_limit"].value() == 1


def story_failures_of_ours_show_by_type():
    with Daemon() as d:
        p = program(d)
        stored = os.path.join(d.state, "objects", p[:2], p)
        with open(stored + ".damaged", "wb") as f:
            f.write(b"no archive")
        os.replace(stored + ".damaged", stored)
        reply = d.post("/v1/sessions", {"program": p}, expect=500)
        until(lambda: metrics(d)["pt2d_http_problems_total"].value(
            type=reply.problem, route="/v1/sessions", status="500") == 1, "500")


def story_the_store_is_measured(d):
    p = d.get(f"/v1/programs/{program(d)}", expect=200).json
    fs = os.statvfs(d.state)
    assert abs(metrics(d)["pt2d_store_free_bytes"].value() - fs.f_bavail * fs.f_frsize) < 4 << 30
    with Daemon(state=d.state + "2") as other:  # measured when first asked
        program(other)
        metrics(other)

        def measured():
            m = metrics(other)
            return m["pt2d_store_programs"].value() == 1 and m
        m = until(measured, "the store's figures")
        assert m["pt2d_store_bytes"].value(kind="objects") >= p["bytes"]
        assert m["pt2d_store_bytes"].value(kind="database") > 0


def story_programs_close_when_idle():
    with Daemon("--set", "engine.idle=1 ms", "--set", "sessions.ttl=1 s") as d:
        Session(d, program(d))
        until(lambda: metrics(d)["pt2d_programs_closed_total"].value(why="idle") == 1, "closed")
        m = metrics(d)
        assert m["pt2d_sessions_ended_total"].value(how="expired") == 1
        assert m["pt2d_programs_open"].value() == 0


if __name__ == "__main__":
    main(globals())
