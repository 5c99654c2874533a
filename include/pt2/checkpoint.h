/* checkpoint.h - a Hugging Face checkpoint directory, config.json and safetensors; or a
 * GGUF file, which is read as if it were one: what its metadata says as the object of a
 * config.json, its tensors under their names there.  Quantised tensors of either (blocks
 * of GGUF, float8 with its scales, MXFP4) are the float32 values that they stand for.
 *
 * Opening reads config.json and the headers of the weights, never the weights themselves,
 * and maps nothing: what it takes depends on the number of tensors alone.  Everything is
 * checked: header lengths, dtypes, shape x size against the span, overlaps and holes,
 * names twice, the index against the shards.  All files stay open until the checkpoint is
 * freed (a descriptor a file), so that reads see the files that were checked;
 * pt2_checkpoint_check_unchanged tells whether they still are what they were.
 *
 * Links are followed wherever they lead: a caller who minds checks them before.
 *
 * Immutable once open: any thread. */
#ifndef PT2_CHECKPOINT_H
#define PT2_CHECKPOINT_H

#include <pt2/archive.h> /* PT2_MAX_DIMS */
#include <pt2/dtype.h>
#include <pt2/err.h>

#include <stdint.h>

struct pt2_checkpoint;
struct json_t; /* jansson's */

struct pt2_checkpoint_tensor {
    const char *name;       /* "model.norm.weight"; UTF-8, 1 to 1024 bytes */
    enum pt2_dtype dtype;   /* PT2_DTYPE_NONE: one that programs do not have (U16) */
    const char *dtype_name; /* as the file says it: "BF16", "Q4_K", "F8_E4M3" */
    unsigned n_dims;
    int64_t sizes[PT2_MAX_DIMS]; /* contiguous, row-major, little-endian */
    uint32_t file;               /* index for pt2_checkpoint_file */
    uint64_t offset;             /* of its first byte in that file */
    uint64_t bytes;              /* of the values */
    unsigned group_bits; /* 8 or 4: they are stored as whole numbers, each 32 neighbours of a
                            row with a scale (Q8_0, Q4_0), which pt2_checkpoint_read_groups
                            reads; else 0 */
    uint32_t recipe; /* 0: they lie in the file as they are; else pt2_checkpoint_read
                        makes them */
};

enum pt2_checkpoint_file_kind {
    PT2_FILE_CONFIG,  /* config.json: the first, but for a GGUF file, which has none */
    PT2_FILE_INDEX,   /* model.safetensors.index.json, where the weights are sharded */
    PT2_FILE_WEIGHTS, /* *.safetensors or *.gguf, in the order of their names */
    PT2_FILE_EXTRA,   /* what an export carries along: tokenizer.json, ... */
};

struct pt2_checkpoint_file {
    const char *name; /* "model-00001-of-00002.safetensors" */
    enum pt2_checkpoint_file_kind kind;
    uint64_t bytes;
    uint64_t dev, inode;
    int64_t mtime_ns, ctime_ns; /* since 1970 */
};

/* Open the checkpoint at path.  In a directory the weights are model.safetensors, or else
 * the shards that model.safetensors.index.json names, or else the only *.safetensors
 * there is; where there is none, the only *.gguf, or the parts NAME-00001-of-0000N.gguf
 * of one. A file is a GGUF file, or the first of its parts; nothing that lies beside it
 * counts. new: free with pt2_checkpoint_free. Errors: NOT_FOUND (no such directory or
 * file, neither config.json nor *.gguf in it), BAD_CONFIG, BAD_CHECKPOINT (the text names
 * file, and tensor or place), NOT_EXPORTABLE (an architecture of GGUF that is not read),
 * IO, NOMEM. */
PT2_API PT2_MUST_USE int pt2_checkpoint_open(const char *path,
                                             struct pt2_checkpoint **ret_checkpoint,
                                             struct pt2_err *err);
PT2_API void pt2_checkpoint_free(struct pt2_checkpoint *checkpoint);

/* The object of config.json, borrowed.  Python writes bare NaN, Infinity and -Infinity:
 * they are the strings "NaN", "Infinity" and "-Infinity" here; integers beyond int64 are
 * reals. */
PT2_API const struct json_t *
pt2_checkpoint_config(const struct pt2_checkpoint *checkpoint);

/* All tensors, in the order of their names (bytewise). */
PT2_API size_t pt2_checkpoint_n_tensors(const struct pt2_checkpoint *checkpoint);
PT2_API const struct pt2_checkpoint_tensor *
pt2_checkpoint_tensor(const struct pt2_checkpoint *checkpoint, size_t i);
/* NULL where there is none of that name. */
PT2_API const struct pt2_checkpoint_tensor *
pt2_checkpoint_find_tensor(const struct pt2_checkpoint *checkpoint, const char *name);

/* All files that an export of this checkpoint may depend on, in a fixed order: config,
 * index, weights, extras (by the table in src/checkpoint/file_names.c). */
PT2_API size_t pt2_checkpoint_n_files(const struct pt2_checkpoint *checkpoint);
PT2_API const struct pt2_checkpoint_file *
pt2_checkpoint_file(const struct pt2_checkpoint *checkpoint, size_t i);
/* The place of the file of that name, -1 where there is none. */
PT2_API int64_t pt2_checkpoint_find_file(const struct pt2_checkpoint *checkpoint,
                                         const char *name);

/* Read len bytes of a tensor's values, from offset within it, by pread; no mapping, no
 * allocation.
 * Errors: CHECKPOINT_CHANGED (the file has become shorter), IO, INVALID (beyond the
 * tensor). */
PT2_API PT2_MUST_USE int pt2_checkpoint_read(const struct pt2_checkpoint *checkpoint,
                                             const struct pt2_checkpoint_tensor *tensor,
                                             uint64_t offset, void *buf, size_t len,
                                             struct pt2_err *err);
/* Read groups first .. first + n - 1 of a tensor that has group_bits as they are stored:
 * values (32 n), each value times its scale is what pt2_checkpoint_read reads; scales (n).
 * Either may be NULL.  Errors: the same. */
#define PT2_CHECKPOINT_GROUP 32
PT2_API PT2_MUST_USE int
pt2_checkpoint_read_groups(const struct pt2_checkpoint *checkpoint,
                           const struct pt2_checkpoint_tensor *tensor, uint64_t first,
                           size_t n, int8_t *values, float *scales, struct pt2_err *err);
/* Read len bytes of file i, from offset on.  Errors: as pt2_checkpoint_read. */
PT2_API PT2_MUST_USE int pt2_checkpoint_read_file(const struct pt2_checkpoint *checkpoint,
                                                  size_t i, uint64_t offset, void *buf,
                                                  size_t len, struct pt2_err *err);

/* The whole of an extra file, new (caller frees), with a '\0' behind it that does not
 * count; *ret_text is NULL where the checkpoint has none of that name.
 * Errors: LIMIT (more than max bytes), CHECKPOINT_CHANGED, IO, NOMEM. */
PT2_API PT2_MUST_USE int pt2_checkpoint_extra(const struct pt2_checkpoint *checkpoint,
                                              const char *name, size_t max,
                                              char **ret_text, size_t *ret_len,
                                              struct pt2_err *err);
/* The same, parsed as config.json is (NaN and big integers, see above); any JSON value,
 * new: json_decref; *ret_json is NULL where there is no such file.
 * Errors: those, and BAD_CONFIG. */
PT2_API PT2_MUST_USE int
pt2_checkpoint_extra_json(const struct pt2_checkpoint *checkpoint, const char *name,
                          size_t max, struct json_t **ret_json, struct pt2_err *err);

/* The files of a Hugging Face directory that a GGUF file's metadata stands for:
 * config.json, tokenizer.json, tokenizer_config.json, chat_template.jinja.  A directory
 * has none of these: its own are files.  Made anew by each call: *ret_text is new (caller
 * frees), '\0' behind it; NULL where the metadata says nothing of it.
 * Errors: UNSUPPORTED (a tokenizer that is not offered; the text says why),
 * CHECKPOINT_CHANGED, IO, LIMIT, NOMEM. */
PT2_API size_t pt2_checkpoint_n_made(const struct pt2_checkpoint *checkpoint);
PT2_API const char *pt2_checkpoint_made_name(const struct pt2_checkpoint *checkpoint,
                                             size_t i);
PT2_API PT2_MUST_USE int pt2_checkpoint_make(const struct pt2_checkpoint *checkpoint,
                                             size_t i, char **ret_text, size_t *ret_len,
                                             struct pt2_err *err);

/* Are all files still those that were opened, by inode, size and times?
 * Errors: CHECKPOINT_CHANGED (names the first that is not), IO. */
PT2_API PT2_MUST_USE int
pt2_checkpoint_check_unchanged(const struct pt2_checkpoint *checkpoint,
                               struct pt2_err *err);

/* SHA-256 of file i, read by slices.
 * Errors: CHECKPOINT_CHANGED, IO, NOMEM. */
PT2_API PT2_MUST_USE int
pt2_checkpoint_digest_file(const struct pt2_checkpoint *checkpoint, size_t i,
                           uint8_t ret_sha256[32], struct pt2_err *err);

#endif
