#include "base/buf.h"

#include <stdarg.h>

void buf_init(struct buf *b, size_t max_bytes)
{
    *b = (struct buf)BUF_INIT(max_bytes);
}

void buf_done(struct buf *b)
{
    free(b->data);
    *b = (struct buf)BUF_INIT(b->max);
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    b->failed = false;
    if (b->data)
        b->data[0] = '\0';
}

void *buf_room(struct buf *b, size_t len)
{
    size_t want, cap;
    char *grown;

    if (b->failed)
        return NULL;
    if (len > b->max || b->len > b->max - len) {
        b->failed = true;
        return NULL;
    }
    want = b->len + len + 1;
    if (want > b->cap) {
        cap = MAX(want, MIN(b->max + 1, b->cap * 2));
        cap = MAX(cap, (size_t)64);
        grown = realloc(b->data, cap);
        if (!grown) {
            b->failed = true;
            return NULL;
        }
        b->data = grown;
        b->cap = cap;
    }
    return b->data + b->len;
}

void buf_add(struct buf *b, const void *data, size_t len)
{
    char *to = buf_room(b, len);

    if (!to)
        return;
    if (len)
        memcpy(to, data, len);
    b->len += len;
    b->data[b->len] = '\0';
}

void buf_str(struct buf *b, const char *s)
{
    buf_add(b, s, strlen(s));
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    char *to;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) {
        b->failed = true;
        return;
    }
    to = buf_room(b, (size_t)n);
    if (!to)
        return;
    va_start(ap, fmt);
    vsnprintf(to, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
}

char *buf_take(struct buf *b)
{
    char *data;

    if (!buf_room(b, 0))
        return NULL;
    b->data[b->len] = '\0';
    data = b->data;
    b->data = NULL;
    b->len = b->cap = 0;
    return data;
}
