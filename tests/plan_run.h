/* plan_run.h - a plan, and what is needed to run it on tokens; for tests. */
#ifndef TESTS_PLAN_RUN_H
#define TESTS_PLAN_RUN_H

#include "native/pack.h"
#include "native/run.h"

#include <stdio.h>
#include <stdlib.h>

struct plan_run {
    struct pt2_archive *archive;
    struct pt2_program *program;
    struct plan *plan;
    struct block_store store;
    struct block_table *tables; /* by batch elements */
    struct team *team;
    struct plan_runner *runner;
};

/* The runner, of a team of so many threads, in place of any before. */
static inline int plan_run_threads(struct plan_run *r, unsigned n_threads,
                                   struct pt2_err *err)
{
    const struct kernels *kernels;

    plan_runner_free(r->runner);
    r->runner = NULL;
    team_free(r->team);
    r->team = NULL;
    return kernels_choose(&kernels, err) < 0 || team_new(n_threads, &r->team, err) < 0 ||
                   (!r->plan->packing &&
                    plan_pack(r->plan, r->archive, r->team, NULL, NULL, err) < 0) ||
                   plan_runner_new(r->plan, &r->store, kernels, r->team, &r->runner, err) < 0
               ? -1
               : 0;
}

/* A session of the plan, and a runner of one thread. */
static inline int plan_run_start(struct plan_run *r, struct pt2_err *err)
{
    int64_t batch = r->plan->decoder.batch_size;

    r->tables = calloc((size_t)batch, sizeof(*r->tables));
    if (!r->tables || block_store_init(&r->store, r->plan, err) < 0 ||
        plan_run_threads(r, 1, err) < 0)
        return -1;
    for (int64_t b = 0; b < batch; b++)
        if (block_table_init(&r->tables[b], BLOCKS_PLAIN, r->plan->decoder.max_cache_len,
                             err) < 0 ||
            block_table_own(&r->tables[b], &r->store, 0, r->plan->decoder.max_cache_len,
                            err) < 0)
            return -1;
    return 0;
}

/* An empty cache of that form for a batch element. */
static inline int plan_run_form(struct plan_run *r, int64_t b, enum block_form form,
                                struct pt2_err *err)
{
    int64_t length = r->plan->decoder.max_cache_len;

    block_table_done(&r->tables[b], &r->store);
    return block_table_init(&r->tables[b], form, length, err) < 0 ||
                   block_table_own(&r->tables[b], &r->store, 0, length, err) < 0
               ? -1
               : 0;
}

/* Errors: those of opening, and of plan_compile. */
static inline int plan_run_open(struct plan_run *r, const char *path, struct pt2_err *err)
{
    memset(r, 0, sizeof(*r));
    return pt2_archive_open(path, &r->archive, err) < 0 ||
                   pt2_program_read(r->archive, &r->program, err) < 0 ||
                   plan_compile(r->archive, r->program, &r->plan, err) < 0
               ? -1
               : plan_run_start(r, err);
}

static inline void plan_run_close(struct plan_run *r)
{
    for (int64_t b = 0; r->runner && b < r->plan->decoder.batch_size; b++)
        block_table_done(&r->tables[b], &r->store);
    plan_runner_free(r->runner);
    if (r->runner)
        block_store_done(&r->store);
    team_free(r->team);
    free(r->tables);
    plan_free(r->plan);
    pt2_program_free(r->program);
    pt2_archive_free(r->archive);
}

/* Tokens ids[b * n + i] at positions 0 .. n - 1, `chunk` of them a run; logits: (batch, n,
 * vocab). */
static inline void plan_run_tokens(struct plan_run *r, const int64_t *ids, int64_t n,
                                   int64_t chunk, float *logits)
{
    const struct pt2_decoder *d = &r->plan->decoder;

    for (int64_t at = 0; at < n; at += chunk) {
        struct run_row rows[RUN_MAX_ROWS];
        size_t n_rows = 0;

        for (int64_t b = 0; b < d->batch_size; b++)
            for (int64_t i = at; i < n && i < at + chunk; i++)
                rows[n_rows++] = (struct run_row){ids[b * n + i], i, &r->tables[b],
                                                  logits + (b * n + i) * d->vocab_size};
        plan_runner_run(r->runner, rows, n_rows);
    }
}

/* ---- for libcheck suites ---- */

#ifdef TESTS_SUITE_H

/* Where to put an archive; the caller unlinks it. */
static inline const char *plan_scratch(void)
{
    static char path[64];

    snprintf(path, sizeof(path), "/tmp/pt2-plan-%d.pt2", (int)getpid());
    return path;
}

/* The program was refused, and the reason says text. */
static inline void ck_refused(int r, const struct pt2_err *err, const char *text)
{
    ck_assert_msg(r == -1, "must be refused: %s", text);
    ck_assert_msg(err->code == PT2_ERR_PROGRAM_REFUSED, "%s: %s", pt2_error_name(err->code),
                  err->text);
    ck_assert_msg(strstr(err->text, text) != NULL, "'%s' is not in '%s'", text, err->text);
}

#endif
#endif
