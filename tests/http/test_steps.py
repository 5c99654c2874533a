#!/usr/bin/env python3
"""Steps: positions, slices, what is answered, what is refused."""

import contextlib
import json
import math
import os
import random
import subprocess
import tempfile

from harness import BUILD, Daemon
from stepping import FLAGS, VOCAB, Session, assert_close, flat, floats, main, only, program, to_bytes

RAW = {"Accept": "application/octet-stream"}
PROMPT = [ord(c) for c in "The daemon keeps a cache of every session."]


# ---- positions ----

def story_a_step_goes_on_from_the_position(d):
    s = Session(d, program(d))
    first = s.step([PROMPT[0]], label="without cache_position").json
    assert first["cache_position"] == [0] and first["position"] == 1
    assert set(first) == {"cache_position", "position", "logits", "top", "selected"}
    assert first["top"] is None and first["selected"] is None
    assert len(first["logits"]) == 1 and len(first["logits"][0]) == 1
    assert len(first["logits"][0][0]) == VOCAB
    second = s.step([PROMPT[1]], cache_position=[1], label="with it").json
    assert second["cache_position"] == [1] and second["position"] == 2
    third = s.step(PROMPT[2:7], label="several").json
    assert third["cache_position"] == [2, 3, 4, 5, 6] and third["position"] == 7
    assert s.position == 7


def check_prefill(d, sizes, **kind):
    p = program(d, **kind)
    batch = kind.get("batch", 1)
    rows = [PROMPT[b:b + 40] for b in range(batch)]
    a = Session(d, p)
    single = [a.logits([[row[i]] for row in rows]) for i in range(40)]
    for size in sizes:
        b = Session(d, p)
        for start in range(0, 40, size):
            n = min(size, 40 - start)
            got = b.logits([row[start:start + n] for row in rows], rows="all")
            # [batch, n, vocab] against n times [batch, 1, vocab]
            for row in range(batch):
                for i in range(n):
                    at, of = (row * n + i) * VOCAB * 4, row * VOCAB * 4
                    assert_close(got[at:at + VOCAB * 4], single[start + i][of:of + VOCAB * 4],
                                 f"{kind}, {size} at a time, row {row}, token {start + i}")
        assert b.position == 40
        b.delete()
    c = Session(d, p)
    assert_close(c.logits(rows), single[39], f"{kind}: the last row of all")


def story_a_prompt_at_once_equals_its_tokens_one_at_a_time(d):
    check_prefill(d, (1, 7, 40))


def story_the_same_where_the_exported_length_is_four(d):
    check_prefill(d, (1, 3, 4, 5, 11, 40), seq=4)


def story_the_same_where_the_length_is_symbolic(d):
    check_prefill(d, (2, 13, 40), seq=3, dynamic=True)


def story_the_same_with_two_rows_a_batch(d):
    check_prefill(d, (3, 40), batch=2)
    check_prefill(d, (3, 40), batch=2, seq=4)


def story_the_same_step_gives_the_same_bits(d):
    for kind in ({}, {"seq": 4}, {"seq": 3, "dynamic": True}):
        p = program(d, **kind)
        a, b = Session(d, p), Session(d, p)
        for start, end in ((0, 9), (9, 10), (10, 32)):
            first = a.logits(PROMPT[start:end], rows="all")
            assert first == b.logits(PROMPT[start:end], rows="all"), kind
            assert first == a.logits(PROMPT[start:end], rows="all",
                                     cache_position=list(range(start, end))), "repeated"


def story_an_earlier_position_overwrites(d):
    for kind in ({}, {"seq": 4}, {"seq": 3, "dynamic": True}):
        p = program(d, **kind)
        a, b = Session(d, p), Session(d, p)
        a.logits(PROMPT[:20])
        reply = a.step(PROMPT[30:35], cache_position=list(range(8, 13)), rows="all").json
        assert reply["position"] == 13
        b.logits(PROMPT[:8])
        want = b.step(PROMPT[30:35], rows="all").json
        assert_close(to_bytes(flat(reply["logits"])), to_bytes(flat(want["logits"])), f"{kind}")
        assert_close(a.logits([5, 6]), b.logits([5, 6]), f"{kind}: afterwards")
        assert a.position == 15
        assert a.step([1], cache_position=[16], expect=409, label="beyond").problem == "position-gap"


def story_a_gap_is_refused_with_the_position(d):
    s = Session(d, program(d))
    s.step(PROMPT[:3])
    for start in (4, 5, 63):
        reply = s.step([1], cache_position=[start], expect=409)
        assert reply.problem == "position-gap" and reply.json["position"] == 3, reply
    assert s.position == 3


def story_if_match_says_which_position_is_meant(d):
    s = Session(d, program(d))
    s.step(PROMPT[:3], headers={"If-Match": '"0"'})
    reply = s.step([1], headers={"If-Match": '"0"'}, expect=412, label="somebody was faster")
    assert reply.problem == "precondition-failed" and reply.json["position"] == 3, reply
    s.step([1], headers={"If-Match": '"9", "3"'}, label="one of several")
    s.step([1], headers={"If-Match": "*"}, label="any")
    for odd in ("3", '"5', '"5" "6"', ",", '"5",'):
        s.step([1], headers={"If-Match": odd}, expect=400, label=f"If-Match: {odd}")
    for other in ('W/"5"', '"x"', '""', '"-5"', '"05x"', '"99999999999999999999"'):
        reply = s.step([1], headers={"If-Match": other}, expect=412, label=f"If-Match: {other}")
        assert "-1" not in reply.json["detail"], reply
    assert s.position == 5
    s.rewind(4, headers={"If-Match": '"4"'}, expect=412)
    s.rewind(4, headers={"If-Match": '"5"'})


def story_a_full_cache_takes_no_more(d):
    p = program(d, length=16)
    s = Session(d, p)
    s.step(PROMPT[:17], expect=422, label="more than the cache holds")
    s.step(PROMPT[:15])
    reply = s.step([1, 2], expect=422, label="one too many")
    assert reply.problem == "limit-exceeded" and reply.json["position"] == 15, reply
    assert s.position == 15
    s.step([1], label="the last place")
    reply = s.step([1], expect=422, label="full")
    assert reply.problem == "limit-exceeded" and "16" in reply.json["detail"], reply
    s.step([1], cache_position=[16], expect=422, label="beyond max_cache_len")
    s.step([1], cache_position=[15], label="its last place may be overwritten")


# ---- what is answered ----

def log_softmax(row):
    top = max(row)
    total = math.log(math.fsum(math.exp(x - top) for x in row))
    return [x - top - total for x in row]


def best(row, k):
    return sorted(range(len(row)), key=lambda i: (-row[i], i))[:k]


def check_results(d, batch, dtype):
    s = Session(d, program(d, batch=batch, dtype=dtype))
    ids = [PROMPT[b:b + 5] for b in range(batch)]
    wanted_ids = [257, 0, 101, 101]
    at = list(range(5))
    for which, n in (("last", 1), ("all", 5)):
        got = s.step(ids, cache_position=at, rows=which, top_k=7, logit_ids=wanted_ids).json
        assert [len(got["logits"]), len(got["logits"][0])] == [batch, n]
        for b in range(batch):
            for i in range(n):
                row = floats(to_bytes(got["logits"][b][i]))
                assert len(row) == VOCAB
                assert got["top"]["ids"][b][i] == best(row, 7), (b, i)
                logprobs = log_softmax(row)
                for id, logprob in zip(got["top"]["ids"][b][i], got["top"]["logprobs"][b][i]):
                    assert abs(logprob - logprobs[id]) < 1e-12 * max(1, abs(logprob)) + 1e-12
                assert floats(to_bytes(got["selected"][b][i])) == [row[id] for id in wanted_ids]
        alone = s.step(ids, cache_position=at, rows=which, top_k=7, logit_ids=wanted_ids,
                       logits=False).json
        assert alone["logits"] is None
        assert alone["top"] == got["top"] and alone["selected"] == got["selected"]
    none = s.step(ids, cache_position=at, logits=False, logit_ids=[]).json
    assert none["selected"] == [[[]]] * batch and none["logits"] is None
    nothing = s.step(ids, cache_position=at, logits=False).json
    assert nothing["logits"] is nothing["top"] is nothing["selected"] is None
    assert nothing["position"] == 5
    return got


def story_top_k_logit_ids_and_rows_say_what_the_logits_say(d):
    check_results(d, 1, "float32")
    check_results(d, 2, "float32")


@only("native")
def story_each_instruction_set_steps_and_an_unknown_one_does_not_start():
    answers = []
    for isa in ("portable", None):  # None: the best there is
        with Daemon(*FLAGS, env={"PT2_ISA": isa} if isa else None) as d:
            p = program(d)
            answers.append(Session(d, p).logits(PROMPT[:20], rows="all"))
            plan = d.get(f"/v1/programs/{p}/plan", expect=200).body.decode()
            assert (f"kernels {isa}," in plan) == bool(isa), plan
    assert_close(*answers)
    with tempfile.TemporaryDirectory() as state:
        done = subprocess.run([os.path.join(BUILD, "pt2d"), "--config", "/dev/null", "-l", "127.0.0.1:0",
                               "-s", state], env={**os.environ, "PT2_ISA": "mmx"}, capture_output=True, timeout=60)
    assert done.returncode == 1 and b"PT2_ISA is 'mmx'; this processor has:" in done.stderr, done


@only("aten")  # native's logits are not rounded, so they have no ties
def story_ties_go_to_the_lower_id(d):
    s = Session(d, program(d, dtype="bfloat16"))
    n_ties = 0
    for at in range(12):
        got = s.step([PROMPT[at]], top_k=VOCAB).json
        row, ids = got["logits"][0][0], got["top"]["ids"][0][0]
        assert ids == best(row, VOCAB)
        assert sorted(got["top"]["logprobs"][0][0], reverse=True) == got["top"]["logprobs"][0][0]
        n_ties += sum(row[a] == row[b] for a, b in zip(ids, ids[1:]))
    assert n_ties > 0, "bfloat16 has ties, so that the test means something"
    check_results(d, 1, "bfloat16")


def story_json_floats_are_the_raw_ones_bit_for_bit(d):
    for kind in ({}, {"dtype": "bfloat16"}, {"batch": 2}, {"dtype": "float16", "seq": 4}):
        batch = kind.get("batch", 1)
        s = Session(d, program(d, **kind))
        ids = [PROMPT[b:b + 5] for b in range(batch)]
        got = s.step(ids, rows="all").json
        raw = s.step(ids, cache_position=got["cache_position"], rows="all", headers=RAW)
        assert to_bytes(flat(got["logits"])) == raw.body, kind
        assert raw.headers["Content-Type"] == "application/octet-stream"
        assert raw.headers["X-Tensor-Dtype"] == "float32"
        assert raw.headers["X-Tensor-Shape"] == f"{batch},5,{VOCAB}"
        assert raw.headers["X-Cache-Position"] == "0-4"
        assert raw.headers["X-Session-Position"] == "5"
        last = s.step([[3]] * batch, headers=RAW)
        assert last.headers["X-Tensor-Shape"] == f"{batch},1,{VOCAB}"
        assert last.headers["X-Cache-Position"] == "5-5"
        assert len(last.body) == batch * VOCAB * 4 == int(last.headers["Content-Length"])


def story_raw_answers_hold_logits_or_nothing(d):
    s = Session(d, program(d))
    reply = s.step(PROMPT[:3], headers=RAW, logits=False, expect=204)
    assert reply.body == b"" and reply.headers["X-Cache-Position"] == "0-2"
    assert reply.headers["X-Session-Position"] == "3" and reply.headers["X-Tensor-Shape"] is None
    for more in ({"top_k": 1}, {"logit_ids": [1]}, {"logit_ids": []}):
        reply = s.step([1], headers=RAW, expect=422, **more)
        assert reply.problem == "invalid-request"
        assert reply.json["errors"][0]["pointer"] == "/" + list(more)[0], reply
    s.step([1], headers=RAW, top_k=0, label="no top is asked for")
    s.step([1], headers={"Accept": "text/html"}, expect=406)
    assert s.position == 4
    both = {"Accept": "application/json;q=0.5, application/octet-stream"}
    assert s.step([1], headers=both).headers["X-Tensor-Dtype"] == "float32"


def story_server_timing_says_how_long(d):
    s = Session(d, program(d))
    for headers in ({}, RAW):
        timing = s.step([1], headers=headers).headers["Server-Timing"]
        queue, run = timing.split(", ")
        assert queue.startswith("queue;dur=") and float(queue[10:]) >= 0, timing
        assert run.startswith("run;dur=") and float(run[8:]) > 0, timing


def story_a_large_answer_is_refused_with_the_largest_s():
    with Daemon(*FLAGS, "--set", "sessions.max_answer_bytes=65536") as d:
        s = Session(d, program(d, length=128))
        for headers in (RAW, {}):
            reply = s.step(PROMPT + PROMPT + PROMPT[:40], rows="all", headers=headers, expect=422)
            assert reply.problem == "answer-too-large", reply
            largest = int(reply.json["detail"].split("take at most ")[1].split(" ")[0])
            assert "tokens (s)" in reply.json["detail"] and s.position == 0
            ids = [7] * (largest + 1)
            s.step(ids, rows="all", headers=headers, expect=422, label="one more")
            reply = s.step(ids[:-1], rows="all", headers=headers, label="as many as it said")
            assert len(reply.body) <= 65536
            assert headers != RAW or largest == 65536 // (VOCAB * 4)
            s.rewind(0)
        s.step(PROMPT + PROMPT, label="the last row alone")
        s.rewind(0)
        s.step(PROMPT + PROMPT, rows="all", logits=False, label="none")
        reply = d.post("/v1/steps", {"steps": [{"session": s.id, "input_ids": [[7] * 60],
                                                "rows": "all"}]}, expect=422)
        assert reply.problem == "answer-too-large"


# ---- what is refused ----

def pointers(reply):
    assert reply.problem == "invalid-request", reply
    return [e["pointer"] for e in reply.json["errors"]]


def story_bad_tokens_are_named(d):
    s = Session(d, program(d))
    for bad in (VOCAB, -1, 1.0, 1.5, True, None, "7", [7], {}, 2**31, 2**63 - 1, -2**63):
        assert pointers(s.step([1, bad, 2], expect=422, label=repr(bad))) == ["/input_ids/0/1"], bad
    for huge in (2**63, -2**63 - 1, 10**400):
        s.step([1, huge], expect=(400, 422), label="no integer of 64 bits")
    body = b'{"input_ids": [[1e400]]}'
    d.post(s.path + "/step", body=body, headers={"Content-Type": "application/json"},
           expect=(400, 422), label="1e400")
    body = b'{"input_ids": [[NaN]]}'
    d.post(s.path + "/step", body=body, headers={"Content-Type": "application/json"}, expect=400)
    assert s.position == 0


def story_bad_shapes_are_named(d):
    s = Session(d, program(d, batch=2))
    good = {"input_ids": [[1, 2], [3, 4]]}
    for ids, where in (([1, 2], "/input_ids"), ([[1, 2]], "/input_ids"), ([], "/input_ids"),
                       ([[1], [2], [3]], "/input_ids"), ([[1, 2], [3]], "/input_ids/1"),
                       ([[1], [3, 4]], "/input_ids/1"), ([[], []], "/input_ids/0"),
                       ([[1, 2], 3], "/input_ids/1"), ([[1, 2], [3, []]], "/input_ids/1/1"),
                       ("x", "/input_ids"), (7, "/input_ids"), ({}, "/input_ids"),
                       ([[1] * 65] * 2, "/input_ids/0"), (None, "/input_ids")):
        reply = d.post(s.path + "/step", {"input_ids": ids}, expect=422, label=str(ids)[:60])
        assert where in pointers(reply), (ids, reply)
    for more, where in (({"cache_position": [0]}, "/cache_position"),
                        ({"cache_position": [0, 1, 2]}, "/cache_position"),
                        ({"cache_position": [0, 2]}, "/cache_position/1"),
                        ({"cache_position": [1, 0]}, "/cache_position/1"),
                        ({"cache_position": [0, 0]}, "/cache_position/1"),
                        ({"cache_position": [-1, 0]}, "/cache_position/0"),
                        ({"cache_position": [63, 64]}, "/cache_position/1"),
                        ({"cache_position": [0.0, 1]}, "/cache_position/0"),
                        ({"cache_position": [False, True]}, "/cache_position/0"),
                        ({"cache_position": []}, "/cache_position"),
                        ({"cache_position": 0}, "/cache_position"),
                        ({"cache_position": [[0, 1]]}, "/cache_position"),
                        ({"rows": "first"}, "/rows"), ({"rows": 1}, "/rows"),
                        ({"logits": 1}, "/logits"), ({"logits": "no"}, "/logits"),
                        ({"top_k": -1}, "/top_k"), ({"top_k": VOCAB + 1}, "/top_k"),
                        ({"top_k": 1.5}, "/top_k"), ({"top_k": True}, "/top_k"),
                        ({"logit_ids": [VOCAB]}, "/logit_ids/0"), ({"logit_ids": [1, -1]}, "/logit_ids/1"),
                        ({"logit_ids": 5}, "/logit_ids"), ({"logit_ids": [[5]]}, "/logit_ids/0"),
                        ({"input_idz": []}, "/input_idz"), ({"position": 3}, "/position")):
        reply = d.post(s.path + "/step", {**good, **more}, expect=422, label=str(more))
        assert any(p.startswith(where) for p in pointers(reply)), (more, reply)
    d.post(s.path + "/step", {}, expect=422, label="no input_ids")
    assert s.position == 0
    d.post(s.path + "/step", good, expect=200, label="and it steps still")


def story_random_requests_are_answered_as_the_rules_say(d):
    """Starts, lengths and If-Match at random against the rules, and the cache against a twin."""
    seed = int(os.environ.get("PT2_TEST_SEED") or random.randrange(1 << 32))
    print(f"seed {seed} (PT2_TEST_SEED)")
    rng = random.Random(seed)
    p = program(d, length=24)
    s, position, tokens = Session(d, p), 0, []
    for _ in range(60):
        n, start = rng.randrange(1, 9), rng.randrange(0, 24)
        ids = [rng.randrange(VOCAB) for _ in range(n)]
        match = rng.choice((None, None, position, rng.randrange(24)))
        headers = {} if match is None else {"If-Match": f'"{match}"'}
        implied = rng.random() < 0.3
        body = {} if implied else {"cache_position": list(range(start, start + n))}
        if implied:
            start = position
        if not implied and start + n > 24:
            want = 422
        elif match not in (None, position):
            want = 412
        elif start > position:
            want = 409
        elif start + n > 24:
            want = 422
        else:
            want = 200
        s.step(ids, expect=want, headers=headers, label=f"{start}+{n} at {position}", **body)
        if want == 200:
            tokens = tokens[:start] + ids
            position = start + n
        elif position > 18 and rng.random() < 0.5:
            position = rng.randrange(position)
            tokens = tokens[:position]
            s.rewind(position)
    assert s.position == position
    if position == 24:
        s.rewind(23)
        tokens.pop()
    twin = Session(d, p)
    if tokens:
        twin.step(tokens, logits=False)
    assert_close(s.logits([9]), twin.logits([9]), "the twin's")


# ---- several sessions at once ----

def story_steps_of_several_sessions_have_a_result_each(d):
    p, q = program(d), program(d, batch=2)
    a, b, c = Session(d, p), Session(d, p), Session(d, q)
    twin = Session(d, p)
    gone = Session(d, p)
    gone.delete()
    steps = [{"session": a.id, "input_ids": [PROMPT[:5]], "rows": "all", "top_k": 3},
             {"session": b.id, "input_ids": [[1]], "cache_position": [9]},
             {"session": gone.id, "input_ids": [[1]]},
             {"session": c.id, "input_ids": [[1], [2]], "logits": False, "logit_ids": [5]},
             {"session": "nobody", "input_ids": [[1]]},
             {"input_ids": [[1]]},
             7,
             {"session": twin.id, "input_ids": [[VOCAB]], "rowz": 1}]
    results = d.post("/v1/steps", {"steps": steps}, expect=200).json["results"]
    assert [r["status"] for r in results] == [200, 409, 404, 200, 404, 422, 422, 422], results
    want = twin.step(PROMPT[:5], rows="all", top_k=3).json
    assert results[0]["body"] == want
    assert results[1]["body"]["type"] == "/problems/position-gap"
    assert results[1]["body"]["position"] == 0 and results[1]["body"]["status"] == 409
    assert results[3]["body"]["position"] == 1 and results[3]["body"]["logits"] is None
    assert len(flat(results[3]["body"]["selected"])) == 2
    assert {e["pointer"] for e in results[7]["body"]["errors"]} == \
        {"/steps/7/input_ids/0/0", "/steps/7/rowz"}
    assert (a.position, b.position, c.position) == (5, 0, 1)


def story_steps_of_several_sessions_are_checked_as_a_whole(d):
    p = program(d)
    a, b = Session(d, p), Session(d, p)
    one = {"session": a.id, "input_ids": [[1]]}
    other = {"session": b.id, "input_ids": [[1]]}
    reply = d.post("/v1/steps", {"steps": [one, other, one]}, expect=422, label="twice")
    assert pointers(reply) == ["/steps/2/session"]
    assert a.position == b.position == 0, "nothing was run"
    for body in ({}, {"steps": []}, {"steps": one}, {"steps": [one], "x": 1}, {"steps": None}):
        d.post("/v1/steps", body, expect=422, label=str(body)[:50])
    d.post("/v1/steps", {"steps": [other] * 257}, expect=422, label="too many")
    d.get("/v1/steps", expect=405)
    many = [Session(d, p) for _ in range(12)]
    results = d.post("/v1/steps", {"steps": [{"session": s.id, "input_ids": [PROMPT[i:i + 9]]}
                                             for i, s in enumerate(many)]}, expect=200).json
    for i, result in enumerate(results["results"]):
        assert result["status"] == 200 and result["body"]["position"] == 9
        a.rewind(0)
        assert a.step(PROMPT[i:i + 9]).json["logits"] == result["body"]["logits"], i


def story_steps_on_what_is_not_there(d):
    body = {"input_ids": [[1]]}
    assert d.post("/v1/sessions/nobody/step", body, expect=404).problem == "not-found"
    s = Session(d, program(d))
    d.get(s.path + "/step", expect=405)
    d.post(s.path + "/step", body=json.dumps(body).encode(), expect=415)
    s.delete()
    assert s.step([1], expect=404).problem == "not-found"


@only("native")
def story_as_many_threads_compute_as_are_asked_for():
    with Daemon("--set", "engine.threads=3") as d:
        # its export is tried out before the first session is there
        s = Session(d, program(d))
        s.step(PROMPT[:3], logits=False)
        names = []
        for thread in os.listdir(f"/proc/{d.process.pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{d.process.pid}/task/{thread}/comm") as f:
                names.append(f.read().strip())
        assert names.count("pt2-compute") == 2, names  # beside the program's own


if __name__ == "__main__":
    main(globals())
