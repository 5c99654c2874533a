/* Steps that fail, workers that die or lie, files that change: what stays as it was. */
#include "engine_fixture.h"

/* ---- steps that fail ---- */

/* A cache that was written to the end with other tokens and gone back on, so that a step
 * overwrites. */
static struct pt2_cache *written_cache(struct pt2_engine *engine)
{
    struct pt2_cache *cache = cache_new(engine);
    int64_t other[32];

    for (size_t i = 0; i < ARRAY_LEN(other); i++)
        other[i] = 10 - text[i / 16][i % 16];
    if (pt2_engine_can_rewind(engine))
        ck_assert_int_eq(
            pt2_engine_step(engine, cache, other, 16, 0, PT2_ROWS_NONE, NULL, &err), 0);
    STEP(engine, cache, 0, 3, PT2_ROWS_NONE, NULL);
    return cache;
}

/* A failure in place of each node of a step that overwrites.  Catches: a buffer, a row or
 * a counter that is not put back, one put back at the wrong place, logits of a failed
 * step. */
START_TEST(test_engine_failure_at_each_call_changes_nothing)
{
    const struct toy *toy = &shapes[_i];
    struct pt2_engine *engine = engine_open(toy);
    struct pt2_cache *cache = written_cache(engine);
    char *before = bytes_of(cache);
    float logits[2 * 16 * 11];
    bool was_written = false;

    ck_assert_uint_gt(aten_engine(engine)->n_calls, 3);
    for (uint64_t call = 0; call < aten_engine(engine)->n_calls; call++)
        for (int64_t s = 1; s <= 6; s += 5) {
            aten_test_fail_at(engine, (int64_t)call, false);
            ck_assert_int_eq(step_text(engine, cache, 3, s, PT2_ROWS_ALL, logits), -1);
            ck_assert_int_eq(err.code, PT2_ERR_PROGRAM_FAILED);
            ck_assert_msg(!bytes_differ(cache, before), "call %ju of a step of %jd",
                          (uintmax_t)call, (intmax_t)s);
            pt2_err_clear(&err);
        }
    aten_test_fail_at(engine, -1, false);
    STEP(engine, cache, 3, 2, PT2_ROWS_LAST, logits);
    for (int64_t b = 0; b < pt2_engine_decoder(engine)->batch_size; b++)
        compare(toy, b, 4, logits + b * 11, TOLERANCE);
    was_written = bytes_differ(cache, before);
    ck_assert(was_written); /* so the comparison above could have failed */
    free(before);
    pt2_cache_free(cache);
    pt2_engine_free(engine);
}
END_TEST

/* The worker kills itself at a call, the ones before it done: after the first writes. */
START_TEST(test_engine_worker_killed_within_a_step)
{
    struct toy toy = {.seq_len = 0, .batch = 2, .max_rows = 3};
    struct pt2_engine *engine = engine_open(&toy), *second;
    struct pt2_cache *cache = written_cache(engine), *fork = NULL, *none = NULL;
    char *before = bytes_of(cache);
    float logits[2 * 11];

    aten_test_fail_at(engine, (int64_t)aten_engine(engine)->n_calls - 1, true);
    ck_assert_int_eq(step_text(engine, cache, 3, 6, PT2_ROWS_LAST, logits), -1);
    ck_assert_int_eq(err.code, PT2_ERR_ENGINE_DIED);
    ck_assert_str_eq(err.text, "the engine's worker was killed by signal 9 (Killed)");
    ck_assert(!bytes_differ(cache, before));
    ck_assert(pt2_engine_is_dead(engine));
    pt2_err_clear(&err);
    ck_assert_int_eq(step_text(engine, cache, 3, 1, PT2_ROWS_LAST, logits), -1);
    ck_assert_int_eq(err.code, PT2_ERR_ENGINE_DIED);
    pt2_err_clear(&err);
    ck_assert_int_eq(pt2_cache_new(engine, &none, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_ENGINE_DIED);
    pt2_err_clear(&err);
    ck_assert_int_eq(pt2_cache_fork(cache, &fork, &err), 0); /* its contents are there */

    ck_assert_int_eq(pt2_engine_open(archive, &options, &second, &err), 0);
    ck_assert_int_eq(pt2_cache_adopt(cache, second, &err), 0);
    ck_assert_int_eq(pt2_cache_adopt(fork, second, &err), 0);
    pt2_engine_free(engine);
    ck_assert(!bytes_differ(cache, before));
    STEP(second, cache, 3, 6, PT2_ROWS_LAST, logits);
    compare(&toy, 1, 8, logits + 11, TOLERANCE);
    ck_assert(!bytes_differ(fork, before));
    STEP(second, fork, 3, 1, PT2_ROWS_LAST, logits);
    compare(&toy, 0, 3, logits, TOLERANCE);
    free(before);
    pt2_cache_free(cache);
    pt2_cache_free(fork);
    pt2_engine_free(second);
}
END_TEST

static void *kill_soon(void *pid)
{
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    kill(*(pid_t *)pid, SIGKILL);
    return NULL;
}

/* Catches: a wait that misses a death from outside. */
START_TEST(test_engine_worker_killed_from_outside)
{
    struct toy toy = {.seq_len = 1};
    struct pt2_engine *engine = engine_open(&toy);
    struct pt2_cache *cache = written_cache(engine);
    char *before = bytes_of(cache);
    pid_t pid = aten_engine(engine)->worker.child.pid;
    pthread_t thread;

    kill(pid, SIGSTOP); /* so that the step waits */
    pthread_create(&thread, NULL, kill_soon, &pid);
    ck_assert_int_eq(step_text(engine, cache, 3, 2, PT2_ROWS_NONE, NULL), -1);
    ck_assert_int_eq(err.code, PT2_ERR_ENGINE_DIED);
    pthread_join(thread, NULL);
    ck_assert(!bytes_differ(cache, before));
    ck_assert_int_eq(kill(pid, 0), -1); /* waited for */
    free(before);
    pt2_cache_free(cache);
    pt2_engine_free(engine);
}
END_TEST

/* Catches: a dead worker that is found by the next step, which fails. */
START_TEST(test_engine_worker_killed_while_it_rests)
{
    struct toy toy = {.seq_len = 1};
    struct pt2_engine *engine = engine_open(&toy);
    struct pt2_cache *cache = written_cache(engine);
    pid_t pid = aten_engine(engine)->worker.child.pid;

    ck_assert(!pt2_engine_is_dead(engine));
    kill(pid, SIGKILL);
    while (!pt2_engine_is_dead(engine)) /* its end is not at once */
        sched_yield();
    ck_assert_int_eq(kill(pid, 0), -1); /* waited for */
    ck_assert_int_eq(step_text(engine, cache, 3, 2, PT2_ROWS_NONE, NULL), -1);
    ck_assert_int_eq(err.code, PT2_ERR_ENGINE_DIED);
    ck_assert_str_eq(err.text, "the engine's worker was killed by signal 9 (Killed)");
    pt2_cache_free(cache);
    pt2_engine_free(engine);
}
END_TEST

START_TEST(test_engine_step_timeout_kills_the_worker)
{
    struct toy toy = {.seq_len = 1};
    struct pt2_engine *engine;
    struct pt2_cache *cache;
    char *before;
    pid_t pid;

    options.step_timeout_s = 3; /* no good step takes that */
    engine = engine_open(&toy);
    cache = written_cache(engine);
    before = bytes_of(cache);
    pid = aten_engine(engine)->worker.child.pid;
    kill(pid, SIGSTOP);
    ck_assert_int_eq(step_text(engine, cache, 3, 2, PT2_ROWS_NONE, NULL), -1);
    ck_assert_int_eq(err.code, PT2_ERR_ENGINE_DIED);
    ck_assert_str_eq(
        err.text, "the engine's worker was killed: it did not answer within 3 seconds");
    ck_assert(!bytes_differ(cache, before));
    ck_assert_int_eq(kill(pid, 0), -1);
    free(before);
    pt2_cache_free(cache);
    pt2_engine_free(engine);
}
END_TEST

START_TEST(test_engine_memory_of_a_step_is_bounded)
{
    struct toy fixed = {.seq_len = 1}, any = {.seq_len = 0};
    struct pt2_engine *engine;
    struct pt2_cache *cache;
    float logits[11];

    options.max_step_bytes = 16; /* less than one run takes */
    engine = engine_open(&fixed);
    cache = cache_new(engine);
    ck_assert_int_eq(step_text(engine, cache, 0, 1, PT2_ROWS_LAST, logits), -1);
    ck_assert_int_eq(err.code, PT2_ERR_LIMIT);
    ck_assert(!pt2_engine_is_dead(engine));
    pt2_err_clear(&err);
    pt2_cache_free(cache);
    pt2_engine_free(engine);

    options.max_step_bytes = 4096; /* a few rows at a time, not 16 */
    engine = engine_open(&any);
    cache = cache_new(engine);
    STEP(engine, cache, 0, 16, PT2_ROWS_LAST, logits);
    compare(&any, 0, 15, logits, TOLERANCE);
    pt2_cache_free(cache);
    pt2_engine_free(engine);
}
END_TEST

/* ---- what is left behind ---- */

static int n_open_files(void)
{
    int n = 0;

    for (int fd = 0; fd < 1024; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

/* Catches: workers that are left behind, descriptors that are not closed. */
START_TEST(test_engine_leaves_nothing_behind)
{
    struct toy toy = {.seq_len = 1};
    int before = n_open_files(), opened;
    struct pt2_engine *engine = engine_open(&toy);
    struct pt2_cache *caches[20];
    pid_t pid = aten_engine(engine)->worker.child.pid;

    opened = n_open_files();
    ck_assert_int_eq(opened, before + 2); /* the socket, the process */
    for (size_t i = 0; i < ARRAY_LEN(caches); i++) {
        caches[i] = cache_new(engine);
        STEP(engine, caches[i], 0, 1, PT2_ROWS_NONE, NULL);
    }
    ck_assert_int_eq(n_open_files(), opened);
    for (size_t i = 0; i < ARRAY_LEN(caches); i++)
        pt2_cache_free(caches[i]);
    pt2_engine_free(engine);
    ck_assert_int_eq(n_open_files(), before);
    ck_assert_int_eq(kill(pid, 0), -1);
    ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
}
END_TEST

/* ---- a worker that lies: this program, under another name ---- */

enum lie {
    LIE_SIZE,
    LIE_VERB,
    LIE_CODE,
    LIE_N_BUFFERS,
    LIE_INPUT,
    LIE_PARAMETER,
    LIE_TWICE,
    LIE_DIM,
    LIE_COUNTER,
    LIE_TEXT,
    LIE_CLOSE,
    N_LIES,
    /* The truth until a run, then row 3 of the first buffer is written and: */
    LIE_RUN_SIZE = N_LIES,
    LIE_RUN_VERB,
    LIE_RUN_CODE,
    LIE_RUN_TWICE,
    LIE_RUN_CLOSE,
    N_LIES_AND_RUNS
};

static char *lie_cache; /* the memory of the last WIRE_MAP */

static void lie_reply(enum lie lie, const struct wire_request *request,
                      struct wire_reply *reply)
{
    reply->verb = request->verb + (lie == LIE_VERB);
    if (request->verb == WIRE_OPEN)
        reply->open.n_buffers = lie == LIE_N_BUFFERS ? UINT64_MAX : 2;
    if (lie == LIE_CODE)
        reply->code = 9999;
    if (lie == LIE_TEXT) {
        reply->code = PT2_ERR_PROGRAM_REFUSED;
        memset(reply->text, 0xff, sizeof(reply->text));
    }
    if (request->verb == WIRE_BUFFER) {
        reply->buffer.input = lie == LIE_INPUT       ? UINT64_MAX
                              : lie == LIE_PARAMETER ? 0
                              : lie == LIE_TWICE     ? 2
                                                     : 2 + request->i;
        reply->buffer.position_dim = lie == LIE_DIM ? 9 : lie == LIE_COUNTER ? -1 : 2;
        reply->buffer.is_counter = lie == LIE_COUNTER;
    }
}

static bool lie_receive(struct wire_request *request)
{
    struct iovec io = {.iov_base = request, .iov_len = sizeof(*request)};
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message = {.msg_iov = &io,
                             .msg_iovlen = 1,
                             .msg_control = control.room,
                             .msg_controllen = sizeof(control.room)};
    int fd = -1;

    if (recvmsg(WIRE_FD, &message, 0) != (ssize_t)sizeof(*request))
        return false;
    if (CMSG_FIRSTHDR(&message))
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
    if (request->verb == WIRE_MAP)
        lie_cache =
            mmap(NULL, request->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return true;
}

static void lie_write_row(void)
{
    memset(lie_cache + 3 * 4 * sizeof(float), 0x5a, 4 * sizeof(float));
}

static int lie_main(enum lie lie)
{
    struct wire_request request;

    while (lie_receive(&request)) {
        struct wire_reply reply = {0};
        bool is_run = request.verb == WIRE_RUN;

        if (is_run)
            lie_write_row();
        if (lie == LIE_CLOSE || (is_run && lie == LIE_RUN_CLOSE)) {
            close(WIRE_FD);
            pause();
        }
        lie_reply(lie, &request, &reply);
        reply.verb += is_run && lie == LIE_RUN_VERB;
        if (is_run && lie == LIE_RUN_CODE)
            reply.code = PT2_ERR_QUEUE_FULL;
        if (send(WIRE_FD, &reply,
                 sizeof(reply) - (lie == LIE_SIZE || (is_run && lie == LIE_RUN_SIZE)),
                 0) < 0)
            return 1;
        if (lie == LIE_RUN_TWICE && send(WIRE_FD, &reply, sizeof(reply), 0) < 0)
            return 1;
    }
    return 0;
}

/* This program as a worker that tells that lie. */
static void lie_worker(char path[PATH_MAX], int lie)
{
    char self[PATH_MAX] = "";

    ck_assert_int_gt(readlink("/proc/self/exe", self, sizeof(self) - 1), 0);
    snprintf(path, PATH_MAX, "%s/lie-%d", dir, lie);
    unlink(path);
    ck_assert_int_eq(symlink(self, path), 0);
    options.worker_path = path;
}

/* Catches: a field of a reply that is used before it is checked. */
START_TEST(test_engine_does_not_trust_its_worker)
{
    static const char *const texts[N_LIES] = {
        [LIE_SIZE] = "with a message of another size",
        [LIE_VERB] = "to what was not asked",
        [LIE_CODE] = "with an error code that it can not give",
        [LIE_N_BUFFERS] = "with more buffers than there are",
        [LIE_INPUT] = "with a buffer that is none",
        [LIE_PARAMETER] = "with a buffer that is none",
        [LIE_TWICE] = "with a buffer that is none",
        [LIE_DIM] = "with a buffer of another shape",
        [LIE_COUNTER] = "with a buffer of another shape",
        [LIE_TEXT] = "????",
        [LIE_CLOSE] = "closed its socket"};
    struct toy toy = {.seq_len = 1};
    char path[PATH_MAX];
    struct pt2_engine *engine;

    toy_write(&toy, archive);
    lie_worker(path, _i);
    ck_assert_int_eq(pt2_engine_open(archive, &options, &engine, &err), -1);
    unlink(path);
    ck_assert_msg(strstr(err.text, texts[_i]), "%s", err.text);
    ck_assert_int_eq(err.code,
                     _i == LIE_TEXT ? PT2_ERR_PROGRAM_REFUSED : PT2_ERR_ENGINE_DIED);
    ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1); /* no child is left */
}
END_TEST

/* The same in the middle of a step that overwrites.  Catches: rows that stay as a worker
 * left them whose answer was not believed. */
START_TEST(test_engine_does_not_trust_its_worker_in_a_run)
{
    static const char *const texts[] = {
        "with a message of another size", "to what was not asked",
        "with an error code that it can not give", "to what was not asked",
        "closed its socket"};
    struct toy toy = {.seq_len = 1};
    char path[PATH_MAX], *before;
    struct pt2_engine *engine;
    struct pt2_cache *cache = NULL;
    char fill[16 * 4 * sizeof(float)];
    int r = -1;

    toy_write(&toy, archive);
    lie_worker(path, _i);
    r = pt2_engine_open(archive, &options, &engine, &err);
    if (_i == LIE_RUN_TWICE) { /* the second answer is that to the next question */
        ck_assert_int_eq(r, -1);
        ck_assert_int_eq(err.code, PT2_ERR_ENGINE_DIED);
        ck_assert_ptr_nonnull(strstr(err.text, texts[_i - N_LIES]));
        unlink(path);
        return;
    }
    ck_assert_msg(r == 0, "%s", err.text);
    unlink(path);
    cache = cache_new(engine);
    for (size_t i = 0; i < pt2_cache_n_buffers(cache); i++) {
        memset(fill, (int)i + 1, sizeof(fill));
        ck_assert_int_eq(pt2_cache_write(cache, i, 0, 16, fill, &err), 0);
    }
    before = bytes_of(cache);
    ck_assert_int_eq(step_text(engine, cache, 3, 1, PT2_ROWS_NONE, NULL), -1);
    ck_assert_int_eq(err.code, PT2_ERR_ENGINE_DIED);
    ck_assert_msg(strstr(err.text, texts[_i - N_LIES]), "%s", err.text);
    ck_assert(pt2_engine_is_dead(engine));
    ck_assert(!bytes_differ(cache, before));
    ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1); /* no child is left */
    free(before);
    pt2_cache_free(cache);
    pt2_engine_free(engine);
}
END_TEST

/* ---- files that change ---- */

/* An object that is deleted while it is used goes on until it is closed. */
START_TEST(test_engine_archive_deleted)
{
    struct toy toy = {.seq_len = 1};
    struct pt2_engine *engine = engine_open(&toy), *second;
    struct pt2_cache *cache = cache_new(engine);
    float logits[11];

    ck_assert_int_eq(unlink(archive), 0);
    STEP(engine, cache, 0, 5, PT2_ROWS_LAST, logits);
    compare(&toy, 0, 4, logits, TOLERANCE);
    ck_assert_int_eq(pt2_engine_open(archive, &options, &second, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_IO);
    pt2_cache_free(cache);
    pt2_engine_free(engine);
}
END_TEST

/* One that is cut short under the mapping (nobody should: objects are read-only) faults in
 * the worker, and there alone; with the file as it was a new worker goes on. */
START_TEST(test_engine_archive_cut_short)
{
    struct toy toy = {.seq_len = 0, .batch = 2, .max_rows = 3};
    struct pt2_engine *engine = engine_open(&toy), *second = NULL;
    struct pt2_cache *cache = written_cache(engine);
    char *before = bytes_of(cache);
    float logits[2 * 11];

    ck_assert_int_eq(truncate(archive, 0), 0);
    ck_assert_int_eq(step_text(engine, cache, 3, 6, PT2_ROWS_LAST, logits), -1);
    ck_assert_int_eq(err.code, PT2_ERR_ENGINE_DIED);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    ck_assert_str_eq(err.text, "the engine's worker was killed by signal 7 (Bus error)");
#endif
    ck_assert(!bytes_differ(cache, before));
    pt2_err_clear(&err);
    ck_assert_int_eq(pt2_engine_open(archive, &options, &second, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_BAD_ARCHIVE);
    pt2_err_clear(&err);
    second = engine_open(&toy); /* written again */
    ck_assert_int_eq(pt2_cache_adopt(cache, second, &err), 0);
    STEP(second, cache, 3, 6, PT2_ROWS_LAST, logits);
    compare(&toy, 1, 8, logits + 11, TOLERANCE);
    free(before);
    pt2_cache_free(cache);
    pt2_engine_free(engine);
    pt2_engine_free(second);
}
END_TEST

static void add_cases(Suite *s)
{
    TCase *faults = tcase_create("faults"), *errors = tcase_create("errors");

    tcase_add_checked_fixture(faults, setup, teardown);
    tcase_set_timeout(faults, 120);
    tcase_add_loop_test(faults, test_engine_failure_at_each_call_changes_nothing, 0,
                        ARRAY_LEN(shapes));
    tcase_add_test(faults, test_engine_worker_killed_within_a_step);
    tcase_add_test(faults, test_engine_worker_killed_from_outside);
    tcase_add_test(faults, test_engine_worker_killed_while_it_rests);
    tcase_add_test(faults, test_engine_step_timeout_kills_the_worker);
    tcase_add_test(faults, test_engine_memory_of_a_step_is_bounded);
    tcase_add_test(faults, test_engine_leaves_nothing_behind);
    tcase_add_test(faults, test_engine_archive_deleted);
    tcase_add_test(faults, test_engine_archive_cut_short);
    suite_add_tcase(s, faults);
    tcase_add_checked_fixture(errors, setup, teardown);
    tcase_set_timeout(errors, 120);
    tcase_add_loop_test(errors, test_engine_does_not_trust_its_worker, 0, N_LIES);
    tcase_add_loop_test(errors, test_engine_does_not_trust_its_worker_in_a_run, N_LIES,
                        N_LIES_AND_RUNS);
    suite_add_tcase(s, errors);
}

int main(int argc, char **argv)
{
    const char *lie = after_prefix(argv[0], "lie-");
    Suite *s;
    int r;

    if (lie)
        return lie_main((enum lie)atoi(lie));
    if (!mkdtemp(dir))
        return EXIT_FAILURE;
    s = suite_create("engine's faults by " WORKER);
    add_cases(s);
    r = suite_run(s);
    rmdir(dir);
    return r;
}
