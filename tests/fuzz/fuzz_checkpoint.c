/* fuzz_checkpoint.c - a checkpoint from outside.  The first byte says which of its files
 * the rest is: '{' the whole is a config.json, 'i' an index of shards, anything else the
 * whole is a safetensors file.  What opens is described, and exported as far as without
 * weights. */
#include "fuzz.h"

#include "base/util.h"

#include <fcntl.h>
#include <pt2/checkpoint.h>
#include <pt2/export.h>
#include <sys/stat.h>

const char fuzz_name[] = "checkpoint";
const char *const fuzz_corpus[] = {"tests/data/config-invalid", "tests/data/config-refused",
                                   "tests/data/safetensors-invalid",
                                   "share/models/demo/config.json", NULL};

static const char config[] =
    "{\"model_type\":\"llama\",\"hidden_size\":2,\"intermediate_size\":2,"
    "\"num_hidden_layers\":1,\"num_attention_heads\":1,\"num_key_value_heads\":1,"
    "\"vocab_size\":4,\"max_position_embeddings\":8,\"tie_word_embeddings\":true}";
static char dir[64];

static void put(const char *name, const void *data, size_t size)
{
    char path[200];
    FILE *f;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    f = fopen(path, "wb");
    FUZZ_CHECK(f && fwrite(data, 1, size, f) == size && fclose(f) == 0);
}

static void drop(const char *name)
{
    char path[200];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    unlink(path);
}

static void remove_dir(void)
{
    drop("config.json");
    drop("model.safetensors");
    drop("model.safetensors.index.json");
    drop("a.safetensors");
    rmdir(dir);
}

/* The weights of `config`, a vector of zeros each. */
static size_t weights(char *to, size_t cap)
{
    static const struct {
        const char *name, *shape;
        int elements;
    } all[] = {
        {"embed_tokens", "4,2", 8},
        {"layers.0.input_layernorm", "2", 2},
        {"layers.0.self_attn.q_proj", "2,2", 4},
        {"layers.0.self_attn.k_proj", "2,2", 4},
        {"layers.0.self_attn.v_proj", "2,2", 4},
        {"layers.0.self_attn.o_proj", "2,2", 4},
        {"layers.0.post_attention_layernorm", "2", 2},
        {"layers.0.mlp.gate_proj", "2,2", 4},
        {"layers.0.mlp.up_proj", "2,2", 4},
        {"layers.0.mlp.down_proj", "2,2", 4},
        {"norm", "2", 2},
    };
    size_t n = 8;
    uint64_t header;
    int at = 0;

    memset(to, 0, cap);
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        n += (size_t)snprintf(to + n, cap - n,
                              "%s\"model.%s.weight\":{\"dtype\":\"F32\",\"shape\":[%s],"
                              "\"data_offsets\":[%d,%d]}",
                              i ? "," : "{", all[i].name, all[i].shape, at,
                              at + 4 * all[i].elements);
        at += 4 * all[i].elements;
    }
    to[n++] = '}';
    header = n - 8;
    memcpy(to, &header, 8);
    return n + (size_t)at;
}

static void read_all(void)
{
    struct pt2_export_options options = {0};
    struct pt2_checkpoint *c = NULL;
    struct pt2_export *exp = NULL;
    struct pt2_err err = {0};
    char byte;

    if (pt2_checkpoint_open(dir, &c, &err) < 0) {
        FUZZ_CHECK(err.code && *err.text && !c);
        return;
    }
    for (size_t i = 0; i < pt2_checkpoint_n_tensors(c); i++) {
        const struct pt2_checkpoint_tensor *t = pt2_checkpoint_tensor(c, i);

        FUZZ_CHECK(pt2_checkpoint_find_tensor(c, t->name) == t);
        if (t->bytes > 0)
            FUZZ_CHECK(pt2_checkpoint_read(c, t, t->bytes - 1, &byte, 1, NULL) == 0);
        FUZZ_CHECK(pt2_checkpoint_read(c, t, t->bytes, &byte, 1, NULL) < 0);
    }
    if (pt2_export_new(c, &options, &exp, &err) < 0)
        FUZZ_CHECK(err.code && *err.text && !exp);
    else
        FUZZ_CHECK(pt2_export_program_bytes(exp) > 0);
    pt2_export_free(exp);
    pt2_checkpoint_free(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char good[4096];
    static size_t n_good;
    bool is_config = size > 0 && *data == '{', is_index = size > 0 && *data == 'i';

    if (!*dir) {
        strcpy(dir, "/tmp/pt2-fuzz-XXXXXX");
        FUZZ_CHECK(mkdtemp(dir));
        atexit(remove_dir);
        n_good = weights(good, sizeof(good));
        put("a.safetensors", good, n_good);
        put("config.json", config, strlen(config));
        put("model.safetensors", good, n_good);
        read_all();
    }
    put("config.json", is_config ? (const void *)data : config,
        is_config ? size : strlen(config));
    if (is_index) {
        drop("model.safetensors");
        put("model.safetensors.index.json", data + 1, size - 1);
    } else {
        drop("model.safetensors.index.json");
        put("model.safetensors", is_config ? (const void *)good : data,
            is_config ? n_good : size);
    }
    read_all();
    return 0;
}
