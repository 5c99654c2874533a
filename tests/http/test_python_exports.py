#!/usr/bin/env python3
"""Programs that several versions of Transformers exported (tests/data/python-exports): every
engine that takes one steps it as torch did."""

import glob
import json
import os

from harness import SOURCE, until
from stepping import Session, floats, main, only

FOLDER = os.path.join(SOURCE, "tests", "data", "python-exports")
TOLERANCE = {"float32": 2e-5, "bfloat16": 5e-2}  # of the largest logit


def archives():
    paths = sorted(glob.glob(os.path.join(FOLDER, "*.pt2")))
    assert len(paths) >= 30, paths
    names = [os.path.basename(path)[:-4] for path in paths]
    if Session.engine == "native":
        return names
    # a worker with libtorch for each takes a while
    mixtures = ("moe", "mixtral", "gpt_oss")
    return [name for i, name in enumerate(names) if i % 4 == 0 or any(m in name for m in mixtures)]


def uploaded(d, name):
    """(what the daemon says of the program, what torch said)"""
    with open(os.path.join(FOLDER, name + ".pt2"), "rb") as f:
        program = d.post("/v1/programs", body=f.read(), expect=(200, 201), label=name,
                         headers={"Content-Type": "application/octet-stream"}).json["id"]
    # the answer does not wait for the engines' verdicts longer than some seconds
    program = until(lambda: (p := d.get(f"/v1/programs/{program}", expect=200).json)
                    ["engines"]["aten"]["ok"] is not None and p, f"{name}: the engines' verdicts")
    with open(os.path.join(FOLDER, name + ".json")) as f:
        return program, json.load(f)


def check(data, facts, vocab, name, first=0):
    """Logits of the tokens from the first on."""
    got, ids = floats(data), facts["input_ids"]
    n = len(ids[0]) - first
    assert len(got) == len(ids) * n * vocab, name
    pairs = [(got[(b * n + i) * vocab + 5 * k], want) for b, rows in enumerate(facts["logits"])
             for i, row in enumerate(rows[first:]) for k, want in enumerate(row)]
    worst = max(abs(a - b) for a, b in pairs) / max(abs(b) for _, b in pairs)
    assert worst <= TOLERANCE[facts.get("dtype", "float32")], (name, Session.engine, worst)


def story_python_exports_step_as_torch_ran_them(d):
    for name in archives():
        program, facts = uploaded(d, name)
        verdict = program["engines"][Session.engine]
        if Session.engine == "native":
            assert verdict["ok"] == ("refused" not in facts), (name, verdict)
            d.get(f"/v1/programs/{program['id']}/plan", expect=200 if verdict["ok"] else 422)
        elif "rolls-fours" in name:  # what it makes of several rows is not right in torch either
            assert not verdict["ok"] and "its cache rolls" in verdict["reason"], (name, verdict)
        elif not verdict["ok"]:  # 4.50 decomposes attention to what not each libtorch has
            assert name.startswith("4.50-") and "flash_attention_for_cpu" in verdict["reason"], name
        if verdict["ok"]:
            s = Session(d, program["id"])
            check(s.logits(facts["input_ids"], rows="all"), facts, s.info["vocab_size"], name)
            s.delete()
        d.delete(f"/v1/programs/{program['id']}", expect=204)


@only("native")
def story_a_cache_that_rolls_in_the_program_is_saved_and_rewound(d):
    name = "4.53-gemma2-rolls"
    program, facts = uploaded(d, name)
    first, = facts["input_ids"]
    before, after = Session(d, program["id"]), Session(d, program["id"])
    before.step(first[:10])
    after.restore(before.save())
    check(after.logits(first[10:], rows="all"), facts, after.info["vocab_size"], name, 10)
    before.rewind(3)
    check(before.logits(first[3:], rows="all"), facts, before.info["vocab_size"], name, 3)


if __name__ == "__main__":
    main(globals())
