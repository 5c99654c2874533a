#include "checkpoint/hf_json.h"

#include "base/buf.h"
#include "base/json.h"

#include <errno.h>

/* Bytes of the string that begins at s, quotes included; to the end where it has none. */
static size_t string_len(const char *s, size_t len)
{
    for (size_t i = 1; i < len; i++) {
        if (s[i] == '\\')
            i++;
        else if (s[i] == '"')
            return i + 1;
    }
    return len;
}

/* Is what comes at s, behind white space, a colon?  Then what stood before it was a name.
 */
static bool is_colon_next(const char *s, size_t len)
{
    size_t i = 0;

    while (i < len && (s[i] == ' ' || s[i] == '\n' || s[i] == '\r' || s[i] == '\t'))
        i++;
    return i < len && s[i] == ':';
}

/* Bytes of the word at s, if it is a value that JSON lacks. */
static size_t python_word(const char *s, size_t len)
{
    static const char *const words[] = {"NaN", "Infinity", "-Infinity"};

    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        size_t n = strlen(words[i]);

        if (len >= n && memcmp(s, words[i], n) == 0 && !is_colon_next(s + n, len - n))
            return n;
    }
    return 0;
}

static bool is_number_char(char c)
{
    return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' || c == 'e' ||
           c == 'E';
}

/* Is it an integer that int64 can not hold? */
static bool is_big_integer(const char *s, size_t len)
{
    char digits[32];

    for (size_t i = 0; i < len; i++)
        if ((s[i] < '0' || s[i] > '9') && !(i == 0 && s[i] == '-'))
            return false;
    if (len >= sizeof(digits))
        return true;
    memcpy(digits, s, len);
    digits[len] = '\0';
    errno = 0;
    strtoll(digits, NULL, 10);
    return errno == ERANGE;
}

/* The same text in plain JSON. */
static void rewrite(const char *text, size_t len, struct buf *b)
{
    size_t i = 0, n;

    while (i < len) {
        const char *s = text + i;

        n = 1;
        if (*s == '"') {
            n = string_len(s, len - i);
            buf_add(b, s, n);
        } else if ((n = python_word(s, len - i)) > 0) {
            buf_str(b, "\"");
            buf_add(b, s, n);
            buf_str(b, "\"");
        } else if (is_number_char(*s)) {
            for (n = 1; i + n < len && is_number_char(s[n]); n++)
                ;
            buf_add(b, s, n);
            if (is_big_integer(s, n))
                buf_str(b, ".0");
        } else {
            n = 1;
            buf_add(b, s, n);
        }
        i += n;
    }
}

int hf_json_parse(const char *name, const char *text, size_t len, json_t **ret_json,
                  struct pt2_err *err)
{
    AUTO_BUF b = BUF_INIT(2 * len + 64);
    struct pt2_err e = {0};

    rewrite(text, len, &b);
    if (buf_failed(&b))
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory for '%s'", name);
    if (json_parse(b.data ? b.data : "", b.len, ret_json, &e) == 0)
        return 0;
    return pt2_err_set(err, e.code == PT2_ERR_NOMEM ? e.code : PT2_ERR_BAD_CONFIG,
                       "'%s': %s", name, e.text);
}
