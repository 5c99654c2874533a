/* fields.h - the fields of a config.json, by type.
 *
 * Transformers fills in what a config.json leaves out, so every getter takes the default
 * of the model's configuration class.  A field that is null counts as left out, as in
 * most of Transformers; where null means something of its own, ask field_is_null first.
 *
 * Pure functions over a borrowed object; any thread. */
#ifndef EXPORT_FIELDS_H
#define EXPORT_FIELDS_H

#include "base/util.h"

#include <jansson.h>
#include <pt2/err.h>

/* One object of the config, and what to call it in messages: "" for the whole, otherwise
 * "rope_parameters". */
struct fields {
    const json_t *object;
    const char *where;
};

static inline struct fields fields_of(const json_t *object, const char *where)
{
    return (struct fields){object, where};
}

bool field_is_there(const struct fields *f, const char *name); /* and not null */
bool field_is_null(const struct fields *f, const char *name);  /* there, and null */
const json_t *field_get(const struct fields *f, const char *name);

/* Errors: BAD_CONFIG (another type, out of range). *ret_value is written on success only.
 */
MUST_USE int field_int(const struct fields *f, const char *name, int64_t preset,
                       int64_t min, int64_t max, int64_t *ret_value, struct pt2_err *err);
MUST_USE int field_bool(const struct fields *f, const char *name, bool preset,
                        bool *ret_value, struct pt2_err *err);
/* A finite number, min <= value <= max; integers too. */
MUST_USE int field_number(const struct fields *f, const char *name, double preset,
                          double min, double max, double *ret_value, struct pt2_err *err);
/* Borrowed from the object, or preset itself. */
MUST_USE int field_string(const struct fields *f, const char *name, const char *preset,
                          const char **ret_value, struct pt2_err *err);

/* Fill err with "config.json: <field>: <text>".  Return -1. */
int field_bad(const struct fields *f, const char *name, struct pt2_err *err,
              const char *fmt, ...)
    PT2_PRINTF(4, 5); /* BAD_CONFIG: the value can not be meant */
int field_refuse(const struct fields *f, const char *name, struct pt2_err *err,
                 const char *fmt, ...)
    PT2_PRINTF(4, 5); /* NOT_EXPORTABLE: not understood */

/* The field's value as JSON, cut to something that reads well in a message.  Answers to.
 */
const char *field_text(const json_t *value, char to[80]);

#endif
