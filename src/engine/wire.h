/* wire.h - what the daemon and a worker (pt2-aten) say to each other.
 *
 * Over a SEQPACKET socket pair, the worker's end being its descriptor WIRE_FD: the daemon
 * sends a struct wire_request, with a descriptor where the verb says so, and gets one
 * struct wire_reply; then the next.  The worker speaks only when asked, and ends when the
 * socket closes.  Both are of one build (wire_request_open.version), so these are plain
 * structs of the machine.  What is large lies in shared memory (layout.h).
 *
 * The daemon trusts nothing in a reply: worker.c and open.c check each field. */
#ifndef ENGINE_WIRE_H
#define ENGINE_WIRE_H

#include <pt2/err.h>
#include <stdint.h>

#define WIRE_FD      3
#define WIRE_VERSION PACKAGE_VERSION " 2" /* the number grows when a struct changes */

enum wire_verb {
    WIRE_OPEN = 1, /* + the archive: load it; once, first */
    WIRE_BUFFER,   /* which is session buffer i? */
    WIRE_AREA,  /* + memory: the area for tokens and logits, in place of the last one */
    WIRE_MAP,   /* + memory: the cache in this slot */
    WIRE_UNMAP, /* the slot is free again */
    WIRE_RUN,   /* one run of the graph on a slot's cache */
};

#define WIRE_MAX_CACHES 65536

struct wire_request {
    uint32_t verb;
    uint32_t slot; /* MAP, UNMAP, RUN */
    union {
        struct {
            char version[32];
            uint32_t n_threads;     /* never 0 */
            uint64_t max_run_bytes; /* never 0 */
        } open;
        uint64_t i;    /* BUFFER */
        uint64_t size; /* AREA, MAP: of the memory, bytes */
        struct {
            int64_t s;                 /* rows that the graph computes */
            int64_t first_row, n_rows; /* whose logits are wanted */
            /* For tests.  fail_at -1: no.  Otherwise the run fails in place of that call,
             * those before it done; dies: the worker kills itself instead of answering.
             */
            int64_t fail_at;
            uint32_t dies;
        } run;
    };
};

struct wire_reply {
    uint32_t verb; /* the request's */
    uint32_t code; /* enum pt2_error; NONE: done */
    char text[sizeof(((struct pt2_err *)NULL)->text)];
    union {
        struct {
            uint64_t n_buffers;
            uint64_t n_calls; /* of one run, for tests */
        } open;
        struct {
            uint64_t input; /* the place among the program's inputs */
            int32_t position_dim;
            uint32_t is_ring, is_counter;
        } buffer;
    };
};

#endif
