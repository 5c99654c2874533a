#include "checkpoint/gguf_arch.h"

/* ---- names of tensors ---- */

static const struct gguf_name shared_names[] = {
    {"token_embd", "model.embed_tokens", GGUF_KEEP},
    {"output_norm", "model.norm", GGUF_KEEP},
    {"output", "lm_head", GGUF_KEEP},
    {".attn_norm", ".input_layernorm", GGUF_KEEP},
    {".attn_q", ".self_attn.q_proj", GGUF_KEEP},
    {".attn_k", ".self_attn.k_proj", GGUF_KEEP},
    {".attn_v", ".self_attn.v_proj", GGUF_KEEP},
    {".attn_output", ".self_attn.o_proj", GGUF_KEEP},
    {".attn_q_norm", ".self_attn.q_norm", GGUF_KEEP},
    {".attn_k_norm", ".self_attn.k_norm", GGUF_KEEP},
    {".ffn_norm", ".post_attention_layernorm", GGUF_KEEP},
    {".ffn_gate", ".mlp.gate_proj", GGUF_KEEP},
    {".ffn_up", ".mlp.up_proj", GGUF_KEEP},
    {".ffn_down", ".mlp.down_proj", GGUF_KEEP},
    {NULL, NULL, GGUF_KEEP},
};

static const struct gguf_name no_names[] = {{NULL, NULL, GGUF_KEEP}};

static const struct gguf_name llama_names[] = {
    {".attn_q", ".self_attn.q_proj", GGUF_UNPERMUTE_Q},
    {".attn_k", ".self_attn.k_proj", GGUF_UNPERMUTE_K},
    {NULL, NULL, GGUF_KEEP},
};

static const struct gguf_name moe_names[] = {
    {".ffn_gate_inp", ".mlp.gate", GGUF_KEEP},
    {".ffn_gate_exps", ".mlp.experts.%d.gate_proj", GGUF_EXPERTS},
    {".ffn_up_exps", ".mlp.experts.%d.up_proj", GGUF_EXPERTS},
    {".ffn_down_exps", ".mlp.experts.%d.down_proj", GGUF_EXPERTS},
    {".ffn_gate_inp_shexp", ".mlp.shared_expert_gate", GGUF_ROW},
    {".ffn_gate_shexp", ".mlp.shared_expert.gate_proj", GGUF_KEEP},
    {".ffn_up_shexp", ".mlp.shared_expert.up_proj", GGUF_KEEP},
    {".ffn_down_shexp", ".mlp.shared_expert.down_proj", GGUF_KEEP},
    {NULL, NULL, GGUF_KEEP},
};

static const struct gguf_name gemma_names[] = {
    {"output_norm", "model.norm", GGUF_MINUS_ONE},
    {".attn_norm", ".input_layernorm", GGUF_MINUS_ONE},
    {".ffn_norm", ".post_attention_layernorm", GGUF_MINUS_ONE},
    {NULL, NULL, GGUF_KEEP},
};

static const struct gguf_name gemma2_names[] = {
    {"output_norm", "model.norm", GGUF_MINUS_ONE},
    {".attn_norm", ".input_layernorm", GGUF_MINUS_ONE},
    {".attn_q_norm", ".self_attn.q_norm", GGUF_MINUS_ONE},
    {".attn_k_norm", ".self_attn.k_norm", GGUF_MINUS_ONE},
    {".post_attention_norm", ".post_attention_layernorm", GGUF_MINUS_ONE},
    {".ffn_norm", ".pre_feedforward_layernorm", GGUF_MINUS_ONE},
    {".post_ffw_norm", ".post_feedforward_layernorm", GGUF_MINUS_ONE},
    {NULL, NULL, GGUF_KEEP},
};

static const struct gguf_name nemotron_names[] = {
    {"output_norm", "model.norm", GGUF_MINUS_ONE},
    {".attn_norm", ".input_layernorm", GGUF_MINUS_ONE},
    {".ffn_norm", ".post_attention_layernorm", GGUF_MINUS_ONE},
    {NULL, NULL, GGUF_KEEP},
};

static const struct gguf_name phi3_names[] = {
    {".attn_qkv", ".self_attn.qkv_proj", GGUF_KEEP},
    {".ffn_up", ".mlp.gate_up_proj", GGUF_KEEP},
    {NULL, NULL, GGUF_KEEP},
};

static const struct gguf_name starcoder2_names[] = {
    {".ffn_up", ".mlp.c_fc", GGUF_KEEP},
    {".ffn_down", ".mlp.c_proj", GGUF_KEEP},
    {NULL, NULL, GGUF_KEEP},
};

static const struct gguf_name gpt2_names[] = {
    {"token_embd", "transformer.wte", GGUF_KEEP},
    {"position_embd", "transformer.wpe", GGUF_KEEP},
    {"output_norm", "transformer.ln_f", GGUF_KEEP},
    {".attn_norm", ".ln_1", GGUF_KEEP},
    {".attn_qkv", ".attn.c_attn", GGUF_TRANSPOSE},
    {".attn_output", ".attn.c_proj", GGUF_TRANSPOSE},
    {".ffn_norm", ".ln_2", GGUF_KEEP},
    {".ffn_up", ".mlp.c_fc", GGUF_TRANSPOSE},
    {".ffn_down", ".mlp.c_proj", GGUF_TRANSPOSE},
    {NULL, NULL, GGUF_KEEP},
};

/* ---- fields of config.json ---- */

static const struct gguf_field shared_fields[] = {
    {"context_length", "max_position_embeddings"},
    {"block_count", "num_hidden_layers"},
    {"feed_forward_length", "intermediate_size"},
    {"embedding_length", "hidden_size"},
    {"rope.freq_base", "rope_theta"},
    {"attention.head_count", "num_attention_heads"},
    {"attention.head_count_kv", "num_key_value_heads"},
    {"attention.key_length", "head_dim"},
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps"},
    {"vocab_size", "vocab_size"},
    {NULL, NULL},
};

static const struct gguf_field gpt2_fields[] = {
    {"block_count", "n_layer"},
    {"context_length", "n_ctx"},
    {"context_length", "n_positions"},
    {"embedding_length", "n_embd"},
    {"feed_forward_length", "n_inner"},
    {"attention.head_count", "n_head"},
    {"attention.layer_norm_epsilon", "layer_norm_epsilon"},
    {"vocab_size", "vocab_size"},
    {NULL, NULL},
};

static const struct gguf_field no_fields[] = {{NULL, NULL}};

/* "num_local_experts" refuses a Mixtral by name: Transformers doesn't read one either. */
static const struct gguf_field llama_fields[] = {
    {"expert_count", "num_local_experts"},
    {NULL, NULL},
};

static const struct gguf_field moe_fields[] = {
    {"expert_count", "num_experts"},
    {"expert_used_count", "num_experts_per_tok"},
    {"expert_feed_forward_length", "moe_intermediate_size"},
    {"expert_shared_feed_forward_length", "shared_expert_intermediate_size"},
    {NULL, NULL},
};

static const struct gguf_field window_fields[] = {
    {"attention.sliding_window", "sliding_window"},
    {"attn_logit_softcapping", "attn_logit_softcapping"},
    {"final_logit_softcapping", "final_logit_softcapping"},
    {NULL, NULL},
};

static const struct gguf_field phi3_fields[] = {
    {"attention.sliding_window", "sliding_window"},
    {"rope.scaling.original_context_length", "original_max_position_embeddings"},
    {NULL, NULL},
};

static const struct gguf_field stablelm_fields[] = {
    {"attention.layer_norm_epsilon", "layer_norm_eps"},
    {NULL, NULL},
};

static const struct gguf_field starcoder2_fields[] = {
    {"attention.layer_norm_epsilon", "norm_epsilon"},
    {NULL, NULL},
};

static const struct gguf_field nemotron_fields[] = {
    {"attention.layer_norm_epsilon", "norm_eps"},
    {NULL, NULL},
};

static const struct gguf_flag no_flags[] = {{NULL, NULL, false}};

static const struct gguf_flag bias_flags[] = {
    {"attention_bias", "blk.0.attn_q.bias", true},
    {"mlp_bias", "blk.0.ffn_up.bias", true},
    {NULL, NULL, false},
};

static const struct gguf_flag qwen3_flags[] = {
    {"attention_bias", "blk.0.attn_q.bias", true},
    {NULL, NULL, false},
};

static const struct gguf_flag starcoder2_flags[] = {
    {"use_bias", "blk.0.attn_q.bias", true},
    {NULL, NULL, false},
};

static const struct gguf_flag stablelm_flags[] = {
    {"use_qkv_bias", "blk.0.attn_q.bias", true},
    {"use_parallel_residual", "blk.0.ffn_norm.weight", false},
    {NULL, NULL, false},
};

/* ---- the architectures ---- */

static const struct gguf_arch archs[] = {
    {
        .arch = "llama",
        .model_type = "llama",
        .architecture = "LlamaForCausalLM",
        .layers = "model.layers",
        .names = llama_names,
        .fields = shared_fields,
        .more = llama_fields,
        .flags = bias_flags,
        .presets = "{\"hidden_act\": \"silu\"}",
        .head_is_rotary = true,
    },
    {
        .arch = "qwen2",
        .model_type = "qwen2",
        .architecture = "Qwen2ForCausalLM",
        .layers = "model.layers",
        .names = no_names,
        .fields = shared_fields,
        .more = no_fields,
        .flags = no_flags,
        .presets = "{\"hidden_act\": \"silu\", \"use_sliding_window\": false}",
    },
    {
        .arch = "qwen2moe",
        .model_type = "qwen2_moe",
        .architecture = "Qwen2MoeForCausalLM",
        .layers = "model.layers",
        .names = moe_names,
        .fields = shared_fields,
        .more = moe_fields,
        .flags = no_flags,
        .presets = "{\"hidden_act\": \"silu\"}",
    },
    {
        .arch = "qwen3",
        .model_type = "qwen3",
        .architecture = "Qwen3ForCausalLM",
        .layers = "model.layers",
        .names = no_names,
        .fields = shared_fields,
        .more = no_fields,
        .flags = qwen3_flags,
        .presets = "{\"hidden_act\": \"silu\"}",
    },
    {
        .arch = "qwen3moe",
        .model_type = "qwen3_moe",
        .architecture = "Qwen3MoeForCausalLM",
        .layers = "model.layers",
        .names = moe_names,
        .fields = shared_fields,
        .more = moe_fields,
        .flags = no_flags,
        .presets = "{\"hidden_act\": \"silu\", \"norm_topk_prob\": true}",
    },
    {
        .arch = "gemma",
        .model_type = "gemma",
        .architecture = "GemmaForCausalLM",
        .layers = "model.layers",
        .names = gemma_names,
        .fields = shared_fields,
        .more = no_fields,
        .flags = no_flags,
        .presets = "{\"hidden_act\": \"gelu_pytorch_tanh\"}",
    },
    {
        .arch = "gemma2",
        .model_type = "gemma2",
        .architecture = "Gemma2ForCausalLM",
        .layers = "model.layers",
        .names = gemma2_names,
        .fields = shared_fields,
        .more = window_fields,
        .flags = no_flags,
        .presets = "{\"hidden_activation\": \"gelu_pytorch_tanh\"}",
        .scaled_by_heads = 46, /* llama.cpp, src/models/gemma2: 27B */
    },
    {
        .arch = "gemma3",
        .model_type = "gemma3_text",
        .architecture = "Gemma3ForCausalLM",
        .layers = "model.layers",
        .names = gemma2_names,
        .fields = shared_fields,
        .more = window_fields,
        .flags = no_flags,
        .presets = "{\"hidden_activation\": \"gelu_pytorch_tanh\"}",
        .scaled_by_heads = 62, /* llama.cpp, src/models/gemma3: 27B */
    },
    {
        .arch = "phi3",
        .model_type = "phi3",
        .architecture = "Phi3ForCausalLM",
        .layers = "model.layers",
        .names = phi3_names,
        .fields = shared_fields,
        .more = phi3_fields,
        .flags = no_flags,
        .presets = "{\"hidden_act\": \"silu\"}",
    },
    {
        .arch = "starcoder2",
        .model_type = "starcoder2",
        .architecture = "Starcoder2ForCausalLM",
        .layers = "model.layers",
        .names = starcoder2_names,
        .fields = shared_fields,
        .more = starcoder2_fields,
        .flags = starcoder2_flags,
        .presets = "{\"hidden_act\": \"gelu_pytorch_tanh\"}",
    },
    {
        .arch = "stablelm",
        .model_type = "stablelm",
        .architecture = "StableLmForCausalLM",
        .layers = "model.layers",
        .names = no_names,
        .fields = shared_fields,
        .more = stablelm_fields,
        .flags = stablelm_flags,
        .presets = "{\"hidden_act\": \"silu\"}",
    },
    {
        .arch = "nemotron",
        .model_type = "nemotron",
        .architecture = "NemotronForCausalLM",
        .layers = "model.layers",
        .names = nemotron_names,
        .fields = shared_fields,
        .more = nemotron_fields,
        .flags = bias_flags,
        .presets = "{\"hidden_act\": \"relu2\"}",
    },
    {
        .arch = "gpt2",
        .model_type = "gpt2",
        .architecture = "GPT2LMHeadModel",
        .layers = "transformer.h",
        .names = gpt2_names,
        .fields = gpt2_fields,
        .more = no_fields,
        .flags = no_flags,
        .presets = "{\"activation_function\": \"gelu_new\"}",
    },
};

const struct gguf_arch *gguf_arch_find(const char *arch)
{
    for (size_t i = 0; i < ARRAY_LEN(archs); i++)
        if (streq(archs[i].arch, arch))
            return &archs[i];
    return NULL;
}

const char *gguf_arch_names(char to[200])
{
    size_t n = 0;

    to[0] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(archs) && n < 200; i++)
        n += (size_t)snprintf(to + n, 200 - n, "%s%s", i ? ", " : "", archs[i].arch);
    return to;
}

static const struct gguf_name *find_name(const struct gguf_name *names, const char *name,
                                         size_t len)
{
    for (; names->gguf; names++)
        if (strlen(names->gguf) == len && memcmp(names->gguf, name, len) == 0)
            return names;
    return NULL;
}

const struct gguf_name *gguf_arch_name(const struct gguf_arch *arch, const char *name,
                                       size_t len)
{
    const struct gguf_name *own = find_name(arch->names, name, len);

    return own ? own : find_name(shared_names, name, len);
}
