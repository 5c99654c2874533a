#include "program/pull.h"

#include "base/utf8.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdarg.h>

int pull_fail(struct pull *s, const char *fmt, ...)
{
    char text[400];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    pt2_err_set(s->err, PT2_ERR_BAD_PROGRAM, "byte %zu: %s", s->at, text);
    return -1;
}

/* ---- UTF-8 ---- */

#define ONES  0x0101010101010101u
#define HIGHS 0x8080808080808080u

static uint64_t word_at(const char *p)
{
    uint64_t word;

    memcpy(&word, p, sizeof(word));
    return word;
}

int pull_init(struct pull *s, const char *text, size_t len, struct pt2_err *err)
{
    s->text = text;
    s->len = len;
    s->at = 0;
    s->err = err;
    while (s->at < len) {
        size_t n;

        if (len - s->at >= 8 && !(word_at(text + s->at) & HIGHS)) {
            s->at += 8;
            continue;
        }
        n = utf8_char_len(text + s->at, len - s->at);
        if (n == 0)
            return pull_fail(s, "not UTF-8");
        s->at += n;
    }
    s->at = 0;
    return 0;
}

/* ---- tokens ---- */

char pull_peek(struct pull *s)
{
    while (s->at < s->len) {
        char c = s->text[s->at];

        if (c != ' ' && c != '\n' && c != '\r' && c != '\t')
            return c;
        s->at++;
    }
    return '\0';
}

int pull_end(struct pull *s)
{
    pull_peek(s);
    return s->at == s->len ? 0 : pull_fail(s, "something follows the JSON");
}

static int expect(struct pull *s, char c, const char *what)
{
    if (pull_peek(s) != c)
        return pull_fail(s, "expected %s", what);
    s->at++;
    return 0;
}

/* Is the word here?  Then it is read. */
static bool word(struct pull *s, const char *w)
{
    size_t n = strlen(w);

    pull_peek(s);
    if (s->len - s->at < n || memcmp(s->text + s->at, w, n) != 0)
        return false;
    s->at += n;
    return true;
}

/* Step over the plain characters of a string. */
static void skip_plain(struct pull *s)
{
    while (s->len - s->at >= 8) {
        uint64_t w = word_at(s->text + s->at), quote = w ^ (ONES * '"'),
                 slash = w ^ (ONES * '\\');

        if (((quote - ONES) & ~quote & HIGHS) || ((slash - ONES) & ~slash & HIGHS) ||
            ((w - ONES * 0x20) & ~w & HIGHS))
            break;
        s->at += 8;
    }
    while (s->at < s->len) {
        unsigned char c = (unsigned char)s->text[s->at];

        if (c == '"' || c == '\\' || c < 0x20)
            return;
        s->at++;
    }
}

static int hex4(struct pull *s, uint32_t *ret)
{
    uint32_t value = 0;

    if (s->len - s->at < 4)
        return pull_fail(s, "a \\u escape is cut short");
    for (int i = 0; i < 4; i++) {
        char c = s->text[s->at + (size_t)i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;

        if (digit < 0)
            return pull_fail(s, "a \\u escape wants four hex digits");
        value = value << 4 | (uint32_t)digit;
    }
    s->at += 4;
    *ret = value;
    return 0;
}

/* The code point of a \u escape whose "\u" has been read. */
static int unicode_escape(struct pull *s, uint32_t *ret)
{
    uint32_t code = 0, low = 0;

    if (hex4(s, &code) < 0)
        return -1;
    if (code >= 0xd800 && code < 0xdc00) {
        if (s->len - s->at < 2 || memcmp(s->text + s->at, "\\u", 2) != 0)
            return pull_fail(s, "half of a surrogate pair");
        s->at += 2;
        if (hex4(s, &low) < 0)
            return -1;
        if (low < 0xdc00 || low > 0xdfff)
            return pull_fail(s, "half of a surrogate pair");
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    } else if (code >= 0xdc00 && code < 0xe000) {
        return pull_fail(s, "half of a surrogate pair");
    }
    *ret = code;
    return 0;
}

/* One escape, its backslash read.  Writes at most 4 bytes to `to`. */
static int escape(struct pull *s, char to[4], size_t *ret_n)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    char c = s->at < s->len ? s->text[s->at] : '\0';
    const char *found;
    uint32_t code = 0;

    s->at += s->at < s->len;
    if (c == 'u') {
        if (unicode_escape(s, &code) < 0)
            return -1;
        *ret_n = utf8_put(to, code);
        return 0;
    }
    found = c ? strchr(names, c) : NULL;
    if (!found)
        return pull_fail(s, "an escape that JSON doesn't have");
    *to = values[found - names];
    *ret_n = 1;
    return 0;
}

/* A string's characters, its quote read.  ret NULL: only checked. */
static int string_rest(struct pull *s, struct pull_text *ret)
{
    size_t from = s->at, n = 0, m = 0;
    char decoded[4];

    for (;;) {
        skip_plain(s);
        if (s->at >= s->len)
            return pull_fail(s, "a string has no end");
        if ((unsigned char)s->text[s->at] < 0x20)
            return pull_fail(s, "a control character in a string");
        if (ret && n + (s->at - from) + sizeof(decoded) > PULL_MAX_STRING)
            return pull_fail(s, "a string of more than %d bytes", PULL_MAX_STRING);
        if (s->text[s->at] == '"')
            break;
        if (ret)
            memcpy(s->scratch + n, s->text + from, s->at - from);
        n += s->at - from;
        s->at++;
        if (escape(s, decoded, &m) < 0)
            return -1;
        if (ret) {
            if (m == 1 && decoded[0] == '\0')
                return pull_fail(s, "a string holds the character NUL");
            memcpy(s->scratch + n, decoded, m);
            n += m;
        } else {
            n = 0;
        }
        from = s->at;
    }
    s->at++;
    if (!ret)
        return 0;
    if (n == 0) {
        *ret = (struct pull_text){s->text + from, s->at - 1 - from};
        return 0;
    }
    memcpy(s->scratch + n, s->text + from, s->at - 1 - from);
    *ret = (struct pull_text){s->scratch, n + (s->at - 1 - from)};
    return 0;
}

int pull_string(struct pull *s, struct pull_text *ret)
{
    return expect(s, '"', "a string") < 0 ? -1 : string_rest(s, ret);
}

static bool is_digit(const struct pull *s, size_t at)
{
    return at < s->len && s->text[at] >= '0' && s->text[at] <= '9';
}

static void digits(const struct pull *s, size_t *at)
{
    while (is_digit(s, *at))
        ++*at;
}

/* The length of the number here (RFC 8259, section 6), 0 where there is none. */
static size_t number(struct pull *s, bool *ret_is_int)
{
    size_t at;

    pull_peek(s);
    at = s->at;
    if (at < s->len && s->text[at] == '-')
        at++;
    if (!is_digit(s, at))
        return 0;
    if (s->text[at] == '0')
        at++;
    else
        digits(s, &at);
    *ret_is_int = true;
    if (at < s->len && s->text[at] == '.') {
        *ret_is_int = false;
        if (!is_digit(s, ++at))
            return 0;
        digits(s, &at);
    }
    if (at < s->len && (s->text[at] == 'e' || s->text[at] == 'E')) {
        *ret_is_int = false;
        at++;
        if (at < s->len && (s->text[at] == '+' || s->text[at] == '-'))
            at++;
        if (!is_digit(s, at))
            return 0;
        digits(s, &at);
    }
    return at - s->at;
}

int pull_int(struct pull *s, int64_t *ret)
{
    bool is_int = false, is_negative;
    size_t n = number(s, &is_int);
    int64_t value = 0;

    if (n == 0 || !is_int)
        return pull_fail(s, "expected a whole number");
    is_negative = s->text[s->at] == '-';
    for (size_t i = is_negative; i < n; i++) {
        int digit = s->text[s->at + i] - '0';

        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_sub_overflow(value, digit, &value))
            return pull_fail(s, "a number that does not fit in 64 bits");
    }
    if (!is_negative && __builtin_sub_overflow(0, value, &value))
        return pull_fail(s, "a number that does not fit in 64 bits");
    s->at += n;
    *ret = value;
    return 0;
}

static locale_t c_locale;

static void make_locale(void)
{
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

/* strtod as in the C locale, whatever the program that uses us has set. */
static double to_double(const char *text)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, make_locale);
    return c_locale ? strtod_l(text, NULL, c_locale) : strtod(text, NULL);
}

int pull_double(struct pull *s, double *ret)
{
    bool is_int = false;
    char text[128];
    size_t n;

    if (pull_peek(s) == '"') {
        struct pull_text t;

        if (pull_string(s, &t) < 0)
            return -1;
        if (pull_text_is(t, "Infinity"))
            *ret = INFINITY;
        else if (pull_text_is(t, "-Infinity"))
            *ret = -INFINITY;
        else if (pull_text_is(t, "NaN"))
            *ret = NAN;
        else
            return pull_fail(s, "expected a number, Infinity, -Infinity or NaN");
        return 0;
    }
    n = number(s, &is_int);
    if (n == 0 || n >= sizeof(text))
        return pull_fail(s, "expected a number");
    memcpy(text, s->text + s->at, n);
    text[n] = '\0';
    *ret = to_double(text);
    if (isinf(*ret))
        return pull_fail(s, "a number that does not fit in a double");
    s->at += n;
    return 0;
}

int pull_bool(struct pull *s, bool *ret)
{
    if (word(s, "true"))
        *ret = true;
    else if (word(s, "false"))
        *ret = false;
    else
        return pull_fail(s, "expected true or false");
    return 0;
}

bool pull_null(struct pull *s)
{
    return word(s, "null");
}

/* ---- skipping ---- */

static int skip(struct pull *s, unsigned depth);

/* The rest of an object or list, its bracket read. */
static int skip_items(struct pull *s, char close, unsigned depth)
{
    if (depth == PULL_MAX_NESTING)
        return pull_fail(s, "nested more than %d levels deep", PULL_MAX_NESTING);
    if (pull_peek(s) == close) {
        s->at++;
        return 0;
    }
    for (;;) {
        if (close == '}' &&
            (expect(s, '"', "a member's name") < 0 || string_rest(s, NULL) < 0 ||
             expect(s, ':', "':' behind a member's name") < 0))
            return -1;
        if (skip(s, depth + 1) < 0)
            return -1;
        if (pull_peek(s) == close) {
            s->at++;
            return 0;
        }
        if (expect(s, ',', close == '}' ? "',' or '}'" : "',' or ']'") < 0)
            return -1;
    }
}

static int skip(struct pull *s, unsigned depth)
{
    char c = pull_peek(s);
    bool is_int;
    size_t n;

    if (c == '{' || c == '[') {
        s->at++;
        return skip_items(s, c == '{' ? '}' : ']', depth);
    }
    if (c == '"') {
        s->at++;
        return string_rest(s, NULL);
    }
    if (word(s, "true") || word(s, "false") || word(s, "null"))
        return 0;
    n = number(s, &is_int);
    if (n == 0)
        return pull_fail(s, "expected a value");
    s->at += n;
    return 0;
}

int pull_skip(struct pull *s)
{
    return skip(s, 0);
}

/* ---- objects and lists ---- */

/* After a member or item: 1 where another follows, 0 where close ended it. */
static int next_item(struct pull *s, char close)
{
    char c = pull_peek(s);

    if (c != ',' && c != close)
        return pull_fail(s, close == '}' ? "expected ',' or '}'" : "expected ',' or ']'");
    s->at++;
    return c == ',';
}

static int member_name(struct pull *s, struct pull_text *ret)
{
    if (expect(s, '"', "a member's name") < 0 || string_rest(s, ret) < 0)
        return -1;
    return expect(s, ':', "':' behind a member's name");
}

/* What pull_object knows of its members so far. */
struct object {
    const struct pull_member *members;
    size_t n;
    void *ctx;
    uint32_t seen, done;
    size_t waiting[32]; /* where the value of a member that waits begins */
};

static int read_member(struct pull *s, struct object *o, size_t i)
{
    const struct pull_member *m = &o->members[i];

    if ((m->read ? m->read(s, o->ctx) : pull_skip(s)) < 0)
        return -1;
    o->done |= 1u << i;
    return 0;
}

/* One member, its name read. */
static int take_member(struct pull *s, struct object *o, struct pull_text name)
{
    for (size_t i = 0; i < o->n; i++) {
        const struct pull_member *m = &o->members[i];

        if (!pull_text_is(name, m->name))
            continue;
        if (o->seen & 1u << i)
            return pull_fail(s, "member '%s' is there twice", m->name);
        o->seen |= 1u << i;
        if ((o->done & m->after) == m->after)
            return read_member(s, o, i);
        pull_peek(s);
        o->waiting[i] = s->at;
        return pull_skip(s);
    }
    return pull_skip(s);
}

/* The members that waited, in the table's order. */
static int read_waiting(struct pull *s, struct object *o)
{
    size_t end = s->at;

    for (size_t i = 0; i < o->n; i++) {
        if ((o->done & 1u << i) || !(o->seen & 1u << i))
            continue;
        s->at = o->waiting[i];
        if (read_member(s, o, i) < 0)
            return -1;
    }
    s->at = end;
    return 0;
}

int pull_object(struct pull *s, const struct pull_member *members, size_t n, void *ctx)
{
    struct object o = {.members = members, .n = n, .ctx = ctx};
    struct pull_text name;
    int more = 1;

    if (expect(s, '{', "an object") < 0)
        return -1;
    if (pull_peek(s) == '}') {
        s->at++;
        more = 0;
    }
    while (more) {
        if (member_name(s, &name) < 0 || take_member(s, &o, name) < 0)
            return -1;
        more = next_item(s, '}');
        if (more < 0)
            return -1;
    }
    for (size_t i = 0; i < n; i++)
        if (members[i].required && !(o.seen & 1u << i))
            return pull_fail(s, "member '%s' is missing", members[i].name);
    return o.seen == o.done ? 0 : read_waiting(s, &o);
}

int pull_map(struct pull *s,
             int (*read)(struct pull *s, void *ctx, struct pull_text name), void *ctx)
{
    struct pull_text name;
    int more;

    if (expect(s, '{', "an object") < 0)
        return -1;
    if (pull_peek(s) == '}') {
        s->at++;
        return 0;
    }
    do {
        if (member_name(s, &name) < 0 || read(s, ctx, name) < 0)
            return -1;
        more = next_item(s, '}');
    } while (more > 0);
    return more;
}

int pull_list(struct pull *s, int (*read)(struct pull *s, void *ctx), void *ctx)
{
    int more;

    if (expect(s, '[', "a list") < 0)
        return -1;
    if (pull_peek(s) == ']') {
        s->at++;
        return 0;
    }
    do {
        if (read(s, ctx) < 0)
            return -1;
        more = next_item(s, ']');
    } while (more > 0);
    return more;
}

int pull_union(struct pull *s, struct pull_text *ret_name)
{
    if (expect(s, '{', "an object of one member") < 0)
        return -1;
    return member_name(s, ret_name);
}

int pull_union_end(struct pull *s)
{
    return expect(s, '}', "'}': a union of the schema has exactly one member");
}
