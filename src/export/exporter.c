/* exporter.c - from a checkpoint to an archive: resolve, build, write. */
#include <pt2/export.h>

#include "base/log.h"
#include "export/decoder_graph.h"
#include "export/deviations.h"
#include "export/exporter.h"
#include "export/extras.h"
#include "export/pieces.h"
#include "export/weight_parts.h"
#include "export/weight_schemes.h"
#include "export/weights.h"

#define ROOT        "program" /* the archive's folder */
#define REVISION    "3"       /* of the bytes that an export makes */
#define SLICE_BYTES ((size_t)1 << 20)

struct pt2_export {
    const struct pt2_checkpoint *checkpoint; /* borrowed */
    struct pt2_export_options options;       /* resolved */
    struct decoder_spec spec;
    struct weights weights;
    struct deviations deviations;
    struct extras extras;
    struct decoder_buffers buffers;
    struct pt2_program *program;
    char *json; /* the program's */
    size_t json_bytes;
    uint64_t written_bytes; /* of what pt2_export_write writes */
    uint64_t program_bytes, cache_bytes;
    struct pt2_pte_facts pte;
};

DEFINE_AUTO(pt2_export)

const char *pt2_exporter_version(void)
{
    return PACKAGE_VERSION "+" REVISION;
}

const char *pt2_profile_name(enum pt2_profile profile)
{
    return profile == PT2_PROFILE_EDGE ? "edge" : "torch";
}

const char *pt2_format_name(enum pt2_format format)
{
    return format == PT2_FORMAT_PTE ? "pte" : "pt2";
}

const char *pt2_attn_name(enum pt2_attn attn)
{
    return attn == PT2_ATTN_SDPA ? "sdpa" : "eager";
}

const char *pt2_cache_impl_name(enum pt2_cache_impl impl)
{
    return impl == PT2_CACHE_HYBRID ? "hybrid" : "static";
}

const char *pt2_logits_name(enum pt2_logits logits)
{
    return logits == PT2_LOGITS_LAST ? "last" : "all";
}

void pt2_export_free(struct pt2_export *exp)
{
    if (!exp)
        return;
    pt2_program_free(exp->program);
    weights_done(&exp->weights);
    decoder_buffers_done(&exp->buffers);
    deviations_done(&exp->deviations);
    extras_done(&exp->extras);
    free(exp->json);
    free(exp);
}

/* ---- options ---- */

static bool is_offered(enum pt2_dtype dtype)
{
    return dtype == PT2_FLOAT32 || dtype == PT2_BFLOAT16 || dtype == PT2_FLOAT16;
}

/* As from_pretrained(dtype="auto") does: what config.json says, else the weights. */
int export_default_dtype(const struct pt2_checkpoint *checkpoint,
                         enum pt2_dtype *ret_dtype, struct pt2_err *err)
{
    struct fields f = fields_of(pt2_checkpoint_config(checkpoint), "");
    const char *field = field_is_there(&f, "dtype") ? "dtype" : "torch_dtype", *name;
    enum pt2_dtype dtype = PT2_DTYPE_NONE;

    if (field_string(&f, field, NULL, &name, err) < 0)
        return -1;
    if (name) {
        dtype = pt2_dtype_from_name(name);
        if (!is_offered(dtype))
            return field_refuse(
                &f, field, err,
                "'%s'; an export has to ask for float32, bfloat16 or float16", name);
    }
    for (size_t i = 0; !name && i < pt2_checkpoint_n_tensors(checkpoint); i++) {
        const struct pt2_checkpoint_tensor *t = pt2_checkpoint_tensor(checkpoint, i);

        if (t->recipe == 0 && pt2_dtype_is_float(t->dtype)) {
            dtype = t->dtype;
            break;
        }
    }
    *ret_dtype =
        is_offered(dtype) ? dtype : PT2_FLOAT32; /* float64 weights: torch's own */
    return 0;
}

static int check_range(const char *name, int64_t value, int64_t max, struct pt2_err *err)
{
    if (value >= 1 && value <= max)
        return 0;
    return pt2_err_set(err, PT2_ERR_INVALID, "%s must be 1 to %lld, not %lld", name,
                       (long long)max, (long long)value);
}

/* What llama::custom_sdpa does not compute, and llama::update_cache does not write. */
static int resolve_custom_ops(const struct pt2_export_options *o,
                              const struct decoder_spec *spec, struct pt2_err *err)
{
    const char *what = spec->has_sinks ? "attention sinks"
                       : spec->attn_softcap != 0 && o->attn == PT2_ATTN_EAGER
                           ? "a soft cap on attention's scores"
                           : NULL;

    if (what)
        return pt2_err_set(err, PT2_ERR_NOT_EXPORTABLE,
                           "%s: %s: not with custom_ops, llama::custom_sdpa has none",
                           spec->model_type, what);
    if (o->cache == PT2_CACHE_HYBRID)
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "cache.implementation hybrid is not offered with custom_ops: "
                           "llama::update_cache writes no rings");
    return 0;
}

/* XNNPACK takes float32 (and quantised) linears, a half-precision one runs beside it; the
 * spelling, which views no cache, has no room for a batch. */
static int resolve_edge(struct pt2_export_options *o, const struct decoder_spec *spec,
                        struct pt2_err *err)
{
    if (o->dtype == PT2_DTYPE_NONE)
        o->dtype = PT2_FLOAT32;
    if (o->dtype != PT2_FLOAT32)
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "dtype must be float32 with profile edge, not %s",
                           pt2_dtype_name(o->dtype));
    if (o->batch_size != 1)
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "batch_size must be 1 with profile edge, not %lld",
                           (long long)o->batch_size);
    return o->custom_ops ? resolve_custom_ops(o, spec, err) : 0;
}

static int resolve(const struct pt2_export_options *asked,
                   const struct decoder_spec *spec,
                   const struct pt2_checkpoint *checkpoint, struct pt2_export_options *o,
                   struct pt2_err *err)
{
    *o = *asked;
    if (o->batch_size == 0)
        o->batch_size = 1;
    if (o->max_cache_len == 0)
        o->max_cache_len = MIN(spec->max_position, PT2_EXPORT_DEFAULT_CACHE_LEN);
    if (o->seq_len == 0)
        o->seq_len = 1;
    if (check_range("batch_size", o->batch_size, PT2_EXPORT_MAX_BATCH, err) < 0 ||
        check_range("max_cache_len", o->max_cache_len, PT2_EXPORT_MAX_CACHE_LEN, err) < 0)
        return -1;
    if (o->seq_len < 1 || o->seq_len > o->max_cache_len)
        return pt2_err_set(
            err, PT2_ERR_INVALID,
            "the sequence length must be 1 to max_cache_len, %lld, not %lld",
            (long long)o->max_cache_len, (long long)o->seq_len);
    if (o->dynamic_shapes && o->max_cache_len < 2)
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "dynamic_shapes wants a max_cache_len of 2 or more");
    if (o->batch_size * o->seq_len > PT2_EXPORT_MAX_TOKENS)
        return pt2_err_set(
            err, PT2_ERR_INVALID,
            "batch_size times the sequence length must be at most %d, not %lld",
            PT2_EXPORT_MAX_TOKENS, (long long)(o->batch_size * o->seq_len));
    if (o->verify < 0 || o->verify > MIN(o->max_cache_len, PT2_EXPORT_MAX_VERIFY))
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "verify must be 0 to %lld tokens (max_cache_len, %d at most), "
                           "not %lld",
                           (long long)MIN(o->max_cache_len, PT2_EXPORT_MAX_VERIFY),
                           PT2_EXPORT_MAX_VERIFY, (long long)o->verify);
    if (weight_schemes_resolve(&o->quantization, err) < 0)
        return -1;
    if (o->profile == PT2_PROFILE_EDGE)
        return resolve_edge(o, spec, err);
    if (o->format == PT2_FORMAT_PTE)
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "format pte wants profile edge, not %s",
                           pt2_profile_name(o->profile));
    if (o->custom_ops)
        return pt2_err_set(err, PT2_ERR_INVALID, "custom_ops wants profile edge");
    if (o->dtype == PT2_DTYPE_NONE)
        return export_default_dtype(checkpoint, &o->dtype, err);
    if (!is_offered(o->dtype))
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "dtype must be float32, bfloat16 or float16, not %s",
                           pt2_dtype_name(o->dtype));
    return 0;
}

/* ---- making ---- */

static int size_caches(struct pt2_export *exp, struct pt2_err *err)
{
    for (size_t i = 0; i < exp->buffers.n; i++) {
        const struct decoder_buffer *b = &exp->buffers.list[i];
        uint64_t bytes;

        if (!decoder_buffer_is_cache(b))
            continue;
        if (!pt2_tensor_bytes(b->dtype, b->n_dims, b->sizes, &bytes) ||
            !size_add(exp->cache_bytes, bytes, &exp->cache_bytes) ||
            exp->cache_bytes > INT64_MAX)
            return pt2_err_set(err, PT2_ERR_INVALID,
                               "a cache of %lld positions for a batch of %lld is too big",
                               (long long)exp->options.max_cache_len,
                               (long long)exp->options.batch_size);
    }
    return 0;
}

/* Learned positions end where their table does. */
static int check_positions(const struct decoder_spec *spec,
                           const struct pt2_export_options *o, struct pt2_err *err)
{
    if (spec->names->positions && o->max_cache_len > spec->max_position)
        return pt2_err_set(err, PT2_ERR_NOT_EXPORTABLE,
                           "max_cache_len is %lld, but the model's learned positions are "
                           "%lld",
                           (long long)o->max_cache_len, (long long)spec->max_position);
    for (int i = 0; i < spec->n_ropes; i++)
        if (rope_check_len(&spec->ropes[i], o->max_cache_len, err) < 0)
            return -1;
    return 0;
}

static int check_attention(const struct decoder_spec *spec,
                           const struct pt2_export_options *o, struct pt2_err *err)
{
    if (!spec->has_sinks || o->attn == PT2_ATTN_EAGER)
        return 0;
    return pt2_err_set(err, PT2_ERR_NOT_EXPORTABLE,
                       "attn_implementation sdpa has no attention sinks, which %s has; "
                       "eager is offered",
                       spec->model_type);
}

int export_check_model(const struct pt2_checkpoint *checkpoint,
                       const struct pt2_export_options *asked,
                       struct decoder_spec *ret_spec, struct weights *ret_weights,
                       struct pt2_export_options *ret_options, struct pt2_err *err)
{
    if (decoder_spec_read(pt2_checkpoint_config(checkpoint), ret_spec, err) < 0 ||
        resolve(asked, ret_spec, checkpoint, ret_options, err) < 0 ||
        check_positions(ret_spec, ret_options, err) < 0 ||
        check_attention(ret_spec, ret_options, err) < 0)
        return -1;
    return weights_bind(ret_spec, checkpoint, ret_weights, err);
}

static int write_archive(struct pt2_export *exp, struct pt2_writer *writer,
                         bool is_counting, pt2_export_progress *progress, void *ctx,
                         struct pt2_err *err);

/* The size of the file, from a writer that only counts. */
static int count_bytes(struct pt2_export *exp, bool is_verified, uint64_t *ret_bytes,
                       struct pt2_err *err)
{
    static const char record[PT2_VERIFY_RECORD_BYTES];
    struct pt2_writer *writer;
    uint8_t digest[32];
    int r;

    if (pt2_writer_new(-1, ROOT, &writer, err) < 0)
        return -1;
    r = write_archive(exp, writer, /* is_counting= */ true, NULL, NULL, err);
    if (r == 0 && is_verified)
        r = pt2_writer_record(writer, PT2_VERIFY_RECORD, record, sizeof(record), 1, err);
    if (r == 0)
        r = pt2_writer_finish(writer, digest, ret_bytes, err);
    pt2_writer_free(writer);
    return r;
}

static int check_format(struct pt2_export *exp, struct pt2_err *err)
{
    if (exp->options.format != PT2_FORMAT_PTE)
        return 0;
    return pt2_pte_check(exp->program, extras_metadata(&exp->extras), &exp->options.pte,
                         &exp->pte, err);
}

int pt2_export_new(const struct pt2_checkpoint *checkpoint,
                   const struct pt2_export_options *options,
                   struct pt2_export **ret_export, struct pt2_err *err)
{
    AUTO(pt2_export) exp = calloc(1, sizeof(*exp));

    if (!exp)
        return pt2_err_set(err, PT2_ERR_NOMEM, "an export");
    exp->checkpoint = checkpoint;
    if (export_check_model(checkpoint, options, &exp->spec, &exp->weights, &exp->options,
                           err) < 0 ||
        weights_tie_equal(&exp->weights, checkpoint, exp->options.dtype, err) < 0 ||
        decoder_buffers_find(&exp->spec, &exp->options, &exp->buffers, err) < 0 ||
        size_caches(exp, err) < 0 ||
        deviations_find(&exp->spec, &exp->weights, &exp->options, &exp->deviations, err) <
            0 ||
        weight_schemes_set(&exp->weights, &exp->spec, &exp->options, &exp->deviations,
                           err) < 0 ||
        extras_find(&exp->spec, checkpoint, &exp->options, &exp->extras, &exp->deviations,
                    err) < 0 ||
        decoder_graph_build(&exp->spec, &exp->weights, &exp->buffers, &exp->options,
                            &exp->program, err) < 0 ||
        check_format(exp, err) < 0 ||
        pt2_program_to_json(exp->program, &exp->json, &exp->json_bytes, err) < 0 ||
        count_bytes(exp, false, &exp->written_bytes, err) < 0 ||
        count_bytes(exp, exp->options.verify > 0, &exp->program_bytes, err) < 0)
        return -1;
    *ret_export = TAKE(exp);
    return 0;
}

const struct pt2_program *pt2_export_program(const struct pt2_export *exp)
{
    return exp->program;
}

const struct pt2_export_options *pt2_export_resolved(const struct pt2_export *exp)
{
    return &exp->options;
}

size_t pt2_export_n_deviations(const struct pt2_export *exp)
{
    return exp->deviations.n;
}

const char *pt2_export_deviation(const struct pt2_export *exp, size_t i)
{
    ASSERT(i < exp->deviations.n);
    return exp->deviations.list[i];
}

uint64_t pt2_export_program_bytes(const struct pt2_export *exp)
{
    return exp->program_bytes;
}

uint64_t pt2_export_cache_bytes(const struct pt2_export *exp)
{
    return exp->cache_bytes;
}

struct pt2_pte_facts pt2_export_pte_facts(const struct pt2_export *exp)
{
    return exp->pte;
}

uint64_t pt2_export_n_parameters(const struct pt2_export *exp)
{
    return exp->weights.n_elements;
}

/* ---- writing ---- */

/* One write of an archive. */
struct job {
    struct pt2_export *exp;
    struct pt2_writer *writer;
    bool is_counting;
    pt2_export_progress *progress; /* may be NULL */
    void *ctx;
    struct pieces *pieces; /* of weights under way; NULL where it only counts */
    uint64_t done, total;
    struct pt2_err *err;
};

static void report(const struct job *job, const char *stage)
{
    if (job->progress && !job->is_counting)
        job->progress(job->ctx, stage, job->done, job->total);
}

static void count_piece(void *ctx, size_t bytes)
{
    struct job *job = ctx;

    job->done += bytes;
    report(job, "weights");
}

static int count_tensor(struct job *job, const struct weight_tensor *t)
{
    if (pt2_writer_begin_tensor(job->writer, PT2_TABLE_WEIGHTS, t->record, t->bytes,
                                job->err) < 0 ||
        pt2_writer_skip(job->writer, t->bytes, job->err) < 0)
        return -1;
    return pt2_writer_end(job->writer, job->err);
}

/* One tensor of a weight: all of its sources, in pieces. */
static int write_tensor(struct job *job, const struct weight *w, enum weight_part part,
                        const struct weight_tensor *t)
{
    const struct pt2_checkpoint_tensor *const *sources =
        job->exp->weights.sources + w->first_source;
    struct piece piece = {.record = t->record,
                          .record_bytes = t->bytes,
                          .dtype = weight_dtype(w, job->exp->options.dtype),
                          .scheme = w->scheme,
                          .part = part};

    if (job->is_counting)
        return count_tensor(job, t);
    for (size_t i = 0; i < w->n_sources; i++) {
        uint64_t n = sources[i]->bytes / pt2_dtype_size(sources[i]->dtype);

        piece.source = sources[i];
        for (piece.first = 0; piece.first < n; piece.first += piece.n) {
            piece.n = (size_t)MIN(n - piece.first, (uint64_t)pieces_max(&piece));
            piece.is_first = i == 0 && piece.first == 0;
            piece.is_last = i + 1 == w->n_sources && piece.first + piece.n == n;
            if (pieces_put(job->pieces, &piece, job->err) < 0)
                return -1;
        }
    }
    return 0;
}

/* The tensors of all weights, in the order of the signature. */
static void list_tensors(const struct pt2_export *exp, struct weight_tensor *to,
                         struct pt2_payload_entry *entries)
{
    for (size_t i = 0; i < exp->weights.n; i++) {
        const struct weight *w = &exp->weights.list[i];

        for (unsigned part = 0; part < weight_n_parts(w); part++, to++, entries++) {
            weight_tensor(w, exp->options.dtype, part, to);
            *entries = (struct pt2_payload_entry){
                .fqn = to->fqn,
                .record = to->record,
                .dtype = to->dtype,
                .n_dims = to->n_dims,
                .sizes = {to->sizes[0], to->sizes[1], to->sizes[2]},
                .is_param = !w->is_buffer,
                .requires_grad = to->requires_grad,
            };
        }
    }
}

static int write_tensors(struct job *job, const struct weight_tensor *t)
{
    const struct weights *ws = &job->exp->weights;

    for (size_t i = 0; i < ws->n; i++)
        for (unsigned part = 0; part < weight_n_parts(&ws->list[i]); part++, t++)
            if (!ws->list[i].is_alias && write_tensor(job, &ws->list[i], part, t) < 0)
                return -1;
    return job->pieces ? pieces_finish(job->pieces, job->err) : 0;
}

static int write_weights(struct job *job)
{
    const struct weights *ws = &job->exp->weights;
    AUTO_PTR struct pt2_payload_entry *entries = NULL;
    AUTO_PTR struct weight_tensor *tensors = NULL;
    size_t n = 0;

    for (size_t i = 0; i < ws->n; i++)
        n += weight_n_parts(&ws->list[i]);
    entries = calloc(n, sizeof(*entries));
    tensors = calloc(n, sizeof(*tensors));
    if (!entries || !tensors)
        return pt2_err_set(job->err, PT2_ERR_NOMEM, "%zu weights", n);
    list_tensors(job->exp, tensors, entries);
    job->done = 0;
    job->total = 0;
    for (size_t i = 0, at = 0; i < ws->n; at += weight_n_parts(&ws->list[i++]))
        for (unsigned part = 0; part < weight_n_parts(&ws->list[i]); part++)
            if (!ws->list[i].is_alias)
                job->total += tensors[at + part].bytes;
    if (write_tensors(job, tensors) < 0)
        return -1;
    return pt2_writer_payloads(job->writer, PT2_TABLE_WEIGHTS, entries, n, job->err);
}

/* Caches start as zeros, which a record of no bytes stands for. */
static int write_buffer(struct job *job, const struct decoder_buffer *b, uint32_t record)
{
    size_t n = (size_t)b->sizes[b->n_dims - 1];
    int64_t n_rows = decoder_buffer_n_rows(b);
    AUTO_PTR float *row = calloc(n, sizeof(*row));

    if (!row)
        return pt2_err_set(job->err, PT2_ERR_NOMEM, "a row of '%s'", b->fqn);
    if (pt2_writer_begin_tensor(job->writer, PT2_TABLE_CONSTANTS, record,
                                (uint64_t)n_rows * n * sizeof(*row), job->err) < 0)
        return -1;
    for (int64_t i = 0; i < n_rows && !job->is_counting; i++) {
        decoder_buffer_row(&job->exp->spec, b, i, row);
        if (pt2_writer_add(job->writer, row, n * sizeof(*row), job->err) < 0)
            return -1;
    }
    if (job->is_counting &&
        pt2_writer_skip(job->writer, (uint64_t)n_rows * n * sizeof(*row), job->err) < 0)
        return -1;
    return pt2_writer_end(job->writer, job->err);
}

static int write_buffers(struct job *job)
{
    const struct decoder_buffers *buffers = &job->exp->buffers;
    AUTO_PTR struct pt2_payload_entry *entries = calloc(buffers->n, sizeof(*entries));

    if (!entries)
        return pt2_err_set(job->err, PT2_ERR_NOMEM, "%zu buffers", buffers->n);
    for (size_t i = 0; i < buffers->n; i++) {
        const struct decoder_buffer *b = &buffers->list[i];

        entries[i] = (struct pt2_payload_entry){
            .fqn = b->fqn, .record = (uint32_t)i, .dtype = b->dtype, .n_dims = b->n_dims};
        memcpy(entries[i].sizes, b->sizes, sizeof(b->sizes));
        if (write_buffer(job, b, (uint32_t)i) < 0)
            return -1;
    }
    return pt2_writer_payloads(job->writer, PT2_TABLE_CONSTANTS, entries, buffers->n,
                               job->err);
}

static int write_extras(struct job *job)
{
    struct extras *extras = &job->exp->extras;
    AUTO_PTR uint8_t *slice = job->is_counting ? NULL : malloc(SLICE_BYTES);

    if (!slice && !job->is_counting)
        return pt2_err_set(job->err, PT2_ERR_NOMEM, "a slice of a file");
    job->done = 0;
    job->total = extras->bytes;
    for (size_t i = 0; i < extras->n; i++) {
        const struct extra *e = &extras->list[i];

        if (job->is_counting && !e->text) {
            if (pt2_writer_begin(job->writer, e->name, e->bytes, 1, job->err) < 0 ||
                pt2_writer_skip(job->writer, e->bytes, job->err) < 0 ||
                pt2_writer_end(job->writer, job->err) < 0)
                return -1;
            continue;
        }
        if (extras_write(e, job->exp->checkpoint, job->writer, slice, SLICE_BYTES,
                         job->err) < 0)
            return -1;
        job->done += e->bytes;
        report(job, "extra");
    }
    return 0;
}

static int write_archive(struct pt2_export *exp, struct pt2_writer *writer,
                         bool is_counting, pt2_export_progress *progress, void *ctx,
                         struct pt2_err *err)
{
    struct job job = {.exp = exp,
                      .writer = writer,
                      .is_counting = is_counting,
                      .progress = progress,
                      .ctx = ctx,
                      .err = err};
    AUTO(pieces) pieces = NULL;

    if (!is_counting && pieces_new(exp->checkpoint, writer, count_piece, &job, &pieces, err) < 0)
        return -1;
    job.pieces = pieces;
    if (pt2_writer_fixed(writer, err) < 0 ||
        pt2_writer_model(writer, exp->json, exp->json_bytes, err) < 0 ||
        write_weights(&job) < 0 || write_buffers(&job) < 0 || write_extras(&job) < 0)
        return -1;
    return 0;
}

int pt2_export_write(struct pt2_export *exp, int fd, pt2_export_progress *progress,
                     void *ctx, uint8_t *ret_sha256, uint64_t *ret_bytes,
                     struct pt2_err *err)
{
    struct pt2_writer *writer;
    uint8_t digest[32];
    uint64_t bytes;
    int r;

    if (pt2_checkpoint_check_unchanged(exp->checkpoint, err) < 0 ||
        pt2_writer_new(fd, ROOT, &writer, err) < 0)
        return -1;
    if (!ret_sha256)
        pt2_writer_no_digest(writer);
    r = write_archive(exp, writer, /* is_counting= */ false, progress, ctx, err);
    if (r == 0)
        r = pt2_writer_finish(writer, digest, &bytes, err);
    pt2_writer_free(writer);
    if (r < 0 || pt2_checkpoint_check_unchanged(exp->checkpoint, err) < 0)
        return -1;
    ASSERT(bytes == exp->written_bytes);
    if (ret_sha256)
        memcpy(ret_sha256, digest, sizeof(digest));
    *ret_bytes = bytes;
    return 0;
}
