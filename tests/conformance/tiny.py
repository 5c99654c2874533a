"""Tiny random checkpoints over the whole range of the knobs that their configs have."""

import hashlib

import torch
import transformers

# What every case starts from; its own fields come on top.
BASE = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            intermediate_size=96, vocab_size=256, max_position_embeddings=64,
            bos_token_id=1, eos_token_id=2, initializer_range=0.1, tie_word_embeddings=False)

LLAMA3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
        "original_max_position_embeddings": 16}

# name: (family, fields of the config)
CASES = {
    "llama": ("llama", {}),
    "llama-mha": ("llama", dict(num_key_value_heads=4)),
    "llama-mqa": ("llama", dict(num_key_value_heads=1)),
    "llama-tied": ("llama", dict(tie_word_embeddings=True)),
    "llama-biases": ("llama", dict(attention_bias=True, mlp_bias=True)),
    "llama-head-dim": ("llama", dict(head_dim=24, num_attention_heads=2, num_key_value_heads=1)),
    "llama-eps-theta": ("llama", dict(rms_norm_eps=1e-3, rope_parameters={
        "rope_type": "default", "rope_theta": 500.0})),
    "llama-gelu": ("llama", dict(hidden_act="gelu_pytorch_tanh")),
    "llama-linear": ("llama", dict(rope_parameters={
        "rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0})),
    "llama-dynamic": ("llama", dict(rope_parameters={
        "rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0})),
    "llama-llama3": ("llama", dict(rope_parameters=LLAMA3)),
    "llama-yarn": ("llama", dict(rope_parameters=YARN)),
    "llama-yarn-knobs": ("llama", dict(rope_parameters={
        **YARN, "beta_fast": 16.0, "beta_slow": 2.0, "mscale": 1.2, "mscale_all_dim": 0.7,
        "truncate": False})),
    "llama-yarn-attention": ("llama", dict(rope_parameters={**YARN, "attention_factor": 0.8})),
    "mistral": ("mistral", dict(sliding_window=None)),
    "mistral-window": ("mistral", dict(sliding_window=5)),
    "mistral-head-dim": ("mistral", dict(head_dim=8, sliding_window=4096)),
    "qwen2": ("qwen2", {}),
    "qwen2-tied": ("qwen2", dict(tie_word_embeddings=True)),
    "qwen2-window": ("qwen2", dict(num_hidden_layers=4, use_sliding_window=True,
                                   sliding_window=5, max_window_layers=2)),
    "qwen2-layer-types": ("qwen2", dict(
        num_hidden_layers=3, use_sliding_window=True, sliding_window=4,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"])),
    "qwen2-yarn": ("qwen2", dict(rope_parameters={**YARN, "rope_theta": 1000000.0})),
}

CLASSES = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
    "mistral": (transformers.MistralConfig, transformers.MistralForCausalLM),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
}


def make(name, folder, dtype=torch.float32, **save):
    """Write the case's checkpoint into folder; biases and norms are random too."""
    family, fields = CASES[name]
    config_class, model_class = CLASSES[family]
    torch.manual_seed(int(hashlib.sha256(name.encode()).hexdigest()[:8], 16))
    model = model_class(config_class(**{**BASE, **fields}))
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter_name.endswith("bias"):
                parameter.normal_(0, 0.2)
            elif "norm" in parameter_name:
                parameter.normal_(1, 0.2)
    model.to(dtype).save_pretrained(folder, **save)
    return folder


def ids(batch_size, n, seed=7):
    """(batch_size, n) token ids."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, BASE["vocab_size"], (batch_size, n), generator=generator).tolist()
