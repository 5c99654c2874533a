#include "base/scan.h"

#include "base/utf8.h"

#include <errno.h>
#include <stdarg.h>

void scan_begin(struct scan *s, char *text, size_t len, const char *what,
                enum pt2_error code, struct pt2_err *err)
{
    *s = (struct scan){.p = text,
                       .begin = text,
                       .end = text + len,
                       .what = what,
                       .code = code,
                       .err = err};
}

int scan_fail(struct scan *s, const char *fmt, ...)
{
    char text[300];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return pt2_err_set(s->err, s->code, "%s, byte %td: %s", s->what, s->p - s->begin,
                       text);
}

static void skip_space(struct scan *s)
{
    while (s->p < s->end &&
           (*s->p == ' ' || *s->p == '\n' || *s->p == '\r' || *s->p == '\t'))
        s->p++;
}

char scan_peek(struct scan *s)
{
    skip_space(s);
    return s->p < s->end ? *s->p : '\0';
}

int scan_enter(struct scan *s, char open)
{
    if (scan_peek(s) != open)
        return scan_fail(s, "expected %s", open == '{' ? "an object" : "an array");
    if (s->depth == SCAN_MAX_NESTING)
        return scan_fail(s, "nested more than %d levels deep", SCAN_MAX_NESTING);
    s->p++;
    s->depth++;
    s->close[s->depth] = open == '{' ? '}' : ']';
    s->has_items &= ~(UINT64_C(1) << s->depth);
    return 0;
}

int scan_item(struct scan *s)
{
    uint64_t bit = UINT64_C(1) << s->depth;
    char c = scan_peek(s);

    if (c == s->close[s->depth]) {
        s->p++;
        s->depth--;
        return 0;
    }
    if (s->has_items & bit) {
        if (c != ',')
            return scan_fail(s, "expected ',' or '%c'", s->close[s->depth]);
        s->p++;
    }
    s->has_items |= bit;
    return 1;
}

int scan_member(struct scan *s, const char **ret_name)
{
    int more = scan_item(s);

    if (more <= 0)
        return more;
    if (scan_string(s, ret_name) < 0)
        return -1;
    if (scan_peek(s) != ':')
        return scan_fail(s, "expected ':'");
    s->p++;
    return 1;
}

/* Four hex digits at p, -1 where they are none. */
static int32_t hex4(const char *p, const char *end)
{
    int32_t v = 0;

    if (end - p < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;

        if (digit < 0)
            return -1;
        v = v << 4 | digit;
    }
    return v;
}

/* What follows "\u" at s->p, written to to, which lies before it. */
static int unicode_escape(struct scan *s, char **to)
{
    int32_t c = hex4(s->p, s->end), low;
    char utf8[4];
    size_t n;

    if (c < 0)
        return scan_fail(s, "expected four hexadecimal digits");
    s->p += 4;
    if (c >= 0xd800 && c <= 0xdbff) {
        low = s->end - s->p >= 6 && s->p[0] == '\\' && s->p[1] == 'u'
                  ? hex4(s->p + 2, s->end)
                  : -1;
        if (low < 0xdc00 || low > 0xdfff)
            return scan_fail(s, "half a surrogate pair");
        s->p += 6;
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    } else if (c >= 0xdc00 && c <= 0xdfff) {
        return scan_fail(s, "half a surrogate pair");
    }
    if (c == 0)
        return scan_fail(s, "U+0000 in a string");
    n = utf8_put(utf8, (uint32_t)c);
    memcpy(*to, utf8, n);
    *to += n;
    return 0;
}

static int escape(struct scan *s, char **to)
{
    static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
    const char *at;
    char c;

    if (s->p == s->end)
        return scan_fail(s, "a string does not end");
    c = *s->p++;
    if (c == 'u')
        return unicode_escape(s, to);
    at = c ? strchr(from, c) : NULL;
    if (!at)
        return scan_fail(s, "no such escape");
    *(*to)++ = into[at - from];
    return 0;
}

int scan_string(struct scan *s, const char **ret_string)
{
    char *to, *start;

    if (scan_peek(s) != '"')
        return scan_fail(s, "expected a string");
    to = start = ++s->p;
    while (s->p < s->end && *s->p != '"') {
        size_t n = utf8_char_len(s->p, (size_t)(s->end - s->p));

        if (*s->p == '\\') {
            s->p++;
            if (escape(s, &to) < 0)
                return -1;
            continue;
        }
        if ((unsigned char)*s->p < 0x20)
            return scan_fail(s, "a control character in a string");
        if (n == 0)
            return scan_fail(s, "not UTF-8");
        memmove(to, s->p, n);
        to += n;
        s->p += n;
    }
    if (s->p == s->end)
        return scan_fail(s, "a string does not end");
    s->p++;
    *to = '\0'; /* at the closing quote or before it */
    *ret_string = start;
    return 0;
}

static size_t n_digits(const char *p, const char *end)
{
    size_t n = 0;

    while (p + n < end && p[n] >= '0' && p[n] <= '9')
        n++;
    return n;
}

/* One number; *ret_integer says whether it has neither fraction nor exponent. */
static int number(struct scan *s, bool *ret_integer)
{
    size_t n;

    *ret_integer = true;
    scan_peek(s);
    if (s->p < s->end && *s->p == '-')
        s->p++;
    n = n_digits(s->p, s->end);
    if (n == 0 || (n > 1 && *s->p == '0'))
        return scan_fail(s, "expected a value");
    s->p += n;
    if (s->p < s->end && *s->p == '.') {
        *ret_integer = false;
        s->p++;
        n = n_digits(s->p, s->end);
        if (n == 0)
            return scan_fail(s, "expected a digit");
        s->p += n;
    }
    if (s->p < s->end && (*s->p == 'e' || *s->p == 'E')) {
        *ret_integer = false;
        s->p++;
        if (s->p < s->end && (*s->p == '+' || *s->p == '-'))
            s->p++;
        n = n_digits(s->p, s->end);
        if (n == 0)
            return scan_fail(s, "expected a digit");
        s->p += n;
    }
    return 0;
}

int scan_int(struct scan *s, int64_t *ret)
{
    bool is_integer;
    long long v;
    char *start;

    scan_peek(s);
    start = s->p;
    if (start == s->end || (*start != '-' && (*start < '0' || *start > '9')))
        return scan_fail(s, "expected an integer");
    if (number(s, &is_integer) < 0)
        return -1;
    errno = 0;
    v = strtoll(start, NULL, 10); /* ends at s->p: '\0' or no digit is there */
    if (!is_integer || errno) {
        s->p = start;
        return scan_fail(s, "expected an integer%s", errno ? " of 64 bits" : "");
    }
    *ret = v;
    return 0;
}

int scan_uint(struct scan *s, uint64_t *ret)
{
    int64_t v;
    char *start;

    scan_peek(s);
    start = s->p;
    if (scan_int(s, &v) < 0)
        return -1;
    if (v < 0) {
        s->p = start;
        return scan_fail(s, "expected an integer of at least 0, not %lld", (long long)v);
    }
    *ret = (uint64_t)v;
    return 0;
}

static bool word(struct scan *s, const char *w)
{
    size_t n = strlen(w);

    if ((size_t)(s->end - s->p) < n || memcmp(s->p, w, n) != 0)
        return false;
    s->p += n;
    return true;
}

int scan_bool(struct scan *s, bool *ret)
{
    scan_peek(s);
    if (word(s, "true"))
        *ret = true;
    else if (word(s, "false"))
        *ret = false;
    else
        return scan_fail(s, "expected true or false");
    return 0;
}

/* One value that holds no others. */
static int skip_scalar(struct scan *s)
{
    const char *string;
    bool is_integer;

    if (scan_peek(s) == '"')
        return scan_string(s, &string);
    if (word(s, "true") || word(s, "false") || word(s, "null"))
        return 0;
    return number(s, &is_integer);
}

int scan_skip(struct scan *s)
{
    unsigned outside = s->depth;
    const char *name;
    int more;

    do {
        char c = scan_peek(s);

        if (c == '{' || c == '[') {
            if (scan_enter(s, c) < 0)
                return -1;
        } else if (skip_scalar(s) < 0) {
            return -1;
        }
        /* To the next value, out of all that end here. */
        more = 0;
        while (s->depth > outside && more == 0) {
            more = s->close[s->depth] == '}' ? scan_member(s, &name) : scan_item(s);
            if (more < 0)
                return -1;
        }
    } while (s->depth > outside);
    return 0;
}

int scan_end(struct scan *s)
{
    skip_space(s);
    return s->p == s->end ? 0 : scan_fail(s, "something follows the value");
}
