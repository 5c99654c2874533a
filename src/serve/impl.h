/* impl.h - what the files of src/serve share: the sessions, the runners, the one lock.
 *
 *   serve.c    what the endpoints call; the keeper, which expires sessions
 *   session.c  one session: facts, rules of positions, the table of ids
 *   runner.c   an open program: its engine, its queue, its start and end
 *   turns.c    the thread of an open program: whose turn it is, which steps run together
 *   work.c     what that thread does for each kind of call
 *   budget.c   the memory of all caches
 *   holders.c  how many sessions and waiting calls each owner has
 *   spill.c    idle sessions' caches, put on the disk where memory is short, and back
 *   keep.c     all sessions, saved at a stop and taken up by the next start
 *   figures.c  what metrics and statistics say of all this
 *
 * serve->lock guards everything here but what is marked otherwise.  It is never held
 * while an engine, a hook or a done callback runs. */
#ifndef SERVE_IMPL_H
#define SERVE_IMPL_H

#include "base/clock.h"
#include "serve/saved.h"
#include "base/recent.h"
#include "serve/serve.h"

#include <limits.h>
#include <pthread.h>

#define SERVE_BUCKETS    4096
#define SERVE_MAX_LABELS 32

/* An opened engine and how many caches live with it.  The runner's thread only. */
struct home {
    struct pt2_engine *engine;
    unsigned n_caches;
    struct home *next; /* of its runner's */
};

struct session {
    /* constant once it is in the table */
    char id[SERVE_ID_SIZE];
    struct serve_facts facts;
    enum pt2_engine_kind engine;
    bool can_rewind;
    char owner[OWNER_SIZE];
    char holder[OWNER_SIZE]; /* as whose it counts; holders.c */
    int64_t created_ms, ttl_s;
    uint64_t number;
    json_t *labels;
    struct runner *runner;

    /* Written under the lock; while a call runs, by the runner alone. */
    int64_t position, rewind_floor;

    /* under the lock */
    int64_t used_ns;                  /* the last use; monotonic */
    struct serve_call *first, **last; /* that wait */
    unsigned n_waiting;
    struct serve_call *running; /* the one that has begun */
    bool is_ready;              /* in its runner's ready list */
    uint64_t answered_in;       /* the run of its last step */
    bool is_doomed;             /* deleted or expired: no longer in the table */
    uint64_t cache_bytes;       /* its part of the runner's */
    bool is_away;               /* its cache is in a file, and not in memory */
    bool is_kept;               /* the file is an ID.saved, and true */
    bool is_leaving;            /* its runner is asked to put it away */
    bool was_stopped;           /* saved by the stop, or lost by it */
    struct session *next_ready, *next_drop;
    struct session *next_hash;
    struct session *older, *newer;

    /* the runner's thread only */
    struct pt2_cache *cache; /* NULL: is_away */
    struct home *home;
    struct saved_image image; /* of a cache that is away; its bytes also under the lock */
    enum pt2_dtype made_as;   /* pt2_cache_dtype, of that */
    int64_t kept_used_ns;     /* used_ns as ID.saved has it */
};

/* Steps that run together.  The runner's thread only. */
#define BATCH_MAX 64
struct batch {
    size_t n;
    int64_t n_rows;
    struct session *sessions[BATCH_MAX];
    struct pt2_step steps[BATCH_MAX]; /* of the sessions' running calls */
};

/* Whether to wait, before the next run, for those that the last one answered: a client that
 * steps on sends its next token at once, and finds others' steps about to run without it. */
struct gathering {
    uint64_t run;                /* counts them, from 1 on */
    unsigned n_returning;        /* were answered in it and have not called again */
    int64_t until_ns;            /* monotonic; not longer */
    unsigned n_skips, n_skipped; /* waits to do without, since nobody came */
};

/* An open program. */
struct runner {
    struct serve *serve;
    char program[SERVE_PROGRAM_SIZE];
    char label[SERVE_LABEL_SIZE]; /* constant: the program, in metrics */
    char path[PATH_MAX], packed_path[PATH_MAX]; /* the latter "" where there is none */
    pthread_t thread;

    /* under the lock */
    enum pt2_engine_kind asked; /* constant */
    enum pt2_engine_kind kind;  /* AUTO until it is open */
    pthread_cond_t wake;
    struct serve_call *opens, **last_open; /* sessions to be made */
    struct session *ready, **last_ready;   /* have work; turn by turn */
    struct session *drops;                 /* to be freed by the thread */
    unsigned n_sessions;                   /* with those to be made */
    uint64_t cache_bytes;                  /* its part of the serve's */
    unsigned n_leaving;                    /* sessions that are asked to leave */
    bool is_saved;                         /* all its sessions, at a stop */
    struct gathering gathering;
    int64_t idle_since_ns;
    bool is_evicted; /* to end at once; no longer in serve->runners */
    struct runner *next;

    /* the thread only */
    struct home *home;  /* NULL: not open, or died */
    struct home *homes; /* that one, and those that died and still have caches */
    bool was_open;      /* it has been open once */
    struct batch batch;
};

struct serve {
    struct serve_options options;
    char node[33];
    pthread_mutex_t lock;
    pthread_cond_t keeper_wake; /* a runner has finished, ending, a nearer expiry */
    pthread_cond_t quiet;       /* n_busy fell to 0, a runner has finished */
    pthread_t keeper;

    struct session *table[SERVE_BUCKETS];
    struct session *newest, *oldest;
    uint64_t last_number;
    unsigned n_sessions;  /* with those to be made */
    unsigned n_waiting;   /* calls in queues */
    struct holder *holders; /* of these sessions and calls; holders.c */
    uint64_t cache_bytes; /* that all caches hold, or were promised */
    struct runner *runners;
    struct runner *finished; /* to be joined */
    unsigned n_threads;      /* runners not yet joined */
    struct recent recent;    /* steps that went well: from their submission to their end */
    char labels[SERVE_MAX_LABELS][SERVE_LABEL_SIZE]; /* programs that metrics name */
    unsigned n_labels;
    int stop_fd;             /* readable once engines are to end what they do */
    unsigned n_busy;         /* calls that run, until done has returned */
    bool draining, abandoning, ending;

    struct saved_folder saved;  /* constant */
    pthread_cond_t spilled;     /* n_spill_ends rose, or a session is asked to leave */
    uint64_t spill_bytes;       /* that files take, or were promised */
    unsigned n_away, n_leaving; /* sessions; the latter: asked or being put away */
    unsigned n_returning;       /* those that make room for themselves to come back */
    uint64_t n_spill_ends, n_spill_failures;
    int64_t spill_warned_ns; /* the last warning; monotonic */
    atomic_bool is_late;     /* no lock: a stop's time is over, what is not saved is lost */
};

/* A session ends, now: take it out of the table, give up the calls that wait with the code,
 * tell the hook.  Called with the lock, returns without. */
void serve_end_unlock(struct serve *serve, struct session *s, enum serve_end how,
                      enum pt2_error code, const char *why);
/* Tell the hook of a session that is not in the table. */
void serve_tell_closed(struct serve *serve, const char *id, const char *program,
                       enum serve_end how);

/* End a call: its state, times and metrics; then done, so with no lock held. */
void serve_finish(struct serve *serve, struct serve_call *call);

/* ---- figures.c ---- */

void figures_init(const struct serve *serve);
/* Gauges that change with sessions and caches. */
void figures_publish_locked(const struct serve *serve);
/* The program's name in metrics: its first digits, "other" beyond SERVE_MAX_LABELS of
 * them since the start. */
void figures_label_locked(struct serve *serve, const char *program,
                          char ret_label[SERVE_LABEL_SIZE]);
/* A step that ended; its call's times are set. */
void figures_step(struct serve *serve, const struct serve_call *call);
void figures_batch(const struct batch *batch);

/* ---- session.c; all _locked but session_new and session_free ---- */

/* An empty one with an id of its own, not in the table.  labels and owner (NULL: nobody)
 * are copied. */
MUST_USE int session_new(const char *node, const char *owner, const json_t *labels,
                         struct session **ret_session, struct pt2_err *err);
void session_free(struct session *s); /* the cache has gone before */
DEFINE_AUTO(session)
void session_insert_locked(struct serve *serve, struct session *s);
/* NULL where there is none that who sees, or it has expired. */
struct session *session_find_locked(struct serve *serve, const char *id,
                                    const char *who);
/* Take it out of the table and give back what it reserved; the runner frees it. */
void session_doom_locked(struct serve *serve, struct session *s);
bool session_is_idle_locked(const struct session *s);
int64_t session_expires_ns_locked(const struct session *s);
MUST_USE int session_info_locked(const struct session *s, struct serve_info *ret_info,
                                 struct pt2_err *err);
void session_push_locked(struct session *s, struct serve_call *call);
struct serve_call *session_pop_locked(struct session *s);
bool session_remove_locked(struct session *s, struct serve_call *call);

/* The rules of positions, for a session whose call runs or that is idle.  Errors:
 * POSITION_GAP, CANNOT_REWIND, LIMIT; PRECONDITION. */
MUST_USE int session_check_step(const struct session *s, int64_t start, int64_t n,
                                struct pt2_err *err);
MUST_USE int session_check_rewind(const struct session *s, int64_t position,
                                  struct pt2_err *err);
MUST_USE int session_check_match(const struct session *s, const struct serve_call *call,
                                 struct pt2_err *err);

/* ---- runner.c ---- */

/* The runner for a program, started where it is not open; counts one more session to be
 * made in it.  Errors: BUDGET, NOMEM, INTERNAL (no thread). */
MUST_USE int runner_for_locked(struct serve *serve, const struct serve_call *open,
                               struct runner **ret_runner, struct pt2_err *err);
void runner_push_open_locked(struct runner *r, struct serve_call *open);
bool runner_remove_open_locked(struct runner *r, struct serve_call *open);
void runner_push_ready_locked(struct runner *r, struct session *s);
/* The session has called: no need to wait for it. */
void runner_returned_locked(struct session *s);
/* Before all others: it had its turn, and something is left of it. */
void runner_push_back_locked(struct runner *r, struct session *s);
struct session *runner_pop_ready_locked(struct runner *r);
struct serve_call *runner_pop_open_locked(struct runner *r);
/* Out of the serve's list: it takes no more sessions. */
void runner_unlink_locked(struct runner *r);
/* Free the engine; its caches have gone. */
void runner_close(struct runner *r);
void runner_free(struct runner *r); /* after its thread was joined */

/* The thread only: a live engine; opened, or opened anew where it died. */
MUST_USE int runner_engine(struct runner *r, struct pt2_engine **ret_engine,
                           struct pt2_err *err);
/* Whoever keeps the program's file should look at it; no lock. */
void runner_suspect(const struct runner *r);
/* The same for a session's cache, which moves along. */
MUST_USE int runner_settle(struct runner *r, struct session *s,
                           struct pt2_engine **ret_engine, struct pt2_err *err);
void runner_drop_cache(struct runner *r, struct session *s);
/* A cache in the runner's engine; one that died while it rested is opened anew. */
MUST_USE int runner_make_cache(struct runner *r, struct pt2_engine *engine,
                               enum pt2_dtype dtype, struct pt2_cache **ret_cache,
                               struct pt2_err *err);
/* It is the session's from now on; taken. */
void runner_give_cache(struct runner *r, struct session *s, struct pt2_cache *cache);
/* What the runner's caches hold. */
uint64_t runner_cache_bytes(const struct runner *r);

/* ---- turns.c ---- */

/* The thread of a runner. */
void *turns_run(void *runner);

/* ---- budget.c ---- */

/* Promise bytes to a cache of the runner; s may be NULL, for one that is being made.  Where
 * they are not there, others' caches are put on the disk first.  Errors: BUDGET. */
MUST_USE int budget_reserve(struct runner *r, struct session *s, uint64_t bytes,
                            struct pt2_err *err);
/* Count what the runner's caches really hold, in place of what was promised. */
void budget_settle_locked(struct runner *r);
/* The session's cache is about to go. */
void budget_give_back_locked(struct session *s);

/* A call has begun, or is given up: it is in no queue any more. */
void serve_waits_no_more_locked(struct serve *serve, const struct serve_call *call);

/* ---- holders.c ---- */

/* As whose a session that the call makes counts. */
const char *holders_of(const struct serve_call *call);

/* Count one more session of owner (NULL: nobody), who may have max (0: any number).
 * Errors: TOKEN_LIMIT, NOMEM. */
MUST_USE int holders_add_locked(struct serve *serve, const char *owner, unsigned max,
                                struct pt2_err *err);
/* One that was counted is gone, or came to nothing. */
void holders_remove_locked(struct serve *serve, const char *owner);
/* The same for his calls that wait, of which he may have half of what there may be. */
MUST_USE int holders_wait_locked(struct serve *serve, const char *owner,
                                 struct pt2_err *err);
void holders_wait_no_more_locked(struct serve *serve, const char *owner);
void holders_done(struct serve *serve); /* those of sessions that the end found open */

/* The runner's caches held that much less than before: after one was dropped. */
void budget_freed_locked(struct runner *r, uint64_t before);

/* ---- spill.c; the runner's thread ---- */

/* Put the cache of the session that was not used for the longest time on the disk, or wait
 * until another runner has.  True: there may be more room now. */
bool spill_make_room_locked(struct runner *r);
/* Put away the sessions that other runners wait for. */
void spill_leaving_locked(struct runner *r);
/* The other way; no lock.  Errors: BUDGET; SESSION_LOST (the session has ended), GONE, and
 * those of opening an engine and reading. */
MUST_USE int spill_bring_back(struct runner *r, struct session *s, struct pt2_err *err);
/* The session's file is no longer true; before it changes.  No lock.  Errors: IO. */
MUST_USE int spill_unkeep(struct runner *r, struct session *s, struct pt2_err *err);
/* Its file goes, with the session; no lock. */
void spill_forget(struct runner *r, struct session *s);
/* It is not asked to leave any more; any thread. */
void spill_stays_locked(struct session *s);

/* ---- keep.c ---- */

/* At a stop, once the runner has nothing else to do: save its sessions.  False: there is
 * nothing to be done.  The runner's thread. */
bool keep_sessions_locked(struct runner *r);
/* Is there a stop that has sessions to save? */
bool keep_is_due_locked(const struct serve *serve);
/* At a start: take up what was saved, remove what else lies in the folder.  Errors: IO. */
MUST_USE int keep_take_up(struct serve *serve, struct pt2_err *err);
/* A session, new and in no table, of what its file says.  Errors: INVALID (it can't be), NOMEM,
 * INTERNAL. */
MUST_USE int keep_read_facts(const json_t *facts, const char *id, const char *node,
                             struct session **ret_session, int64_t *ret_expires_ms,
                             struct pt2_err *err);

/* ---- work.c; the runner's thread, no lock held but where it says so ---- */

/* Make the session of a SERVE_OPEN. */
void work_open(struct runner *r, struct serve_call *call);
/* Do a session's call that is no step, in call->err what went wrong. */
void work_other(struct runner *r, struct session *s, struct serve_call *call);
/* Begin or go on with a step: the slice of it that is to be run now, of room rows at most
 * (-1: any).  False: it does not fit (room is what it was), or call->err says what went
 * wrong. */
bool work_slice(struct runner *r, struct session *s, struct serve_call *call,
                int64_t room, struct pt2_step *ret_step);
/* The slice that failed is to be asked for again. */
void work_slice_back(struct serve_call *call);
/* The slice was run.  True: there are more of the call, after the others' turns. */
bool work_slice_done(struct serve_call *call, const struct pt2_step *step);
/* The call is through; if err is set, undo what it has done. */
void work_end(struct serve_call *call);
/* After that, of a call that is spoilt: the session goes back to where the step began. */
void work_spoilt_locked(struct session *s, const struct serve_call *call);
/* Write what a call changes of the session: positions. */
void work_commit_locked(struct session *s, struct serve_call *call);
/* Can the call be done under the lock, by any thread, when the session is idle?  Then do
 * it. */
bool work_is_light(const struct session *s, const struct serve_call *call);
void work_light_locked(struct session *s, struct serve_call *call);

#endif
