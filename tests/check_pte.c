/* check_pte.c - ExecuTorch programs: the FlatBuffer's bytes, the jumps of attention, what is
 * refused, the file.  That ExecuTorch runs them: tests/conformance/test_pte.py. */
#include "alloc_fail.h"
#include "made_pte.h"
#include "pte/describe.h"
#include "pte/flatbuffer.h"
#include "pte/lower.h"
#include "pte/xnn.h"
#include "seed.h"
#include "suite.h"

/* ---- the FlatBuffer ---- */

static uint32_t u32(const uint8_t *at)
{
    uint32_t v;

    memcpy(&v, at, sizeof(v));
    return v;
}

/* Where the table's field is; NULL where it has none. */
static const uint8_t *field(const uint8_t *table, unsigned slot)
{
    int32_t to_vtable = (int32_t)u32(table);
    const uint8_t *vtable = table - to_vtable;
    uint16_t size, pos;

    memcpy(&size, vtable, sizeof(size));
    if (4 + 2 * slot >= size)
        return NULL;
    memcpy(&pos, vtable + 4 + 2 * slot, sizeof(pos));
    return pos ? table + pos : NULL;
}

static const uint8_t *follow(const uint8_t *at)
{
    return at + u32(at);
}

START_TEST(test_pte_flatbuffer_reads_back)
{
    AUTO_FB fb = {0};
    const uint64_t wide[] = {1, UINT64_MAX};
    uint32_t name = fb_string(&fb, "abc"), numbers = fb_vector(&fb, wide, 2, 8), tables[3];
    const uint8_t *root, *list, *third;
    uint8_t *bytes;
    size_t len;
    uint64_t v;

    for (uint32_t i = 0; i < 3; i++)
        tables[i] = FB_TABLE(&fb, FB_U8(0, i), FB_U64(2, (uint64_t)i << 40), FB_REF(3, name));
    ck_assert_uint_eq(fb.n_vtables, 1); /* shared */
    ck_assert_int_eq(fb_finish(&fb,
                               FB_TABLE(&fb, FB_REF(1, fb_refs(&fb, tables, 3)),
                                        FB_REF(0, numbers), FB_I16(4, -2)),
                               "TEST", 32, &bytes, &len, NULL),
                     0);
    ck_assert_uint_eq(len % 16, 0);
    ck_assert_mem_eq(bytes + 4, "TEST", 4);
    root = follow(bytes);
    list = follow(field(root, 0));
    ck_assert_uint_eq(u32(list), 2);
    ck_assert_uint_eq((size_t)(list + 4 - bytes) % 8, 0); /* the first element is aligned */
    memcpy(&v, list + 12, sizeof(v));
    ck_assert_uint_eq(v, UINT64_MAX);
    ck_assert_ptr_null(field(root, 2));
    ck_assert_ptr_null(field(root, 9));
    list = follow(field(root, 1));
    ck_assert_uint_eq(u32(list), 3);
    third = follow(list + 12);
    ck_assert_uint_eq(*field(third, 0), 2);
    ck_assert_uint_eq((size_t)(field(third, 2) - bytes) % 8, 0);
    memcpy(&v, field(third, 2), sizeof(v));
    ck_assert_uint_eq(v, 2ull << 40);
    ck_assert_str_eq((const char *)follow(field(third, 3)) + 4, "abc");
}
END_TEST

/* ---- the file ---- */

START_TEST(test_pte_file_is_laid_out)
{
    static uint8_t bytes[1 << 20];
    uint8_t digests[2][32];
    uint64_t sizes[3];
    struct made m;
    size_t len;

    export_tiny(&m, PT2_PROFILE_EDGE, 32, false);
    for (int backend = 0; backend < 2; backend++) {
        const uint8_t *root, *segments;
        uint64_t end = 0;

        len = write_pte(&m, backend ? PT2_PTE_PORTABLE : PT2_PTE_XNNPACK, bytes,
                        sizeof(bytes), digests[0]);
        ck_assert_mem_eq(bytes + 4, "ET12eh00", 8);
        memcpy(sizes, bytes + 16, sizeof(sizes));
        ck_assert_uint_eq(sizes[1] % 128, 0);
        ck_assert_uint_le(sizes[0], sizes[1]);
        ck_assert_uint_eq(sizes[1] + sizes[2], len);
        root = follow(bytes);
        segments = follow(field(root, 4));
        for (uint32_t i = 0; i < u32(segments); i++) {
            const uint8_t *s = follow(segments + 4 + 4 * i), *offset = field(s, 0);
            uint64_t at, n;

            memcpy(&at, offset, sizeof(at));
            memcpy(&n, field(s, 1), sizeof(n));
            ck_assert_uint_le(at + n, sizes[2]);
            end = MAX(end, at + n);
        }
        ck_assert_uint_eq(end, sizes[2]);
        /* the same again */
        write_pte(&m, backend ? PT2_PTE_PORTABLE : PT2_PTE_XNNPACK, bytes, sizeof(bytes),
                  digests[1]);
        ck_assert_mem_eq(digests[0], digests[1], 32);
    }
    made_done(&m);
}
END_TEST

/* ---- what is read of a file ---- */

static const char *name_of(const json_t *object, const char *member)
{
    return json_string_value(json_object_get(object, member));
}

START_TEST(test_pte_describes_what_was_written)
{
    static uint8_t bytes[1 << 20];
    json_t *json, *forward, *method, *input, *sum;
    struct pt2_err err = {0};
    uint8_t digest[32];
    json_int_t calls = 0;
    struct made m;
    size_t len, i;

    export_tiny(&m, PT2_PROFILE_EDGE, 300, false);
    len = write_pte(&m, PT2_PTE_XNNPACK, bytes, sizeof(bytes), digest);
    ck_assert_msg(pte_describe(bytes, len, &json, &err) == 0, "%s", err.text);
    forward = json_array_get(json_object_get(json, "methods"), 0);
    ck_assert_str_eq(name_of(forward, "name"), "forward");
    input = json_array_get(json_object_get(forward, "inputs"), 1);
    ck_assert_str_eq(name_of(input, "dtype"), "int64");
    ck_assert_uint_eq(json_array_size(json_object_get(input, "shape")), 1);
    ck_assert_str_eq(name_of(json_array_get(json_object_get(forward, "outputs"), 0), "dtype"),
                     "float32");
    json_array_foreach (json_object_get(forward, "operators"), i, sum)
        calls += json_integer_value(json_object_get(sum, "calls"));
    ck_assert_int_eq(calls, json_integer_value(json_object_get(forward, "kernel_calls")));
    ck_assert_int_gt(json_integer_value(json_object_get(forward, "jumps")), 0);
    ck_assert_uint_eq(json_array_size(json_object_get(forward, "delegates")), 6);
    method = json_array_get(json_object_get(json, "methods"), 1);
    ck_assert_uint_gt(json_array_size(json_object_get(method, "values")), 0);
    ck_assert_int_gt(json_integer_value(json_object_get(json, "constants")), 0);
    json_decref(json);
    made_done(&m);
}
END_TEST

/* Bytes changed at random where the tables are, files cut off: refused, or described, and
 * nothing is read beyond the end, which a copy of that size shows to a sanitizer. */
START_TEST(test_pte_describe_trusts_nothing)
{
    static uint8_t bytes[1 << 20];
    unsigned seed = (unsigned)test_seed();
    size_t len, head, n_refused = 0;
    uint8_t digest[32];
    uint64_t size;
    struct made m;

    export_tiny(&m, PT2_PROFILE_EDGE, 300, false);
    len = write_pte(&m, PT2_PTE_XNNPACK, bytes, sizeof(bytes), digest);
    memcpy(&size, bytes + 16, sizeof(size));
    head = (size_t)size;
    for (int round = 0; round < 4000; round++) {
        size_t n = rand_r(&seed) % 4 ? len : (size_t)rand_r(&seed) % len;
        uint8_t *copy = malloc(MAX(n, (size_t)1));
        struct pt2_err err = {0};
        json_t *json = NULL;

        ck_assert_ptr_nonnull(copy);
        memcpy(copy, bytes, n);
        for (int k = rand_r(&seed) % 5; k > 0 && n > 8; k--) {
            size_t at = 8 + (size_t)rand_r(&seed) % (head - 8);

            if (at < n)
                copy[at] = rand_r(&seed) % 3 ? (uint8_t)rand_r(&seed) : 0xff;
        }
        if (pte_describe(copy, n, &json, &err) < 0) {
            ck_assert_int_eq(err.code, PT2_ERR_BAD_ARCHIVE);
            n_refused++;
        }
        json_decref(json);
        free(copy);
    }
    ck_assert_uint_gt(n_refused, 1000);
    ck_assert_uint_lt(n_refused, 3900);
    made_done(&m);
}
END_TEST

/* An archive whose records are deflated gives the same file: their bytes lie in memory of the
 * process's own, which must not be given back to the system as mapped pages are. */
START_TEST(test_pte_of_deflated_records)
{
    static const char recompress[] =
        "python3 -c 'import sys, zipfile\n"
        "old, new = zipfile.ZipFile(sys.argv[1]), "
        "zipfile.ZipFile(sys.argv[2], \"w\", zipfile.ZIP_DEFLATED)\n"
        "for name in old.namelist(): new.writestr(name, old.read(name))\n"
        "new.close()' %s %s/deflated.pt2";
    static uint8_t bytes[1 << 20], other[1 << 20];
    uint8_t digests[2][32];
    struct pt2_err err = {0};
    char command[600];
    struct made m;
    size_t len;

    export_tiny(&m, PT2_PROFILE_EDGE, 32, false);
    len = write_pte(&m, PT2_PTE_XNNPACK, bytes, sizeof(bytes), digests[0]);
    snprintf(command, sizeof(command), recompress, m.pt2, m.model.dir);
    ck_assert_int_eq(system(command), 0);
    pt2_archive_free(m.archive);
    snprintf(m.pt2, sizeof(m.pt2), "%s/deflated.pt2", m.model.dir);
    ck_assert_msg(pt2_archive_open(m.pt2, &m.archive, &err) == 0, "%s", err.text);
    ck_assert(!pt2_archive_find_payload(m.archive, "model.lm_head.weight")->record->is_stored);
    ck_assert_uint_eq(write_pte(&m, PT2_PTE_XNNPACK, other, sizeof(other), digests[1]), len);
    ck_assert_mem_eq(bytes, other, len);
    ck_assert_mem_eq(digests[0], digests[1], 32);
    made_done(&m);
}
END_TEST

/* ---- windows ---- */

/* Follow the calls as ExecuTorch does, at that position.  What the delegates that attend are
 * called with is counted: the positions of the window, by the shape of their second input. */
static void run_calls(const struct pte_program *p, int64_t position, uint32_t ret_windows[8],
                      uint32_t *ret_n)
{
    bool set[4096] = {false};

    *ret_n = 0;
    for (uint32_t i = 0; i < p->n_calls; i++) {
        const struct pte_call *c = &p->calls[i];

        if (c->kind == PTE_KERNEL && streq(p->operators[c->index].name, "executorch_prim::lt"))
            set[c->args[2]] = position < p->values[c->args[1]].i;
        if (c->kind == PTE_JUMP_FALSE && !set[c->args[0]]) {
            i = c->index - 1;
            continue;
        }
        if (c->kind == PTE_DELEGATE && c->n_args == 5) {
            const struct pte_tensor *keys = pte_tensor(p, (uint32_t)c->args[1]);

            if (keys->place == PTE_ALIAS && keys->n_dims == 3 && *ret_n < 8)
                ret_windows[(*ret_n)++] = (uint32_t)keys->sizes[0];
        }
    }
}

START_TEST(test_pte_attends_to_the_smallest_window)
{
    static const struct {
        int64_t position;
        uint32_t window;
    } cases[] = {{0, 128},   {127, 128}, {128, 256}, {255, 256}, {256, 512},
                 {511, 512}, {512, 600}, {599, 600}};
    struct pt2_program *from;
    struct pte_program p;
    struct pt2_err err = {0};
    struct made m;

    export_tiny(&m, PT2_PROFILE_EDGE, 600, false);
    ck_assert_int_eq(pt2_program_read(m.archive, &from, &err), 0);
    pte_init(&p);
    ck_assert_msg(pte_lower(from, PTE_XNNPACK, &p, &err) == 0, "%s", err.text);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint32_t windows[8], n;

        run_calls(&p, cases[i].position, windows, &n);
        ck_assert_uint_eq(n, 2); /* layers: each once, and no other window behind it */
        for (uint32_t k = 0; k < n; k++)
            ck_assert_uint_eq(windows[k], cases[i].window);
    }
    /* delegates: a window's is one for all layers */
    ck_assert_uint_eq(p.n_delegates, 3 + 4);
    pte_done(&p);
    pt2_program_free(from);
    made_done(&m);
}
END_TEST

/* ---- ExecuTorch's ops for caches ---- */

/* Of each layer: rows into both caches, from the position that the program read once, then
 * attention over those two. */
START_TEST(test_pte_attends_by_custom_ops)
{
    struct pt2_program *from;
    struct pte_program p;
    struct pt2_err err = {0};
    struct made m;
    int32_t caches[2] = {-1, -1}, position = -1;
    unsigned n_updates = 0, n_attended = 0;

    export_as(&m, &(struct pt2_export_options){.profile = PT2_PROFILE_EDGE,
                                               .max_cache_len = 600,
                                               .custom_ops = true,
                                               .dynamic_shapes = _i});
    ck_assert_int_eq(pt2_program_read(m.archive, &from, &err), 0);
    pte_init(&p);
    ck_assert_msg(pte_lower(from, PTE_XNNPACK, &p, &err) == 0, "%s", err.text);
    for (uint32_t i = 0; i < p.n_calls; i++) {
        const struct pte_call *c = &p.calls[i];
        const char *name = c->kind == PTE_KERNEL ? p.operators[c->index].name : "";

        ck_assert_int_ne(c->kind, PTE_JUMP_FALSE);
        if (streq(name, "aten::_local_scalar_dense")) {
            ck_assert_int_eq(position, -1);
            position = c->args[1];
            ck_assert(p.values[position].kind == PTE_INT && p.values[position].is_own);
        } else if (streq(name, "llama::update_cache")) {
            ck_assert(pte_tensor(&p, (uint32_t)c->args[1])->is_kept);
            ck_assert_int_eq(c->args[2], position);
            caches[n_updates++ % 2] = c->args[1];
        } else if (streq(name, "llama::custom_sdpa")) {
            ck_assert_int_eq(c->args[1], caches[0]);
            ck_assert_int_eq(c->args[2], caches[1]);
            ck_assert_int_eq(c->args[3], position);
            ck_assert_uint_eq(n_updates, 2 * ++n_attended);
        }
    }
    ck_assert_uint_eq(n_attended, 2); /* layers */
    pte_done(&p);
    pt2_program_free(from);
    made_done(&m);
}
END_TEST

/* ---- experts ---- */

/* How often the kernel is called in a call of that many tokens. */
static uint32_t count_kernel(const struct pte_program *p, const char *name, int64_t n_tokens)
{
    uint32_t n = 0;
    int64_t round = 1;

    for (uint32_t i = 0; i < p->n_calls; i++) {
        n += p->calls[i].kind == PTE_KERNEL &&
             streq(p->operators[p->calls[i].index].name, name);
        if (pte_is_loop(p, i) && round++ < n_tokens)
            i = p->calls[i].index - 1;
    }
    return n;
}

/* The most matrices of gate and up, (24, 8), that there is room for. */
static int32_t most_gathered(const struct pte_program *p)
{
    int32_t most = 0;

    for (uint32_t i = 0; i < p->n_values; i++) {
        const struct pte_tensor *t = pte_tensor(p, i);

        if (p->values[i].kind == PTE_TENSOR && t->place == PTE_ARENA && t->n_dims == 3 &&
            t->sizes[1] == 24 && t->sizes[2] == 8)
            most = MAX(most, t->sizes[0]);
    }
    return most;
}

/* Of a symbolic number of tokens: in a loop over them, with room for those of one token. */
START_TEST(test_pte_experts_of_one_token_after_another)
{
    for (int backend = 0; backend < 2; backend++) {
        struct pt2_program *from;
        struct pt2_err err = {0};
        struct pte_program p;
        struct made m;

        tiny_begin_moe(&m.model);
        tiny_tensor(&m.model, "model.layers.0.block_sparse_moe.experts.1.w2.weight", 8, 12);
        export_begun(&m, &(struct pt2_export_options){.profile = PT2_PROFILE_EDGE,
                                                      .max_cache_len = 32,
                                                      .dynamic_shapes = true});
        ck_assert_int_eq(pt2_program_read(m.archive, &from, &err), 0);
        pte_init(&p);
        ck_assert_msg(pte_lower(from, backend ? PTE_PORTABLE : PTE_XNNPACK, &p, &err) == 0,
                      "%s", err.text);
        ck_assert_uint_eq(count_kernel(&p, "executorch_prim::et_copy_index", 5), 5);
        ck_assert_uint_eq(count_kernel(&p, "aten::index", 5), 2 * 5);
        ck_assert_uint_eq(count_kernel(&p, "aten::topk", 5), 1); /* of all at once */
        ck_assert_int_eq(most_gathered(&p), 2);
        pte_done(&p);
        pt2_program_free(from);
        made_done(&m);
    }
}
END_TEST

/* ---- what is refused, and what fails ---- */

START_TEST(test_pte_refuses_by_name)
{
    struct pt2_pte_options options = {0};
    struct pt2_pte *pte;
    struct pt2_err err = {0};
    struct made m;

    export_tiny(&m, PT2_PROFILE_TORCH, 32, false);
    ck_assert_int_eq(pt2_pte_new(m.archive, &options, &pte, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_NOT_EXPORTABLE);
    ck_assert_ptr_nonnull(strstr(err.text, "format pte: "));
    made_done(&m);
}
END_TEST

/* The program alone says what the archive's file will be. */
START_TEST(test_pte_check_says_what_new_makes)
{
    struct pt2_pte_options options = {0};
    struct pt2_pte_facts facts, made;
    struct pt2_program *from;
    struct pt2_pte *pte;
    struct pt2_err err = {0};
    const struct pt2_record *record;
    void *metadata;
    size_t len;
    struct made m;

    export_tiny(&m, PT2_PROFILE_EDGE, 300, true);
    ck_assert_int_eq(pt2_program_read(m.archive, &from, &err), 0);
    record = pt2_archive_find(m.archive, "extra/executorch_metadata.json");
    ck_assert_ptr_nonnull(record);
    ck_assert_int_eq(pt2_archive_read(m.archive, record, 1 << 16, &metadata, &len, &err), 0);
    ck_assert_int_eq(pt2_pte_new(m.archive, &options, &pte, &err), 0);
    made = pt2_pte_facts(pte);
    ck_assert_int_eq(pt2_pte_check(from, metadata, &options, &facts, &err), 0);
    ck_assert_uint_eq(facts.file_bytes, made.file_bytes);
    ck_assert_uint_eq(facts.arena_bytes, made.arena_bytes);
    ck_assert_uint_eq(facts.n_instructions, made.n_instructions);
    ck_assert_uint_eq(facts.n_delegates, made.n_delegates);
    ck_assert_int_eq(pt2_pte_check(from, "[]", &options, &facts, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_BAD_ARCHIVE);
    pt2_pte_free(pte);
    pt2_program_free(from);
    free(metadata);
    made_done(&m);
}
END_TEST

START_TEST(test_pte_survives_no_memory)
{
    struct pt2_pte_options options = {0};
    struct made m;

    export_as(&m, &(struct pt2_export_options){.profile = PT2_PROFILE_EDGE,
                                               .max_cache_len = 300,
                                               .custom_ops = _i});
    for (alloc_fail_begin(); alloc_fail_next();) {
        struct pt2_pte *pte = NULL;
        struct pt2_err err = {0};
        int r = pt2_pte_new(m.archive, &options, &pte, &err);

        if (alloc_failed()) {
            ck_assert_int_eq(r, -1);
            ck_assert_int_eq(err.code, PT2_ERR_NOMEM);
        } else {
            ck_assert_int_eq(r, 0);
        }
        if (r == 0)
            pt2_pte_free(pte);
    }
    made_done(&m);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pte");
    TCase *core = tcase_create("core"), *errors = tcase_create("errors");

    tcase_add_test(core, test_pte_flatbuffer_reads_back);
    tcase_add_test(core, test_pte_file_is_laid_out);
    tcase_add_test(core, test_pte_of_deflated_records);
    tcase_add_test(core, test_pte_attends_to_the_smallest_window);
    tcase_add_loop_test(core, test_pte_attends_by_custom_ops, 0, 2);
    tcase_add_test(core, test_pte_experts_of_one_token_after_another);
    tcase_add_test(core, test_pte_describes_what_was_written);
    tcase_add_test(core, test_pte_check_says_what_new_makes);
    suite_add_tcase(suite, core);
    tcase_add_test(errors, test_pte_refuses_by_name);
    tcase_add_test(errors, test_pte_describe_trusts_nothing);
    tcase_add_loop_test(errors, test_pte_survives_no_memory, 0, 2);
    tcase_set_timeout(errors, 120);
    suite_add_tcase(suite, errors);
    return suite_run(suite);
}
