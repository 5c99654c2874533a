/* check_pte_memory.c - plans of memory, of random programs, and that the proof of one finds
 * what is wrong with it. */
#include "pte/loop.h"
#include "pte/memory.h"
#include "seed.h"
#include "suite.h"

#include <check.h>

#define MAX_TENSORS 60

static uint64_t state;

static uint32_t random_below(uint32_t n)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((state >> 33) % n);
}

struct random_program {
    struct pte_program p;
    uint32_t tensors[MAX_TENSORS + 4], n; /* those of the arena that are no cache */
    uint32_t known[2 * MAX_TENSORS + 16], n_known;
};

static uint32_t random_known(const struct random_program *r)
{
    return r->known[random_below(r->n_known)];
}

static uint32_t know(struct random_program *r, uint32_t tensor)
{
    r->tensors[r->n++] = r->known[r->n_known++] = tensor;
    return tensor;
}

/* One that reads two of those that are known. */
static void add_random_call(struct random_program *r)
{
    uint32_t a = random_known(r), b = random_known(r), out;
    int64_t sizes[] = {1, 1 + random_below(300)};

    out = know(r, pte_activation(&r->p, PT2_FLOAT32, 2, sizes));
    PTE_CALL(&r->p, "aten::add", "out", a, b, pte_int(&r->p, 1), out, out);
    if (random_below(3) == 0) { /* a part of it seen as another tensor */
        int64_t part[] = {1 + random_below((uint32_t)sizes[1])};

        r->known[r->n_known++] = pte_view(&r->p, out, PT2_FLOAT32, 1, part, 0);
    }
}

/* Its calls read what was there before, and the row of the round; what they write may be
 * read behind it. */
static void add_random_loop(struct random_program *r)
{
    int64_t sizes[] = {1 + random_below(5), 1 + random_below(100)};
    uint32_t x = random_known(r), rows = pte_activation(&r->p, PT2_FLOAT32, 2, sizes), y, row;
    struct pte_loop loop;

    PTE_CALL(&r->p, "aten::full_like", "out", x, pte_int(&r->p, 0), rows, rows);
    know(r, rows);
    loop = pte_loop_begin(&r->p, rows);
    do
        y = random_known(r);
    while (pte_tensor(&r->p, y)->n_dims == 0);
    know(r, pte_loop_row(&r->p, &loop, y));
    for (uint32_t n = random_below(4); n > 0 && r->n < MAX_TENSORS; n--)
        add_random_call(r);
    row = pte_activation(&r->p, PT2_FLOAT32, 1, &sizes[1]);
    PTE_CALL(&r->p, "aten::neg", "out", random_known(r), row, row);
    know(r, row);
    pte_loop_end(&r->p, &loop, rows, row);
}

/* A program of calls that each read some of the tensors written so far, caches and views
 * among them, and write a new one; some in loops. */
static void make_random(struct random_program *r)
{
    int64_t sizes[] = {1, 1};

    *r = (struct random_program){0};
    pte_init(&r->p);
    for (int i = 0; i < 3; i++) {
        sizes[1] = 1 + random_below(200);
        r->known[r->n_known++] = pte_cache(&r->p, PT2_FLOAT32, 2, sizes);
    }
    while (r->n < MAX_TENSORS)
        if (random_below(12) == 0)
            add_random_loop(r);
        else
            add_random_call(r);
    pte_output(&r->p, r->tensors[r->n - 1]);
    ck_assert(!pte_failed(&r->p));
}

START_TEST(test_memory_random_plans_hold)
{
    static struct random_program r;
    uint32_t n_loops = 0;

    state = test_seed();
    for (int round = 0; round < 300; round++) {
        struct pte_program *p = &r.p;
        struct pt2_err err = {0};
        uint64_t alone = 0;

        make_random(&r);
        ck_assert_msg(memory_plan(p, &err) == 0, "%s", err.text);
        ck_assert_msg(memory_check(p, &err) == 0, "round %d: %s", round, err.text);
        for (uint32_t i = 0; i < p->n_values; i++)
            if (p->values[i].kind == PTE_TENSOR && p->values[i].tensor.place == PTE_ARENA)
                alone += (pte_tensor_bytes(pte_tensor(p, i)) + 63) / 64 * 64;
        ck_assert_uint_le(p->arena_bytes, alone + MEMORY_BEHIND);
        for (uint32_t i = 0; i < p->n_calls; i++)
            n_loops += pte_is_loop(p, i);
        pte_done(p);
    }
    ck_assert_uint_gt(n_loops, 300);
}
END_TEST

/* Where two tensors' lives meet and one is moved onto the other, the proof fails. */
START_TEST(test_memory_proof_finds_overlaps)
{
    struct pt2_err err = {0};
    struct pte_program p;
    int64_t size = 16;
    uint32_t x, y, z, cache;

    pte_init(&p);
    cache = pte_cache(&p, PT2_FLOAT32, 1, &size);
    x = pte_activation(&p, PT2_FLOAT32, 1, &size);
    y = pte_activation(&p, PT2_FLOAT32, 1, &size);
    z = pte_activation(&p, PT2_FLOAT32, 1, &size);
    PTE_CALL(&p, "aten::neg", "out", cache, x, x);
    PTE_CALL(&p, "aten::neg", "out", x, y, y);
    PTE_CALL(&p, "aten::mul", "out", x, y, z, z);
    pte_output(&p, z);
    ck_assert_int_eq(memory_plan(&p, &err), 0);
    ck_assert_int_eq(memory_check(&p, &err), 0);

    p.values[y].tensor.offset = p.values[x].tensor.offset; /* x is read after y is written */
    ck_assert_int_eq(memory_check(&p, &err), -1);
    ck_assert_str_eq(err.text, "call 2 reads tensor 1, which is not there");

    ck_assert_int_eq(memory_plan(&p, NULL), 0);
    p.values[z].tensor.offset = p.values[cache].tensor.offset; /* a cache is kept */
    err = (struct pt2_err){0};
    ck_assert_int_eq(memory_check(&p, &err), -1);
    ck_assert_str_eq(err.text, "tensor 0 is kept and written over");

    ck_assert_int_eq(memory_plan(&p, NULL), 0);
    p.values[z].tensor.offset += 4;
    ck_assert_int_eq(memory_check(&p, NULL), -1); /* not aligned, or beyond the arena */
    pte_done(&p);
}
END_TEST

/* Any one tensor of a random program moved by a place: found wherever it does harm, that is
 * wherever following the calls byte by byte finds harm. */

/* By byte of the arena: who wrote it last, tensor + 1. */
struct bytes {
    const struct pte_program *p;
    uint32_t *owner;
    bool harm;
};

static void touch(struct bytes *b, uint32_t value, bool is_out)
{
    const struct pte_tensor *t = pte_tensor(b->p, value);
    uint32_t base = value;

    if (b->p->values[value].kind != PTE_TENSOR)
        return;
    if (t->place == PTE_ALIAS)
        base = t->base;
    t = pte_tensor(b->p, base);
    for (uint64_t k = 0; k < pte_tensor_bytes(t); k++) {
        b->harm = b->harm || (!is_out && b->owner[t->offset + k] != base + 1);
        if (is_out)
            b->owner[t->offset + k] = base + 1;
    }
}

/* A loop thrice. */
static void touch_calls(struct bytes *b, uint32_t first, uint32_t behind)
{
    for (uint32_t i = first; i < behind; i++) {
        const struct pte_call *c = &b->p->calls[i];

        for (uint32_t a = 0; a < c->n_args && c->kind == PTE_KERNEL; a++)
            touch(b, (uint32_t)c->args[a], a + c->n_outs >= c->n_args);
        if (c->is_row)
            touch(b, (uint32_t)c->args[0], true);
        for (int round = 0; round < 2 && pte_is_loop(b->p, i); round++)
            touch_calls(b, c->index, i);
    }
}

static bool does_harm(const struct pte_program *p)
{
    struct bytes b = {.p = p, .owner = calloc(p->arena_bytes, sizeof(*b.owner))};

    ck_assert_ptr_nonnull(b.owner);
    for (uint32_t i = 0; i < p->n_values; i++)
        if (p->values[i].kind == PTE_TENSOR && pte_tensor(p, i)->is_kept)
            touch(&b, i, true);
    touch_calls(&b, 0, p->n_calls);
    touch(&b, (uint32_t)p->outputs[0], false);
    for (uint32_t i = 0; i < p->n_values; i++)
        if (p->values[i].kind == PTE_TENSOR && pte_tensor(p, i)->is_kept)
            touch(&b, i, false);
    free(b.owner);
    return b.harm;
}

START_TEST(test_memory_proof_finds_what_does_harm)
{
    uint32_t n_harmful = 0;
    static struct random_program r;
    struct pte_program *p = &r.p;

    state = test_seed();
    for (int round = 0; round < 150; round++) {
        struct pt2_err err = {0};
        uint32_t moved;

        make_random(&r);
        ck_assert_int_eq(memory_plan(p, &err), 0);
        ck_assert(!does_harm(p));
        moved = r.tensors[random_below(r.n)];
        p->values[moved].tensor.offset += 64 * (1 + random_below(8));
        if (p->values[moved].tensor.offset + pte_tensor_bytes(pte_tensor(p, moved)) <=
                p->arena_bytes - MEMORY_BEHIND &&
            does_harm(p)) { /* the proof counts whole places, it may refuse others too */
            ck_assert_int_eq(memory_check(p, NULL), -1);
            n_harmful++;
        }
        pte_done(p);
    }
    ck_assert_uint_gt(n_harmful, 20);
}
END_TEST

/* What one round alone does not show: the next one reads what this one has written over. */
START_TEST(test_memory_proof_follows_loops_twice)
{
    struct pt2_err err = {0};
    int64_t sizes[] = {3, 16};
    struct pte_program p;
    uint32_t x, rows, row, made, scratch;
    struct pte_loop loop;

    pte_init(&p);
    x = pte_cache(&p, PT2_FLOAT32, 2, sizes);
    rows = pte_activation(&p, PT2_FLOAT32, 2, sizes);
    scratch = pte_activation(&p, PT2_FLOAT32, 1, &sizes[1]);
    made = pte_activation(&p, PT2_FLOAT32, 1, &sizes[1]);
    PTE_CALL(&p, "aten::neg", "out", x, scratch, scratch);
    PTE_CALL(&p, "aten::neg", "out", x, rows, rows);
    loop = pte_loop_begin(&p, x);
    row = pte_loop_row(&p, &loop, x);
    PTE_CALL(&p, "aten::mul", "out", scratch, row, made, made);
    pte_loop_end(&p, &loop, rows, made);
    pte_output(&p, rows);
    ck_assert_int_eq(memory_plan(&p, &err), 0);
    ck_assert_msg(memory_check(&p, &err) == 0, "%s", err.text);

    p.values[made].tensor.offset = p.values[scratch].tensor.offset;
    ck_assert_int_eq(memory_check(&p, &err), -1);
    ck_assert_msg(strstr(err.text, "reads tensor 2, which is not there"), "%s", err.text);

    ck_assert_int_eq(memory_plan(&p, NULL), 0);
    p.values[row].tensor.offset = p.values[rows].tensor.offset; /* rows of rounds before */
    err = (struct pt2_err){0};
    ck_assert_int_eq(memory_check(&p, &err), -1);
    ck_assert_msg(strstr(err.text, "reads tensor 1, which is not there"), "%s", err.text);
    pte_done(&p);
}
END_TEST

/* A jump goes forward, not beyond the end, and neither into a loop nor out of one. */
START_TEST(test_memory_proof_finds_jumps)
{
    struct pt2_err err = {0};
    struct pte_program p;
    uint32_t jump, x, in, end;
    struct pte_loop loop;
    int64_t size = 4;

    pte_init(&p);
    x = pte_cache(&p, PT2_FLOAT32, 1, &size);
    jump = pte_jump_false(&p, pte_bool_out(&p));
    pte_land(&p, jump);
    loop = pte_loop_begin(&p, x);
    in = pte_jump_false(&p, pte_bool_out(&p));
    pte_land(&p, in);
    pte_loop_end(&p, &loop, x, pte_loop_row(&p, &loop, x));
    end = p.n_calls - 1;
    ck_assert(pte_is_loop(&p, end));
    ck_assert_int_eq(memory_plan(&p, &err), 0);
    ck_assert_int_eq(memory_check(&p, &err), 0);
    for (uint32_t to = 0; to <= p.n_calls + 1; to++) {
        p.calls[jump].index = to; /* to itself, into the loop, beyond the end */
        ck_assert_int_eq(memory_check(&p, NULL),
                         to == jump || (to > loop.first && to <= end) || to > end + 1 ? -1 : 0);
    }
    p.calls[jump].index = jump + 1;
    for (uint32_t to = 0; to <= p.n_calls + 1; to++) {
        p.calls[in].index = to;
        ck_assert_int_eq(memory_check(&p, NULL), to > in && to <= end ? 0 : -1);
    }
    pte_done(&p);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pte_memory");
    TCase *core = tcase_create("core");

    tcase_add_test(core, test_memory_random_plans_hold);
    tcase_add_test(core, test_memory_proof_finds_overlaps);
    tcase_add_test(core, test_memory_proof_finds_what_does_harm);
    tcase_add_test(core, test_memory_proof_follows_loops_twice);
    tcase_add_test(core, test_memory_proof_finds_jumps);
    tcase_set_timeout(core, 120);
    suite_add_tcase(suite, core);
    return suite_run(suite);
}
