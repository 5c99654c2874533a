"""Prints doc/families.md: what is measured of a tiny random checkpoint of each family.

    PT2_BUILD=build $PYTHON tests/conformance/make_families.py > doc/families.md
    PT2_BUILD=build $PYTHON tests/conformance/make_families.py qwen3    # its rows alone
"""

import contextlib
import importlib.metadata
import io
import multiprocessing
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import transformers

import device
import reference
import test_text_parts
import tiny

BUILD = pathlib.Path(os.environ.get("PT2_BUILD", "build")).resolve()
N = 24
SEEDS = 4
WRONG = 1e-4  # of the largest logit: what is beyond that is no rounding

# Each family, then configs of them that Python exports otherwise or not at all.
SHOWN = ["llama", "mistral", "qwen2", *tiny.FAMILIES, "llama-dynamic", *tiny.STEPPED]

HEAD = """# Families

Printed by `tests/conformance/make_families.py` with transformers {transformers}, torch {torch} and ExecuTorch {executorch}. Each row is a
tiny random checkpoint (`tests/conformance/tiny.py`), exported and run token by token over {n} positions, beyond every window.

## Logits

- *float32*: the largest difference from eager Transformers' logits, as a part of the largest logit, in torch; dynamic, batch 2 and
  prompts of 9, 1, 13 and 1 tokens in torch; by the native engine.
- *bfloat16*, *float16*: the error against a run in float64 (`xglm`: float32) as a multiple of Transformers' own; in torch, by the native
  engine. Of mixtures of experts Transformers runs with sdpa (`gpt_oss`: eager): where two experts are about as good, any other rounding
  may choose the other, which the native engine does now and then.
- *notes*: what the export says under `deviations`, by its first words.

| model | class | float32 | dynamic | native | bfloat16 | native | float16 | native | notes |
|---|---|---|---|---|---|---|---|---|---|"""

PARTS = """
## Text parts

Of multimodal checkpoints, without images: float32 against the whole model in Transformers, as above, with batch 2.

| model | text model | token by token | dynamic | native |
|---|---|---|---|---|"""

BESIDE = """
## ExecuTorch, and Python's export

- *portable*, *XNNPACK*: pt2d's float32 program, lowered as it is and run there; the difference as above. XNNPACK computes
  `gelu(approximate="tanh")` by erf: it is compared with Transformers doing so too.
- *Python*: `convert_and_export_with_cache` of the same checkpoint, strict as it is by default, its logits compared as above; **what fails or is wrong**.
- *seconds* of processors: `pt2-export` from start to end (the process, reading and writing); Python's loading of the checkpoint, its
  export and saving, without importing torch and Transformers.

| model | portable | XNNPACK | Python | seconds | Python's |
|---|---|---|---|---|---|"""


def export(folder, *options):
    """(the program, the notes, the seconds of processors that it took)"""
    path = folder / "program.pt2"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([BUILD / "pt2-export", folder, "-o", path, "--max-cache-len", "32",
                           *options], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    notes = [line.split("note: ")[1] for line in done.stderr.splitlines() if "note: " in line]
    return path, notes, seconds


def native(path, ids, batch_size=1):
    """The native engine's logits, of ids + b in batch element b."""
    return reference.plan_logits(BUILD, path, ids, 1, batch_size).double()


def relative(difference, want):
    return f"{(difference.abs().max() / want.abs().max()).item():.0e}"


def eager(case, folder, ids):
    """Transformers' logits, in the one way that is right for the case."""
    return (reference.stepped_logits if case in tiny.STEPPED else reference.eager_logits)(folder, ids)


def in_float32(case, folder):
    ids = tiny.ids(2, N)
    want = eager(case, folder, ids)
    path, notes, _ = export(folder, "--dtype", "float32")
    one = want[:1]
    cells = [relative(reference.run_program(path, ids[:1]) - one, one)]
    by_native = relative(native(path, ids[0]) - one, one)
    path, _, _ = export(folder, "--dtype", "float32", "--batch-size", "2", "--dynamic-shapes")
    cells.append(relative(reference.run_program(path, ids, [9, 1, 13, 1]) - want, want))
    return cells + [by_native], notes


def in_half(case, folder, dtype):
    if case in tiny.STEPPED:
        return ["", ""]
    path, _, _ = export(folder, "--dtype", dtype)
    ours = by_native = theirs = 0.0
    for seed in range(SEEDS):
        ids = tiny.ids(1, N, seed)
        exact = reference.exact_logits(folder, ids)
        ours += reference.rms(reference.run_program(path, ids), exact)
        theirs += reference.rms(
            reference.eager_logits(folder, ids, dtype, tiny.attn_of_half(case)), exact)
        by_native += reference.rms(native(path, ids[0]), exact)
    return [f"{ours / theirs:.2f}", f"{by_native / theirs:.2f}"]


def of_device(case, folder, path, backend):
    ids = tiny.ids(1, N)
    want = eager(case, folder, ids)
    if backend == "xnnpack" and case not in tiny.STEPPED:
        want = device.eager_logits_of_xnnpack(folder, ids)
    try:
        return relative(device.run(device.lower(path, backend), ids) - want, want)
    except Exception as e:  # what a row says, and does not end the table
        return bold(said_by(e))


def said_by(e):
    """An error's first line."""
    lines = str(e).strip().splitlines() or [""]
    return f"{type(e).__name__}: {lines[0][:80]}".replace("|", "\\|")


def bold(text):
    return f"**{text}**"


def of_python(case, folder):
    """(what Python's own export gives, the seconds that it took)"""
    ids = tiny.ids(1, N)
    want = eager(case, folder, ids)
    start = time.process_time()
    try:
        path = folder / "python.pt2"
        program = reference.python_export(folder, path)
        seconds = time.process_time() - start
        difference = reference.run_program(program, ids) - want
    except Exception as e:
        return bold(said_by(e)), ""
    cell = relative(difference, want)
    if not difference.abs().max() <= WRONG * want.abs().max():
        cell = bold(f"wrong: {cell}")
    if any(str(node.target).startswith("transformers.") for node in program.graph.nodes):
        cell += ", loads beside Transformers only"
    return cell, f"{seconds:.1f}"


def or_what_failed(columns, measure, *arguments):
    """The columns that measure() makes, or what it fails with: one row does not end the tables."""
    try:
        return measure(*arguments)
    except Exception as e:
        return [bold(said_by(e)), *[""] * (columns - 1)]


def logits_row(case, folders):
    cells, notes = in_float32(case, folders["float32"])
    for dtype in ("bfloat16", "float16"):
        cells += in_half(case, folders[dtype], dtype)
    return cells + ["; ".join(note.split(":")[0].split(",")[0] for note in notes)]


def beside_row(case, folder):
    path, _, seconds = export(folder)
    cells = [of_device(case, folder, path, backend) for backend in ("portable", "xnnpack")]
    python, its_seconds = of_python(case, folder)
    return cells + [python, f"{seconds:.3f}", its_seconds]


def text_part_row(folder, logits):
    ids = tiny.ids(1, N)[0]
    two = [ids, [i + 1 for i in ids]]
    want = logits(two)
    path, _, _ = export(folder, "--dtype", "float32", "--batch-size", "2")
    cells = [relative(reference.run_program(path, two) - want, want)]
    path, _, _ = export(folder, "--dtype", "float32", "--batch-size", "2", "--dynamic-shapes")
    cells.append(relative(reference.run_program(path, two, [9, 1, 13, 1]) - want, want))
    return cells + [relative(native(path, ids, 2) - want, want)]


def line(*cells):
    return f"| {' | '.join(cells)} |"


def rows(case):
    """A row of each table."""
    family = (tiny.CASES | tiny.STEPPED)[case][0]
    reference.torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as root, contextlib.redirect_stderr(io.StringIO()):
        folders = {name: tiny.make(case, pathlib.Path(root) / name, dtype=dtype)
                   for name, dtype in reference.DTYPES.items() if name != "float64"}
        logits = or_what_failed(8, logits_row, case, folders)
        beside = or_what_failed(5, beside_row, case, folders["float32"])
        reference.load.cache_clear()
    names = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    return (line(f"`{case}`", names[family], *logits), line(f"`{case}`", *beside))


def row_of_part(name):
    reference.torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as root, contextlib.redirect_stderr(io.StringIO()):
        folder = pathlib.Path(root) / "model"
        cells = or_what_failed(3, text_part_row, folder, test_text_parts.make(name, folder))
    kind, text = test_text_parts.PARTS[name][:2]
    return line(f"`{name}`", f"`{text.get('model_type', kind + '_text')}`", *cells)


def main(cases):
    if cases:
        for case in cases:
            of_case = [row_of_part(case)] if case in test_text_parts.PARTS else rows(case)
            print("\n".join(of_case), flush=True)
        return
    print(HEAD.format(n=N, transformers=transformers.__version__,
                      torch=reference.torch.__version__.split("+")[0],
                      executorch=importlib.metadata.version("executorch")))
    with multiprocessing.get_context("spawn").Pool(os.cpu_count(), maxtasksperchild=4) as pool:
        first, second = zip(*pool.imap(rows, SHOWN))
        parts = pool.map(row_of_part, test_text_parts.PARTS, 5)
    print("\n".join(first))
    print(PARTS)
    print("\n".join(parts))
    print(BESIDE)
    print("\n".join(second))


if __name__ == "__main__":
    main(sys.argv[1:])
