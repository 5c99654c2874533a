#include "native/pack.h"

#include <stdatomic.h>
#include <sys/mman.h>

#include "base/mapping.h"
#include "native/pack_file.h"

#define HUGE_PAGE  ((size_t)2 << 20)
#define TASK_BYTES ((uint64_t)1 << 18) /* of data, that one thread packs without asking again */
#define JOB_TASKS  256                 /* of one job: then others may have the team */

struct packing {
    uint8_t *memory; /* or */
    struct pack_map map;
};

/* ---- the team ---- */

/* Panels of one matrix, dealt to whoever comes. */
struct work {
    struct plan_quant *q;
    uint8_t *to;       /* NULL: look for numbers of more than 4 bits */
    uint32_t panels;   /* of a task */
    size_t n_tasks, end;
    _Atomic size_t next;
    _Atomic bool is_wide;
};

static void pack_job(void *context, unsigned part)
{
    struct work *w = context;
    const struct quant_shape *shape = &w->q->shape;
    size_t task;

    (void)part;
    while ((task = atomic_fetch_add(&w->next, 1)) < w->end) {
        uint32_t first = (uint32_t)task * w->panels * QUANT_PANEL;
        uint32_t n = MIN(w->panels * QUANT_PANEL, shape->n_out - first);

        if (w->to)
            quant_pack(shape, w->q->data, w->q->scale, first, n, w->to);
        else if (!quant_fits_4_bits(w->q->data + (size_t)first * shape->k, (size_t)n * shape->k))
            w->is_wide = true;
    }
}

static bool for_panels(struct team *team, struct plan_quant *q, uint8_t *to)
{
    const struct quant_shape *shape = &q->shape;
    uint32_t n_panels = (shape->n_out + QUANT_PANEL - 1) / QUANT_PANEL;
    struct work w = {.q = q, .to = to};

    w.panels = (uint32_t)MAX(TASK_BYTES / ((uint64_t)QUANT_PANEL * shape->k), 1);
    w.n_tasks = (n_panels + w.panels - 1) / w.panels;
    for (size_t at = 0; at < w.n_tasks; at = w.end) {
        w.end = MIN(at + JOB_TASKS, w.n_tasks);
        w.next = at;
        team_run(team, pack_job, &w);
    }
    return w.is_wide;
}

/* ---- packing ---- */

static uint64_t lay_out(const struct plan *plan, uint64_t first, uint64_t *offsets)
{
    uint64_t at = first;

    for (size_t i = 0; i < plan->n_quants; i++) {
        const struct plan_quant *q = &plan->quants[i];

        offsets[i] = at;
        if (q->is_linear)
            at += quant_packed_bytes(&q->shape);
    }
    return at;
}

/* Large pages where the system has them: all of it is read for each token. */
static uint8_t *new_memory(uint64_t bytes)
{
    uint8_t *memory = aligned_alloc(HUGE_PAGE, (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);

#ifdef MADV_HUGEPAGE
    if (memory)
        (void)madvise(memory, bytes, MADV_HUGEPAGE);
#endif
    return memory;
}

/* The plan's matrices are those at these offsets. */
static void use(struct plan *plan, const uint8_t *at, const uint64_t *offsets)
{
    for (size_t i = 0; i < plan->n_quants; i++)
        if (plan->quants[i].is_linear)
            plan->quants[i].packed = at + offsets[i];
}

static int pack(struct plan *plan, struct team *team, uint64_t *offsets, uint64_t *ret_bytes,
                uint8_t **ret_memory, struct pt2_err *err)
{
    uint64_t bytes;
    uint8_t *memory;

    for (size_t i = 0; i < plan->n_quants; i++) {
        struct plan_quant *q = &plan->quants[i];

        if (q->is_linear && q->shape.bits == 4 && for_panels(team, q, NULL))
            q->shape.bits = 8; /* dequantize_affine takes them as they are */
    }
    bytes = lay_out(plan, 0, offsets);
    memory = new_memory(bytes);
    if (!memory)
        return pt2_err_set(err, PT2_ERR_NOMEM, "packed weights of %llu bytes",
                           (unsigned long long)bytes);
    for (size_t i = 0; i < plan->n_quants; i++)
        if (plan->quants[i].is_linear)
            (void)for_panels(team, &plan->quants[i], memory + offsets[i]);
    *ret_memory = memory;
    *ret_bytes = bytes;
    return 0;
}

/* Write it to a file and use that one; what it was packed in goes. */
static int keep(struct plan *plan, struct packing *p, const struct pt2_archive *archive,
                struct team *team, const char *path, const uint64_t *offsets, uint64_t bytes,
                struct pt2_err *err)
{
    uint64_t first;

    if (pack_file_write(path, plan, archive, team, p->memory, bytes, &p->map, &first, err) < 0)
        return -1;
    use(plan, p->map.at + first, offsets);
    free(p->memory);
    p->memory = NULL;
    return 0;
}

int plan_pack(struct plan *plan, const struct pt2_archive *archive, struct team *team,
              const char *path, struct pt2_err *ret_warning, struct pt2_err *err)
{
    AUTO(packing) p = calloc(1, sizeof(*p));
    AUTO_PTR uint64_t *offsets = calloc(plan->n_quants + 1, sizeof(*offsets));
    uint64_t bytes = 0, first;
    bool has_some = false;

    if (!p || !offsets)
        return pt2_err_set(err, PT2_ERR_NOMEM, "packed weights");
    for (size_t i = 0; i < plan->n_quants; i++)
        has_some |= plan->quants[i].is_linear;
    if (!has_some)
        return 0;
    if (path && pack_file_map(path, plan, archive, team, &p->map, &first)) {
        lay_out(plan, 0, offsets);
        use(plan, p->map.at + first, offsets);
    } else {
        if (pack(plan, team, offsets, &bytes, &p->memory, err) < 0)
            return -1;
        if (pt2_archive_is_cut(archive)) /* no file is made of that */
            return pt2_err_set(err, PT2_ERR_PROGRAM_DAMAGED,
                               "its file was cut short while its weights were packed");
        use(plan, p->memory, offsets);
        if (path && keep(plan, p, archive, team, path, offsets, bytes, ret_warning) < 0)
            pt2_err_prefix(ret_warning, "weights stay packed in memory");
    }
    if (p->memory)
        plan->private_bytes += bytes;
    plan_count_bytes(plan);
    plan->packing = TAKE(p);
    return 0;
}

bool packing_is_mapped(const struct packing *packing)
{
    return packing && packing->map.at;
}

bool packing_is_cut(const struct packing *packing)
{
    return packing && packing->map.mapping && mapping_is_cut(packing->map.mapping);
}

void packing_free(struct packing *p)
{
    if (!p)
        return;
    free(p->memory);
    pack_map_done(&p->map);
    free(p);
}
