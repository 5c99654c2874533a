/* How a step is cut into runs: each position written once, no row past the cache's end.
 */
#include "engine/chunk.h"

#include "suite.h"

#include <stdio.h>

#define LENGTH 12

/* Walk the step, check each run against the rules, and answer how many runs it took. */
static int walk(const struct chunk_shape *shape, struct chunk_step step)
{
    int64_t low, high;
    int n = 0;

    ck_assert_int_eq(chunk_span(shape, &step, &low, &high, NULL), 0);
    ck_assert_int_le(low, step.start);
    ck_assert_int_ge(high, step.start + step.s);
    ck_assert_int_ge(low, MIN(step.known, step.start));
    ck_assert_int_le(high, LENGTH);
    for (step.done = 0; step.done < step.s; n++) {
        struct chunk_run run;
        int64_t end, rows;

        ck_assert_int_eq(chunk_next(shape, &step, &run, NULL), 0);
        rows = run.lead + run.take + run.pad;
        ck_assert_int_ge(run.take, 1);
        ck_assert_int_le(run.take, step.s - step.done);
        ck_assert(run.lead >= 0 && run.pad >= 0);
        if (shape->seq_len)
            ck_assert_int_eq(rows, shape->seq_len);
        else
            ck_assert(rows <= shape->max_rows && rows == run.take);
        ck_assert_int_eq(run.first + run.lead, step.start + step.done);
        end = run.first + run.lead + run.take + (run.repeat ? 0 : run.pad);
        ck_assert(run.first >= low && end <= high);
        if (run.lead)
            ck_assert_int_ge(run.first, step.known);
        if (run.repeat)
            ck_assert(!shape->has_counters);
        if (shape->last_row_only && (step.all_rows || step.done + run.take == step.s))
            ck_assert(run.repeat || run.pad == 0); /* the last row is the last token's */
        if (shape->last_row_only && step.all_rows)
            ck_assert_int_eq(run.take, 1);
        step.done += run.take;
    }
    return n;
}

/* Catches: a token left out or taken twice, a run past the end of the cache or before its
 * beginning, rows whose tokens nobody knows. */
START_TEST(test_chunk_every_step_of_every_shape)
{
    for (int64_t k = 0; k <= LENGTH; k++)
        for (int flags = 0; flags < 16; flags++)
            for (int64_t start = 0; start < LENGTH; start++)
                for (int64_t s = 1; start + s <= LENGTH; s++) {
                    struct chunk_shape shape = {.seq_len = k,
                                                .max_rows = k ? k : 5,
                                                .max_cache_len = LENGTH,
                                                .last_row_only = flags & 1,
                                                .has_counters = flags & 2};
                    struct chunk_step step = {.start = start,
                                              .s = s,
                                              .all_rows = flags & 4,
                                              .known = flags & 8 ? 0 : start};

                    if (chunk_check(&shape, NULL) < 0)
                        continue;
                    if (k > 1 && shape.has_counters && step.known > LENGTH - k)
                        continue; /* below */
                    walk(&shape, step);
                }
}
END_TEST

/* Catches: more runs than there need be. */
START_TEST(test_chunk_counts)
{
    struct chunk_shape fixed = {.seq_len = 4, .max_rows = 4, .max_cache_len = LENGTH};
    struct chunk_shape free_ = {.max_rows = 5, .max_cache_len = LENGTH};

    ck_assert_int_eq(walk(&fixed, (struct chunk_step){.s = 8}), 2);
    ck_assert_int_eq(walk(&fixed, (struct chunk_step){.s = 9}), 3);
    ck_assert_int_eq(walk(&fixed, (struct chunk_step){.start = 11, .s = 1, .known = 0}),
                     1);
    ck_assert_int_eq(walk(&free_, (struct chunk_step){.s = 12}), 3);
    ck_assert_int_eq(walk(&free_, (struct chunk_step){.s = 5}), 1);
    fixed.last_row_only = true;
    ck_assert_int_eq(walk(&fixed, (struct chunk_step){.s = 8}), 2);
    ck_assert_int_eq(walk(&fixed, (struct chunk_step){.s = 8, .all_rows = true}), 8);
    free_.last_row_only = true;
    ck_assert_int_eq(walk(&free_, (struct chunk_step){.s = 8, .all_rows = true}), 8);
}
END_TEST

/* Catches: a program that counts on by itself, made to write past the end. */
START_TEST(test_chunk_end_of_cache_without_known_tokens)
{
    struct chunk_shape shape = {
        .seq_len = 4, .max_rows = 4, .max_cache_len = LENGTH, .has_counters = true};
    struct chunk_step step = {.start = 10, .s = 1, .known = 10};
    struct pt2_err err = {0};
    struct chunk_run run;
    int64_t low, high;

    ck_assert_int_eq(chunk_next(&shape, &step, &run, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "step them again from position 8"));
    ck_assert_int_eq(chunk_span(&shape, &step, &low, &high, NULL), -1);
    step.known = 8; /* the two before it are enough */
    ck_assert_int_eq(walk(&shape, step), 1);
    step = (struct chunk_step){.start = 8, .s = 4, .known = 8}; /* a whole run fits */
    ck_assert_int_eq(walk(&shape, step), 1);
}
END_TEST

START_TEST(test_chunk_refuses_what_can_not_be_cut)
{
    struct chunk_shape shape = {
        .seq_len = 4, .last_row_only = true, .has_counters = true};
    struct pt2_err err = {0};

    ck_assert_int_eq(chunk_check(&shape, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_PROGRAM_REFUSED);
    shape.seq_len = 1;
    ck_assert_int_eq(chunk_check(&shape, NULL), 0);
    shape = (struct chunk_shape){.seq_len = 2, .rolls = true};
    ck_assert_int_eq(chunk_check(&shape, NULL), -1);
    shape.seq_len = 0;
    ck_assert_int_eq(chunk_check(&shape, NULL), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("chunk");
    TCase *core = tcase_create("core"), *errors = tcase_create("errors");

    tcase_add_test(core, test_chunk_every_step_of_every_shape);
    tcase_add_test(core, test_chunk_counts);
    suite_add_tcase(s, core);
    tcase_add_test(errors, test_chunk_end_of_cache_without_known_tokens);
    tcase_add_test(errors, test_chunk_refuses_what_can_not_be_cut);
    suite_add_tcase(s, errors);
    return suite_run(s);
}
