/* pte.c - from an archive to an ExecuTorch file. */
#include <pt2/pte.h>

#include "base/half.h"
#include "base/json.h"
#include "base/log.h"
#include "pte/file.h"
#include "pte/lower.h"

#define METADATA     "extra/executorch_metadata.json"
#define MAX_METADATA ((size_t)1 << 16)
#define MAX_NUMBERS  64 /* of one method */

struct pt2_pte {
    const struct pt2_archive *archive; /* borrowed; NULL where it is only looked at */
    struct pt2_program *from;          /* of the archive */
    struct pte_program program;
    struct pte_file *file;
    json_t *metadata; /* the methods' names and values */
    pt2_pte_progress *progress;
    void *ctx;
    uint64_t done, total;
};

DEFINE_AUTO(pt2_pte)

const char *pt2_pte_backend_name(enum pt2_pte_backend backend)
{
    return backend == PT2_PTE_PORTABLE ? "portable" : "xnnpack";
}

void pt2_pte_free(struct pt2_pte *pte)
{
    if (!pte)
        return;
    pte_file_free(pte->file);
    pte_done(&pte->program);
    pt2_program_free(pte->from);
    json_decref(pte->metadata);
    free(pte);
}

/* ---- what a runner asks for ---- */

static int read_metadata(struct pt2_pte *pte, char **ret_text, size_t *ret_len,
                         struct pt2_err *err)
{
    const struct pt2_record *record = pt2_archive_find(pte->archive, METADATA);
    void *text = NULL;

    if (record &&
        pt2_archive_read(pte->archive, record, MAX_METADATA, &text, ret_len, err) < 0)
        return -1;
    *ret_text = text;
    return 0;
}

static int parse_metadata(struct pt2_pte *pte, const char *text, size_t len,
                          struct pt2_err *err)
{
    if (!text) {
        pte->metadata = json_object();
        return pte->metadata ? 0 : pt2_err_set(err, PT2_ERR_NOMEM, "metadata");
    }
    if (json_parse(text, len, &pte->metadata, err) < 0)
        return -1;
    if (!json_is_object(pte->metadata))
        return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE, "%s is no object", METADATA);
    return 0;
}

static int number_of(const char *name, const json_t *json, struct pte_value *ret_value,
                     struct pt2_err *err)
{
    if (json_is_boolean(json))
        *ret_value = (struct pte_value){.kind = PTE_BOOL, .b = json_is_true(json)};
    else if (json_is_integer(json))
        *ret_value =
            (struct pte_value){.kind = PTE_INT, .i = json_integer_value(json)};
    else
        return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE,
                           "%s: %s is no integer, boolean or list of them", METADATA, name);
    return 0;
}

/* Fill in the method; its values are from `values` on. */
static int read_method(const char *name, const json_t *json, struct pte_value *values,
                       struct pte_method *ret_method, struct pt2_err *err)
{
    size_t n = json_is_array(json) ? json_array_size(json) : 1;

    if (n > MAX_NUMBERS)
        return pt2_err_set(err, PT2_ERR_LIMIT, "%s: %s has %zu values, %d at most",
                           METADATA, name, n, MAX_NUMBERS);
    for (size_t i = 0; i < n; i++)
        if (number_of(name, json_is_array(json) ? json_array_get(json, i) : json,
                      &values[i], err) < 0)
            return -1;
    *ret_method = (struct pte_method){name, values, (uint32_t)n};
    return 0;
}

static int lay_out(struct pt2_pte *pte, struct pt2_err *err)
{
    AUTO_PTR struct pte_value *values =
        calloc(PTE_MAX_METHODS * MAX_NUMBERS, sizeof(*values));
    struct pte_method methods[PTE_MAX_METHODS];
    uint32_t n = 0;
    const char *name;
    json_t *json;

    if (!values)
        return pt2_err_set(err, PT2_ERR_NOMEM, "metadata");
    json_object_foreach (pte->metadata, name, json) {
        if (n == PTE_MAX_METHODS)
            return pt2_err_set(err, PT2_ERR_LIMIT, "%s: more than %d members", METADATA,
                               PTE_MAX_METHODS);
        if (read_method(name, json, values + n * MAX_NUMBERS, &methods[n], err) < 0)
            return -1;
        n++;
    }
    return pte_file_new(&pte->program, methods, n, &pte->file, err);
}

/* ---- making ---- */

static int lower(struct pt2_pte *pte, const struct pt2_program *from, const char *metadata,
                 size_t metadata_len, const struct pt2_pte_options *options,
                 struct pt2_err *err)
{
    enum pte_backend backend =
        options->backend == PT2_PTE_PORTABLE ? PTE_PORTABLE : PTE_XNNPACK;

    if (parse_metadata(pte, metadata, metadata_len, err) < 0 ||
        pte_lower(from, backend, &pte->program, err) < 0)
        return -1;
    for (uint32_t i = 0; i < pte->program.n_blobs; i++)
        if (pte->program.blobs[i].is_constant || pte->program.blobs[i].is_named)
            pte->total += pte->program.blobs[i].bytes;
    return lay_out(pte, err);
}

static struct pt2_pte *new_empty(const struct pt2_archive *archive, struct pt2_err *err)
{
    struct pt2_pte *pte = calloc(1, sizeof(*pte));

    if (!pte) {
        pt2_err_set(err, PT2_ERR_NOMEM, "an ExecuTorch program");
        return NULL;
    }
    pte->archive = archive;
    pte_init(&pte->program);
    return pte;
}

int pt2_pte_new(const struct pt2_archive *archive, const struct pt2_pte_options *options,
                struct pt2_pte **ret_pte, struct pt2_err *err)
{
    AUTO(pt2_pte) pte = new_empty(archive, err);
    AUTO_PTR char *metadata = NULL;
    size_t len = 0;

    if (!pte || pt2_program_read(archive, &pte->from, err) < 0 ||
        read_metadata(pte, &metadata, &len, err) < 0 ||
        lower(pte, pte->from, metadata, len, options, err) < 0)
        return -1;
    *ret_pte = TAKE(pte);
    return 0;
}

int pt2_pte_check(const struct pt2_program *program, const char *metadata,
                  const struct pt2_pte_options *options, struct pt2_pte_facts *ret_facts,
                  struct pt2_err *err)
{
    AUTO(pt2_pte) pte = new_empty(NULL, err);

    if (!pte || lower(pte, program, metadata, metadata ? strlen(metadata) : 0, options,
                      err) < 0)
        return -1;
    *ret_facts = pt2_pte_facts(pte);
    return 0;
}

struct pt2_pte_facts pt2_pte_facts(const struct pt2_pte *pte)
{
    return (struct pt2_pte_facts){
        .file_bytes = pte_file_bytes(pte->file),
        .arena_bytes = pte->program.arena_bytes,
        .n_instructions = pte->program.n_calls,
        .n_delegates = pte->program.n_delegates,
    };
}

/* ---- writing ---- */

/* The slice in the blob's form, which is to, or the slice itself where that is plain; how many
 * bytes that is. */
static const uint8_t *shape_slice(enum pte_form form, const uint8_t *from, size_t len,
                                  uint8_t *to, size_t *ret_len)
{
    unsigned first = form == PTE_LOW_NIBBLES ? 0 : 4;
    float f;
    uint16_t half;

    *ret_len = len / 2;
    switch (form) {
    case PTE_PLAIN:
        *ret_len = len;
        return from;
    case PTE_LOW_NIBBLES:
    case PTE_HIGH_NIBBLES:
        for (size_t i = 0; i < len / 2; i++)
            to[i] = (uint8_t)(((from[2 * i] + 8) & 15) << first |
                              ((from[2 * i + 1] + 8) & 15) << (4 - first));
        return to;
    case PTE_BFLOAT16:
        for (size_t i = 0; i < len / 4; i++) {
            memcpy(&f, from + 4 * i, sizeof(f));
            half = bf16_of_float(f);
            memcpy(to + 2 * i, &half, sizeof(half));
        }
        return to;
    }
    return NULL;
}

/* A blob on its way from the archive. */
struct passing {
    struct pt2_pte *pte;
    enum pte_form form;
    struct out *out;
    uint8_t *room; /* for a slice in the blob's form */
};

static int pass_slice(void *ctx, const void *bytes, size_t len, struct pt2_err *err)
{
    const struct passing *passing = ctx;
    struct pt2_pte *pte = passing->pte;
    size_t n;
    const uint8_t *shaped = shape_slice(passing->form, bytes, len, passing->room, &n);

    if (out_add(passing->out, shaped, n, err) < 0)
        return -1;
    pte->done += n;
    if (pte->progress)
        pte->progress(pte->ctx, pte->done, pte->total);
    return 0;
}

static int write_blob(void *ctx, uint32_t blob, struct out *out, struct pt2_err *err)
{
    struct pt2_pte *pte = ctx;
    const struct pte_blob *b = &pte->program.blobs[blob];
    const struct pt2_payload *payload = pt2_archive_find_payload(pte->archive, b->source);
    uint64_t n = b->form == PTE_PLAIN ? b->bytes : b->bytes * 2;
    AUTO_PTR uint8_t *room = NULL;
    struct passing passing = {pte, b->form, out, NULL};

    if (!payload)
        return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE, "no payload '%s'", b->source);
    if (payload->is_zeros)
        return out_add_zeros(out, b->bytes, err);
    if (payload->storage_offset || payload->record->size != n)
        return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE, "payload '%s' is no whole record",
                           b->source);
    if (b->form != PTE_PLAIN) {
        passing.room = room = malloc(PT2_ARCHIVE_SLICE);
        if (!room)
            return pt2_err_set(err, PT2_ERR_NOMEM, "a slice of a weight");
    }
    return pt2_archive_slices(pte->archive, payload->record, pass_slice, &passing, err);
}

int pt2_pte_write(struct pt2_pte *pte, int fd, pt2_pte_progress *progress, void *ctx,
                  uint8_t *ret_sha256, uint64_t *ret_bytes, struct pt2_err *err)
{
    AUTO(out) out = NULL;

    pte->progress = progress;
    pte->ctx = ctx;
    pte->done = 0;
    if (out_new(fd, &out, err) < 0 ||
        pte_file_write(pte->file, out, write_blob, pte, err) < 0)
        return -1;
    *ret_bytes = out_pos(out);
    return out_finish(out, ret_sha256, err);
}
