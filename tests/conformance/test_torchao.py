"""Programs that torchao quantised and Python exported, uploaded and stepped: the logits of torch's own
run of the same program."""

import pytest
import torch

import reference
import tiny

N = 20
INT8 = dict(embedding="8w")
CASES = {
    "8da4w g32": dict(linear="8da4w", group_size=32, **INT8),
    "8da8w": dict(linear="8da8w", **INT8),
    "8w": dict(linear="8w"),
    "4w g32, embedding 4w g32": dict(linear="4w", group_size=32, embedding="4w",
                                     embedding_group_size=32),
}


def parameters(program):
    """What its facts must say: elements by dtype."""
    of = {}
    for name in {*program.graph_signature.parameters}:
        tensor = program.state_dict[name]
        dtype = str(tensor.dtype)[6:]
        of[dtype] = of.get(dtype, 0) + tensor.numel()
    return of


def stepped(daemon, program, ids, chunks, engine):
    out, start = [], 0
    with daemon.session(program, engine) as session:
        for n in chunks:
            out.append(daemon.step(session, [row[start:start + n] for row in ids]))
            start += n
    return torch.cat(out, 1)


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("case", CASES)
def test_steps_as_torch_runs_it(case, dynamic, checkpoint, daemon, tmp_path, record_property):
    """A token quantised to 8 bits may be rounded the other way, where libtorch's matrix product before
    it differed in the last bit: a logit moves by a step of the quantisation."""
    path = tmp_path / "torchao.pt2"
    exported = reference.python_export(checkpoint("llama"), path, dynamic=dynamic,
                                       quantised=CASES[case])
    facts = daemon.upload(path)
    assert facts["parameters"]["dtypes"] == parameters(exported)
    assert facts["parameters"]["elements"] == sum(parameters(exported).values())
    ids = tiny.ids(1, N)
    want = reference.run_program(path, ids)
    plain = reference.eager_logits(checkpoint("llama"), ids)
    cost, _ = reference.largest_difference(want, plain)
    chunks = [7, 1, 8, 4] if dynamic else [1] * N
    engines = [name for name, verdict in facts["engines"].items() if verdict["ok"]]
    assert "aten" in engines, facts["engines"]
    if "native" not in engines:
        assert "torchao" in facts["engines"]["native"]["reason"], facts["engines"]
    for engine in engines:
        got = stepped(daemon, facts["id"], ids, chunks, engine)
        worst, largest = reference.largest_difference(got, want)
        rms = reference.rms(got, want) / reference.rms(want, 0 * want)
        record_property("measured", f"{engine}: {worst / largest:.1e} of the largest logit, rms "
                                    f"{rms:.1e}; quantised: {cost / largest:.1e}")
        if CASES[case]["linear"].startswith("8da"):
            assert worst <= 1e-2 * largest and rms <= 2e-3, f"{worst} of {largest}, rms {rms}"
        else:
            assert worst <= 1e-5 * largest, f"{worst} of {largest}"
