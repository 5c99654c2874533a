#!/usr/bin/env python3
"""The service's own endpoints, and what holds for every request."""

import json
import re

from harness import Daemon, main, until


def story_health_readiness_and_version(d):
    assert d.get("/healthz", expect=200).json == {"status": "ok"}
    assert d.get("/readyz", expect=200).json == {"status": "ready"}
    version = d.get("/version", expect=200).json
    assert version["name"] == "pt2d" and version["api"] == "v1"


def story_head_is_get_without_the_body(d):
    got, headed = d.get("/version", expect=200), d.head("/version", expect=200)
    assert headed.body == b""
    for name in ("Content-Type", "Content-Length", "Cache-Control"):
        assert got.headers[name] == headed.headers[name], name


def story_unknown_paths_methods_and_parameters_are_refused(d):
    assert d.get("/v1/nothing", expect=404).problem == "not-found"
    assert d.get("/healthz/", expect=404).problem == "not-found"
    reply = d.delete("/healthz", expect=405)
    assert reply.problem == "method-not-allowed" and reply.headers["Allow"] == "GET, HEAD"
    assert "'limt'" in d.get("/healthz?limt=3", expect=422).json["detail"]
    d.get("/healthz?a=%zz", expect=400, label="bad escape in the query")


def story_paths_are_split_before_they_are_decoded(d):
    for path in ("/v1/%00", "/healthz/%2e%2e", "/v1/../healthz", "/./healthz", "/a%2", "/%ff"):
        reply = d.raw(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").reply()
        assert reply.status == 400, f"{path}: {reply}"
    d.get("/%2Fhealthz", expect=404, label="an escaped slash is none")
    d.get("/h%65althz", expect=404, label="literals are compared as they come")


def story_request_ids_are_given_or_kept(d):
    assert d.get("/healthz").headers["X-Request-Id"]
    reply = d.get("/nope", headers={"X-Request-Id": "job-42.a"}, expect=404)
    assert reply.headers["X-Request-Id"] == "job-42.a"
    odd = 'a"b<c>'
    assert d.get("/healthz", headers={"X-Request-Id": odd}).headers["X-Request-Id"] != odd


def story_media_types_are_negotiated(d):
    d.get("/version", headers={"Accept": "text/html"}, expect=406)
    d.get("/version", headers={"Accept": "text/html, */*;q=0.1"}, expect=200)
    d.get("/version", headers={"Accept": "application/*"}, expect=200)
    d.get("/version", headers={"Accept": "application/json;q=0"}, expect=406)
    d.get("/version", body=b"x", expect=415, label="a body where none is taken")


def story_metrics_count_requests(d):
    def counted():
        return d.metric("pt2d_http_requests_total", route="/version", status="200")

    d.get("/version", expect=200)
    # a request counts when its connection is through with it, after its answer is here
    before = until(lambda: counted() and d.metric("pt2d_http_requests_active") == 1 and counted(), "the first")
    d.get("/version", expect=200)
    until(lambda: counted() == before + 1, "the second")
    text = d.get("/metrics", expect=200)
    assert text.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert 'pt2d_http_request_duration_seconds_bucket{route="/version",le="+Inf"}' in text.text


def resolve(document, ref):
    part = document
    for name in ref.removeprefix("#/").split("/"):
        part = part[name.replace("~1", "/").replace("~0", "~")]
    return part


def refs_of(part):
    if isinstance(part, dict):
        for key, value in part.items():
            if key == "$ref":
                yield value
            else:
                yield from refs_of(value)
    elif isinstance(part, list):
        for item in part:
            yield from refs_of(item)


def story_the_openapi_document_is_whole(d):
    document = d.get("/openapi.json", expect=200).json
    assert document["openapi"].startswith("3.1")
    ids = []
    for ref in refs_of(document):
        resolve(document, ref)
    for path, item in document["paths"].items():
        for method, operation in item.items():
            ids.append(operation["operationId"])
            assert operation["summary"] and operation["responses"], (path, method)
            names = {resolve(document, p["$ref"])["name"] if "$ref" in p else p["name"]
                     for p in operation["parameters"]}
            for part in path.split("/"):
                if part.startswith("{"):
                    assert part[1:-1] in names, (path, names)
    assert len(ids) == len(set(ids))
    shapes = [re.sub(r"\{.*?\}", "{}", path) for path in document["paths"]]
    assert len(shapes) == len(set(shapes)), "two paths differ in a parameter's name alone"
    assert {"/healthz", "/readyz", "/version", "/metrics", "/openapi.json"} <= set(document["paths"])


def story_a_unix_socket_serves_too():
    import os
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "pt2d.sock")
        for _ in range(2):  # the second one replaces the first one's socket
            with Daemon(listen=f"unix:{path}") as d:
                assert d.get("/healthz", expect=200).json == {"status": "ok"}
                d.kill()
                d.start()
                d.get("/readyz", expect=200)
        assert not os.path.exists(path)


def story_json_bodies_are_read_strictly(d):
    # POST /v1/exports is the oldest route with a JSON body; any would do.
    paths = d.get("/openapi.json").json["paths"]
    path = next((p for p in ("/v1/exports", "/v1/sessions") if p in paths), None)
    if path is None:
        return
    def post(text, status, **headers):
        headers = {"Content-Type": "application/json", **headers}
        return d.request("POST", path, body=text.encode(), headers=headers, expect=status)
    assert post("{", 400).problem == "bad-json"
    assert post('{"a": 1, "a": 2}', 422).problem == "invalid-request"
    assert post("[]", 422).problem == "invalid-request"
    assert post('{"nonsense": 1}', 422).json["errors"]
    assert "--json" in post("{}", 415, **{"Content-Type": "text/plain"}).json["detail"]
    assert post("{}", 415, **{"Content-Type": "application/json; charset=latin1"})
    assert post("{}", 415, **{"Content-Encoding": "gzip"})
    assert json.dumps(post("", 400).json)


if __name__ == "__main__":
    main(globals())
