/* serve.h - sessions on programs, and the calls on them: all that the endpoints see.
 *
 * A session is a program plus a cache of its own.  An open program has one thread (its
 * "runner"), which owns the engine and every cache of its sessions; the first session
 * opens it, and it closes when it has had none for a while.  Whatever needs the engine is
 * a struct serve_call, embedded in the caller's own struct: fill it in, submit it, and
 * `done` is called once it is through.  Nothing here waits for a step.
 *
 * Calls on one session run one after another in the order received; those of different
 * sessions take turns, long prompts in slices between them.  Where the engine can, steps of
 * several sessions run together.  A call that fails, or is
 * given up before it began, leaves the session as it was.
 *
 * Threads: any, unless said otherwise.  Hooks and done callbacks run with no lock held.
 */
#ifndef SERVE_SERVE_H
#define SERVE_SERVE_H

#include "base/owner.h"

#include <jansson.h>
#include <pt2/engine.h>

struct serve;
struct session;
struct temp_folder; /* store/temp_file.h */

#define SERVE_ID_SIZE      96 /* "ses_<node>-<26 characters>" and the '\0' */
#define SERVE_PROGRAM_SIZE 65 /* 64 hex digits and the '\0' */
#define SERVE_LABEL_SIZE   13 /* the first 12 of them, as metrics name a program */

/* How a session ended; LOST: what was saved of it can't be read. */
enum serve_end { SERVE_DELETED, SERVE_EXPIRED, SERVE_LOST };

/* What outlives the daemon, and who must know of sessions.  May block. */
struct serve_hooks {
    void *context;
    /* A session is about to be answered; -1 with err: it is not made after all. */
    int (*opened)(void *context, const char *id, const char *owner, const char *program,
                  struct pt2_err *err);
    /* One that was saved at a stop is there again; where its program lies (PATH_MAX bytes
     * each, the latter "" where there is none).  -1 with err: it is lost. */
    int (*returned)(void *context, const char *id, const char *owner, const char *program,
                    char *ret_path, char *ret_packed_path, struct pt2_err *err);
    /* It ended.  Called once for each opened or returned one, not at shutdown. */
    void (*closed)(void *context, const char *id, const char *program,
                   enum serve_end how);
    /* The program's file does not open, or was cut under an engine: whoever keeps it should
     * look at it. */
    void (*suspected)(void *context, const char *program);
};

struct serve_options {
    const char *node;         /* [a-z0-9]{1,32}, part of ids; NULL: "local" */
    uint64_t max_cache_bytes; /* what all sessions' caches hold; 0: 4 GiB */
    /* Where caches go that find no room in memory, and sessions at a stop; borrowed until
     * serve_new returns.  NULL: nowhere. */
    const char *saved_path;
    struct temp_folder *temp; /* on the same file system; borrowed */
    uint64_t spill_bytes;     /* of idle sessions' caches, put there; 0: none */
    bool persist;             /* serve_stop saves all sessions, serve_new takes them up */
    unsigned max_sessions;    /* 0: 1024 */
    unsigned max_programs;    /* open at once; 0: 8 */
    unsigned max_waiting;     /* calls of one session; 0: 16 */
    unsigned max_waiting_all; /* calls of all sessions together; 0: 1024 */
    int64_t program_idle_ms;  /* a program without sessions is closed after; 0: 60 s */
    struct pt2_engine_options engine; /* kind is each session's; worker_path borrowed */
    struct serve_hooks hooks;         /* functions may be NULL */
};

/* new: serve_free.  Errors: INVALID (the node's name), NOMEM, INTERNAL (no thread). */
MUST_USE int serve_new(const struct serve_options *options, struct serve **ret_serve,
                       struct pt2_err *err);
/* Refuse new calls and end those that wait, with DRAINING; what runs goes on. */
void serve_drain(struct serve *serve);
/* Does no call run, and while it drains: is all saved?  Calls that wait are not counted. */
bool serve_is_idle(struct serve *serve);
/* Drain, and wait until what runs is through and all is saved, grace_ms at most; then end
 * it, with DRAINING, and save for some seconds more what is left.  What is not saved then is
 * lost. */
void serve_stop(struct serve *serve, int64_t grace_ms);
/* serve_stop with no grace, and free sessions and engines; the hooks are not told. */
void serve_free(struct serve *serve);
DEFINE_AUTO(serve)

/* ---- sessions as seen from outside ---- */

/* What never changes while a session lives. */
struct serve_facts {
    char program[SERVE_PROGRAM_SIZE];
    int64_t batch_size, max_cache_len, vocab_size;
    uint64_t cache_bytes; /* of a cache that is written in full */
    uint64_t file_bytes;  /* of the tensors in the largest file that restores it */
    enum pt2_dtype cache_dtype; /* of the caches' elements */
};

/* Of a session that who (base/owner.h) sees.
 * Errors: NOT_FOUND; sessions_db knows whether it expired or was lost. */
MUST_USE int serve_facts(struct serve *serve, const char *id, const char *who,
                         struct serve_facts *ret_facts, struct pt2_err *err);

/* A session at one moment. */
struct serve_info {
    char id[SERVE_ID_SIZE];
    struct serve_facts facts;
    enum pt2_engine_kind engine;
    int64_t position, rewind_floor;
    int64_t created_ms, expires_ms; /* since 1970, UTC */
    int64_t ttl_s;
    bool is_resident; /* its cache is in memory */
    json_t *labels;   /* new */
    uint64_t number; /* counts sessions in the order they were made; for cursors */
};
void serve_info_done(struct serve_info *info);

/* The sessions that who sees, older than the one numbered `before` (0: all), newest
 * first, at most max: *ret is new (free after serve_info_done on each).  filter may be
 * NULL; it is called under the lock and must be quick. */
MUST_USE int serve_list(struct serve *serve, const char *who, uint64_t before, size_t max,
                        bool (*filter)(void *context, const struct serve_info *info),
                        void *context, struct serve_info **ret, size_t *ret_n,
                        struct pt2_err *err);

/* Delete: its waiting calls end with GONE, a running one goes on to its end (a long
 * prompt: of its slice).  Calls the closed hook, so it may block.
 * Errors: NOT_FOUND, also where who does not see it. */
MUST_USE int serve_delete(struct serve *serve, const char *id, const char *who,
                          struct pt2_err *err);

/* ---- figures ---- */

struct serve_figures {
    unsigned n_sessions, max_sessions;
    uint64_t cache_bytes, max_cache_bytes;
    unsigned n_waiting, n_running; /* calls */
    unsigned n_programs, max_programs;
    double steps_per_second;  /* within the last minute, of those that went well */
    double step_seconds[3];   /* their quantiles 0.5, 0.9, 0.99, with the wait */
};
void serve_figures(struct serve *serve, struct serve_figures *ret_figures);

/* An open program. */
struct serve_program {
    char program[SERVE_PROGRAM_SIZE];
    char label[SERVE_LABEL_SIZE];
    enum pt2_engine_kind engine; /* AUTO: it is being opened */
    unsigned n_sessions, n_ready; /* sessions; those that wait for their turn */
    uint64_t cache_bytes;
};
/* *ret is new (free). */
MUST_USE int serve_programs(struct serve *serve, struct serve_program **ret,
                            size_t *ret_n, struct pt2_err *err);

/* ---- calls ---- */

enum serve_verb {
    SERVE_OPEN,    /* open.*                     -> info */
    SERVE_GET,     /*                            -> info */
    SERVE_STEP,    /* step.*                     -> start, logits */
    SERVE_FORK,    /* fork.*                     -> info, of the new session */
    SERVE_REWIND,  /* rewind.position            -> info */
    SERVE_SAVE,    /*                            -> file */
    SERVE_RESTORE, /* restore.data, restore.size -> info */
};

enum serve_state { SERVE_NEW, SERVE_WAITING, SERVE_RUNNING, SERVE_DONE };

struct serve_call {
    /* ---- filled in by the caller; what is pointed to stays until done ---- */
    enum serve_verb verb;
    /* Called once: from serve_submit, serve_cancel, serve_delete or the runner. */
    void (*done)(struct serve_call *call);
    void *context; /* the caller's */
    /* NULL, or asked before a step runs and a SAVE reads the cache, on the runner's thread, no
     * lock held: may so many bytes be taken for logits or file?  -1 with err: the call fails,
     * and nothing was done.  Of a step that had to wait again it may be asked again. */
    int (*reserve)(struct serve_call *call, uint64_t bytes, struct pt2_err *err);
    /* Who calls (base/owner.h): sessions that he does not see are NOT_FOUND, and those
     * that OPEN and FORK make are owner's, who may have max_sessions (0: any number). */
    const char *who, *owner; /* NULL: sees all; nobody's */
    const char *holder;      /* of whom max_sessions are counted; NULL: owner */
    unsigned max_sessions;
    /* Positions of which the session must be at one when the call begins, else
     * PRECONDITION; n_if_match 0: any. */
    const int64_t *if_match;
    size_t n_if_match;
    union {
        struct {
            const char *program, *path; /* the id, and the archive */
            const char *packed_path;    /* of struct pt2_engine_options; may be NULL */
            enum pt2_engine_kind kind;
            enum pt2_dtype cache_dtype; /* of pt2_cache_new_as; INT8: native alone */
            int64_t ttl_s;
            const json_t *labels; /* copied; NULL: none */
        } open;
        struct {
            const int64_t *input_ids; /* (batch_size, s), checked against the facts */
            int64_t s;                /* 1 to max_cache_len */
            int64_t start;            /* -1: the session's position */
            enum pt2_rows rows;
        } step;
        struct {
            int64_t position; /* -1: the session's */
            int64_t ttl_s;    /* -1: the session's */
        } fork;
        struct {
            int64_t position;
        } rewind;
        struct {
            const char *data; /* a safetensors file */
            size_t size;
        } restore;
    };

    /* ---- what came of it, for done to read ---- */
    struct pt2_err err;     /* code NONE: it worked */
    int64_t position;       /* the session's now; -1 where there is no session */
    struct serve_info info; /* OPEN, GET, FORK, REWIND, RESTORE; serve_call_done frees */
    int64_t start;          /* STEP: the first position taken */
    float *logits;          /* STEP: (batch_size, 0 or 1 or s, vocab_size); likewise */
    char *file;             /* SAVE: file_size bytes; likewise, or taken by the caller */
    size_t file_size;
    int64_t queue_ns, run_ns; /* waited, ran */

    /* ---- serve's own ---- */
    enum serve_state state;
    struct session *session;
    struct runner *runner; /* of a waiting SERVE_OPEN */
    struct serve_call *next;
    int64_t submitted_ns, begun_ns;
    int64_t n_taken; /* tokens of a step that are through */
    struct pt2_undo *undo; /* of a step in slices */
    bool is_spoilt; /* failed; what its cache holds from start on is not to be used */
    bool cancelled; /* before it was submitted */
};

/* Zero it.  Before anything else; a cancel may come at any time afterwards. */
void serve_call_init(struct serve_call *call, enum serve_verb verb,
                     void (*done)(struct serve_call *call), void *context);
/* Free the results. */
void serve_call_done(struct serve_call *call);

/* Hand the call over; id is NULL for SERVE_OPEN.  Never fails visibly: err is in the
 * call, and done is called, maybe before this returns. Errors in err, beside those of the
 * engine: NOT_FOUND, SESSION_EXPIRED, SESSION_LOST, GONE (deleted meanwhile), QUEUE_FULL,
 * BUDGET, TOKEN_LIMIT, DRAINING, PRECONDITION, POSITION_GAP, CANNOT_REWIND, LIMIT (beyond
 * max_cache_len), OTHER_PROGRAM, INVALID (a bad cache file), NOMEM, what the opened hook
 * says, the code of serve_cancel. */
void serve_submit(struct serve *serve, const char *id, struct serve_call *call);

/* Give the call up if it has not begun: it ends with that code.  True where it did (done
 * has been called, or will be by serve_submit); false where it runs or is through. */
bool serve_cancel(struct serve *serve, struct serve_call *call, enum pt2_error code,
                  const char *why);

#endif
