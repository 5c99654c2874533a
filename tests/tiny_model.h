/* tiny_model.h - a checkpoint of a few hundred numbers, in a scratch folder.
 *
 * Tensors are float32, and hold 0.001 * i of the i-th element in the file. */
#ifndef TESTS_TINY_MODEL_H
#define TESTS_TINY_MODEL_H

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TINY_SIZES                                                                       \
    "\"hidden_size\":8,\"intermediate_size\":12,\"num_hidden_layers\":2,"                \
    "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"vocab_size\":10,"             \
    "\"max_position_embeddings\":32"
#define TINY_LLAMA "{\"model_type\":\"llama\"," TINY_SIZES "}"

/* 10*8 + 2*(8 + 8*8 + 4*8 + 4*8 + 8*8 + 8 + 3*12*8) + 8; the head is tied */
#define TINY_PARAMETERS (80 + 2 * (8 + 64 + 32 + 32 + 64 + 8 + 288) + 8)

struct tiny_model {
    char dir[64];
    char header[8192]; /* of model.safetensors, under way */
    size_t n_header, n_elements;
};

static inline void tiny_put(const struct tiny_model *m, const char *name,
                            const void *data, size_t len)
{
    char path[200];
    FILE *f;

    snprintf(path, sizeof(path), "%s/%s", m->dir, name);
    f = fopen(path, "wb");
    ck_assert(f && fwrite(data, 1, len, f) == len && fclose(f) == 0);
}

/* cols 0: a vector. */
static inline void tiny_tensor_of(struct tiny_model *m, const char *name,
                                  const char *dtype, size_t rows, size_t cols)
{
    size_t n = rows * (cols ? cols : 1);
    int len;

    len = snprintf(m->header + m->n_header, sizeof(m->header) - m->n_header,
                   "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%zu", m->n_header ? "," : "{",
                   name, dtype, rows);
    m->n_header += (size_t)len;
    if (cols)
        m->n_header += (size_t)snprintf(m->header + m->n_header,
                                        sizeof(m->header) - m->n_header, ",%zu", cols);
    m->n_header += (size_t)snprintf(
        m->header + m->n_header, sizeof(m->header) - m->n_header,
        "],\"data_offsets\":[%zu,%zu]}", 4 * m->n_elements, 4 * (m->n_elements + n));
    m->n_elements += n;
}

static inline void tiny_tensor(struct tiny_model *m, const char *name, size_t rows,
                               size_t cols)
{
    tiny_tensor_of(m, name, "F32", rows, cols);
}

static inline void tiny_layer(struct tiny_model *m, int layer)
{
    static const struct {
        const char *name;
        size_t rows, cols;
    } parts[] = {
        {"input_layernorm", 8, 0},  {"self_attn.q_proj", 8, 8},
        {"self_attn.k_proj", 4, 8}, {"self_attn.v_proj", 4, 8},
        {"self_attn.o_proj", 8, 8}, {"post_attention_layernorm", 8, 0},
        {"mlp.gate_proj", 12, 8},   {"mlp.up_proj", 12, 8},
        {"mlp.down_proj", 8, 12},
    };
    char name[100];

    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        snprintf(name, sizeof(name), "model.layers.%d.%s.weight", layer, parts[i].name);
        tiny_tensor(m, name, parts[i].rows, parts[i].cols);
    }
}

/* Begin a Mixtral of one layer and two experts in a new folder, but for the last tensor,
 * block_sparse_moe.experts.1.w2 (8, 12), and the head. */
static inline void tiny_begin_moe(struct tiny_model *m)
{
    static const char config[] =
        "{\"model_type\":\"mixtral\",\"hidden_size\":8,\"intermediate_size\":12,"
        "\"num_hidden_layers\":1,\"num_attention_heads\":2,\"num_key_value_heads\":1,"
        "\"vocab_size\":10,\"max_position_embeddings\":32,\"num_local_experts\":2,"
        "\"tie_word_embeddings\":true}";
    static const struct {
        const char *name;
        size_t rows, cols;
    } parts[] = {
        {"layers.0.input_layernorm", 8, 0},
        {"layers.0.self_attn.q_proj", 8, 8},
        {"layers.0.self_attn.k_proj", 4, 8},
        {"layers.0.self_attn.v_proj", 4, 8},
        {"layers.0.self_attn.o_proj", 8, 8},
        {"layers.0.post_attention_layernorm", 8, 0},
        {"layers.0.block_sparse_moe.gate", 2, 8},
        {"layers.0.block_sparse_moe.experts.0.w2", 8, 12},
        {"layers.0.block_sparse_moe.experts.0.w3", 12, 8},
        {"layers.0.block_sparse_moe.experts.1.w1", 12, 8},
        {"layers.0.block_sparse_moe.experts.0.w1", 12, 8},
        {"layers.0.block_sparse_moe.experts.1.w3", 12, 8},
        {"norm", 8, 0},
        {"embed_tokens", 10, 8},
    };
    char name[100];

    memset(m, 0, sizeof(*m));
    strcpy(m->dir, "/tmp/pt2-tiny-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(m->dir));
    tiny_put(m, "config.json", config, sizeof(config) - 1);
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        snprintf(name, sizeof(name), "model.%s.weight", parts[i].name);
        tiny_tensor(m, name, parts[i].rows, parts[i].cols);
    }
}

/* Begin a model in a new folder: config.json, and the weights of TINY_SIZES without
 * head or biases. */
static inline void tiny_begin(struct tiny_model *m, const char *config)
{
    memset(m, 0, sizeof(*m));
    strcpy(m->dir, "/tmp/pt2-tiny-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(m->dir));
    tiny_put(m, "config.json", config, strlen(config));
    tiny_tensor(m, "model.embed_tokens.weight", 10, 8);
    tiny_layer(m, 0);
    tiny_layer(m, 1);
    tiny_tensor(m, "model.norm.weight", 8, 0);
}

/* Write model.safetensors, with what tiny_tensor added since. */
static inline void tiny_end(struct tiny_model *m)
{
    size_t n = m->n_header + 1;
    size_t size = 8 + n + 4 * m->n_elements;
    unsigned char *bytes = calloc(1, size);

    ck_assert_ptr_nonnull(bytes);
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)((uint64_t)n >> 8 * i);
    memcpy(bytes + 8, m->header, m->n_header);
    bytes[8 + m->n_header] = '}';
    for (size_t i = 0; i < m->n_elements; i++) {
        float f = 0.001f * (float)i;

        memcpy(bytes + 8 + n + 4 * i, &f, 4);
    }
    tiny_put(m, "model.safetensors", bytes, size);
    free(bytes);
}

static inline void tiny_remove(const struct tiny_model *m)
{
    char command[100];

    snprintf(command, sizeof(command), "rm -rf %s", m->dir);
    ck_assert_int_eq(system(command), 0);
}

#endif
