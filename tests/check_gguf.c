#include "seed.h"
#include "suite.h"

#include "alloc_fail.h"
#include "base/util.h"
#include "cases.h"
#include "gguf_file.h"

#include <jansson.h>
#include <math.h>
#include <pt2/checkpoint.h>
#include <sys/stat.h>

#define OK(call) ck_assert_msg((call) == 0, "%s", err.text)

static struct pt2_err err;
static char dir[64];
static struct gguf_file file;

static void setup(void)
{
    err = (struct pt2_err){0};
    memset(&file, 0, sizeof(file));
    snprintf(dir, sizeof(dir), "/tmp/check_gguf.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void teardown(void)
{
    char command[100];

    snprintf(command, sizeof(command), "rm -r '%s'", dir);
    ck_assert_int_eq(system(command), 0);
}

static const char *in_dir(const char *name)
{
    static char path[200];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

static struct pt2_checkpoint *open_data(const char *name)
{
    struct pt2_checkpoint *c;
    char path[400];

    snprintf(path, sizeof(path), "%s/gguf/%s", test_data(), name);
    OK(pt2_checkpoint_open(path, &c, &err));
    return c;
}

/* Write `file` and open the folder that it is in. */
static struct pt2_checkpoint *open_written(void)
{
    struct pt2_checkpoint *c;

    gguf_file_write(&file, in_dir("model.gguf"));
    OK(pt2_checkpoint_open(dir, &c, &err));
    return c;
}

static void begin(const char *arch)
{
    gguf_file_string(&file, "general.architecture", arch);
}

/* All values of a tensor, which must be float32 of that shape; new. */
static float *values_of(const struct pt2_checkpoint *c, const char *name, int64_t rows,
                        int64_t cols)
{
    const struct pt2_checkpoint_tensor *t = pt2_checkpoint_find_tensor(c, name);
    float *values;

    ck_assert_msg(t != NULL, "no tensor '%s'", name);
    ck_assert_int_eq(t->dtype, PT2_FLOAT32);
    ck_assert_uint_eq(t->n_dims, cols ? 2 : 1);
    ck_assert_int_eq(t->sizes[0], rows);
    if (cols)
        ck_assert_int_eq(t->sizes[1], cols);
    ck_assert_uint_eq(t->bytes, (uint64_t)(rows * (cols ? cols : 1)) * 4);
    values = malloc(t->bytes);
    OK(pt2_checkpoint_read(c, t, 0, values, t->bytes, &err));
    return values;
}

/* Any part of a tensor is that part of the whole. */
static void check_parts(const struct pt2_checkpoint *c, const char *name, unsigned seed)
{
    const struct pt2_checkpoint_tensor *t = pt2_checkpoint_find_tensor(c, name);
    AUTO_PTR char *whole = malloc(t->bytes), *part = malloc(t->bytes + 1);

    OK(pt2_checkpoint_read(c, t, 0, whole, t->bytes, &err));
    srand(seed);
    for (int i = 0; i < 200; i++) {
        size_t at = (size_t)rand() % t->bytes, len = (size_t)rand() % (t->bytes - at) + 1;
        size_t skew = (size_t)rand() % 2; /* not aligned either */

        OK(pt2_checkpoint_read(c, t, at, part + skew, len, &err));
        ck_assert_msg(memcmp(part + skew, whole + at, len) == 0,
                      "seed %u: %zu bytes at %zu of '%s'", seed, len, at, name);
    }
    ck_assert_int_eq(pt2_checkpoint_read(c, t, t->bytes, part, 1, NULL), -1);
}

static void count_up(float *to, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (float)i;
}

/* ---- values ---- */

/* Expected: gguf.quants.dequantize, gguf 0.19 (tests/data/gguf/make.py). */
START_TEST(test_gguf_every_quantisation_bit_for_bit)
{
    static const char *const names[] = {"Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0",  "Q2_K",
                                        "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL"};
    struct pt2_checkpoint *c = open_data("quants.gguf");
    unsigned seed = (unsigned)test_seed();

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        AUTO_PTR float *got = values_of(c, names[i], 3, 512), *want = NULL;
        char name[40];

        snprintf(name, sizeof(name), "%s.values", names[i]);
        want = values_of(c, name, 3, 512);
        ck_assert_msg(memcmp(got, want, 3 * 512 * 4) == 0, "%s", names[i]);
        ck_assert_str_eq(pt2_checkpoint_find_tensor(c, names[i])->dtype_name, names[i]);
        check_parts(c, names[i], seed);
    }
    ck_assert_int_eq(pt2_checkpoint_find_tensor(c, "F16")->dtype, PT2_FLOAT16);
    ck_assert_int_eq(pt2_checkpoint_find_tensor(c, "BF16")->dtype, PT2_BFLOAT16);
    ck_assert_uint_eq(pt2_checkpoint_find_tensor(c, "BF16")->bytes, 3 * 512 * 2);
    pt2_checkpoint_free(c);
}
END_TEST

/* Any run of groups, of numbers, of scales or of both, stands for what is read as floats. */
START_TEST(test_gguf_groups_are_the_stored_numbers)
{
    const char *name = _i ? "Q8_0" : "Q4_0";
    struct pt2_checkpoint *c = open_data("quants.gguf");
    const struct pt2_checkpoint_tensor *t = pt2_checkpoint_find_tensor(c, name);
    AUTO_PTR float *floats = values_of(c, name, 3, 512);
    float scales[48], again[48];
    int8_t values[48 * 32], same[48 * 32];

    ck_assert_uint_eq(t->group_bits, _i ? 8 : 4);
    ck_assert_uint_eq(pt2_checkpoint_find_tensor(c, "Q4_1")->group_bits, 0);
    ck_assert_uint_eq(pt2_checkpoint_find_tensor(c, "F16")->group_bits, 0);
    srand((unsigned)test_seed());
    for (int round = 0; round < 100; round++) {
        size_t first = (size_t)rand() % 48, n = (size_t)rand() % (48 - first) + 1;

        OK(pt2_checkpoint_read_groups(c, t, first, n, values, scales, &err));
        OK(pt2_checkpoint_read_groups(c, t, first, n, same, NULL, &err));
        OK(pt2_checkpoint_read_groups(c, t, first, n, NULL, again, &err));
        ck_assert_mem_eq(values, same, n * 32);
        ck_assert_mem_eq(scales, again, n * 4);
        for (size_t i = 0; i < n * 32; i++)
            ck_assert_float_eq((float)values[i] * scales[i / 32], floats[first * 32 + i]);
    }
    ck_assert_int_eq(pt2_checkpoint_read_groups(c, t, 48, 1, values, scales, NULL), -1);
    ck_assert_int_eq(pt2_checkpoint_read_groups(c, t, 1, 48, values, scales, NULL), -1);
    pt2_checkpoint_free(c);
}
END_TEST

/* As llama.cpp's converter permutes: (heads, 2, half) with the last two swapped. */
static void permute(const float *from, float *to, int heads, int half, int cols)
{
    for (int h = 0; h < heads; h++)
        for (int b = 0; b < 2; b++)
            for (int d = 0; d < half; d++)
                memcpy(to + ((h * half + d) * 2 + b) * cols,
                       from + ((h * 2 + b) * half + d) * cols, (size_t)cols * 4);
}

START_TEST(test_gguf_llama_queries_and_keys_are_put_back)
{
    float model[24 * 5], stored[24 * 5];
    struct pt2_checkpoint *c;

    begin("llama");
    gguf_file_uint(&file, "llama.attention.head_count", 4);
    gguf_file_uint(&file, "llama.attention.head_count_kv", 2);
    count_up(model, 24 * 5);
    permute(model, stored, 4, 3, 5);
    gguf_file_tensor(&file, "blk.11.attn_q.weight", 24, 5, stored);
    permute(model, stored, 4, 3, 1);
    gguf_file_tensor(&file, "blk.11.attn_q.bias", 24, 0, stored);
    permute(model, stored, 2, 3, 5);
    gguf_file_tensor(&file, "blk.11.attn_k.weight", 12, 5, stored);
    gguf_file_tensor(&file, "blk.11.attn_v.weight", 12, 5, model);
    c = open_written();
    {
        AUTO_PTR float *q =
            values_of(c, "model.layers.11.self_attn.q_proj.weight", 24, 5);
        AUTO_PTR float *b = values_of(c, "model.layers.11.self_attn.q_proj.bias", 24, 0);
        AUTO_PTR float *k =
            values_of(c, "model.layers.11.self_attn.k_proj.weight", 12, 5);
        AUTO_PTR float *v =
            values_of(c, "model.layers.11.self_attn.v_proj.weight", 12, 5);

        ck_assert_mem_eq(q, model, sizeof(model));
        ck_assert_mem_eq(b, model, 24 * 4);
        ck_assert_mem_eq(k, model, 12 * 5 * 4);
        ck_assert_mem_eq(v, model, 12 * 5 * 4);
    }
    check_parts(c, "model.layers.11.self_attn.q_proj.weight", (unsigned)test_seed());
    pt2_checkpoint_free(c);
}
END_TEST

START_TEST(test_gguf_gemma_norms_lose_their_one)
{
    float values[6] = {1, 1.5f, 0, -1, 2, 1e-3f};
    struct pt2_checkpoint *c;

    begin("gemma2");
    gguf_file_tensor(&file, "blk.0.ffn_norm.weight", 6, 0, values);
    gguf_file_tensor(&file, "blk.0.post_attention_norm.weight", 6, 0, values);
    gguf_file_tensor(&file, "blk.0.ffn_down.weight", 1, 6, values);
    c = open_written();
    {
        AUTO_PTR float *norm =
            values_of(c, "model.layers.0.pre_feedforward_layernorm.weight", 6, 0);
        AUTO_PTR float *down = values_of(c, "model.layers.0.mlp.down_proj.weight", 1, 6);

        for (int i = 0; i < 6; i++)
            ck_assert_float_eq(norm[i], values[i] - 1);
        ck_assert_mem_eq(down, values, sizeof(values));
    }
    ck_assert_ptr_nonnull(
        pt2_checkpoint_find_tensor(c, "model.layers.0.post_attention_layernorm.weight"));
    pt2_checkpoint_free(c);
}
END_TEST

/* More columns than are taken at once, and more rows. */
START_TEST(test_gguf_gpt2_matrices_are_transposed)
{
    enum { ROWS = 3, COLS = 4100 };
    static float values[ROWS * COLS];
    struct pt2_checkpoint *c;

    begin("gpt2");
    count_up(values, ROWS * COLS);
    gguf_file_tensor(&file, "blk.0.ffn_up.weight", ROWS, COLS, values);
    gguf_file_tensor(&file, "blk.0.ffn_up.bias", ROWS, 0, values);
    c = open_written();
    {
        AUTO_PTR float *w = values_of(c, "transformer.h.0.mlp.c_fc.weight", COLS, ROWS);
        AUTO_PTR float *b = values_of(c, "transformer.h.0.mlp.c_fc.bias", ROWS, 0);

        for (int i = 0; i < COLS; i++)
            for (int k = 0; k < ROWS; k++)
                ck_assert_float_eq(w[i * ROWS + k], values[k * COLS + i]);
        ck_assert_mem_eq(b, values, ROWS * 4);
    }
    check_parts(c, "transformer.h.0.mlp.c_fc.weight", (unsigned)test_seed());
    pt2_checkpoint_free(c);
}
END_TEST

START_TEST(test_gguf_experts_are_taken_apart)
{
    static const uint64_t sizes[] = {3, 2, 4};
    float values[24];
    struct pt2_checkpoint *c;

    begin("qwen2moe");
    count_up(values, 24);
    gguf_file_tensor_of(&file, "blk.7.ffn_up_exps.weight", 3, sizes, values);
    gguf_file_tensor(&file, "blk.7.ffn_gate_inp_shexp.weight", 4, 0, values);
    c = open_written();
    ck_assert_uint_eq(pt2_checkpoint_n_tensors(c), 4);
    {
        AUTO_PTR float *up =
            values_of(c, "model.layers.7.mlp.experts.2.up_proj.weight", 2, 4);
        AUTO_PTR float *gate =
            values_of(c, "model.layers.7.mlp.shared_expert_gate.weight", 1, 4);

        ck_assert_mem_eq(up, values + 16, 32);
        ck_assert_mem_eq(gate, values, 16);
    }
    pt2_checkpoint_free(c);
}
END_TEST

/* A type that is not read is named, so that the export can refuse it. */
START_TEST(test_gguf_foreign_types_keep_their_names)
{
    float values[4] = {1, 2, 3, 4};
    struct pt2_checkpoint *c;
    const struct pt2_checkpoint_tensor *t;

    begin("qwen2");
    gguf_file_tensor(&file, "blk.0.odd_name", 4, 0, values);
    file.tensors[file.n_tensors - 12] = 26; /* I32 */
    c = open_written();
    t = pt2_checkpoint_find_tensor(c, "blk.0.odd_name");
    ck_assert(t && t->dtype == PT2_INT32 && t->recipe == 0);
    ck_assert_str_eq(t->dtype_name, "I32");
    pt2_checkpoint_free(c);
}
END_TEST

/* ---- config.json ---- */

static void check_config(const struct pt2_checkpoint *c, const char *want)
{
    AUTO_PTR char *got = json_dumps(
        pt2_checkpoint_config(c), JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(8));

    ck_assert_str_eq(got, want);
}

START_TEST(test_gguf_config_of_a_llama)
{
    struct pt2_checkpoint *c = open_data("llama.gguf");

    check_config(c,
                 "{\"architectures\":[\"LlamaForCausalLM\"],\"attention_bias\":false,"
                 "\"bos_token_id\":0,\"dtype\":\"float32\",\"eos_token_id\":1,"
                 "\"head_dim\":16,\"hidden_act\":\"silu\",\"hidden_size\":64,"
                 "\"intermediate_size\":96,\"max_position_embeddings\":64,"
                 "\"mlp_bias\":false,\"model_type\":\"llama\",\"num_attention_heads\":4,"
                 "\"num_hidden_layers\":2,\"num_key_value_heads\":2,"
                 "\"rms_norm_eps\":9.9999997e-6,\"rope_theta\":10000.0,"
                 "\"tie_word_embeddings\":true,\"vocab_size\":262}");
    pt2_checkpoint_free(c);
}
END_TEST

/* What the file does not say follows from its tensors. */
START_TEST(test_gguf_config_from_tensors)
{
    float values[32] = {0};
    struct pt2_checkpoint *c;

    begin("gemma2");
    gguf_file_uint(&file, "gemma2.block_count", 46);
    gguf_file_uint(&file, "gemma2.embedding_length", 4608);
    gguf_file_uint(&file, "gemma2.attention.head_count", 32);
    gguf_file_uint(&file, "gemma2.attention.key_length", 128);
    gguf_file_uint(&file, "gemma2.attention.value_length", 128);
    gguf_file_uint(&file, "gemma2.attention.sliding_window", 4096);
    gguf_file_float(&file, "gemma2.attn_logit_softcapping", 50);
    gguf_file_tensor(&file, "token_embd.weight", 8, 4, values);
    gguf_file_tensor(&file, "output.weight", 8, 4, values);
    c = open_written();
    check_config(c, "{\"architectures\":[\"Gemma2ForCausalLM\"],"
                    "\"attn_logit_softcapping\":50.0,\"dtype\":\"float32\","
                    "\"head_dim\":128,\"hidden_activation\":\"gelu_pytorch_tanh\","
                    "\"hidden_size\":4608,\"model_type\":\"gemma2\","
                    "\"num_attention_heads\":32,\"num_hidden_layers\":46,"
                    "\"query_pre_attn_scalar\":144,\"sliding_window\":4096,"
                    "\"tie_word_embeddings\":false,\"vocab_size\":8}");
    pt2_checkpoint_free(c);
}
END_TEST

static const json_t *rope_of(const struct pt2_checkpoint *c, const char *name)
{
    const json_t *v =
        json_object_get(json_object_get(pt2_checkpoint_config(c), "rope_scaling"), name);

    ck_assert_msg(v != NULL, "no rope_scaling.%s", name);
    return v;
}

/* rope_freqs.weight as llama.cpp writes it for Llama 3.1 (theta 500000, heads of 128). */
START_TEST(test_gguf_llama3_factors_become_its_rope)
{
    float factors[64];
    struct pt2_checkpoint *c;

    for (int i = 0; i < 64; i++) {
        double length = 2 * M_PI * pow(500000, i / 64.0);
        double smooth = (8192 / length - 1) / 3;

        factors[i] = length < 2048   ? 1
                     : length > 8192 ? 8
                                     : (float)(1 / ((1 - smooth) / 8 + smooth));
    }
    begin("llama");
    gguf_file_float(&file, "llama.rope.freq_base", 500000);
    gguf_file_tensor(&file, "rope_freqs.weight", 64, 0, factors);
    c = open_written();
    ck_assert_str_eq(json_string_value(rope_of(c, "rope_type")), "llama3");
    ck_assert_double_eq(json_number_value(rope_of(c, "factor")), 8);
    ck_assert_int_eq(json_integer_value(rope_of(c, "original_max_position_embeddings")),
                     8192);
    ck_assert_uint_eq(pt2_checkpoint_n_tensors(c), 0);
    pt2_checkpoint_free(c);
}
END_TEST

START_TEST(test_gguf_scaling_is_taken_along)
{
    float factors[2] = {1.5f, 2};
    struct pt2_checkpoint *c;

    begin("qwen2");
    gguf_file_string(&file, "qwen2.rope.scaling.type", "yarn");
    gguf_file_float(&file, "qwen2.rope.scaling.factor", 4);
    gguf_file_uint(&file, "qwen2.rope.scaling.original_context_length", 32768);
    c = open_written();
    ck_assert_str_eq(json_string_value(rope_of(c, "rope_type")), "yarn");
    ck_assert_double_eq(json_number_value(rope_of(c, "factor")), 4);
    ck_assert_int_eq(json_integer_value(rope_of(c, "original_max_position_embeddings")),
                     32768);
    pt2_checkpoint_free(c);

    begin("llama");
    gguf_file_float(&file, "llama.rope.scale_linear", 2);
    c = open_written();
    ck_assert_str_eq(json_string_value(rope_of(c, "rope_type")), "linear");
    ck_assert_double_eq(json_number_value(rope_of(c, "factor")), 2);
    pt2_checkpoint_free(c);

    begin("phi3");
    gguf_file_float(&file, "phi3.rope.scaling.attn_factor", 1.25f);
    gguf_file_tensor(&file, "rope_factors_long.weight", 2, 0, factors);
    gguf_file_tensor(&file, "rope_factors_short.weight", 2, 0, factors);
    c = open_written();
    ck_assert_str_eq(json_string_value(rope_of(c, "rope_type")), "longrope");
    ck_assert_double_eq(json_number_value(rope_of(c, "attention_factor")), 1.25);
    ck_assert_double_eq(json_number_value(json_array_get(rope_of(c, "long_factor"), 0)),
                        1.5);
    pt2_checkpoint_free(c);
}
END_TEST

/* ---- files ---- */

START_TEST(test_gguf_parts_are_one_model)
{
    float values[4] = {1, 2, 3, 4};
    struct pt2_checkpoint *c;

    begin("qwen2");
    gguf_file_uint(&file, "split.count", 2);
    gguf_file_tensor(&file, "output_norm.weight", 4, 0, values);
    gguf_file_write(&file, in_dir("m-00001-of-00002.gguf"));
    gguf_file_uint(&file, "split.count", 2);
    values[0] = 9;
    gguf_file_tensor(&file, "blk.0.attn_norm.weight", 4, 0, values);
    gguf_file_write(&file, in_dir("m-00002-of-00002.gguf"));
    for (int i = 0; i < 2; i++) {
        OK(pt2_checkpoint_open(i ? dir : in_dir("m-00001-of-00002.gguf"), &c, &err));
        ck_assert_uint_eq(pt2_checkpoint_n_files(c), 2);
        ck_assert_int_eq(pt2_checkpoint_file(c, 1)->kind, PT2_FILE_WEIGHTS);
        {
            AUTO_PTR float *norm =
                values_of(c, "model.layers.0.input_layernorm.weight", 4, 0);

            ck_assert_mem_eq(norm, values, sizeof(values));
        }
        pt2_checkpoint_free(c);
    }
}
END_TEST

/* Nothing beside the file counts; safetensors come first. */
START_TEST(test_gguf_what_lies_beside_it)
{
    struct pt2_checkpoint *c;
    FILE *f = fopen(in_dir("config.json"), "w");

    ck_assert(f && fputs("not JSON", f) >= 0 && fclose(f) == 0);
    begin("llama");
    c = open_written();
    ck_assert_int_eq(pt2_checkpoint_find_file(c, "config.json"), -1);
    ck_assert_uint_eq(pt2_checkpoint_n_files(c), 1);
    pt2_checkpoint_free(c);
    f = fopen(in_dir("model.safetensors"), "w");
    ck_assert_int_eq(fclose(f), 0);
    ck_assert_int_eq(pt2_checkpoint_open(dir, &c, &err), -1);
    ck_assert_msg(err.code == PT2_ERR_BAD_CONFIG, "%s", err.text);
}
END_TEST

START_TEST(test_gguf_changes_are_noticed)
{
    struct pt2_checkpoint *c;
    float values[4] = {1, 2, 3, 4};

    begin("qwen2");
    gguf_file_tensor(&file, "output_norm.weight", 4, 0, values);
    c = open_written();
    OK(pt2_checkpoint_check_unchanged(c, &err));
    ck_assert_int_eq(truncate(in_dir("model.gguf"), 40), 0);
    ck_assert_int_eq(pt2_checkpoint_check_unchanged(c, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_CHECKPOINT_CHANGED);
    pt2_err_clear(&err);
    ck_assert_int_eq(
        pt2_checkpoint_read(c, pt2_checkpoint_tensor(c, 0), 0, values, 16, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_CHECKPOINT_CHANGED);
    pt2_checkpoint_free(c);
}
END_TEST

/* ---- the tokenizer ---- */

/* The file of that name that the metadata stands for, new; NULL where there is none. */
static char *make(const struct pt2_checkpoint *c, const char *name)
{
    char *text = NULL;
    size_t len;

    for (size_t i = 0; i < pt2_checkpoint_n_made(c); i++) {
        if (!streq(pt2_checkpoint_made_name(c, i), name))
            continue;
        OK(pt2_checkpoint_make(c, i, &text, &len, &err));
        if (text)
            ck_assert_uint_eq(strlen(text), len);
        return text;
    }
    ck_abort_msg("no '%s'", name);
}

static json_t *make_json(const struct pt2_checkpoint *c, const char *name)
{
    AUTO_PTR char *text = make(c, name);
    json_error_t error;
    json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, &error);

    ck_assert_msg(json != NULL, "%s: %s", name, error.text);
    return json;
}

static void check_part(const json_t *whole, const char *name, const char *want)
{
    AUTO_PTR char *got =
        json_dumps(json_object_get(whole, name), JSON_COMPACT | JSON_ENCODE_ANY);

    ck_assert_str_eq(got, want);
}

START_TEST(test_gguf_byte_level_tokenizer)
{
    struct pt2_checkpoint *c = open_data("llama.gguf");
    json_auto_t *json = make_json(c, "tokenizer.json");
    json_auto_t *config = make_json(c, "tokenizer_config.json");
    AUTO_PTR char *template = make(c, "chat_template.jinja");
    const json_t *model = json_object_get(json, "model");

    check_part(model, "merges",
               "[[\"\xc4\xa0\",\"t\"],[\"h\",\"e\"],[\"\xc4\xa0t\",\"he\"]]");
    ck_assert_uint_eq(json_object_size(json_object_get(model, "vocab")), 262);
    ck_assert_int_eq(json_integer_value(
                         json_object_get(json_object_get(model, "vocab"), "\xc4\xa0the")),
                     261);
    ck_assert_uint_eq(json_array_size(json_object_get(json, "added_tokens")), 3);
    check_part(json_object_get(json, "post_processor"), "single",
               "[{\"SpecialToken\":{\"id\":\"<|endoftext|>\",\"type_id\":0}},"
               "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}]");
    check_part(json_object_get(json, "post_processor"), "special_tokens",
               "{\"<|endoftext|>\":{\"id\":\"<|endoftext|>\",\"ids\":[0],"
               "\"tokens\":[\"<|endoftext|>\"]}}");
    check_part(config, "eos_token", "\"<|end|>\"");
    ck_assert_ptr_nonnull(strstr(template, "{{ m.content }}"));
    pt2_checkpoint_free(c);
}
END_TEST

/* Expected: transformers 5.18, AutoTokenizer.from_pretrained(gguf_file=...). */
START_TEST(test_gguf_merges_follow_from_scores)
{
    struct pt2_checkpoint *c = open_data("sentences.gguf");
    json_auto_t *json = make_json(c, "tokenizer.json");

    check_part(json_object_get(json, "model"), "merges",
               "[[\"\xe2\x96\x81\",\"t\"],[\"h\",\"e\"],[\"\xe2\x96\x81t\",\"he\"],"
               "[\"\xe2\x96\x81\",\"a\"],[\"i\",\"n\"]]");
    check_part(json, "normalizer", "null");
    ck_assert_ptr_null(make(c, "chat_template.jinja"));
    pt2_checkpoint_free(c);
}
END_TEST

START_TEST(test_gguf_tokenizers_that_are_not_offered)
{
    static const char *const tokens[] = {"a", "b", NULL}, *const twice[] = {"a", "a",
                                                                            NULL};
    static const struct {
        const char *model, *pre;
        const char *const *tokens;
        const char *const *merges;
        const char *text;
    } cases[] = {
        {"t5", NULL, tokens, NULL, "tokenizer.ggml.model 't5' is neither gpt2 nor llama"},
        {"gpt2", "klingon", tokens, NULL, "tokenizer.ggml.pre 'klingon' is not known"},
        {"gpt2", NULL, NULL, NULL, "tokenizer.ggml.tokens must be 1 to"},
        {"gpt2", NULL, twice, NULL, "is there twice"},
        {"gpt2", NULL, tokens, NULL, "without tokenizer.ggml.merges"},
        {"gpt2", NULL, tokens, tokens, "merge 0 is no pair"},
        {"llama", NULL, tokens, NULL, "neither merges nor scores"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct pt2_checkpoint *c;
        char *text = NULL;
        size_t len;

        begin("llama");
        gguf_file_string(&file, "tokenizer.ggml.model", cases[i].model);
        if (cases[i].pre)
            gguf_file_string(&file, "tokenizer.ggml.pre", cases[i].pre);
        if (cases[i].tokens)
            gguf_file_strings(&file, "tokenizer.ggml.tokens", cases[i].tokens);
        if (cases[i].merges)
            gguf_file_strings(&file, "tokenizer.ggml.merges", cases[i].merges);
        c = open_written();
        pt2_err_clear(&err);
        ck_assert_str_eq(pt2_checkpoint_made_name(c, 1), "tokenizer.json");
        ck_assert_int_eq(pt2_checkpoint_make(c, 1, &text, &len, &err), -1);
        ck_assert_msg(err.code == PT2_ERR_UNSUPPORTED && strstr(err.text, cases[i].text),
                      "%zu: %s", i, err.text);
        pt2_checkpoint_free(c);
    }
}
END_TEST

/* ---- errors ---- */

static int open_case(const char *case_dir, struct pt2_err *e)
{
    struct pt2_checkpoint *c;

    if (pt2_checkpoint_open(case_dir, &c, e) < 0)
        return -1;
    pt2_checkpoint_free(c);
    return 0;
}

START_TEST(test_gguf_invalid_files)
{
    cases_run("gguf-invalid", open_case);
}
END_TEST

/* All of it, from the file to the tokenizer. */
static int open_and_make(const char *path)
{
    struct pt2_checkpoint *c;
    int r = pt2_checkpoint_open(path, &c, &err);

    if (r < 0)
        return -1;
    for (size_t i = 0; i < pt2_checkpoint_n_made(c) && r == 0; i++) {
        char *text = NULL;
        size_t len;

        r = pt2_checkpoint_make(c, i, &text, &len, &err);
        free(text);
    }
    pt2_checkpoint_free(c);
    return r;
}

START_TEST(test_gguf_no_memory)
{
    static const char *const names[] = {"llama.gguf", "sentences.gguf"};
    char path[400];

    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof(path), "%s/gguf/%s", test_data(), names[i]);
        for (alloc_fail_begin(); alloc_fail_next();) {
            int r;

            pt2_err_clear(&err);
            r = open_and_make(path);
            if (alloc_failed()) {
                ck_assert_int_eq(r, -1);
                ck_assert_msg(err.code == PT2_ERR_NOMEM, "%s", err.text);
            } else {
                OK(r);
            }
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("gguf");
    TCase *core = tcase_create("core"), *errors = tcase_create("errors");

    tcase_add_checked_fixture(core, setup, teardown);
    tcase_add_test(core, test_gguf_every_quantisation_bit_for_bit);
    tcase_add_loop_test(core, test_gguf_groups_are_the_stored_numbers, 0, 2);
    tcase_add_test(core, test_gguf_llama_queries_and_keys_are_put_back);
    tcase_add_test(core, test_gguf_gemma_norms_lose_their_one);
    tcase_add_test(core, test_gguf_gpt2_matrices_are_transposed);
    tcase_add_test(core, test_gguf_experts_are_taken_apart);
    tcase_add_test(core, test_gguf_foreign_types_keep_their_names);
    tcase_add_test(core, test_gguf_config_of_a_llama);
    tcase_add_test(core, test_gguf_config_from_tensors);
    tcase_add_test(core, test_gguf_llama3_factors_become_its_rope);
    tcase_add_test(core, test_gguf_scaling_is_taken_along);
    tcase_add_test(core, test_gguf_parts_are_one_model);
    tcase_add_test(core, test_gguf_what_lies_beside_it);
    tcase_add_test(core, test_gguf_byte_level_tokenizer);
    tcase_add_test(core, test_gguf_merges_follow_from_scores);
    suite_add_tcase(suite, core);
    tcase_add_checked_fixture(errors, setup, teardown);
    tcase_add_test(errors, test_gguf_tokenizers_that_are_not_offered);
    tcase_add_test(errors, test_gguf_changes_are_noticed);
    tcase_add_test(errors, test_gguf_invalid_files);
    tcase_add_test(errors, test_gguf_no_memory);
    tcase_set_timeout(errors, 120);
    suite_add_tcase(suite, errors);
    return suite_run(suite);
}
