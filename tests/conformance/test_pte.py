"""ExecuTorch programs that pt2-export writes itself: loaded with full verification, and the
logits of the .pt2 of the same options, at every position."""

import ctypes
import json
import pathlib
import subprocess
import sys
import time

import executorch.kernels.quantized  # noqa: F401  embedding_byte, embedding_4bit
import pytest
import torch
import torchao.quantization.quant_primitives  # noqa: F401  the ops that the programs call
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import (EdgeCompileConfig, ExecutorchBackendConfig,
                             to_edge_transform_and_lower)
from executorch.runtime import Runtime, Verification

import pte_file
import reference
import tiny

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench"))
import big  # noqa: E402
import export as bench_export  # noqa: E402

BACKENDS = ["xnnpack", "portable"]
KNOBS = ["llama", "llama-mqa", "llama-tied", "llama-biases", "llama-head-dim", "llama-yarn-knobs",
         "mistral-window", "qwen2-window"]
CHUNKS = [1, 7, 1, 30, 2]


class Program:
    """The bytes and the program stay referenced: the runtime only borrows them."""

    def __init__(self, data, is_ours=True):
        self.data, self.file = data, pte_file.File(data) if is_ours else None
        self.program = Runtime.get().load_program(self.data,
                                                  verification=Verification.InternalConsistency)
        self.methods = {name: self.program.load_method(name)
                        for name in self.program.method_names}

    def constant(self, name):
        """What a method without inputs answers: one value, or several."""
        return self.methods[name].execute([])

    def call(self, ids, start, n):
        """Its outputs as they lie in the arena."""
        inputs = torch.tensor([ids[start:start + n]]), torch.arange(start, start + n)
        return self.methods["forward"]._method(inputs, clone_outputs=False)

    def run(self, ids, chunks):
        """[(n, vocab) of each call].  Ours begins in an arena of NaN, but for the caches: the file
        says what they begin as, and of all else nothing may be read before it is written."""
        calls = spans(len(ids), chunks)
        if self.file:
            self.file.poison(self.call(ids, *calls[0]))
        return [self.call(ids, *c)[0].clone().flatten(0, -2) for c in calls]


def spans(n, chunks):
    """(start, length) of each call, the chunks over and over."""
    out, start = [], 0
    while start < n:
        out.append((start, min(chunks[len(out) % len(chunks)], n - start)))
        start += out[-1][1]
    return out


def torch_run(path, ids, chunks):
    module = torch.export.load(str(path)).module()
    with torch.no_grad():
        return [module(input_ids=torch.tensor([ids[s:s + n]]),
                       cache_position=torch.arange(s, s + n)).flatten(0, -2)
                for s, n in spans(len(ids), chunks)]


@pytest.fixture(scope="session")
def pte(build, tmp_path_factory):
    """pte(folder, "xnnpack", "--seq-len=4", …): the Program; "pt2": the path of the .pt2."""
    out, count = tmp_path_factory.mktemp("pte"), iter(range(10**6))

    def run(folder, kind, *options, max_cache_len=48):
        path = out / f"{next(count)}"
        flags = ["--profile", "edge"] if kind == "pt2" else ["--format", "pte", "--pte-backend", kind]
        subprocess.run([build / "pt2-export", folder, "-q", "-o", path, *flags, "--dtype", "float32",
                        "--max-cache-len", str(max_cache_len), *options],
                       check=True, capture_output=True)
        return path if kind == "pt2" else Program(path.read_bytes())

    return run


def compare(pte, folder, *options, n=12, chunks=(1,), backends=BACKENDS, max_cache_len=48):
    """The largest difference, as a part of the largest logit."""
    ids, most = tiny.ids(1, n)[0], 0
    want = torch_run(pte(folder, "pt2", *options, max_cache_len=max_cache_len), ids, chunks)
    for backend in backends:
        got = pte(folder, backend, *options, max_cache_len=max_cache_len).run(ids, chunks)
        assert [g.shape for g in got] == [w.shape for w in want]
        difference, largest = reference.largest_difference(torch.cat(got), torch.cat(want))
        assert difference <= 1e-5 * largest, f"{backend}: {difference} of {largest}"
        most = max(most, difference / largest)
    return f"{most:.1e} of the largest logit"


@pytest.mark.parametrize("case", sorted({*tiny.FAMILIES, *KNOBS}))
def test_float32(case, checkpoint, pte, record_property):
    record_property("measured", compare(pte, checkpoint(case), n=10))


@pytest.mark.parametrize("case", ["llama", "gemma2", "mistral-window"])
def test_borders_of_windows(case, checkpoint, pte, record_property):
    """Each window that attention is cut to, and one position beyond it."""
    record_property("measured", compare(pte, checkpoint(case), n=300, max_cache_len=300,
                                        backends=["xnnpack"]))


@pytest.mark.parametrize("case,options,chunks", [
    ("llama", ["--dynamic-shapes"], CHUNKS),
    ("gemma2", ["--dynamic-shapes"], CHUNKS),
    ("llama-mqa", ["--dynamic-shapes"], CHUNKS),
    ("qwen2-window", ["--dynamic-shapes", "--logits-to-keep=last"], CHUNKS),
    ("mistral-window", ["--seq-len=4"], [4]),
    ("gpt2", ["--seq-len=4", "--logits-to-keep=last"], [4]),
    ("mistral-window", ["--cache-implementation=hybrid"], [1]),
    ("gemma3_text", ["--cache-implementation=hybrid", "--dynamic-shapes"], [1, 5, 1]),
], ids=lambda v: "-".join(o.strip("-") for o in v) if isinstance(v, list) and
                 isinstance(v[0], str) else None)
def test_calls_of_several_tokens_and_rings(case, options, chunks, checkpoint, pte, record_property):
    record_property("measured", compare(pte, checkpoint(case), *options, n=40, chunks=chunks))


@pytest.mark.parametrize("backend", BACKENDS)
def test_caches_begin_as_the_file_says(backend, checkpoint, pte):
    """Zeros, which ExecuTorch copies into the arena when it loads the program: with others in the
    file, others are there.  They are all that is written in place, and share nothing."""
    program = pte(checkpoint("llama"), backend, max_cache_len=300)
    file, zeros = program.file, program.file.zeros()
    caches = sorted(file.caches())
    assert caches == sorted(file.place(c.args[0]) for c in file.calls_of("aten::index_put_"))
    assert all(end <= first for (_, end), (first, _) in zip(caches, caches[1:]))
    assert len(caches) == 4 and not any(program.data[zeros.start:zeros.stop])
    other = bytearray(program.data)
    other[zeros.start:zeros.stop] = b"\x5a" * len(zeros)
    changed = Program(bytes(other))
    base = changed.file.base(changed.call([5], 0, 1))
    for first, end in caches:  # (300, 2, 16), the call has written the first row
        row = (end - first) // 300
        rest = ctypes.string_at(base + first + row, end - first - row) if backend == "xnnpack" \
            else ctypes.string_at(base + first + row // 2, row)
        assert rest == b"\x5a" * len(rest)


@pytest.mark.parametrize("case", sorted(tiny.MOE))
def test_experts_of_several_tokens(case, checkpoint, pte, record_property):
    """Calls of 1 to all of the tokens: the experts of one after another."""
    record_property("measured", compare(pte, checkpoint(case), "--dynamic-shapes", n=80,
                                        chunks=[1, 9, 48, 2], max_cache_len=80))


def test_windows_of_chunks(checkpoint, pte, record_property):
    """Calls whose rows lie on both sides of a window's border."""
    record_property("measured", compare(pte, checkpoint("gemma2"), "--dynamic-shapes", n=300,
                                        chunks=CHUNKS, max_cache_len=300))


def python_lowering(path):
    edge = to_edge_transform_and_lower(
        torch.export.load(str(path)), partitioner=[XnnpackPartitioner()],
        compile_config=EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True))
    return Program(edge.to_executorch(ExecutorchBackendConfig(
        run_reinplace_pass=True, do_quant_fusion_and_const_prop=True)).buffer, is_ours=False)


@pytest.fixture(scope="session")
def short(tmp_path_factory):
    """One layer: Python's lowering takes seconds for each."""
    return tiny.write("llama", dict(num_hidden_layers=1), tmp_path_factory.mktemp("short"), seed=5)


@pytest.mark.parametrize("options", [
    ["--quantize-linear=8da4w", "--quantize-embedding=8w"],
    ["--quantize-linear=8da4w", "--quantize-embedding=4w", "--embedding-group-size=32"],
    ["--quantize-linear=8da8w", "--group-size=0"],
], ids=["8da4w-8w", "8da4w-4w", "8da8w"])
def test_quantised_is_pythons_lowering(options, short, pte, record_property):
    folder, ids = short, tiny.ids(1, 12)[0]
    ours = torch.cat(pte(folder, "xnnpack", *options).run(ids, [1]))
    theirs = torch.cat(python_lowering(pte(folder, "pt2", *options)).run(ids, [1]))
    difference, largest = reference.largest_difference(ours, theirs)
    assert difference <= 1e-5 * largest
    record_property("measured", f"{difference / largest:.1e} of the largest logit")


def test_constant_methods_are_the_metadata(checkpoint, pte):
    program = pte(checkpoint("llama"), "xnnpack", "--dynamic-shapes", max_cache_len=40)
    want = {"get_max_seq_len": [40], "get_max_context_len": [40], "get_vocab_size": [256],
            "use_kv_cache": [True], "enable_dynamic_shape": [True], "get_bos_id": [1],
            "get_eos_ids": [2]}
    assert set(program.methods) == {"forward", *want}
    assert {name: list(program.constant(name)) for name in want} == want


def test_what_it_says_of_itself(checkpoint, build, tmp_path):
    """The dry run's sizes are the file's."""
    command = [build / "pt2-export", checkpoint("llama"), "--format", "pte", "--json"]
    dry = json.loads(subprocess.check_output([*command, "-n"]))
    made = json.loads(subprocess.check_output([*command, "-o", tmp_path / "x.pte"]))
    assert dry["pte_bytes"] == made["pte_bytes"] == made["pte"]["bytes"] \
        == (tmp_path / "x.pte").stat().st_size


def peak_bytes(*command, stdin=b""):
    """VmHWM of the process, its files' pages included."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    process.stdin.write(stdin)
    process.stdin.close()
    peak = 0
    while process.poll() is None:
        peak = max(peak, bench_export.peak_kib(process.pid))
        time.sleep(0.005)
    assert process.returncode == 0
    return peak * 1024


@pytest.fixture(scope="session")
def large(tmp_path_factory):
    """Of 225 MB in float32."""
    return big.make(tmp_path_factory.mktemp("large") / "in", "56m", "BF16")


def test_one_that_is_killed_leaves_no_file(large, build, tmp_path):
    """A worker's output is named by the daemon, which removes it: tests/http/test_pte.py."""
    path = tmp_path / "out/x.pte"
    path.parent.mkdir()
    process = subprocess.Popen([build / "pt2-export", large, "-q", "--format", "pte", "-o", path],
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not any(f.stat().st_size > 1 << 20 for f in path.parent.iterdir()):
        assert process.poll() is None, "it was too fast"
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert not path.exists()


def test_memory_is_that_of_slices(large, build, tmp_path, record_property):
    """From a checkpoint, quantised, and from an archive (a daemon's job)."""
    model, pt2 = large, tmp_path / "x.pt2"
    options = ["--dtype", "float32", "--max-cache-len", "256", "-q", "-o"]
    command = [build / "pt2-export", model, "--format", "pte", *options]
    peaks = [peak_bytes(*command, tmp_path / "a.pte"),
             peak_bytes(*command, tmp_path / "q.pte", "--quantize-linear=8da4w")]
    subprocess.run([build / "pt2-export", model, "--profile", "edge", *options, pt2], check=True)
    peaks.append(peak_bytes(build / "pt2-export", "--pte-job", pt2, "-o", tmp_path / "b.pte",
                            stdin=b'{"backend": "xnnpack"}'))
    assert (tmp_path / "a.pte").stat().st_size > 220e6
    assert max(peaks) < 28e6
    record_property("measured", " ".join(f"{peak / 1e6:.1f}" for peak in peaks) + " MB")
