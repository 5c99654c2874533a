/* serve_fixture.h - calls on sessions, waited for, over an engine that is not one
 * (fake_engine.h). */
#ifndef TESTS_SERVE_FIXTURE_H
#define TESTS_SERVE_FIXTURE_H

#include "fake_engine.h"
#include "suite.h"

#include "base/clock.h"
#include "serve/serve.h"

#include <pthread.h>

#define PROGRAM "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define OTHER   "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static struct serve *serve;

/* ---- calls, waited for ---- */

struct op {
    struct serve_call call;
    sem_t done;
    int64_t ids[64];
    int64_t match;
};

static inline void op_done(struct serve_call *call)
{
    struct op *op = call->context;

    sem_post(&op->done);
}

static inline void op_init(struct op *op, enum serve_verb verb)
{
    sem_init(&op->done, 0, 0);
    serve_call_init(&op->call, verb, op_done, op);
}

static inline enum pt2_error op_wait(struct op *op)
{
    while (sem_wait(&op->done) != 0)
        ;
    return op->call.err.code;
}

static inline void op_free(struct op *op)
{
    serve_call_done(&op->call);
    sem_destroy(&op->done);
}

static inline enum pt2_error op_run(struct op *op, const char *id)
{
    serve_submit(serve, id, &op->call);
    return op_wait(op);
}

/* A step of s tokens with ids first, first + 1, … (mod vocab). */
static inline void step_init(struct op *op, int64_t first, int64_t s, int64_t at,
                      enum pt2_rows rows)
{
    op_init(op, SERVE_STEP);
    for (int64_t i = 0; i < s * fake.batch_size; i++)
        op->ids[i] = (first + i) % fake.vocab_size;
    op->call.step.input_ids = op->ids;
    op->call.step.s = s;
    op->call.step.start = at;
    op->call.step.rows = rows;
}

static inline void step_send(struct op *op, const char *id, int64_t first, int64_t s, int64_t at)
{
    step_init(op, first, s, at, PT2_ROWS_LAST);
    serve_submit(serve, id, &op->call);
}

static inline enum pt2_error step_code(const char *id, int64_t first, int64_t s, int64_t at)
{
    struct op op;
    enum pt2_error code;

    step_init(&op, first, s, at, PT2_ROWS_NONE);
    code = op_run(&op, id);
    op_free(&op);
    return code;
}

struct name {
    char id[SERVE_ID_SIZE];
};

static inline enum pt2_error try_open(const char *program, int64_t ttl_s, struct name *ret)
{
    struct op op;
    enum pt2_error code;

    op_init(&op, SERVE_OPEN);
    op.call.open.program = program;
    op.call.open.path = program;
    op.call.open.ttl_s = ttl_s;
    code = op_run(&op, NULL);
    if (code == PT2_ERR_NONE)
        memcpy(ret->id, op.call.info.id, sizeof(ret->id));
    op_free(&op);
    return code;
}

static inline struct name open_one(void)
{
    struct name name;

    ck_assert_int_eq(try_open(PROGRAM, 600, &name), PT2_ERR_NONE);
    return name;
}

static inline int64_t position_of(const char *id)
{
    struct op op;
    int64_t position;

    op_init(&op, SERVE_GET);
    ck_assert_int_eq(op_run(&op, id), PT2_ERR_NONE);
    position = op.call.info.position;
    op_free(&op);
    return position;
}

/* The last row's logits after a step are those of the sequence ids. */
static inline void expect_last(const struct op *op, const int64_t *ids, int64_t n)
{
    float want[16];

    fake_expect(ids, n, want);
    ck_assert_mem_eq(op->call.logits, want, sizeof(want));
}

static inline void save(const char *id, char **ret_file, size_t *ret_size)
{
    struct op op;

    op_init(&op, SERVE_SAVE);
    ck_assert_int_eq(op_run(&op, id), PT2_ERR_NONE);
    *ret_file = TAKE(op.call.file);
    *ret_size = op.call.file_size;
    op_free(&op);
}

static inline enum pt2_error restore(const char *id, const char *file, size_t size)
{
    struct op op;
    enum pt2_error code;

    op_init(&op, SERVE_RESTORE);
    op.call.restore.data = file;
    op.call.restore.size = size;
    code = op_run(&op, id);
    op_free(&op);
    return code;
}

static inline void delete_one(const char *id)
{
    struct pt2_err err = {0};

    ck_assert_int_eq(serve_delete(serve, id, NULL, &err), 0);
}

static inline bool comes_true(bool (*what)(void))
{
    for (int i = 0; i < 3000 && !what(); i++)
        usleep(10000);
    return what();
}

#endif
