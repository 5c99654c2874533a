/* fake_engine.h - engine.h without a program: for tests of what calls it.
 *
 * Linked in place of src/engine.  A cache holds what was fed at each position, and the
 * logits are a function of all that a row can see, so that a wrong position, a lost or a
 * foreign write shows in them.  A buffer without positions counts the written ones, as
 * the exports of Transformers do.
 *
 * Calls on one engine from two threads at once, caches that outlive their engine, reads
 * of positions that were never written: each aborts.  Set the struct's fields before a
 * step, under nothing; counters may be read at any time. */
#ifndef TESTS_FAKE_ENGINE_H
#define TESTS_FAKE_ENGINE_H

#include <pt2/engine.h>

#include <semaphore.h>
#include <stdatomic.h>

#define FAKE_LOG 16384

struct fake {
    /* what the next program is; set before it is opened */
    int64_t batch_size, max_cache_len, vocab_size, seq_len;
    bool can_rewind;
    bool has_native;      /* pt2_engine_open makes engines of both kinds */
    bool logits_all_rows;
    const char *refusal[3]; /* by kind: why it is refused; NULL: it is not */
    struct { /* a wrong logit of id 1 in each run of that kind and way; by 0: none */
        enum pt2_engine_kind kind;
        bool at_once; /* in steps of more than one token, or in those of one */
        int64_t position;
        float by;
    } wrong;
    /* any time */
    atomic_bool grows;                /* a cache costs 64 bytes a position, when written */
    _Atomic int64_t slice, max_rows;  /* pt2_engine_slice (0: as aten), pt2_engine_max_rows */
    atomic_int run_us, image_us;      /* what a run takes, and putting a cache away */
    /* faults: the n-th call from now on (1: the next one); 0: never */
    atomic_int fail_open, fail_new, die_new, fail_step, die_step, fail_write,
        fail_take_back, cut_step; /* the last: runs on a cut file, so writes what is not true */
    /* where set, a step posts `began` and then waits for `go` */
    atomic_bool gated;
    sem_t began, go;

    atomic_int n_engines, n_caches; /* alive */
    atomic_int n_opened, n_adopted, n_undos;
    /* each step: the first id of its ids, its length, how many ran with it */
    int64_t log_id[FAKE_LOG], log_s[FAKE_LOG];
    int log_together[FAKE_LOG];
    atomic_int n_log;
};
extern struct fake fake;

/* A small program, nothing wrong with it. */
void fake_reset(void);
/* What the logits after these ids, from position 0 on, have to be. */
void fake_expect(const int64_t *ids, int64_t n, float *logits);

#endif
