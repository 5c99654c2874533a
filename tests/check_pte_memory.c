/* check_pte_memory.c - plans of memory, of random programs, and that the proof of one finds
 * what is wrong with it. */
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

/* A program of calls that each read some of the tensors written so far, caches and views
 * among them, and write a new one.  tensors: those of the arena that are no cache. */
static void make_random(struct pte_program *p, uint32_t *tensors, uint32_t *ret_n)
{
    uint32_t known[2 * MAX_TENSORS + 4], n_known = 0, n = 0;
    int64_t sizes[] = {1, 1};

    pte_init(p);
    for (int i = 0; i < 3; i++) {
        sizes[1] = 1 + random_below(200);
        known[n_known++] = pte_cache(p, PT2_FLOAT32, 2, sizes);
    }
    while (n < MAX_TENSORS) {
        uint32_t a = known[random_below(n_known)], b = known[random_below(n_known)], out;

        sizes[1] = 1 + random_below(300);
        out = pte_activation(p, PT2_FLOAT32, 2, sizes);
        PTE_CALL(p, "aten::add", "out", a, b, pte_int(p, 1), out, out);
        tensors[n++] = known[n_known++] = out;
        if (random_below(3) == 0) { /* a part of it seen as another tensor */
            int64_t part[] = {1 + random_below((uint32_t)sizes[1])};

            known[n_known++] = pte_view(p, out, PT2_FLOAT32, 1, part, 0);
        }
    }
    pte_output(p, tensors[n - 1]);
    ck_assert(!pte_failed(p));
    *ret_n = n;
}

START_TEST(test_memory_random_plans_hold)
{
    state = test_seed();
    for (int round = 0; round < 300; round++) {
        uint32_t tensors[MAX_TENSORS], n;
        uint64_t alone = 0;
        struct pte_program p;
        struct pt2_err err = {0};

        make_random(&p, tensors, &n);
        ck_assert_msg(memory_plan(&p, &err) == 0, "%s", err.text);
        ck_assert_msg(memory_check(&p, &err) == 0, "round %d: %s", round, err.text);
        for (uint32_t i = 0; i < p.n_values; i++)
            if (p.values[i].kind == PTE_TENSOR && p.values[i].tensor.place == PTE_ARENA)
                alone += (pte_tensor_bytes(pte_tensor(&p, i)) + 63) / 64 * 64;
        ck_assert_uint_le(p.arena_bytes, alone + MEMORY_BEHIND);
        pte_done(&p);
    }
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
static bool does_harm(const struct pte_program *p)
{
    size_t n = p->arena_bytes;
    uint32_t *owner = calloc(n, sizeof(*owner)); /* tensor + 1 by byte */
    bool harm = false;

    ck_assert_ptr_nonnull(owner);
    for (uint32_t i = 0; i < p->n_values; i++) {
        const struct pte_tensor *t = pte_tensor(p, i);

        if (p->values[i].kind == PTE_TENSOR && t->place == PTE_ARENA && t->is_kept)
            for (uint64_t k = 0; k < pte_tensor_bytes(t); k++)
                owner[t->offset + k] = i + 1;
    }
    for (uint32_t c = 0; c < p->n_calls; c++)
        for (uint32_t a = 0; a < p->calls[c].n_args; a++) {
            uint32_t v = (uint32_t)p->calls[c].args[a], base = v;
            bool is_out = a + p->calls[c].n_outs >= p->calls[c].n_args;
            const struct pte_tensor *t = pte_tensor(p, v);

            if (p->values[v].kind != PTE_TENSOR)
                continue;
            if (t->place == PTE_ALIAS)
                base = t->base;
            t = pte_tensor(p, base);
            for (uint64_t k = 0; k < pte_tensor_bytes(t); k++) {
                harm = harm || (!is_out && owner[t->offset + k] != base + 1);
                if (is_out)
                    owner[t->offset + k] = base + 1;
            }
        }
    for (uint32_t i = 0; i < p->n_values; i++) {
        const struct pte_tensor *t = pte_tensor(p, i);
        bool is_output = (uint32_t)p->outputs[0] == i;

        if (p->values[i].kind == PTE_TENSOR && t->place == PTE_ARENA &&
            (t->is_kept || is_output))
            for (uint64_t k = 0; k < pte_tensor_bytes(t); k++)
                harm = harm || owner[t->offset + k] != i + 1;
    }
    free(owner);
    return harm;
}

START_TEST(test_memory_proof_finds_what_does_harm)
{
    uint32_t n_harmful = 0, n_harmless = 0;

    state = test_seed();
    for (int round = 0; round < 150; round++) {
        uint32_t tensors[MAX_TENSORS], n, moved;
        struct pte_program p;
        struct pt2_err err = {0};

        make_random(&p, tensors, &n);
        ck_assert_int_eq(memory_plan(&p, &err), 0);
        ck_assert(!does_harm(&p));
        moved = tensors[random_below(n)];
        p.values[moved].tensor.offset += 64 * (1 + random_below(8));
        if (p.values[moved].tensor.offset + pte_tensor_bytes(pte_tensor(&p, moved)) >
            p.arena_bytes - MEMORY_BEHIND) {
            pte_done(&p);
            continue;
        }
        if (does_harm(&p)) {
            ck_assert_int_eq(memory_check(&p, NULL), -1);
            n_harmful++;
        } else {
            n_harmless++; /* the proof counts whole places, it may refuse these */
        }
        pte_done(&p);
    }
    ck_assert_uint_gt(n_harmful, 20);
    (void)n_harmless;
}
END_TEST

/* A jump goes forward, and not beyond the end. */
START_TEST(test_memory_proof_finds_jumps_back)
{
    struct pt2_err err = {0};
    struct pte_program p;
    uint32_t jump;

    pte_init(&p);
    jump = pte_jump_false(&p, pte_bool_out(&p));
    pte_land(&p, jump);
    ck_assert_int_eq(memory_plan(&p, &err), 0);
    ck_assert_int_eq(memory_check(&p, &err), 0);
    p.calls[jump].index = jump;
    ck_assert_int_eq(memory_check(&p, &err), -1);
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
    tcase_add_test(core, test_memory_proof_finds_jumps_back);
    tcase_set_timeout(core, 120);
    suite_add_tcase(suite, core);
    return suite_run(suite);
}
