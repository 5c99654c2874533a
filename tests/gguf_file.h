/* gguf_file.h - a GGUF file of a few numbers, value by value.
 *
 *     struct gguf_file f = {0};
 *     gguf_file_string(&f, "general.architecture", "llama");
 *     gguf_file_uint(&f, "llama.block_count", 1);
 *     gguf_file_tensor(&f, "output_norm.weight", 4, 0, values);     F32; 0 columns: a
 * vector gguf_file_write(&f, path);                                     and empty again
 */
#ifndef TESTS_GGUF_FILE_H
#define TESTS_GGUF_FILE_H

#include <check.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct gguf_file {
    char values[8192], tensors[8192], data[65536];
    size_t n_values, n_tensors, n_data; /* bytes */
    uint64_t values_count, tensors_count;
};

static inline void gguf_file_put(char *to, size_t cap, size_t *n, const void *data,
                                 size_t len)
{
    ck_assert_uint_le(*n + len, cap);
    memcpy(to + *n, data, len);
    *n += len;
}

#define GGUF_PUT(f, part, data, len)                                                     \
    gguf_file_put((f)->part, sizeof((f)->part), &(f)->n_##part, data, len)

static inline void gguf_file_value(struct gguf_file *f, const char *key, uint32_t kind,
                                   const void *value, size_t bytes)
{
    uint64_t len = strlen(key);

    GGUF_PUT(f, values, &len, 8);
    GGUF_PUT(f, values, key, len);
    GGUF_PUT(f, values, &kind, 4);
    GGUF_PUT(f, values, value, bytes);
    f->values_count++;
}

static inline void gguf_file_uint(struct gguf_file *f, const char *key, uint32_t value)
{
    gguf_file_value(f, key, 4, &value, 4);
}

static inline void gguf_file_float(struct gguf_file *f, const char *key, float value)
{
    gguf_file_value(f, key, 6, &value, 4);
}

static inline void gguf_file_string(struct gguf_file *f, const char *key,
                                    const char *text)
{
    char value[1000];
    uint64_t len = strlen(text);

    memcpy(value, &len, 8);
    memcpy(value + 8, text, len);
    gguf_file_value(f, key, 8, value, 8 + len);
}

/* An array of strings, up to a NULL. */
static inline void gguf_file_strings(struct gguf_file *f, const char *key,
                                     const char *const *texts)
{
    char value[4096];
    uint32_t kind = 8;
    uint64_t n = 0;
    size_t bytes = 12;

    for (; texts[n]; n++) {
        uint64_t len = strlen(texts[n]);

        memcpy(value + bytes, &len, 8);
        memcpy(value + bytes + 8, texts[n], len);
        bytes += 8 + len;
    }
    memcpy(value, &kind, 4);
    memcpy(value + 4, &n, 8);
    gguf_file_value(f, key, 9, value, bytes);
}

/* Of F32, dims and sizes as row-major says them. */
static inline void gguf_file_tensor_of(struct gguf_file *f, const char *name,
                                       uint32_t n_dims, const uint64_t *sizes,
                                       const float *values)
{
    static const char zeros[32];
    uint64_t len = strlen(name), offset = f->n_data, elements = 1;
    uint32_t type = 0;

    GGUF_PUT(f, tensors, &len, 8);
    GGUF_PUT(f, tensors, name, len);
    GGUF_PUT(f, tensors, &n_dims, 4);
    for (uint32_t i = n_dims; i-- > 0; elements *= sizes[i])
        GGUF_PUT(f, tensors, &sizes[i], 8);
    GGUF_PUT(f, tensors, &type, 4);
    GGUF_PUT(f, tensors, &offset, 8);
    GGUF_PUT(f, data, values, elements * sizeof(float));
    GGUF_PUT(f, data, zeros, (32 - f->n_data % 32) % 32);
    f->tensors_count++;
}

static inline void gguf_file_tensor(struct gguf_file *f, const char *name, uint64_t rows,
                                    uint64_t cols, const float *values)
{
    uint64_t sizes[2] = {rows, cols};

    gguf_file_tensor_of(f, name, cols ? 2 : 1, sizes, values);
}

static inline void gguf_file_write(struct gguf_file *f, const char *path)
{
    size_t head = 24 + f->n_values + f->n_tensors;
    static const char zeros[32];
    uint32_t version = 3;
    FILE *to = fopen(path, "wb");

    ck_assert_ptr_nonnull(to);
    fwrite("GGUF", 1, 4, to);
    fwrite(&version, 1, 4, to);
    fwrite(&f->tensors_count, 1, 8, to);
    fwrite(&f->values_count, 1, 8, to);
    fwrite(f->values, 1, f->n_values, to);
    fwrite(f->tensors, 1, f->n_tensors, to);
    fwrite(zeros, 1, (32 - head % 32) % 32, to);
    fwrite(f->data, 1, f->n_data, to);
    ck_assert_int_eq(fclose(to), 0);
    memset(f, 0, sizeof(*f));
}

#endif
