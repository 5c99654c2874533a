#include "http/scope.h"

#include "base/log.h"

static const struct {
    const char *name;
    enum scope scope;
} names[] = {
    {"read", SCOPE_READ},
    {"step", SCOPE_STEP},
    {"export", SCOPE_EXPORT},
    {"admin", SCOPE_ADMIN},
};

const char *scope_name(enum scope scope)
{
    size_t i = 0;

    while (i < ARRAY_LEN(names) - 1 && names[i].scope != scope)
        i++;
    ASSERT(names[i].scope == scope);
    return names[i].name;
}

static unsigned find(const char *name, size_t len)
{
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strlen(names[i].name) == len && memcmp(names[i].name, name, len) == 0)
            return names[i].scope;
    return 0;
}

int scopes_parse(const char *text, unsigned *ret_scopes, struct pt2_err *err)
{
    unsigned scopes = 0;

    for (const char *at = text;; at++) {
        size_t len = strcspn(at, ",");
        unsigned scope = find(at, len);

        if (!scope)
            return pt2_err_set(err, PT2_ERR_INVALID,
                               "scopes are read, step, export and admin, with commas "
                               "between, not '%.60s'",
                               text);
        scopes |= scope;
        at += len;
        if (!*at)
            break;
    }
    *ret_scopes = scopes & SCOPE_ADMIN ? SCOPE_ALL : scopes;
    return 0;
}

void scopes_print(unsigned scopes, char ret_text[SCOPES_TEXT_SIZE])
{
    size_t n = 0;

    ret_text[0] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (scopes & names[i].scope)
            n += (size_t)snprintf(ret_text + n, SCOPES_TEXT_SIZE - n, "%s%s",
                                  n ? "," : "", names[i].name);
}
