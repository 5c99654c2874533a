/* C++ for std::to_chars alone; nothing here throws. */
#include "base/num.h"

#include <charconv>
#include <cmath>

static const size_t BLOCK = 32; /* numbers whose room is taken at once */

static size_t put_text(char *to, const char *text, size_t len)
{
    memcpy(to, text, len);
    return len;
}

template <typename T> static size_t put(char *to, T value, size_t max)
{
    if (std::isnan(value))
        return put_text(to, "\"NaN\"", 5);
    if (std::isinf(value))
        return value > 0 ? put_text(to, "\"Infinity\"", 10)
                         : put_text(to, "\"-Infinity\"", 11);
    size_t len = (size_t)(std::to_chars(to, to + max, value).ptr - to);
    for (size_t i = 0; i < len; i++)
        if (to[i] == '.' || to[i] == 'e')
            return len;
    to[len] = '.';
    to[len + 1] = '0';
    return len + 2;
}

template <typename T>
static void add(struct buf *b, const T *values, size_t n, size_t max)
{
    for (size_t i = 0; i < n;) {
        size_t end = MIN(n, i + BLOCK);
        char *to = (char *)buf_room(b, (end - i) * (max + 1)), *at = to;

        if (!to)
            return;
        for (; i < end; i++) {
            if (i)
                *at++ = ',';
            at += put(at, values[i], max);
        }
        b->len += (size_t)(at - to);
        b->data[b->len] = '\0';
    }
}

size_t num_put_float(char *to, float value)
{
    return put(to, value, NUM_FLOAT_CHARS);
}

size_t num_put_double(char *to, double value)
{
    return put(to, value, NUM_DOUBLE_CHARS);
}

void num_add_floats(struct buf *b, const float *values, size_t n)
{
    add(b, values, n, NUM_FLOAT_CHARS);
}

void num_add_doubles(struct buf *b, const double *values, size_t n)
{
    add(b, values, n, NUM_DOUBLE_CHARS);
}
