#include "http/config.h"

#include "base/log.h"
#include "http/params.h"

#include <errno.h>
#include <ini.h>

const struct param params[N_PARAMS] = {
#define PARAM(section, key, type, unit, text, min, max, prose)                           \
    {#section, #key, PARAM_##type, unit, text, min, max, prose},
#include "http/tbl_params.h"
#undef PARAM
};

int config_new(struct config **ret_config, struct pt2_err *err)
{
    AUTO(config) config = calloc(1, sizeof(*config));

    if (!config)
        return pt2_err_set(err, PT2_ERR_NOMEM, "configuration");
    for (size_t i = 0; i < N_PARAMS; i++) {
        if (param_parse(&params[i], params[i].text, &config->values[i], err) < 0) {
            pt2_err_prefix(err, "default of %s.%s", params[i].section, params[i].key);
            return -1;
        }
    }
    *ret_config = TAKE(config);
    return 0;
}

void config_free(struct config *config)
{
    if (!config)
        return;
    for (size_t i = 0; i < N_PARAMS; i++)
        free(config->values[i].text);
    free(config);
}

/* ---- setting ---- */

static int set_value(struct config *config, size_t i, const char *text,
                     struct pt2_err *err)
{
    struct param_value value = {0};

    if (param_parse(&params[i], text, &value, err) < 0)
        return pt2_err_prefix(err, "%s", params[i].key);
    free(config->values[i].text);
    config->values[i] = value;
    return 0;
}

int config_set(struct config *config, const char *name, const char *value,
               struct pt2_err *err)
{
    size_t i = param_find(name);

    if (i == N_PARAMS)
        return pt2_err_set(err, PT2_ERR_INVALID, "there is no parameter '%s'", name);
    return set_value(config, i, value, err);
}

/* ---- reading the file ---- */

#define MAX_LINE 8192 /* bytes; texts have up to 4096 */

struct reading {
    struct config *config;
    FILE *file;
    const char *path;
    int line;
    int set_at[N_PARAMS]; /* line; 0: not yet */
    int failed_at;        /* the line of the first key that was wrong; 0: none yet */
    struct pt2_err *err;
};

/* A name up to ']'; what has none is left to inih. */
static bool is_section(const char *text)
{
    size_t n = strcspn(text, "]");
    bool is = text[n] == '\0';

    for (size_t i = 0; i < N_PARAMS; i++)
        is |= strlen(params[i].section) == n && strncmp(params[i].section, text, n) == 0;
    return is;
}

/* inih asks for a line at a time; so this knows the line's number. */
static char *read_line(char *to, int size, void *context)
{
    struct reading *r = context;
    size_t n;

    if (!fgets(to, size, r->file))
        return NULL;
    r->line++;
    n = strlen(to);
    if (n == 0 || (to[n - 1] != '\n' && n < (size_t)size - 1 && !feof(r->file))) {
        pt2_err_set(r->err, PT2_ERR_INVALID, "%s:%d: the line holds a NUL byte", r->path,
                    r->line);
        return NULL;
    }
    if (to[n - 1] != '\n' && !feof(r->file)) {
        pt2_err_set(r->err, PT2_ERR_INVALID, "%s:%d: the line is longer than %d bytes",
                    r->path, r->line, size - 2);
        return NULL;
    }
    /* To inih an indented line would go on with the one before it. */
    memmove(to, to + strspn(to, " \t"), strlen(to + strspn(to, " \t")) + 1);
    if (*to == '[' && !is_section(to + 1)) {
        pt2_err_set(r->err, PT2_ERR_INVALID, "%s:%d: there is no section %.*s", r->path,
                    r->line, (int)strcspn(to, "\r\n"), to);
        return NULL;
    }
    return to;
}

static int unknown(struct reading *r, const char *section, const char *key)
{
    if (!*section)
        pt2_err_set(r->err, PT2_ERR_INVALID, "%s:%d: '%s' stands before any [section]",
                    r->path, r->line, key);
    else
        pt2_err_set(r->err, PT2_ERR_INVALID, "%s:%d: section [%s] has no key '%s'",
                    r->path, r->line, section, key);
    return 0;
}

static int try_key(struct reading *r, const char *section, const char *key,
                   const char *value)
{
    char name[128];
    size_t i;

    snprintf(name, sizeof(name), "%s.%s", section, key);
    i = param_find(name);
    if (i == N_PARAMS)
        return unknown(r, section, key);
    if (r->set_at[i]) {
        pt2_err_set(r->err, PT2_ERR_INVALID, "%s:%d: '%s' was set in line %d already",
                    r->path, r->line, key, r->set_at[i]);
        return 0;
    }
    r->set_at[i] = r->line;
    if (r->err->code == PT2_ERR_NONE && set_value(r->config, i, value, r->err) < 0)
        pt2_err_prefix(r->err, "%s:%d", r->path, r->line);
    return r->err->code == PT2_ERR_NONE;
}

/* inih goes on after an error, and answers the first one's line. */
static int take_key(void *context, const char *section, const char *key,
                    const char *value)
{
    struct reading *r = context;
    int is_good = try_key(r, section, key, value);

    if (!is_good && !r->failed_at)
        r->failed_at = r->line;
    return is_good;
}

int config_load(struct config *config, const char *path, struct pt2_err *err)
{
    AUTO_FILE FILE *file = fopen(path, "re");
    struct pt2_err mine = {0};
    struct reading r = {.config = config, .file = file, .path = path, .err = &mine};
    int line;

    if (!file)
        return pt2_err_errno(err, errno == ENOENT ? PT2_ERR_NOT_FOUND : PT2_ERR_IO, "%s",
                             path);
    ini_max_line = MAX_LINE; /* Debian's inih has it as a variable, 200 by itself */
    line = ini_parse_stream(read_line, &r, take_key, &r);
    if (ferror(file))
        return pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    if (line < 0)
        pt2_err_set(&mine, PT2_ERR_NOMEM, "%s", path);
    if (line > 0 && line != r.failed_at)
        pt2_err_clear(&mine); /* it came later */
    if (line > 0)
        pt2_err_set(&mine, PT2_ERR_INVALID,
                    "%s:%d: neither [section] nor key = value nor # comment", path, line);
    if (mine.code != PT2_ERR_NONE)
        return pt2_err_set(err, mine.code, "%s", mine.text);
    return 0;
}

/* ---- getting ---- */

static const struct param_value *get(const struct config *config, const char *name,
                                     enum param_type type, enum param_type or_type)
{
    size_t i = param_find(name);

    ASSERT(i < N_PARAMS);
    ASSERT(params[i].type == type || params[i].type == or_type);
    return &config->values[i];
}

int64_t config_get_int(const struct config *config, const char *name)
{
    return get(config, name, PARAM_INT, PARAM_INT)->number;
}

uint64_t config_get_size(const struct config *config, const char *name)
{
    return (uint64_t)get(config, name, PARAM_SIZE, PARAM_SIZE)->number;
}

int64_t config_get_ms(const struct config *config, const char *name)
{
    return get(config, name, PARAM_TIME, PARAM_TIME)->number;
}

bool config_get_bool(const struct config *config, const char *name)
{
    return get(config, name, PARAM_BOOL, PARAM_BOOL)->number;
}

const char *config_get_text(const struct config *config, const char *name)
{
    return get(config, name, PARAM_TEXT, PARAM_CHOICE)->text;
}

const char *config_next_difference(const struct config *a, const struct config *b,
                                   size_t *i)
{
    static _Thread_local char name[128];

    for (; *i < N_PARAMS; ++*i) {
        if (streq(a->values[*i].text, b->values[*i].text))
            continue;
        snprintf(name, sizeof(name), "%s.%s", params[*i].section, params[*i].key);
        ++*i;
        return name;
    }
    return NULL;
}
