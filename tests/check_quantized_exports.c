#include "suite.h"

#include "base/sha256.h"
#include "base/util.h"
#include "export_faults.h"
#include "tiny_model.h"

#include <fcntl.h>
#include <pt2/archive.h>
#include <pt2/checkpoint.h>
#include <pt2/export.h>

#define OK(call) ck_assert_msg((call) == 0, "%s", err.text)
#define TIED                                                                             \
    "{\"model_type\":\"llama\",\"tie_word_embeddings\":true," TINY_SIZES "}"
#define PARTS ".parametrizations.weight.original"

static struct pt2_err err;
static struct tiny_model model;
static struct pt2_checkpoint *checkpoint;
static struct pt2_export *export;
static struct pt2_archive *archive;

static void setup(void)
{
    pt2_err_clear(&err);
}

static void teardown(void)
{
    pt2_archive_free(archive);
    pt2_export_free(export);
    pt2_checkpoint_free(checkpoint);
    archive = NULL;
    export = NULL;
    checkpoint = NULL;
    tiny_remove(&model);
}

static int begin(const char *config, const struct pt2_export_options *options)
{
    tiny_begin(&model, config);
    if (streq(config, TINY_LLAMA))
        tiny_tensor(&model, "lm_head.weight", 10, 8);
    tiny_end(&model);
    OK(pt2_checkpoint_open(model.dir, &checkpoint, &err));
    return pt2_export_new(checkpoint, options, &export, &err);
}

static void write_and_open(void)
{
    uint8_t sha256[SHA256_BYTES];
    char output[100];
    uint64_t bytes;
    AUTO_FD int fd = -1;

    snprintf(output, sizeof(output), "%s/out.pt2", model.dir);
    fd = open(output, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    OK(pt2_export_write(export, fd, NULL, NULL, sha256, &bytes, &err));
    ck_assert_uint_eq(bytes, pt2_export_program_bytes(export));
    OK(pt2_archive_open(output, &archive, &err));
}

static unsigned count_nodes(const char *target)
{
    const struct pt2_program *p = pt2_export_program(export);
    unsigned n = 0;

    for (uint32_t i = 0; i < pt2_program_n_nodes(p); i++)
        n += streq(pt2_program_node(p, i)->target, target);
    return n;
}

static const struct pt2_payload *payload(const char *name)
{
    return pt2_archive_find_payload(archive, name);
}

static bool deviates(const char *text)
{
    for (size_t i = 0; i < pt2_export_n_deviations(export); i++)
        if (strstr(pt2_export_deviation(export, i), text))
            return true;
    return false;
}

/* ---- what is made ---- */

START_TEST(test_quantized_weights_are_three_tensors)
{
    struct pt2_export_options options = {.quantization = {.linear = PT2_QUANT_8DA4W}};
    const struct pt2_payload *w;
    const int8_t *values, *zeros;
    const float *scales;

    OK(begin(TINY_LLAMA, &options));
    write_and_open();
    ck_assert_ptr_null(payload("model.model.layers.0.mlp.down_proj.weight"));
    w = payload("model.model.layers.0.mlp.down_proj" PARTS "0");
    ck_assert(w && w->dtype == PT2_INT8 && w->n_dims == 2 && w->is_param);
    ck_assert_int_eq(w->sizes[0], 8);
    ck_assert_int_eq(w->sizes[1], 12);
    values = pt2_archive_data(archive, w->record);
    w = payload("model.model.layers.0.mlp.down_proj" PARTS "1");
    ck_assert(w && w->dtype == PT2_FLOAT32 && w->sizes[0] == 8 && w->sizes[1] == 1);
    scales = pt2_archive_data(archive, w->record);
    w = payload("model.model.layers.0.mlp.down_proj" PARTS "2");
    ck_assert(w && w->dtype == PT2_INT8 && w->sizes[0] == 8 && w->sizes[1] == 1);
    zeros = pt2_archive_data(archive, w->record);
    for (int i = 0; i < 8; i++) {
        float last;

        OK(pt2_checkpoint_read(
            checkpoint,
            pt2_checkpoint_find_tensor(checkpoint, "model.layers.0.mlp.down_proj.weight"),
            (uint64_t)(48 * i + 44), &last, 4, &err));
        ck_assert_float_eq(scales[i], last / 7.5f); /* rows rise */
        ck_assert_int_eq(values[12 * i + 11], 7);
        ck_assert_int_eq(zeros[i], 0);
    }
    ck_assert_ptr_nonnull(payload("model.model.embed_tokens.weight"));
    ck_assert_ptr_nonnull(payload("model.model.norm.weight"));
    for (uint32_t i = 0; i < pt2_program_n_inputs(pt2_export_program(export)); i++) {
        const struct pt2_input *in = pt2_program_input(pt2_export_program(export), i);
        const struct pt2_value *v = pt2_program_value(pt2_export_program(export), in->value);

        ck_assert_msg(in->kind != PT2_INPUT_PARAMETER ||
                          v->meta.requires_grad != (strstr(in->fqn, PARTS) != NULL),
                      "%s", in->fqn);
    }
}
END_TEST

START_TEST(test_quantized_nodes_are_torchaos)
{
    static const struct {
        enum pt2_quant linear, embedding;
        unsigned n_choose, n_dequantize;
    } kinds[] = {
        {PT2_QUANT_8DA4W, PT2_QUANT_8W, 15, 15 + 15 + 1},
        {PT2_QUANT_8DA8W, PT2_QUANT_NONE, 15, 15 + 15},
        {PT2_QUANT_8W, PT2_QUANT_4W, 0, 15 + 1},
        {PT2_QUANT_NONE, PT2_QUANT_4W, 0, 1},
    };
    struct pt2_export_options options = {
        .profile = _i % 2 ? PT2_PROFILE_EDGE : PT2_PROFILE_TORCH,
        .quantization = {.linear = kinds[_i].linear, .embedding = kinds[_i].embedding}};

    OK(begin(TINY_LLAMA, &options));
    ck_assert_uint_eq(count_nodes("torch.ops.torchao.choose_qparams_affine.default"),
                      kinds[_i].n_choose);
    ck_assert_uint_eq(count_nodes("torch.ops.torchao.quantize_affine.default"),
                      kinds[_i].n_choose);
    ck_assert_uint_eq(count_nodes("torch.ops.torchao.dequantize_affine.default"),
                      kinds[_i].n_dequantize);
    write_and_open();
}
END_TEST

/* One record where head and table are the same numbers, whatever happens to the tokens. */
START_TEST(test_quantized_tied_head)
{
    struct pt2_export_options options = {
        .quantization = {.linear = _i ? PT2_QUANT_8DA4W : PT2_QUANT_8DA8W,
                         .embedding = PT2_QUANT_8W}};
    const struct pt2_payload *embed, *head;

    OK(begin(TIED, &options));
    ck_assert_uint_eq(pt2_export_n_parameters(export), TINY_PARAMETERS);
    ck_assert_int_eq(deviates("tied, but of two schemes"), _i);
    write_and_open();
    for (int part = 0; part < 3; part++) {
        char name[100];

        snprintf(name, sizeof(name), "model.model.embed_tokens" PARTS "%d", part);
        embed = payload(name);
        snprintf(name, sizeof(name), "model.lm_head" PARTS "%d", part);
        head = payload(name);
        ck_assert(embed && head && (embed->record == head->record) == (_i == 0));
    }
}
END_TEST

START_TEST(test_quantized_head_of_a_table_of_floats)
{
    struct pt2_export_options options = {.quantization = {.linear = PT2_QUANT_8W}};

    OK(begin(TIED, &options));
    write_and_open();
    ck_assert_ptr_nonnull(payload("model.model.embed_tokens.weight"));
    ck_assert_ptr_nonnull(payload("model.lm_head" PARTS "0"));
}
END_TEST

/* By an end, a beginning, or all of the path. */
START_TEST(test_quantized_skips_what_is_named)
{
    static const struct {
        const char *name;
        unsigned n_left; /* of 15 linears */
    } skips[] = {
        {"lm_head", 14},
        {"down_proj", 13},
        {"mlp.down_proj", 13},
        {"model.layers.0", 8},
        {"model.layers", 1},
        {"model.layers.1.mlp", 12},
        {"model.layers.1.self_attn.q_proj", 14},
        {"self_attn.q_proj", 13},
    };
    struct pt2_export_options options = {
        .quantization = {.linear = PT2_QUANT_8W, .n_skip = 1}};

    strcpy(options.quantization.skip[0], skips[_i].name);
    OK(begin(TINY_LLAMA, &options));
    ck_assert_uint_eq(count_nodes("torch.ops.torchao.dequantize_affine.default"),
                      skips[_i].n_left);
}
END_TEST

START_TEST(test_quantized_names_are_of_modules)
{
    static const char *const names[] = {"head",  "lm_head.weight", "down",
                                        "norm",  "model.layers.2", "layers",
                                        "proj_", ".down_proj"};
    struct pt2_export_options options = {
        .quantization = {.linear = PT2_QUANT_8W, .n_skip = 1}};

    strcpy(options.quantization.skip[0], names[_i]);
    ck_assert_int_eq(begin(TINY_LLAMA, &options), -1);
    ck_assert_int_eq(err.code, PT2_ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(err.text, names[_i]));
}
END_TEST

/* Rows of 8 and 12: floats, or what the fallback says. */
START_TEST(test_quantized_group_does_not_divide)
{
    struct pt2_export_options options = {
        .quantization = {.linear = PT2_QUANT_8DA4W,
                         .fallback = _i ? PT2_QUANT_8W : PT2_QUANT_NONE,
                         .group_size = 32}};

    OK(begin(TINY_LLAMA, &options));
    ck_assert_uint_eq(count_nodes("torch.ops.torchao.dequantize_affine.default"),
                      _i ? 15 : 0);
    ck_assert_uint_eq(count_nodes("torch.ops.torchao.choose_qparams_affine.default"), 0);
    ck_assert(deviates("does not divide the rows of 15"));
    ck_assert(deviates(_i ? "are 8w per channel" : "stay floats"));
    write_and_open();
}
END_TEST

START_TEST(test_quantized_experts_stay_floats)
{
    struct pt2_export_options options = {.quantization = {.linear = PT2_QUANT_8DA8W}};

    tiny_begin_moe(&model);
    tiny_tensor(&model, "model.layers.0.block_sparse_moe.experts.1.w2.weight", 8, 12);
    tiny_end(&model);
    OK(pt2_checkpoint_open(model.dir, &checkpoint, &err));
    OK(pt2_export_new(checkpoint, &options, &export, &err));
    ck_assert(deviates("experts and their routers stay floats"));
    ck_assert_uint_eq(count_nodes("torch.ops.torchao.choose_qparams_affine.default"), 5);
    write_and_open();
    ck_assert_ptr_nonnull(payload("model.model.layers.0.mlp.experts.down_proj"));
    ck_assert_ptr_nonnull(payload("model.model.layers.0.mlp.gate.weight"));
}
END_TEST

/* What means the same is the same: names in any order, members that nothing reads. */
START_TEST(test_quantized_options_resolve)
{
    struct pt2_export_options options = {
        .quantization = {.linear = PT2_QUANT_8W, .embedding_group_size = 64, .n_skip = 3}};
    const struct pt2_quantization *q;

    strcpy(options.quantization.skip[0], "lm_head");
    strcpy(options.quantization.skip[1], "down_proj");
    strcpy(options.quantization.skip[2], "lm_head");
    OK(begin(TINY_LLAMA, &options));
    q = &pt2_export_resolved(export)->quantization;
    ck_assert_uint_eq(q->n_skip, 2);
    ck_assert_str_eq(q->skip[0], "down_proj");
    ck_assert_str_eq(q->skip[1], "lm_head");
    ck_assert_int_eq(q->embedding_group_size, 0);
    ck_assert(!deviates("edge"));
}
END_TEST

/* ---- errors ---- */

static const struct pt2_quantization bad[] = {
    {.linear = PT2_QUANT_8W, .group_size = 48},
    {.linear = PT2_QUANT_8W, .group_size = -1},
    {.embedding = PT2_QUANT_8W, .embedding_group_size = 512},
    {.linear = PT2_QUANT_8W, .fallback = PT2_QUANT_8W},
    {.fallback = PT2_QUANT_8W, .group_size = 32},
    {.n_skip = 1, .skip = {"lm_head"}},
    {.linear = PT2_QUANT_8W, .n_skip = PT2_EXPORT_MAX_SKIP + 1},
    {.linear = PT2_QUANT_4W + 1},
    {.embedding = PT2_QUANT_8DA8W},
};

START_TEST(test_quantized_refuses_bad_options)
{
    struct pt2_export_options options = {.quantization = bad[_i]};

    ck_assert_int_eq(begin(TINY_LLAMA, &options), -1);
    ck_assert_msg(err.code == PT2_ERR_INVALID, "%s", err.text);
    ck_assert_ptr_nonnull(strstr(err.text, "quantization."));
}
END_TEST

START_TEST(test_quantized_survives_failing_allocations)
{
    static const struct pt2_export_options asked = {
        .quantization = {.linear = PT2_QUANT_8DA4W, .embedding = PT2_QUANT_8W}};

    tiny_begin(&model, TIED);
    tiny_end(&model);
    OK(pt2_checkpoint_open(model.dir, &checkpoint, &err));
    export_survives_no_memory(checkpoint, &asked);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("quantized_exports");
    TCase *core = tcase_create("core"), *errors = tcase_create("errors");

    tcase_add_checked_fixture(core, setup, teardown);
    tcase_add_test(core, test_quantized_weights_are_three_tensors);
    tcase_add_loop_test(core, test_quantized_nodes_are_torchaos, 0, 4);
    tcase_add_loop_test(core, test_quantized_tied_head, 0, 2);
    tcase_add_test(core, test_quantized_head_of_a_table_of_floats);
    tcase_add_loop_test(core, test_quantized_skips_what_is_named, 0, 8);
    tcase_add_loop_test(core, test_quantized_group_does_not_divide, 0, 2);
    tcase_add_test(core, test_quantized_experts_stay_floats);
    tcase_add_test(core, test_quantized_options_resolve);
    suite_add_tcase(suite, core);
    tcase_add_checked_fixture(errors, setup, teardown);
    tcase_add_loop_test(errors, test_quantized_names_are_of_modules, 0, 8);
    tcase_add_loop_test(errors, test_quantized_refuses_bad_options, 0,
                        (int)(sizeof(bad) / sizeof(bad[0])));
    tcase_add_test(errors, test_quantized_survives_failing_allocations);
    suite_add_tcase(suite, errors);
    return suite_run(suite);
}
