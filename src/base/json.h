/* json.h - JSON that came from outside: parse it strictly, read its members by type.
 *
 * Any thread, each with its own structs.  A reader never stops at the first bad member:
 * the problems are collected with their JSON pointers (RFC 6901), so that a client sees
 * all of them at once.
 *
 *     struct json_problems problems = {0};
 *     struct json_obj o;
 *
 *     json_obj_begin(&o, body, "", &problems);
 *     json_require(&o, "model");
 *     json_get_string(&o, "model", 255, &model);
 *     json_get_int(&o, "verify", 0, 4096, &verify);
 *     json_obj_end(&o);                       members that nobody asked for are problems
 *     if (json_problems_any(&problems)) ...   reply with problems.errors, then
 *     json_problems_done(&problems); */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include "base/util.h"

#include <jansson.h>
#include <pt2/err.h>

#define JSON_MAX_NESTING  64  /* of objects and arrays in each other */
#define JSON_MAX_PROBLEMS 64  /* more are counted, not kept */
#define JSON_POINTER_SIZE 256 /* bytes; longer ones are cut */
#define JSON_MAX_MEMBERS  64  /* that one reader asks for */

/* Parse one JSON value that fills text (len bytes, need not end in '\0'), surrounding
 * white space allowed.  new: json_decref. Errors: BAD_JSON (syntax, not UTF-8; says line
 * and column), INVALID (well-formed, but with a member twice, a number that does not fit
 * or nested too deep), NOMEM. */
MUST_USE int json_parse(const char *text, size_t len, json_t **ret_json,
                        struct pt2_err *err);

/* At least the bytes of memory that json_parse takes for that text, its value included; by
 * counting brackets, commas, colons and strings.  For a text that is no JSON, whatever. */
uint64_t json_tree_bytes(const char *text, size_t len);

/* What json_dumps answers, and NULL where memory ran out: jansson's own may then leave a
 * member's name out.  new: free. */
char *json_to_text(const json_t *json, size_t flags);
/* As json_parse of a text that ends in '\0'; NULL: it fails.  new: json_decref. */
json_t *json_of_text(const char *text);

/* How often memory ran out within jansson, in this thread.  For values of many parts, since
 * one that could not be made is left out of an array without a word:
 *
 *     const size_t shortages = json_shortages();
 *     json_t *list = json_array();
 *     ...                                       json_array_append_new, unasked
 *     return json_if_whole(list, shortages);    NULL where one of them had no memory */
size_t json_shortages(void);
json_t *json_if_whole(json_t *json, size_t shortages);

/* ---- problems ---- */

struct json_problems {
    json_t *errors; /* array of {"pointer", "detail"}; NULL while there are none */
    size_t n;       /* all of them, also those not kept */
    bool ran_out;   /* one is that there was no memory, which nobody's JSON is to blame for */
};

void json_problem(struct json_problems *problems, const char *pointer, const char *fmt,
                  ...) PT2_PRINTF(3, 4);
static inline bool json_problems_any(const struct json_problems *problems)
{
    return problems->n > 0;
}
/* Fill err with code and the first problem's pointer and text; NOMEM where memory ran out.
 * Returns -1. */
int json_problems_to_err(const struct json_problems *problems, enum pt2_error code,
                         struct pt2_err *err);
void json_problems_done(struct json_problems *problems);

/* The problem object (RFC 9457) of an error: {"type", "title", "status", "detail"}.
 * new; NULL: out of memory. */
json_t *json_problem_object(const struct pt2_err *err);

/* ---- reading an object ---- */

/* Embedded by the caller; borrows the object and the problems. */
struct json_obj {
    const json_t *object; /* NULL: was no object; every getter then answers false */
    struct json_problems *problems;
    char pointer[JSON_POINTER_SIZE]; /* of this object, "" for the whole document */
    const char *asked[JSON_MAX_MEMBERS];
    size_t n_asked;
};

/* Something that is not an object is a problem. */
void json_obj_begin(struct json_obj *o, const json_t *value, const char *pointer,
                    struct json_problems *problems);
/* Each member whose name no getter asked for is a problem, with the names there are. */
void json_obj_end(struct json_obj *o);

/* The getters answer true, with *ret written, where the member is there and good.  A
 * missing member is no problem by itself: ask json_require too.  null is a bad value to
 * all but json_is_null_member.  What *ret points to is borrowed from the object.  Names
 * must be string literals. */
void json_require(struct json_obj *o, const char *name);
bool json_has(struct json_obj *o, const char *name);            /* also where null */
bool json_is_null_member(struct json_obj *o, const char *name); /* there, and null */
bool json_get_bool(struct json_obj *o, const char *name, bool *ret);
bool json_get_int(struct json_obj *o, const char *name, int64_t min, int64_t max,
                  int64_t *ret);
/* 1 to max_len bytes, no NUL within. */
bool json_get_string(struct json_obj *o, const char *name, size_t max_len,
                     const char **ret);
/* One of n names; *ret is its place among them. */
bool json_get_choice(struct json_obj *o, const char *name, const char *const *choices,
                     size_t n, size_t *ret);
/* Begins *ret; the caller ends it. */
bool json_get_obj(struct json_obj *o, const char *name, struct json_obj *ret);
bool json_get_array(struct json_obj *o, const char *name, size_t min_len, size_t max_len,
                    const json_t **ret);
/* An array of integers; *ret is new (free), *ret_n its length (min_len .. max_len). */
bool json_get_ints(struct json_obj *o, const char *name, size_t min_len, size_t max_len,
                   int64_t min, int64_t max, int64_t **ret, size_t *ret_n);
/* An object of short strings: at most 32, names [A-Za-z0-9._-]{1,63}, values up to 255
 * bytes. */
bool json_get_labels(struct json_obj *o, const char *name, const json_t **ret);

/* "<o's pointer>/<name>" with '~' and '/' escaped; and with "/<i>" behind it. */
void json_member_pointer(const struct json_obj *o, const char *name,
                         char ret[JSON_POINTER_SIZE]);
void json_item_pointer(const struct json_obj *o, const char *name, size_t i,
                       char ret[JSON_POINTER_SIZE]);

/* ---- small things ---- */

/* Are they the same but for the order of members?  The text that says so: compact,
 * members sorted; new (free), NULL where memory ran out. */
char *json_canonical(const json_t *value);
/* A string of any bytes: what is not UTF-8 becomes U+FFFD.  new; NULL: out of memory. */
json_t *json_string_lossy(const char *s);

#endif
