#include "export/fields.h"

#include "base/json.h"
#include <math.h>
#include <stdarg.h>

const json_t *field_get(const struct fields *f, const char *name)
{
    return json_object_get(f->object, name);
}

bool field_is_there(const struct fields *f, const char *name)
{
    const json_t *v = field_get(f, name);

    return v && !json_is_null(v);
}

bool field_is_null(const struct fields *f, const char *name)
{
    return json_is_null(field_get(f, name));
}

const char *field_text(const json_t *value, char to[80])
{
    char *text = json_to_text(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_ENSURE_ASCII);

    snprintf(to, 80, "%.60s%s", text ? text : "?",
             text && strlen(text) > 60 ? "..." : "");
    free(text);
    return to;
}

static int fail(const struct fields *f, const char *name, enum pt2_error code,
                struct pt2_err *err, const char *fmt, va_list ap)
{
    char text[400];

    vsnprintf(text, sizeof(text), fmt, ap);
    return pt2_err_set(err, code, "config.json: %s%s%s: %s", f->where,
                       *f->where ? "." : "", name, text);
}

int field_bad(const struct fields *f, const char *name, struct pt2_err *err,
              const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    fail(f, name, PT2_ERR_BAD_CONFIG, err, fmt, ap);
    va_end(ap);
    return -1;
}

int field_refuse(const struct fields *f, const char *name, struct pt2_err *err,
                 const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    fail(f, name, PT2_ERR_NOT_EXPORTABLE, err, fmt, ap);
    va_end(ap);
    return -1;
}

int field_int(const struct fields *f, const char *name, int64_t preset, int64_t min,
              int64_t max, int64_t *ret_value, struct pt2_err *err)
{
    const json_t *v = field_get(f, name);
    char text[80];

    if (!v || json_is_null(v)) {
        *ret_value = preset;
        return 0;
    }
    if (!json_is_integer(v) || json_integer_value(v) < min || json_integer_value(v) > max)
        return field_bad(f, name, err, "must be an integer of %lld to %lld, not %s",
                         (long long)min, (long long)max, field_text(v, text));
    *ret_value = json_integer_value(v);
    return 0;
}

int field_bool(const struct fields *f, const char *name, bool preset, bool *ret_value,
               struct pt2_err *err)
{
    const json_t *v = field_get(f, name);
    char text[80];

    if (!v || json_is_null(v)) {
        *ret_value = preset;
        return 0;
    }
    if (!json_is_boolean(v))
        return field_bad(f, name, err, "must be true or false, not %s",
                         field_text(v, text));
    *ret_value = json_is_true(v);
    return 0;
}

int field_number(const struct fields *f, const char *name, double preset, double min,
                 double max, double *ret_value, struct pt2_err *err)
{
    const json_t *v = field_get(f, name);
    char text[80];
    double value;

    if (!v || json_is_null(v)) {
        *ret_value = preset;
        return 0;
    }
    value = json_number_value(v);
    if (!json_is_number(v) || !isfinite(value) || value < min || value > max)
        return field_bad(f, name, err, "must be a number of %g to %g, not %s", min, max,
                         field_text(v, text));
    *ret_value = value;
    return 0;
}

int field_string(const struct fields *f, const char *name, const char *preset,
                 const char **ret_value, struct pt2_err *err)
{
    const json_t *v = field_get(f, name);
    char text[80];

    if (!v || json_is_null(v)) {
        *ret_value = preset;
        return 0;
    }
    if (!json_is_string(v) || json_string_length(v) > 200 ||
        memchr(json_string_value(v), '\0', json_string_length(v)))
        return field_bad(f, name, err, "must be a short string, not %s",
                         field_text(v, text));
    *ret_value = json_string_value(v);
    return 0;
}
