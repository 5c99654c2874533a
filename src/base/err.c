#include <pt2/err.h>

#include "base/util.h"

#include <errno.h>

static const struct {
    const char *name, *title;
    int status;
} table[] = {
#define PT2_ERROR(code, name, status, title) {name, title, status},
#include <pt2/tbl_errors.h>
#undef PT2_ERROR
};

int pt2_err_vset(struct pt2_err *err, enum pt2_error code, const char *fmt, va_list ap)
{
    if (err && err->code == PT2_ERR_NONE) {
        err->code = code;
        vsnprintf(err->text, sizeof(err->text), fmt, ap);
    }
    return -1;
}

int pt2_err_set(struct pt2_err *err, enum pt2_error code, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    pt2_err_vset(err, code, fmt, ap);
    va_end(ap);
    return -1;
}

int pt2_err_errno(struct pt2_err *err, enum pt2_error code, const char *fmt, ...)
{
    int e = errno;
    char text[400], buf[80];
    va_list ap;

    if (e == ENOSPC || e == EDQUOT)
        code = PT2_ERR_NO_SPACE;
    else if (e == ENOMEM)
        code = PT2_ERR_NOMEM;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return pt2_err_set(err, code, "%s: %s", text, strerror_r(e, buf, sizeof(buf)));
}

int pt2_err_prefix(struct pt2_err *err, const char *fmt, ...)
{
    char old[sizeof(err->text)];
    va_list ap;
    int n;

    if (!err || err->code == PT2_ERR_NONE)
        return -1;
    memcpy(old, err->text, sizeof(old));
    va_start(ap, fmt);
    n = vsnprintf(err->text, sizeof(err->text), fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof(err->text))
        snprintf(err->text + n, sizeof(err->text) - (size_t)n, ": %s", old);
    return -1;
}

void pt2_err_clear(struct pt2_err *err)
{
    err->code = PT2_ERR_NONE;
    err->text[0] = '\0';
}

const char *pt2_error_name(enum pt2_error code)
{
    return table[code < PT2_N_ERRORS ? code : PT2_ERR_INTERNAL].name;
}

const char *pt2_error_title(enum pt2_error code)
{
    return table[code < PT2_N_ERRORS ? code : PT2_ERR_INTERNAL].title;
}

int pt2_error_status(enum pt2_error code)
{
    return table[code < PT2_N_ERRORS ? code : PT2_ERR_INTERNAL].status;
}

enum pt2_error pt2_error_find(const char *name)
{
    for (unsigned i = 0; i < PT2_N_ERRORS; i++)
        if (streq(table[i].name, name))
            return (enum pt2_error)i;
    return PT2_ERR_INTERNAL;
}
