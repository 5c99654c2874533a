#include "http/url.h"

#include "base/utf8.h"

#include <strings.h>

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool url_decode(const char *text, size_t len, bool plus, char *to, const char **ret_why)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];

        if (c <= ' ' || c == 0x7f) {
            *ret_why = "it holds a space or a control character, which must be escaped";
            return false;
        }
        if (c == '%') {
            if (i + 2 >= len || hex(text[i + 1]) < 0 || hex(text[i + 2]) < 0) {
                *ret_why = "a '%' must be followed by two hexadecimal digits";
                return false;
            }
            c = (unsigned char)(hex(text[i + 1]) * 16 + hex(text[i + 2]));
            i += 2;
            if (c == '\0') {
                *ret_why = "it holds %00";
                return false;
            }
        } else if (c == '+' && plus) {
            c = ' ';
        }
        to[n++] = (char)c;
    }
    to[n] = '\0';
    if (!utf8_is_valid(to, n)) {
        *ret_why = "it is not UTF-8";
        return false;
    }
    return true;
}

/* What follows "http://" or "https://"; NULL: neither. */
static char *after_scheme(char *target)
{
    if (strncasecmp(target, "http://", 7) == 0)
        return target + 7;
    return strncasecmp(target, "https://", 8) == 0 ? target + 8 : NULL;
}

bool url_split(char *target, char *ret_authority, const char **ret_path, char **ret_query)
{
    char *mark = strchr(target, '?'), *authority = after_scheme(target);
    const char *path = target;

    if (mark)
        *mark++ = '\0';
    *ret_authority = '\0';
    if (authority) {
        /* RFC 9112, section 3.2.2: servers must take the absolute form; RFC 9110, 4.2.4:
         * and nobody's name within it. */
        size_t n = strcspn(authority, "/");

        if (n == 0 || memchr(authority, '@', n))
            return false;
        memcpy(ret_authority, authority, n);
        ret_authority[n] = '\0';
        path = authority[n] ? authority + n : "/";
    }
    if (*path != '/')
        return false;
    *ret_path = path;
    *ret_query = mark;
    return true;
}
