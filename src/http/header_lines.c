#include "http/header_lines.h"

/* RFC 9110, section 5.6.2 */
#define TOKEN                                                                            \
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~"

/* Is there nothing but a line's end between at and next? */
static bool is_line_end(const char *at, const char *next)
{
    return (next - at == 1 || next - at == 2) && at[0] == '\0' && next[-1] == '\0';
}

/* The end of the last line, and the empty line? */
static bool is_block_end(const char *at, const char *end)
{
    static const char zeros[4];

    return end - at >= 2 && end - at <= 4 && memcmp(at, zeros, (size_t)(end - at)) == 0;
}

/* Is there what stood for the colon, or a space, and white space between at and next? */
static bool is_gap(const char *at, const char *next)
{
    if (next <= at || *at != '\0')
        return false;
    while (++at < next)
        if (*at != ' ' && *at != '\t')
            return false;
    return true;
}

static int check_value(const char *name, const char *value, struct pt2_err *err)
{
    for (const char *s = value; *s; s++)
        if (((unsigned char)*s < ' ' && *s != '\t') || *s == 0x7f)
            return pt2_err_set(err, PT2_ERR_BAD_REQUEST,
                               "the header %.60s holds the control character 0x%02x", name,
                               (unsigned)*s);
    return 0;
}

/* next: the name behind it; NULL: the last. */
static int check_field(const char *name, const char *value, const char *next,
                       const char *end, struct pt2_err *err)
{
    const char *value_end = value + strlen(value);
    size_t n = strlen(name);

    if (n == 0 || strspn(name, TOKEN) != n)
        return pt2_err_set(err, PT2_ERR_BAD_REQUEST,
                           "'%.60s' is no name of a header: it must be letters, digits and "
                           "-, with the colon right behind it",
                           name);
    if (!is_gap(name + n, value) ||
        !(next ? is_line_end(value_end, next) : is_block_end(value_end, end)))
        return pt2_err_set(err, PT2_ERR_BAD_REQUEST,
                           "the header %.60s holds a NUL, or goes on in a second line", name);
    return check_value(name, value, err);
}

int header_lines_check(const struct header_lines *l, struct pt2_err *err)
{
    const char *const *fields = l->fields, *version_end = l->version + strlen(l->version);

    if (!is_gap(l->method + strlen(l->method), l->target) ||
        l->version != l->target + l->target_len + 1 ||
        !(l->n_fields ? is_line_end(version_end, fields[0])
                      : is_block_end(version_end, l->end)))
        return pt2_err_set(err, PT2_ERR_BAD_REQUEST,
                           "the request line holds a NUL, or there is one behind it");
    for (size_t i = 0; i < l->n_fields; i++)
        if (check_field(fields[2 * i], fields[2 * i + 1],
                        i + 1 < l->n_fields ? fields[2 * i + 2] : NULL, l->end, err) < 0)
            return -1;
    return 0;
}
