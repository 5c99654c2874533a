/* check_serve.c - sessions and the scheduler, over an engine that is not one
 * (fake_engine.h): orders, turns, limits, and what is left after failures. */
#include "serve_fixture.h"

/* ---- fixture: one serve, hooks that count ---- */

static struct serve_options options;
static atomic_int n_open_told, n_deleted_told, n_expired_told, fail_opened;

static int opened(void *context, const char *id, const char *owner, const char *program,
                  struct pt2_err *err)
{
    if (fail_opened)
        return pt2_err_set(err, PT2_ERR_NO_SPACE, "told to fail");
    n_open_told++;
    return 0;
}

static void closed(void *context, const char *id, const char *program, enum serve_end how)
{
    if (how == SERVE_EXPIRED)
        n_expired_told++;
    else
        n_deleted_told++;
}

static void start(void)
{
    struct pt2_err err = {0};

    ck_assert_msg(serve_new(&options, &serve, &err) == 0, "%s", err.text);
}

static atomic_int n_suspected_told;

static void suspected(void *context, const char *program)
{
    ck_assert(!context && streq(program, PROGRAM));
    n_suspected_told++;
}

static void setup(void)
{
    fake_reset();
    n_open_told = n_deleted_told = n_expired_told = n_suspected_told = fail_opened = 0;
    options = (struct serve_options){.node = "n1",
                                     .hooks = {.opened = opened,
                                               .closed = closed,
                                               .suspected = suspected}};
    start();
}

static void teardown(void)
{
    serve_free(serve);
    serve = NULL;
    ck_assert_int_eq(fake.n_engines, 0);
    ck_assert_int_eq(fake.n_caches, 0);
}

static void restart(void)
{
    serve_free(serve);
    start();
}

/* ---- core ---- */

START_TEST(test_serve_prompt_at_once_equals_token_by_token)
{
    struct name a = open_one(), b = open_one();
    struct op whole, one;
    int64_t s = 40;

    step_init(&whole, 3, s, -1, PT2_ROWS_ALL);
    ck_assert_int_eq(op_run(&whole, a.id), PT2_ERR_NONE);
    ck_assert_int_eq(fake.n_log, 5); /* in slices of 8 */
    for (int64_t i = 0; i < s; i++) {
        step_init(&one, 3 + i, 1, i, PT2_ROWS_LAST);
        ck_assert_int_eq(op_run(&one, b.id), PT2_ERR_NONE);
        ck_assert_mem_eq(one.call.logits, whole.call.logits + i * fake.vocab_size,
                         (size_t)fake.vocab_size * sizeof(float));
        op_free(&one);
    }
    expect_last(&whole, whole.ids, 1); /* row 0 sees one id */
    ck_assert_int_eq(whole.call.start, 0);
    ck_assert_int_eq(whole.call.position, s);
    ck_assert_int_eq(position_of(b.id), s);
    op_free(&whole);
}
END_TEST

START_TEST(test_serve_slices_of_a_batch_are_put_together)
{
    struct op all, last;
    struct name a, b;
    int64_t s = 30;

    fake.batch_size = 2;
    fake.seq_len = 3;
    a = open_one();
    b = open_one();
    step_init(&all, 1, s, -1, PT2_ROWS_ALL);
    ck_assert_int_eq(op_run(&all, a.id), PT2_ERR_NONE);
    ck_assert_int_eq(fake.log_s[0], 9); /* a multiple of the exported 3 */
    step_init(&last, 1, s, -1, PT2_ROWS_LAST);
    ck_assert_int_eq(op_run(&last, b.id), PT2_ERR_NONE);
    for (int64_t row = 0; row < 2; row++) {
        float want[16];

        fake_expect(all.ids + row * s, s, want);
        ck_assert_mem_eq(all.call.logits + (row * s + s - 1) * 16, want, sizeof(want));
        ck_assert_mem_eq(last.call.logits + row * 16, want, sizeof(want));
        fake_expect(all.ids + row * s, 1, want);
        ck_assert_mem_eq(all.call.logits + row * s * 16, want, sizeof(want));
    }
    op_free(&all);
    op_free(&last);
}
END_TEST

START_TEST(test_serve_repeat_and_overwrite)
{
    struct name a = open_one();
    int64_t want[] = {1, 2, 3, 9, 10};
    struct op op;

    ck_assert_int_eq(step_code(a.id, 1, 5, 0), PT2_ERR_NONE);
    ck_assert_int_eq(step_code(a.id, 1, 5, 0), PT2_ERR_NONE); /* a repeat */
    ck_assert_int_eq(position_of(a.id), 5);
    step_init(&op, 9, 2, 3, PT2_ROWS_LAST);
    ck_assert_int_eq(op_run(&op, a.id), PT2_ERR_NONE);
    expect_last(&op, want, 5);
    ck_assert_int_eq(op.call.position, 5);
    op_free(&op);
    /* and back further than what is there now */
    step_init(&op, 7, 1, 0, PT2_ROWS_LAST);
    ck_assert_int_eq(op_run(&op, a.id), PT2_ERR_NONE);
    want[0] = 7;
    expect_last(&op, want, 1);
    ck_assert_int_eq(op.call.position, 1);
    op_free(&op);
}
END_TEST

START_TEST(test_serve_rewind)
{
    struct name a = open_one();
    int64_t want[] = {1, 2, 8};
    struct op op;

    ck_assert_int_eq(step_code(a.id, 1, 5, -1), PT2_ERR_NONE);
    op_init(&op, SERVE_REWIND);
    op.call.rewind.position = 2;
    ck_assert_int_eq(op_run(&op, a.id), PT2_ERR_NONE);
    ck_assert_int_eq(op.call.info.position, 2);
    op_free(&op);
    op_init(&op, SERVE_REWIND);
    op.call.rewind.position = 3; /* what is beyond is gone */
    ck_assert_int_eq(op_run(&op, a.id), PT2_ERR_POSITION_GAP);
    ck_assert_int_eq(op.call.position, 2);
    op_free(&op);
    step_init(&op, 8, 1, -1, PT2_ROWS_LAST);
    ck_assert_int_eq(op_run(&op, a.id), PT2_ERR_NONE);
    expect_last(&op, want, 3);
    op_free(&op);
}
END_TEST

static struct name fork_of(const char *id, int64_t position)
{
    struct name name;
    struct op op;

    op_init(&op, SERVE_FORK);
    op.call.fork.position = position;
    op.call.fork.ttl_s = -1;
    ck_assert_int_eq(op_run(&op, id), PT2_ERR_NONE);
    memcpy(name.id, op.call.info.id, sizeof(name.id));
    ck_assert_int_eq(op.call.info.ttl_s, 600);
    op_free(&op);
    return name;
}

START_TEST(test_serve_forks_are_independent)
{
    struct name a = open_one(), b, c;
    int64_t want_a[] = {1, 2, 3, 4, 5}, want_b[] = {1, 2, 3, 4, 9}, want_c[] = {1, 2, 14};
    struct op op;

    ck_assert_int_eq(step_code(a.id, 1, 4, -1), PT2_ERR_NONE);
    b = fork_of(a.id, -1);
    c = fork_of(a.id, 2);
    ck_assert_str_ne(a.id, b.id);
    step_init(&op, 9, 1, -1, PT2_ROWS_LAST);
    ck_assert_int_eq(op_run(&op, b.id), PT2_ERR_NONE);
    expect_last(&op, want_b, 5);
    op_free(&op);
    delete_one(b.id);
    step_init(&op, 14, 1, -1, PT2_ROWS_LAST);
    ck_assert_int_eq(op_run(&op, c.id), PT2_ERR_NONE);
    expect_last(&op, want_c, 3);
    op_free(&op);
    step_init(&op, 5, 1, -1, PT2_ROWS_LAST);
    ck_assert_int_eq(op_run(&op, a.id), PT2_ERR_NONE);
    expect_last(&op, want_a, 5);
    op_free(&op);
}
END_TEST

START_TEST(test_serve_saved_cache_goes_on_elsewhere)
{
    struct name a = open_one(), b = open_one();
    int64_t want[] = {4, 5, 6, 7, 1};
    AUTO_PTR char *file = NULL, *again = NULL;
    size_t size, again_size;
    struct op op;

    ck_assert_int_eq(step_code(a.id, 4, 4, -1), PT2_ERR_NONE);
    save(a.id, &file, &size);
    ck_assert_int_eq(step_code(b.id, 9, 7, -1), PT2_ERR_NONE);
    ck_assert_int_eq(restore(b.id, file, size), PT2_ERR_NONE);
    ck_assert_int_eq(position_of(b.id), 4);
    save(b.id, &again, &again_size);
    ck_assert_uint_eq(size, again_size);
    ck_assert_mem_eq(file, again, size);
    step_init(&op, 1, 1, -1, PT2_ROWS_LAST);
    ck_assert_int_eq(op_run(&op, b.id), PT2_ERR_NONE);
    expect_last(&op, want, 5);
    op_free(&op);
    /* only the positions written so far: 4 of 64 */
    ck_assert_uint_lt(size, 8 + 400 + 4 * 2 * 4 + 8);
    ck_assert_ptr_nonnull(strstr(file + 8, "\"shape\":[1,4,2]"));
    ck_assert_ptr_nonnull(strstr(file + 8, "\"position\":\"4\""));
}
END_TEST

START_TEST(test_serve_calls_of_a_session_keep_their_order)
{
    struct name a = open_one();
    struct op ops[6], get;

    fake.gated = true;
    for (int64_t i = 0; i < 6; i++)
        step_send(&ops[i], a.id, i, 1, -1);
    op_init(&get, SERVE_GET); /* waits its turn, too */
    serve_submit(serve, a.id, &get.call);
    ck_assert_int_ne(sem_trywait(&get.done), 0);
    fake.gated = false;
    sem_post(&fake.go);
    for (int i = 0; i < 6; i++) {
        ck_assert_int_eq(op_wait(&ops[i]), PT2_ERR_NONE);
        ck_assert_int_eq(ops[i].call.start, i);
        ck_assert_int_eq(fake.log_id[i], i);
        op_free(&ops[i]);
    }
    op_wait(&get);
    ck_assert_int_eq(get.call.info.position, 6);
    op_free(&get);
}
END_TEST

/* What is fed while a step of session a is held: a long prompt of a does not keep b and c
 * waiting, and one with many calls gets one turn like the others. */
START_TEST(test_serve_sessions_take_turns)
{
    struct name a = open_one(), b = open_one(), c = open_one();
    static const int64_t want[] = {0, 1, 2, 8, 3, 0, 8, 0, 8};
    struct op prompt, b1, b2, c1;

    fake.gated = true;
    step_send(&prompt, a.id, 0, 40, -1); /* five slices, that begin with 0 or 8 */
    while (sem_wait(&fake.began) != 0)
        ;
    step_send(&b1, b.id, 1, 1, -1);
    step_send(&b2, b.id, 3, 1, -1);
    step_send(&c1, c.id, 2, 1, -1);
    fake.gated = false;
    sem_post(&fake.go);
    ck_assert_int_eq(op_wait(&prompt), PT2_ERR_NONE);
    ck_assert_int_eq(op_wait(&b1), PT2_ERR_NONE);
    ck_assert_int_eq(op_wait(&b2), PT2_ERR_NONE);
    ck_assert_int_eq(op_wait(&c1), PT2_ERR_NONE);
    ck_assert_int_eq(fake.n_log, 8);
    for (int i = 0; i < 5; i++)
        ck_assert_msg(fake.log_id[i] == want[i], "turn %d is %d's", i,
                      (int)fake.log_id[i]);
    expect_last(&prompt, prompt.ids, 40);
    ck_assert_int_gt(b2.call.queue_ns, 0);
    op_free(&prompt);
    op_free(&b1);
    op_free(&b2);
    op_free(&c1);
}
END_TEST

/* ---- steps together ---- */

/* Hold the engine at a step of `a`, so that what is sent next waits, and gathers. */
static void hold(struct op *op, const char *id)
{
    fake.gated = true;
    step_send(op, id, 15, 1, -1);
    while (sem_wait(&fake.began) != 0)
        ;
}

static void let_go(struct op *op)
{
    fake.gated = false;
    sem_post(&fake.go);
    ck_assert_int_eq(op_wait(op), PT2_ERR_NONE);
    op_free(op);
}

static void expect_run(int at, int64_t id, int64_t s, int together)
{
    ck_assert_msg(fake.log_id[at] == id && fake.log_s[at] == s &&
                      fake.log_together[at] == together,
                  "run %d: %d tokens from %d on, %d together", at, (int)fake.log_s[at],
                  (int)fake.log_id[at], fake.log_together[at]);
}

/* A prompt leaves half of the rows to the others that are ready, and takes all when alone. */
START_TEST(test_serve_ready_steps_run_together)
{
    struct name a = open_one(), b = open_one(), c = open_one();
    struct op held, prompt, ops[3];

    fake.max_rows = 8;
    fake.slice = 8;
    hold(&held, a.id);
    step_send(&prompt, b.id, 0, 20, -1);
    for (int i = 0; i < 2; i++)
        step_send(&ops[i], i == 0 ? a.id : c.id, 1 + i, 1, -1);
    step_send(&ops[2], c.id, 9, 1, -1);
    let_go(&held);
    ck_assert_int_eq(op_wait(&prompt), PT2_ERR_NONE);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(op_wait(&ops[i]), PT2_ERR_NONE);
    /* b's 20 tokens, a's one and c's first; then b's and c's second */
    expect_run(1, 0, 6, 3);
    ck_assert_int_eq(fake.log_together[2], 3);
    ck_assert_int_eq(fake.log_together[3], 3);
    ck_assert_int_eq(fake.n_log, 1 + 3 + 2 + 1);
    expect_last(&prompt, prompt.ids, 20);
    expect_last(&ops[2], (int64_t[]){2, 9}, 2);
    op_free(&prompt);
    for (int i = 0; i < 3; i++)
        op_free(&ops[i]);
    ck_assert_int_eq(fake.n_undos, 0);
}
END_TEST

/* Catches: rows beyond the engine's; a batch wider than these that never runs. */
START_TEST(test_serve_rows_have_a_maximum)
{
    enum { N = 7 };
    struct name names[N];
    struct op held, ops[N];

    fake.max_rows = 5;
    fake.slice = 5;
    fake.batch_size = _i;
    for (int i = 0; i < N; i++)
        names[i] = open_one();
    hold(&held, names[0].id);
    for (int i = 1; i < N; i++)
        step_send(&ops[i], names[i].id, i, 1, -1);
    let_go(&held);
    for (int i = 1; i < N; i++) {
        ck_assert_int_eq(op_wait(&ops[i]), PT2_ERR_NONE);
        op_free(&ops[i]);
    }
    for (int i = 1; i < fake.n_log; i++)
        ck_assert_int_le((fake.log_together[i] - 1) * _i, 5); /* fake_engine checks the sum */
    ck_assert_int_eq(fake.log_together[1], MAX(5 / _i, 1));
}
END_TEST

/* One that fails does not take the others along. */
START_TEST(test_serve_one_of_a_batch_fails_alone)
{
    struct name a = open_one(), b = open_one(), c = open_one();
    struct op held, ops[3];

    fake.max_rows = 8;
    fake.slice = 8;
    hold(&held, a.id);
    step_send(&ops[0], b.id, 1, 1, -1);
    step_send(&ops[1], c.id, 2, 1, -1);
    step_send(&ops[2], a.id, 3, 1, -1);
    fake.fail_step = 3; /* the held one, then b's, then c's */
    let_go(&held);
    ck_assert_int_eq(op_wait(&ops[0]), PT2_ERR_NONE);
    ck_assert_int_eq(op_wait(&ops[1]), PT2_ERR_PROGRAM_FAILED);
    ck_assert_int_eq(op_wait(&ops[2]), PT2_ERR_NONE);
    ck_assert_int_eq(position_of(b.id), 1);
    ck_assert_int_eq(position_of(c.id), 0);
    ck_assert_int_eq(position_of(a.id), 2);
    for (int i = 0; i < 3; i++)
        op_free(&ops[i]);
}
END_TEST

/* Where caches grow, a step is refused when they may not; what it did is undone. */
START_TEST(test_serve_steps_keep_within_the_memory_budget)
{
    struct name a, b;
    struct op op;

    fake.grows = true;
    fake.slice = 8;
    options.max_cache_bytes = 64 * (2 + 20);
    restart();
    a = open_one();
    b = open_one();
    ck_assert_int_eq(step_code(a.id, 1, 10, -1), PT2_ERR_NONE);
    step_init(&op, 1, 20, -1, PT2_ROWS_LAST);
    ck_assert_int_eq(op_run(&op, b.id), PT2_ERR_BUDGET); /* its second slice */
    op_free(&op);
    ck_assert_int_eq(position_of(b.id), 0);
    ck_assert_int_eq(fake.n_undos, 0);
    ck_assert_int_eq(step_code(b.id, 1, 8, -1), PT2_ERR_NONE); /* held already */
    op_init(&op, SERVE_FORK);
    op.call.fork.position = op.call.fork.ttl_s = -1;
    ck_assert_int_eq(op_run(&op, a.id), PT2_ERR_NONE); /* 64 bytes: there is room for two */
    op_free(&op);
    delete_one(a.id);
    ck_assert_int_eq(step_code(b.id, 1, 2, -1), PT2_ERR_NONE);
}
END_TEST

/* b waits while a runs; a's client calls again as soon as it is answered: the two run
 * together from then on.  It may come late on a busy machine, but not every time; who comes
 * late is waited for less often, so each time is the first one. */
START_TEST(test_serve_waits_a_moment_for_those_it_answered)
{
    struct op one, other, next;
    bool together = false;

    fake.max_rows = 8;
    fake.slice = 8;
    for (int i = 0; i < 200 && !together; i++) {
        struct name a, b;

        fake.run_us = 0;
        restart();
        a = open_one();
        b = open_one();
        hold(&one, a.id);
        fake.run_us = 20000;
        step_send(&other, b.id, 1, 1, -1);
        fake.gated = false;
        sem_post(&fake.go);
        op_wait(&one);
        step_send(&next, a.id, 2, 1, -1);
        op_wait(&next);
        op_wait(&other);
        together = fake.log_together[fake.n_log - 1] == 2;
        op_free(&one);
        op_free(&next);
        op_free(&other);
    }
    ck_assert(together);
}
END_TEST

static bool filter_label(void *context, const struct serve_info *info)
{
    return json_object_get(info->labels, context) != NULL;
}

START_TEST(test_serve_info_and_list)
{
    json_auto_t *labels = json_pack("{s:s}", "device", "d7");
    char label[] = "device";
    struct serve_info *list = NULL;
    struct pt2_err err = {0};
    struct op op;
    struct name a = open_one();
    size_t n = 0;

    op_init(&op, SERVE_OPEN);
    op.call.open.program = op.call.open.path = PROGRAM;
    op.call.open.ttl_s = 20;
    op.call.open.labels = labels;
    ck_assert_int_eq(op_run(&op, NULL), PT2_ERR_NONE);
    ck_assert_int_eq(op.call.info.engine, PT2_ENGINE_ATEN);
    ck_assert_int_eq(op.call.info.facts.vocab_size, 16);
    ck_assert_str_eq(op.call.info.facts.program, PROGRAM);
    ck_assert_int_eq(strncmp(op.call.info.id, "ses_n1-", 7), 0);
    ck_assert_uint_eq(strlen(op.call.info.id), 7 + 26);
    ck_assert_int_ge(op.call.info.expires_ms, op.call.info.created_ms + 19000);
    ck_assert_int_le(op.call.info.expires_ms, op.call.info.created_ms + 21000);

    ck_assert_int_eq(serve_list(serve, NULL, 0, 10, NULL, NULL, &list, &n, &err), 0);
    ck_assert_uint_eq(n, 2);
    ck_assert_str_eq(list[0].id, op.call.info.id); /* newest first */
    ck_assert_str_eq(list[1].id, a.id);
    ck_assert_int_eq(n_open_told, 2);
    for (size_t i = 0; i < n; i++)
        serve_info_done(&list[i]);
    free(list);
    ck_assert_int_eq(
        serve_list(serve, NULL, op.call.info.number, 10, NULL, NULL, &list, &n, &err), 0);
    ck_assert_uint_eq(n, 1);
    ck_assert_str_eq(list[0].id, a.id);
    serve_info_done(&list[0]);
    free(list);
    ck_assert_int_eq(
        serve_list(serve, NULL, 0, 1, filter_label, label, &list, &n, &err), 0);
    ck_assert_uint_eq(n, 1);
    ck_assert_str_eq(json_string_value(json_object_get(list[0].labels, "device")), "d7");
    serve_info_done(&list[0]);
    free(list);
    op_free(&op);
}
END_TEST

/* ---- limits ---- */

START_TEST(test_serve_sixteen_calls_wait_not_seventeen)
{
    struct name a = open_one();
    struct op first, ops[16], more;

    fake.gated = true;
    step_send(&first, a.id, 0, 1, -1);
    while (sem_wait(&fake.began) != 0)
        ;
    for (int i = 0; i < 16; i++)
        step_send(&ops[i], a.id, i, 1, -1);
    step_send(&more, a.id, 0, 1, -1);
    ck_assert_int_eq(op_wait(&more), PT2_ERR_QUEUE_FULL);
    op_free(&more);
    ck_assert(serve_cancel(serve, &ops[3].call, PT2_ERR_CANCELLED, "given up"));
    ck_assert_int_eq(op_wait(&ops[3]), PT2_ERR_CANCELLED);
    step_send(&more, a.id, 0, 1, -1); /* the place is free again */
    fake.gated = false;
    sem_post(&fake.go);
    ck_assert_int_eq(op_wait(&more), PT2_ERR_NONE);
    ck_assert_int_eq(position_of(a.id), 17);
    op_wait(&first);
    op_free(&first);
    op_free(&more);
    for (int i = 0; i < 16; i++) {
        if (i != 3)
            op_wait(&ops[i]);
        op_free(&ops[i]);
    }
}
END_TEST

/* Opens and forks count for their owner, until they end or come to nothing. */
static int open_as(struct op *op, const char *owner, unsigned max)
{
    op_init(op, SERVE_OPEN);
    op->call.open.program = op->call.open.path = PROGRAM;
    op->call.open.ttl_s = 20;
    op->call.owner = op->call.who = owner;
    op->call.max_sessions = max;
    return op_run(op, NULL);
}

START_TEST(test_serve_sessions_are_limited_for_each_owner)
{
    struct pt2_err err = {0};
    struct op a, b, c, fork;

    ck_assert_int_eq(open_as(&a, "alice", 2), PT2_ERR_NONE);
    ck_assert_int_eq(open_as(&b, "alice", 2), PT2_ERR_NONE);
    ck_assert_int_eq(open_as(&c, "alice", 2), PT2_ERR_TOKEN_LIMIT);
    op_free(&c);
    ck_assert_int_eq(open_as(&c, "bob", 1), PT2_ERR_NONE);
    op_init(&fork, SERVE_FORK);
    fork.call.fork.position = fork.call.fork.ttl_s = -1;
    fork.call.owner = fork.call.who = "alice";
    fork.call.max_sessions = 2;
    ck_assert_int_eq(op_run(&fork, a.call.info.id), PT2_ERR_TOKEN_LIMIT);
    op_free(&fork);
    ck_assert_int_eq(serve_delete(serve, b.call.info.id, "alice", &err), 0);
    fail_opened = 1; /* what comes to nothing is given back */
    op_free(&b);
    ck_assert_int_eq(open_as(&b, "alice", 2), PT2_ERR_NO_SPACE);
    fail_opened = 0;
    op_free(&b);
    ck_assert_int_eq(open_as(&b, "alice", 2), PT2_ERR_NONE);
    op_free(&a);
    op_free(&b);
    op_free(&c);
    ck_assert_int_eq(open_as(&a, "", 1), PT2_ERR_NONE); /* nobody has no limit */
    op_free(&a);
    ck_assert_int_eq(open_as(&a, NULL, 1), PT2_ERR_NONE);
    op_free(&a);
}
END_TEST

START_TEST(test_serve_sessions_are_their_owners)
{
    struct serve_info *list = NULL;
    struct serve_facts facts;
    struct pt2_err err = {0};
    struct op a, other;
    size_t n = 0;

    ck_assert_int_eq(open_as(&a, "alice", 0), PT2_ERR_NONE);
    ck_assert_int_eq(serve_facts(serve, a.call.info.id, "alice", &facts, &err), 0);
    ck_assert_int_eq(serve_facts(serve, a.call.info.id, NULL, &facts, &err), 0);
    ck_assert_int_eq(serve_facts(serve, a.call.info.id, "bob", &facts, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_NOT_FOUND);
    pt2_err_clear(&err);
    ck_assert_int_eq(serve_delete(serve, a.call.info.id, "", &err), -1);
    for (int verb = SERVE_GET; verb <= SERVE_RESTORE; verb++) {
        op_init(&other, (enum serve_verb)verb);
        other.call.who = other.call.owner = "bob";
        ck_assert_int_eq(op_run(&other, a.call.info.id), PT2_ERR_NOT_FOUND);
        op_free(&other);
    }
    pt2_err_clear(&err);
    ck_assert_int_eq(serve_list(serve, "bob", 0, 10, NULL, NULL, &list, &n, &err), 0);
    ck_assert_uint_eq(n, 0);
    free(list);
    ck_assert_int_eq(serve_list(serve, "alice", 0, 10, NULL, NULL, &list, &n, &err), 0);
    ck_assert_uint_eq(n, 1);
    serve_info_done(&list[0]);
    free(list);
    op_free(&a);
}
END_TEST

START_TEST(test_serve_memory_budget)
{
    struct name a = open_one(), b, c;
    struct serve_facts facts;
    struct pt2_err err = {0};
    struct op op;

    ck_assert_int_eq(serve_facts(serve, a.id, NULL, &facts, &err), 0);
    options.max_cache_bytes = 2 * facts.cache_bytes;
    restart();
    a = open_one();
    b = open_one();
    ck_assert_int_eq(try_open(PROGRAM, 600, &c), PT2_ERR_BUDGET);
    op_init(&op, SERVE_FORK);
    op.call.fork.position = op.call.fork.ttl_s = -1;
    ck_assert_int_eq(op_run(&op, a.id), PT2_ERR_BUDGET);
    op_free(&op);
    delete_one(b.id);
    c = fork_of(a.id, -1);
    ck_assert_int_eq(try_open(PROGRAM, 600, &b), PT2_ERR_BUDGET);
    delete_one(c.id);
    b = open_one();
}
END_TEST

START_TEST(test_serve_max_sessions)
{
    struct name a, b;
    struct op op;

    options.max_sessions = 2;
    restart();
    a = open_one();
    b = fork_of(a.id, -1);
    op_init(&op, SERVE_FORK);
    op.call.fork.position = op.call.fork.ttl_s = -1;
    ck_assert_int_eq(op_run(&op, a.id), PT2_ERR_BUDGET);
    op_free(&op);
    ck_assert_int_eq(try_open(PROGRAM, 600, &b), PT2_ERR_BUDGET);
}
END_TEST

static bool one_engine(void)
{
    return fake.n_engines == 1;
}

START_TEST(test_serve_max_programs)
{
    struct name a, b;

    options.max_programs = 1;
    restart();
    a = open_one();
    ck_assert_int_eq(try_open(OTHER, 600, &b), PT2_ERR_BUDGET);
    delete_one(a.id); /* an idle one makes room at once */
    ck_assert_int_eq(try_open(OTHER, 600, &b), PT2_ERR_NONE);
    ck_assert(comes_true(one_engine));
    ck_assert_int_eq(step_code(b.id, 1, 1, -1), PT2_ERR_NONE);
}
END_TEST

static bool no_engine(void)
{
    return fake.n_engines == 0;
}

START_TEST(test_serve_idle_program_is_closed)
{
    struct name a;

    options.program_idle_ms = 50;
    restart();
    a = open_one();
    usleep(100000);
    ck_assert_int_eq(fake.n_engines, 1); /* it has a session */
    delete_one(a.id);
    ck_assert(comes_true(no_engine));
    a = open_one();
    ck_assert_int_eq(fake.n_opened, 2);
}
END_TEST

static bool one_expired(void)
{
    return n_expired_told == 1;
}

static bool two_expired(void)
{
    return n_expired_told == 2;
}

START_TEST(test_serve_sessions_expire_but_not_at_work)
{
    struct name a, b;
    struct op op, waiting;
    struct serve_facts facts;
    struct pt2_err err = {0};
    int64_t used_ms;

    ck_assert_int_eq(try_open(PROGRAM, 2, &a), PT2_ERR_NONE);
    ck_assert_int_eq(try_open(OTHER, 2, &b), PT2_ERR_NONE);
    fake.gated = true;
    step_send(&op, a.id, 1, 1, -1);
    step_send(&waiting, a.id, 2, 1, -1);
    ck_assert(comes_true(one_expired));
    usleep(200000);
    ck_assert_int_eq(serve_facts(serve, b.id, NULL, &facts, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_NOT_FOUND);
    ck_assert_int_eq(n_expired_told, 1);
    fake.gated = false;
    sem_post(&fake.go);
    ck_assert_int_eq(op_wait(&op), PT2_ERR_NONE);
    ck_assert_int_eq(op_wait(&waiting), PT2_ERR_NONE);
    op_free(&op);
    op_free(&waiting);
    usleep(500000);
    used_ms = clock_mono_ms();
    ck_assert_int_eq(position_of(a.id), 2); /* a use: the time begins again */
    ck_assert(comes_true(two_expired));
    ck_assert_int_ge(clock_mono_ms() - used_ms, 2000);
    ck_assert_int_eq(serve_facts(serve, a.id, NULL, &facts, &err), -1);
}
END_TEST

/* ---- errors ---- */

START_TEST(test_serve_rules_of_positions)
{
    struct name a = open_one();
    struct op op;

    ck_assert_int_eq(step_code(a.id, 1, 3, -1), PT2_ERR_NONE);
    step_init(&op, 1, 1, 4, PT2_ROWS_LAST);
    ck_assert_int_eq(op_run(&op, a.id), PT2_ERR_POSITION_GAP);
    ck_assert_int_eq(op.call.position, 3);
    ck_assert_ptr_null(op.call.logits);
    op_free(&op);
    ck_assert_int_eq(step_code(a.id, 1, 62, -1), PT2_ERR_LIMIT);
    ck_assert_int_eq(position_of(a.id), 3);
    ck_assert_int_eq(fake.n_log, 1);
    ck_assert_int_eq(step_code(a.id, 1, 61, -1), PT2_ERR_NONE);
    ck_assert_int_eq(step_code(a.id, 1, 1, -1), PT2_ERR_LIMIT);
    ck_assert_int_eq(step_code(a.id, 1, 1, 63), PT2_ERR_NONE);
    step_init(&op, 1, 1, 0, PT2_ROWS_LAST);
    op.match = 63;
    op.call.if_match = &op.match;
    op.call.n_if_match = 1;
    ck_assert_int_eq(op_run(&op, a.id), PT2_ERR_PRECONDITION);
    ck_assert_int_eq(op.call.position, 64);
    op_free(&op);
    step_init(&op, 1, 1, 0, PT2_ROWS_LAST);
    op.match = 64;
    op.call.if_match = &op.match;
    op.call.n_if_match = 1;
    ck_assert_int_eq(op_run(&op, a.id), PT2_ERR_NONE);
    op_free(&op);
    ck_assert_int_eq(step_code("ses_n1-none", 1, 1, -1), PT2_ERR_NOT_FOUND);
}
END_TEST

START_TEST(test_serve_rolling_window_cannot_rewind)
{
    struct name a;
    struct op op;

    fake.can_rewind = false;
    a = open_one();
    ck_assert_int_eq(step_code(a.id, 1, 30, -1), PT2_ERR_NONE);
    ck_assert_int_eq(fake.n_log, 1); /* not in slices: they could not be undone */
    ck_assert_int_eq(step_code(a.id, 1, 1, 29), PT2_ERR_CANNOT_REWIND);
    op_init(&op, SERVE_REWIND);
    op.call.rewind.position = 29;
    ck_assert_int_eq(op_run(&op, a.id), PT2_ERR_CANNOT_REWIND);
    op_free(&op);
    op_init(&op, SERVE_GET);
    ck_assert_int_eq(op_run(&op, a.id), PT2_ERR_NONE);
    ck_assert_int_eq(op.call.info.rewind_floor, 30);
    op_free(&op);
    ck_assert_int_eq(step_code(a.id, 1, 1, 30), PT2_ERR_NONE);
}
END_TEST

/* A step that overwrote half of what was there fails, at each of its slices in turn. */
START_TEST(test_serve_failed_step_changes_nothing)
{
    struct name a = open_one();
    AUTO_PTR char *before = NULL;
    size_t size;
    struct op op;

    ck_assert_int_eq(step_code(a.id, 5, 20, -1), PT2_ERR_NONE);
    save(a.id, &before, &size);
    for (int dies = 0; dies < 2; dies++) {
        for (int slice = 1; slice <= 4; slice++) {
            AUTO_PTR char *after = NULL;
            size_t after_size;

            *(dies ? &fake.die_step : &fake.fail_step) = slice;
            step_init(&op, 1, 32, 10, PT2_ROWS_ALL);
            ck_assert_int_eq(op_run(&op, a.id),
                             dies ? PT2_ERR_ENGINE_DIED : PT2_ERR_PROGRAM_FAILED);
            ck_assert_int_eq(op.call.position, 20);
            op_free(&op);
            save(a.id, &after, &after_size);
            ck_assert_uint_eq(size, after_size);
            ck_assert_mem_eq(before, after, size);
        }
    }
    ck_assert_int_eq(step_code(a.id, 1, 1, -1), PT2_ERR_NONE);
}
END_TEST

static struct name open_native(void)
{
    struct name name;
    struct op op;

    fake.has_native = true;
    op_init(&op, SERVE_OPEN);
    op.call.open.program = op.call.open.path = PROGRAM;
    op.call.open.kind = PT2_ENGINE_NATIVE;
    op.call.open.ttl_s = 600;
    ck_assert_int_eq(op_run(&op, NULL), PT2_ERR_NONE);
    memcpy(name.id, op.call.info.id, sizeof(name.id));
    op_free(&op);
    return name;
}

/* What a run on a cut file wrote is not kept: not of a step in slices, at each of which it may
 * happen, and whoever keeps the file is told. */
START_TEST(test_serve_step_on_a_cut_file_changes_nothing)
{
    struct name a = open_native();
    AUTO_PTR char *before = NULL;
    size_t size;
    struct op op;

    fake.slice = 8;
    ck_assert_int_eq(step_code(a.id, 5, 20, -1), PT2_ERR_NONE);
    save(a.id, &before, &size);
    for (int slice = 1; slice <= 4; slice++) {
        AUTO_PTR char *after = NULL;
        size_t after_size;

        fake.cut_step = slice;
        step_init(&op, 1, 32, 10, PT2_ROWS_ALL);
        ck_assert_int_eq(op_run(&op, a.id), PT2_ERR_PROGRAM_DAMAGED);
        ck_assert_int_eq(op.call.position, 20);
        op_free(&op);
        ck_assert_int_eq(n_suspected_told, slice);
        save(a.id, &after, &after_size);
        ck_assert_uint_eq(size, after_size);
        ck_assert_mem_eq(before, after, size);
    }
    ck_assert_int_eq(step_code(a.id, 1, 1, -1), PT2_ERR_NONE);
}
END_TEST

/* One in one piece has nothing to be undone with: the session is where it began. */
START_TEST(test_serve_step_on_a_cut_file_that_overwrote_goes_back)
{
    int64_t want[] = {1, 2, 3, 9};
    struct name a = open_native();
    struct op op;

    ck_assert_int_eq(step_code(a.id, 1, 6, -1), PT2_ERR_NONE);
    fake.cut_step = 1;
    ck_assert_int_eq(step_code(a.id, 7, 1, -1), PT2_ERR_PROGRAM_DAMAGED);
    ck_assert_int_eq(position_of(a.id), 6);
    fake.cut_step = 1;
    ck_assert_int_eq(step_code(a.id, 12, 2, 3), PT2_ERR_PROGRAM_DAMAGED);
    ck_assert_int_eq(position_of(a.id), 3);
    step_init(&op, 9, 1, -1, PT2_ROWS_LAST);
    ck_assert_int_eq(op_run(&op, a.id), PT2_ERR_NONE);
    expect_last(&op, want, 4);
    op_free(&op);
}
END_TEST

/* Between two slices of a step another session finds the file cut: the first one ends too, with
 * what undoes it, which is the old engine's. */
START_TEST(test_serve_step_in_slices_ends_with_its_engine)
{
    struct name a = open_native(), b = open_native();
    AUTO_PTR char *before = NULL, *after = NULL;
    size_t size, after_size;
    struct op x, y;

    fake.slice = 8;
    ck_assert_int_eq(step_code(a.id, 5, 20, -1), PT2_ERR_NONE);
    save(a.id, &before, &size);
    fake.cut_step = 2;
    fake.gated = true;
    step_send(&x, a.id, 1, 32, 10);
    sem_wait(&fake.began);
    step_send(&y, b.id, 1, 1, 0);
    fake.gated = false;
    sem_post(&fake.go);
    ck_assert_int_eq(op_wait(&y), PT2_ERR_PROGRAM_DAMAGED);
    ck_assert_int_eq(op_wait(&x), PT2_ERR_PROGRAM_DAMAGED);
    ck_assert_int_eq(x.call.position, 20);
    op_free(&x);
    op_free(&y);
    save(a.id, &after, &after_size);
    ck_assert_uint_eq(size, after_size);
    ck_assert_mem_eq(before, after, size);
    ck_assert_int_eq(fake.n_undos, 0);
    ck_assert_int_eq(step_code(a.id, 1, 1, -1), PT2_ERR_NONE);
    ck_assert_int_eq(step_code(b.id, 1, 1, -1), PT2_ERR_NONE);
}
END_TEST

START_TEST(test_serve_dead_engine_is_opened_anew)
{
    struct name a = open_one(), b = open_one();
    int64_t want_a[] = {1, 2, 3, 4}, want_b[] = {7, 8, 9};
    struct op op;

    ck_assert_int_eq(step_code(a.id, 1, 3, -1), PT2_ERR_NONE);
    ck_assert_int_eq(step_code(b.id, 7, 2, -1), PT2_ERR_NONE);
    fake.die_step = 1;
    ck_assert_int_eq(step_code(a.id, 4, 1, -1), PT2_ERR_ENGINE_DIED);
    fake.fail_open = 1; /* the next attempt to open fails, too */
    ck_assert_int_eq(step_code(a.id, 4, 1, -1), PT2_ERR_PROGRAM_REFUSED);
    step_init(&op, 4, 1, -1, PT2_ROWS_LAST);
    ck_assert_int_eq(op_run(&op, a.id), PT2_ERR_NONE);
    expect_last(&op, want_a, 4);
    op_free(&op);
    ck_assert_int_eq(fake.n_engines, 2); /* b's cache is with the dead one */
    step_init(&op, 9, 1, -1, PT2_ROWS_LAST);
    ck_assert_int_eq(op_run(&op, b.id), PT2_ERR_NONE);
    expect_last(&op, want_b, 3);
    op_free(&op);
    ck_assert_int_eq(fake.n_engines, 1);
    ck_assert_int_eq(fake.n_adopted, 2);
}
END_TEST

/* Nobody could know that the engine was dead, so nobody is told. */
START_TEST(test_serve_session_of_an_engine_that_died_at_rest)
{
    int64_t want_a[] = {1, 2, 3};
    struct name a = open_one(), b;
    struct op op;

    ck_assert_int_eq(step_code(a.id, 1, 2, -1), PT2_ERR_NONE);
    fake.die_new = 1;
    b = open_one();
    ck_assert_int_eq(fake.n_opened, 2);
    ck_assert_int_eq(step_code(b.id, 7, 2, -1), PT2_ERR_NONE);
    step_init(&op, 3, 1, -1, PT2_ROWS_LAST);
    ck_assert_int_eq(op_run(&op, a.id), PT2_ERR_NONE);
    expect_last(&op, want_a, 3);
    op_free(&op);
    ck_assert_int_eq(fake.n_engines, 1);
}
END_TEST

START_TEST(test_serve_session_that_cannot_be_made)
{
    struct name a;

    fake.fail_open = 1;
    ck_assert_int_eq(try_open(PROGRAM, 600, &a), PT2_ERR_PROGRAM_REFUSED);
    fake.fail_new = 1;
    ck_assert_int_eq(try_open(PROGRAM, 600, &a), PT2_ERR_NOMEM);
    fail_opened = 1;
    ck_assert_int_eq(try_open(PROGRAM, 600, &a), PT2_ERR_NO_SPACE);
    fail_opened = 0;
    ck_assert_int_eq(n_open_told, 0);
    ck_assert_int_eq(fake.n_caches, 0);
    options.max_sessions = 1; /* nothing of the failed ones is counted */
    restart();
    fake.fail_new = 1;
    ck_assert_int_eq(try_open(PROGRAM, 600, &a), PT2_ERR_NOMEM);
    a = open_one();
}
END_TEST

START_TEST(test_serve_calls_given_up)
{
    struct name a = open_one();
    struct op running, waiting, early;

    fake.gated = true;
    step_send(&running, a.id, 1, 1, -1);
    while (sem_wait(&fake.began) != 0)
        ;
    step_send(&waiting, a.id, 2, 1, -1);
    ck_assert(!serve_cancel(serve, &running.call, PT2_ERR_CANCELLED, "gone"));
    ck_assert(serve_cancel(serve, &waiting.call, PT2_ERR_CANCELLED, "gone"));
    ck_assert_int_eq(op_wait(&waiting), PT2_ERR_CANCELLED);
    ck_assert(!serve_cancel(serve, &waiting.call, PT2_ERR_CANCELLED, "gone"));
    step_init(&early, 3, 1, -1, PT2_ROWS_LAST);
    ck_assert(serve_cancel(serve, &early.call, PT2_ERR_CANCELLED, "gone"));
    ck_assert_int_eq(op_run(&early, a.id), PT2_ERR_CANCELLED);
    fake.gated = false;
    sem_post(&fake.go);
    ck_assert_int_eq(op_wait(&running), PT2_ERR_NONE);
    ck_assert_int_eq(position_of(a.id), 1);
    op_free(&running);
    op_free(&waiting);
    op_free(&early);
}
END_TEST

START_TEST(test_serve_delete_with_calls)
{
    struct name a = open_one(), b = open_one();
    struct op running, waiting, prompt;

    fake.gated = true;
    step_send(&running, a.id, 1, 1, -1);
    while (sem_wait(&fake.began) != 0)
        ;
    step_send(&waiting, a.id, 2, 1, -1);
    step_send(&prompt, b.id, 2, 60, -1);
    delete_one(a.id);
    ck_assert_int_eq(op_wait(&waiting), PT2_ERR_GONE);
    ck_assert_int_eq(step_code(a.id, 1, 1, -1), PT2_ERR_NOT_FOUND);
    sem_post(&fake.go);
    ck_assert_int_eq(op_wait(&running), PT2_ERR_NONE);
    while (sem_wait(&fake.began) != 0) /* the prompt's first slice */
        ;
    delete_one(b.id);
    fake.gated = false;
    sem_post(&fake.go);
    ck_assert_int_eq(op_wait(&prompt), PT2_ERR_GONE);
    ck_assert_int_eq(fake.n_log, 2);
    ck_assert_int_eq(n_deleted_told, 2);
    op_free(&running);
    op_free(&waiting);
    op_free(&prompt);
}
END_TEST

START_TEST(test_serve_stop_with_waiting_calls)
{
    struct name a = open_one(), b = open_one();
    struct op running, waiting, prompt, late;

    step_send(&prompt, b.id, 0, 60, -1);
    op_wait(&prompt);
    op_free(&prompt);
    fake.gated = true;
    step_send(&prompt, b.id, 0, 60, 0);
    while (sem_wait(&fake.began) != 0)
        ;
    step_send(&running, a.id, 1, 1, -1);
    sem_post(&fake.go); /* to its second slice, after the other's turn */
    while (sem_wait(&fake.began) != 0)
        ;
    step_send(&waiting, a.id, 2, 1, -1);
    ck_assert(!serve_is_idle(serve));
    serve_drain(serve);
    ck_assert_int_eq(op_wait(&waiting), PT2_ERR_DRAINING);
    step_send(&late, a.id, 2, 1, -1);
    ck_assert_int_eq(op_wait(&late), PT2_ERR_DRAINING);
    serve_stop(serve, 50); /* the step held is ended, as is the prompt */
    ck_assert(serve_is_idle(serve));
    ck_assert_int_eq(op_wait(&running), PT2_ERR_DRAINING);
    ck_assert_int_eq(op_wait(&prompt), PT2_ERR_DRAINING);
    ck_assert_int_eq(prompt.call.position, 60);
    op_free(&running);
    op_free(&waiting);
    op_free(&prompt);
    op_free(&late);
}
END_TEST

static void *open_gate(void *arg)
{
    usleep(50000);
    fake.gated = false;
    sem_post(&fake.go);
    return NULL;
}

START_TEST(test_serve_stop_lets_what_runs_finish)
{
    struct name a = open_one();
    struct op prompt;
    pthread_t thread;

    fake.gated = true;
    step_send(&prompt, a.id, 3, 60, -1);
    while (sem_wait(&fake.began) != 0)
        ;
    pthread_create(&thread, NULL, open_gate, NULL);
    serve_stop(serve, 20000);
    pthread_join(thread, NULL);
    ck_assert_int_eq(op_wait(&prompt), PT2_ERR_NONE);
    expect_last(&prompt, prompt.ids, 60);
    op_free(&prompt);
}
END_TEST

/* A safetensors file from a header and so many bytes. */
static size_t make_file(char *to, const char *header, size_t n_bytes)
{
    uint64_t n = strlen(header);

    memcpy(to, &n, 8);
    memcpy(to + 8, header, n);
    memset(to + 8 + n, 1, n_bytes);
    return 8 + n + n_bytes;
}

#define META(position)                                                                   \
    "\"__metadata__\":{\"program\":\"" PROGRAM "\",\"position\":\"" position "\"}"
#define KEYS(shape, range)                                                               \
    "\"key_cache_0\":{\"dtype\":\"I32\",\"shape\":" shape ",\"data_offsets\":" range "}"
#define COUNT(range)                                                                     \
    "\"cumulative_length_0\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":" range "}"

START_TEST(test_serve_bad_cache_files)
{
    static const struct {
        const char *header;
        size_t bytes;
        enum pt2_error code;
    } files[] = {
        {"{" META("2") "," COUNT("[0,8]") "," KEYS("[1,2,2]", "[8,24]") "}", 24,
         PT2_ERR_NONE},
        {"{" META("2") "," KEYS("[1,2,2]", "[0,16]") "," COUNT("[16,24]") "}", 24,
         PT2_ERR_NONE}, /* in another order */
        {"{" META("0") "," COUNT("[0,8]") "," KEYS("[1,0,2]", "[8,8]") "}", 8,
         PT2_ERR_NONE},
        {"{" META("2") "," COUNT("[0,8]") "," KEYS("[1,2,2]", "[8,24]") "}", 23,
         PT2_ERR_INVALID}, /* ends early */
        {"{" META("2") "," COUNT("[0,8]") "," KEYS("[1,2,2]", "[8,24]") "}", 25,
         PT2_ERR_INVALID}, /* too long */
        {"{" META("3") "," COUNT("[0,8]") "," KEYS("[1,2,2]", "[8,24]") "}", 24,
         PT2_ERR_INVALID}, /* another position than the shape */
        {"{" META("65") "," COUNT("[0,8]") "," KEYS("[1,64,2]", "[8,520]") "}", 520,
         PT2_ERR_INVALID}, /* beyond max_cache_len */
        {"{" META("-1") "," COUNT("[0,8]") "," KEYS("[1,0,2]", "[8,8]") "}", 8,
         PT2_ERR_INVALID},
        {"{" META("2x") "," COUNT("[0,8]") "," KEYS("[1,2,2]", "[8,24]") "}", 24,
         PT2_ERR_INVALID},
        {"{" META("2") "," COUNT("[0,8]") "," KEYS("[1,2]", "[8,24]") "}", 24,
         PT2_ERR_INVALID},
        {"{" META("2") "," COUNT("[0,8]") "," KEYS("[1,2,2]",
                                                   "[8,9223372036854775807]") "}",
         24, PT2_ERR_INVALID},
        {"{" META("2") "," COUNT("[0,8]") "," KEYS("[1,2,2]", "[24,8]") "}", 24,
         PT2_ERR_INVALID},
        {"{" META("2") "," COUNT("[0,8]") "," KEYS("[1,2,2]", "[-8,8]") "}", 24,
         PT2_ERR_INVALID},
        {"{" META("2") "," COUNT("[0,8]") "}", 8, PT2_ERR_INVALID}, /* one is missing */
        {"{" META("2") "," COUNT("[0,8]") "," KEYS(
             "[1,2,2]", "[8,24]") ",\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_"
                                  "offsets\":[24,25]}}",
         25, PT2_ERR_INVALID}, /* one too many */
        {"{" META("2") "," COUNT("[0,8]") ",\"key_cache_0\":{\"dtype\":\"F32\",\"shape\":"
                                          "[1,2,2],\"data_offsets\":[8,24]}}",
         24, PT2_ERR_INVALID}, /* of another dtype */
        {"{" COUNT("[0,8]") "," KEYS("[1,2,2]", "[8,24]") "}", 24,
         PT2_ERR_INVALID}, /* not ours */
        {"{\"__metadata__\":{\"program\":\"" OTHER
         "\",\"position\":\"2\"}," COUNT("[0,8]") "," KEYS("[1,2,2]", "[8,24]") "}",
         24, PT2_ERR_OTHER_PROGRAM},
        {"[]", 0, PT2_ERR_INVALID},
        {"{", 0, PT2_ERR_INVALID},
        {"{\"a\":1,\"a\":1}", 0, PT2_ERR_INVALID},
        {"", 0, PT2_ERR_INVALID},
    };
    struct name a = open_one();
    char file[2048];
    size_t size;

    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        AUTO_PTR char *before = NULL, *after = NULL;
        size_t before_size, after_size;
        enum pt2_error code;

        save(a.id, &before, &before_size);
        size = make_file(file, files[i].header, files[i].bytes);
        code = restore(a.id, file, size);
        ck_assert_msg(code == files[i].code, "%zu: %s, for %s", i, pt2_error_name(code),
                      files[i].header);
        save(a.id, &after, &after_size);
        if (code != PT2_ERR_NONE) {
            ck_assert_uint_eq(before_size, after_size);
            ck_assert_mem_eq(before, after, after_size);
        }
    }
    for (size_t n = 0; n < 9; n++)
        ck_assert_int_eq(restore(a.id, "\xff\xff\xff\xff\xff\xff\xff\x7f{}", n),
                         PT2_ERR_INVALID);
}
END_TEST

/* ---- many at once, for the thread sanitizer ---- */

struct client {
    pthread_t thread;
    unsigned seed;
    const char *program;
    int64_t ids[64], n;
    char id[SERVE_ID_SIZE];
};

static void client_step(struct client *c)
{
    int64_t s = 1 + rand_r(&c->seed) % 20, at = rand_r(&c->seed) % (c->n + 1);
    struct op op;

    s = MIN(s, 64 - at);
    if (s <= 0)
        return;
    step_init(&op, rand_r(&c->seed) % 16, s, at, PT2_ROWS_LAST);
    serve_submit(serve, c->id, &op.call);
    if (rand_r(&c->seed) % 8 == 0)
        serve_cancel(serve, &op.call, PT2_ERR_CANCELLED, "gone");
    op_wait(&op);
    if (op.call.err.code == PT2_ERR_NONE) {
        memcpy(c->ids + at, op.ids, (size_t)s * sizeof(c->ids[0]));
        c->n = at + s;
        expect_last(&op, c->ids, c->n);
    }
    ck_assert_int_eq(op.call.position, c->n);
    op_free(&op);
}

static void client_fork(struct client *c)
{
    struct pt2_err err = {0};
    struct op op;

    op_init(&op, SERVE_FORK);
    op.call.fork.position = op.call.fork.ttl_s = -1;
    if (op_run(&op, c->id) == PT2_ERR_NONE) {
        ck_assert_int_eq(serve_delete(serve, c->id, NULL, &err), 0);
        memcpy(c->id, op.call.info.id, sizeof(c->id));
    }
    op_free(&op);
}

static void *client_main(void *arg)
{
    struct client *c = arg;
    struct name name;

    if (try_open(c->program, 600, &name) != PT2_ERR_NONE)
        return NULL;
    memcpy(c->id, name.id, sizeof(c->id));
    for (int i = 0; i < 60; i++) {
        client_step(c);
        if (i % 16 == 7)
            client_fork(c);
        if (i % 20 == 9)
            fake.die_step = 1 + rand_r(&c->seed) % 3;
        if (i % 10 == 3)
            fake.fail_step = 1 + rand_r(&c->seed) % 3;
    }
    return NULL;
}

START_TEST(test_serve_many_clients_with_faults)
{
    struct client clients[8];

    for (unsigned i = 0; i < ARRAY_LEN(clients); i++) {
        clients[i] = (struct client){.seed = 41 + i, .program = i % 3 ? PROGRAM : OTHER};
        pthread_create(&clients[i].thread, NULL, client_main, &clients[i]);
    }
    for (unsigned i = 0; i < ARRAY_LEN(clients); i++)
        pthread_join(clients[i].thread, NULL);
    ck_assert_int_le(fake.n_log, FAKE_LOG);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("serve");
    TCase *core = tcase_create("core"), *limits = tcase_create("limits"),
          *errors = tcase_create("errors"), *many = tcase_create("many");
    TCase *all[] = {core, limits, errors, many};

    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        tcase_add_checked_fixture(all[i], setup, teardown);
        tcase_set_timeout(all[i], 120);
        suite_add_tcase(s, all[i]);
    }
    tcase_add_test(core, test_serve_prompt_at_once_equals_token_by_token);
    tcase_add_test(core, test_serve_slices_of_a_batch_are_put_together);
    tcase_add_test(core, test_serve_repeat_and_overwrite);
    tcase_add_test(core, test_serve_rewind);
    tcase_add_test(core, test_serve_forks_are_independent);
    tcase_add_test(core, test_serve_saved_cache_goes_on_elsewhere);
    tcase_add_test(core, test_serve_calls_of_a_session_keep_their_order);
    tcase_add_test(core, test_serve_sessions_take_turns);
    tcase_add_test(core, test_serve_ready_steps_run_together);
    tcase_add_loop_test(core, test_serve_rows_have_a_maximum, 1, 9);
    tcase_add_test(core, test_serve_one_of_a_batch_fails_alone);
    tcase_add_test(core, test_serve_waits_a_moment_for_those_it_answered);
    tcase_add_test(core, test_serve_steps_keep_within_the_memory_budget);
    tcase_add_test(core, test_serve_info_and_list);
    tcase_add_test(limits, test_serve_sixteen_calls_wait_not_seventeen);
    tcase_add_test(limits, test_serve_sessions_are_limited_for_each_owner);
    tcase_add_test(limits, test_serve_sessions_are_their_owners);
    tcase_add_test(limits, test_serve_memory_budget);
    tcase_add_test(limits, test_serve_max_sessions);
    tcase_add_test(limits, test_serve_max_programs);
    tcase_add_test(limits, test_serve_idle_program_is_closed);
    tcase_add_test(limits, test_serve_sessions_expire_but_not_at_work);
    tcase_add_test(errors, test_serve_rules_of_positions);
    tcase_add_test(errors, test_serve_rolling_window_cannot_rewind);
    tcase_add_test(errors, test_serve_failed_step_changes_nothing);
    tcase_add_test(errors, test_serve_step_on_a_cut_file_changes_nothing);
    tcase_add_test(errors, test_serve_step_on_a_cut_file_that_overwrote_goes_back);
    tcase_add_test(errors, test_serve_step_in_slices_ends_with_its_engine);
    tcase_add_test(errors, test_serve_dead_engine_is_opened_anew);
    tcase_add_test(errors, test_serve_session_of_an_engine_that_died_at_rest);
    tcase_add_test(errors, test_serve_session_that_cannot_be_made);
    tcase_add_test(errors, test_serve_calls_given_up);
    tcase_add_test(errors, test_serve_delete_with_calls);
    tcase_add_test(errors, test_serve_stop_with_waiting_calls);
    tcase_add_test(errors, test_serve_stop_lets_what_runs_finish);
    tcase_add_test(errors, test_serve_bad_cache_files);
    tcase_add_test(many, test_serve_many_clients_with_faults);
    return suite_run(s);
}
