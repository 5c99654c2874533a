#include "suite.h"

#include "base/sha256.h"
#include "cases.h"
#include "export/spec.h"
#include "export_faults.h"
#include "tiny_model.h"

#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <pt2/archive.h>
#include <pt2/checkpoint.h>
#include <pt2/export.h>
#include <sys/stat.h>

#define OK(call) ck_assert_msg((call) == 0, "%s", err.text)

static struct pt2_err err;
static struct tiny_model model;
static struct pt2_checkpoint *checkpoint;
static struct pt2_export *export;
static struct pt2_archive *archive;
static char output[80];

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

/* Open what tiny_begin and tiny_tensor made, and begin the export of it. */
static int begin_export(const struct pt2_export_options *options)
{
    static const struct pt2_export_options none;

    tiny_end(&model);
    OK(pt2_checkpoint_open(model.dir, &checkpoint, &err));
    return pt2_export_new(checkpoint, options ? options : &none, &export, &err);
}

static int write_to(const char *name, uint8_t *sha256, uint64_t *bytes)
{
    AUTO_FD int fd = -1;

    snprintf(output, sizeof(output), "%s/%s", model.dir, name);
    fd = open(output, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    return pt2_export_write(export, fd, NULL, NULL, sha256, bytes, &err);
}

static void write_and_open(void)
{
    uint8_t sha256[SHA256_BYTES];
    uint64_t bytes;

    OK(write_to("out.pt2", sha256, &bytes));
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

static const struct pt2_node *find_node(const char *target)
{
    const struct pt2_program *p = pt2_export_program(export);

    for (uint32_t i = 0; i < pt2_program_n_nodes(p); i++)
        if (streq(pt2_program_node(p, i)->target, target))
            return pt2_program_node(p, i);
    return NULL;
}

static const char *input_fqn(uint32_t i)
{
    return pt2_program_input(pt2_export_program(export), i)->fqn;
}

/* ---- graphs ---- */

START_TEST(test_export_graph_is_a_decoder)
{
    const struct pt2_program *p;
    struct pt2_decoder d;

    tiny_begin(&model, TINY_LLAMA);
    tiny_tensor(&model, "lm_head.weight", 10, 8);
    OK(begin_export(NULL));
    p = pt2_export_program(export);
    OK(pt2_program_decoder(p, &d, &err));
    ck_assert_int_eq(d.batch_size, 1);
    ck_assert_int_eq(d.seq_len, 1);
    ck_assert_int_eq(d.max_cache_len, 32);
    ck_assert_int_eq(d.vocab_size, 10);
    ck_assert_int_eq(d.n_layers, 2);
    ck_assert(d.logits_all_rows);
    /* parameters in the order in which they are used, then buffers, then user inputs */
    ck_assert_uint_eq(pt2_program_n_inputs(p), 1 + 2 * 9 + 2 + 1 + 2 * 2 + 2);
    ck_assert_str_eq(input_fqn(0), "model.model.embed_tokens.weight");
    ck_assert_str_eq(input_fqn(1), "model.model.layers.0.input_layernorm.weight");
    ck_assert_str_eq(input_fqn(19), "model.model.norm.weight");
    ck_assert_str_eq(input_fqn(20), "model.lm_head.weight");
    ck_assert_str_eq(input_fqn(21), "model.model.rotary_emb.inv_freq");
    ck_assert_str_eq(input_fqn(22), "key_cache_0");
    ck_assert_str_eq(input_fqn(25), "value_cache_1");
    ck_assert_str_eq(pt2_program_value(p, pt2_program_input(p, 26)->value)->name,
                     "input_ids");
    ck_assert_str_eq(pt2_program_value(p, pt2_program_input(p, 27)->value)->name,
                     "cache_position");
    ck_assert_uint_eq(count_nodes("torch.ops.aten.index_copy_.default"), 4);
    ck_assert_uint_eq(count_nodes("torch.ops.aten.scaled_dot_product_attention.default"),
                      2);
    ck_assert_uint_eq(count_nodes("torch.ops.aten.linear.default"), 2 * 7 + 1);
    ck_assert_uint_eq(count_nodes("torch.ops.aten.rsqrt.default"), 2 * 2 + 1);
    /* float32 needs casts of the positions alone */
    ck_assert_uint_eq(count_nodes("torch.ops.aten.to.dtype"), 1);
}
END_TEST

/* enable_gqa where heads share keys, and only there. */
START_TEST(test_export_grouped_attention_says_so)
{
    static const char *const configs[] = {
        TINY_LLAMA, "{\"model_type\":\"llama\",\"tie_word_embeddings\":true,"
                    "\"hidden_size\":8,\"intermediate_size\":12,\"num_hidden_layers\":2,"
                    "\"num_attention_heads\":1,\"num_key_value_heads\":1,\"head_dim\":8,"
                    "\"vocab_size\":10}"};
    bool is_shared = _i == 0;
    const struct pt2_node *node;

    tiny_begin(&model, configs[_i]);
    if (is_shared) {
        tiny_tensor(&model, "lm_head.weight", 10, 8);
        OK(begin_export(NULL));
        node = find_node("torch.ops.aten.scaled_dot_product_attention.default");
        ck_assert_uint_eq(node->n_inputs, 6);
        ck_assert_str_eq(node->inputs[5].name, "enable_gqa");
        ck_assert(node->inputs[5].arg.b && node->inputs[5].kind == 2);
        ck_assert_double_eq(node->inputs[4].arg.f, 0.5); /* 4 ** -0.5 */
    } else {
        /* its k and v are of 8 rows, which the tiny layers lack: refused with both shapes
         */
        ck_assert_int_eq(begin_export(NULL), -1);
        ck_assert_int_eq(err.code, PT2_ERR_BAD_CHECKPOINT);
        ck_assert_ptr_nonnull(strstr(err.text, "(4, 8), config.json says (8, 8)"));
    }
}
END_TEST

START_TEST(test_export_tied_head_takes_the_embedding)
{
    const struct pt2_payload *embed, *head;
    const struct pt2_node *node;
    const struct pt2_program *p;

    tiny_begin(&model,
               "{\"model_type\":\"llama\",\"tie_word_embeddings\":true," TINY_SIZES "}");
    OK(begin_export(NULL));
    p = pt2_export_program(export);
    ck_assert_uint_eq(pt2_export_n_parameters(export), TINY_PARAMETERS);
    ck_assert_uint_eq(pt2_program_n_inputs(p), 1 + 2 * 9 + 1 + 1 + 2 * 2 + 2);
    node = pt2_program_node(p, pt2_program_n_nodes(p) - 1);
    ck_assert_str_eq(node->target, "torch.ops.aten.linear.default");
    ck_assert_uint_eq(node->inputs[1].arg.value, pt2_program_input(p, 0)->value);
    write_and_open();
    embed = pt2_archive_find_payload(archive, "model.model.embed_tokens.weight");
    head = pt2_archive_find_payload(archive, "model.lm_head.weight");
    ck_assert(embed && head && embed->record == head->record && head->is_param);
    ck_assert_uint_eq(pt2_export_n_deviations(export), 0);
}
END_TEST

/* transformers ties to whichever of the two is there, and to neither where both are. */
START_TEST(test_export_ties_as_the_checkpoint_allows)
{
    tiny_begin(&model,
               "{\"model_type\":\"llama\",\"tie_word_embeddings\":true," TINY_SIZES "}");
    tiny_tensor(&model, "lm_head.weight", 10, 8);
    OK(begin_export(NULL));
    ck_assert_uint_eq(pt2_export_n_parameters(export), TINY_PARAMETERS + 80);
    ck_assert_uint_eq(pt2_export_n_deviations(export), 1);
    ck_assert_ptr_nonnull(strstr(pt2_export_deviation(export, 0), "tie_word_embeddings"));
    write_and_open();
    ck_assert_ptr_ne(
        pt2_archive_find_payload(archive, "model.model.embed_tokens.weight")->record,
        pt2_archive_find_payload(archive, "model.lm_head.weight")->record);
}
END_TEST

/* An untied file of a tied model, as some converters write: one record for both. */
START_TEST(test_export_ties_what_is_equal)
{
    char path[200];
    float both[80];
    FILE *f;

    tiny_begin(&model,
               "{\"model_type\":\"llama\",\"tie_word_embeddings\":true," TINY_SIZES "}");
    tiny_tensor(&model, "lm_head.weight", 10, 8);
    tiny_end(&model);
    snprintf(path, sizeof(path), "%s/model.safetensors", model.dir);
    f = fopen(path, "r+b");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(fseek(f, (long)(8 + model.n_header + 1), SEEK_SET), 0);
    ck_assert_uint_eq(fread(both, sizeof(both), 1, f), 1);
    ck_assert_int_eq(fseek(f, -(long)sizeof(both), SEEK_END), 0);
    ck_assert_uint_eq(fwrite(both, sizeof(both), 1, f), 1);
    ck_assert_int_eq(fclose(f), 0);
    OK(pt2_checkpoint_open(model.dir, &checkpoint, &err));
    OK(pt2_export_new(checkpoint, &(struct pt2_export_options){0}, &export, &err));
    ck_assert_uint_eq(pt2_export_n_parameters(export), TINY_PARAMETERS);
    ck_assert_uint_eq(pt2_export_n_deviations(export), 0);
    write_and_open();
    ck_assert_ptr_eq(
        pt2_archive_find_payload(archive, "model.model.embed_tokens.weight")->record,
        pt2_archive_find_payload(archive, "model.lm_head.weight")->record);
}
END_TEST

/* One mask for all layers of a window; none where the window is as long as the cache. */
START_TEST(test_export_window_is_a_mask)
{
    struct pt2_export_options options = {.max_cache_len = _i == 0 ? 16 : 8};

    tiny_begin(&model, "{\"model_type\":\"mistral\",\"tie_word_embeddings\":true,"
                       "\"sliding_window\":8," TINY_SIZES "}");
    OK(begin_export(&options));
    ck_assert_uint_eq(count_nodes("torch.ops.aten.__and__.Tensor"), _i == 0 ? 1 : 0);
    ck_assert_uint_eq(count_nodes("torch.ops.aten.le.Tensor"), 1);
    if (_i == 0) {
        const struct pt2_node *sub = find_node("torch.ops.aten.sub.Tensor");

        ck_assert_int_eq(sub->inputs[1].arg.i, 8);
    }
}
END_TEST

START_TEST(test_export_dynamic_length_is_a_symbol)
{
    struct pt2_export_options options = {.dynamic_shapes = true, .batch_size = 2};
    const struct pt2_program *p;
    const struct pt2_tensor_meta *meta;
    struct pt2_decoder d;

    tiny_begin(&model, TINY_LLAMA);
    tiny_tensor(&model, "lm_head.weight", 10, 8);
    OK(begin_export(&options));
    p = pt2_export_program(export);
    OK(pt2_program_decoder(p, &d, &err));
    ck_assert_int_eq(d.seq_len, 0);
    ck_assert_int_eq(d.max_seq_len, 32);
    ck_assert_int_eq(d.batch_size, 2);
    ck_assert_uint_eq(pt2_program_n_ranges(p), 1);
    ck_assert_int_eq(pt2_program_range(p, 0)->min, 1);
    ck_assert_int_eq(pt2_program_range(p, 0)->max, 32);
    meta = &pt2_program_value(p, pt2_program_output(p, 0)->arg.value)->meta;
    ck_assert_int_eq(meta->sizes[0].value, 2);
    ck_assert_str_eq(meta->sizes[1].expr, "s0");
    ck_assert_int_gt(meta->sizes[1].value,
                     1); /* else ExecuTorch takes it for a constant */
    ck_assert_int_eq(meta->sizes[2].value, 10);
}
END_TEST

/* The rounding points of eager: norms in float32, their weight in the dtype, cos and sin
 * in float32 until their end. */
START_TEST(test_export_half_precision_casts)
{
    struct pt2_export_options options = {.dtype = PT2_BFLOAT16};

    tiny_begin(&model, TINY_LLAMA);
    tiny_tensor(&model, "lm_head.weight", 10, 8);
    OK(begin_export(&options));
    /* two a norm, five norms; the positions; cos and sin */
    ck_assert_uint_eq(count_nodes("torch.ops.aten.to.dtype"), 2 * 5 + 1 + 2);
    ck_assert_uint_eq(pt2_export_cache_bytes(export), 2 * 2 * 32 * 4 * 2);
}
END_TEST

/* ---- files ---- */

START_TEST(test_export_file_is_as_announced)
{
    uint8_t first[SHA256_BYTES], second[SHA256_BYTES];
    struct pt2_program *program = NULL;
    uint64_t bytes = 0;
    struct stat st;

    tiny_begin(&model, TINY_LLAMA);
    tiny_tensor(&model, "lm_head.weight", 10, 8);
    tiny_put(&model, "tokenizer.json", "{\"a\": \"\xc3\xa4\"}", 11);
    OK(begin_export(NULL));
    OK(write_to("one.pt2", first, &bytes));
    ck_assert_int_eq(stat(output, &st), 0);
    ck_assert_uint_eq(bytes, (uint64_t)st.st_size);
    ck_assert_uint_eq(bytes, pt2_export_program_bytes(export));
    OK(write_to("two.pt2", second, &bytes));
    ck_assert_mem_eq(first, second, sizeof(first));
    OK(pt2_archive_open(output, &archive, &err));
    OK(pt2_program_read(archive, &program,
                        &err)); /* checks each payload against the graph */
    pt2_program_free(program);
}
END_TEST

/* Element i of the file is 0.001 * i: each weight must be where it was, and converted. */
START_TEST(test_export_weights_are_the_checkpoints)
{
    struct pt2_export_options options = {.dtype = PT2_BFLOAT16};
    const struct pt2_payload *w;
    const struct pt2_checkpoint_tensor *t;
    const uint16_t *data;

    tiny_begin(&model, TINY_LLAMA);
    tiny_tensor(&model, "lm_head.weight", 10, 8);
    OK(begin_export(&options));
    write_and_open();
    w = pt2_archive_find_payload(archive, "model.model.layers.1.self_attn.k_proj.weight");
    t = pt2_checkpoint_find_tensor(checkpoint, "model.layers.1.self_attn.k_proj.weight");
    ck_assert(w && t && w->dtype == PT2_BFLOAT16);
    ck_assert_int_eq(w->sizes[0], 4);
    ck_assert_int_eq(w->sizes[1], 8);
    data = pt2_archive_data(archive, w->record);
    for (size_t i = 0; i < 32; i++) {
        float value, got;
        uint32_t u = (uint32_t)data[i] << 16;

        OK(pt2_checkpoint_read(checkpoint, t, 4 * i, &value, 4, &err));
        memcpy(&got, &u, 4);
        ck_assert_float_eq_tol(got, value, value / 256);
        ck_assert_float_gt(value, 0.5f); /* the test sees something */
    }
}
END_TEST

/* gate_up_proj is expert 0's w1, its w3, expert 1's w1, ... wherever these lie. */
START_TEST(test_export_stacks_experts)
{
    static const struct {
        const char *weight, *part;
        size_t first; /* element of the weight */
    } parts[] = {
        {"gate_up_proj", "0.w1", 0},   {"gate_up_proj", "0.w3", 96},
        {"gate_up_proj", "1.w1", 192}, {"gate_up_proj", "1.w3", 288},
        {"down_proj", "0.w2", 0},      {"down_proj", "1.w2", 96},
    };
    char name[100];

    tiny_begin_moe(&model);
    tiny_tensor(&model, "model.layers.0.block_sparse_moe.experts.1.w2.weight", 8, 12);
    OK(begin_export(NULL));
    write_and_open();
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        const struct pt2_checkpoint_tensor *t;
        const struct pt2_payload *w;
        float value;

        snprintf(name, sizeof(name), "model.model.layers.0.mlp.experts.%s",
                 parts[i].weight);
        w = pt2_archive_find_payload(archive, name);
        snprintf(name, sizeof(name), "model.layers.0.block_sparse_moe.experts.%s.weight",
                 parts[i].part);
        t = pt2_checkpoint_find_tensor(checkpoint, name);
        ck_assert(w && t && w->n_dims == 3);
        ck_assert_int_eq(w->sizes[0], 2);
        for (size_t j = 0; j < 96; j++) {
            const float *data = pt2_archive_data(archive, w->record);

            OK(pt2_checkpoint_read(checkpoint, t, 4 * j, &value, 4, &err));
            ck_assert_float_eq(data[parts[i].first + j], value);
        }
    }
    ck_assert_ptr_nonnull(
        pt2_archive_find_payload(archive, "model.model.layers.0.mlp.gate.weight"));
}
END_TEST

START_TEST(test_export_experts_are_ops_of_aten)
{
    struct pt2_export_options options = {.dynamic_shapes = true, .batch_size = 3};
    const struct pt2_program *p;
    const struct pt2_node *n;

    tiny_begin_moe(&model);
    tiny_tensor(&model, "model.layers.0.block_sparse_moe.experts.1.w2.weight", 8, 12);
    OK(begin_export(&options));
    p = pt2_export_program(export);
    for (uint32_t i = 0; i < pt2_program_n_nodes(p); i++)
        ck_assert_int_eq(strncmp(pt2_program_node(p, i)->target, "torch.ops.aten.", 15), 0);
    ck_assert_uint_eq(count_nodes("torch.ops.aten.bmm.default"), 2);
    n = find_node("torch.ops.aten.topk.default");
    ck_assert_str_eq(n->name, "topk");
    ck_assert_uint_eq(n->n_outputs, 2);
    ck_assert_str_eq(pt2_program_value(p, n->outputs[1].value)->name, "getitem_1");
    n = find_node("torch.ops.aten.repeat_interleave.self_int"); /* a row a token's expert */
    ck_assert_str_eq(pt2_program_value(p, n->outputs[0].value)->meta.sizes[0].expr, "6*s0");
}
END_TEST

START_TEST(test_export_caches_take_no_room)
{
    struct pt2_export_options options = {.max_cache_len = 1 << 20};
    const struct pt2_payload *cache;
    struct stat st;

    tiny_begin(&model, TINY_LLAMA);
    tiny_tensor(&model, "lm_head.weight", 10, 8);
    OK(begin_export(&options));
    write_and_open();
    ck_assert_int_eq(stat(output, &st), 0);
    ck_assert_int_lt(st.st_size, 100000);
    cache = pt2_archive_find_payload(archive, "key_cache_1");
    ck_assert(cache && cache->is_zeros && cache->is_constant && !cache->is_param);
    ck_assert_int_eq(cache->sizes[2], 1 << 20);
    /* beyond max_position_embeddings: said, not refused */
    ck_assert_uint_eq(pt2_export_n_deviations(export), 1);
}
END_TEST

static json_t *extra_json(const char *name)
{
    const struct pt2_record *record = pt2_archive_find(archive, name);
    AUTO_PTR void *data = NULL;
    json_t *json;
    size_t len;

    ck_assert_msg(record != NULL, "%s", name);
    OK(pt2_archive_read(archive, record, 1 << 20, &data, &len, &err));
    json = json_loadb(data, len, 0, NULL);
    ck_assert_ptr_nonnull(json);
    return json;
}

START_TEST(test_export_extras_say_what_a_runner_needs)
{
    static const char generation[] = "{\"bos_token_id\":1,\"eos_token_id\":[2,3]}";
    json_auto_t *got = NULL, *want = NULL;

    tiny_begin(&model, "{\"model_type\":\"llama\",\"tie_word_embeddings\":true,"
                       "\"bos_token_id\":7,\"eos_token_id\":8," TINY_SIZES "}");
    tiny_put(&model, "generation_config.json", generation, strlen(generation));
    OK(begin_export(NULL));
    write_and_open();
    got = extra_json("extra/executorch_metadata.json");
    want =
        json_pack("{s:i, s:[i,i], s:i, s:i, s:i, s:b, s:b}", "get_bos_id", 1,
                  "get_eos_ids", 2, 3, "get_max_seq_len", 32, "get_max_context_len", 32,
                  "get_vocab_size", 10, "use_kv_cache", 1, "enable_dynamic_shape", 0);
    ck_assert(json_equal(got, want));
    ck_assert_ptr_nonnull(pt2_archive_find(archive, "extra/config.json"));
    ck_assert_ptr_nonnull(pt2_archive_find(archive, "extra/generation_config.json"));
    ck_assert_ptr_null(pt2_archive_find(archive, "extra/tokenizer.json"));
}
END_TEST

/* torch.export.load fails on extra files that are not UTF-8, so they go in as base64; and
 * a character that lies across two slices is no reason to. */
START_TEST(test_export_extras_are_utf8)
{
    enum { N = 100001 };
    static char text[N];
    AUTO_PTR void *data = NULL;
    size_t len;

    for (size_t i = 0; i + 1 < N; i += 2)
        memcpy(text + 1 + i, "\xc3\xa4", 2);
    text[0] = 'x'; /* all characters now begin at odd places */
    tiny_begin(&model, TINY_LLAMA);
    tiny_tensor(&model, "lm_head.weight", 10, 8);
    tiny_put(&model, "vocab.json", text, N);
    tiny_put(&model, "merges.txt", text, N - 1); /* cut within a character */
    tiny_put(&model, "tokenizer.model", "\n\x0a\xff\x00", 4);
    OK(begin_export(NULL));
    write_and_open();
    ck_assert_ptr_nonnull(pt2_archive_find(archive, "extra/vocab.json"));
    ck_assert_ptr_nonnull(pt2_archive_find(archive, "extra/merges.txt.base64"));
    OK(pt2_archive_read(archive,
                        pt2_archive_find(archive, "extra/tokenizer.model.base64"), 100,
                        &data, &len, &err));
    ck_assert_str_eq(data, "Cgr/AA==");
    ck_assert_uint_eq(pt2_export_n_deviations(export), 2);
}
END_TEST

START_TEST(test_export_describes_a_model)
{
    struct pt2_model_info info;

    tiny_begin(&model,
               "{\"model_type\":\"llama\",\"architectures\":[\"LlamaForCausalLM\"],"
               "\"torch_dtype\":\"bfloat16\",\"hidden_act\":\"mish\"," TINY_SIZES "}");
    tiny_tensor(&model, "lm_head.weight", 10, 8);
    tiny_end(&model);
    OK(pt2_checkpoint_open(model.dir, &checkpoint, &err));
    OK(pt2_model_describe(checkpoint, &info, &err));
    ck_assert_str_eq(info.model_type, "llama");
    ck_assert_str_eq(info.architecture, "LlamaForCausalLM");
    ck_assert_int_eq(info.dtype, PT2_BFLOAT16);
    ck_assert_uint_eq(info.parameters, TINY_PARAMETERS + 80);
    ck_assert_uint_gt(info.bytes, 4 * info.parameters);
    ck_assert_int_eq(info.max_position_embeddings, 32);
    ck_assert_int_eq(info.vocab_size, 10);
    ck_assert(!info.exportable);
    ck_assert_ptr_nonnull(strstr(info.reason, "hidden_act: 'mish'"));
}
END_TEST

/* ---- errors ---- */

static int read_spec(const char *dir, struct pt2_err *ret_err)
{
    struct decoder_spec spec;
    json_auto_t *config = NULL;
    char path[700];

    snprintf(path, sizeof(path), "%s/config.json", dir);
    config = json_load_file(path, 0, NULL);
    ck_assert_msg(config != NULL, "%s", path);
    return decoder_spec_read(config, &spec, ret_err);
}

/* A float32 constant of the archive. */
static const float *constant_of(const char *fqn, unsigned n_dims, int64_t rows, int64_t n)
{
    const struct pt2_payload *p = pt2_archive_find_payload(archive, fqn);

    ck_assert_msg(p && p->n_dims == n_dims, "%s", fqn);
    ck_assert_int_eq(p->sizes[0], rows);
    ck_assert_int_eq(p->sizes[n_dims - 1], n);
    return pt2_archive_data(archive, p->record);
}

START_TEST(test_export_edge_is_of_tables_and_products)
{
    const struct pt2_export_options edge = {.profile = PT2_PROFILE_EDGE, .max_cache_len = 8};
    const float *cos_rows, *turn, *mask, *mean;
    struct pt2_decoder d;

    tiny_begin(&model, TINY_LLAMA);
    tiny_tensor(&model, "lm_head.weight", 10, 8);
    OK(begin_export(&edge));
    ck_assert_int_eq(pt2_export_resolved(export)->dtype, PT2_FLOAT32);
    OK(pt2_program_decoder(pt2_export_program(export), &d, &err));
    ck_assert_int_eq(d.max_cache_len, 8);
    ck_assert_int_eq(d.n_layers, 2);
    ck_assert_uint_eq(count_nodes("torch.ops.aten.index_select.default"), 3);
    ck_assert_uint_eq(count_nodes("torch.ops.aten.index_copy_.default"), 4);
    ck_assert_uint_eq(count_nodes("torch.ops.aten.bmm.default"), 4);
    ck_assert_uint_eq(count_nodes("torch.ops.aten.mean.dim"), 0);
    ck_assert_uint_eq(count_nodes("torch.ops.aten.slice.Tensor"), 0);
    write_and_open();
    cos_rows = constant_of("model.model.rotary_emb.cos", 2, 8, 4);
    for (int i = 0; i < 8 * 4; i++) /* two frequencies: 1 and 1 / 100 */
        ck_assert_float_eq(cos_rows[i],
                           (float)cos((double)((float)(i / 4) * (i % 2 ? 0.01F : 1.0F))));
    turn = constant_of("model.model.rotary_emb.turn", 2, 4, 4);
    for (int i = 0; i < 4 * 4; i++)
        ck_assert_float_eq(turn[i], i == 2 || i == 7 ? -1 : i == 8 || i == 13 ? 1 : 0);
    mask = constant_of("causal_mask", 2, 8, 8);
    for (int i = 0; i < 8 * 8; i++)
        ck_assert_float_eq(mask[i], i % 8 <= i / 8 ? 0 : -1e30F);
    mean = constant_of("mean_8", 2, 1, 8);
    for (int i = 0; i < 8; i++)
        ck_assert_float_eq(mean[i], 0.125F);
}
END_TEST

/* Positions before heads, in caches, queries and the rows of tables: nothing is transposed. */
START_TEST(test_export_custom_ops_begin_at_the_first_position)
{
    const struct pt2_export_options custom = {
        .profile = PT2_PROFILE_EDGE, .custom_ops = true, .max_cache_len = 8};
    const struct pt2_program *program;
    const struct pt2_range *range;
    const struct pt2_value *cache;
    struct pt2_decoder d;

    tiny_begin(&model, TINY_LLAMA);
    tiny_tensor(&model, "lm_head.weight", 10, 8);
    OK(begin_export(&custom));
    program = pt2_export_program(export);
    ck_assert_uint_eq(pt2_export_n_deviations(export), 1);
    ck_assert_ptr_nonnull(strstr(pt2_export_deviation(export, 0), "llama::custom_sdpa"));
    OK(pt2_program_decoder(program, &d, &err));
    ck_assert_int_eq(d.max_cache_len, 8);
    ck_assert_int_eq(d.n_layers, 2);
    ck_assert_uint_eq(count_nodes("torch.ops.llama.update_cache.default"), 4);
    ck_assert_uint_eq(count_nodes("torch.ops.llama.custom_sdpa.default"), 2);
    ck_assert_uint_eq(count_nodes("torch.ops.aten.item.default"), 1);
    ck_assert_uint_eq(count_nodes("torch.ops.aten.index_select.default"), 2);
    ck_assert_uint_eq(count_nodes("torch.ops.aten.transpose.int"), 0);
    ck_assert_uint_eq(count_nodes("torch.ops.aten.index_copy_.default"), 0);
    cache = pt2_program_value(program,
                              (uint32_t)pt2_program_find_value(program, "b_key_cache_0"));
    ck_assert_uint_eq(cache->meta.n_dims, 4);
    ck_assert_int_eq(cache->meta.sizes[1].value, 8);
    range = pt2_program_range(program, 0);
    ck_assert_str_eq(range->symbol, "u0");
    ck_assert_int_eq(range->min, 0);
    ck_assert_int_eq(range->max, 7);
    write_and_open();
    ck_assert_ptr_null(pt2_archive_find_payload(archive, "causal_mask"));
    ck_assert_ptr_nonnull(constant_of("model.model.rotary_emb.cos", 3, 8, 4));
}
END_TEST

START_TEST(test_export_refuses_what_it_does_not_understand)
{
    cases_run("config-refused", read_spec);
}
END_TEST

START_TEST(test_export_wants_every_tensor)
{
    tiny_begin(&model, TINY_LLAMA);
    ck_assert_int_eq(begin_export(NULL), -1);
    ck_assert_int_eq(err.code, PT2_ERR_BAD_CHECKPOINT);
    ck_assert_ptr_nonnull(strstr(err.text, "tensor 'lm_head.weight' is missing"));
}
END_TEST

/* The first by name, all by their number. */
START_TEST(test_export_counts_what_is_missing)
{
    tiny_begin(&model, "{\"model_type\":\"qwen2\"," TINY_SIZES "}");
    ck_assert_int_eq(begin_export(NULL), -1);
    ck_assert_int_eq(err.code, PT2_ERR_BAD_CHECKPOINT);
    ck_assert_msg(strstr(err.text, "tensors 'model.layers.0.self_attn.q_proj.bias', "
                                   "'model.layers.0.self_attn.k_proj.bias', "
                                   "'model.layers.0.self_attn.v_proj.bias' and 4 more "
                                   "are missing"),
                  "%s", err.text);
}
END_TEST

START_TEST(test_export_wants_every_expert)
{
    tiny_begin_moe(&model);
    ck_assert_int_eq(begin_export(NULL), -1);
    ck_assert_int_eq(err.code, PT2_ERR_BAD_CHECKPOINT);
    ck_assert_ptr_nonnull(strstr(
        err.text, "'model.layers.0.block_sparse_moe.experts.1.w2.weight' is missing"));
}
END_TEST

START_TEST(test_export_wants_experts_of_one_shape)
{
    tiny_begin_moe(&model);
    tiny_tensor(&model, "model.layers.0.block_sparse_moe.experts.1.w2.weight", 12, 8);
    ck_assert_int_eq(begin_export(NULL), -1);
    ck_assert_int_eq(err.code, PT2_ERR_BAD_CHECKPOINT);
    ck_assert_ptr_nonnull(
        strstr(err.text, "experts.1.w2.weight' is (12, 8), config.json says (8, 12)"));
}
END_TEST

/* As Transformers, which warns: a bias that config.json does not speak of is left out, and
 * that is said. */
START_TEST(test_export_names_tensors_too_many)
{
    tiny_begin(&model, TINY_LLAMA);
    tiny_tensor(&model, "lm_head.weight", 10, 8);
    tiny_tensor(&model, "model.layers.0.self_attn.rotary_emb.inv_freq", 2,
                0); /* old, fine */
    tiny_tensor(&model, "model.layers.0.self_attn.k_scale", 1, 0);
    tiny_tensor(&model, "model.layers.1.self_attn.q_proj.bias", 8, 0);
    tiny_layer(&model, 2);
    OK(begin_export(NULL));
    ck_assert_uint_eq(pt2_export_n_parameters(export), TINY_PARAMETERS + 80);
    ck_assert_uint_eq(pt2_export_n_deviations(export), 1);
    ck_assert_msg(
        strstr(pt2_export_deviation(export, 0), "10 tensors of the checkpoint are no part "
                                                "of the llama model") &&
            strstr(pt2_export_deviation(export, 0),
                   "'model.layers.1.self_attn.q_proj.bias', "
                   "'model.layers.2.input_layernorm.weight', "
                   "'model.layers.2.mlp.down_proj.weight' and 7 more."),
        "%s", pt2_export_deviation(export, 0));
}
END_TEST

START_TEST(test_export_refuses_integer_weights)
{
    tiny_begin(&model, TINY_LLAMA);
    tiny_tensor_of(&model, "lm_head.weight", "I32", 10, 8);
    ck_assert_int_eq(begin_export(NULL), -1);
    ck_assert_int_eq(err.code, PT2_ERR_NOT_EXPORTABLE);
    ck_assert_ptr_nonnull(strstr(err.text, "'lm_head.weight' is of dtype I32"));
}
END_TEST

static const struct pt2_export_options bad_options[] = {
    {.batch_size = -1},
    {.batch_size = PT2_EXPORT_MAX_BATCH + 1},
    {.max_cache_len = -1},
    {.max_cache_len = PT2_EXPORT_MAX_CACHE_LEN + 1},
    {.seq_len = -1},
    {.seq_len = 33}, /* beyond the default of max_cache_len */
    {.seq_len = 5, .max_cache_len = 4},
    {.dtype = PT2_INT8},
    {.dynamic_shapes = true, .max_cache_len = 1},
    {.batch_size = 1024, .seq_len = 2048, .max_cache_len = 4096},
    {.profile = PT2_PROFILE_EDGE, .dtype = PT2_BFLOAT16},
    {.profile = PT2_PROFILE_EDGE, .batch_size = 2},
    {.custom_ops = true},
    {.profile = PT2_PROFILE_EDGE, .custom_ops = true, .cache = PT2_CACHE_HYBRID},
};

START_TEST(test_export_refuses_bad_options)
{
    tiny_begin(&model, TINY_LLAMA);
    tiny_tensor(&model, "lm_head.weight", 10, 8);
    ck_assert_int_eq(begin_export(&bad_options[_i]), -1);
    ck_assert_msg(err.code == PT2_ERR_INVALID, "%s", err.text);
}
END_TEST

START_TEST(test_export_notices_a_checkpoint_that_changed)
{
    uint8_t sha256[SHA256_BYTES];
    uint64_t bytes;

    tiny_begin(&model, TINY_LLAMA);
    tiny_tensor(&model, "lm_head.weight", 10, 8);
    OK(begin_export(NULL));
    tiny_end(&model); /* the same bytes, but written anew */
    ck_assert_int_eq(write_to("out.pt2", sha256, &bytes), -1);
    ck_assert_int_eq(err.code, PT2_ERR_CHECKPOINT_CHANGED);
}
END_TEST

START_TEST(test_export_full_disk_is_an_error)
{
    uint8_t sha256[SHA256_BYTES];
    uint64_t bytes;
    AUTO_FD int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);

    tiny_begin(&model, TINY_LLAMA);
    tiny_tensor(&model, "lm_head.weight", 10, 8);
    OK(begin_export(NULL));
    ck_assert_int_eq(pt2_export_write(export, fd, NULL, NULL, sha256, &bytes, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_NO_SPACE);
}
END_TEST

START_TEST(test_export_survives_failing_allocations)
{
    static const struct pt2_export_options asked = {.dynamic_shapes = true};

    if (_i == 0) {
        tiny_begin(&model, TINY_LLAMA);
        tiny_tensor(&model, "lm_head.weight", 10, 8);
    } else {
        tiny_begin_moe(&model);
        tiny_tensor(&model, "model.layers.0.block_sparse_moe.experts.1.w2.weight", 8, 12);
    }
    tiny_put(&model, "tokenizer.json", "{}", 2);
    tiny_end(&model);
    OK(pt2_checkpoint_open(model.dir, &checkpoint, &err));
    export_survives_no_memory(checkpoint, &asked);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("export");
    TCase *core = tcase_create("core"), *errors = tcase_create("errors");

    tcase_add_checked_fixture(core, setup, teardown);
    tcase_add_test(core, test_export_graph_is_a_decoder);
    tcase_add_test(core, test_export_edge_is_of_tables_and_products);
    tcase_add_test(core, test_export_custom_ops_begin_at_the_first_position);
    tcase_add_loop_test(core, test_export_grouped_attention_says_so, 0, 2);
    tcase_add_test(core, test_export_tied_head_takes_the_embedding);
    tcase_add_test(core, test_export_ties_as_the_checkpoint_allows);
    tcase_add_test(core, test_export_ties_what_is_equal);
    tcase_add_loop_test(core, test_export_window_is_a_mask, 0, 2);
    tcase_add_test(core, test_export_dynamic_length_is_a_symbol);
    tcase_add_test(core, test_export_half_precision_casts);
    tcase_add_test(core, test_export_file_is_as_announced);
    tcase_add_test(core, test_export_weights_are_the_checkpoints);
    tcase_add_test(core, test_export_stacks_experts);
    tcase_add_test(core, test_export_experts_are_ops_of_aten);
    tcase_add_test(core, test_export_caches_take_no_room);
    tcase_add_test(core, test_export_extras_say_what_a_runner_needs);
    tcase_add_test(core, test_export_extras_are_utf8);
    tcase_add_test(core, test_export_describes_a_model);
    suite_add_tcase(suite, core);
    tcase_add_test(errors, test_export_refuses_what_it_does_not_understand);
    suite_add_tcase(suite, errors);
    errors = tcase_create("broken checkpoints");
    tcase_add_checked_fixture(errors, setup, teardown);
    tcase_add_test(errors, test_export_wants_every_tensor);
    tcase_add_test(errors, test_export_counts_what_is_missing);
    tcase_add_test(errors, test_export_wants_every_expert);
    tcase_add_test(errors, test_export_wants_experts_of_one_shape);
    tcase_add_test(core, test_export_names_tensors_too_many);
    tcase_add_test(errors, test_export_refuses_integer_weights);
    tcase_add_loop_test(errors, test_export_refuses_bad_options, 0,
                        (int)ARRAY_LEN(bad_options));
    tcase_add_test(errors, test_export_notices_a_checkpoint_that_changed);
    tcase_add_test(errors, test_export_full_disk_is_an_error);
    tcase_add_loop_test(errors, test_export_survives_failing_allocations, 0, 2);
    tcase_set_timeout(errors, 120);
    suite_add_tcase(suite, errors);
    return suite_run(suite);
}
