#include "http/params.h"

#include <errno.h>
#include <inttypes.h>

struct unit {
    const char *name;
    int64_t factor;
};

static const struct unit size_units[] = {{"", 1},
                                         {"B", 1},
                                         {"K", 1024},
                                         {"KiB", 1024},
                                         {"M", 1 << 20},
                                         {"MiB", 1 << 20},
                                         {"G", 1 << 30},
                                         {"GiB", 1 << 30},
                                         {"T", INT64_C(1) << 40},
                                         {"TiB", INT64_C(1) << 40}};
static const struct unit time_units[] = {{"", 1000},     {"ms", 1},      {"s", 1000},
                                         {"min", 60000}, {"h", 3600000}, {"d", 86400000}};
static const struct unit no_units[] = {{"", 1}};

size_t param_find(const char *name)
{
    for (size_t i = 0; i < N_PARAMS; i++) {
        const char *key = after_prefix(name, params[i].section);

        if (key && *key == '.' && streq(key + 1, params[i].key))
            return i;
    }
    return N_PARAMS;
}

/* ---- describing ---- */

static void put_number(const struct unit *units, size_t n, int64_t value, char *to,
                       size_t size)
{
    /* The largest unit that divides it; longer names, "MiB", come after "M". */
    for (size_t i = n; i-- > 1;) {
        if (value && value % units[i].factor == 0 && units[i].factor > 0) {
            snprintf(to, size, "%" PRId64 " %s", value / units[i].factor, units[i].name);
            return;
        }
    }
    snprintf(to, size, "%" PRId64, value / units[0].factor);
}

static const struct unit *units_of(const struct param *p, size_t *ret_n)
{
    switch (p->type) {
    case PARAM_SIZE:
        *ret_n = ARRAY_LEN(size_units);
        return size_units;
    case PARAM_TIME:
        *ret_n = ARRAY_LEN(time_units);
        return time_units;
    default:
        *ret_n = ARRAY_LEN(no_units);
        return no_units;
    }
}

void param_describe(const struct param *p, char *ret, size_t size)
{
    char low[40], high[40];
    const struct unit *units;
    size_t n;

    switch (p->type) {
    case PARAM_BOOL:
        snprintf(ret, size, "yes or no");
        return;
    case PARAM_TEXT:
        snprintf(ret, size, "%" PRId64 " to %" PRId64 " bytes of text", p->min, p->max);
        return;
    case PARAM_CHOICE:
        snprintf(ret, size, "one of ");
        for (const char *s = p->unit; *s; s++)
            snprintf(ret + strlen(ret), size - strlen(ret), *s == '|' ? ", " : "%c", *s);
        return;
    default:
        units = units_of(p, &n);
        put_number(units, n, p->min, low, sizeof(low));
        put_number(units, n, p->max, high, sizeof(high));
        snprintf(ret, size, "%s to %s", low, high);
    }
}

/* ---- parsing ---- */

static int wrong(const struct param *p, const char *text, struct pt2_err *err)
{
    const char *example = "";
    char takes[200];

    if (p->type == PARAM_SIZE && p->min <= 64 << 20 && p->max >= 64 << 20)
        example = ", as 64 MiB";
    if (p->type == PARAM_TIME && p->min <= 30000 && p->max >= 30000)
        example = ", as 30 s";
    param_describe(p, takes, sizeof(takes));
    return pt2_err_set(err, PT2_ERR_INVALID, "takes %s%s, not '%s'", takes, example, text);
}

static int parse_number(const struct param *p, const char *text, int64_t *ret,
                        struct pt2_err *err)
{
    size_t n;
    const struct unit *units = units_of(p, &n);
    char *end;
    long long number;

    errno = 0;
    number = strtoll(text, &end, 10);
    /* No space or '+' in front, which strtoll would take. */
    if (!strchr("-0123456789", *text) || end == text || errno)
        return wrong(p, text, err);
    end += strspn(end, " \t");
    for (size_t i = 0; i < n; i++) {
        int64_t value;

        if (!streq(end, units[i].name))
            continue;
        if (__builtin_mul_overflow((int64_t)number, units[i].factor, &value) ||
            value < p->min || value > p->max)
            return wrong(p, text, err);
        *ret = value;
        return 0;
    }
    return wrong(p, text, err);
}

static int parse_bool(const struct param *p, const char *text, int64_t *ret,
                      struct pt2_err *err)
{
    static const char *const words[] = {"no", "yes", "false", "true", "off", "on"};

    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (streq(text, words[i])) {
            *ret = i % 2;
            return 0;
        }
    }
    return wrong(p, text, err);
}

static int check_choice(const struct param *p, const char *text, struct pt2_err *err)
{
    size_t n = strlen(text);

    for (const char *word = p->unit; word; word = strchr(word, '|')) {
        word += *word == '|';
        if (n && strncmp(word, text, n) == 0 && (word[n] == '|' || !word[n]))
            return 0;
    }
    return wrong(p, text, err);
}

static int check_text(const struct param *p, const char *text, struct pt2_err *err)
{
    int64_t n = (int64_t)strlen(text);

    return n >= p->min && n <= p->max ? 0 : wrong(p, text, err);
}

int param_parse(const struct param *p, const char *text, struct param_value *ret_value,
                struct pt2_err *err)
{
    struct param_value value = {0};
    int r = 0;

    switch (p->type) {
    case PARAM_INT:
    case PARAM_SIZE:
    case PARAM_TIME:
        r = parse_number(p, text, &value.number, err);
        break;
    case PARAM_BOOL:
        r = parse_bool(p, text, &value.number, err);
        break;
    case PARAM_TEXT:
        r = check_text(p, text, err);
        break;
    case PARAM_CHOICE:
        r = check_choice(p, text, err);
        break;
    }
    if (r < 0)
        return -1;
    value.text = strdup(text);
    if (!value.text)
        return pt2_err_set(err, PT2_ERR_NOMEM, "%s", p->key);
    *ret_value = value;
    return 0;
}
