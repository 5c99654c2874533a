/* scan.h - pull values out of a big JSON text, in place and without a tree.
 *
 * For tables of tensors, which have one entry a tensor: a tree of them would take ten
 * times the text.  Strict (RFC 8259), UTF-8, no U+0000, nesting bounded.  Strings are
 * decoded where they lie, so the text is changed and must outlive what was taken from it.
 *
 *     scan_begin(&s, text, len, "the index", PT2_ERR_BAD_CHECKPOINT, err);
 *     if (scan_enter(&s, '{') < 0)
 *         return -1;
 *     while ((more = scan_member(&s, &name)) > 0)
 *         if (scan_uint(&s, &value) < 0) ...        exactly one value for each member
 *     if (more < 0 || scan_end(&s) < 0)
 *         return -1;
 *
 * The int functions answer -1 with err filled ("the index, byte 17: ...").  The same
 * member twice is the caller's to notice.  One thread at a time. */
#ifndef BASE_SCAN_H
#define BASE_SCAN_H

#include "base/util.h"

#include <pt2/err.h>

#define SCAN_MAX_NESTING 63

struct scan {
    char *p, *end, *begin;
    const char *what;
    enum pt2_error code;
    struct pt2_err *err;
    uint64_t has_items; /* a bit a level: a comma is due before the next item */
    unsigned depth;
    char close[SCAN_MAX_NESTING + 1]; /* by level */
};

/* text has len bytes and a '\0' behind them. */
void scan_begin(struct scan *s, char *text, size_t len, const char *what,
                enum pt2_error code, struct pt2_err *err);
/* open is '{' or '['. */
MUST_USE int scan_enter(struct scan *s, char open);
/* 1: there is one more, its value (of a member, the name too) comes next; 0: the object
 * or array ended. */
MUST_USE int scan_member(struct scan *s, const char **ret_name);
MUST_USE int scan_item(struct scan *s);
/* The first character of the next value: '{' '[' '"' 't' 'f' 'n' '-' or a digit; '\0' at
 * the end of the text. */
char scan_peek(struct scan *s);
MUST_USE int scan_string(struct scan *s, const char **ret_string);
MUST_USE int scan_int(struct scan *s, int64_t *ret);
MUST_USE int scan_uint(struct scan *s, uint64_t *ret);
MUST_USE int scan_bool(struct scan *s, bool *ret);
/* Any one value. */
MUST_USE int scan_skip(struct scan *s);
/* Nothing but white space is left. */
MUST_USE int scan_end(struct scan *s);
/* Fill err with "<what>, byte <here>: ...".  Returns -1. */
int scan_fail(struct scan *s, const char *fmt, ...) PT2_PRINTF(2, 3);

#endif
