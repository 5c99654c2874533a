"""Multimodal checkpoints: the text part is exported, and computes what the whole does of text."""

import hashlib
import json
import re

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import reference
import tiny

N = 24
TEXT = {k: v for k, v in tiny.BASE.items() if k not in ("tie_word_embeddings", "initializer_range")}
VISION = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48,
              image_size=16, patch_size=8)
QWEN = dict(depth=1, embed_dim=32, hidden_size=64, num_heads=2, patch_size=4)
QWEN2_5 = dict(depth=1, hidden_size=32, out_hidden_size=64, num_heads=2, intermediate_size=48,
               patch_size=4, window_size=16, fullatt_block_indexes=[0])
CLIP = dict(model_type="clip_vision_model", projection_dim=32, **VISION)
MROPE = dict(rope_parameters={"rope_type": "default", "rope_theta": 1000.0,
                              "mrope_section": [2, 3, 3]})

# name: (model type, text_config, vision_config, the rest)
PARTS = {
    "gemma3": ("gemma3", dict(model_type="gemma3_text", **tiny.FAMILIES["gemma3_text"]), dict(
        model_type="siglip_vision_model", **VISION), dict(mm_tokens_per_image=4)),
    "mistral3": ("mistral3", dict(model_type="mistral", sliding_window=None, head_dim=16), dict(
        model_type="pixtral", **VISION), dict(tie_word_embeddings=False)),
    "mistral3-ministral3": ("mistral3", dict(model_type="ministral3", **tiny.FAMILIES["ministral3"]),
                            dict(model_type="pixtral", **VISION), {}),
    "llava": ("llava", dict(model_type="llama"), CLIP, {}),
    "llava-qwen2-tied": ("llava", dict(model_type="qwen2", tie_word_embeddings=True), CLIP, {}),
    "llava_next": ("llava_next", dict(model_type="mistral", sliding_window=5), CLIP, {}),
    "qwen2_vl": ("qwen2_vl", dict(tie_word_embeddings=True, **MROPE), QWEN, {}),
    "qwen2_5_vl": ("qwen2_5_vl", MROPE, QWEN2_5, {}),
    "smolvlm": ("smolvlm", dict(model_type="llama"), VISION, dict(tie_word_embeddings=True,
                                                                  scale_factor=1)),
    "idefics3": ("idefics3", dict(model_type="llama"), VISION, dict(scale_factor=1)),
}


def make(name, folder):
    """Write the checkpoint; its eager logits of text alone: ids -> (batch, n, vocab)."""
    kind, text, vision, rest = PARTS[name]
    torch.manual_seed(int(hashlib.sha256(name.encode()).hexdigest()[:8], 16))
    config = transformers.AutoConfig.for_model(
        kind, text_config={**TEXT, **text}, vision_config=vision, **rest)
    model = transformers.AutoModelForImageTextToText.from_config(config)
    assert config.get_text_config().vocab_size == TEXT["vocab_size"]
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if "norm" not in parameter_name:
                parameter.normal_(0, 0.1)
    model.eval().save_pretrained(folder)
    model.set_attn_implementation("eager")

    def logits(ids):
        with torch.no_grad():
            return model(input_ids=torch.tensor(ids), use_cache=False).logits.double()
    return logits


def compare(build, path, logits):
    ids = tiny.ids(1, N)[0]
    want = logits([ids, [i + 1 for i in ids]])
    largest_of = want.abs().max().item()
    got = [reference.run_program(path, [ids, [i + 1 for i in ids]], chunks)
           for chunks in (None, [9, 1, 13, 1])]
    got.append(reference.plan_logits(build, path, ids, 5, 2).double())
    differences = [reference.largest_difference(g, want)[0] / largest_of for g in got]
    assert max(differences) <= 1e-5, differences
    return f"{max(differences):.1e} of the largest logit"


# A spelling of names, or of the config, each; the rest nightly.
GATE = ("gemma3", "mistral3-ministral3", "llava-qwen2-tied", "qwen2_vl", "smolvlm")


@pytest.mark.parametrize("name", [
    name if name in GATE else pytest.param(name, marks=pytest.mark.nightly) for name in PARTS])
def test_text_part(name, build, export, tmp_path, record_property):
    logits, notes = make(name, tmp_path / "model"), []
    path = export(tmp_path / "model", batch_size=2, dynamic=True, notes=notes)
    record_property("measured", compare(build, path, logits))
    kind, text = PARTS[name][0], PARTS[name][1].get("model_type", PARTS[name][0] + "_text")
    n = sum(bool(re.search("visual|vision|connector|multi_modal|newline", tensor))
            for tensor in load_file(tmp_path / "model/model.safetensors"))
    assert n > 5
    assert any(f"{kind}: only the text model, {text}, is exported; {n} tensors are left out"
               in note for note in notes), notes
    names = torch.export.load(str(path)).state_dict
    assert "model.model.embed_tokens.weight" in names
    assert not any("language_model" in fqn or "text_model" in fqn for fqn in names)


@pytest.mark.parametrize("name", [
    "gemma3", *(pytest.param(name, marks=pytest.mark.nightly) for name in ("qwen2_5_vl", "llava"))])
def test_names_of_the_module_tree(name, build, export, tmp_path, record_property):
    """As the classes themselves call them, which from_pretrained takes too."""
    folder = tmp_path / "model"
    logits = make(name, folder)
    whole = transformers.AutoModelForImageTextToText.from_pretrained(folder)
    weights = {fqn: w.contiguous().clone() for fqn, w in whole.state_dict().items()
               if fqn != "lm_head.weight" or not whole.config.tie_word_embeddings}
    assert any(fqn.startswith("model.language_model.") for fqn in weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    record_property("measured", compare(build, export(folder, batch_size=2, dynamic=True), logits))


def test_a_flat_config(build, export, tmp_path, record_property):
    """As Qwen2-VL was published: the text model's fields beside vision_config."""
    folder = tmp_path / "model"
    logits = make("qwen2_vl", folder)
    config = json.loads((folder / "config.json").read_text())
    text = config.pop("text_config")
    theta = text.pop("rope_parameters")["rope_theta"]
    config = {**text, **config, "rope_theta": theta, "tie_word_embeddings": True,
              "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}}
    (folder / "config.json").write_text(json.dumps(config))
    record_property("measured", compare(build, export(folder, batch_size=2, dynamic=True), logits))


def test_ends_of_the_text_config(export, tmp_path):
    """Where neither generation_config.json nor the whole says it."""
    folder = tmp_path / "model"
    make("llava", folder)
    config = json.loads((folder / "config.json").read_text())
    config.pop("eos_token_id", None)
    config["text_config"]["eos_token_id"] = [7, 9]
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").unlink(missing_ok=True)
    extra = {"executorch_metadata.json": ""}
    torch.export.load(str(export(folder)), extra_files=extra)
    metadata = json.loads(extra["executorch_metadata.json"])
    assert metadata["get_eos_ids"] == [7, 9]
    assert metadata["get_vocab_size"] == TEXT["vocab_size"]


def test_what_is_no_other_part_is_named(export, tmp_path):
    """Not as one of the parts left out, but as what the text model has no place for."""
    folder, notes = tmp_path / "model", []
    make("llava", folder)
    weights = load_file(folder / "model.safetensors")
    name = "language_model.model.layers.7.mlp.up_proj.weight"
    weights[name] = torch.zeros(1)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    export(folder, notes=notes)
    assert any(f"no part of the llama model that config.json describes, and is left out, as "
               f"Transformers does: '{name}'" in note for note in notes), notes
    assert any("llava: only the text model" in note and name not in note for note in notes)
