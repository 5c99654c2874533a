#include "suite.h"

#include "export/rope.h"

#include <math.h>

/* inv_freq and attention_scaling of LlamaRotaryEmbedding(LlamaConfig(hidden_size=4 * dim,
 * num_attention_heads=4, max_position_embeddings=..., **json)); transformers 5.18.0,
 * torch 2.13.0, AVX-512. */
static const struct golden {
    const char *name;
    int64_t dim, max_position;
    const char *json;
    double scale;
    float freq[32];
} goldens[] = {
    {"default 1e4",
     16,
     2048,
     "{\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":10000.0}}",
     1.0,
     {0x1p+0f, 0x1.43d136p-2f, 0x1.99999ap-4f, 0x1.030dc6p-5f, 0x1.47ae14p-7f,
      0x1.9e7c7p-9f, 0x1.0624dep-10f, 0x1.4b96cp-12f}},
    {"theta beside",
     16,
     2048,
     "{\"rope_theta\":500000.0}",
     1.0,
     {0x1p+0f, 0x1.8d276p-3f, 0x1.34119p-5f, 0x1.ddee9ep-8f, 0x1.72ba42p-10f,
      0x1.1f91fp-12f, 0x1.be2188p-15f, 0x1.5a0f4ep-17f}},
    {"linear old",
     16,
     2048,
     "{\"rope_theta\":10000.0,\"rope_scaling\":{\"type\":\"linear\",\"factor\":4.0}}",
     1.0,
     {0x1p-2f, 0x1.43d136p-4f, 0x1.99999ap-6f, 0x1.030dc6p-7f, 0x1.47ae14p-9f,
      0x1.9e7c7p-11f, 0x1.0624dep-12f, 0x1.4b96cp-14f}},
    {"dynamic",
     16,
     2048,
     "{\"rope_parameters\":{\"rope_type\":\"dynamic\",\"rope_theta\":10000.0,\"factor\":"
     "2.0}}",
     1.0,
     {0x1p+0f, 0x1.43d136p-2f, 0x1.99999ap-4f, 0x1.030dc6p-5f, 0x1.47ae14p-7f,
      0x1.9e7c7p-9f, 0x1.0624dep-10f, 0x1.4b96cp-12f}},
    {"llama3",
     64,
     131072,
     "{\"rope_theta\":500000.0,\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,"
     "\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,\"original_max_position_"
     "embeddings\":8192}}",
     1.0,
     {0x1p+0f,         0x1.53c38cp-1f,  0x1.c2ef78p-2f,  0x1.2b3dc6p-2f,  0x1.8d276p-3f,
      0x1.078d4p-3f,   0x1.5dc95ap-4f,  0x1.d03ccep-5f,  0x1.34119p-5f,   0x1.98de92p-6f,
      0x1.0f5386p-6f,  0x1.681adap-7f,  0x1.ddee9ep-8f,  0x1.3d2804p-8f,  0x1.a4ee4p-9f,
      0x1.67a23ap-10f, 0x1.132ba4p-11f, 0x1.765ba4p-13f, 0x1.46831ap-14f, 0x1.b15902p-15f,
      0x1.1f91fp-15f,  0x1.7da9e8p-16f, 0x1.fa8b86p-17f, 0x1.5024d6p-17f, 0x1.be2188p-18f,
      0x1.280d96p-18f, 0x1.88ec2p-19f,  0x1.04be68p-19f, 0x1.5a0f4ep-20f, 0x1.cb4a9ap-21f,
      0x1.30c94ep-21f, 0x1.94836p-22f}},
    {"yarn",
     32,
     16384,
     "{\"rope_parameters\":{\"rope_type\":\"yarn\",\"rope_theta\":1000000.0,\"factor\":4."
     "0,\"original_max_position_embeddings\":4096}}",
     1.138629436111989,
     {0x1p+0f, 0x1.afd136p-2f, 0x1.6c310ep-3f, 0x1.33281ap-4f, 0x1.b86436p-6f,
      0x1.31e0bap-7f, 0x1.9563bcp-9f, 0x1.f15028p-11f, 0x1.0624dep-12f, 0x1.ba2e4ap-14f,
      0x1.74eea6p-15f, 0x1.3a8748p-16f, 0x1.094564p-17f, 0x1.bf749ep-19f, 0x1.796182p-20f,
      0x1.3e47c8p-21f}},
    {"yarn knobs",
     32,
     16384,
     "{\"rope_parameters\":{\"rope_type\":\"yarn\",\"rope_theta\":10000.0,\"factor\":40."
     "0,\"original_max_position_embeddings\":4096,\"beta_fast\":16,\"beta_slow\":2,"
     "\"mscale\":1.0,\"mscale_all_dim\":0.707,\"truncate\":false}}",
     1.0857263992561355,
     {0x1p+0f, 0x1.1feb34p-1f, 0x1.43d136p-2f, 0x1.6c310ep-3f, 0x1.99999ap-4f,
      0x1.ccab84p-5f, 0x1.030dc6p-5f, 0x1.eeab6ep-7f, 0x1.7b75d6p-8f, 0x1.c7a9e2p-10f,
      0x1.03f278p-13f, 0x1.74eea6p-15f, 0x1.a36e2ep-16f, 0x1.d7b9ep-17f, 0x1.094566p-17f,
      0x1.2a5884p-18f}},
    {"yarn attention",
     32,
     16384,
     "{\"rope_parameters\":{\"rope_type\":\"yarn\",\"rope_theta\":10000.0,\"factor\":4.0,"
     "\"attention_factor\":0.8,\"original_max_position_embeddings\":4096}}",
     0.8,
     {0x1p+0f, 0x1.1feb34p-1f, 0x1.43d136p-2f, 0x1.6c310ep-3f, 0x1.99999ap-4f,
      0x1.ccab84p-5f, 0x1.ce9898p-6f, 0x1.c9d746p-7f, 0x1.bcb564p-8f, 0x1.a52f1cp-9f,
      0x1.80e144p-10f, 0x1.4cf9a8p-11f, 0x1.0624dep-12f, 0x1.26d42cp-13f, 0x1.4b96cp-14f,
      0x1.74eea6p-15f}},
    {"yarn factor null",
     16,
     16384,
     "{\"rope_parameters\":{\"rope_type\":\"yarn\",\"rope_theta\":10000.0,\"factor\":"
     "null},\"original_max_position_embeddings\":2048}",
     1.2079441541679836,
     {0x1p+0f, 0x1.43d136p-2f, 0x1.99999ap-4f, 0x1.94c584p-6f, 0x1.70a3d6p-8f,
      0x1.1cf58cp-10f, 0x1.0624dep-13f, 0x1.4b96cp-15f}},
};

static struct pt2_err err;

static const struct rope_rules usual;
static json_t *config; /* what the ropes point into */

static struct fields load(const char *text)
{
    json_decref(config);
    config = json_loads(text, 0, NULL);
    ck_assert_ptr_nonnull(config);
    pt2_err_clear(&err);
    return fields_of(config, "");
}

static int read_by(const struct rope_rules *rules, const char *text, int64_t dim,
                   int64_t max_position, struct rope *ret_rope)
{
    struct fields f = load(text);

    return rope_read(&f, rules, dim, max_position, ret_rope, &err);
}

static int read_json(const char *text, int64_t dim, int64_t max_position,
                     struct rope *ret_rope)
{
    return read_by(&usual, text, dim, max_position, ret_rope);
}

static void teardown(void)
{
    json_decref(config);
    config = NULL;
}

/* Bits apart; positive floats are ordered as their bits. */
static int64_t ulps(float a, float b)
{
    int32_t x, y;

    memcpy(&x, &a, 4);
    memcpy(&y, &b, 4);
    return llabs((long long)x - y);
}

static void check_freq(const char *name, const struct rope *rope, bool is_long,
                       const float *want)
{
    float freq[32];

    rope_inv_freq(rope, is_long, freq);
    for (int64_t i = 0; i < rope->dim / 2; i++)
        ck_assert_msg(ulps(freq[i], want[i]) <= 1, "%s: freq[%d] is %a, not %a", name,
                      (int)i, freq[i], want[i]);
}

/* A wrong formula, or one operation less or more, is off by far more than the last bit in
 * which torch's vectorised pow may differ from a correctly rounded one. */
START_TEST(test_rope_frequencies_are_transformers)
{
    const struct golden *g = &goldens[_i];
    struct rope rope;

    ck_assert_msg(read_json(g->json, g->dim, g->max_position, &rope) == 0, "%s: %s",
                  g->name, err.text);
    ck_assert_double_eq_tol(rope.attention_scale, g->scale, 1e-15);
    check_freq(g->name, &rope, false, g->freq);
}
END_TEST

/* The same of Phi3RotaryEmbedding, before and after position 4096; of
 * HunYuanDenseV1RotaryEmbedding; of GPTNeoXRotaryEmbedding. */
START_TEST(test_rope_of_families_are_transformers)
{
    static const struct rope_rules phi3 = {
        .partial = 1, .original_max = 4096, .is_longrope_only = true};
    static const struct rope_rules hunyuan = {.reads_alpha = true};
    static const struct rope_rules neox = {
        .theta_field = "rotary_emb_base", .partial_field = "rotary_pct", .partial = 0.25};
    static const char longrope[] =
        "{\"rope_scaling\":{\"type\":\"su\",\"short_factor\":[1.0,1.05,1.1,1.2,1.3,"
        "1.4],\"long_factor\":[1.5,3.0,8.0,20.0,40.0,64.0]},\"partial_rotary_factor\":"
        "0.75}";
    static const char alpha[] = "{\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":1.0,"
                                "\"alpha\":1000.0}}";
    static const float shorts[] = {0x1p+0f,       0x1.a437a6p-3f,  0x1.59abf6p-5f,
                                   0x1.11111p-7f, 0x1.b270a8p-10f, 0x1.5ba5aap-12f};
    static const float longs[] = {0x1.555556p-1f,  0x1.2626f2p-4f,  0x1.7c3d2ap-8f,
                                  0x1.0624dep-11f, 0x1.c3d14ep-15f, 0x1.e6b4b8p-18f};
    static const float alphas[] = {0x1p+0f,         0x1.e2d2dap-4f,  0x1.c74f54p-7f,
                                   0x1.ad5d3p-10f,  0x1.94e58cp-13f, 0x1.7dd2d6p-16f,
                                   0x1.6810bap-19f, 0x1.538c06p-22f};
    static const float neox_freq[] = {0x1p+0f, 0x1.b11968p-3f, 0x1.6e5b7ep-5f,
                                      0x1.35e68ep-7f};
    struct rope rope;

    ck_assert_msg(read_by(&phi3, longrope, 16, 131072, &rope) == 0, "%s", err.text);
    ck_assert_double_eq_tol(rope.attention_scale, 1.1902380714238083, 1e-15);
    check_freq("short", &rope, false, shorts);
    check_freq("long", &rope, true, longs);
    ck_assert(!rope_is_long(&rope, 4096));
    ck_assert(rope_is_long(&rope, 4097));
    ck_assert_msg(read_by(&hunyuan, alpha, 16, 2048, &rope) == 0, "%s", err.text);
    check_freq("alpha", &rope, false, alphas);
    ck_assert_msg(read_by(&neox, "{\"rotary_pct\":0.5,\"rotary_emb_base\":500}", 16, 2048,
                          &rope) == 0,
                  "%s", err.text);
    check_freq("neox", &rope, false, neox_freq);
}
END_TEST

/* Gemma3RotaryEmbedding's two, in the older spelling and in the newer. */
START_TEST(test_rope_two_are_transformers)
{
    static const struct rope_rules gemma3 = {.theta = 1000000};
    static const char *const configs[] = {
        "{\"rope_local_base_freq\":10000.0,\"rope_scaling\":{\"rope_type\":\"linear\","
        "\"factor\":8.0}}",
        "{\"rope_parameters\":{\"full_attention\":{\"rope_type\":\"linear\",\"factor\":"
        "8.0,\"rope_theta\":1000000.0},\"sliding_attention\":{\"rope_type\":\"default\","
        "\"rope_theta\":10000.0}}}"};
    static const float full[] = {0x1p-3f,         0x1.6c310ep-6f,  0x1.030dc6p-8f,
                                 0x1.708938p-11f, 0x1.0624dep-13f, 0x1.74eea6p-16f,
                                 0x1.094564p-18f, 0x1.796182p-21f};
    static const float sliding[] = {0x1p+0f,         0x1.43d136p-2f, 0x1.99999ap-4f,
                                    0x1.030dc6p-5f,  0x1.47ae14p-7f, 0x1.9e7c7p-9f,
                                    0x1.0624dep-10f, 0x1.4b96cp-12f};
    struct rope ropes[2];

    for (size_t i = 0; i < ARRAY_LEN(configs); i++) {
        struct fields f = load(configs[i]);

        ck_assert_msg(rope_read_two(&f, &gemma3, "rope_local_base_freq", 10000, 16, 4096,
                                    ropes, &err) == 0,
                      "%s", err.text);
        check_freq("full", &ropes[0], false, full);
        check_freq("sliding", &ropes[1], false, sliding);
        ck_assert_str_eq(ropes[0].prefix, "full_attention_");
        ck_assert_str_eq(ropes[1].prefix, "sliding_attention_");
    }
}
END_TEST

START_TEST(test_rope_dynamic_stops_at_the_trained_length)
{
    struct rope rope;

    ck_assert_int_eq(read_json("{\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2}}",
                               16, 64, &rope),
                     0);
    ck_assert_int_eq(rope_check_len(&rope, 64, &err), 0);
    ck_assert_int_eq(rope_check_len(&rope, 65, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_NOT_EXPORTABLE);
    ck_assert_ptr_nonnull(strstr(err.text, "rope_type"));
}
END_TEST

/* What stands within counts more than what stands beside; null and {} are nothing. */
START_TEST(test_rope_theta_has_its_order)
{
    static const struct {
        const char *json;
        double theta;
    } cases[] = {
        {"{}", 10000},
        {"{\"rope_theta\":5}", 5},
        {"{\"rope_theta\":5,\"rope_parameters\":{\"rope_theta\":7}}", 7},
        {"{\"rope_theta\":5,\"rope_scaling\":null,\"rope_parameters\":{\"rope_theta\":7}"
         "}",
         7},
        {"{\"rope_theta\":5,\"rope_scaling\":{},\"rope_parameters\":{\"rope_theta\":7}}",
         7},
        {"{\"rope_scaling\":{\"type\":\"default\",\"rope_theta\":9},"
         "\"rope_parameters\":{\"rope_theta\":7}}",
         9},
    };
    struct rope rope;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        ck_assert_int_eq(read_json(cases[i].json, 16, 64, &rope), 0);
        ck_assert_double_eq(rope.theta, cases[i].theta);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("rope");
    TCase *core = tcase_create("core");

    tcase_add_loop_test(core, test_rope_frequencies_are_transformers, 0,
                        (int)ARRAY_LEN(goldens));
    tcase_add_checked_fixture(core, NULL, teardown);
    tcase_add_test(core, test_rope_of_families_are_transformers);
    tcase_add_test(core, test_rope_two_are_transformers);
    tcase_add_test(core, test_rope_dynamic_stops_at_the_trained_length);
    tcase_add_test(core, test_rope_theta_has_its_order);
    suite_add_tcase(suite, core);
    return suite_run(suite);
}
