"""Prints doc/families.md: what is measured of a tiny random checkpoint of each family.

    PT2_BUILD=build $PYTHON tests/conformance/make_families.py > doc/families.md
"""

import os
import pathlib
import subprocess
import sys
import tempfile

import transformers

import reference
import tiny

BUILD = pathlib.Path(os.environ.get("PT2_BUILD", "build")).resolve()
N = 24
SEEDS = 4

HEAD = """# Families

Printed by `tests/conformance/make_families.py` with transformers {transformers} and torch {torch}. Each row is a tiny random
checkpoint (`tests/conformance/tiny.py`: FAMILIES), exported and run token by token over {n} positions, beyond every window.

- *float32*: the largest difference from eager Transformers' logits, as a part of the largest logit, in torch; dynamic, batch 2 and
  prompts of 9, 1, 13 and 1 tokens in torch; by the native engine.
- *bfloat16*, *float16*: the error against a run in float64 as a multiple of Transformers' own; in torch, by the native engine.
- *notes*: what the export says under `deviations`, by its first words.

| model_type | class | float32 | dynamic | native | bfloat16 | native | float16 | native | notes |
|---|---|---|---|---|---|---|---|---|---|"""


def export(folder, *options):
    """(the program, the notes)"""
    path = folder / "program.pt2"
    done = subprocess.run([BUILD / "pt2-export", folder, "-o", path, "--max-cache-len", "32",
                           *options], capture_output=True, text=True, check=True)
    notes = [line.split("note: ")[1] for line in done.stderr.splitlines() if "note: " in line]
    return path, notes


def native(path, ids, want):
    """The difference that measure() makes of the native logits, or None where it has none."""
    try:
        return reference.plan_logits(BUILD, path, ids, 1, 1).double() - want
    except AssertionError:
        return None


def relative(difference, want):
    return "-" if difference is None else f"{(difference.abs().max() / want.abs().max()).item():.0e}"


def in_float32(folder):
    ids = tiny.ids(2, N)
    want = reference.eager_logits(folder, ids)
    path, notes = export(folder, "--dtype", "float32")
    one = want[:1]
    cells = [relative(reference.run_program(path, ids[:1]) - one, one)]
    by_native = relative(native(path, ids[0], one), one)
    path, _ = export(folder, "--dtype", "float32", "--batch-size", "2", "--dynamic-shapes")
    cells.append(relative(reference.run_program(path, ids, [9, 1, 13, 1]) - want, want))
    return cells + [by_native], notes


def in_half(folder, dtype):
    path, _ = export(folder, "--dtype", dtype)
    ours = by_native = theirs = 0.0
    for seed in range(SEEDS):
        ids = tiny.ids(1, N, seed)
        exact = reference.eager_logits(folder, ids, "float64")
        ours += reference.rms(reference.run_program(path, ids), exact)
        theirs += reference.rms(reference.eager_logits(folder, ids, dtype), exact)
        difference = native(path, ids[0], exact)
        if difference is None or by_native is None:
            by_native = None
        else:
            by_native += reference.rms(difference, 0 * difference)
    return [f"{ours / theirs:.2f}", "-" if by_native is None else f"{by_native / theirs:.2f}"]


def row(case):
    family = tiny.CASES[case][0]
    with tempfile.TemporaryDirectory() as root:
        folders = {name: tiny.make(case, pathlib.Path(root) / name, dtype=dtype)
                   for name, dtype in reference.DTYPES.items() if name != "float64"}
        cells, notes = in_float32(folders["float32"])
        for dtype in ("bfloat16", "float16"):
            cells += in_half(folders[dtype], dtype)
        reference.load.cache_clear()
    names = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    said = "; ".join(note.split(":")[0].split(",")[0] for note in notes)
    return f"| `{family}` | {names[family]} | {' | '.join(cells)} | {said} |"


def main():
    reference.torch.set_num_threads(1)
    versions = dict(transformers=transformers.__version__,
                    torch=reference.torch.__version__.split("+")[0])
    print(HEAD.format(n=N, **versions))
    for case in ["llama", "mistral", "qwen2", *tiny.FAMILIES]:
        print(row(case), flush=True)


if __name__ == "__main__":
    sys.exit(main())
