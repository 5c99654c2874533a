/* params.h - the rows of tbl_params.h as data, for config.c and config_print.c alone.
 *
 * Constant; any thread. */
#ifndef HTTP_PARAMS_H
#define HTTP_PARAMS_H

#include "base/util.h"

#include <pt2/err.h>

enum param_type {
    PARAM_INT,
    PARAM_SIZE,
    PARAM_TIME,
    PARAM_BOOL,
    PARAM_TEXT,
    PARAM_CHOICE
};

struct param {
    const char *section, *key;
    enum param_type type;
    const char *unit;
    const char *text; /* the default */
    int64_t min, max;
    const char *prose;
};

enum {
#define PARAM(section, key, type, unit, text, min, max, prose) PARAM_ID_##section##_##key,
#include "http/tbl_params.h"
#undef PARAM
    N_PARAMS
};

extern const struct param params[N_PARAMS];

struct param_value {
    char *text;     /* as written, without the space around it; new */
    int64_t number; /* INT, SIZE in bytes, TIME in ms, BOOL 0 or 1 */
};

struct config {
    struct param_value values[N_PARAMS];
};

/* Read a value of p's type.  Errors: INVALID (says what p takes), NOMEM. */
MUST_USE int param_parse(const struct param *p, const char *text,
                         struct param_value *ret_value, struct pt2_err *err);
/* The place of "section.key"; N_PARAMS where there is none. */
size_t param_find(const char *name);
/* What p takes, in words: "1 KiB to 32 KiB", "one of error, warning, info, debug". */
void param_describe(const struct param *p, char *ret, size_t size);

#endif
