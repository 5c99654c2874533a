#include "suite.h"

#include "export/request.h"

static struct pt2_err err;
static struct json_problems problems;
static json_t *body;

static int parse(const char *text, struct export_request *ret)
{
    json_decref(body);
    json_problems_done(&problems);
    pt2_err_clear(&err);
    ck_assert_msg(json_parse(text, strlen(text), &body, &err) == 0, "%s", err.text);
    return export_request_parse(body, /* wants_model= */ true, &problems, ret, &err);
}

static void teardown(void)
{
    json_decref(body);
    body = NULL;
    json_problems_done(&problems);
}

START_TEST(test_request_takes_every_member)
{
    struct export_request r;

    ck_assert_int_eq(
        parse("{\"model\":\"org/"
              "demo\",\"dtype\":\"bfloat16\",\"cache\":{\"implementation\":"
              "\"hybrid\",\"batch_size\":2,\"max_cache_len\":64},\"example_input_ids\":"
              "[[1,2,3],[0,0,0]],\"example_cache_position\":[0,1,2],\"logits_to_keep\":"
              "\"last\","
              "\"dynamic_shapes\":true,\"attn_implementation\":\"sdpa\",\"profile\":"
              "\"edge\","
              "\"custom_ops\":true,\"quantization\":null,\"format\":\"pt2\",\"verify\":0,\"dry_run\":true,"
              "\"labels\":{\"build\":\"42\"}}",
              &r),
        0);
    ck_assert_str_eq(r.model, "org/demo");
    ck_assert_int_eq(r.options.dtype, PT2_BFLOAT16);
    ck_assert_int_eq(r.options.batch_size, 2);
    ck_assert_int_eq(r.options.max_cache_len, 64);
    ck_assert_int_eq(r.options.seq_len, 3);
    ck_assert(r.options.dynamic_shapes && r.dry_run);
    ck_assert_int_eq(r.options.attn, PT2_ATTN_SDPA);
    ck_assert_int_eq(r.options.cache, PT2_CACHE_HYBRID);
    ck_assert_int_eq(r.options.logits, PT2_LOGITS_LAST);
    ck_assert_int_eq(r.options.profile, PT2_PROFILE_EDGE);
    ck_assert(r.options.custom_ops);
    ck_assert_uint_eq(json_object_size(r.labels), 1);
}
END_TEST

START_TEST(test_request_takes_a_quantization)
{
    struct export_request r;
    const struct pt2_quantization *q = &r.options.quantization;

    ck_assert_int_eq(
        parse("{\"model\":\"m\",\"quantization\":{\"linear\":\"8da4w\",\"fallback\":"
              "\"8w\",\"embedding\":\"4w\",\"group_size\":64,\"embedding_group_size\":"
              "128,\"skip\":[\"lm_head\"]}}",
              &r),
        0);
    ck_assert_int_eq(q->linear, PT2_QUANT_8DA4W);
    ck_assert_int_eq(q->fallback, PT2_QUANT_8W);
    ck_assert_int_eq(q->embedding, PT2_QUANT_4W);
    ck_assert_int_eq(q->group_size, 64);
    ck_assert_int_eq(q->embedding_group_size, 128);
    ck_assert_uint_eq(q->n_skip, 1);
    ck_assert_str_eq(q->skip[0], "lm_head");
    ck_assert_int_eq(parse("{\"model\":\"m\",\"quantization\":{\"linear\":\"8w\","
                           "\"fallback\":null,\"embedding\":null}}",
                           &r),
                     0);
    ck_assert_int_eq(q->group_size, 32);
    ck_assert_int_eq(q->embedding_group_size, 0);
    ck_assert_int_eq(q->fallback, PT2_QUANT_NONE);
}
END_TEST

START_TEST(test_request_wants_a_model_alone)
{
    struct export_request r;

    ck_assert_int_eq(parse("{\"model\":\"demo\"}", &r), 0);
    ck_assert_int_eq(r.options.dtype, PT2_DTYPE_NONE);
    ck_assert_int_eq(r.options.max_cache_len, 0);
    ck_assert_ptr_null(r.labels);
    /* one example says what the other leaves out */
    ck_assert_int_eq(parse("{\"model\":\"demo\",\"example_cache_position\":[0,1]}", &r),
                     0);
    ck_assert_int_eq(r.options.seq_len, 2);
}
END_TEST

/* Each is the only problem of its body: the pointer must name the member that is wrong.
 */
static const struct {
    const char *body, *pointer;
    enum pt2_error code;
} bad[] = {
    {"[]", "", PT2_ERR_INVALID},
    {"{}", "/model", PT2_ERR_INVALID},
    {"{\"model\":\"\"}", "/model", PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"modle\":1}", "/modle", PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"dtype\":\"int8\"}", "/dtype", PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"dtype\":null}", "/dtype", PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"cache\":[]}", "/cache", PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"cache\":{\"size\":1}}", "/cache/size", PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"cache\":{\"batch_size\":0}}", "/cache/batch_size",
     PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"cache\":{\"max_cache_len\":1.5}}", "/cache/max_cache_len",
     PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"cache\":{\"implementation\":\"dynamic\"}}",
     "/cache/implementation", PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"example_input_ids\":[1]}", "/example_input_ids/0",
     PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"example_input_ids\":[[]]}", "/example_input_ids/0",
     PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"example_input_ids\":[[1],[1]]}", "/example_input_ids",
     PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"cache\":{\"batch_size\":2},\"example_input_ids\":[[1],[1,2]]}",
     "/example_input_ids/1", PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"example_input_ids\":[[1,-2]]}", "/example_input_ids/0",
     PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"example_input_ids\":[[1,2]],\"example_cache_position\":[0]}",
     "/example_cache_position", PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"cache\":{\"max_cache_len\":2},\"example_input_ids\":[[1,2,3]]}",
     "/example_input_ids/0", PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"example_cache_position\":0}", "/example_cache_position",
     PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"dynamic_shapes\":1}", "/dynamic_shapes", PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"attn_implementation\":\"flash\"}", "/attn_implementation",
     PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"quantization\":\"8w\"}", "/quantization", PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"verify\":-1}", "/verify", PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"verify\":4097}", "/verify", PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"verify\":9,\"cache\":{\"max_cache_len\":8}}", "/verify",
     PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"labels\":{\"a\":1}}", "/labels/a", PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"cache\":{\"implementation\":\"quantized\"}}",
     "/cache/implementation", PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"logits_to_keep\":1}", "/logits_to_keep", PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"profile\":\"mobile\"}", "/profile", PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"custom_ops\":true}", "/custom_ops", PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"custom_ops\":1,\"profile\":\"edge\"}", "/custom_ops",
     PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"format\":\"onnx\"}", "/format", PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"pte\":{\"backend\":\"xnnpack\"}}", "/format", PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"format\":\"pte\",\"profile\":\"torch\"}", "/profile",
     PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"format\":\"pte\",\"pte\":{\"backend\":\"coreml\"}}",
     "/pte/backend", PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"format\":\"pte\",\"custom_ops\":false,\"pte\":{\"custom_ops\":true}}",
     "/pte/custom_ops", PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"format\":\"pte\",\"pte\":{\"custom_ops\":1}}",
     "/pte/custom_ops", PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"format\":\"pte\",\"pte\":[]}", "/pte", PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"quantization\":{\"linear\":\"4b\"}}", "/quantization/linear",
     PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"quantization\":{\"embedding\":\"8da4w\"}}",
     "/quantization/embedding", PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"quantization\":{\"linear\":\"8w\",\"group_size\":48}}",
     "/quantization/group_size", PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"quantization\":{\"embedding_group_size\":\"row\"}}",
     "/quantization/embedding_group_size", PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"quantization\":{\"linear\":\"8w\",\"skip\":\"lm_head\"}}",
     "/quantization/skip", PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"quantization\":{\"linear\":\"8w\",\"skip\":[\"a\",\"\"]}}",
     "/quantization/skip/1", PT2_ERR_INVALID},
    {"{\"model\":\"m\",\"quantization\":{\"bits\":8}}", "/quantization/bits",
     PT2_ERR_INVALID},
};

START_TEST(test_request_names_the_bad_member)
{
    struct export_request r;
    const char *pointer;

    ck_assert_msg(parse(bad[_i].body, &r) == -1, "%s", bad[_i].body);
    ck_assert_msg(err.code == bad[_i].code, "%s: %s (%s)", bad[_i].body,
                  pt2_error_name(err.code), err.text);
    ck_assert_uint_eq(problems.n, 1);
    pointer =
        json_string_value(json_object_get(json_array_get(problems.errors, 0), "pointer"));
    ck_assert_msg(strcmp(pointer, bad[_i].pointer) == 0, "%s: pointer %s", bad[_i].body,
                  pointer);
}
END_TEST

/* All at once. */
START_TEST(test_request_says_all_problems)
{
    struct export_request r;

    ck_assert_int_eq(parse("{\"dtype\":\"int4\",\"format\":\"pt\",\"x\":1}", &r), -1);
    ck_assert_uint_eq(problems.n, 4);
    ck_assert_int_eq(err.code, PT2_ERR_INVALID);
}
END_TEST

/* What a job shows as its options is itself a body that asks for the same. */
START_TEST(test_request_options_come_back)
{
    struct pt2_export_options o = {.dtype = PT2_FLOAT16,
                                   .batch_size = 2,
                                   .max_cache_len = 16,
                                   .seq_len = 3,
                                   .dynamic_shapes = true,
                                   .attn = PT2_ATTN_SDPA,
                                   .verify = 16,
                                   .profile = PT2_PROFILE_EDGE,
                                   .custom_ops = true,
                                   .format = PT2_FORMAT_PTE,
                                   .pte = {.backend = PT2_PTE_PORTABLE}};
    json_auto_t *json = export_options_to_json(&o);
    struct export_request r;

    ck_assert_ptr_nonnull(json);
    ck_assert_uint_eq(json_object_size(json), 13);
    ck_assert_int_eq(
        export_request_parse(json, /* wants_model= */ false, &problems, &r, &err), 0);
    ck_assert_int_eq(r.options.dtype, o.dtype);
    ck_assert_int_eq(r.options.batch_size, o.batch_size);
    ck_assert_int_eq(r.options.max_cache_len, o.max_cache_len);
    ck_assert_int_eq(r.options.seq_len, o.seq_len);
    ck_assert_int_eq(r.options.dynamic_shapes, o.dynamic_shapes);
    ck_assert_int_eq(r.options.attn, o.attn);
    ck_assert_int_eq(r.options.verify, o.verify);
    ck_assert_int_eq(r.options.profile, o.profile);
    ck_assert_int_eq(r.options.custom_ops, o.custom_ops);
    ck_assert_int_eq(r.options.format, o.format);
    ck_assert_int_eq(r.options.pte.backend, o.pte.backend);
}
END_TEST

/* An ExecuTorch program is made of profile edge. */
START_TEST(test_request_format_chooses_the_profile)
{
    struct export_request r;

    ck_assert_int_eq(parse("{\"model\":\"m\",\"format\":\"pte\"}", &r), 0);
    ck_assert_int_eq(r.options.format, PT2_FORMAT_PTE);
    ck_assert_int_eq(r.options.profile, PT2_PROFILE_EDGE);
    ck_assert_int_eq(r.options.pte.backend, PT2_PTE_XNNPACK);
    ck_assert_int_eq(parse("{\"model\":\"m\",\"format\":\"pt2\",\"pte\":null}", &r), 0);
    ck_assert_int_eq(r.options.profile, PT2_PROFILE_TORCH);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("request");
    TCase *core = tcase_create("core"), *errors = tcase_create("errors");

    tcase_add_checked_fixture(core, NULL, teardown);
    tcase_add_test(core, test_request_takes_every_member);
    tcase_add_test(core, test_request_takes_a_quantization);
    tcase_add_test(core, test_request_wants_a_model_alone);
    tcase_add_test(core, test_request_options_come_back);
    tcase_add_test(core, test_request_format_chooses_the_profile);
    suite_add_tcase(suite, core);
    tcase_add_checked_fixture(errors, NULL, teardown);
    tcase_add_loop_test(errors, test_request_names_the_bad_member, 0,
                        (int)ARRAY_LEN(bad));
    tcase_add_test(errors, test_request_says_all_problems);
    suite_add_tcase(suite, errors);
    return suite_run(suite);
}
