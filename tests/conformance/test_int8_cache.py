"""A cache of whole numbers ("cache_dtype": "int8"): what it does to the logits, and that it is
what it says: beside Transformers on the same keys and values."""

import pytest
import torch
from safetensors.torch import load
from transformers import AutoTokenizer, DynamicCache

import reference
from test_smollm2 import TOP, smollm2  # noqa: F401

pytestmark = pytest.mark.xdist_group("smollm2")  # converted once
N = 512


@pytest.fixture(scope="module")
def ids(smollm2):  # noqa: F811
    """English prose of this repository."""
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    return tokenizer((TOP / "doc/sessions.md").read_text()).input_ids[:N]


def rounded(x):
    """Whole numbers times the bfloat16 at or above largest / 127, of each last dimension."""
    scale = (x.abs().amax(-1, keepdim=True) / 127).view(torch.int32)
    scale = ((scale + 0xffff) >> 16 << 16).view(torch.float32)
    return (x / scale).round() * scale


def continued_logits(folder, file, token):
    """Of one more token behind a saved cache, as Transformers has them; (1, 1, vocab)."""
    model, held = reference.load(str(folder)), load(file)
    cache = DynamicCache(config=model.config)
    for layer in range(model.config.num_hidden_layers):
        names = (f"{kind}_cache_{layer}" for kind in ("key", "value"))
        cache.update(*(held[n].float() * held[n + ".scale"].float() for n in names), layer)
    cache.update = lambda k, v, *args, **kwargs: DynamicCache.update(
        cache, rounded(k), rounded(v), *args, **kwargs)
    with torch.no_grad():
        return model(torch.tensor([[token]]), past_key_values=cache,
                     use_cache=True).logits.double()


def rms(a, b):
    return float((a - b).pow(2).mean().sqrt())


def differences(got, want, ids):
    """Of (1, n, vocab) logits from others: largest, root mean square, both of the logits' own
    deviation; Kullback-Leibler divergence; share of likeliest tokens; nats a token of the text."""
    spread = float((want - want.mean(-1, keepdim=True)).pow(2).mean().sqrt())
    p, q = want.log_softmax(-1), got.log_softmax(-1)
    text = torch.tensor(ids[1:])[None, :, None]
    loss = [float(-x[:, :-1].gather(-1, text).mean()) for x in (p, q)]
    return {"max": float((got - want).abs().max()) / spread, "rms": rms(got, want) / spread,
            "kl": float((p.exp() * (p - q)).sum(-1).mean()),
            "greedy": float((got.argmax(-1) == want.argmax(-1)).double().mean()),
            "loss": loss[1], "loss before": loss[0]}


def told(what):
    return ", ".join(f"{name} {value:.3g}" for name, value in what.items())


def logits_of(daemon, program, ids, dtype):
    with daemon.session(program, "native", cache_dtype=dtype) as session:
        return torch.cat([daemon.step(session, [ids[at:at + 256]]) for at in range(0, N, 256)], 1)


@pytest.fixture(scope="module")
def exact(smollm2, ids):  # noqa: F811
    return reference.eager_logits(smollm2, [ids])


def test_error_of_smollm2(smollm2, ids, exact, daemon, record_property):  # noqa: F811
    program = daemon.export(smollm2.name, dtype="float32", dynamic_shapes=True,
                            cache={"max_cache_len": N})["program"]
    plain = logits_of(daemon, program, ids, "program")
    of = differences(logits_of(daemon, program, ids, "int8"), plain, ids)
    record_property("measured", told(of))
    assert differences(plain, exact, ids)["rms"] < 1e-4
    assert of["rms"] < 0.06 and of["kl"] < 3e-3 and of["greedy"] > 0.96
    assert abs(of["loss"] - of["loss before"]) < 0.02


def test_one_more_token_is_transformers(smollm2, ids, exact, daemon, record_property):  # noqa: F811
    """Whole logits can't be compared so: where two programs round a float to two sides, all
    layers above round anew.  Of one token behind the same whole numbers there is little of that."""
    program = daemon.export(smollm2.name, dtype="float32", dynamic_shapes=True,
                            cache={"max_cache_len": N})["program"]
    worst = []
    for n in (64, 128, 192, 256):
        with daemon.session(program, "native", cache_dtype="int8") as session:
            daemon.step(session, [ids[:n]])
            file = daemon.bytes("GET", f"/v1/sessions/{session}/cache")
            got = daemon.step(session, [ids[n:n + 1]])
        theirs = continued_logits(smollm2, file, ids[n])
        worst.append(rms(got, theirs) / rms(got, exact[:, n:n + 1]))
    record_property("measured", f"at most {max(worst):.2g} of the int8 cache's error")
    assert max(worst) < 0.02


def test_error_beside_bfloat16(smollm2, ids, exact, daemon, record_property):  # noqa: F811
    """Of a program in bfloat16, which rounds by itself."""
    program = daemon.export(smollm2.name, dtype="bfloat16", dynamic_shapes=True,
                            cache={"max_cache_len": N})["program"]
    plain, got = (differences(logits_of(daemon, program, ids, dtype), exact, ids)
                  for dtype in ("program", "int8"))
    record_property("measured", f"bfloat16: {told(plain)}; with int8: {told(got)}")
    assert got["rms"] < 0.06 and got["kl"] < 3e-3 and got["greedy"] > 0.96
