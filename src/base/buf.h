/* buf.h - bytes that grow up to a maximum given at init.
 *
 * One thread at a time.  The first failure (out of memory, beyond the maximum) sticks:
 * later calls do nothing, and buf_failed() says so; check it once at the end.  The bytes
 * are always followed by a '\0' that does not count. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include "base/util.h"

struct buf {
    char *data; /* NULL until the first byte */
    size_t len, cap;
    size_t max; /* bytes */
    bool failed;
};

#define BUF_INIT(max_bytes) {.max = (max_bytes)}

void buf_init(struct buf *b, size_t max_bytes);
void buf_done(struct buf *b);
void buf_clear(struct buf *b); /* keeps the memory */
void buf_add(struct buf *b, const void *data, size_t len);
void buf_str(struct buf *b, const char *s);
void buf_printf(struct buf *b, const char *fmt, ...) PT2_PRINTF(2, 3);
/* Room for len more bytes, to be written by the caller and then counted in b->len.
 * NULL on failure. */
void *buf_room(struct buf *b, size_t len);
static inline bool buf_failed(const struct buf *b)
{
    return b->failed;
}
/* The bytes, new (caller frees), '\0' behind them; the buf is empty afterwards. */
char *buf_take(struct buf *b);

#define AUTO_BUF __attribute__((cleanup(buf_done))) struct buf

#endif
