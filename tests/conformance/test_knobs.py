"""What test_export.py's cases don't reach: every activation, the older spelling of rotary
scaling, ties as the checkpoint allows, positions beyond the trained ones; and that each node
says the shape, strides and dtype that its result has."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import reference
import tiny
from test_export import compare

N = 24
ACTIVATIONS = ["gelu", "gelu_new", "relu", "relu2", "sigmoid", "swish", "tanh"]


def rewrite_config(folder, change):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def make_activation(act, folder, **save):
    tiny.make("llama", folder, **save)
    rewrite_config(folder, lambda config: config.update(hidden_act=act))
    return folder


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_activation(act, export, tmp_path, record_property):
    folder = make_activation(act, tmp_path / act)
    record_property("measured", compare(export(folder), folder, tiny.ids(1, N)))


@pytest.mark.parametrize("act", ["gelu_new", "relu2"])
def test_activation_rounds_as_eager(act, export, tmp_path, record_property):
    """These are several operations, so where each rounds shows."""
    folder = make_activation(act, tmp_path / act, dtype=torch.bfloat16)
    ids = tiny.ids(1, N)
    exact = reference.eager_logits(folder, ids, "float64")
    ours = reference.rms(reference.run_program(export(folder, dtype="bfloat16"), ids), exact)
    theirs = reference.rms(reference.eager_logits(folder, ids, "bfloat16"), exact)
    assert ours <= 1.25 * theirs, f"{ours} against {theirs}"
    record_property("measured", f"{ours / theirs:.2f} times Transformers' error")


@pytest.mark.parametrize("case", ["llama", "llama-linear", "llama-dynamic", "llama-llama3",
                                  "llama-yarn-knobs"])
def test_older_spelling(case, export, tmp_path, record_property):
    """rope_theta and rope_scaling with `type`, as configs before transformers 5 have them."""
    def change(config):
        scaling = config.pop("rope_parameters")
        config["rope_theta"] = scaling.pop("rope_theta")
        kind = scaling.pop("rope_type")
        config["rope_scaling"] = None if kind == "default" else {"type": kind, **scaling}
        config["torch_dtype"] = config.pop("dtype")

    folder = tiny.make(case, tmp_path / case)
    rewrite_config(folder, change)
    record_property("measured", compare(export(folder), folder, tiny.ids(1, N)))


@pytest.mark.parametrize("which", ["head", "both"])
def test_ties_as_the_checkpoint_allows(which, export, tmp_path, record_property):
    """The embedding alone is llama-tied; here the head alone, and two that differ."""
    folder = tiny.make("llama-tied", tmp_path / which)
    weights = load_file(folder / "model.safetensors")
    if which == "head":
        weights["lm_head.weight"] = weights.pop("model.embed_tokens.weight")
    else:
        weights["lm_head.weight"] = torch.randn_like(weights["model.embed_tokens.weight"])
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    record_property("measured", compare(export(folder), folder, tiny.ids(1, N)))


def test_beyond_the_trained_positions(checkpoint, export, record_property):
    folder = checkpoint("llama")  # max_position_embeddings: 64
    path = export(folder, max_cache_len=100, dynamic=True)
    record_property("measured", compare(path, folder, tiny.ids(1, 100), [60, 40]))


class Checker(torch.fx.Interpreter):
    """Runs a graph; remembers the nodes whose result is not what they say."""

    def __init__(self, module):
        super().__init__(module)
        self.wrong = []

    def run_node(self, node):
        got = super().run_node(node)
        said = node.meta.get("val")
        if node.op == "call_function":
            # torch does not care for the stride of a dimension of one element
            strides = [(int(a), b) for a, b, n in zip(said.stride(), got.stride(), got.shape)
                       if n != 1]
            if ([int(n) for n in said.shape] != list(got.shape) or said.dtype != got.dtype
                    or any(a != b for a, b in strides)):
                self.wrong.append((node.name, said, got.shape, got.stride(), got.dtype))
        return got


@pytest.mark.parametrize("options", [
    {}, dict(seq_len=3), dict(batch_size=2, seq_len=3), dict(dynamic=True),
    dict(dtype="bfloat16", seq_len=3)], ids=str)
@pytest.mark.parametrize("case", ["llama", "mistral-window", "gpt_neox", "codegen", "glm"])
def test_nodes_say_what_they_make(case, options, checkpoint, export):
    check_nodes(checkpoint(case), options, export)


@pytest.mark.nightly
@pytest.mark.parametrize("options", [{}, dict(batch_size=2, seq_len=3), dict(
    dynamic=True, dtype="bfloat16")], ids=str)
@pytest.mark.parametrize("case", [*tiny.FAMILIES, *tiny.KNOBS])
def test_nodes_of_families_say_what_they_make(case, options, checkpoint, export):
    check_nodes(checkpoint(case), options, export)


def check_nodes(folder, options, export):
    program = torch.export.load(str(export(folder, **options)))
    tensors = {**program.state_dict, **program.constants}
    shapes = {node.name: [int(n) for n in node.meta["val"].shape]
              for node in program.graph.nodes if node.op == "placeholder"}
    user = {"input_ids": torch.ones(shapes["input_ids"], dtype=torch.long),
            "cache_position": torch.arange(shapes["cache_position"][0])}
    checker = Checker(program.graph_module)
    with torch.no_grad():
        checker.run(*[tensors[spec.target] if spec.target else user[spec.arg.name]
                      for spec in program.graph_signature.input_specs])
    assert not checker.wrong
