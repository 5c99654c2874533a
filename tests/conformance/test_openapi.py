"""Requests made from /openapi.json by schemathesis: what the document allows and what it forbids,
to each operation and in sequences, with ids that exist in part.  No answer is a 5xx, each is one
that the document has, and what it forbids is refused.

By hand: PT2_SEED and PT2_EXAMPLES (of each operation in each phase) make another run, or a longer
one: PT2_EXAMPLES=2000 … pytest -s test_openapi.py."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

import harness
import stepping

HERE = pathlib.Path(__file__).resolve().parent
SEED = os.environ.get("PT2_SEED", "1")
EXAMPLES = int(os.environ.get("PT2_EXAMPLES", "5"))
TOKEN = "openapi-token-of-this-test-0123456789abcdef"
FLAGS = ("--set", "engine.threads=1", "--set", "sessions.max_sessions=64")

CONFIG = """
[checks]
enabled = true
[checks.positive_data_acceptance]
# 412: If-Match names another position.  The others are the default.
expected-statuses = ["2xx", "3xx", 401, 403, 404, 409, 412, 429]
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 409, 412, 413, 415, 416, 422, 429]

[dictionaries.ids]
values = {ids}
[dictionaries.names]
values = ["latest", "config.json", "model.safetensors"]
[parameters]
"path.id" = {{ dictionary = "ids", probability = 0.7 }}
"path.name" = {{ dictionary = "names", probability = 0.5 }}
"body.program" = {{ dictionary = "ids", probability = 0.5 }}
"body.model" = {{ dictionary = "ids", probability = 0.5 }}

# What a schema can't say, so that a body which fits it may still be 422: files are archives or
# checkpoints with the digest that is said, members depend on one another and on the model
# (exports), files have names that a checkpoint's have, the names of a publish differ, sessions.max_ttl is configured, positions and token
# ids are those of the session and its program.
{operations}
# Each step has its own status: the answer is 200, and the bad one's in it is 422.
[[operations]]
include-name = "POST /v1/steps"
checks.positive_data_acceptance.enabled = false
checks.negative_data_rejection.enabled = false
"""
BEYOND_SCHEMA = ("PUT /v1/models/{id}/files/{name}", "PATCH /v1/models/{id}/files/{name}",
                 "GET /v1/models/{id}/files/{name}", "DELETE /v1/models/{id}/files/{name}",
                 "POST /v1/models/{id}/publish", "POST /v1/exports", "POST /v1/programs",
                 "PUT /v1/programs/{id}", "POST /v1/sessions",
                 "POST /v1/sessions/{id}/step", "POST /v1/sessions/{id}/fork",
                 "POST /v1/sessions/{id}/rewind", "PUT /v1/sessions/{id}/cache")


def things(d):
    """Ids of things that exist, by path."""
    program = stepping.program(d)
    others = [stepping.program(d, length=32 + i) for i in range(2)]
    sessions = [stepping.Session(d, program).id for _ in range(6)]
    d.put("/v1/aliases/latest", {"program": program}, expect=201)
    exports = [job["id"] for job in d.get("/v1/exports", expect=200).json["data"]]
    return {"/v1/sessions/{id}": sessions, "/v1/programs/{id}": ["latest", program, *others],
            "/v1/exports/{id}": exports}


def run(d, folder, *flags):
    """(exit status, what schemathesis printed, {status: how many})."""
    config, counts, ids = folder / "schemathesis.toml", folder / "counts.json", things(d)
    config.write_text(CONFIG.format(
        ids=json.dumps([*sum(ids.values(), []), "demo"]),
        operations="\n".join(f'[[operations]]\ninclude-name = "{name}"\n'
                             "checks.positive_data_acceptance.enabled = false\n"
                             for name in BEYOND_SCHEMA)))
    done = subprocess.run(
        [sys.executable, "-B", "-m", "schemathesis.cli", "--config-file", config, "--no-color", "run",
         f"http://{d.address}/openapi.json", "--max-examples", str(EXAMPLES),
         "--seed", SEED, "--generation-database", "none", "--continue-on-failure", "--no-shrink",
         "--request-timeout", "60", "--suppress-health-check", "all", "--warnings", "off", *flags],
        cwd=folder, capture_output=True, text=True,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "openapi_hooks", "PT2_OPENAPI_COUNTS": str(counts),
             "PT2_OPENAPI_IDS": json.dumps(ids),
             "PYTHONPATH": str(HERE)})
    counts = json.loads(counts.read_text())
    return done.returncode, done.stdout + done.stderr, counts


def classes(counts):
    by_class = {}
    for status, n in counts["statuses"].items():
        by_class[f"{status[0]}xx"] = by_class.get(f"{status[0]}xx", 0) + n
    return dict(sorted(by_class.items()))


@pytest.mark.parametrize("mode", ["open", "tokens"])
def test_requests_made_from_the_document(mode, build, tmp_path, record_property):
    harness.BUILD = str(build)
    models = tmp_path / "models"
    shutil.copytree(harness.MODELS, models)  # they may be deleted
    # what the phase "coverage" sends is always the same: once is enough
    flags, own = list(FLAGS), ["--phases", "fuzzing,stateful"]
    if mode == "tokens":
        own = ["--header", f"Authorization: Bearer {TOKEN}"]
        flags += ["--set", "http.token_file=" + harness.token_file(
            str(tmp_path), harness.token_line("tester", TOKEN))]
    with WithToken(*flags, models=str(models)) as d:
        d.token = TOKEN if mode == "tokens" else None
        status, text, counts = run(d, tmp_path, *own)
        print(text)
        d.get("/healthz", expect=200)
    n = sum(counts["statuses"].values())
    record_property("measured", f"{n} requests (seed {SEED}): {classes(counts)}")
    assert status == 0, text
    assert "5" not in {s[0] for s in counts["statuses"]}, counts["statuses"]
    # there was something behind the ids
    for name in ("GET /v1/sessions/{id}", "GET /v1/programs/{id}/graph", "GET /v1/exports/{id}",
                 "POST /v1/sessions/{id}/fork"):
        assert any(s[0] == "2" for s in counts["operations"][name]), (name, counts["operations"][name])


class WithToken(harness.Daemon):
    """What the test itself asks has the token too."""

    token = None

    def request(self, method, path, headers=None, **more):
        if self.token:
            headers = {**harness.bearer(self.token), **(headers or {})}
        return super().request(method, path, headers=headers, **more)
