/* pull.h - read JSON from the front to the back, keeping nothing but what is asked for.
 *
 * A model.json is megabytes of which a program needs a tenth (the rest says where in the
 * Python source a node came from), so no tree is built: the caller says what comes next.
 * Unlike base/scan.h it leaves the text as it is, skips at memory's speed, and lets one
 * member of an object wait for others that come behind it.
 * Strict as base/json.h: RFC 8259, UTF-8, no member twice among those that have a name
 * here; bounded nesting.  Every failure fills pull->err with the byte where it was.
 * One thread at a time. */
#ifndef PROGRAM_PULL_H
#define PROGRAM_PULL_H

#include "base/util.h"

#include <pt2/err.h>

#define PULL_MAX_STRING  4096 /* bytes of a string that is read rather than skipped */
#define PULL_MAX_NESTING 64   /* of what is skipped */

struct pull {
    const char *text; /* borrowed */
    size_t len, at;
    struct pt2_err *err;
    char scratch[PULL_MAX_STRING + 1];
};

/* A string of the text, good until the next one is read. */
struct pull_text {
    const char *s; /* not ended by '\0' */
    size_t len;
};
static inline bool pull_text_is(struct pull_text t, const char *s)
{
    return strlen(s) == t.len && memcmp(t.s, s, t.len) == 0;
}

/* Begin with text; checks that all of it is UTF-8. */
MUST_USE int pull_init(struct pull *s, const char *text, size_t len, struct pt2_err *err);
/* Nothing but white space may follow. */
MUST_USE int pull_end(struct pull *s);
/* Fill err: BAD_PROGRAM, "byte N: ...".  Returns -1. */
int pull_fail(struct pull *s, const char *fmt, ...) PT2_PRINTF(2, 3);

/* ---- values ---- */

/* The first character of the next value; '\0' at the end. */
char pull_peek(struct pull *s);
MUST_USE int pull_string(struct pull *s, struct pull_text *ret);
MUST_USE int pull_int(struct pull *s, int64_t *ret);
/* A number, or one of the strings "Infinity", "-Infinity", "NaN". */
MUST_USE int pull_double(struct pull *s, double *ret);
MUST_USE int pull_bool(struct pull *s, bool *ret);
/* True, and null is read, where null comes next. */
bool pull_null(struct pull *s);
/* Any value, checked and forgotten. */
MUST_USE int pull_skip(struct pull *s);

/* ---- objects and lists ---- */

/* A member that an object may have.  read gets the value; NULL: it is skipped.  after
 * says (a bit each) which members must have been read before: where they come later in
 * the text, this one waits for them. */
struct pull_member {
    const char *name;
    int (*read)(struct pull *s, void *ctx);
    bool required;
    uint32_t after;
};

/* An object with the members of the table, at most 32; others are skipped. */
MUST_USE int pull_object(struct pull *s, const struct pull_member *members, size_t n,
                         void *ctx);
/* An object of any names: read is called for each, with the text at its value. */
MUST_USE int pull_map(struct pull *s,
                      int (*read)(struct pull *s, void *ctx, struct pull_text name),
                      void *ctx);
/* read is called for each item. */
MUST_USE int pull_list(struct pull *s, int (*read)(struct pull *s, void *ctx), void *ctx);

/* An object of exactly one member, a union of the schema: its name; then the caller reads
 * the value, then the end. */
MUST_USE int pull_union(struct pull *s, struct pull_text *ret_name);
MUST_USE int pull_union_end(struct pull *s);

#endif
