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

static int read_json(const char *text, int64_t dim, int64_t max_position,
                     struct rope *ret_rope)
{
    json_auto_t *json = json_loads(text, 0, NULL);
    struct fields f = fields_of(json, "");

    ck_assert_ptr_nonnull(json);
    pt2_err_clear(&err);
    return rope_read(&f, dim, max_position, ret_rope, &err);
}

/* Bits apart; positive floats are ordered as their bits. */
static int64_t ulps(float a, float b)
{
    int32_t x, y;

    memcpy(&x, &a, 4);
    memcpy(&y, &b, 4);
    return llabs((long long)x - y);
}

/* A wrong formula, or one operation less or more, is off by far more than the last bit in
 * which torch's vectorised pow may differ from a correctly rounded one. */
START_TEST(test_rope_frequencies_are_transformers)
{
    const struct golden *g = &goldens[_i];
    float freq[32];
    struct rope rope;

    ck_assert_msg(read_json(g->json, g->dim, g->max_position, &rope) == 0, "%s: %s",
                  g->name, err.text);
    ck_assert_double_eq_tol(rope.attention_scale, g->scale, 1e-15);
    rope_inv_freq(&rope, freq);
    for (int64_t i = 0; i < g->dim / 2; i++)
        ck_assert_msg(ulps(freq[i], g->freq[i]) <= 1, "%s: freq[%d] is %a, not %a",
                      g->name, (int)i, freq[i], g->freq[i]);
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
    tcase_add_test(core, test_rope_dynamic_stops_at_the_trained_length);
    tcase_add_test(core, test_rope_theta_has_its_order);
    suite_add_tcase(suite, core);
    return suite_run(suite);
}
