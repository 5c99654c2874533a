#include "cmd/ctl.h"

#include <stdarg.h>

volatile sig_atomic_t ctl_interrupted;

int ctl_fail(struct ctl *ctl, enum ctl_exit code, const char *fmt, ...)
{
    va_list ap;

    if (ctl->exit != CTL_OK)
        return -1;
    ctl->exit = code;
    va_start(ap, fmt);
    vsnprintf(ctl->text, sizeof(ctl->text), fmt, ap);
    va_end(ap);
    return -1;
}

int ctl_fail_err(struct ctl *ctl, enum ctl_exit code, const struct pt2_err *err)
{
    return ctl_fail(ctl, code, "%s", err->text);
}

int ctl_fail_nomem(struct ctl *ctl)
{
    return ctl_fail(ctl, CTL_FILE, "out of memory");
}

void ctl_forgive(struct ctl *ctl)
{
    ctl->exit = CTL_OK;
    ctl->text[0] = '\0';
    json_decref(ctl->problem);
    ctl->problem = NULL;
}
