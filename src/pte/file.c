/* file.c - segments laid out, and written. */
#include "pte/file.h"

#include "base/log.h"
#include "pte/memory.h"
#include "pte/tables.h"
#include "pte/xnn.h"

#define CONSTANT_ALIGN 64
#define HEADER_BYTES   32

struct pte_file {
    struct pte_program *p; /* borrowed */
    struct fb fb;
    uint8_t *head; /* the FlatBuffer, fb's */
    size_t head_bytes;
    uint64_t base; /* where segments begin */
    uint64_t segment_bytes;
    struct pte_layout layout;
    uint8_t **payloads; /* by delegate */
};

void pte_file_free(struct pte_file *file)
{
    if (!file)
        return;
    for (uint32_t i = 0; file->payloads && i < file->p->n_delegates; i++)
        free(file->payloads[i]);
    free(file->payloads);
    free(file->layout.segments);
    free(file->layout.constants);
    free(file->layout.named);
    fb_done(&file->fb);
    free(file);
}

static uint64_t round_up(uint64_t n, uint64_t align)
{
    return (n + align - 1) / align * align;
}

/* ---- laying out ---- */

static int add_payloads(struct pte_file *file, struct pt2_err *err)
{
    struct pte_program *p = file->p;

    file->payloads = calloc(MAX(p->n_delegates, 1u), sizeof(*file->payloads));
    if (!file->payloads)
        return pt2_err_set(err, PT2_ERR_NOMEM, "payloads");
    for (uint32_t i = 0; i < p->n_delegates; i++) {
        struct pte_segment *s = &file->layout.segments[file->layout.n_segments];
        size_t bytes;

        if (xnn_payload(p->delegates[i], &file->payloads[i], &bytes, err) < 0)
            return -1;
        s->offset = round_up(file->segment_bytes, PTE_FILE_ALIGN);
        s->bytes = bytes;
        s->blob = PTE_NONE;
        s->delegate = i;
        file->segment_bytes = s->offset + bytes;
        file->layout.n_segments++;
    }
    return 0;
}

/* The first segment: blobs that tensors have. */
static void add_constants(struct pte_file *file)
{
    struct pte_program *p = file->p;
    uint64_t end = 0;

    for (uint32_t i = 0; i < p->n_blobs; i++) {
        struct pte_blob *b = &p->blobs[i];

        if (!b->is_constant)
            continue;
        b->offset = round_up(end, CONSTANT_ALIGN);
        end = b->offset + b->bytes;
        file->layout.constants[i] = ++file->layout.n_constants; /* 0 is reserved */
    }
    if (file->layout.n_constants == 0)
        return;
    file->layout.segments[file->layout.n_segments++] =
        (struct pte_segment){.bytes = end, .blob = PTE_NONE, .delegate = PTE_NONE};
    file->segment_bytes = end;
}

static void add_named(struct pte_file *file)
{
    struct pte_program *p = file->p;

    for (uint32_t i = 0; i < p->n_blobs; i++) {
        struct pte_blob *b = &p->blobs[i];
        struct pte_segment *s = &file->layout.segments[file->layout.n_segments];

        if (!b->is_named)
            continue;
        file->layout.named[i] = ++file->layout.n_segments; /* from 1: 0 has none */
        *s = (struct pte_segment){.bytes = b->bytes, .blob = i, .delegate = PTE_NONE};
        s->is_within = b->is_constant;
        if (!b->is_constant) {
            b->offset = round_up(file->segment_bytes, PTE_FILE_ALIGN);
            file->segment_bytes = b->offset + b->bytes;
        }
        s->offset = b->offset;
    }
}

/* One segment for all caches: each is filled from its beginning when a method is loaded. */
static void add_zeros(struct pte_file *file)
{
    const struct pte_program *p = file->p;
    struct pte_segment *s = &file->layout.segments[file->layout.n_segments];
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < p->n_values; i++)
        if (p->values[i].kind == PTE_TENSOR && pte_tensor(p, i)->is_kept)
            bytes = MAX(bytes, pte_tensor_bytes(pte_tensor(p, i)));
    if (bytes == 0)
        return;
    *s = (struct pte_segment){.bytes = bytes, .blob = PTE_NONE, .delegate = PTE_NONE};
    s->offset = round_up(file->segment_bytes, PTE_FILE_ALIGN);
    file->segment_bytes = s->offset + bytes;
    file->layout.zeros = ++file->layout.n_segments;
}

static int lay_out(struct pte_file *file, struct pt2_err *err)
{
    struct pte_program *p = file->p;
    struct pte_layout *l = &file->layout;
    size_t n = (size_t)p->n_blobs + p->n_delegates + 2;

    l->segments = calloc(n, sizeof(*l->segments));
    l->constants = calloc(n, sizeof(*l->constants));
    l->named = calloc(n, sizeof(*l->named));
    if (!l->segments || !l->constants || !l->named)
        return pt2_err_set(err, PT2_ERR_NOMEM, "segments");
    add_constants(file);
    l->first_payload = l->n_segments;
    if (add_payloads(file, err) < 0)
        return -1;
    add_named(file);
    add_zeros(file);
    return 0;
}

static void put_header(struct pte_file *file)
{
    uint8_t *to = file->head + 8; /* behind the root's offset and the identifier */
    uint32_t bytes = HEADER_BYTES;
    uint64_t sizes[] = {file->head_bytes, file->base, file->segment_bytes};

    memcpy(to, "eh00", 4);
    memcpy(to + 4, &bytes, sizeof(bytes));
    memcpy(to + 8, sizes, sizeof(sizes));
}

int pte_file_new(struct pte_program *p, const struct pte_method *methods,
                 uint32_t n_methods, struct pte_file **ret_file, struct pt2_err *err)
{
    AUTO(pte_file) file = calloc(1, sizeof(*file));
    uint32_t root;

    ASSERT(!p->failed);
    if (!file)
        return pt2_err_set(err, PT2_ERR_NOMEM, "an ExecuTorch program");
    file->p = p;
    if (lay_out(file, err) < 0)
        return -1;
    root = pte_program_table(&file->fb, p, &file->layout, methods, n_methods);
    if (fb_finish(&file->fb, root, "ET12", HEADER_BYTES, &file->head, &file->head_bytes,
                  err) < 0)
        return -1;
    file->base = round_up(file->head_bytes, PTE_FILE_ALIGN);
    put_header(file);
    *ret_file = TAKE(file);
    return 0;
}

uint64_t pte_file_bytes(const struct pte_file *file)
{
    return file->base + file->segment_bytes;
}

/* ---- writing ---- */

static int pad_to(struct out *out, uint64_t pos, struct pt2_err *err)
{
    ASSERT(out_pos(out) <= pos);
    return out_add_zeros(out, (size_t)(pos - out_pos(out)), err);
}

static int write_blob(const struct pte_file *file, uint32_t i, uint64_t start,
                      struct out *out, pte_write_blob *write, void *ctx,
                      struct pt2_err *err)
{
    const struct pte_blob *b = &file->p->blobs[i];
    uint64_t pos = start + file->base + b->offset;

    if (pad_to(out, pos, err) < 0)
        return -1;
    if (b->data)
        return out_add(out, b->data, b->bytes, err);
    if (write(ctx, i, out, err) < 0)
        return -1;
    ASSERT(out_pos(out) == pos + b->bytes);
    return 0;
}

int pte_file_write(const struct pte_file *file, struct out *out, pte_write_blob *write,
                   void *ctx, struct pt2_err *err)
{
    const struct pte_program *p = file->p;
    uint64_t start = out_pos(out);

    if (out_add(out, file->head, file->head_bytes, err) < 0 ||
        pad_to(out, start + file->base, err) < 0)
        return -1;
    for (uint32_t i = 0; i < p->n_blobs; i++)
        if (p->blobs[i].is_constant &&
            write_blob(file, i, start, out, write, ctx, err) < 0)
            return -1;
    for (uint32_t i = 0; i < file->layout.n_segments; i++) {
        const struct pte_segment *s = &file->layout.segments[i];

        if (s->delegate != PTE_NONE &&
            (pad_to(out, start + file->base + s->offset, err) < 0 ||
             out_add(out, file->payloads[s->delegate], s->bytes, err) < 0))
            return -1;
        if (s->blob != PTE_NONE && !s->is_within &&
            write_blob(file, s->blob, start, out, write, ctx, err) < 0)
            return -1;
    }
    return pad_to(out, start + pte_file_bytes(file), err); /* the caches' zeros */
}
