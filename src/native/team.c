#include "native/team.h"

#include "base/cores.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#define MAX_THREADS 64
/* Rounds of the spin before a thread sleeps: some 30 us, longer than a plan's usual step and
 * than the pause between two steps of a busy session. */
#define SPINS 1000

/* A word that threads wait on until it changes. */
struct turnstile {
    _Atomic uint32_t turn;
    _Atomic uint32_t n_asleep;
};

struct part {
    struct team *team;
    unsigned number;
    pthread_t thread;
};

struct team {
    unsigned n_threads; /* the caller's own is one of them */
    unsigned n_started;
    struct part parts[MAX_THREADS];

    pthread_mutex_t one_job; /* held while a job runs */
    void (*job)(void *context, unsigned part);
    void *context;
    atomic_bool ending;
    _Alignas(64) struct turnstile start;
    _Alignas(64) struct turnstile meeting;
    _Atomic uint32_t n_here;
};

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void wait_for_turn(struct turnstile *t, uint32_t old)
{
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(&t->turn, memory_order_acquire) != old)
            return;
        relax();
    }
    atomic_fetch_add(&t->n_asleep, 1);
    while (atomic_load(&t->turn) == old)
        syscall(SYS_futex, &t->turn, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
    atomic_fetch_sub(&t->n_asleep, 1);
}

static void next_turn(struct turnstile *t)
{
    atomic_fetch_add(&t->turn, 1);
    if (atomic_load(&t->n_asleep) > 0)
        syscall(SYS_futex, &t->turn, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

void team_meet(struct team *team)
{
    uint32_t turn = atomic_load(&team->meeting.turn);

    if (atomic_fetch_add(&team->n_here, 1) + 1 < team->n_threads) {
        wait_for_turn(&team->meeting, turn);
        return;
    }
    atomic_store(&team->n_here, 0);
    next_turn(&team->meeting);
}

static void *work(void *arg)
{
    struct part *part = arg;
    struct team *team = part->team;
    uint32_t turn = 0;

    pthread_setname_np(pthread_self(), TEAM_THREAD_NAME);
    while (true) {
        wait_for_turn(&team->start, turn);
        if (atomic_load(&team->ending))
            return NULL;
        turn++;
        team->job(team->context, part->number);
        team_meet(team);
    }
}

void team_run(struct team *team, void (*job)(void *context, unsigned part), void *context)
{
    pthread_mutex_lock(&team->one_job);
    team->job = job;
    team->context = context;
    if (team->n_threads > 1)
        next_turn(&team->start);
    job(context, 0);
    team_meet(team);
    pthread_mutex_unlock(&team->one_job);
}

unsigned team_n_threads(const struct team *team)
{
    return team->n_threads;
}

void team_free(struct team *team)
{
    if (!team)
        return;
    atomic_store(&team->ending, true);
    next_turn(&team->start);
    for (unsigned i = 1; i <= team->n_started; i++)
        pthread_join(team->parts[i].thread, NULL);
    pthread_mutex_destroy(&team->one_job);
    free(team);
}

int team_new(unsigned n_threads, struct team **ret_team, struct pt2_err *err)
{
    AUTO(team) team = aligned_alloc(64, sizeof(*team));

    if (!team)
        return pt2_err_set(err, PT2_ERR_NOMEM, "compute threads");
    memset(team, 0, sizeof(*team));
    pthread_mutex_init(&team->one_job, NULL);
    team->n_threads = n_threads ? n_threads : cores_count();
    team->n_threads = MIN(team->n_threads, MAX_THREADS);
    for (unsigned i = 1; i < team->n_threads; i++) {
        team->parts[i] = (struct part){.team = team, .number = i};
        errno = pthread_create(&team->parts[i].thread, NULL, work, &team->parts[i]);
        if (errno != 0)
            return pt2_err_errno(err, PT2_ERR_INTERNAL, "cannot start a compute thread");
        team->n_started = i;
    }
    *ret_team = TAKE(team);
    return 0;
}

int team_shared(unsigned n_threads, struct team **ret_team, struct pt2_err *err)
{
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static struct team *shared;
    int r = 0;

    pthread_mutex_lock(&mutex);
    if (!shared)
        r = team_new(n_threads, &shared, err);
    if (r == 0)
        *ret_team = shared;
    pthread_mutex_unlock(&mutex);
    return r;
}
