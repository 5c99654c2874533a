/* refusals.c - by what is missing: the model types of transformers 5.18 that have it. */
#include "export/refusals.h"

static const char *const latent[] = {
    "axk1",         "axk2",          "deepseek_v2",   "deepseek_v3",
    "deepseek_v32", "glm4_moe_lite", "glm_moe_dsa",   "hy_v4",
    "kimi_k25",     "longcat_flash", "minicpm3",      "mistral4",
    "youtu",        NULL,
};
static const char *const linear[] = {
    "inkling_text",     "kimi_linear", "minimax",      "olmo_hybrid",
    "qwen3_5",          "qwen3_5_moe", "qwen3_5_text", "qwen3_5_moe_text",
    "qwen3_next",       "qwen4_exp",   "qwen4_exp_text", "rwkv",
    "xlstm",            NULL,
};
static const char *const state_space[] = {
    "bamba",      "falcon_h1", "falcon_mamba",    "granitemoehybrid", "jamba",
    "mamba",      "mamba2",    "nemotron_h",      "recurrent_gemma",  "zamba",
    "zamba2",     "zaya",      NULL,
};
static const char *const convolution[] = {"lfm2", "lfm2_moe", "lfm2_vl", NULL};
static const char *const alibi[] = {"bloom", "mpt", NULL};
static const char *const encoder_decoder[] = {
    "bart",           "bigbird_pegasus", "blenderbot",       "blenderbot-small",
    "encoder-decoder", "fsmt",           "led",              "longt5",
    "m2m_100",        "marian",          "mbart",            "moonshine",
    "mt5",            "mvp",             "nllb-moe",         "pegasus",
    "pegasus_x",      "plbart",          "prophetnet",       "seamless_m4t",
    "seamless_m4t_v2", "speech-encoder-decoder", "speech_to_text", "speecht5",
    "switch_transformers", "t5",         "t5gemma",          "t5gemma2",
    "trocr",          "umt5",            "vision-encoder-decoder", "whisper",
    NULL,
};
static const char *const encoder[] = {
    "albert",      "bert",       "big_bird",    "camembert",  "clip",
    "convbert",    "data2vec-text", "deberta",  "deberta-v2", "distilbert",
    "electra",     "ernie",      "esm",         "eurobert",   "flaubert",
    "fnet",        "funnel",     "ibert",       "layoutlm",   "longformer",
    "luke",        "megatron-bert", "mobilebert", "modernbert", "mpnet",
    "mra",         "nomic_bert", "nystromformer", "rembert",  "roberta",
    "roberta-prelayernorm", "roc_bert", "roformer", "siglip", "squeezebert",
    "vit",         "wav2vec2",   "xlm",         "xlm-roberta", "xlm-roberta-xl",
    "xmod",        "yoso",       NULL,
};
static const char *const two_way[] = {"paligemma", "git", NULL};
static const char *const shared_cache[] = {"gemma3n", "gemma3n_text", "gemma4",
                                           "gemma4_text", NULL};
static const char *const own_attention[] = {"diffllama", "doge",   "ctrl",       "cpmant",
                                            "mllama",    "reformer", "xlnet",  NULL};

static const struct {
    const char *const *types; /* ends with NULL */
    const char *why;
} refusals[] = {
    {latent, "multi-head latent attention caches one latent for all heads, which is not "
             "offered"},
    {linear, "linear attention keeps a state that each token changes, not keys and "
             "values, which is not offered"},
    {state_space, "state space and recurrent layers keep a state that each token "
                  "changes, not keys and values, which is not offered"},
    {convolution, "layers that convolve the last tokens keep them beside keys and "
                  "values, which is not offered"},
    {alibi, "ALiBi is not offered"},
    {encoder_decoder, "encoder-decoders are not offered"},
    {encoder, "an encoder has no next token; only causal decoders can be stepped"},
    {two_way, "attention over an image and its prompt goes both ways; only causal "
              "attention can be stepped"},
    {shared_cache, "layers that share keys and values, or have inputs of their own, are "
                   "not offered"},
    {own_attention, "its attention is of a kind of its own, which is not offered"},
};

const char *refusal_at(size_t i, const char **ret_why)
{
    for (size_t r = 0; r < ARRAY_LEN(refusals); r++)
        for (const char *const *type = refusals[r].types; *type; type++)
            if (i-- == 0) {
                *ret_why = refusals[r].why;
                return *type;
            }
    return NULL;
}

const char *refusal_find(const char *model_type)
{
    const char *type, *why;

    for (size_t i = 0; (type = refusal_at(i, &why)); i++)
        if (streq(type, model_type))
            return why;
    return NULL;
}
