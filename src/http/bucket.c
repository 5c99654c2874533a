#include "http/bucket.h"

static void fill(struct bucket *b, uint64_t rate, int64_t now_ms)
{
    if (b->filled_ms == 0)
        b->level = (double)rate;
    else if (now_ms > b->filled_ms)
        b->level += (double)(now_ms - b->filled_ms) * (double)rate / 1000;
    b->level = MIN(b->level, (double)rate);
    b->filled_ms = MAX(b->filled_ms, now_ms);
}

void bucket_take(struct bucket *b, uint64_t rate, uint64_t n, int64_t now_ms)
{
    fill(b, rate, now_ms);
    b->level -= (double)n;
}

int64_t bucket_wait_ms(struct bucket *b, uint64_t rate, int64_t now_ms)
{
    double ms;

    fill(b, rate, now_ms);
    if (b->level >= 0)
        return 0;
    ms = -b->level * 1000 / (double)rate;
    return ms < 1e12 ? (int64_t)ms + 1 : (int64_t)1e12;
}

bool bucket_is_full(struct bucket *b, uint64_t rate, int64_t now_ms)
{
    fill(b, rate, now_ms);
    return b->level >= (double)rate;
}
