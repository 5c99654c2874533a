#!/usr/bin/env python3
"""The log: one format or the other, a request's id in each of its lines, an audit line for each change."""

import json
import os
import re
import signal
import tempfile

from exporting import copy_demo, export
from harness import Daemon, main, token_file, token_line, until
from stepping import Session, program

ME = re.compile(r"127\.0\.0\.1:\d+")


def lines(d):
    return [json.loads(line) for line in d.log().splitlines()]


def audits(d):
    return [line for line in lines(d) if line["message"] == "audit"]


def audited(d, request_id):
    """The audit line of a request, once it is there."""
    return until(lambda: [a for a in audits(d) if a["request"] == request_id], request_id)[0]


def told(d, method, path, expect, **more):
    """Make a request; its answer and its audit line."""
    reply = d.request(method, path, expect=expect, **more)
    return reply, audited(d, reply.headers["X-Request-Id"])


def story_json_lines_are_objects():
    with Daemon("--set", "daemon.log_format=json") as d:
        d.get("/nothing'\"", headers={"X-Request-Id": "mine"}, expect=404)
        [line] = until(lambda: [x for x in lines(d) if x.get("request") == "mine"], "the line")
        assert line["level"] == "info" and line["message"].startswith("GET '/nothing'\"' 404 in ")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
        assert any("serves on" in x["message"] and "request" not in x for x in lines(d))


def story_the_format_changes_by_a_reload():
    with tempfile.TemporaryDirectory() as directory:
        config = os.path.join(directory, "pt2d.conf")
        with open(config, "w") as f:
            f.write("[daemon]\nlog_level = debug\nlog_format = plain\n")
        with Daemon("--config", config) as d:
            assert not d.log().startswith("{")
            with open(config, "w") as f:
                f.write("[daemon]\nlog_level = debug\nlog_format = json\n")
            d.signal(signal.SIGHUP)
            until(lambda: d.log().splitlines()[-1].startswith("{") and "reloaded" in d.log(), "JSON")
            assert "needs a restart" not in d.log()


def story_handlers_lines_bear_the_request():
    with tempfile.TemporaryDirectory() as models:
        copy_demo(os.path.join(models, "mine"))
        with Daemon("--set", "daemon.log_format=json", models=models) as d:
            reply = d.delete("/v1/models/mine", expect=204)
            [line] = [x for x in lines(d) if x["message"] == "model 'mine' was deleted"]
            assert line["request"] == reply.headers["X-Request-Id"]


def story_changes_of_programs_and_models_are_audited():
    with tempfile.TemporaryDirectory() as models, \
            Daemon("--set", "daemon.log_format=json", models=models) as d:
        copy_demo(os.path.join(models, "demo"))
        reply, audit = told(d, "POST", "/v1/exports", 202, json_body={"model": "demo"})
        assert audit["action"] == "POST /v1/exports" and audit["id"] == reply.json["id"], audit
        assert audit["outcome"] == "done" and audit["status"] == "202" and ME.fullmatch(audit["from"]), audit
        assert "who" not in audit, "there are no tokens"
        p = export(d)["program"]
        _, audit = told(d, "PUT", "/v1/aliases/best", 201, json_body={"program": p})
        assert (audit["id"], audit["program"]) == ("best", p), audit
        _, audit = told(d, "DELETE", f"/v1/programs/{p}", 409)
        assert (audit["id"], audit["outcome"], audit["status"]) == (p, "in-use", "409"), audit
        _, audit = told(d, "DELETE", "/v1/aliases/best", 204)
        assert audit["action"] == "DELETE /v1/aliases/{name}" and audit["outcome"] == "done", audit
        _, audit = told(d, "PUT", "/v1/models/a%2Fb/files/config.json", 201, body=b"{}")
        assert audit["id"] == "a/b config.json", audit
        _, audit = told(d, "DELETE", "/v1/models/a%2Fb", 204)
        assert audit["id"] == "a/b", audit
        _, audit = told(d, "DELETE", f"/v1/exports/{reply.json['id']}", 204)
        assert audit["id"] == reply.json["id"], audit


def story_sessions_are_audited_but_not_their_steps():
    with Daemon("--set", "daemon.log_format=json") as d:
        p = program(d)
        s = Session(d, p)
        [opened] = until(lambda: [a for a in audits(d) if a["action"] == "POST /v1/sessions"], "its audit")
        assert (opened["id"], opened["program"]) == (s.id, p), opened
        reply, audit = told(d, "POST", f"{s.path}/fork", 201, json_body={})
        assert (audit["id"], audit["of"]) == (reply.json["id"], s.id), audit
        before = len(audits(d))
        s.step([1])
        s.rewind(0)
        d.post("/v1/steps", {"steps": [{"session": s.id, "input_ids": [[1]]}]}, expect=200)
        told(d, "DELETE", s.path, 204)
        assert len(audits(d)) == before + 1


def story_what_was_refused_is_audited_too():
    with Daemon("--set", "daemon.log_format=json") as d:
        _, audit = told(d, "POST", "/v1/exports", 422, json_body={"modl": "x"})
        assert audit["outcome"] == "invalid-request" and "id" not in audit, audit
        reply = d.raw("POST /v1/programs HTTP/1.1\r\nHost: x\r\nX-Request-Id: big\r\n"
                      f"Content-Length: {1 << 50}\r\nExpect: 100-continue\r\n\r\n").reply()
        assert reply.status == 413
        audit = audited(d, "big")
        assert audit["outcome"] == "too-large" and ME.fullmatch(audit["from"]), audit


def story_audit_lines_name_the_token():
    with tempfile.TemporaryDirectory() as directory:
        tokens = token_file(directory, token_line("ci", "0123456789abcdef"))
        with Daemon("--set", f"http.token_file={tokens}") as d:
            reply = d.delete("/v1/aliases/none", headers={"Authorization": "Bearer 0123456789abcdef"}, expect=404)
            wanted = (r"info: audit, action 'DELETE /v1/aliases/\{name\}', id none, who ci, from 127\.0\.0\.1:\d+, "
                      rf"outcome not-found, status 404, request {reply.headers['X-Request-Id']}\n")
            until(lambda: re.search(wanted, d.log()), "the line of a token")
            d.delete("/v1/aliases/none", expect=401)
            until(lambda: re.search(r"id none, from \S+, outcome unauthorized, status 401", d.log()), "the line of nobody")


def story_peers_of_unix_sockets_are_users():
    with tempfile.TemporaryDirectory() as directory, \
            Daemon("--set", "daemon.log_format=json", listen=f"unix:{directory}/socket") as d:
        _, audit = told(d, "DELETE", "/v1/aliases/none", 404)
        assert audit["from"] == f"uid:{os.getuid()}", audit


if __name__ == "__main__":
    main(globals())
