"""Programs that Python exported, compiled into plans: the logits of torch's own run of them."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

import reference

pytestmark = pytest.mark.nightly
N = 20
BASE = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96,
            vocab_size=256, max_position_embeddings=64, bos_token_id=1, eos_token_id=2,
            pad_token_id=0, initializer_range=0.1, tie_word_embeddings=False)
GPT = dict(n_embd=64, n_layer=2, n_head=4, n_positions=64)
KV = dict(num_key_value_heads=2)
WINDOW = dict(head_dim=16, sliding_window=5, query_pre_attn_scalar=16, **KV)
MODELS = {
    "llama": KV, "mistral": dict(sliding_window=5, **KV), "qwen2": KV,
    "qwen3": dict(head_dim=16, **KV), "phi3": KV, "gemma": dict(head_dim=16, **KV),
    "gemma2": WINDOW, "gemma3_text": WINDOW, "granite": KV, "smollm3": KV, "olmo": KV,
    "olmo2": KV, "starcoder2": KV, "stablelm": KV, "cohere": KV, "nemotron": KV,
    "glm": dict(head_dim=16, **KV), "phi": dict(partial_rotary_factor=0.5),
    "gpt_neox": dict(rotary_pct=0.25), "gpt2": GPT, "gptj": dict(rotary_dim=8, **GPT),
}


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """model("phi"): that model's folder, made once; biases and norms are random too."""
    root = tmp_path_factory.mktemp("plans")

    def get(name):
        path = root / name
        if not path.exists():
            torch.manual_seed(1)
            made = AutoModelForCausalLM.from_config(
                AutoConfig.for_model(name, **{**BASE, **MODELS[name]}))
            with torch.no_grad():
                for parameter_name, parameter in made.named_parameters():
                    if parameter_name.endswith("bias"):
                        parameter.normal_(0, 0.2)
                    elif "norm" in parameter_name or "ln_" in parameter_name:
                        parameter.normal_(1, 0.2)
            made.save_pretrained(path)
        return path

    return get


def compare(build, folder, path, tolerance, **options):
    program = reference.python_export(folder, path, **options)
    batch, s = options.get("batch_size", 1), options.get("seq_len", 1)
    ids = torch.randint(3, 250, (N,), generator=torch.Generator().manual_seed(5)).tolist()
    chunks = [7, 1, 1, 5, 6] if options.get("dynamic") else [s] * (N // s)
    want = reference.run_program(program, [[i + b for i in ids] for b in range(batch)], chunks)
    worst = 0.0
    for chunk in (1, 8):
        got = reference.plan_logits(build, path, ids, chunk, batch)
        difference, largest = reference.largest_difference(got, want)
        assert difference <= tolerance * largest, f"{difference} of {largest}"
        worst = max(worst, difference / largest)
    return f"{worst:.1e} of the largest logit"


@pytest.mark.parametrize("options", [
    dict(attn="eager"), dict(attn="eager", seq_len=4, batch_size=2),
    dict(attn="sdpa", dynamic=True, batch_size=2)], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_float32(name, options, model, build, tmp_path, record_property):
    if name == "gptj" and options["attn"] == "sdpa":
        pytest.skip("Transformers has no sdpa for it")
    record_property("measured", compare(build, model(name), tmp_path / "python.pt2", 1e-5,
                                        **options))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["llama", "mistral", "gemma2", "gpt2", "phi"])
def test_half_precision(name, dtype, model, build, tmp_path, record_property):
    # torch rounds each activation, a plan none: twice what torch alone is off by.
    record_property("measured", compare(build, model(name), tmp_path / "python.pt2",
                                        5e-2 if dtype == "bfloat16" else 5e-3, dtype=dtype))
