/* gguf.h - what a GGUF file says before its weights: metadata and the table of tensors.
 *
 *     "GGUF" │ u32 version, 2 or 3 │ u64 tensors │ u64 metadata
 *     metadata, each: string key │ u32 type │ value
 *     tensors, each:  string name │ u32 dimensions │ u64 sizes[], the innermost first
 *                     │ u32 element type │ u64 offset
 *     zeros up to a multiple of general.alignment, which offsets count from │ the weights
 *     a string: u64 bytes │ the bytes.  an array: u32 type │ u64 items │ the items
 *
 * (ggml, docs/gguf.md.)  Little-endian; version 1 and big-endian files are refused.  Read
 * through a window of 64 KiB by pread, nothing is mapped: strings and arrays are
 * remembered by their place.  Everything is checked: bounds, types, names twice,
 * overlaps.
 *
 * Immutable once read: any thread. */
#ifndef CHECKPOINT_GGUF_H
#define CHECKPOINT_GGUF_H

#include "checkpoint/files.h"
#include "checkpoint/ggml.h"

#define GGUF_MAX_HEADER ((uint64_t)64 << 20) /* bytes of one file */
#define GGUF_MAX_VALUES 65536
#define GGUF_MAX_NAME   256 /* bytes of a key or a tensor's name */
#define GGUF_MAX_DIMS   4

enum gguf_kind {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_N_KINDS
};

struct gguf_value {
    char *key; /* owned */
    enum gguf_kind kind, item_kind;
    uint64_t n_items;   /* of an array */
    uint64_t at, bytes; /* of the string, or of the array's items, in the first file */
    uint64_t u;         /* an unsigned integer or a bool */
    int64_t i;          /* a signed one */
    double f;           /* a real one */
};

struct gguf_tensor {
    char *name; /* owned */
    const struct ggml_type *type;
    unsigned n_dims;
    int64_t sizes[GGUF_MAX_DIMS]; /* the outermost first, as in safetensors */
    uint64_t n_elements;
    uint32_t file;
    uint64_t offset, bytes; /* in the file */
};

struct gguf {
    const struct files *files; /* borrowed */
    size_t first;              /* the file that holds the metadata */
    struct gguf_value *values; /* sorted by key */
    size_t n_values;
    struct gguf_tensor *tensors; /* of all files, each file's by place */
    size_t n_tensors, cap_tensors;
    char arch[64]; /* general.architecture */
};

/* Read file i: the first one, or one more part of the same model, of which the tensors
 * alone are kept.  gguf_done, also after an error.
 * Errors: BAD_CHECKPOINT (the text names file and place), CHECKPOINT_CHANGED, IO, NOMEM.
 */
MUST_USE int gguf_read(struct gguf *gguf, const struct files *files, size_t i,
                       struct pt2_err *err);
void gguf_done(struct gguf *gguf);

/* NULL where there is none. */
const struct gguf_value *gguf_find(const struct gguf *gguf, const char *key);
/* "<general.architecture>.<name>" */
const struct gguf_value *gguf_find_own(const struct gguf *gguf, const char *name);
const struct gguf_tensor *gguf_find_tensor(const struct gguf *gguf, const char *name);

/* The value as a number.  False where v is NULL, or no such number. */
bool gguf_int(const struct gguf_value *v, int64_t *ret);
bool gguf_number(const struct gguf_value *v, double *ret); /* real ones and integers */
bool gguf_bool(const struct gguf_value *v, bool preset);   /* preset where it is none */

/* The bytes of a string, or of an array's items, new (caller frees), '\0' behind them.
 * Errors: LIMIT (more than max bytes), CHECKPOINT_CHANGED, IO, NOMEM. */
MUST_USE int gguf_bytes(const struct gguf *gguf, const struct gguf_value *v, size_t max,
                        char **ret_bytes, struct pt2_err *err);

#endif
