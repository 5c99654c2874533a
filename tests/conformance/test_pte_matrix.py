"""What a dry run of format pte accepts is written, has that size, loads in ExecuTorch with full
verification, and gives the logits of the .pt2 of the same options in pt2d's engine; what it
refuses is refused alike when it is meant, and no file is there.  A part of all families times
all options, another one for each family; nightly all of them."""

import itertools
import json
import subprocess

import executorch.kernels.quantized  # noqa: F401  embedding_byte, embedding_4bit
import pytest
import torch
from executorch.runtime import Runtime, Verification

import engine
import tiny

N = 36
SHAPES = {"": [1], "--dynamic-shapes": [1, 7, 2, 20], "--seq-len=4": [4]}
ROLLING = [1, 4, 2, 5]  # a call is no longer than the tiny models' windows
QUANTISED = [f"--quantize-linear={how}" for how in (
    "8da4w", "8da4w --group-size=64", "8da4w --group-size=64 --quantize-fallback=8da8w",
    "8da4w --group-size=128", "8da4w --group-size=256 --quantize-fallback=8da4w",
    "8da4w --group-size=0", "8da8w --group-size=0 --quantize-embedding=8w",
    "8da4w --quantize-embedding=4w --embedding-group-size=32 --skip=lm_head",
    "8da8w", "8w", "4w")] + ["--quantize-embedding=4w",
                             "--quantize-embedding=8w --embedding-group-size=32"]
FAMILIES = ["llama", "mistral", "qwen2", *tiny.FAMILIES]
OPTIONS = [option for option in itertools.product(
    SHAPES, ["", "--logits-to-keep=last"], ["", "--cache-implementation=hybrid"],
    ["", *QUANTISED], ["xnnpack", "portable"])
    if not option[3] or bool(option[1]) == bool(option[2])]
SHARE = 31  # of so many options one is tried
# Of the largest logit, quantised: XNNPACK rounds the scales of groups to bfloat16.
LIMIT = 0.1


def spans(shape, cache):
    """(start, n) of each call."""
    chunks, out, start = ROLLING if cache and shape == "--dynamic-shapes" else SHAPES[shape], [], 0
    while start < N:
        out.append((start, min(chunks[len(out) % len(chunks)], N - start)))
        start += out[-1][1]
    return out


class Maker:
    def __init__(self, build, model, folder):
        self.command = [build / "pt2-export", model, "--json", "-q", "--max-cache-len", "48"]
        self.path = folder / "x"

    def __call__(self, *options):
        """What was printed; with a file, self.path is it."""
        self.path.unlink(missing_ok=True)
        out = ["-n"] if "-n" in options else ["-o", self.path]
        run = subprocess.run([*self.command, *(o for o in options if o != "-n"), *out],
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert run.returncode in (0, 1)
        assert self.path.exists() == (run.returncode == 0 and "-n" not in options)
        return json.loads(run.stdout)


def run_pte(data, ids, calls):
    program = Runtime.get().load_program(data, verification=Verification.InternalConsistency)
    forward = program.load_method("forward")
    return [forward.execute([torch.tensor([ids[s:s + n]]), torch.arange(s, s + n)])[0]
            .clone().flatten(0, -2) for s, n in calls]


def check(build, make, option, has_experts):
    """False where it is refused; the difference as a part of the largest logit otherwise."""
    shape, keep, cache, quantised, backend = option
    options = [o for part in (shape, keep, cache, quantised) for o in part.split()]
    pte = [*options, "--format=pte", f"--pte-backend={backend}"]
    dry = make("-n", *pte)
    made = make(*pte)
    if "detail" in dry:
        assert made == dry
        assert dry["type"] == "/problems/not-exportable" or "'lm_head'" in dry["detail"]  # no such
        return False
    data = make.path.read_bytes()
    assert dry["pte_bytes"] == made["pte"]["bytes"] == len(data)
    assert make("--profile=edge", "--dtype=float32", *options)["bytes"] > 0
    ids, calls = tiny.ids(1, N)[0], spans(shape, cache)
    got = run_pte(data, ids, calls)
    vocab_size = got[0].shape[-1]
    want = [torch.tensor(list(rows)).reshape(-1, vocab_size)
            for rows in engine.run(build, make.path, ids, calls, vocab_size, bool(keep))]
    assert [g.shape for g in got] == [w.shape for w in want]
    got, want = torch.cat(got), torch.cat(want)
    assert got.isfinite().all()
    by_row = (got - want).abs().amax(-1) / want.abs().max()
    # where two experts score alike, rounding decides which of them a token goes to
    return (by_row.median() if quantised and has_experts else by_row.max()).item()


def check_all(build, model, folder, options):
    """(written, refused, largest difference of floats, of quantised)"""
    make, most, n = Maker(build, model, folder), {False: 0, True: 0}, [0, 0]
    for option in options:
        difference = check(build, make, option, model.name in tiny.MOE)
        n[difference is False] += 1
        if difference is not False:
            assert difference <= (LIMIT if option[3] else 1e-5), (option, difference)
            most[bool(option[3])] = max(most[bool(option[3])], difference)
    return n[0], n[1], most[False], most[True]


def say(result):
    return "{} written, {} refused, {:.1e} and quantised {:.1e} of the largest logit".format(*result)


@pytest.mark.parametrize("case", FAMILIES)
def test_some(case, build, checkpoint, tmp_path, record_property):
    first = FAMILIES.index(case) * 7 % SHARE
    record_property("measured", say(check_all(build, checkpoint(case), tmp_path,
                                              OPTIONS[first::SHARE])))


@pytest.mark.nightly
@pytest.mark.parametrize("case", FAMILIES)
def test_all(case, build, checkpoint, tmp_path, record_property):
    record_property("measured", say(check_all(build, checkpoint(case), tmp_path, OPTIONS)))


@pytest.mark.parametrize("option", [
    "--profile=torch", "--batch-size=2", "--dtype=float16", "--dtype=bfloat16",
    "--max-cache-len=1 --dynamic-shapes", "--seq-len=49", "--skip=lm_head",
    "--quantize-linear=8da4w --group-size=48", "--pte-backend=coreml",
    "--quantize-linear=8da4w --skip=none_such"])
def test_what_is_refused_by_name(option, build, checkpoint, tmp_path):
    make = Maker(build, checkpoint("llama"), tmp_path)
    dry, made = (make(*n, "--format=pte", *option.split()) for n in (["-n"], []))
    assert dry == made and dry["type"].startswith("/problems/") and dry["detail"]


def test_what_is_too_big(build, tmp_path):
    """128 heads share keys: rows of 2^31, of a symbolic length."""
    tiny.write("llama", dict(hidden_size=128, num_attention_heads=128, num_key_value_heads=1, head_dim=2,
                             max_position_embeddings=1 << 24), tmp_path / "in", seed=1)
    make = Maker(build, tmp_path / "in", tmp_path)
    options = ["--format=pte", "--dynamic-shapes", f"--max-cache-len={1 << 24}"]
    dry, made = make("-n", *options), make(*options)
    assert dry == made and dry["type"] == "/problems/limit-exceeded"
    assert "2^31" in dry["detail"]
