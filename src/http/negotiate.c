#include "http/negotiate.h"

#include <strings.h>

/* A stretch of a header's text. */
struct span {
    const char *at;
    size_t len;
};

static struct span trimmed(const char *at, size_t len)
{
    while (len && (*at == ' ' || *at == '\t')) {
        at++;
        len--;
    }
    while (len && (at[len - 1] == ' ' || at[len - 1] == '\t'))
        len--;
    return (struct span){at, len};
}

static bool span_is(struct span s, const char *text, size_t len)
{
    return s.len == len && strncasecmp(s.at, text, len) == 0;
}

/* The next piece of *rest up to a separator; false at the end.  Separators within quotes
 * do not count. */
static bool next_piece(const char **rest, char separator, struct span *ret)
{
    const char *at = *rest;
    bool quoted = false;
    size_t n = 0;

    if (!at)
        return false;
    for (; at[n] && (quoted || at[n] != separator); n++) {
        if (quoted && at[n] == '\\' && at[n + 1])
            n++;
        else if (at[n] == '"')
            quoted = !quoted;
    }
    *ret = trimmed(at, n);
    *rest = at[n] ? at + n + 1 : NULL;
    return true;
}

bool media_type_is(const char *content_type, const char *wanted)
{
    const char *rest = content_type;
    struct span piece;

    if (!next_piece(&rest, ';', &piece) || !span_is(piece, wanted, strlen(wanted)))
        return false;
    while (next_piece(&rest, ';', &piece)) {
        if (piece.len < 8 || strncasecmp(piece.at, "charset=", 8) != 0)
            continue;
        piece = (struct span){piece.at + 8, piece.len - 8};
        if (!span_is(piece, "utf-8", 5) && !span_is(piece, "\"utf-8\"", 7))
            return false;
    }
    return true;
}

/* "q=0.5" as thousandths; anything odd counts as 1. */
static int quality_of(const char *range, size_t len)
{
    char text[256];
    const char *rest = text;
    struct span piece;
    double q;

    snprintf(text, sizeof(text), "%.*s", (int)MIN(len, sizeof(text) - 1), range);
    while (next_piece(&rest, ';', &piece)) {
        if (piece.len < 3 || strncasecmp(piece.at, "q=", 2) != 0)
            continue;
        if (piece.at[2] != '0' && piece.at[2] != '1')
            return 1000;
        q = strtod(piece.at + 2, NULL);
        return q >= 0 && q <= 1 ? (int)(q * 1000 + 0.5) : 1000;
    }
    return 1000;
}

/* How precisely a media range names a type: 3 "a/b", 2 "a/" and a star, 1 two stars,
 * 0 not at all. */
static int precision(struct span range, const char *type, size_t len)
{
    const char *slash = memchr(type, '/', len);
    size_t n = slash ? (size_t)(slash - type) + 1 : 0;

    if (span_is(range, "*/*", 3))
        return 1;
    if (span_is(range, type, len))
        return 3;
    if (n && range.len == n + 1 && range.at[n] == '*' &&
        strncasecmp(range.at, type, n) == 0)
        return 2;
    return 0;
}

/* The quality that the most precise range gives to the type; -1: none names it. */
static int liking(const char *accept, const char *type, size_t len)
{
    int best = 0, quality = -1;
    struct span range;

    while (next_piece(&accept, ',', &range)) {
        size_t n = 0;
        int p;

        while (n < range.len && range.at[n] != ';')
            n++;
        p = precision(trimmed(range.at, n), type, len);
        if (p > best) {
            best = p;
            quality = quality_of(range.at, range.len);
        }
    }
    return quality;
}

const char *negotiate(const char *accept, const char *produces, size_t *ret_len)
{
    const char *best = NULL;
    int best_quality = 0;

    for (const char *type = produces; *type;) {
        size_t len = strcspn(type, " ");
        int quality = accept ? liking(accept, type, len) : 1000;

        if (quality > best_quality) {
            best = type;
            best_quality = quality;
            *ret_len = len;
        }
        type += len + strspn(type + len, " ");
    }
    return best;
}
