/* export.h - make a .pt2 of a checkpoint: the ExportedProgram that Transformers'
 * convert_and_export_with_cache makes of it, forward(input_ids, cache_position) -> logits
 * with a static key/value cache in buffers (doc/exports.md).
 *
 * pt2_export_new reads headers alone: config.json becomes a decoder spec, the spec a
 * graph. pt2_export_write then lets the weights flow through in slices; its memory does
 * not depend on the model's size.  The same checkpoint and options give the same bytes.
 *
 * One thread at a time per struct pt2_export; the checkpoint is only read. */
#ifndef PT2_EXPORT_H
#define PT2_EXPORT_H

#include <pt2/checkpoint.h>
#include <pt2/dtype.h>
#include <pt2/err.h>
#include <pt2/program.h>
#include <pt2/pte.h>

#include <stdint.h>

#define PT2_EXPORT_MAX_BATCH         1024
#define PT2_EXPORT_MAX_CACHE_LEN     (1 << 24) /* positions */
#define PT2_EXPORT_MAX_TOKENS        (1 << 20) /* of the example inputs, all rows */
#define PT2_EXPORT_DEFAULT_CACHE_LEN 4096 /* or max_position_embeddings, where less */
#define PT2_EXPORT_MAX_VERIFY        4096 /* tokens */

/* What a verification adds to the archive: a record of so many bytes, whatever it says. */
#define PT2_VERIFY_RECORD       "extra/verify.json"
#define PT2_VERIFY_RECORD_BYTES 1024

/* Which attention: the model as it was trained, or what Transformers' export (which
 * always runs with "sdpa") makes of it.  They differ where sdpa drops something: the soft
 * cap of gemma2 and vaultgemma. */
enum pt2_attn { PT2_ATTN_EAGER, PT2_ATTN_SDPA };

PT2_API const char *pt2_attn_name(enum pt2_attn attn); /* "eager", "sdpa" */

/* How long the caches of layers with a sliding window are: max_cache_len, as all others, or
 * HYBRID: a ring that the window fits in (doc/exports.md). */
enum pt2_cache_impl { PT2_CACHE_STATIC, PT2_CACHE_HYBRID };

/* Whose logits a call answers: those of all its tokens, (batch, s, vocab), or of the last one
 * alone, (batch, 1, vocab), of profile edge (batch, vocab). */
enum pt2_logits { PT2_LOGITS_ALL, PT2_LOGITS_LAST };

PT2_API const char *pt2_cache_impl_name(enum pt2_cache_impl impl); /* "static", "hybrid" */
PT2_API const char *pt2_logits_name(enum pt2_logits logits);       /* "all", "last" */
/* The same model in two spellings: what torch runs fastest, and what ExecuTorch's XNNPACK
 * takes in few pieces (doc/edge.md): float32, a batch of one. */
enum pt2_profile { PT2_PROFILE_TORCH, PT2_PROFILE_EDGE };

PT2_API const char *pt2_profile_name(enum pt2_profile profile); /* "torch", "edge" */

/* What is made in the end: the archive, or an ExecuTorch program (pte.h) of it as well. */
enum pt2_format { PT2_FORMAT_PT2, PT2_FORMAT_PTE };

PT2_API const char *pt2_format_name(enum pt2_format format); /* "pt2", "pte" */

/* Weights of whole numbers (doc/quantization.md): "8w" and "4w" have 8 or 4 bits, with "8da" what
 * they multiply becomes numbers of 8 bits too, at each call. */
enum pt2_quant {
    PT2_QUANT_NONE,
    PT2_QUANT_8DA4W,
    PT2_QUANT_8DA8W,
    PT2_QUANT_8W,
    PT2_QUANT_4W,
};

PT2_API const char *pt2_quant_name(enum pt2_quant quant); /* "8da4w"; NULL: none */

#define PT2_EXPORT_MAX_SKIP      32
#define PT2_EXPORT_SKIP_SIZE     128 /* of a name, its '\0' too */
#define PT2_EXPORT_DEFAULT_GROUP 32

struct pt2_quantization {
    enum pt2_quant linear;
    enum pt2_quant fallback;  /* of linears that group_size doesn't divide, per channel; NONE:
                                 these stay floats */
    enum pt2_quant embedding; /* 8W or 4W */
    /* Neighbours that share a scale: 32, 64, 128 or 256; 0: all of a row. */
    int64_t group_size, embedding_group_size;
    /* Modules that stay floats, as the checkpoint names them: "lm_head", "mlp.down_proj",
     * "model.layers.0", or all of the path. */
    char skip[PT2_EXPORT_MAX_SKIP][PT2_EXPORT_SKIP_SIZE];
    size_t n_skip;
};

/* What can be chosen.  All zeros: the defaults. */
struct pt2_export_options {
    enum pt2_dtype dtype; /* float32, bfloat16 or float16; NONE: the checkpoint's,
                             edge: float32 */
    int64_t batch_size;   /* 0: 1 */
    int64_t
        max_cache_len; /* 0: min(max_position_embeddings, PT2_EXPORT_DEFAULT_CACHE_LEN) */
    int64_t seq_len;   /* tokens a call takes; dynamic: the example's; 0: 1 */
    bool dynamic_shapes; /* 1 to max_cache_len tokens a call; with rings fewer */
    enum pt2_attn attn;
    enum pt2_cache_impl cache;
    enum pt2_logits logits;
    /* Tokens that the caller will verify the file with, 0: none, at most max_cache_len.
     * pt2_export_write does nothing about it, but pt2_export_program_bytes counts
     * PT2_VERIFY_RECORD. */
    int64_t verify;
    enum pt2_profile profile;
    bool custom_ops; /* edge: ExecuTorch's llama::update_cache and llama::custom_sdpa */
    struct pt2_quantization quantization;
    /* PTE wants profile edge.  The caller makes that file, with pt2_pte_new, of what
     * pt2_export_write has written; pt2_export_new refuses what that would refuse. */
    enum pt2_format format;
    struct pt2_pte_options pte;
};

struct pt2_export;

/* Resolve the options, read the config, check every tensor that the model needs and build
 * the graph.  Borrows checkpoint, which must outlive the export.
 * new: free with pt2_export_free.
 * Errors: NOT_EXPORTABLE (which field of config.json, and why), BAD_CONFIG (a field's
 * type or value), BAD_CHECKPOINT (a tensor missing or of another shape), INVALID (an
 * option's value), NOMEM. */
PT2_API PT2_MUST_USE int pt2_export_new(const struct pt2_checkpoint *checkpoint,
                                        const struct pt2_export_options *options,
                                        struct pt2_export **ret_export,
                                        struct pt2_err *err);
PT2_API void pt2_export_free(struct pt2_export *exp);

/* All borrowed from the export. */
PT2_API const struct pt2_program *pt2_export_program(const struct pt2_export *exp);
/* The options with every default filled in. */
PT2_API const struct pt2_export_options *
pt2_export_resolved(const struct pt2_export *exp);
/* Where and why the program differs from the reference export, a sentence each. */
PT2_API size_t pt2_export_n_deviations(const struct pt2_export *exp);
PT2_API const char *pt2_export_deviation(const struct pt2_export *exp, size_t i);
PT2_API uint64_t
pt2_export_program_bytes(const struct pt2_export *exp); /* of the file, exact */
PT2_API uint64_t
pt2_export_cache_bytes(const struct pt2_export *exp); /* of one session */
/* What pt2_pte_facts will say; all 0 where the format is another. */
PT2_API struct pt2_pte_facts pt2_export_pte_facts(const struct pt2_export *exp);
/* Elements of the model's parameters, tied ones counted once. */
PT2_API uint64_t pt2_export_n_parameters(const struct pt2_export *exp);

/* Called between slices, on the thread that called pt2_export_write; stage is "weights"
 * or "extra", done and total are bytes of it. */
typedef void pt2_export_progress(void *ctx, const char *stage, uint64_t done,
                                 uint64_t total);

/* Write the archive to fd, from its current place on (borrowed; not synced).  Each byte
 * of the weights is read once.  progress may be NULL.  ret_sha256 (32 bytes; NULL: no digest
 * is taken) and ret_bytes are the file's.  Errors: CHECKPOINT_CHANGED (a file is another than
 * when the checkpoint was opened), IO, NO_SPACE, NOMEM, INTERNAL.  After an error the file is
 * worth nothing. */
PT2_API PT2_MUST_USE int pt2_export_write(struct pt2_export *exp, int fd,
                                          pt2_export_progress *progress, void *ctx,
                                          uint8_t *ret_sha256, uint64_t *ret_bytes,
                                          struct pt2_err *err);

/* What a list of models says of one. */
struct pt2_model_info {
    char model_type[64];   /* of config.json; "" where there is none */
    char architecture[96]; /* the first of `architectures`, "" */
    enum pt2_dtype dtype;  /* what an export's dtype defaults to; NONE: not known */
    uint64_t parameters;   /* elements of all tensors in the checkpoint */
    uint64_t bytes;        /* of the files that hold them */
    int64_t max_position_embeddings, vocab_size; /* -1: config.json does not say */
    bool exportable;                             /* with the default options */
    char reason[480];                            /* where it is not exportable */
};

/* Never fails for a checkpoint that was opened, but for NOMEM; what is wrong with it
 * becomes the reason. */
PT2_API PT2_MUST_USE int pt2_model_describe(const struct pt2_checkpoint *checkpoint,
                                            struct pt2_model_info *ret_info,
                                            struct pt2_err *err);

/* "0.1.0+1": a part of the key under which an export is found again.  Changes whenever
 * the bytes that an export makes may change. */
PT2_API const char *pt2_exporter_version(void);

#endif
