/* check_pte_file.c - what ExecuTorch would not notice of a file, found in the file itself:
 * it is read back and its instructions are followed, in an arena that has nothing in it but
 * the caches. */
#include "made_pte.h"
#include "pte/read.h"
#include "suite.h"

#include <check.h>

#define MAX_CACHE_LEN 300
#define MAX_INSTRUCTIONS 10000

enum { PROGRAM_PLANS = 1, PROGRAM_SEGMENTS = 4, PROGRAM_MUTABLE = 6 };
enum { PLAN_VALUES = 2, PLAN_OUTPUTS = 4, PLAN_CHAINS, PLAN_OPERATORS, PLAN_DELEGATES,
       PLAN_ARENAS };
enum { VALUE_INT = 2, VALUE_TENSOR = 5, VALUE_TENSORS = 10, VALUE_OPTIONAL_TENSORS };
enum { CALL_KERNEL = 1, CALL_DELEGATE, CALL_JUMP = 4 };
enum { UNWRITTEN, CACHE, WRITTEN };

struct parsed {
    const uint8_t *bytes;
    struct fb_reader r;
    uint64_t base; /* where segments begin */
    fb_at root, plan;
    struct fb_list values, calls, operators, delegates;
    uint64_t arena_bytes;
    uint8_t *arena;     /* UNWRITTEN, … by byte */
    uint8_t set[10000]; /* Bools, by value */
    unsigned n_attended; /* layers */
};

static void parse(struct parsed *f, const uint8_t *bytes, size_t len)
{
    struct fb_list arenas;
    fb_at chain;

    *f = (struct parsed){.bytes = bytes,
                         .r = {.data = bytes, .len = len, .budget = SIZE_MAX}};
    memcpy(&f->base, bytes + 24, sizeof(f->base));
    f->root = fb_root(&f->r);
    f->plan = fb_table_item(&f->r, fb_list_at(&f->r, f->root, PROGRAM_PLANS, 4), 0);
    chain = fb_table_item(&f->r, fb_list_at(&f->r, f->plan, PLAN_CHAINS, 4), 0);
    f->values = fb_list_at(&f->r, f->plan, PLAN_VALUES, 4);
    f->calls = fb_list_at(&f->r, chain, 2, 4);
    f->operators = fb_list_at(&f->r, f->plan, PLAN_OPERATORS, 4);
    f->delegates = fb_list_at(&f->r, f->plan, PLAN_DELEGATES, 4);
    arenas = fb_list_at(&f->r, f->plan, PLAN_ARENAS, 8);
    ck_assert_uint_eq(arenas.n, 2);
    f->arena_bytes = fb_item(&f->r, arenas, 1, 8);
    f->arena = calloc(1, f->arena_bytes);
    ck_assert(f->arena && f->values.n < sizeof(f->set) && f->calls.n < MAX_INSTRUCTIONS);
}

static void parsed_done(struct parsed *f)
{
    ck_assert(!f->r.bad);
    free(f->arena);
}

static uint64_t value_type(struct parsed *f, uint32_t i)
{
    return fb_number(&f->r, fb_table_item(&f->r, f->values, i), 0, 1, 0);
}

static fb_at value_body(struct parsed *f, uint32_t i)
{
    return fb_table_at(&f->r, fb_table_item(&f->r, f->values, i), 1);
}

static int64_t int_of(struct parsed *f, uint32_t value)
{
    ck_assert_uint_eq(value_type(f, value), VALUE_INT);
    return (int64_t)fb_number(&f->r, value_body(f, value), 0, 8, 0);
}

/* The tensor's first byte in the arena, how many they are; false where it is elsewhere. */
static bool place_of(struct parsed *f, uint32_t value, uint64_t *ret_at, uint64_t *ret_n)
{
    fb_at tensor = value_body(f, value), place;
    uint64_t type, n;
    struct fb_list sizes;

    if (value_type(f, value) != VALUE_TENSOR)
        return false;
    place = fb_table_at(&f->r, tensor, 6);
    if (!place)
        return false;
    type = fb_number(&f->r, tensor, 0, 1, 0);
    n = type == 4 ? 8 : type == 6 ? 4 : 1; /* int64, float32, bytes */
    sizes = fb_list_at(&f->r, tensor, 2, 4);
    for (uint32_t i = 0; i < sizes.n; i++)
        n *= fb_item(&f->r, sizes, i, 4);
    *ret_at = fb_number(&f->r, place, 1, 4, 0) | fb_number(&f->r, place, 2, 4, 0) << 32;
    *ret_n = n;
    ck_assert_uint_le(*ret_at + n, f->arena_bytes);
    return true;
}

/* ---- what a delegate reads ---- */

/* The FlatBuffer of the delegate's payload. */
static struct fb_reader payload(struct parsed *f, uint32_t delegate)
{
    fb_at data = fb_table_at(&f->r, fb_table_item(&f->r, f->delegates, delegate), 1);
    struct fb_list segments = fb_list_at(&f->r, f->root, PROGRAM_SEGMENTS, 4);
    fb_at s = fb_table_item(&f->r, segments, (uint32_t)fb_number(&f->r, data, 1, 4, 0));
    const uint8_t *at = f->bytes + f->base + fb_number(&f->r, s, 0, 8, 0);
    uint32_t start, len;

    ck_assert_uint_eq(fb_number(&f->r, data, 0, 1, 0), 1); /* in a segment */
    ck_assert_mem_eq(at + 4, "XH00", 4);
    memcpy(&start, at + 10, sizeof(start));
    memcpy(&len, at + 14, sizeof(len));
    return (struct fb_reader){.data = at + start, .len = len, .budget = SIZE_MAX};
}

/* Which fields of a node are values that it reads: bits by slot, by XNodeUnion's kinds. */
static unsigned reads_of(uint64_t kind)
{
    static const unsigned one[] = {3, 4, 6, 18, 22, 27, 28, 30, 40, 42, 43, 44},
                          two[] = {1, 8, 12, 15, 16, 26, 37};

    for (size_t i = 0; i < ARRAY_LEN(one); i++)
        if (one[i] == kind)
            return 1 << 0;
    for (size_t i = 0; i < ARRAY_LEN(two); i++)
        if (two[i] == kind)
            return 1 << 0 | 1 << 1;
    if (kind == 2) /* the filter and the bias are packed */
        return 1 << 0;
    if (kind == 5 || kind == 20)
        return 1 << 2;
    if (kind == 35)
        return 1 << 3;
    if (kind >= 32 && kind <= 34)
        return ((1u << (kind - 30)) - 1) << 1;
    ck_abort_msg("a node of kind %d", (int)kind);
}

static bool is_constant(struct fb_reader *r, fb_at graph, uint32_t value)
{
    fb_at x = fb_table_item(r, fb_list_at(r, graph, 2, 4), value), tensor;

    tensor = fb_table_at(r, x, 1);
    if (fb_number(r, x, 0, 1, 0) == 2) /* quantised */
        tensor = fb_table_at(r, tensor, 0);
    ck_assert_uint_eq(fb_number(r, tensor, 6, 4, 0), value); /* in their order */
    return fb_number(r, tensor, 3, 4, 0) != 0;
}

/* How many constants are packed; none is read otherwise: releases up to 1.0 free those
 * that are not, and 1.5.1 those that lie within the payload. */
static unsigned check_constants(struct fb_reader *r)
{
    fb_at graph = fb_root(r);
    struct fb_list nodes = fb_list_at(r, graph, 1, 4);
    unsigned n_packed = 0;

    for (uint32_t i = 0; i < nodes.n; i++) {
        fb_at node = fb_table_item(r, nodes, i), body = fb_table_at(r, node, 1);
        uint64_t kind = fb_number(r, node, 0, 1, 0);
        unsigned reads = reads_of(kind);

        for (unsigned slot = 0; slot < 8; slot++)
            if (reads & 1 << slot)
                ck_assert(
                    !is_constant(r, graph, (uint32_t)fb_number(r, body, slot, 4, 0)));
        n_packed +=
            kind == 2 && is_constant(r, graph, (uint32_t)fb_number(r, body, 1, 4, 0));
    }
    return n_packed;
}

START_TEST(test_pte_file_delegates_pack_their_constants)
{
    static uint8_t bytes[1 << 20];
    uint8_t digest[32];
    unsigned n = 0;
    struct parsed f;
    struct made m;

    export_tiny(&m, PT2_PROFILE_EDGE, MAX_CACHE_LEN, /* dynamic= */ _i);
    parse(&f, bytes, write_pte(&m, PT2_PTE_XNNPACK, bytes, sizeof(bytes), digest));
    ck_assert_uint_eq(f.delegates.n, 6);
    for (uint32_t i = 0; i < f.delegates.n; i++) {
        struct fb_reader r = payload(&f, i);

        n += check_constants(&r);
        ck_assert(!r.bad);
    }
    ck_assert_uint_ge(n, 2 * 7 + 1); /* linears; norms have a row for the mean */
    parsed_done(&f);
    made_done(&m);
}
END_TEST

/* ---- following the instructions ---- */

static void touch(struct parsed *f, uint32_t value, bool is_written, bool in_place)
{
    uint64_t type = value_type(f, value), at, n;

    if (type == VALUE_TENSORS || type == VALUE_OPTIONAL_TENSORS) {
        struct fb_list list = fb_list_at(&f->r, value_body(f, value), 0, 4);

        for (uint32_t i = 0; i < list.n; i++)
            if ((int32_t)fb_item(&f->r, list, i, 4) >= 0)
                touch(f, (uint32_t)fb_item(&f->r, list, i, 4), is_written, in_place);
        return;
    }
    if (!place_of(f, value, &at, &n))
        return;
    for (uint64_t i = at; i < at + n; i++) {
        if (is_written)
            ck_assert_msg((f->arena[i] == CACHE) == in_place, "value %u, a cache's",
                          value);
        else
            ck_assert_msg(f->arena[i] != UNWRITTEN, "value %u is not there", value);
        if (is_written && !in_place)
            f->arena[i] = WRITTEN;
    }
}

/* The smallest window that has the position, for a call that attends: its second argument
 * is where a cache begins. */
static void check_window(struct parsed *f, struct fb_list args, int64_t position)
{
    uint32_t keys = (uint32_t)fb_item(&f->r, args, 1, 4);
    struct fb_list sizes = fb_list_at(&f->r, value_body(f, keys), 2, 4);
    uint64_t at, n;
    int64_t window;

    if (args.n != 5 || !place_of(f, keys, &at, &n) || f->arena[at] != CACHE)
        return;
    window = (int64_t)fb_item(&f->r, sizes, 0, 4);
    ck_assert_int_eq(window, position < 128 ? 128 : position < 256 ? 256 : MAX_CACHE_LEN);
    f->n_attended++;
}

static void follow_kernel(struct parsed *f, fb_at call, int64_t position)
{
    struct fb_list args = fb_list_at(&f->r, call, 1, 4);
    uint32_t index = (uint32_t)fb_number(&f->r, call, 0, 4, 0);
    fb_at op = fb_table_item(&f->r, f->operators, index);
    uint32_t out = (uint32_t)fb_item(&f->r, args, args.n - 1, 4);
    bool in_place;
    char name[64];

    fb_text(&f->r, op, 0, name, sizeof(name));
    in_place = name[strlen(name) - 1] == '_';
    for (uint32_t i = 0; i < args.n; i++)
        if (fb_item(&f->r, args, i, 4) != out)
            touch(f, (uint32_t)fb_item(&f->r, args, i, 4), false, false);
    touch(f, out, true, in_place);
    if (strcmp(name, "executorch_prim::lt") == 0)
        f->set[out] = position < int_of(f, (uint32_t)fb_item(&f->r, args, 1, 4));
}

static void follow_delegate(struct parsed *f, fb_at call, int64_t position)
{
    struct fb_list args = fb_list_at(&f->r, call, 1, 4);
    struct fb_reader r = payload(f, (uint32_t)fb_number(&f->r, call, 0, 4, 0));
    uint32_t n_inputs = fb_list_at(&r, fb_root(&r), 4, 4).n;

    check_window(f, args, position);
    for (uint32_t i = 0; i < args.n; i++)
        touch(f, (uint32_t)fb_item(&f->r, args, i, 4), i >= n_inputs, false);
}

/* As ExecuTorch does. */
static void follow_all(struct parsed *f, int64_t position)
{
    for (uint32_t i = 0; i < f->calls.n; i++) {
        fb_at instruction = fb_table_item(&f->r, f->calls, i);
        fb_at call = fb_table_at(&f->r, instruction, 1);
        uint32_t condition = (uint32_t)fb_number(&f->r, call, 0, 4, 0);

        switch (fb_number(&f->r, instruction, 0, 1, 0)) {
        case CALL_KERNEL:
            follow_kernel(f, call, position);
            break;
        case CALL_DELEGATE:
            follow_delegate(f, call, position);
            break;
        case CALL_JUMP:
            if (!f->set[condition])
                i = (uint32_t)fb_number(&f->r, call, 1, 4, 0) - 1;
            break;
        default:
            ck_abort();
        }
    }
}

/* The caches, which are filled with zeros of the file when it is loaded. */
static unsigned find_caches(struct parsed *f)
{
    struct fb_list mutables = fb_list_at(&f->r, f->root, PROGRAM_MUTABLE, 4), offsets;
    fb_at initial = fb_table_item(&f->r, mutables, 0), segment;
    uint64_t at, n, zeros, zeros_bytes;
    unsigned n_caches = 0;

    ck_assert_uint_eq(mutables.n, 1);
    segment = fb_table_item(&f->r, fb_list_at(&f->r, f->root, PROGRAM_SEGMENTS, 4),
                            (uint32_t)fb_number(&f->r, initial, 0, 4, 0));
    zeros = f->base + fb_number(&f->r, segment, 0, 8, 0);
    zeros_bytes = fb_number(&f->r, segment, 1, 8, 0);
    ck_assert_uint_eq(zeros + zeros_bytes, f->r.len);
    offsets = fb_list_at(&f->r, initial, 1, 8);
    for (uint64_t i = 0; i < zeros_bytes; i++)
        ck_assert_uint_eq(f->bytes[zeros + i], 0);
    for (uint32_t i = 0; i < f->values.n; i++) {
        if (!place_of(f, i, &at, &n) || fb_number(&f->r, value_body(f, i), 5, 4, 0) == 0)
            continue;
        ck_assert_uint_lt(fb_number(&f->r, value_body(f, i), 5, 4, 0), offsets.n);
        ck_assert_uint_le(n, zeros_bytes);
        for (uint64_t k = at; k < at + n; k++) {
            ck_assert_uint_eq(f->arena[k], UNWRITTEN); /* shared with no other cache */
            f->arena[k] = CACHE;
        }
        n_caches++;
    }
    return n_caches;
}

/* From positions about each border, each run in an arena where only the caches are: nothing
 * is read that was not written on the very path that the jumps take, nothing is written over
 * a cache but its rows, each layer attends once, to the smallest window. */
START_TEST(test_pte_file_reads_what_it_has_written)
{
    static const int64_t positions[] = {0, 1, 127, 128, 129, 255, 256, 257, 299};
    static uint8_t bytes[1 << 20];
    enum pt2_pte_backend backend = _i == 1 ? PT2_PTE_PORTABLE : PT2_PTE_XNNPACK;
    uint8_t digest[32];
    struct parsed f;
    struct made m;

    export_tiny(&m, PT2_PROFILE_EDGE, MAX_CACHE_LEN, /* dynamic= */ _i == 2);
    parse(&f, bytes, write_pte(&m, backend, bytes, sizeof(bytes), digest));
    ck_assert_uint_eq(find_caches(&f), 4);
    for (size_t k = 0; k < ARRAY_LEN(positions); k++) {
        struct fb_list outputs = fb_list_at(&f.r, f.plan, PLAN_OUTPUTS, 4);

        for (uint64_t i = 0; i < f.arena_bytes; i++)
            f.arena[i] = f.arena[i] == CACHE ? CACHE : UNWRITTEN;
        f.n_attended = 0;
        follow_all(&f, positions[k]);
        ck_assert_uint_eq(outputs.n, 1);
        touch(&f, (uint32_t)fb_item(&f.r, outputs, 0, 4), false, false);
        ck_assert_uint_eq(f.n_attended, backend == PT2_PTE_XNNPACK ? 2 : 0);
    }
    parsed_done(&f);
    made_done(&m);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pte_file");
    TCase *core = tcase_create("core");

    tcase_add_loop_test(core, test_pte_file_delegates_pack_their_constants, 0, 2);
    tcase_add_loop_test(core, test_pte_file_reads_what_it_has_written, 0, 3);
    tcase_set_timeout(core, 120);
    suite_add_tcase(suite, core);
    return suite_run(suite);
}
