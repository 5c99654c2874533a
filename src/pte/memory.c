/* memory.c - a place in the arena for each tensor, and the proof of it. */
#include "pte/memory.h"

#include "base/log.h"

/* Called for each tensor of the arena that a call names, aliases as their bases. */
typedef void each_tensor(void *ctx, uint32_t base, bool is_written);

static void name_value(const struct pte_program *p, uint32_t value, bool is_written,
                       each_tensor *each, void *ctx)
{
    const struct pte_value *v = &p->values[value];

    if (v->kind == PTE_TENSORS || v->kind == PTE_OPTIONAL_TENSORS) {
        for (uint32_t i = 0; i < v->list.n; i++)
            if (v->list.items[i] >= 0)
                name_value(p, (uint32_t)v->list.items[i], is_written, each, ctx);
        return;
    }
    if (v->kind != PTE_TENSOR)
        return;
    if (v->tensor.place == PTE_ARENA)
        each(ctx, value, is_written);
    else if (v->tensor.place == PTE_ALIAS)
        each(ctx, v->tensor.base, is_written);
}

/* First what the call reads, then what it writes. */
static void name_tensors(const struct pte_program *p, const struct pte_call *c,
                         each_tensor *each, void *ctx)
{
    uint32_t n_read = c->n_args - MIN(c->n_outs, c->n_args);

    for (uint32_t i = 0; i < n_read; i++)
        name_value(p, (uint32_t)c->args[i], false, each, ctx);
    for (uint32_t i = n_read; i < c->n_args; i++)
        name_value(p, (uint32_t)c->args[i], true, each, ctx);
    if (c->is_row) /* the first was named above: the other rows of it are read */
        name_value(p, (uint32_t)c->args[0], true, each, ctx);
}

static uint64_t place_bytes(const struct pte_program *p, uint32_t base)
{
    uint64_t bytes = pte_tensor_bytes(pte_tensor(p, base));

    return (bytes + MEMORY_ALIGN - 1) / MEMORY_ALIGN * MEMORY_ALIGN;
}

/* ---- planning ---- */

struct life {
    uint32_t value;
    uint32_t first, last; /* calls */
    uint64_t bytes, offset;
    bool is_kept, is_named;
};

struct planning {
    struct life *lives; /* by value */
    uint32_t call;
};

static void live(void *ctx, uint32_t base, bool is_written)
{
    struct planning *planning = ctx;
    struct life *life = &planning->lives[base];

    (void)is_written;
    if (!life->is_named)
        life->first = planning->call;
    life->is_named = true;
    life->last = planning->call;
}

/* What is there before a loop and read in it, or the other way, is so in each round. */
static void lengthen(const struct pte_program *p, struct life *lives, uint32_t end)
{
    uint32_t first = p->calls[end].index;

    for (uint32_t i = 0; i < p->n_values; i++) {
        struct life *life = &lives[i];

        if (!life->is_named || life->first > end || life->last < first ||
            (life->first >= first && life->last <= end))
            continue;
        life->first = MIN(life->first, first);
        life->last = MAX(life->last, end);
    }
}

static void find_lives(const struct pte_program *p, struct planning *planning)
{
    for (uint32_t i = 0; i < p->n_values; i++)
        planning->lives[i].value = i;
    for (planning->call = 0; planning->call < p->n_calls; planning->call++)
        name_tensors(p, &p->calls[planning->call], live, planning);
    for (uint32_t i = 0; i < p->n_outputs; i++)
        name_value(p, (uint32_t)p->outputs[i], true, live, planning);
    for (uint32_t i = 0; i < p->n_calls; i++)
        if (pte_is_loop(p, i))
            lengthen(p, planning->lives, i);
    for (uint32_t i = 0; i < p->n_values; i++) {
        struct life *life = &planning->lives[i];

        life->is_kept = p->values[i].kind == PTE_TENSOR && pte_tensor(p, i)->is_kept;
        life->is_named = life->is_named || life->is_kept;
        if (!life->is_named)
            continue;
        life->bytes = place_bytes(p, i);
        if (life->is_kept) {
            life->first = 0;
            life->last = UINT32_MAX;
        }
    }
}

/* Those that are kept first, then the largest. */
static int by_size(const void *a, const void *b)
{
    const struct life *x = a, *y = b;

    if (x->is_kept != y->is_kept)
        return x->is_kept ? -1 : 1;
    if (x->bytes != y->bytes)
        return x->bytes > y->bytes ? -1 : 1;
    return x->value < y->value ? -1 : 1;
}

static bool meet(const struct life *a, const struct life *b)
{
    return a->first <= b->last && b->first <= a->last;
}

/* The lowest offset at which nothing of the n placed ones is in the way; placed: by offset. */
static uint64_t lowest_offset(const struct life *lives, const uint32_t *placed, uint32_t n,
                              const struct life *life)
{
    uint64_t offset = 0;

    for (uint32_t i = 0; i < n; i++) {
        const struct life *other = &lives[placed[i]];

        if (!meet(life, other))
            continue;
        if (other->offset >= offset && other->offset - offset >= life->bytes)
            break;
        offset = MAX(offset, other->offset + other->bytes);
    }
    return offset;
}

static void insert(const struct life *lives, uint32_t *placed, uint32_t n, uint32_t i)
{
    while (n > 0 && lives[placed[n - 1]].offset > lives[i].offset) {
        placed[n] = placed[n - 1];
        n--;
    }
    placed[n] = i;
}

int memory_plan(struct pte_program *p, struct pt2_err *err)
{
    AUTO_PTR struct life *lives = calloc(MAX(p->n_values, 1u), sizeof(*lives));
    AUTO_PTR uint32_t *placed = calloc(MAX(p->n_values, 1u), sizeof(*placed));
    uint32_t n = 0;
    uint64_t end = 0;

    ASSERT(!p->failed);
    if (!lives || !placed)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a plan of memory");
    find_lives(p, &(struct planning){.lives = lives});
    for (uint32_t i = 0; i < p->n_values; i++)
        if (lives[i].is_named)
            lives[n++] = lives[i];
    qsort(lives, n, sizeof(*lives), by_size);
    for (uint32_t i = 0; i < n; i++) {
        lives[i].offset = lowest_offset(lives, placed, i, &lives[i]);
        insert(lives, placed, i, i);
        if (!size_add(lives[i].offset, lives[i].bytes, &lives[i].offset) ||
            lives[i].offset > INT64_MAX - MEMORY_BEHIND)
            return pt2_err_set(err, PT2_ERR_LIMIT, "an arena beyond 2^63 bytes");
        end = MAX(end, lives[i].offset);
        lives[i].offset -= lives[i].bytes;
        p->values[lives[i].value].tensor.offset = lives[i].offset;
    }
    p->arena_bytes = end + MEMORY_BEHIND;
    return 0;
}

/* ---- proving ---- */

struct proof {
    const struct pte_program *p;
    bool *is_there; /* by value: its bytes are what was written to it last */
    uint32_t call;
    struct pt2_err *err;
    bool failed;
};

static bool overlap(const struct pte_program *p, uint32_t a, uint32_t b)
{
    const struct pte_tensor *x = pte_tensor(p, a), *y = pte_tensor(p, b);

    return x->offset < y->offset + place_bytes(p, b) &&
           y->offset < x->offset + place_bytes(p, a);
}

static void follow(void *ctx, uint32_t base, bool is_written)
{
    struct proof *proof = ctx;

    if (!is_written && !proof->is_there[base] && !proof->failed) {
        proof->failed = true;
        pt2_err_set(proof->err, PT2_ERR_INTERNAL,
                    "call %u reads tensor %u, which is not there", proof->call, base);
    }
    if (!is_written)
        return;
    for (uint32_t i = 0; i < proof->p->n_values; i++)
        if (proof->is_there[i] && i != base && overlap(proof->p, i, base))
            proof->is_there[i] = false;
    proof->is_there[base] = true;
}

static int check_places(const struct pte_program *p, struct proof *proof)
{
    for (uint32_t i = 0; i < p->n_values; i++) {
        const struct pte_tensor *t = pte_tensor(p, i);
        uint64_t end, bytes;

        if (p->values[i].kind != PTE_TENSOR ||
            (t->place != PTE_ARENA && t->place != PTE_ALIAS))
            continue;
        proof->is_there[i] = t->place == PTE_ARENA && t->is_kept;
        bytes = t->place == PTE_ALIAS ? pte_tensor_bytes(pte_tensor(p, t->base))
                                      : p->arena_bytes - MEMORY_BEHIND;
        if (!size_add(t->offset, pte_tensor_bytes(t), &end) || end > bytes)
            return pt2_err_set(proof->err, PT2_ERR_INTERNAL,
                               "tensor %u ends beyond its place", i);
        if (t->place == PTE_ARENA && t->offset % MEMORY_ALIGN)
            return pt2_err_set(proof->err, PT2_ERR_INTERNAL, "tensor %u is not aligned",
                               i);
    }
    return 0;
}

/* Is the jump one that leaves or enters the loop that ends there, or another loop's end? */
static bool crosses(const struct pte_program *p, uint32_t jump, uint32_t end)
{
    uint32_t first = p->calls[end].index, to = p->calls[jump].index;

    if (jump == end)
        return false;
    if (jump >= first && jump < end)
        return to <= jump || to > end;
    return to > first && to <= end;
}

/* Jumps go forward, or back to the beginning of a loop, into and out of which no other
 * leads.  So following the calls in their order sees at most more writes than any path
 * through them; that a path has all the writes that its reads need is the maker's affair. */
static int check_jumps(const struct pte_program *p, struct pt2_err *err)
{
    for (uint32_t i = 0; i < p->n_calls; i++) {
        if (p->calls[i].kind != PTE_JUMP_FALSE)
            continue;
        if (p->calls[i].index > p->n_calls || p->calls[i].index == i)
            return pt2_err_set(err, PT2_ERR_INTERNAL, "call %u jumps to %u of %u", i,
                               p->calls[i].index, p->n_calls);
        for (uint32_t end = 0; end < p->n_calls; end++)
            if (pte_is_loop(p, end) && crosses(p, i, end))
                return pt2_err_set(err, PT2_ERR_INTERNAL,
                                   "call %u jumps into or out of a loop", i);
    }
    return 0;
}

/* A loop's calls twice: what a tensor is at the end of a round depends on the round alone
 * where the round names or overwrites it, so a third is as the second. */
static void follow_calls(struct proof *proof)
{
    const struct pte_program *p = proof->p;

    for (uint32_t i = 0; i < p->n_calls; i++) {
        proof->call = i;
        name_tensors(p, &p->calls[i], follow, proof);
        if (!pte_is_loop(p, i))
            continue;
        for (proof->call = p->calls[i].index; proof->call < i; proof->call++)
            name_tensors(p, &p->calls[proof->call], follow, proof);
    }
    proof->call = p->n_calls;
}

int memory_check(const struct pte_program *p, struct pt2_err *err)
{
    AUTO_PTR bool *is_there = calloc(MAX(p->n_values, 1u), sizeof(*is_there));
    struct proof proof = {.p = p, .is_there = is_there, .err = err};

    if (!is_there)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a proof of memory");
    if (check_jumps(p, err) < 0 || check_places(p, &proof) < 0)
        return -1;
    follow_calls(&proof);
    for (uint32_t i = 0; i < p->n_outputs; i++)
        name_value(p, (uint32_t)p->outputs[i], false, follow, &proof);
    for (uint32_t i = 0; i < p->n_values && !proof.failed; i++)
        if (p->values[i].kind == PTE_TENSOR && pte_tensor(p, i)->place == PTE_ARENA &&
            pte_tensor(p, i)->is_kept && !is_there[i])
            return pt2_err_set(err, PT2_ERR_INTERNAL, "tensor %u is kept and written over",
                               i);
    return proof.failed ? -1 : 0;
}
