#include "suite.h"

#include "store_fixture.h"

#include "base/clock.h"
#include "export/request.h"
#include "jobs/jobs.h"
#include "store/sql.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>

#define WAIT_MS 20000

static struct jobs_parts parts;
static struct jobs *jobs;
static struct jobs_options options;
static int64_t n_verify; /* that submit asks for */
static char models_root[PATH_MAX], demo[PATH_MAX + 16], script[PATH_MAX];

/* In place of src/engine. */
int pt2_engine_check(const char *path, enum pt2_engine_kind kind,
                     const struct pt2_engine_options *engine_options, bool *ret_ok,
                     char *ret_reason, size_t size, struct pt2_err *err)
{
    *ret_ok = true;
    return 0;
}

/* ---- fixture ---- */

static void start(void)
{
    const struct programs_options programs = {.engine_version = "1"};

    OK(store_open(state_dir, &parts.store, err));
    OK(objects_open(state_dir, &parts.objects, err));
    OK(models_new(models_root, NULL, &parts.models, err));
    OK(programs_new(parts.store, parts.objects, &programs, &parts.programs, err));
    OK(jobs_new(&parts, &options, &jobs, err));
}

static void done(void)
{
    jobs_free(jobs);
    programs_free(parts.programs);
    models_free(parts.models);
    objects_free(parts.objects);
    store_free(parts.store);
}

static const char *in_demo(const char *name)
{
    static char paths[2][PATH_MAX + 64];
    static int next;
    char *path = paths[next++ % 2];

    snprintf(path, sizeof(paths[0]), "%s/%s", demo, name);
    return path;
}

static const char *owner; /* of the jobs to come; NULL: nobody */
static size_t max_unfinished;

static void setup(void)
{
    state_make();
    snprintf(models_root, sizeof(models_root), "%s/models", state_dir);
    snprintf(demo, sizeof(demo), "%s/demo", models_root);
    snprintf(script, sizeof(script), "%s/../fake_export.sh", test_data());
    ck_assert_int_eq(mkdir(models_root, 0700), 0);
    copy_demo(demo);
    write_text(in_demo("runs"), "");
    write_text(in_demo("behaviour"), "real");
    setenv("FAKE_MODEL", demo, 1);
    n_verify = 0;
    owner = NULL;
    max_unfinished = 0;
    options = (struct jobs_options){.n_workers = 2,
                                    .max_queued = 4,
                                    .timeout_ms = WAIT_MS,
                                    .max_memory_bytes = (uint64_t)1 << 30,
                                    .max_kept = 1000,
                                    .export_path = script};
    start();
}

static void teardown(void)
{
    done();
    state_remove();
}

static void behave(const char *how)
{
    write_text(in_demo("behaviour"), how);
}

static int n_runs(void)
{
    FILE *f = fopen(in_demo("runs"), "r");
    int c, n = 0;

    while ((c = fgetc(f)) != EOF)
        n += c == '\n';
    fclose(f);
    return n;
}

/* ---- asking ---- */

static int try_submit(int64_t max_cache_len, json_t **ret_job, struct pt2_err *why)
{
    struct pt2_export_options asked = {.max_cache_len = max_cache_len,
                                       .verify = n_verify};
    struct pt2_checkpoint *checkpoint;
    struct pt2_export *exp;
    json_t *summary;
    int r;

    OK(pt2_checkpoint_open(demo, &checkpoint, err));
    OK(pt2_export_new(checkpoint, &asked, &exp, err));
    summary = export_summary_to_json(exp);
    r = jobs_submit(jobs,
                    &(struct jobs_request){
                        .model = "demo",
                        .checkpoint = checkpoint,
                        .options = json_object_get(summary, "options"),
                        .deviations = json_object_get(summary, "deviations"),
                        .owner = owner,
                        .max_unfinished = max_unfinished,
                        .program_bytes = pt2_export_program_bytes(exp),
                    },
                    ret_job, why);
    json_decref(summary);
    pt2_export_free(exp);
    pt2_checkpoint_free(checkpoint);
    return r;
}

static const char *id_of(json_t *job)
{
    static char ids[8][JOB_ID_SIZE];
    static int next;
    char *id = ids[next++ % 8];

    snprintf(id, JOB_ID_SIZE, "%s", json_string_value(json_object_get(job, "id")));
    json_decref(job);
    return id;
}

static const char *submit(int64_t max_cache_len)
{
    json_t *job = NULL;

    OK(try_submit(max_cache_len, &job, err));
    return id_of(job);
}

static json_t *get(const char *id, enum job_state *ret_state)
{
    json_t *job;

    OK(jobs_get(jobs, id, NULL, ret_state, NULL, &job, err));
    return job;
}

static enum job_state state_of(const char *id)
{
    enum job_state state;

    json_decref(get(id, &state));
    return state;
}

static void wait_for(const char *id, enum job_state wanted)
{
    int64_t until = clock_mono_ms() + WAIT_MS;

    while (state_of(id) != wanted && !job_is_finished(state_of(id)) &&
           clock_mono_ms() < until)
        poll(NULL, 0, 2);
    if (state_of(id) != wanted) {
        json_t *job = get(id, NULL);

        ck_abort_msg("not %s: %s", job_state_name(wanted), json_dumps(job, 0));
    }
}

static const char *error_of(const char *id)
{
    static char text[600];
    json_t *job = get(id, NULL), *error = json_object_get(job, "error");
    const char *type = json_string_value(json_object_get(error, "type"));

    snprintf(text, sizeof(text), "%s: %s",
             type ? type + strlen("/problems/") : "no error",
             type ? json_string_value(json_object_get(error, "detail")) : "");
    json_decref(job);
    return text;
}

static const char *program_of(const char *id)
{
    static char texts[4][SHA256_HEX];
    static int next;
    char *text = texts[next++ % 4];
    json_t *job = get(id, NULL);
    const char *program = json_string_value(json_object_get(job, "program"));

    snprintf(text, SHA256_HEX, "%s", program ? program : "");
    json_decref(job);
    return text;
}

static bool is_cached(const char *id)
{
    json_t *job = get(id, NULL);
    bool is = json_is_true(json_object_get(job, "cached"));

    json_decref(job);
    return is;
}

static size_t n_in_tmp(void)
{
    char command[PATH_MAX + 40];
    size_t n;
    FILE *f;

    snprintf(command, sizeof(command), "ls '%s/tmp' | wc -l", state_dir);
    f = popen(command, "r");
    ck_assert_int_eq(fscanf(f, "%zu", &n), 1);
    pclose(f);
    return n;
}

/* A job is shown as finished before its run has put its things away. */
static void expect_nothing_in_tmp(void)
{
    int64_t until = clock_mono_ms() + WAIT_MS;

    while (n_in_tmp() > 0 && clock_mono_ms() < until)
        poll(NULL, 0, 2);
    ck_assert_uint_eq(n_in_tmp(), 0);
}

/* ---- core ---- */

START_TEST(test_jobs_make_programs)
{
    const char *id = submit(32);
    char path[PATH_MAX];

    wait_for(id, JOB_SUCCEEDED);
    ck_assert(!is_cached(id));
    programs_path(parts.programs, program_of(id), path);
    ck_assert_int_eq(access(path, R_OK), 0);
    expect_nothing_in_tmp();
}
END_TEST

START_TEST(test_jobs_exported_again_succeed_at_once)
{
    const char *first = submit(32), *second;

    wait_for(first, JOB_SUCCEEDED);
    second = submit(32);
    ck_assert_int_eq(state_of(second), JOB_SUCCEEDED);
    ck_assert(is_cached(second));
    ck_assert_str_eq(program_of(second), program_of(first));
    ck_assert_int_eq(n_runs(), 1);

    /* the program gone, it is made again */
    OK(programs_delete(parts.programs, program_of(first), err));
    second = submit(32);
    wait_for(second, JOB_SUCCEEDED);
    ck_assert(!is_cached(second));
    ck_assert_int_eq(n_runs(), 2);
}
END_TEST

/* A file with another content is another export, whatever it is called. */
START_TEST(test_jobs_key_follows_the_content)
{
    const char *first = submit(32), *second;
    FILE *f;
    int last;

    wait_for(first, JOB_SUCCEEDED);
    f = fopen(in_demo("model.safetensors"), "r+");
    fseek(f, -1, SEEK_END);
    last = fgetc(f);
    fseek(f, -1, SEEK_END);
    fputc(last ^ 1, f);
    fclose(f);
    second = submit(32);
    wait_for(second, JOB_SUCCEEDED);
    ck_assert(!is_cached(second));
    ck_assert_str_ne(program_of(second), program_of(first));
}
END_TEST

START_TEST(test_jobs_same_ones_share_a_run)
{
    const char *a, *b, *c;

    behave("wait");
    a = submit(32);
    wait_for(a, JOB_RUNNING);
    b = submit(32);
    c = submit(33);
    wait_for(b, JOB_RUNNING);
    wait_for(c, JOB_RUNNING);
    write_text(in_demo("go"), "");
    wait_for(a, JOB_SUCCEEDED);
    wait_for(b, JOB_SUCCEEDED);
    wait_for(c, JOB_SUCCEEDED);
    ck_assert_str_eq(program_of(a), program_of(b));
    ck_assert_int_eq(n_runs(), 2);
}
END_TEST

START_TEST(test_jobs_queue_is_bounded)
{
    json_t *job;
    const char *last = NULL;

    behave("wait");
    for (int i = 0; i < 2; i++)
        wait_for(submit(32 + i), JOB_RUNNING);
    for (int i = 2; i < 6; i++)
        last = submit(32 + i);
    ck_assert_int_eq(state_of(last), JOB_QUEUED);
    FAILS(QUEUE_FULL, try_submit(40, &job, err));
    OK(jobs_cancel(jobs, last, NULL, &job, err));
    json_decref(job);
    OK(try_submit(40, &job, err));
    last = id_of(job);
    write_text(in_demo("go"), "");
    wait_for(last, JOB_SUCCEEDED);
}
END_TEST

START_TEST(test_jobs_unfinished_ones_of_an_owner_are_bounded)
{
    const char *a, *b;
    json_t *job;

    behave("wait");
    owner = "alice";
    max_unfinished = 2;
    a = submit(32);
    wait_for(a, JOB_RUNNING);
    b = submit(32); /* one run, and two jobs */
    FAILS(TOKEN_LIMIT, try_submit(32, &job, err));
    FAILS(TOKEN_LIMIT, try_submit(33, &job, err));
    owner = "bob";
    wait_for(submit(34), JOB_RUNNING);
    owner = "alice";
    done();
    start(); /* forgets nobody's */
    FAILS(TOKEN_LIMIT, try_submit(33, &job, err));
    OK(jobs_cancel(jobs, b, "alice", &job, err));
    json_decref(job);
    OK(try_submit(33, &job, err));
    json_decref(job);
    write_text(in_demo("go"), "");
    wait_for(a, JOB_SUCCEEDED);
}
END_TEST

static void unexpected(struct jobs_watch *watch, const struct jobs_event *event)
{
    (void)watch;
    (void)event;
    ck_abort();
}

START_TEST(test_jobs_are_their_owners)
{
    struct jobs_watch watch = {.changed = unexpected};
    struct jobs_filter filter = {.state = -1, .who = "bob"};
    enum job_state state;
    int64_t next;
    json_t *job;
    const char *a;

    behave("wait");
    owner = "alice";
    a = submit(32);
    wait_for(a, JOB_RUNNING);
    for (int round = 0; round < 2; round++) { /* it runs; it is finished */
        FAILS(NOT_FOUND, jobs_get(jobs, a, "bob", &state, NULL, &job, err));
        FAILS(NOT_FOUND, jobs_get(jobs, a, "", &state, NULL, &job, err));
        FAILS(NOT_FOUND, jobs_cancel(jobs, a, "bob", &job, err));
        FAILS(NOT_FOUND, jobs_delete(jobs, a, "bob", err));
        ck_assert(!jobs_watch(jobs, a, "bob", &watch));
        OK(jobs_list(jobs, &filter, 10, 0, &job, &next, err));
        ck_assert_uint_eq(json_array_size(job), 0);
        json_decref(job);
        OK(jobs_get(jobs, a, "alice", &state, NULL, &job, err));
        json_decref(job);
        write_text(in_demo("go"), "");
        wait_for(a, JOB_SUCCEEDED);
    }
    OK(jobs_delete(jobs, a, "alice", err));
}
END_TEST

/* ---- cancelling ---- */

static void cancel(const char *id)
{
    json_t *job;

    OK(jobs_cancel(jobs, id, NULL, &job, err));
    ck_assert_str_eq(json_string_value(json_object_get(job, "state")), "cancelled");
    json_decref(job);
}

/* Of the last worker that said it; 0: one that was stopped at once never did. */
static pid_t last_pid(void)
{
    FILE *f = fopen(in_demo("runs"), "r");
    long pid = 0;

    while (f && fscanf(f, "%ld", &pid) == 1)
        ;
    if (f)
        fclose(f);
    return (pid_t)pid;
}

static bool is_alive(void)
{
    pid_t pid = last_pid();

    return pid > 0 && kill(pid, 0) == 0;
}

static void expect_nice(int by)
{
    int most = getpriority(PRIO_PROCESS, 0) + by;

    ck_assert_int_eq(getpriority(PRIO_PROCESS, (id_t)last_pid()), MIN(most, 19));
}

START_TEST(test_jobs_last_cancel_stops_the_run)
{
    json_t *job;
    const char *a, *b;
    int64_t until;

    behave("wait");
    a = submit(32);
    while (n_runs() == 0) /* from then on it is known what it makes, so that b joins it */
        poll(NULL, 0, 2);
    b = submit(32);
    ck_assert_int_eq(state_of(b), JOB_RUNNING);
    cancel(a);
    FAILS(CONFLICT, jobs_cancel(jobs, a, NULL, &job, err));
    poll(NULL, 0, 100);
    ck_assert(is_alive());
    expect_nice(10);
    ck_assert_int_eq(state_of(b), JOB_RUNNING);
    cancel(b);
    until = clock_mono_ms() + WAIT_MS;
    while (is_alive() && clock_mono_ms() < until)
        poll(NULL, 0, 2);
    ck_assert(!is_alive());
    FAILS(NOT_FOUND, jobs_cancel(jobs, "exp_0", NULL, &job, err));

    /* and a new one is not the old one */
    write_text(in_demo("go"), "");
    a = submit(32);
    wait_for(a, JOB_SUCCEEDED);
    ck_assert_int_eq(n_runs(), 2);
}
END_TEST

START_TEST(test_jobs_delete_takes_finished_ones)
{
    const char *a;

    behave("wait");
    a = submit(32);
    FAILS(CONFLICT, jobs_delete(jobs, a, NULL, err));
    wait_for(a, JOB_RUNNING);
    FAILS(CONFLICT, jobs_delete(jobs, a, NULL, err));
    cancel(a);
    OK(jobs_delete(jobs, a, NULL, err));
    FAILS(NOT_FOUND, jobs_delete(jobs, a, NULL, err));
    FAILS(NOT_FOUND, jobs_get(jobs, a, NULL, NULL, NULL, &(json_t *){NULL}, err));
}
END_TEST

/* ---- workers that misbehave ---- */

static const struct {
    const char *behaviour, *says;
} deaths[] = {
    {"crash", "killed by signal 9"},
    {"silent", "exited with status 0"},
    {"words", "exited with status 3; its last words: pt2-export: the disk burns"},
    {"garbage", "a line that is not JSON"},
    {"other", "a line of another kind"},
    {"half-line", "broke off within a line"},
    {"refuse-well", "exited with status 0"},
    {"no-file", "No such file"},
    {"no-program", "a file that is no program"},
    {"leaves", "killed by signal 9"},
};

START_TEST(test_jobs_fail_after_three_deaths)
{
    const char *id;

    behave(deaths[_i].behaviour);
    id = submit(32);
    wait_for(id, JOB_FAILED);
    ck_assert_msg(after_prefix(error_of(id), "worker-died: ") != NULL, "%s",
                  error_of(id));
    ck_assert_msg(strstr(error_of(id), deaths[_i].says) != NULL, "%s", error_of(id));
    ck_assert_int_eq(n_runs(), JOB_MAX_ATTEMPTS);
    expect_nothing_in_tmp();
}
END_TEST

START_TEST(test_jobs_endless_lines_end)
{
    const char *id;

    behave("long-line");
    id = submit(32);
    wait_for(id, JOB_FAILED);
    ck_assert_msg(strstr(error_of(id), "line that is too long") != NULL, "%s",
                  error_of(id));
}
END_TEST

START_TEST(test_jobs_a_crash_is_tried_again)
{
    const char *id;

    behave("crash-once");
    id = submit(32);
    wait_for(id, JOB_SUCCEEDED);
    ck_assert_int_eq(n_runs(), 2);
}
END_TEST

START_TEST(test_jobs_that_hang_are_killed)
{
    const char *id;

    done();
    options.timeout_ms = 1000; /* a shell begins sooner, also on a busy machine */
    start();
    behave("hang");
    id = submit(32);
    wait_for(id, JOB_FAILED);
    ck_assert_ptr_nonnull(strstr(error_of(id), "took longer than"));
    ck_assert_int_eq(n_runs(), JOB_MAX_ATTEMPTS);
    ck_assert(!is_alive());
}
END_TEST

/* A refusal is the same the next time: no second run. */
START_TEST(test_jobs_refusals_are_final)
{
    const char *id;

    behave("refuse");
    id = submit(32);
    wait_for(id, JOB_FAILED);
    ck_assert_str_eq(error_of(id), "not-exportable: no");
    ck_assert_int_eq(n_runs(), 1);
}
END_TEST

START_TEST(test_jobs_changed_checkpoint_fails)
{
    const char *id;

    behave("changes");
    id = submit(32);
    wait_for(id, JOB_FAILED);
    ck_assert_msg(after_prefix(error_of(id), "checkpoint-changed: ") != NULL, "%s",
                  error_of(id));
}
END_TEST

START_TEST(test_jobs_model_gone_fails)
{
    const char *last = NULL;

    behave("wait");
    for (int i = 0; i < 3; i++)
        last = submit(32 + i);
    unlink(in_demo("config.json"));
    write_text(in_demo("go"), "");
    wait_for(last, JOB_FAILED);
    ck_assert_msg(after_prefix(error_of(last), "not-found: ") != NULL, "%s",
                  error_of(last));
}
END_TEST

START_TEST(test_jobs_no_worker_program_fails)
{
    const char *id;

    done();
    options.export_path = "/nowhere/pt2-export";
    start();
    id = submit(32);
    wait_for(id, JOB_FAILED);
    ck_assert_msg(after_prefix(error_of(id), "input-output: ") != NULL, "%s",
                  error_of(id));
}
END_TEST

/* ---- verifying ---- */

static const char *submit_verified(const char *how)
{
    write_text(in_demo("verifying"), how);
    n_verify = 4;
    return submit(32);
}

static int64_t tokens_of(const char *id)
{
    json_t *job = get(id, NULL), *verify = json_object_get(job, "verify");
    int64_t n = json_integer_value(json_object_get(verify, "tokens"));

    json_decref(job);
    return n;
}

static void wait_for_stage(const char *id, const char *stage)
{
    int64_t until = clock_mono_ms() + WAIT_MS;
    bool is = false;

    while (!is && clock_mono_ms() < until) {
        json_t *job = get(id, NULL), *progress = json_object_get(job, "progress");

        is = streq(json_string_value(json_object_get(progress, "stage")), stage);
        json_decref(job);
        poll(NULL, 0, 2);
    }
    ck_assert(is);
}

START_TEST(test_jobs_verify_what_they_made)
{
    const char *plain = submit(32), *first, *second;
    json_t *asked;

    first = submit_verified("good"); /* other options: a run of its own */
    wait_for(plain, JOB_SUCCEEDED);
    wait_for(first, JOB_SUCCEEDED);
    ck_assert_int_eq(tokens_of(first), 4);
    ck_assert_int_eq(tokens_of(plain), 0);
    ck_assert_int_eq(n_runs(), 3);
    asked = json_load_file(in_demo("asked"), 0, NULL);
    ck_assert_int_eq(json_integer_value(json_object_get(asked, "verify")), 4);
    ck_assert_str_eq(json_string_value(json_object_get(asked, "dtype")), "bfloat16");
    ck_assert_str_eq(json_string_value(json_object_get(asked, "program")),
                     program_of(first)); /* the script adds nothing to the file */
    json_decref(asked);

    second = submit(32); /* found again with what was found out */
    ck_assert_int_eq(state_of(second), JOB_SUCCEEDED);
    ck_assert(is_cached(second));
    ck_assert_int_eq(tokens_of(second), 4);
    done();
    start();
    ck_assert_int_eq(tokens_of(first), 4);
}
END_TEST

START_TEST(test_jobs_that_prove_wrong_leave_nothing)
{
    const char *id = submit_verified("wrong");

    wait_for(id, JOB_FAILED);
    ck_assert_str_eq(error_of(id), "verification-failed: by 3");
    ck_assert_str_eq(program_of(id), "");
    ck_assert_int_eq(n_runs(), 2);
    expect_nothing_in_tmp();
    write_text(in_demo("verifying"), "good"); /* and are not found again */
    id = submit(32);
    wait_for(id, JOB_SUCCEEDED);
    ck_assert(!is_cached(id));
}
END_TEST

START_TEST(test_jobs_cancel_stops_a_verification)
{
    const char *id = submit_verified("wait");
    int64_t until = clock_mono_ms() + WAIT_MS;

    wait_for_stage(id, "verifying");
    ck_assert(is_alive());
    expect_nice(19);
    cancel(id);
    while (is_alive() && clock_mono_ms() < until)
        poll(NULL, 0, 2);
    ck_assert(!is_alive());
    expect_nothing_in_tmp();
}
END_TEST

static const struct {
    const char *how, *says;
} verify_deaths[] = {
    {"crash", "the worker that verifies was killed by signal 9"},
    {"hang", "the worker that verifies took longer than 1 s"},
};

START_TEST(test_jobs_whose_verification_dies_fail)
{
    const char *id;

    done();
    options.timeout_ms = _i == 1 ? 1500 : WAIT_MS;
    start();
    id = submit_verified(verify_deaths[_i].how);
    wait_for(id, JOB_FAILED);
    ck_assert_msg(strstr(error_of(id), verify_deaths[_i].says) != NULL, "%s",
                  error_of(id));
    ck_assert_int_eq(n_runs(), 2 * JOB_MAX_ATTEMPTS);
    expect_nothing_in_tmp();
}
END_TEST

/* An end that says nothing of the verification is none. */
START_TEST(test_jobs_do_not_believe_in_no_verification)
{
    const char *id = submit_verified("nothing");

    wait_for(id, JOB_FAILED);
    ck_assert_msg(strstr(error_of(id), "sent a result that is none") != NULL, "%s",
                  error_of(id));
}
END_TEST

/* ---- stops and starts ---- */

START_TEST(test_jobs_stop_hands_back_what_runs)
{
    const char *running, *queued = NULL;

    behave("wait");
    running = submit(32);
    for (int i = 1; i < 3; i++)
        queued = submit(32 + i);
    wait_for(running, JOB_RUNNING);
    for (int i = 0; i < 4; i++) { /* more often than attempts: no strikes */
        done();
        ck_assert(!is_alive());
        start();
        wait_for(running, JOB_RUNNING);
    }
    write_text(in_demo("go"), "");
    wait_for(running, JOB_SUCCEEDED);
    wait_for(queued, JOB_SUCCEEDED);
}
END_TEST

START_TEST(test_jobs_stop_waits_the_grace_time)
{
    const char *id;

    id = submit(32);
    wait_for(id, JOB_SUCCEEDED);
    behave("wait");
    id = submit(33);
    wait_for(id, JOB_RUNNING);
    write_text(in_demo("go"), "");
    jobs_stop(jobs, WAIT_MS);
    ck_assert_int_eq(state_of(id), JOB_SUCCEEDED);
}
END_TEST

static void mark(const char *id, int attempts)
{
    struct sql q;

    sql_open(&q, parts.store, "UPDATE jobs SET state = 1, attempts = ? WHERE id = ?",
             NULL);
    sql_put_int(&q, attempts);
    sql_put_text(&q, id);
    ck_assert_int_eq(sql_run(&q), 1);
}

/* As the table is when a daemon was killed. */
START_TEST(test_jobs_start_requeues_what_ran)
{
    const char *twice, *thrice;

    jobs_drain(jobs);
    twice = submit(32);
    thrice = submit(33);
    jobs_free(jobs);
    mark(twice, 2);
    mark(thrice, 3);
    OK(jobs_new(&parts, &options, &jobs, err));
    wait_for(twice, JOB_SUCCEEDED);
    wait_for(thrice, JOB_FAILED);
    ck_assert_ptr_nonnull(strstr(error_of(thrice), "interrupted 3 times"));
}
END_TEST

START_TEST(test_jobs_drained_begin_nothing)
{
    const char *id;

    jobs_drain(jobs);
    id = submit(32);
    poll(NULL, 0, 100);
    ck_assert_int_eq(state_of(id), JOB_QUEUED);
    ck_assert_int_eq(n_runs(), 0);
}
END_TEST

/* ---- watching ---- */

struct seen {
    struct jobs_watch watch;
    pthread_mutex_t mutex;
    int64_t version;
    int n_events, n_weights;
    bool is_finished, is_backward;
};

static void on_change(struct jobs_watch *watch, const struct jobs_event *event)
{
    struct seen *seen = (struct seen *)(void *)watch;

    pthread_mutex_lock(&seen->mutex);
    seen->is_backward |= event->version <= seen->version || seen->is_finished;
    seen->version = event->version;
    seen->is_finished = event->is_finished;
    seen->n_weights += strstr(event->job, "\"stage\":\"weights\"") != NULL;
    ck_assert_uint_eq(event->len, strlen(event->job));
    seen->n_events++;
    pthread_mutex_unlock(&seen->mutex);
}

static bool has_finished(struct seen *seen)
{
    bool is;

    pthread_mutex_lock(&seen->mutex);
    is = seen->is_finished;
    pthread_mutex_unlock(&seen->mutex);
    return is;
}

static int n_weights(struct seen *seen)
{
    int n;

    pthread_mutex_lock(&seen->mutex);
    n = seen->n_weights;
    pthread_mutex_unlock(&seen->mutex);
    return n;
}

START_TEST(test_jobs_watches_see_every_change_in_order)
{
    struct seen seen = {.watch.changed = on_change}, other = seen;
    int64_t begin = clock_mono_ms(), until, version;
    json_t *job;
    const char *id;

    pthread_mutex_init(&seen.mutex, NULL);
    pthread_mutex_init(&other.mutex, NULL);
    behave("wait");
    id = submit(32);
    ck_assert(jobs_watch(jobs, id, NULL, &seen.watch));
    ck_assert(jobs_watch(jobs, id, NULL, &other.watch));
    ck_assert_int_ge(seen.n_events, 1);
    wait_for(id, JOB_RUNNING);
    until = clock_mono_ms() + WAIT_MS;
    while (n_weights(&seen) < 3 && clock_mono_ms() < until)
        poll(NULL, 0, 2);
    jobs_unwatch(jobs, &other.watch);
    write_text(in_demo("go"), "");
    until = clock_mono_ms() + WAIT_MS;
    while (!has_finished(&seen) && clock_mono_ms() < until)
        poll(NULL, 0, 2);
    ck_assert(has_finished(&seen));
    ck_assert(!seen.is_backward);
    ck_assert(!other.is_finished);
    ck_assert_int_ge(seen.n_weights, 3);
    /* ten a second, however many the child sends */
    ck_assert_int_le(seen.n_weights, 4 + (clock_mono_ms() - begin) / 100);
    OK(jobs_get(jobs, id, NULL, NULL, &version, &job, err));
    json_decref(job);
    ck_assert_int_eq(version, seen.version);
    ck_assert(!jobs_watch(jobs, id, NULL, &seen.watch));
    ck_assert(!jobs_watch(jobs, "exp_0", NULL, &seen.watch));
    jobs_unwatch(jobs, &seen.watch);
}
END_TEST

static _Thread_local bool has_no_memory; /* for JSON */

static void *json_memory(size_t n)
{
    return has_no_memory ? NULL : malloc(n);
}

static void on_change_without_memory(struct jobs_watch *watch, const struct jobs_event *event)
{
    struct seen *seen = (struct seen *)(void *)watch;

    pthread_mutex_lock(&seen->mutex);
    seen->n_events++;
    seen->n_weights += event->job != NULL;
    ck_assert(event->job || event->len == 0);
    pthread_mutex_unlock(&seen->mutex);
}

/* Nobody is told {} of a job. */
START_TEST(test_jobs_r_a_watch_without_memory_has_no_text)
{
    struct seen seen = {.watch.changed = on_change_without_memory};
    const char *id;

    json_set_alloc_funcs(json_memory, free);
    pthread_mutex_init(&seen.mutex, NULL);
    behave("wait");
    id = submit(32);
    wait_for(id, JOB_RUNNING);
    has_no_memory = true;
    ck_assert(jobs_watch(jobs, id, NULL, &seen.watch));
    jobs_unwatch(jobs, &seen.watch);
    has_no_memory = false;
    ck_assert_int_ge(seen.n_events, 1);
    ck_assert_int_eq(seen.n_events - seen.n_weights, 1);
    write_text(in_demo("go"), "");
    wait_for(id, JOB_SUCCEEDED);
}
END_TEST

/* Versions must not go back when a run begins again, also after a restart. */
START_TEST(test_jobs_versions_grow_across_restarts)
{
    int64_t before, after;
    json_t *job;
    const char *id;

    behave("wait");
    id = submit(32);
    wait_for(id, JOB_RUNNING);
    poll(NULL, 0, 300);
    OK(jobs_get(jobs, id, NULL, NULL, &before, &job, err));
    json_decref(job);
    done();
    start();
    OK(jobs_get(jobs, id, NULL, NULL, &after, &job, err));
    json_decref(job);
    ck_assert_int_gt(after, before);
}
END_TEST

/* ---- many at once ---- */

static void *hammer(void *ctx)
{
    unsigned seed = (unsigned)(uintptr_t)ctx;
    struct seen seen = {.watch.changed = on_change};
    json_t *job;

    pthread_mutex_init(&seen.mutex, NULL);
    for (int i = 0; i < 15; i++) {
        struct pt2_err err = {0};
        const char *text;
        char id[JOB_ID_SIZE];

        if (try_submit(32 + rand_r(&seed) % 3, &job, &err) < 0) {
            ck_assert_int_eq(err.code, PT2_ERR_QUEUE_FULL);
            poll(NULL, 0, 1);
            continue;
        }
        text = json_string_value(json_object_get(job, "id"));
        snprintf(id, sizeof(id), "%s", text);
        json_decref(job);
        seen.is_finished = seen.is_backward = false;
        seen.version = 0;
        if (jobs_watch(jobs, id, NULL, &seen.watch)) {
            if (rand_r(&seed) % 2 == 0 && jobs_cancel(jobs, id, NULL, &job, &err) == 0)
                json_decref(job);
            poll(NULL, 0, (int)(rand_r(&seed) % 10));
            jobs_unwatch(jobs, &seen.watch);
            ck_assert(!seen.is_backward);
        }
    }
    return NULL;
}

/* For the thread sanitizer, and deadlocks. */
START_TEST(test_jobs_from_many_threads)
{
    pthread_t threads[4];
    struct jobs_figures figures = {.n_queued = 1};
    int64_t until;

    for (uintptr_t i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, hammer, (void *)(i + 1)), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    until = clock_mono_ms() + WAIT_MS;
    while (figures.n_queued + figures.n_running > 0 && clock_mono_ms() < until) {
        poll(NULL, 0, 5);
        jobs_figures(jobs, &figures);
    }
    ck_assert_uint_eq(figures.n_queued, 0);
    ck_assert_uint_eq(figures.n_running, 0);
    ck_assert_int_eq(figures.oldest_queued_ms, 0);
    expect_nothing_in_tmp();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("jobs");
    TCase *core = tcase_create("core"), *workers = tcase_create("workers"),
          *verifying = tcase_create("verifying"),
          *stops = tcase_create("stops"), *watches = tcase_create("watches");

    tcase_add_checked_fixture(core, setup, teardown);
    tcase_set_timeout(core, 120);
    tcase_add_test(core, test_jobs_make_programs);
    tcase_add_test(core, test_jobs_exported_again_succeed_at_once);
    tcase_add_test(core, test_jobs_key_follows_the_content);
    tcase_add_test(core, test_jobs_same_ones_share_a_run);
    tcase_add_test(core, test_jobs_queue_is_bounded);
    tcase_add_test(core, test_jobs_last_cancel_stops_the_run);
    tcase_add_test(core, test_jobs_delete_takes_finished_ones);
    tcase_add_test(core, test_jobs_unfinished_ones_of_an_owner_are_bounded);
    tcase_add_test(core, test_jobs_are_their_owners);
    suite_add_tcase(suite, core);
    tcase_add_checked_fixture(workers, setup, teardown);
    tcase_set_timeout(workers, 120);
    tcase_add_loop_test(workers, test_jobs_fail_after_three_deaths, 0,
                        (int)ARRAY_LEN(deaths));
    tcase_add_test(workers, test_jobs_endless_lines_end);
    tcase_add_test(workers, test_jobs_a_crash_is_tried_again);
    tcase_add_test(workers, test_jobs_that_hang_are_killed);
    tcase_add_test(workers, test_jobs_refusals_are_final);
    tcase_add_test(workers, test_jobs_changed_checkpoint_fails);
    tcase_add_test(workers, test_jobs_model_gone_fails);
    tcase_add_test(workers, test_jobs_no_worker_program_fails);
    suite_add_tcase(suite, workers);
    tcase_add_checked_fixture(verifying, setup, teardown);
    tcase_set_timeout(verifying, 120);
    tcase_add_test(verifying, test_jobs_verify_what_they_made);
    tcase_add_test(verifying, test_jobs_that_prove_wrong_leave_nothing);
    tcase_add_test(verifying, test_jobs_cancel_stops_a_verification);
    tcase_add_loop_test(verifying, test_jobs_whose_verification_dies_fail, 0,
                        (int)ARRAY_LEN(verify_deaths));
    tcase_add_test(verifying, test_jobs_do_not_believe_in_no_verification);
    suite_add_tcase(suite, verifying);
    tcase_add_checked_fixture(stops, setup, teardown);
    tcase_set_timeout(stops, 120);
    tcase_add_test(stops, test_jobs_stop_hands_back_what_runs);
    tcase_add_test(stops, test_jobs_stop_waits_the_grace_time);
    tcase_add_test(stops, test_jobs_start_requeues_what_ran);
    tcase_add_test(stops, test_jobs_drained_begin_nothing);
    suite_add_tcase(suite, stops);
    tcase_add_checked_fixture(watches, setup, teardown);
    tcase_set_timeout(watches, 120);
    tcase_add_test(watches, test_jobs_watches_see_every_change_in_order);
    tcase_add_test(watches, test_jobs_r_a_watch_without_memory_has_no_text);
    tcase_add_test(watches, test_jobs_versions_grow_across_restarts);
    tcase_add_test(watches, test_jobs_from_many_threads);
    suite_add_tcase(suite, watches);
    return suite_run(suite);
}
