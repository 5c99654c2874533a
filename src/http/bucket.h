/* bucket.h - a rate that is kept: bytes that may pass now, more with time.
 *
 * It holds one second's worth.  Who takes more than there is leaves a debt, and the next
 * one waits until that is paid; so any number of takers together keep to the rate,
 * whatever the size of what each of them takes.  Plain arithmetic: one thread at a time,
 * and time (monotonic milliseconds) is the caller's. */
#ifndef HTTP_BUCKET_H
#define HTTP_BUCKET_H

#include "base/util.h"

struct bucket {
    double level;      /* bytes; below 0: owed */
    int64_t filled_ms; /* when level was true; 0: never, so it is full */
};

/* Take n bytes at a rate of bytes a second (not 0). */
void bucket_take(struct bucket *b, uint64_t rate, uint64_t n, int64_t now_ms);
/* How long until nothing is owed, in milliseconds; 0: now. */
int64_t bucket_wait_ms(struct bucket *b, uint64_t rate, int64_t now_ms);
/* Is it as full as a new one? */
bool bucket_is_full(struct bucket *b, uint64_t rate, int64_t now_ms);

#endif
