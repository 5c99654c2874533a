/* check_spill.c - sessions on the disk, over an engine that is not one (fake_engine.h): put
 * away where memory is short, saved at a stop; what is left after failures. */
#include "file_faults.h"
#include "serve_fixture.h"

#include "base/folder.h"
#include "store/temp_file.h"

#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

/* ---- fixture: one serve with a folder; hooks that count ---- */

static struct serve_options options;
static struct temp_folder temp;
static char root[64], folder[80];
static atomic_int n_open_told, n_returned_told, n_closed_told[3], fail_returned;

static int opened(void *context, const char *id, const char *owner, const char *program,
                  struct pt2_err *err)
{
    n_open_told++;
    return 0;
}

static int returned(void *context, const char *id, const char *owner, const char *program,
                    char *ret_path, char *ret_packed_path, struct pt2_err *err)
{
    if (fail_returned)
        return pt2_err_set(err, PT2_ERR_NOT_FOUND, "told to fail");
    n_returned_told++;
    snprintf(ret_path, PATH_MAX, "%s", program);
    return 0;
}

static void closed(void *context, const char *id, const char *program, enum serve_end how)
{
    n_closed_told[how]++;
}

static void start(void)
{
    struct pt2_err err = {0};

    ck_assert_msg(serve_new(&options, &serve, &err) == 0, "%s", err.text);
}

static void restart(void)
{
    serve_free(serve);
    start();
}

/* Of how many sessions the caches find room in memory. */
static uint64_t room_for(int n)
{
    return (uint64_t)n * (24 + 64 * 2 * sizeof(int32_t));
}

/* Three caches in memory, any number on the disk. */
static void setup(void)
{
    struct pt2_err err = {0};

    fake_reset();
    file_fault_at = 0;
    n_open_told = n_returned_told = fail_returned = 0;
    memset(n_closed_told, 0, sizeof(n_closed_told));
    snprintf(root, sizeof(root), "/tmp/pt2-spill-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(root));
    snprintf(folder, sizeof(folder), "%s/sessions", root);
    char path[96];
    snprintf(path, sizeof(path), "%s/tmp", root);
    ck_assert_int_eq(temp_folder_init(&temp, path, "the state directory", &err), 0);
    options = (struct serve_options){
        .node = "n1",
        .max_cache_bytes = room_for(3),
        .saved_path = folder,
        .temp = &temp,
        .spill_bytes = 1 << 20,
        .hooks = {.opened = opened, .returned = returned, .closed = closed}};
    start();
}

static void teardown(void)
{
    serve_free(serve);
    serve = NULL;
    ck_assert_int_eq(fake.n_engines, 0);
    ck_assert_int_eq(fake.n_caches, 0);
    ck_assert_int_eq(folder_remove(root, NULL), 0);
}

static void persist(void)
{
    options.persist = true;
    restart();
}

/* ---- what there is ---- */

struct counting {
    const char *ending;
    int n;
};

static int count_entry(void *context, const char *path, const char *name,
                       struct pt2_err *err)
{
    struct counting *counting = context;

    counting->n += strlen(name) > strlen(counting->ending) &&
                   streq(name + strlen(name) - strlen(counting->ending), counting->ending);
    return 0;
}

static int n_files(const char *ending)
{
    struct counting counting = {ending, 0};

    ck_assert_int_eq(folder_each(folder, count_entry, &counting, NULL), 0);
    return counting.n;
}

static struct serve_info info_of(const char *id)
{
    struct serve_info *list, found = {0};
    struct pt2_err err = {0};
    size_t n;

    ck_assert_int_eq(serve_list(serve, NULL, 0, 1000, NULL, NULL, &list, &n, &err), 0);
    for (size_t i = 0; i < n; i++) {
        if (streq(list[i].id, id))
            found = list[i];
        serve_info_done(&list[i]);
    }
    free(list);
    ck_assert_str_eq(found.id, id);
    return found;
}

static bool is_resident(const char *id)
{
    return info_of(id).is_resident;
}

static enum pt2_error get_code(const char *id)
{
    struct op op;
    enum pt2_error code;

    op_init(&op, SERVE_GET);
    code = op_run(&op, id);
    op_free(&op);
    return code;
}

/* ---- sessions whose tokens are remembered ---- */

struct track {
    struct name name;
    int64_t ids[64];
    int64_t n;
};

static struct track track_open(const char *program)
{
    struct track t = {0};

    ck_assert_int_eq(try_open(program, 600, &t.name), PT2_ERR_NONE);
    return t;
}

/* A step of s tokens at `at`; its logits have to be those of the text. */
static enum pt2_error track_step(struct track *t, int64_t first, int64_t s, int64_t at)
{
    struct op op;
    enum pt2_error code;

    step_init(&op, first, s, at, PT2_ROWS_LAST);
    code = op_run(&op, t->name.id);
    if (code == PT2_ERR_NONE) {
        t->n = op.call.start;
        for (int64_t i = 0; i < s; i++)
            t->ids[t->n++] = op.ids[i];
        expect_last(&op, t->ids, t->n);
    }
    op_free(&op);
    return code;
}

#define STEP(t, first, s, at)                                                            \
    ck_assert_int_eq(track_step(t, first, s, at), PT2_ERR_NONE)

/* n of them, with i + 1 tokens each. */
static void open_all(struct track *all, int n, const char *program)
{
    for (int i = 0; i < n; i++) {
        all[i] = track_open(program);
        STEP(&all[i], i, i % 20 + 1, -1);
    }
}

static void step_all(struct track *all, int n)
{
    for (int i = 0; i < n; i++)
        STEP(&all[i], i * 3 + 1, 1 + i % 2, -1);
}

static bool nothing_runs(void)
{
    return serve_is_idle(serve);
}

/* Until the runner has freed what was deleted. */
static int fewest(const char *ending, int want)
{
    for (int i = 0; i < 300 && n_files(ending) > want; i++)
        usleep(10000);
    return n_files(ending);
}

/* ---- spilling ---- */

START_TEST(test_spill_round_robin_equals_memory)
{
    struct track all[12];

    open_all(all, 12, PROGRAM);
    for (int round = 0; round < 8; round++)
        step_all(all, 12);
    ck_assert_int_le(fake.n_caches, 3);
    ck_assert_int_eq(n_files(".spill"), 9);
    ck_assert_int_eq(n_files(".saved"), 0);
    for (int i = 0; i < 12; i++)
        delete_one(all[i].name.id);
    ck_assert_int_eq(fewest("", 0), 0);
    ck_assert_int_eq(n_closed_told[SERVE_DELETED], 12);
}
END_TEST

START_TEST(test_spill_takes_the_one_not_used_longest)
{
    struct track all[4];

    open_all(all, 3, PROGRAM);
    STEP(&all[0], 5, 1, -1);
    ck_assert_int_eq(get_code(all[2].name.id), PT2_ERR_NONE); /* a use, too */
    all[3] = track_open(PROGRAM);
    ck_assert(is_resident(all[0].name.id));
    ck_assert(!is_resident(all[1].name.id));
    ck_assert(is_resident(all[2].name.id));
    STEP(&all[1], 5, 1, -1);
    ck_assert(!is_resident(all[0].name.id));
    STEP(&all[0], 5, 1, -1);
}
END_TEST

/* No cache is read for these. */
START_TEST(test_spill_looks_and_rewinds_take_no_cache)
{
    struct track all[4];
    struct op op;

    open_all(all, 4, PROGRAM);
    STEP(&all[0], 7, 6, -1);
    STEP(&all[1], 7, 1, -1);
    STEP(&all[2], 7, 1, -1);
    STEP(&all[3], 7, 1, -1);
    ck_assert(!is_resident(all[0].name.id));
    ck_assert_int_eq(position_of(all[0].name.id), 7);
    op_init(&op, SERVE_REWIND);
    op.call.rewind.position = 3;
    ck_assert_int_eq(op_run(&op, all[0].name.id), PT2_ERR_NONE);
    ck_assert(!op.call.info.is_resident);
    op_free(&op);
    ck_assert(!is_resident(all[0].name.id));
    ck_assert_int_eq(track_step(&all[0], 9, 1, 4), PT2_ERR_POSITION_GAP);
    ck_assert(!is_resident(all[0].name.id));
    STEP(&all[0], 9, 2, -1);
    ck_assert_int_eq(all[0].n, 5);
}
END_TEST

START_TEST(test_spill_forks_saves_and_restores)
{
    struct track all[4], fork;
    AUTO_PTR char *file = NULL, *again = NULL;
    size_t size, again_size;
    struct op op;

    open_all(all, 4, PROGRAM);
    save(all[3].name.id, &file, &size);
    ck_assert(!is_resident(all[0].name.id));
    op_init(&op, SERVE_FORK);
    op.call.fork.position = -1;
    op.call.fork.ttl_s = -1;
    ck_assert_int_eq(op_run(&op, all[0].name.id), PT2_ERR_NONE);
    fork = all[0];
    memcpy(fork.name.id, op.call.info.id, sizeof(fork.name.id));
    op_free(&op);
    STEP(&fork, 9, 1, -1);
    STEP(&all[0], 4, 1, -1);
    STEP(&all[1], 4, 1, -1);
    STEP(&all[2], 4, 1, -1);
    ck_assert(!is_resident(all[3].name.id));
    save(all[3].name.id, &again, &again_size);
    ck_assert_uint_eq(size, again_size);
    ck_assert_mem_eq(file, again, size);
    STEP(&fork, 9, 1, -1);
    STEP(&all[2], 4, 1, -1);
    STEP(&all[3], 4, 1, -1);
    ck_assert(!is_resident(all[0].name.id));
    ck_assert_int_eq(restore(all[0].name.id, file, size - 1), PT2_ERR_INVALID);
    STEP(&all[1], 4, 1, -1);
    STEP(&all[2], 4, 1, -1);
    STEP(&all[3], 4, 1, -1);
    ck_assert(!is_resident(all[0].name.id));
    ck_assert_int_eq(restore(all[0].name.id, file, size), PT2_ERR_NONE);
    memcpy(all[0].ids, (int64_t[]){3, 4, 5, 6}, 4 * sizeof(int64_t));
    STEP(&all[0], 1, 1, 4);
}
END_TEST

START_TEST(test_spill_of_an_expired_or_deleted_session_goes)
{
    struct track all[4];
    struct name brief;

    ck_assert_int_eq(try_open(PROGRAM, 1, &brief), PT2_ERR_NONE);
    open_all(all, 4, PROGRAM);
    ck_assert(!is_resident(brief.id));
    ck_assert(!is_resident(all[0].name.id));
    ck_assert_int_eq(n_files(".spill"), 2);
    delete_one(all[0].name.id);
    ck_assert_int_eq(fewest(".spill", 0), 0);
    ck_assert_int_eq(get_code(brief.id), PT2_ERR_NOT_FOUND);
    ck_assert_int_eq(n_closed_told[SERVE_EXPIRED], 1);
    ck_assert_int_eq(n_closed_told[SERVE_DELETED], 1);
}
END_TEST

/* The runner of one program needs what the other's sessions hold. */
START_TEST(test_spill_makes_room_for_other_programs)
{
    struct track a[3], b[3];

    open_all(a, 3, PROGRAM);
    open_all(b, 3, OTHER);
    for (int round = 0; round < 10; round++) {
        step_all(a, 3);
        step_all(b, 3);
    }
    ck_assert_int_le(fake.n_caches, 3);
}
END_TEST

struct stepper {
    pthread_t thread;
    struct track *tracks;
    int n;
};

static void *step_on(void *arg)
{
    struct stepper *stepper = arg;

    for (int round = 0; round < 15; round++)
        for (int i = 0; i < stepper->n; i++)
            STEP(&stepper->tracks[i], round + i, 1, -1);
    return NULL;
}

/* Both want memory at once, and only the other has what may go: both get it. */
START_TEST(test_spill_runners_that_wait_for_each_other)
{
    struct track a[4], b[4];
    struct stepper x = {.tracks = a, .n = 4}, y = {.tracks = b, .n = 4};

    fake.image_us = 500;
    open_all(a, 4, PROGRAM);
    open_all(b, 4, OTHER);
    pthread_create(&x.thread, NULL, step_on, &x);
    pthread_create(&y.thread, NULL, step_on, &y);
    pthread_join(x.thread, NULL);
    pthread_join(y.thread, NULL);
}
END_TEST

START_TEST(test_spill_caches_that_grow)
{
    struct track all[6];

    serve_free(serve);
    fake.grows = true;
    options.max_cache_bytes = 6 * 64 + 100 * 64;
    start();
    open_all(all, 6, PROGRAM);
    for (int round = 0; round < 10; round++)
        for (int i = 0; i < 6; i++)
            STEP(&all[i], round, 4, -1);
    ck_assert_int_gt(n_files(".spill"), 1);
}
END_TEST

/* ---- limits ---- */

/* All that is in memory waits or runs: those who wait make room. */
START_TEST(test_spill_those_who_wait_make_room)
{
    struct track all[3];
    struct op ops[3], open;

    open_all(all, 3, PROGRAM);
    fake.gated = true;
    for (int i = 0; i < 3; i++)
        step_send(&ops[i], all[i].name.id, i, 1, -1);
    while (sem_wait(&fake.began) != 0)
        ;
    op_init(&open, SERVE_OPEN);
    open.call.open.program = open.call.open.path = OTHER;
    open.call.open.ttl_s = 600;
    serve_submit(serve, NULL, &open.call);
    usleep(100000);
    ck_assert_int_ne(sem_trywait(&open.done), 0); /* their runner is at work */
    ck_assert_int_eq(n_files(""), 0);
    fake.gated = false;
    sem_post(&fake.go);
    ck_assert_int_eq(op_wait(&open), PT2_ERR_NONE);
    op_free(&open);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(op_wait(&ops[i]), PT2_ERR_NONE);
        op_free(&ops[i]);
        all[i].ids[all[i].n++] = i;
    }
    for (int i = 0; i < 3; i++)
        STEP(&all[i], 2, 1, -1);
    ck_assert_int_eq(n_files(".spill"), 1);
}
END_TEST

/* All that is in memory runs: there is no room for another until it is done. */
START_TEST(test_spill_what_runs_stays)
{
    struct track a;
    struct name name;
    struct op op;

    serve_free(serve);
    options.max_cache_bytes = room_for(1);
    start();
    open_all(&a, 1, PROGRAM);
    fake.gated = true;
    step_send(&op, a.name.id, 0, 1, -1);
    while (sem_wait(&fake.began) != 0)
        ;
    ck_assert_int_eq(try_open(OTHER, 600, &name), PT2_ERR_BUDGET);
    fake.gated = false;
    sem_post(&fake.go);
    ck_assert_int_eq(op_wait(&op), PT2_ERR_NONE);
    op_free(&op);
    ck_assert_int_eq(try_open(OTHER, 600, &name), PT2_ERR_NONE);
    ck_assert_int_eq(n_files(".spill"), 1);
}
END_TEST

/* Every session is called all the time, and runs with others: nobody is refused. */
START_TEST(test_spill_all_at_work_take_turns)
{
    struct track all[10];
    struct stepper steppers[10];

    fake.max_rows = 64;
    open_all(all, 10, PROGRAM);
    for (int i = 0; i < 10; i++) {
        steppers[i] = (struct stepper){.tracks = &all[i], .n = 1};
        pthread_create(&steppers[i].thread, NULL, step_on, &steppers[i]);
    }
    for (int i = 0; i < 10; i++)
        pthread_join(steppers[i].thread, NULL);
    ck_assert_int_le(fake.n_caches, 3);
}
END_TEST

/* The disk's budget, and none. */
START_TEST(test_spill_keeps_within_the_disk_budget)
{
    struct track all[5];
    struct name name;

    serve_free(serve);
    options.spill_bytes = _i == 0 ? 0 : 2 * (16 + 10 * 8);
    start();
    for (int i = 0; i < 3; i++) {
        all[i] = track_open(PROGRAM);
        STEP(&all[i], i, 8, -1);
    }
    for (int i = 3; i < 3 + 2 * _i; i++) {
        all[i] = track_open(PROGRAM);
        STEP(&all[i], i, 8, -1);
    }
    ck_assert_int_eq(try_open(PROGRAM, 600, &name), PT2_ERR_BUDGET);
    ck_assert_int_eq(n_files(".spill"), 2 * _i);
    for (int i = 2 * _i; i < 3 + 2 * _i; i++)
        STEP(&all[i], i, 1, -1); /* those in memory go on */
    delete_one(all[0].name.id);
    ck_assert_int_eq(fewest(".spill", _i), _i);
    for (int i = 0; i < 100 && try_open(PROGRAM, 600, &name) != PT2_ERR_NONE; i++)
        usleep(10000);
    ck_assert_int_eq(get_code(name.id), PT2_ERR_NONE);
}
END_TEST

/* ---- use while it is put away ---- */

START_TEST(test_spill_called_meanwhile_stays)
{
    struct track all[3];
    struct op open, step;

    open_all(all, 3, PROGRAM);
    fake.image_us = 200000;
    op_init(&open, SERVE_OPEN);
    open.call.open.program = open.call.open.path = OTHER;
    open.call.open.ttl_s = 600;
    serve_submit(serve, NULL, &open.call);
    usleep(100000); /* the first is being written */
    step_send(&step, all[0].name.id, 5, 1, -1);
    ck_assert_int_eq(op_wait(&step), PT2_ERR_NONE);
    ck_assert_int_eq(op_wait(&open), PT2_ERR_NONE);
    op_free(&step);
    op_free(&open);
    all[0].ids[all[0].n++] = 5;
    ck_assert(is_resident(all[0].name.id));
    ck_assert_int_eq(n_files(".spill"), 1);
    for (int i = 0; i < 3; i++)
        STEP(&all[i], 2, 1, -1);
}
END_TEST

START_TEST(test_spill_deleted_meanwhile_goes)
{
    struct track all[3];
    struct op open;

    open_all(all, 3, PROGRAM);
    fake.image_us = 200000;
    op_init(&open, SERVE_OPEN);
    open.call.open.program = open.call.open.path = _i ? OTHER : PROGRAM;
    open.call.open.ttl_s = 600;
    serve_submit(serve, NULL, &open.call);
    usleep(100000);
    delete_one(all[0].name.id);
    ck_assert_int_eq(op_wait(&open), PT2_ERR_NONE);
    op_free(&open);
    ck_assert_int_eq(fewest("", 0), 0);
    ck_assert(is_resident(all[1].name.id));
}
END_TEST

START_TEST(test_spill_bring_back_into_a_new_engine)
{
    struct track all[4];

    open_all(all, 4, PROGRAM);
    fake.die_new = 1;
    STEP(&all[0], 2, 1, -1);
    for (int i = 0; i < 4; i++)
        STEP(&all[i], 2, 1, -1);
    ck_assert_int_eq(fake.n_opened, 2);
    fake.fail_take_back = 1;
    ck_assert_int_eq(track_step(&all[0], 2, 1, -1), PT2_ERR_NOMEM);
    STEP(&all[0], 2, 1, -1); /* nothing is lost */
}
END_TEST

/* ---- failing files ---- */

static void path_of(const struct track *t, const char *ending, char ret[PATH_MAX])
{
    snprintf(ret, PATH_MAX, "%s/%s%s", folder, t->name.id, ending);
}

/* Gone, cut short, longer, one bit another: the session is lost, for the call that finds out and
 * for those that wait; the others are not. */
START_TEST(test_spill_damaged_file_is_a_lost_session)
{
    struct track all[4];
    char path[PATH_MAX], c;
    struct op first, second;
    FILE *f;

    open_all(all, 4, PROGRAM);
    path_of(&all[0], ".spill", path);
    switch (_i) {
    case 0:
        ck_assert_int_eq(unlink(path), 0);
        break;
    case 1:
        ck_assert_int_eq(truncate(path, 20), 0);
        break;
    default:
        f = fopen(path, "r+");
        fseek(f, 18, SEEK_SET);
        c = (char)fgetc(f);
        fseek(f, 18, SEEK_SET);
        fputc(c ^ 4, f);
        fclose(f);
    }
    fake.gated = true;
    step_init(&first, 1, 1, -1, PT2_ROWS_LAST);
    step_init(&second, 1, 1, -1, PT2_ROWS_LAST);
    serve_submit(serve, all[0].name.id, &first.call);
    serve_submit(serve, all[0].name.id, &second.call);
    ck_assert_int_eq(op_wait(&first), PT2_ERR_SESSION_LOST);
    op_wait(&second);
    ck_assert(second.call.err.code == PT2_ERR_SESSION_LOST ||
              second.call.err.code == PT2_ERR_NOT_FOUND);
    op_free(&first);
    op_free(&second);
    fake.gated = false;
    ck_assert_int_eq(track_step(&all[0], 1, 1, -1), PT2_ERR_NOT_FOUND);
    ck_assert_int_eq(n_closed_told[SERVE_LOST], 1);
    for (int i = 1; i < 4; i++)
        STEP(&all[i], 2, 1, -1);
    ck_assert_int_le(n_files(".spill"), 0);
}
END_TEST

/* Each call on files fails in turn, while one session is put away and another comes back:
 * what is asked for fails or works, and nothing is lost. */
START_TEST(test_spill_failing_files_lose_nothing)
{
    struct track all[5];
    long hits, at = 0;
    struct name name;

    open_all(all, 5, PROGRAM);
    file_fault_code = _i ? EIO : ENOSPC;
    do {
        enum pt2_error code, opened_code;

        hits = file_fault_hits;
        file_fault_at = ++at;
        code = track_step(&all[at % 5], at, 1, at % 3 ? -1 : 0);
        ck_assert(code == PT2_ERR_NONE || code == PT2_ERR_BUDGET || code == PT2_ERR_IO ||
                  code == PT2_ERR_NO_SPACE);
        opened_code = try_open(PROGRAM, 600, &name);
        ck_assert(opened_code == PT2_ERR_NONE || opened_code == PT2_ERR_BUDGET);
        if (opened_code == PT2_ERR_NONE)
            delete_one(name.id);
        hits = file_fault_hits - hits;
        file_fault_at = 0;
        for (int i = 0; i < 5; i++)
            STEP(&all[i], at + i, 1, 0);
    } while (hits > 0);
    ck_assert_int_gt(at, 5);
    ck_assert_int_eq(n_closed_told[SERVE_LOST], 0);
}
END_TEST

/* ---- a stop and a start ---- */

START_TEST(test_keep_sessions_go_on_after_a_restart)
{
    struct track all[14];
    struct serve_info before[14], after;
    struct name name;

    persist();
    open_all(all, 7, PROGRAM);
    open_all(all + 7, 7, OTHER);
    for (int i = 0; i < 14; i++)
        before[i] = info_of(all[i].name.id);
    for (int round = 0; round < 3; round++) {
        restart();
        ck_assert_int_eq(n_returned_told, 14 * (round + 1));
        ck_assert_int_eq(fake.n_engines, 0); /* until they are used */
        for (int i = 0; i < 14; i++) {
            after = info_of(all[i].name.id);
            ck_assert_int_eq(after.position, all[i].n);
            ck_assert_int_eq(after.rewind_floor, before[i].rewind_floor);
            ck_assert_int_eq(after.created_ms, before[i].created_ms);
            ck_assert_int_eq(after.ttl_s, 600);
            ck_assert_int_eq(after.engine, before[i].engine);
            ck_assert_mem_eq(&after.facts, &before[i].facts, sizeof(after.facts));
            ck_assert(!after.is_resident);
            ck_assert_int_le(llabs(after.expires_ms - before[i].expires_ms), 20000);
            ck_assert(i == 0 || after.number > info_of(all[i - 1].name.id).number);
        }
        step_all(all, 14);
        ck_assert_int_eq(try_open(PROGRAM, 600, &name), PT2_ERR_NONE);
        delete_one(name.id);
    }
    for (int i = 0; i < 14; i++)
        delete_one(all[i].name.id);
    ck_assert_int_eq(fewest("", 0), 0);
    restart();
    ck_assert_int_eq(get_code(all[0].name.id), PT2_ERR_NOT_FOUND);
}
END_TEST

/* One that has not been used is not written again; one that has been looked at is. */
START_TEST(test_keep_what_is_true_stays)
{
    struct track all[2];
    struct stat before[2], after[2];
    char path[PATH_MAX];

    persist();
    open_all(all, 2, PROGRAM);
    restart();
    for (int i = 0; i < 2; i++) {
        path_of(&all[i], ".saved", path);
        ck_assert_int_eq(stat(path, &before[i]), 0);
    }
    ck_assert_int_eq(get_code(all[1].name.id), PT2_ERR_NONE);
    usleep(20000);
    restart();
    for (int i = 0; i < 2; i++) {
        path_of(&all[i], ".saved", path);
        ck_assert_int_eq(stat(path, &after[i]), 0);
    }
    ck_assert_mem_eq(&before[0].st_mtim, &after[0].st_mtim, sizeof(after[0].st_mtim));
    ck_assert_mem_ne(&before[1].st_mtim, &after[1].st_mtim, sizeof(after[1].st_mtim));
    step_all(all, 2);
}
END_TEST

START_TEST(test_keep_none_without_persist)
{
    struct track all[5];

    open_all(all, 5, PROGRAM);
    restart();
    ck_assert_int_eq(n_files(""), 0);
    ck_assert_int_eq(get_code(all[0].name.id), PT2_ERR_NOT_FOUND);
    persist();
    open_all(all, 5, PROGRAM);
    serve_free(serve);
    ck_assert_int_eq(n_files(".saved"), 5);
    options.persist = false;
    start();
    ck_assert_int_eq(n_files(""), 0);
    ck_assert_int_eq(get_code(all[0].name.id), PT2_ERR_NOT_FOUND);
}
END_TEST

/* What lies in the folder at one moment, as a kill leaves it; the serve that ran there goes on
 * in a copy of it, which is thrown away. */
static void kill_and_start(void)
{
    char command[512], other[80];

    snprintf(other, sizeof(other), "%s/killed", root);
    snprintf(command, sizeof(command), "rm -rf %s && cp -a %s %s", other, folder, other);
    ck_assert_int_eq(system(command), 0);
    serve_free(serve);
    snprintf(command, sizeof(command), "rm -rf %s && mv %s %s", folder, other, folder);
    ck_assert_int_eq(system(command), 0);
    start();
}

/* Catches: a file that tells of a state that the session has left. */
START_TEST(test_keep_a_kill_never_brings_back_the_past)
{
    struct track all[8];
    struct op op;

    persist();
    open_all(all, 8, PROGRAM);
    restart();
    STEP(&all[0], 3, 1, -1);
    STEP(&all[1], 3, 1, -1);
    STEP(&all[2], 3, 1, -1);
    STEP(&all[3], 3, 1, -1); /* 0 is away again */
    ck_assert(!is_resident(all[0].name.id));
    op_init(&op, SERVE_REWIND);
    op.call.rewind.position = 1;
    ck_assert_int_eq(op_run(&op, all[4].name.id), PT2_ERR_NONE);
    op_free(&op);
    ck_assert_int_eq(get_code(all[5].name.id), PT2_ERR_NONE);
    delete_one(all[6].name.id);
    kill_and_start();
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(get_code(all[i].name.id), PT2_ERR_NOT_FOUND);
    ck_assert_int_eq(get_code(all[6].name.id), PT2_ERR_NOT_FOUND);
    STEP(&all[5], 3, 1, -1); /* as they were saved */
    STEP(&all[7], 3, 1, -1);
    ck_assert_int_eq(n_files(".spill"), 0);
    kill_and_start();
    ck_assert_int_eq(get_code(all[5].name.id), PT2_ERR_NOT_FOUND);
    ck_assert_int_eq(n_files(""), 0);
}
END_TEST

START_TEST(test_keep_time_goes_on_while_stopped)
{
    struct track a;
    struct name brief;

    persist();
    ck_assert_int_eq(try_open(PROGRAM, 1, &brief), PT2_ERR_NONE);
    a = track_open(PROGRAM);
    serve_free(serve);
    ck_assert_int_eq(n_files(".saved"), 2);
    usleep(1100000);
    start();
    ck_assert_int_eq(n_closed_told[SERVE_EXPIRED], 1);
    ck_assert_int_eq(get_code(brief.id), PT2_ERR_NOT_FOUND);
    ck_assert_int_eq(n_files(".saved"), 1);
    ck_assert_int_lt(info_of(a.name.id).expires_ms, clock_unix_ms() + 599000);
    STEP(&a, 1, 1, -1);
}
END_TEST

START_TEST(test_keep_a_program_that_is_gone)
{
    struct track a;

    persist();
    open_all(&a, 1, PROGRAM);
    fail_returned = 1;
    restart();
    ck_assert_int_eq(get_code(a.name.id), PT2_ERR_NOT_FOUND);
    ck_assert_int_eq(n_files(""), 0);
}
END_TEST

/* No more sessions or programs than there may be now. */
START_TEST(test_keep_within_the_limits)
{
    struct track all[6];
    int n = 0;

    persist();
    open_all(all, 3, PROGRAM);
    open_all(all + 3, 3, OTHER);
    serve_free(serve);
    if (_i)
        options.max_programs = 1;
    else
        options.max_sessions = 2;
    start();
    for (int i = 0; i < 6; i++)
        if (get_code(all[i].name.id) == PT2_ERR_NONE) {
            STEP(&all[i], 1, 1, -1);
            n++;
        }
    ck_assert_int_eq(n, _i ? 3 : 2);
    ck_assert_int_eq(n_closed_told[SERVE_LOST], 6 - n);
    ck_assert_int_eq(n_files(".saved") + n_files(".spill"), 0);
}
END_TEST

/* Each call on files fails in turn during a stop, and during a start: sessions are lost, or are
 * what they were. */
START_TEST(test_keep_failing_files_lose_or_keep)
{
    struct track all[4];
    long hits = 1;
    int n_there;

    file_fault_code = _i ? EIO : ENOSPC;
    persist();
    for (long at = 1; hits > 0; at++) {
        open_all(all, 4, PROGRAM);
        hits = file_fault_hits;
        file_fault_at = at;
        serve_free(serve);
        hits = file_fault_hits - hits;
        file_fault_at = 0;
        start();
        n_there = 0;
        for (int i = 0; i < 4; i++)
            if (get_code(all[i].name.id) == PT2_ERR_NONE) {
                n_there++;
                STEP(&all[i], 2, 1, -1);
                delete_one(all[i].name.id);
            }
        ck_assert_int_ge(n_there, 3);
        ck_assert_int_eq(fewest("", 0), 0);
        ck_assert(at < 200);
        fake.n_log = 0;
    }
    ck_assert_int_eq(n_there, 4);
}
END_TEST

/* Calls fail, several in a row, while a session that was saved is called: its file can lose the name
 * and not get it back.  It is there all the same: to the next call, or after a stop. */
START_TEST(test_keep_failing_calls_lose_nothing)
{
    enum pt2_error code;
    struct track a;
    long hits = 1;

    persist();
    for (long at = 1; hits > 0; at++) {
        for (int more = 0; more < 4; more++) {
            open_all(&a, 1, PROGRAM);
            restart();
            hits = file_fault_hits;
            file_fault_more = more;
            file_fault_at = at;
            code = track_step(&a, 2, 1, -1);
            hits = file_fault_hits - hits;
            file_fault_at = file_fault_more = 0;
            ck_assert(code == PT2_ERR_NONE || code == PT2_ERR_NO_SPACE);
            if (_i)
                restart();
            STEP(&a, 3, 1, -1);
            delete_one(a.name.id);
            ck_assert_int_eq(fewest(".saved", 0), 0);
            if (_i) /* otherwise one that can't be removed stays until the next start */
                ck_assert_int_eq(fewest("", 0), 0);
            fake.n_log = 0;
        }
        ck_assert(at < 200);
    }
    ck_assert_int_gt(file_fault_hits, 10);
}
END_TEST

/* Any byte of a file another, any length: lost, or what it was. */
START_TEST(test_keep_damaged_files_are_lost_sessions)
{
    AUTO_PTR char *file = NULL;
    char path[PATH_MAX];
    struct track a, was;
    long size;
    FILE *f;

    persist();
    open_all(&a, 1, PROGRAM);
    STEP(&a, 3, 5, -1);
    serve_free(serve);
    path_of(&a, ".saved", path);
    f = fopen(path, "r");
    file = malloc(4096);
    size = (long)fread(file, 1, 4096, f);
    fclose(f);
    ck_assert_int_gt(size, 300);
    for (long i = 0; i < size; i++) {
        f = fopen(path, "w");
        file[i] ^= 1 << i % 8;
        fwrite(file, 1, _i ? (size_t)size : (size_t)i, f);
        file[i] ^= 1 << i % 8;
        fclose(f);
        start();
        was = a;
        if (get_code(a.name.id) == PT2_ERR_NONE) /* in the image: seen when it is read */
            ck_assert_int_eq(track_step(&was, 1, 1, -1), PT2_ERR_SESSION_LOST);
        ck_assert_int_eq(n_files(""), 0);
        serve_free(serve);
    }
    f = fopen(path, "w");
    fwrite(file, 1, (size_t)size, f);
    fclose(f);
    start();
    STEP(&a, 1, 1, -1);
}
END_TEST

/* Another's file under its name. */
START_TEST(test_keep_a_file_of_another_session)
{
    struct track all[2], *wrong = &all[1];
    char from[PATH_MAX], to[PATH_MAX];

    persist();
    open_all(all, 2, PROGRAM);
    serve_free(serve);
    path_of(&all[0], ".saved", from);
    path_of(&all[1], ".saved", to);
    ck_assert_int_eq(rename(from, to), 0);
    start();
    ck_assert_int_eq(get_code(wrong->name.id), PT2_ERR_NOT_FOUND);
    ck_assert_int_eq(n_files(""), 0);
}
END_TEST

/* The step that runs when the stop begins goes on; then all is saved. */
START_TEST(test_keep_after_what_runs)
{
    struct track a;
    struct op op;

    persist();
    open_all(&a, 1, PROGRAM);
    fake.gated = true;
    step_send(&op, a.name.id, 9, 1, -1);
    while (sem_wait(&fake.began) != 0)
        ;
    serve_drain(serve);
    ck_assert(!serve_is_idle(serve));
    fake.gated = false;
    sem_post(&fake.go);
    ck_assert_int_eq(op_wait(&op), PT2_ERR_NONE);
    op_free(&op);
    ck_assert(comes_true(nothing_runs));
    ck_assert_int_eq(n_files(".saved"), 1); /* before the stop */
    a.ids[a.n++] = 9;
    restart();
    STEP(&a, 4, 1, -1);
}
END_TEST

/* A step that has no end is ended, and its session is saved as it was before. */
START_TEST(test_keep_after_what_is_ended)
{
    struct track a;
    struct op op;

    persist();
    open_all(&a, 1, PROGRAM);
    fake.gated = true;
    step_send(&op, a.name.id, 9, 1, -1);
    while (sem_wait(&fake.began) != 0)
        ;
    serve_stop(serve, 50);
    ck_assert_int_eq(op_wait(&op), PT2_ERR_DRAINING);
    op_free(&op);
    fake.gated = false;
    restart();
    STEP(&a, 4, 1, -1);
}
END_TEST

/* Saving takes too long: the stop does not. */
START_TEST(test_keep_ends_with_its_time)
{
    struct track all[3];
    int64_t begun_ms;
    int n = 0;

    persist();
    open_all(all, 3, PROGRAM);
    fake.image_us = 3000000;
    begun_ms = clock_mono_ms();
    serve_stop(serve, 100);
    ck_assert_int_lt(clock_mono_ms() - begun_ms, 8000);
    fake.image_us = 0;
    restart();
    for (int i = 0; i < 3; i++)
        if (get_code(all[i].name.id) == PT2_ERR_NONE) {
            STEP(&all[i], 4, 1, -1);
            n++;
        }
    ck_assert_int_eq(n, 1);
}
END_TEST

/* ---- many at once ---- */

struct client {
    pthread_t thread;
    unsigned seed;
    const char *program;
};

static unsigned draw(struct client *c, unsigned n)
{
    c->seed = c->seed * 1103515245 + 12345;
    return (c->seed >> 16) % n;
}

static void rewind_one(struct track *t, int64_t position)
{
    struct op op;

    op_init(&op, SERVE_REWIND);
    op.call.rewind.position = position;
    if (op_run(&op, t->name.id) == PT2_ERR_NONE)
        t->n = position;
    op_free(&op);
}

static void fork_one(struct track *t)
{
    struct op op;
    struct track fork = *t;

    op_init(&op, SERVE_FORK);
    op.call.fork.position = op.call.fork.ttl_s = -1;
    if (op_run(&op, t->name.id) == PT2_ERR_NONE) {
        memcpy(fork.name.id, op.call.info.id, sizeof(fork.name.id));
        track_step(&fork, 3, 1, -1);
        delete_one(fork.name.id);
    }
    op_free(&op);
}

/* Each client knows its own sessions; whatever fails, their logits are those of their text. */
static void *client_main(void *arg)
{
    struct client *c = arg;
    struct track own[3] = {0};

    for (int i = 0; i < 120; i++) {
        struct track *t = &own[draw(c, 3)];
        unsigned what = draw(c, 10);

        if (!t->name.id[0]) {
            memset(t, 0, sizeof(*t));
            if (try_open(c->program, 600, &t->name) != PT2_ERR_NONE)
                t->name.id[0] = '\0';
        } else if (what == 0) {
            delete_one(t->name.id);
            t->name.id[0] = '\0';
        } else if (what == 1 && t->n > 0) {
            rewind_one(t, draw(c, (unsigned)t->n));
        } else if (what == 2) {
            fork_one(t);
        } else if (what == 3) {
            ck_assert_int_eq(position_of(t->name.id), t->n);
        } else {
            track_step(t, draw(c, 16), 1 + draw(c, 3), t->n > 55 ? 0 : -1);
        }
    }
    for (int i = 0; i < 3; i++)
        if (own[i].name.id[0])
            delete_one(own[i].name.id);
    return NULL;
}

/* Of each 50 calls on files one fails; engines die. */
static void *troublemaker(void *arg)
{
    atomic_bool *over = arg;

    while (!*over) {
        file_fault_at = 50;
        usleep(3000);
        if (fake.n_opened < 40)
            fake.die_new = 5;
        fake.n_log = 0;
    }
    file_fault_at = 0;
    return NULL;
}

START_TEST(test_spill_many_clients_with_faults)
{
    struct client clients[8];
    atomic_bool over = false;
    pthread_t trouble;

    fake.image_us = 100;
    if (_i)
        pthread_create(&trouble, NULL, troublemaker, &over);
    for (unsigned i = 0; i < ARRAY_LEN(clients); i++) {
        clients[i] = (struct client){.seed = 71 + i, .program = i % 3 ? PROGRAM : OTHER};
        pthread_create(&clients[i].thread, NULL, client_main, &clients[i]);
    }
    for (unsigned i = 0; i < ARRAY_LEN(clients); i++)
        pthread_join(clients[i].thread, NULL);
    over = true;
    if (_i)
        pthread_join(trouble, NULL);
    ck_assert_int_eq(n_closed_told[SERVE_LOST], 0);
    ck_assert_int_eq(n_closed_told[SERVE_DELETED], n_open_told);
    ck_assert_int_le(fewest("", _i), _i ? 1000 : 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("spill");
    TCase *core = tcase_create("core"), *limits = tcase_create("limits"),
          *errors = tcase_create("errors"), *keep = tcase_create("keep"),
          *many = tcase_create("many");
    TCase *all[] = {core, limits, errors, keep, many};

    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        tcase_add_checked_fixture(all[i], setup, teardown);
        tcase_set_timeout(all[i], 120);
        suite_add_tcase(s, all[i]);
    }
    tcase_add_test(core, test_spill_round_robin_equals_memory);
    tcase_add_test(core, test_spill_takes_the_one_not_used_longest);
    tcase_add_test(core, test_spill_looks_and_rewinds_take_no_cache);
    tcase_add_test(core, test_spill_forks_saves_and_restores);
    tcase_add_test(core, test_spill_of_an_expired_or_deleted_session_goes);
    tcase_add_test(core, test_spill_makes_room_for_other_programs);
    tcase_add_test(core, test_spill_runners_that_wait_for_each_other);
    tcase_add_test(core, test_spill_caches_that_grow);
    tcase_add_test(limits, test_spill_those_who_wait_make_room);
    tcase_add_test(limits, test_spill_what_runs_stays);
    tcase_add_test(limits, test_spill_all_at_work_take_turns);
    tcase_add_loop_test(limits, test_spill_keeps_within_the_disk_budget, 0, 2);
    tcase_add_test(errors, test_spill_called_meanwhile_stays);
    tcase_add_loop_test(errors, test_spill_deleted_meanwhile_goes, 0, 2);
    tcase_add_test(errors, test_spill_bring_back_into_a_new_engine);
    tcase_add_loop_test(errors, test_spill_damaged_file_is_a_lost_session, 0, 3);
    tcase_add_loop_test(errors, test_spill_failing_files_lose_nothing, 0, 2);
    tcase_add_test(keep, test_keep_sessions_go_on_after_a_restart);
    tcase_add_test(keep, test_keep_what_is_true_stays);
    tcase_add_test(keep, test_keep_none_without_persist);
    tcase_add_test(keep, test_keep_a_kill_never_brings_back_the_past);
    tcase_add_test(keep, test_keep_time_goes_on_while_stopped);
    tcase_add_test(keep, test_keep_a_program_that_is_gone);
    tcase_add_loop_test(keep, test_keep_within_the_limits, 0, 2);
    tcase_add_loop_test(keep, test_keep_failing_files_lose_or_keep, 0, 2);
    tcase_add_loop_test(keep, test_keep_failing_calls_lose_nothing, 0, 2);
    tcase_add_loop_test(keep, test_keep_damaged_files_are_lost_sessions, 0, 2);
    tcase_add_test(keep, test_keep_a_file_of_another_session);
    tcase_add_test(keep, test_keep_after_what_runs);
    tcase_add_test(keep, test_keep_after_what_is_ended);
    tcase_add_test(keep, test_keep_ends_with_its_time);
    tcase_add_loop_test(many, test_spill_many_clients_with_faults, 0, 2);
    return suite_run(s);
}
