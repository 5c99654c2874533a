#include "http/conditions.h"

#include <strings.h>

/* ---- conditions ---- */

static bool is_listed(const char *list, const char *etag, bool is_strong)
{
    size_t n = etag ? strlen(etag) : 0;
    bool is_weak;

    while (*list) {
        list += strspn(list, " \t,");
        if (*list == '*')
            return true;
        is_weak = strncmp(list, "W/", 2) == 0;
        if (is_weak)
            list += 2;
        if (*list != '"')
            return false;
        if (etag && !(is_weak && is_strong) && strncmp(list + 1, etag, n) == 0 && list[n + 1] == '"')
            return true;
        list += 1 + strcspn(list + 1, "\"");
        list += *list == '"';
    }
    return false;
}

bool etag_is_listed(const char *list, const char *etag)
{
    return is_listed(list, etag, /* is_strong= */ false);
}

bool etag_matches(const char *list, const char *etag)
{
    return is_listed(list, etag, /* is_strong= */ true);
}

bool if_range_holds(const char *if_range, const char *etag)
{
    size_t n = etag ? strlen(etag) : 0;

    if (!if_range)
        return true;
    return etag && *if_range == '"' && strncmp(if_range + 1, etag, n) == 0 &&
           streq(if_range + 1 + n, "\"");
}

/* ---- ranges ---- */

/* Digits only; what does not fit is the largest number.  False: no digit. */
static bool read_digits(const char **at, uint64_t *ret)
{
    const char *start = *at;
    uint64_t n = 0;

    for (; **at >= '0' && **at <= '9'; ++*at)
        if (__builtin_mul_overflow(n, 10, &n) ||
            __builtin_add_overflow(n, (uint64_t)(**at - '0'), &n))
            n = UINT64_MAX;
    *ret = n;
    return *at != start;
}

enum range range_parse(const char *text, uint64_t size, uint64_t *ret_first,
                       uint64_t *ret_last)
{
    uint64_t first, last;
    bool has_first, has_last;

    if (strncasecmp(text, "bytes=", 6) != 0)
        return RANGE_NONE;
    text += 6 + strspn(text + 6, " \t");
    has_first = read_digits(&text, &first);
    if (*text++ != '-')
        return RANGE_NONE;
    has_last = read_digits(&text, &last);
    text += strspn(text, " \t");
    if (*text || (!has_first && !has_last) || (has_first && has_last && last < first))
        return RANGE_NONE;
    if (!has_first) { /* the last so many bytes */
        if (last == 0 || size == 0)
            return RANGE_BAD;
        first = size - MIN(last, size);
        last = size - 1;
    } else if (first >= size) {
        return RANGE_BAD;
    } else if (!has_last || last >= size) {
        last = size - 1;
    }
    *ret_first = first;
    *ret_last = last;
    return RANGE_GOOD;
}
