"""Tiny random checkpoints over the whole range of the knobs that their configs have."""

import hashlib

import torch
import transformers

# What every case starts from; its own fields come on top.
BASE = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            intermediate_size=96, vocab_size=256, max_position_embeddings=64,
            bos_token_id=1, eos_token_id=2, pad_token_id=0, initializer_range=0.1,
            tie_word_embeddings=False)

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

# What the config classes call BASE's fields, or have a value of their own for; None: not at all.
GPT = dict(hidden_size="n_embd", num_hidden_layers="n_layer", num_attention_heads="n_head",
           max_position_embeddings="n_positions", intermediate_size="n_inner",
           num_key_value_heads=None)
MHA = dict(num_key_value_heads=None)
NEO = dict(num_hidden_layers="num_layers", num_attention_heads="num_heads", **MHA)
FALCON = dict(intermediate_size="ffn_hidden_size", **MHA)
OPT = dict(intermediate_size="ffn_dim", **MHA)
XGLM = dict(hidden_size="d_model", intermediate_size="ffn_dim", num_hidden_layers="num_layers",
            num_attention_heads="attention_heads", **MHA)
FIELDS = {"gpt2": GPT, "gpt_bigcode": GPT, "gptj": GPT, "codegen": GPT, "gpt_neox": MHA,
          "persimmon": MHA, "gpt_neo": NEO, "gpt_neox_japanese": MHA | dict(intermediate_size=None),
          "falcon": FALCON, "opt": OPT, "biogpt": MHA, "xglm": XGLM}
HEAD_DIM = dict(head_dim=16)
WINDOW = dict(sliding_window=5, num_hidden_layers=3)
LAYERS = ["sliding_attention", "full_attention", "sliding_attention"]


def two_ropes(theta, local, **more):
    return {"full_attention": {"rope_type": "default", "rope_theta": theta, **more},
            "sliding_attention": {"rope_type": "default", "rope_theta": local}}


def longrope(n, **more):
    return {"rope_type": "longrope", "rope_theta": 10000.0,
            "short_factor": [1.0 + 0.1 * i for i in range(n)],
            "long_factor": [2.0 + 0.5 * i for i in range(n)], **more}


# One a family, with the knobs that its checkpoints have; by kin, as src/export has them.
FAMILIES = {
    "arcee": {}, "seed_oss": HEAD_DIM, "ernie4_5": HEAD_DIM,
    "granite": dict(attention_multiplier=0.2, embedding_multiplier=3.0,
                    residual_multiplier=0.7, logits_scaling=4.0),
    "hyperclovax": dict(attention_multiplier=0.2, embedding_multiplier=3.0,
                        residual_multiplier=0.7, logits_scaling=0.4),
    "hunyuan_v1_dense": dict(rope_parameters={
        "rope_type": "dynamic", "rope_theta": 10000.0, "factor": 1.0, "alpha": 1000.0}, **HEAD_DIM),
    "apertus": {}, "nanochat": {},
    "ministral": dict(layer_types=LAYERS, **WINDOW, **HEAD_DIM),
    "ministral3": dict(rope_parameters={**YARN, "llama_4_scaling_beta": 0.3,
                                        "original_max_position_embeddings": 8}, **HEAD_DIM),
    "qwen3": dict(head_dim=24), "smollm3": dict(num_hidden_layers=4, no_rope_layer_interval=2),
    "phi3": dict(rope_parameters={"rope_type": "default", "rope_theta": 10000.0,
                                  "partial_rotary_factor": 0.75}),
    "cwm": dict(rope_parameters=LLAMA3, **HEAD_DIM, **WINDOW), "exaone4": WINDOW | dict(
        sliding_window_pattern=2),
    "gemma": HEAD_DIM, "gemma2": dict(query_pre_attn_scalar=20, **WINDOW, **HEAD_DIM),
    "gemma3_text": dict(query_pre_attn_scalar=20, layer_types=LAYERS, rope_parameters=two_ropes(
        100000.0, 100.0), **WINDOW, **HEAD_DIM),
    "vaultgemma": dict(query_pre_attn_scalar=20, **WINDOW, **HEAD_DIM),
    "glm": HEAD_DIM, "glm4": HEAD_DIM, "helium": HEAD_DIM,
    "cohere": {}, "cohere2": dict(layer_types=LAYERS, **WINDOW),
    "olmo": dict(clip_qkv=0.6), "olmo2": {},
    "olmo3": dict(layer_types=LAYERS, rope_parameters=two_ropes(5000.0, 5000.0), **WINDOW),
    "starcoder2": {}, "stablelm": {}, "nemotron": {}, "jais2": {}, "phi": {}, "persimmon": {},
    "gpt_neox": {}, "gpt2": {}, "gpt_bigcode": {}, "gptj": dict(rotary_dim=8),
    "codegen": dict(rotary_dim=8), "bitnet": {}, "gpt_neox_japanese": dict(rotary_pct=0.5),
    "gpt_neo": dict(attention_types=[[["global", "local"], 1]], window_size=5), "falcon": {},
    "opt": {}, "biogpt": {}, "xglm": {},
}
# Mixtures of experts.
TOP = dict(num_experts_per_tok=2)
LOCAL = dict(num_local_experts=4, **TOP)
EXPERTS = dict(num_experts=4, moe_intermediate_size=24, **TOP)
GRANITE = dict(attention_multiplier=0.2, embedding_multiplier=3.0, residual_multiplier=0.7,
               logits_scaling=4.0)
ROUTED = dict(n_routed_experts=8, moe_intermediate_size=24, head_dim=16, **TOP)
MOE = {
    "mixtral": LOCAL,
    "qwen2_moe": dict(shared_expert_intermediate_size=40, **EXPERTS),
    "qwen3_moe": dict(norm_topk_prob=True, head_dim=24, **EXPERTS),
    "olmoe": dict(num_experts=4, clip_qkv=0.9, **TOP),
    "granitemoe": LOCAL | GRANITE,
    "granitemoeshared": dict(shared_intermediate_size=40, **LOCAL, **GRANITE),
    "gpt_oss": dict(rope_parameters={**YARN, "truncate": False}, **LOCAL, **WINDOW, **HEAD_DIM),
    "glm4_moe": dict(n_group=4, topk_group=2, routed_scaling_factor=1.5, use_qk_norm=True,
                     n_shared_experts=2, num_hidden_layers=3, **ROUTED),
}
FAMILIES |= MOE
CASES |= {name: (name, fields) for name, fields in FAMILIES.items()}

# The other values of their knobs: nightly.
KNOBS = {
    "seed_oss-biases": ("seed_oss", dict(attention_out_bias=True, mlp_bias=True, **HEAD_DIM)),
    "ernie4_5-biases": ("ernie4_5", dict(use_bias=True, **HEAD_DIM)),
    "hyperclovax-no-post-norms": ("hyperclovax", dict(use_post_norm=False)),
    "apertus-silu": ("apertus", dict(hidden_act="silu")),
    "nanochat-no-cap": ("nanochat", dict(final_logit_softcapping=None)),
    "ministral3-window": ("ministral3", dict(sliding_window=6, rope_parameters={
        "rope_type": "default", "rope_theta": 1000.0, "llama_4_scaling_beta": 0.1,
        "original_max_position_embeddings": 64}, **HEAD_DIM)),
    "qwen3-window-biases": ("qwen3", dict(use_sliding_window=True, max_window_layers=1,
                                          attention_bias=True, **WINDOW, **HEAD_DIM)),
    "smollm3-window": ("smollm3", dict(use_sliding_window=True, no_rope_layers=[0, 1, 0], **WINDOW)),
    "smollm3-layer-types": ("smollm3", dict(use_sliding_window=True, layer_types=LAYERS,
                                            attention_bias=True, mlp_bias=True, **WINDOW)),
    "phi3-longrope-short": ("phi3", dict(
        rope_parameters=longrope(6, partial_rotary_factor=0.75),
        original_max_position_embeddings=32)),
    "phi3-longrope-attention": ("phi3", dict(
        rope_parameters=longrope(8, attention_factor=1.3), tie_word_embeddings=True,
        original_max_position_embeddings=32)),
    "qwen3-tied": ("qwen3", dict(tie_word_embeddings=True, **HEAD_DIM)),
    "phi3-window": ("phi3", dict(sliding_window=5)),
    "exaone4-full": ("exaone4", dict(sliding_window=None, layer_types=["full_attention"] * 2)),
    "gemma-biases": ("gemma", dict(attention_bias=True, tie_word_embeddings=True, **HEAD_DIM)),
    "gemma2-no-caps": ("gemma2", dict(attn_logit_softcapping=None, final_logit_softcapping=None,
                                      **HEAD_DIM)),
    "gemma2-mha": ("gemma2", dict(attn_logit_softcapping=1.5, num_key_value_heads=4, **HEAD_DIM)),
    "gemma3_text-linear": ("gemma3_text", dict(
        final_logit_softcapping=20.0, layer_types=LAYERS, rope_parameters=two_ropes(
            1e6, 1e4, rope_type="linear", factor=8.0), **WINDOW, **HEAD_DIM)),
    "glm-no-bias": ("glm", dict(attention_bias=False, **HEAD_DIM)),
    "glm4-no-bias": ("glm4", dict(attention_bias=False, partial_rotary_factor=0.25, **HEAD_DIM)),
    "cohere-qk-norm": ("cohere", dict(use_qk_norm=True, attention_bias=True)),
    "olmo-no-clip": ("olmo", dict(attention_bias=True)),
    "olmo2-yarn": ("olmo2", dict(rope_parameters=YARN, attention_bias=True)),
    "olmo3-yarn": ("olmo3", dict(layer_types=LAYERS, rope_parameters=two_ropes(
        5000.0, 5000.0, rope_type="yarn", factor=4.0,
        original_max_position_embeddings=16), **WINDOW)),
    "starcoder2-window": ("starcoder2", dict(sliding_window=5, use_bias=False)),
    "stablelm-parallel": ("stablelm", dict(use_parallel_residual=True, use_qkv_bias=True)),
    "stablelm-qk-norm": ("stablelm", dict(qk_layernorm=True)),
    "nemotron-biases": ("nemotron", dict(attention_bias=True, mlp_bias=True, head_dim=12)),
    "jais2-no-bias": ("jais2", dict(attention_bias=False, mlp_bias=False)),
    "phi-qk-norm": ("phi", dict(qk_layernorm=True, partial_rotary_factor=0.25)),
    "persimmon-no-qk-norm": ("persimmon", dict(qk_layernorm=False)),
    "gpt_neox-sequential": ("gpt_neox", dict(use_parallel_residual=False, attention_bias=False)),
    "gpt2-scales": ("gpt2", dict(scale_attn_by_inverse_layer_idx=True, scale_attn_weights=False)),
    "gpt_bigcode-mha": ("gpt_bigcode", dict(multi_query=False)),
    "codegen-8-heads": ("codegen", dict(n_head=8, rotary_dim=4)),
    "bitnet-biases": ("bitnet", dict(attention_bias=True, tie_word_embeddings=True)),
    "gpt_neo-kinds": ("gpt_neo", dict(attention_types=[[["local"], 1], [["global", "local"], 1]],
                                      num_layers=3, window_size=3)),
    "gpt_neox_japanese-tied": ("gpt_neox_japanese", dict(
        tie_word_embeddings=True, num_hidden_layers=3, intermediate_multiple_size=2)),
    "falcon-new": ("falcon", dict(new_decoder_architecture=True, num_kv_heads=2)),
    "falcon-new-one-norm": ("falcon", dict(new_decoder_architecture=True, num_kv_heads=1, bias=True,
                                           num_ln_in_parallel_attn=1, tie_word_embeddings=True)),
    "falcon-mha": ("falcon", dict(multi_query=False, parallel_attn=False)),
    "opt-350m": ("opt", dict(do_layer_norm_before=False, word_embed_proj_dim=24)),
    "opt-no-biases": ("opt", dict(enable_bias=False, layer_norm_elementwise_affine=False,
                                  tie_word_embeddings=True)),
    "biogpt-unscaled": ("biogpt", dict(scale_embedding=False, tie_word_embeddings=True)),
    "xglm-unscaled": ("xglm", dict(scale_embedding=False, d_model=40, tie_word_embeddings=True)),
    "gptj-whole": ("gptj", dict(rotary_dim=16)),
    "mixtral-window-top-1": ("mixtral", dict(num_local_experts=3, num_experts_per_tok=1,
                                             sliding_window=5)),
    "qwen2_moe-sparse": ("qwen2_moe", dict(
        num_hidden_layers=4, decoder_sparse_step=2, mlp_only_layers=[3], norm_topk_prob=True,
        qkv_bias=False, use_sliding_window=True, sliding_window=5, max_window_layers=2,
        shared_expert_intermediate_size=40, **EXPERTS)),
    "qwen3_moe-window": ("qwen3_moe", dict(
        attention_bias=True, use_sliding_window=True, sliding_window=5, mlp_only_layers=[0],
        head_dim=16, **EXPERTS)),
    "olmoe-normed": ("olmoe", dict(num_experts=4, norm_topk_prob=True, attention_bias=True, **TOP)),
    "granitemoe-biases": ("granitemoe", dict(attention_bias=True, tie_word_embeddings=True,
                                             **LOCAL)),
    "granitemoeshared-none": ("granitemoeshared", dict(shared_intermediate_size=0, **LOCAL)),
    "gpt_oss-full": ("gpt_oss", dict(
        layer_types=["full_attention"] * 2, attention_bias=False, num_key_value_heads=4,
        rope_parameters={"rope_type": "default", "rope_theta": 1000.0}, **LOCAL, **HEAD_DIM)),
    "glm4_moe-one-group": ("glm4_moe", dict(attention_bias=True, norm_topk_prob=False,
                                            first_k_dense_replace=0, **ROUTED)),
}

# What Transformers computes otherwise in one pass than token by token.
STEPPED = {"phi3-longrope-long": ("phi3", dict(
    rope_parameters=longrope(8), original_max_position_embeddings=10))}


def attn_of_half(case):
    """The attention that half precisions are compared by: where there are experts the one that
    exports have, since rounding otherwise sends tokens to other experts that are about as good."""
    return "sdpa" if case.split("-")[0] in MOE.keys() - {"gpt_oss"} else "eager"


def write(family, fields, folder, seed, dtype=torch.float32, **save):
    """Write a checkpoint of the family; biases and norms are random too."""
    names = FIELDS.get(family, {})
    base = {names.get(field, field): value for field, value in BASE.items()}
    base.pop(None, None)
    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model(family, **{**base, **fields})
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter_name.endswith("bias"):
                parameter.normal_(0, 0.2)
            elif parameter_name.endswith("sinks"):
                parameter.normal_(0, 1)
            elif "norm" in parameter_name or ".ln_" in parameter_name:
                parameter.normal_(0 if family.startswith(("gemma", "vaultgemma")) else 1, 0.2)
        for buffer_name, buffer in model.named_buffers():
            if buffer_name.endswith("correction_bias"):
                buffer.normal_(0, 0.2)
    model.to(dtype).save_pretrained(folder, **save)
    return folder


def make(name, folder, dtype=torch.float32, **save):
    """Write the case's checkpoint into folder."""
    family, fields = (CASES | KNOBS | STEPPED)[name]
    seed = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)
    return write(family, fields, folder, seed, dtype, **save)


def ids(batch_size, n, seed=7):
    """(batch_size, n) token ids."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, BASE["vocab_size"], (batch_size, n), generator=generator).tolist()
