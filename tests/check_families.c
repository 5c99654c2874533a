#include "suite.h"

#include "base/util.h"
#include "export/families.h"
#include "export/refusals.h"
#include "export/text_part.h"

#include <jansson.h>
#include <pt2/err.h>

static struct pt2_err err;
static struct decoder_spec spec;
static json_t *config; /* what the spec points into */

static void setup(void)
{
    pt2_err_clear(&err);
}

static void teardown(void)
{
    json_decref(config);
    config = NULL;
}

/* Read {"model_type": type, ...}; more: members with a comma in front, ' for ". */
static int read_type(const char *type, const char *more)
{
    char text[2000];

    snprintf(text, sizeof(text), "{'model_type':'%s'%s}", type, more);
    for (char *c = text; *c; c++)
        if (*c == '\'')
            *c = '"';
    json_decref(config);
    config = json_loads(text, 0, NULL);
    ck_assert_msg(config != NULL, "%s", text);
    return decoder_spec_read(config, &spec, &err);
}

static void must_read(const char *type, const char *more)
{
    ck_assert_msg(read_type(type, more) == 0, "%s%s: %s", type, more, err.text);
}

static void must_refuse(const char *type, const char *more, const char *text)
{
    pt2_err_clear(&err);
    ck_assert_msg(read_type(type, more) < 0, "%s%s: must be refused", type, more);
    ck_assert_msg(err.code == PT2_ERR_NOT_EXPORTABLE || err.code == PT2_ERR_BAD_CONFIG,
                  "%s%s: %s", type, more, err.text);
    ck_assert_msg(strstr(err.text, text) != NULL, "%s%s: must say '%s', not '%s'", type,
                  more, text, err.text);
}

/* What AutoConfig.for_model(type) fills in; transformers 5.18.0.  windows: of layers 0, 1
 * and 3; rotated: elements of a head. */
static const struct golden {
    const char *type;
    int64_t vocab, hidden, inter, n_layers, n_heads, n_kv, head_dim, max_position;
    double eps;
    enum act act;
    bool tied;
    double theta;
    int64_t rotated;
    int64_t windows[3];
} goldens[] = {
    /* clang-format off */
    {"llama", 32000, 4096, 11008, 32, 32, 32, 128, 2048, 1e-06,
     ACT_SILU, false, 10000, 128, {0, 0, 0}},
    {"mistral", 32000, 4096, 14336, 32, 32, 8, 128, 131072, 1e-06,
     ACT_SILU, false, 10000, 128, {4096, 4096, 4096}},
    {"qwen2", 151936, 4096, 22016, 32, 32, 32, 128, 32768, 1e-06,
     ACT_SILU, false, 10000, 128, {0, 0, 0}},
    {"arcee", 32000, 2560, 18432, 32, 32, 32, 80, 4096, 1e-05,
     ACT_RELU2, false, 10000, 80, {0, 0, 0}},
    {"seed_oss", 155136, 4096, 27648, 64, 80, 8, 128, 524288, 1e-06,
     ACT_SILU, false, 10000, 128, {0, 0, 0}},
    {"ernie4_5", 103424, 1024, 3072, 18, 16, 2, 128, 131072, 1e-05,
     ACT_SILU, true, 500000, 128, {0, 0, 0}},
    {"granite", 32000, 4096, 11008, 32, 32, 32, 128, 2048, 1e-06,
     ACT_SILU, false, 10000, 128, {0, 0, 0}},
    {"hyperclovax", 32000, 4096, 11008, 32, 32, 32, 128, 2048, 1e-06,
     ACT_SILU, false, 10000, 128, {0, 0, 0}},
    {"hunyuan_v1_dense", 290943, 4096, 11008, 32, 32, 32, 128, 2048, 1e-05,
     ACT_SILU, false, 10000, 128, {0, 0, 0}},
    {"apertus", 131072, 4096, 14336, 32, 32, 32, 128, 65536, 1e-05,
     ACT_XIELU, false, 12000000, 128, {0, 0, 0}},
    {"nanochat", 50304, 768, 8192, 12, 6, 6, 128, 2048, 1e-06,
     ACT_RELU2, false, 10000, 128, {0, 0, 0}},
    {"ministral", 32000, 4096, 14336, 32, 32, 8, 128, 131072, 1e-06,
     ACT_SILU, false, 10000, 128, {4096, 4096, 4096}},
    {"ministral3", 131072, 4096, 14336, 34, 32, 8, 128, 262144, 1e-05,
     ACT_SILU, false, 1000000, 128, {0, 0, 0}},
    {"qwen3", 151936, 4096, 22016, 32, 32, 32, 128, 32768, 1e-06,
     ACT_SILU, false, 10000, 128, {0, 0, 0}},
    {"smollm3", 128256, 2048, 11008, 36, 16, 4, 128, 32768, 1e-06,
     ACT_SILU, true, 2000000, 128, {0, 0, 0}},
    {"phi3", 32064, 3072, 8192, 32, 32, 32, 96, 4096, 1e-05,
     ACT_SILU, false, 10000, 96, {0, 0, 0}},
    {"cwm", 128256, 6144, 21504, 64, 48, 8, 128, 131072, 1e-05,
     ACT_SILU, false, 1000000, 128, {0, 8192, 8192}},
    {"exaone4", 102400, 4096, 16384, 32, 32, 32, 128, 2048, 1e-05,
     ACT_SILU, false, 10000, 128, {4096, 4096, 0}},
    {"gemma", 256000, 3072, 24576, 28, 16, 16, 256, 8192, 1e-06,
     ACT_GELU_TANH, true, 10000, 256, {0, 0, 0}},
    {"gemma2", 256000, 2304, 9216, 26, 8, 4, 256, 8192, 1e-06,
     ACT_GELU_TANH, true, 10000, 256, {4096, 0, 0}},
    {"gemma3_text", 262208, 2304, 9216, 26, 8, 4, 256, 131072, 1e-06,
     ACT_GELU_TANH, true, 1000000, 256, {4096, 4096, 4096}},
    {"vaultgemma", 256000, 2304, 9216, 26, 8, 4, 256, 8192, 1e-06,
     ACT_GELU_TANH, true, 10000, 256, {4096, 0, 0}},
    {"glm", 151552, 4096, 13696, 40, 32, 2, 128, 131072, 1.5625e-07,
     ACT_SILU, false, 10000, 64, {0, 0, 0}},
    {"glm4", 151552, 4096, 13696, 40, 32, 2, 128, 131072, 1.5625e-07,
     ACT_SILU, false, 10000, 64, {0, 0, 0}},
    {"helium", 48000, 2560, 7040, 24, 20, 20, 128, 4096, 1e-08,
     ACT_SILU, false, 100000, 128, {0, 0, 0}},
    {"cohere", 256000, 8192, 22528, 40, 64, 64, 128, 8192, 1e-05,
     ACT_SILU, true, 500000, 128, {0, 0, 0}},
    {"cohere2", 256000, 8192, 22528, 40, 64, 64, 128, 8192, 1e-05,
     ACT_SILU, true, 10000, 128, {4096, 4096, 0}},
    {"olmo", 50304, 4096, 11008, 32, 32, 32, 128, 2048, 1e-05,
     ACT_SILU, false, 10000, 128, {0, 0, 0}},
    {"olmo2", 50304, 4096, 11008, 32, 32, 32, 128, 2048, 1e-05,
     ACT_SILU, false, 10000, 128, {0, 0, 0}},
    {"olmo3", 50304, 4096, 11008, 32, 32, 32, 128, 2048, 1e-05,
     ACT_SILU, false, 500000, 128, {4096, 4096, 0}},
    {"starcoder2", 49152, 3072, 12288, 30, 24, 2, 128, 4096, 1e-05,
     ACT_GELU_TANH, true, 10000, 128, {0, 0, 0}},
    {"stablelm", 50304, 2560, 6912, 32, 32, 32, 80, 4096, 1e-05,
     ACT_SILU, false, 10000, 20, {0, 0, 0}},
    {"nemotron", 256000, 6144, 24576, 32, 48, 48, 128, 4096, 1e-05,
     ACT_RELU2, false, 10000, 64, {0, 0, 0}},
    {"jais2", 150272, 3328, 26624, 32, 26, 26, 128, 8192, 1e-05,
     ACT_RELU2, false, 10000, 128, {0, 0, 0}},
    {"phi", 51200, 2048, 8192, 24, 32, 32, 64, 2048, 1e-05,
     ACT_GELU_NEW, false, 10000, 32, {0, 0, 0}},
    {"persimmon", 262144, 4096, 16384, 36, 64, 64, 64, 16384, 1e-05,
     ACT_RELU2, false, 10000, 32, {0, 0, 0}},
    {"gpt_neox", 50432, 6144, 24576, 44, 64, 64, 96, 2048, 1e-05,
     ACT_GELU, false, 10000, 24, {0, 0, 0}},
    {"gpt2", 50257, 768, 3072, 12, 12, 12, 64, 1024, 1e-05,
     ACT_GELU_NEW, true, 0, 0, {0, 0, 0}},
    {"gpt_bigcode", 50257, 768, 3072, 12, 12, 1, 64, 1024, 1e-05,
     ACT_GELU_TANH, true, 0, 0, {0, 0, 0}},
    {"gptj", 50400, 4096, 16384, 28, 16, 16, 256, 2048, 1e-05,
     ACT_GELU_NEW, false, 10000, 64, {0, 0, 0}},
    {"codegen", 50400, 4096, 16384, 28, 16, 16, 256, 2048, 1e-05,
     ACT_GELU_NEW, false, 10000, 64, {0, 0, 0}},
    {"bitnet", 128256, 2560, 6912, 30, 20, 5, 128, 2048, 1e-05,
     ACT_RELU2, false, 500000, 128, {0, 0, 0}},
    {"gpt_neox_japanese", 32000, 2560, 10240, 32, 32, 32, 80, 2048, 1e-05,
     ACT_GELU, true, 10000, 80, {0, 0, 0}},
    {"gpt_neo", 50257, 2048, 8192, 24, 16, 16, 128, 2048, 1e-05,
     ACT_GELU_NEW, true, 0, 0, {0, 256, 256}},
    {"falcon", 65024, 4544, 18176, 32, 71, 1, 64, 2048, 1e-05,
     ACT_GELU, true, 10000, 64, {0, 0, 0}},
    {"opt", 50272, 768, 3072, 12, 12, 12, 64, 2048, 1e-05,
     ACT_RELU, true, 0, 0, {0, 0, 0}},
    {"biogpt", 42384, 1024, 4096, 24, 16, 16, 64, 1024, 1e-05,
     ACT_GELU, true, 0, 0, {0, 0, 0}},
    {"xglm", 256008, 1024, 4096, 24, 16, 16, 64, 2048, 1e-05,
     ACT_GELU, true, 10000, 1024, {0, 0, 0}},
    {"qwen2_vl_text", 152064, 8192, 29568, 80, 64, 8, 128, 32768, 1e-05,
     ACT_SILU, false, 1000000, 128, {0, 0, 0}},
    {"qwen2_5_vl_text", 152064, 8192, 29568, 80, 64, 8, 128, 32768, 1e-05,
     ACT_SILU, false, 1000000, 128, {0, 0, 0}},
    {"mixtral", 32000, 4096, 14336, 32, 32, 8, 128, 131072, 1e-05,
     ACT_SILU, false, 1000000, 128, {0, 0, 0}},
    {"qwen2_moe", 151936, 2048, 5632, 24, 16, 16, 128, 32768, 1e-06,
     ACT_SILU, false, 10000, 128, {0, 0, 0}},
    {"qwen3_moe", 151936, 2048, 6144, 24, 32, 4, 64, 32768, 1e-06,
     ACT_SILU, false, 10000, 64, {0, 0, 0}},
    {"olmoe", 50304, 2048, 2048, 16, 16, 16, 128, 4096, 1e-05,
     ACT_SILU, false, 10000, 128, {0, 0, 0}},
    {"granitemoe", 32000, 4096, 11008, 32, 32, 32, 128, 2048, 1e-06,
     ACT_SILU, false, 10000, 128, {0, 0, 0}},
    {"granitemoeshared", 32000, 4096, 11008, 32, 32, 32, 128, 2048, 1e-06,
     ACT_SILU, false, 10000, 128, {0, 0, 0}},
    {"gpt_oss", 201088, 2880, 2880, 36, 64, 8, 64, 131072, 1e-05,
     ACT_SILU, false, 150000, 64, {128, 0, 0}},
    {"glm4_moe", 151552, 4096, 10944, 46, 96, 8, 128, 131072, 1e-05,
     ACT_SILU, false, 10000, 64, {0, 0, 0}},
    /* clang-format on */
};

/* The classes fill these in themselves, or in a way that nothing can be rotated with; ours
 * want them said. */
#define NO_ROPE_PARAMETERS "rope_parameters: must be there"
static const struct {
    const char *type, *more, *otherwise;
} said[] = {
    {"apertus", ",'rope_parameters':{'rope_type':'default'}", NO_ROPE_PARAMETERS},
    {"cwm", ",'rope_parameters':{'rope_type':'default'}", NO_ROPE_PARAMETERS},
    {"ministral3", ",'rope_parameters':{'rope_type':'default','rope_theta':1000000.0}",
     NO_ROPE_PARAMETERS},
    {"gpt_oss", ",'rope_parameters':{'rope_type':'default'}", NO_ROPE_PARAMETERS},
    {"glm4_moe", ",'head_dim':128", "0.5 of 42, the head's size"},
};

START_TEST(test_families_fill_in_what_transformers_does)
{
    const struct golden *g = &goldens[_i];
    const char *more = "";

    for (size_t i = 0; i < ARRAY_LEN(said); i++)
        if (streq(said[i].type, g->type)) {
            must_refuse(g->type, "", said[i].otherwise);
            more = said[i].more;
        }
    pt2_err_clear(&err);
    must_read(g->type, more);
    ck_assert_int_eq(spec.vocab_size, g->vocab);
    ck_assert_int_eq(spec.hidden_size, g->hidden);
    ck_assert_int_eq(spec.intermediate_size, g->inter);
    ck_assert_int_eq(spec.n_layers, g->n_layers);
    ck_assert_int_eq(spec.n_heads, g->n_heads);
    ck_assert_int_eq(spec.n_kv_heads, g->n_kv);
    ck_assert_int_eq(spec.head_dim, g->head_dim);
    ck_assert_int_eq(spec.max_position, g->max_position);
    ck_assert_double_eq(spec.norm_eps, g->eps);
    ck_assert_int_eq(spec.act, g->act);
    ck_assert_int_eq(spec.tied, g->tied);
    ck_assert_int_eq(spec.layers[0].window, g->windows[0]);
    ck_assert_int_eq(spec.layers[1].window, g->windows[1]);
    ck_assert_int_eq(spec.layers[3].window, g->windows[2]);
    ck_assert_int_eq(spec.n_ropes > 0, g->theta > 0);
    if (spec.n_ropes > 0) {
        ck_assert_double_eq(spec.ropes[0].theta, g->theta);
        ck_assert_int_eq(spec.ropes[0].dim, g->rotated);
    }
}
END_TEST

/* A family without a row above would not be compared with anything. */
START_TEST(test_families_are_all_compared)
{
    for (size_t i = 0; family_at(i); i++) {
        size_t n = 0;

        for (size_t j = 0; j < ARRAY_LEN(goldens); j++)
            n += streq(goldens[j].type, family_at(i)->model_type);
        ck_assert_msg(n == 1, "%s has %zu rows", family_at(i)->model_type, n);
    }
}
END_TEST

/* Which of the first layers rotate: "+-+" */
static const char *rotating(int64_t n)
{
    static char text[20];

    for (int64_t i = 0; i < n; i++)
        text[i] = spec.layers[i].rope == NO_ROPE ? '-' : '+';
    text[n] = '\0';
    return text;
}

START_TEST(test_families_leave_layers_unrotated)
{
    must_read("smollm3", "");
    ck_assert_str_eq(rotating(8), "+++-+++-");
    must_read("smollm3", ",'no_rope_layer_interval':2,'num_hidden_layers':4");
    ck_assert_str_eq(rotating(4), "+-+-");
    must_read("smollm3", ",'no_rope_layers':[0,1,1],'num_hidden_layers':3,"
                         "'use_sliding_window':true,'sliding_window':7");
    ck_assert_str_eq(rotating(3), "-++");
    ck_assert_int_eq(spec.layers[0].window, 7); /* what does not rotate slides */
    ck_assert_int_eq(spec.layers[1].window, 0);
    must_read("cohere2", "");
    ck_assert_str_eq(rotating(8), "+++-+++-");
    must_read("exaone4", "");
    ck_assert_str_eq(rotating(8), "+++-+++-");
    must_read("exaone4", ",'sliding_window':null,'sliding_window_pattern':0");
    ck_assert_str_eq(rotating(8), "++++++++");
    must_read("gemma3_text", "");
    ck_assert_int_eq(spec.layers[4].rope, 1);
    ck_assert_int_eq(spec.layers[5].rope, 0);
    ck_assert_double_eq(spec.ropes[1].theta, 10000);
}
END_TEST

START_TEST(test_families_read_their_factors)
{
    must_read("granite", ",'embedding_multiplier':12,'residual_multiplier':0.22,"
                         "'attention_multiplier':0.0078125,'logits_scaling':16.0");
    ck_assert_double_eq(spec.embed_multiplier, 12);
    ck_assert_double_eq(spec.residual_multiplier, 0.22);
    ck_assert_double_eq(spec.layers[31].attn_scale, 0.0078125);
    ck_assert_double_eq(spec.logits_divisor, 16);
    ck_assert_double_eq(spec.logits_multiplier, 0);
    must_read("hyperclovax", ",'logits_scaling':0.125,'use_post_norm':false");
    ck_assert_double_eq(spec.logits_multiplier, 0.125);
    ck_assert_ptr_null(spec.names->attn_post_norm);
    must_read("gemma2", "");
    ck_assert_double_eq(spec.attn_softcap, 50);
    ck_assert_double_eq(spec.logits_softcap, 30);
    ck_assert_double_eq(spec.layers[0].attn_scale, 0.0625);
    must_read("gemma2", ",'attn_logit_softcapping':null,'final_logit_softcapping':null");
    ck_assert_double_eq(spec.attn_softcap, 0);
    ck_assert_double_eq(spec.logits_softcap, 0);
    must_read("gpt2", ",'scale_attn_by_inverse_layer_idx':true");
    ck_assert_double_eq(spec.layers[3].attn_scale, 0.125 / 4);
    must_read("cohere", "");
    ck_assert_double_eq(spec.logits_multiplier, 0.0625);
    must_read("ministral3", ",'rope_parameters':{'type':'yarn','factor':16.0,"
                            "'original_max_position_embeddings':16384,"
                            "'max_position_embeddings':262144,"
                            "'llama_4_scaling_beta':0.1}");
    ck_assert_double_eq(spec.ropes[0].query_beta, 0.1);
    ck_assert_double_eq(spec.ropes[0].original_max, 16384);
}
END_TEST

/* "#" where a layer has experts */
static const char *experts(int n)
{
    static char text[16];

    for (int i = 0; i < n; i++)
        text[i] = spec.layers[i].has_experts ? '#' : '.';
    text[n] = '\0';
    return text;
}

START_TEST(test_families_have_experts_where_config_says)
{
    must_read("mixtral", "");
    ck_assert_str_eq(experts(3), "###");
    must_read("qwen3_moe", ",'decoder_sparse_step':3");
    ck_assert_str_eq(experts(7), "..#..#.");
    must_read("qwen2_moe", ",'mlp_only_layers':[0,5,999],'decoder_sparse_step':2");
    ck_assert_str_eq(experts(8), ".#.#...#");
    must_read("glm4_moe", ",'head_dim':128,'first_k_dense_replace':3");
    ck_assert_str_eq(experts(5), "...##");
    must_read("llama", "");
    ck_assert_str_eq(experts(3), "...");
    ck_assert_int_eq(spec.moe.n_experts, 0);
}
END_TEST

/* What the configuration classes fill in, and what they call it. */
START_TEST(test_families_read_their_routers)
{
    must_read("mixtral", "");
    ck_assert_int_eq(spec.moe.n_experts, 8);
    ck_assert_int_eq(spec.moe.top_k, 2);
    ck_assert_int_eq(spec.moe.size, 14336);
    ck_assert(spec.moe.is_normed && spec.moe.weights_wide);
    must_read("qwen2_moe", "");
    ck_assert_int_eq(spec.moe.n_experts, 60);
    ck_assert_int_eq(spec.moe.top_k, 4);
    ck_assert_int_eq(spec.moe.size, 1408);
    ck_assert_int_eq(spec.moe.shared_size, 5632);
    ck_assert(spec.moe.shared_gate && !spec.moe.is_normed && !spec.moe.weights_wide);
    must_read("qwen3_moe", ",'num_local_experts':16,'norm_topk_prob':true");
    ck_assert_int_eq(spec.moe.n_experts, 16);
    ck_assert_int_eq(spec.moe.top_k, 8);
    ck_assert_int_eq(spec.moe.size, 768);
    ck_assert(spec.moe.is_normed);
    must_read("olmoe", ",'clip_qkv':8");
    ck_assert_int_eq(spec.moe.n_experts, 64);
    ck_assert_double_eq(spec.qkv_clip, 8);
    must_read("granitemoeshared", ",'shared_intermediate_size':1024,'logits_scaling':6");
    ck_assert_int_eq(spec.moe.router, ROUTER_TOP_SOFTMAX);
    ck_assert_int_eq(spec.moe.shared_size, 1024);
    ck_assert_double_eq(spec.logits_divisor, 6);
    must_read("granitemoe", ",'shared_intermediate_size':1024"); /* has none */
    ck_assert_int_eq(spec.moe.shared_size, 0);
    must_read("gpt_oss", ",'rope_parameters':{'rope_type':'default'},'swiglu_limit':7.0");
    ck_assert_int_eq(spec.moe.n_experts, 128);
    ck_assert_int_eq(spec.moe.kind, EXPERTS_CLAMPED);
    ck_assert(spec.has_sinks && spec.moe.router_bias && spec.qkv_bias && spec.o_bias);
    must_read("glm4_moe", ",'head_dim':128,'n_group':4,'topk_group':2,'attention_bias':true,"
                          "'n_shared_experts':2,'routed_scaling_factor':2.5");
    ck_assert_int_eq(spec.moe.n_experts, 128);
    ck_assert_int_eq(spec.moe.n_groups, 4);
    ck_assert_int_eq(spec.moe.top_groups, 2);
    ck_assert_int_eq(spec.moe.shared_size, 2 * 1408);
    ck_assert_double_eq(spec.moe.weight_factor, 2.5);
    ck_assert(spec.qkv_bias && !spec.o_bias);
    ck_assert_int_eq(spec.n_extra_layers, 1);
}
END_TEST

START_TEST(test_families_refuse_routers_of_others)
{
    must_refuse("llama", ",'n_routed_experts':8", "this model type has no experts");
    must_refuse("qwen3", ",'num_experts':8", "this model type has no experts");
    must_refuse("mixtral", ",'num_experts_per_tok':9",
                "num_experts_per_tok: must be an integer of 1 to 8");
    must_refuse("mixtral", ",'num_local_experts':0", "num_local_experts");
    must_refuse("mixtral", ",'num_local_experts':1025", "num_local_experts");
    must_refuse("mixtral", ",'scoring_func':'sigmoid'",
                "scoring_func: 'sigmoid' is not offered; mixtral's is softmax");
    must_refuse("glm4_moe", ",'head_dim':128,'scoring_func':'softmax'",
                "scoring_func: 'softmax' is not offered; glm4_moe's is sigmoid");
    must_refuse("glm4_moe", ",'head_dim':128,'topk_method':'greedy'",
                "topk_method: 'greedy' is not offered; glm4_moe's is noaux_tc");
    must_refuse("glm4_moe", ",'head_dim':128,'n_group':3", "must divide the experts, 128");
    must_refuse("glm4_moe", ",'head_dim':128,'n_group':128", "groups of two or more");
    must_refuse("glm4_moe", ",'head_dim':128,'n_group':64,'topk_group':2",
                "leaves less than num_experts_per_tok, 8");
    must_refuse("glm4_moe", ",'head_dim':128,'topk_group':2", "topk_group");
    must_refuse("glm4_moe", ",'head_dim':128,'n_shared_experts':1024,"
                            "'moe_intermediate_size':16777216",
                "n_shared_experts: of 16777216 each are too big");
    must_refuse("gpt_oss", ",'rope_parameters':{'rope_type':'default'},'swiglu_limit':8",
                "swiglu_limit: is 8; only 7 is offered");
    must_refuse("qwen2_moe", ",'mlp_only_layers':3", "must be a list of layers");
    must_refuse("qwen2_moe", ",'mlp_only_layers':['a']", "element 0 is no integer");
    must_refuse("qwen3_moe", ",'decoder_sparse_step':0", "decoder_sparse_step");
    must_refuse("olmoe", ",'clip_qkv':0", "clip_qkv");
}
END_TEST

START_TEST(test_families_refuse_what_others_compute_with)
{
    must_refuse("llama", ",'rope_parameters':{'llama_4_scaling_beta':0.1}",
                "llama_4_scaling_beta: not known");
    must_refuse("llama", ",'rope_scaling':{'type':'dynamic','factor':1,'alpha':1000}",
                "alpha: not known");
    must_refuse("mistral", ",'attn_logit_softcapping':50", "attn_logit_softcapping");
    must_refuse("gemma3_text", ",'attn_logit_softcapping':50", "attn_logit_softcapping");
    must_refuse("gemma", ",'use_bidirectional_attention':true", "causal");
    must_refuse("cohere2", ",'use_qk_norm':true", "use_qk_norm");
    must_refuse("qwen3", ",'partial_rotary_factor':0.5", "partial_rotary_factor");
    must_refuse("glm", ",'sliding_window':64", "sliding_window");
    must_refuse("gpt2", ",'add_cross_attention':true", "cross attention");
    must_refuse("gptj", ",'rotary_dim':null", "rotary_dim: null");
    must_refuse("phi3", ",'rope_scaling':{'type':'linear','factor':2}",
                "'linear' is not offered; default and longrope are");
    must_refuse("apertus", ",'rope_parameters':{'rope_type':'proportional'}",
                "proportional");
    must_refuse("llama", ",'hidden_act':'xielu'", "hidden_act");
}
END_TEST

START_TEST(test_families_refuse_what_can_not_be_meant)
{
    must_refuse("gptj", ",'rotary_dim':7", "rotary_dim: is 7, and must be even");
    must_refuse("gptj", ",'rotary_dim':512",
                "rotary_dim: must be an integer of 2 to 256");
    must_refuse("codegen", ",'n_head':6,'n_embd':384,'rotary_dim':8", "multiple of 4");
    must_refuse("phi", ",'head_dim':48", "head_dim: is 48, but phi's is");
    must_refuse("gpt2", ",'n_embd':770", "n_embd: is 770");
    must_refuse("helium", ",'head_dim':64", "o_proj");
    must_refuse("phi", ",'partial_rotary_factor':0.05", "must be even");
    must_refuse("smollm3", ",'no_rope_layers':[1]", "must be a list of 36");
    must_refuse("smollm3", ",'num_hidden_layers':1,'no_rope_layers':['a']",
                "element 0 must be 0 or 1");
    must_refuse("gemma3_text", ",'rope_parameters':{'rope_type':'default'}",
                "must hold full_attention and sliding_attention");
    must_refuse("olmo3", ",'rope_parameters':{'full_attention':{}}",
                "must hold full_attention and sliding_attention");
    must_refuse("gemma2", ",'query_pre_attn_scalar':0", "query_pre_attn_scalar");
    must_refuse("granite", ",'logits_scaling':0", "logits_scaling");
    must_refuse("olmo", ",'clip_qkv':0", "clip_qkv");
    must_refuse("phi3", ",'rope_scaling':{'type':'longrope','long_factor':[1]}",
                "short_factor: must be a list of 48 numbers");
    must_refuse("phi3",
                ",'hidden_size':8,'num_attention_heads':2,'rope_scaling':{'type':"
                "'longrope','short_factor':[1,'a'],'long_factor':[1,1]}",
                "element 1 must be a number");
    must_refuse("falcon", ",'alibi':true", "ALiBi is not offered");
    must_refuse("falcon", ",'new_decoder_architecture':true,'parallel_attn':false",
                "parallel_attn");
    must_refuse("falcon", ",'new_decoder_architecture':true,'num_kv_heads':8",
                "num_kv_heads: is 8, and must divide");
    must_refuse("falcon", ",'num_ln_in_parallel_attn':2", "new_decoder_architecture");
    must_refuse("falcon", ",'multi_query':false,'num_kv_heads':1", "num_kv_heads: is 1");
    must_refuse("gpt_neo", ",'num_layers':2", "is of more layers than num_layers, 2");
    must_refuse("gpt_neo", ",'num_layers':30", "is of 24 layers, but num_layers is 30");
    must_refuse("gpt_neo", ",'attention_types':[[['flash'],24]]", "global or local");
    must_refuse("gpt_neo", ",'attention_types':[['local',24]]", "must be lists");
    must_refuse("gpt_neo", ",'attention_types':[[[],24]]", "must be lists");
    must_refuse("bitnet", ",'quantization_config':{'quant_method':'bitnet'}",
                "packs weights of -1, 0 and 1");
    must_refuse("xglm", ",'d_model':15,'attention_heads':3", "d_model: is 15");
    must_refuse("gemma3_text", ",'sliding_window':null", "sliding_window is null");
    must_refuse("cohere2", ",'sliding_window':null", "sliding_window is null");
    must_refuse("ministral",
                ",'sliding_window':null,'num_hidden_layers':1,"
                "'layer_types':['sliding_attention']",
                "sliding_window is null");
}
END_TEST

/* Each type is in one table alone, once, and its reason is what a job is told. */
START_TEST(test_families_say_why_a_known_type_is_refused)
{
    const char *type, *why;
    char text[300];
    size_t n = 0;

    for (; (type = refusal_at(n, &why)); n++) {
        const char *other;

        ck_assert_msg(!family_find(type), "%s is offered", type);
        ck_assert_msg(!text_part_find(type), "%s is offered as a text part", type);
        for (size_t i = 0; i < n; i++)
            ck_assert_msg(!streq(refusal_at(i, &other), type), "%s is there twice", type);
        snprintf(text, sizeof(text), "model_type: '%s': %s", type, why);
        must_refuse(type, "", text);
        ck_assert_int_eq(err.code, PT2_ERR_NOT_EXPORTABLE);
    }
    ck_assert_uint_gt(n, 100);
    must_refuse("made_up", "", "'made_up' is not among the");
    must_refuse("made_up", "", "doc/families.md");
}
END_TEST

START_TEST(test_families_know_the_text_part_of_a_whole)
{
    const struct text_part *part;

    for (size_t i = 0; (part = text_part_at(i)); i++) {
        ck_assert_msg(!family_find(part->model_type), "%s", part->model_type);
        must_read(part->model_type, ",'text_config':{}");
        ck_assert_str_eq(spec.model_type, part->text_type);
        ck_assert_str_eq(spec.part_of, part->model_type);
        ck_assert_int_eq(spec.tied, part->tied);
        must_read(part->model_type, ",'text_config':{'tie_word_embeddings':true}");
        ck_assert_int_eq(spec.tied, part->tied || part->ties_by_text);
        must_read(part->model_type, ",'text_config':{},'tie_word_embeddings':true");
        ck_assert_int_eq(spec.tied, true);
    }
    must_read("llava", ",'text_config':{'model_type':'mistral','num_hidden_layers':3}");
    ck_assert_str_eq(spec.model_type, "mistral");
    ck_assert_int_eq(spec.n_layers, 3);
    must_read("qwen2_vl", ",'hidden_size':1024,'rope_theta':7.0,"
                          "'rope_scaling':{'type':'mrope','mrope_section':[16,24,24]}");
    ck_assert_int_eq(spec.hidden_size, 1024);
    ck_assert_double_eq(spec.ropes[0].theta, 7);
    must_refuse("qwen2", ",'rope_scaling':{'type':'mrope'}", "'mrope' is not offered");
    must_refuse("qwen2", ",'rope_scaling':{'type':'default','mrope_section':[8,8]}",
                "mrope_section");
    must_read("llama", "");
    ck_assert_ptr_null(spec.part_of);
}
END_TEST

/* How many rows attention's fused tensor has follows from which Falcon it is. */
START_TEST(test_families_tell_falcons_apart)
{
    must_read("falcon", "");
    ck_assert_int_eq(spec.n_kv_heads, 1);
    ck_assert_int_eq(spec.qkv, QKV_FUSED);
    ck_assert(spec.is_parallel && !spec.names->mlp_norm);
    must_read("falcon", ",'multi_query':false,'parallel_attn':false");
    ck_assert_int_eq(spec.n_kv_heads, 71);
    ck_assert_int_eq(spec.qkv, QKV_PER_HEAD);
    ck_assert(!spec.is_parallel);
    ck_assert_ptr_null(spec.note);
    must_read("falcon", ",'new_decoder_architecture':true,'num_attention_heads':128,"
                        "'num_kv_heads':8,'hidden_size':8192,'multi_query':true");
    ck_assert_int_eq(spec.n_kv_heads, 8);
    ck_assert_int_eq(spec.qkv, QKV_PER_HEAD);
    ck_assert_str_eq(spec.names->attn_norm, "ln_attn");
    must_read("falcon", ",'new_decoder_architecture':true,'num_ln_in_parallel_attn':1");
    ck_assert_str_eq(spec.names->attn_norm, "input_layernorm");
    ck_assert_ptr_null(spec.names->mlp_norm);
}
END_TEST

START_TEST(test_families_read_local_layers)
{
    must_read("gpt_neo", ",'num_layers':3,'window_size':7,"
                         "'attention_types':[[['local'],1],[['global','local'],1]]");
    ck_assert_int_eq(spec.layers[0].window, 7);
    ck_assert_int_eq(spec.layers[1].window, 0);
    ck_assert_int_eq(spec.layers[2].window, 7);
    ck_assert_double_eq(spec.layers[2].attn_scale, 1);
    must_read("gpt_neo", ",'num_layers':2,'attention_layers':['local','global'],"
                         "'attention_types':[[['global','local'],1]]");
    ck_assert_int_eq(spec.layers[0].window, 256);
    ck_assert_int_eq(spec.layers[1].window, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("families");
    TCase *core = tcase_create("core"), *errors = tcase_create("errors");

    tcase_add_checked_fixture(core, setup, teardown);
    tcase_add_loop_test(core, test_families_fill_in_what_transformers_does, 0,
                        (int)ARRAY_LEN(goldens));
    tcase_add_test(core, test_families_are_all_compared);
    tcase_add_test(core, test_families_leave_layers_unrotated);
    tcase_add_test(core, test_families_read_their_factors);
    tcase_add_test(core, test_families_know_the_text_part_of_a_whole);
    tcase_add_test(core, test_families_tell_falcons_apart);
    tcase_add_test(core, test_families_read_local_layers);
    tcase_add_test(core, test_families_have_experts_where_config_says);
    tcase_add_test(core, test_families_read_their_routers);
    suite_add_tcase(suite, core);
    tcase_add_checked_fixture(errors, setup, teardown);
    tcase_add_test(errors, test_families_refuse_routers_of_others);
    tcase_add_test(errors, test_families_refuse_what_others_compute_with);
    tcase_add_test(errors, test_families_refuse_what_can_not_be_meant);
    tcase_add_test(errors, test_families_say_why_a_known_type_is_refused);
    suite_add_tcase(suite, errors);
    return suite_run(suite);
}
