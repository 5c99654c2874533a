#include "base/json.h"

#include "base/buf.h"

#include <stdarg.h>

/* ---- problems ---- */

json_t *json_string_lossy(const char *s)
{
    json_t *json = json_string(s);
    AUTO_BUF b = BUF_INIT(1 << 20);

    if (json)
        return json;
    /* Keep ASCII; a run of other bytes, which was not UTF-8 as a whole, becomes U+FFFD.
     */
    for (const unsigned char *p = (const unsigned char *)s; *p; p++) {
        if (*p < 0x80)
            buf_add(&b, p, 1);
        else if (p == (const unsigned char *)s || p[-1] < 0x80)
            buf_str(&b, "\xef\xbf\xbd");
    }
    return buf_failed(&b) ? NULL : json_string(b.data ? b.data : "");
}

void json_problem(struct json_problems *problems, const char *pointer, const char *fmt,
                  ...)
{
    char text[512];
    va_list ap;
    json_t *item;

    if (problems->n++ >= JSON_MAX_PROBLEMS)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (!problems->errors)
        problems->errors = json_array();
    item = json_object();
    /* Out of memory: the count still says that there was one. */
    json_object_set_new(item, "pointer", json_string_lossy(pointer));
    json_object_set_new(item, "detail", json_string_lossy(text));
    json_array_append_new(problems->errors, item);
}

int json_problems_to_err(const struct json_problems *problems, enum pt2_error code,
                         struct pt2_err *err)
{
    json_t *first = json_array_get(problems->errors, 0);
    const char *pointer = json_string_value(json_object_get(first, "pointer"));
    const char *detail = json_string_value(json_object_get(first, "detail"));

    if (problems->ran_out)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory to read JSON");
    if (!detail)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory to say what is wrong");
    if (!pointer || !*pointer)
        return pt2_err_set(err, code, "%s", detail);
    return pt2_err_set(err, code, "%s: %s", pointer, detail);
}

void json_problems_done(struct json_problems *problems)
{
    json_decref(problems->errors);
    *problems = (struct json_problems){0};
}

json_t *json_problem_object(const struct pt2_err *err)
{
    char type[80];

    snprintf(type, sizeof(type), "/problems/%s", pt2_error_name(err->code));
    return json_pack("{s:s, s:s, s:i, s:o}", "type", type, "title",
                     pt2_error_title(err->code), "status", pt2_error_status(err->code),
                     "detail", json_string_lossy(err->text));
}

/* ---- pointers ---- */

/* Append one reference token to the pointer, escaped as in RFC 6901, section 3. */
static void add_token(char pointer[JSON_POINTER_SIZE], const char *token)
{
    size_t n = strlen(pointer);

    if (n + 2 > JSON_POINTER_SIZE)
        return;
    pointer[n++] = '/';
    for (; *token && n + 3 < JSON_POINTER_SIZE; token++) {
        if (*token == '~' || *token == '/') {
            pointer[n++] = '~';
            pointer[n++] = *token == '~' ? '0' : '1';
        } else {
            pointer[n++] = *token;
        }
    }
    pointer[n] = '\0';
}

void json_member_pointer(const struct json_obj *o, const char *name,
                         char ret[JSON_POINTER_SIZE])
{
    memcpy(ret, o->pointer, JSON_POINTER_SIZE);
    add_token(ret, name);
}

void json_item_pointer(const struct json_obj *o, const char *name, size_t i,
                       char ret[JSON_POINTER_SIZE])
{
    char number[24];

    json_member_pointer(o, name, ret);
    snprintf(number, sizeof(number), "%zu", i);
    add_token(ret, number);
}

/* ---- reading an object ---- */

void json_obj_begin(struct json_obj *o, const json_t *value, const char *pointer,
                    struct json_problems *problems)
{
    o->object = json_is_object(value) ? value : NULL;
    o->problems = problems;
    o->n_asked = 0;
    snprintf(o->pointer, sizeof(o->pointer), "%s", pointer);
    if (!o->object)
        json_problem(problems, pointer, "must be an object");
}

static bool was_asked(const struct json_obj *o, const char *name)
{
    for (size_t i = 0; i < o->n_asked; i++)
        if (streq(o->asked[i], name))
            return true;
    return false;
}

void json_obj_end(struct json_obj *o)
{
    char known[400] = "", pointer[JSON_POINTER_SIZE];
    const char *key;
    json_t *value;
    size_t n = 0;

    for (size_t i = 0; i < o->n_asked && n < sizeof(known); i++)
        n += (size_t)snprintf(known + n, sizeof(known) - n, "%s%s", i ? ", " : "",
                              o->asked[i]);
    /* jansson's iterator wants a non-const object, and does not write it. */
    json_object_foreach ((json_t *)o->object, key, value) {
        if (was_asked(o, key))
            continue;
        json_member_pointer(o, key, pointer);
        json_problem(o->problems, pointer, "unknown member; there are: %s", known);
    }
}

/* The member, NULL where absent; remembers that it was asked for. */
static const json_t *ask(struct json_obj *o, const char *name)
{
    if (!was_asked(o, name)) {
        if (o->n_asked == JSON_MAX_MEMBERS)
            abort(); /* our own bug: the reader asks for more names than it may */
        o->asked[o->n_asked++] = name;
    }
    return o->object ? json_object_get(o->object, name) : NULL;
}

/* Report a problem of this member; answers false, for getters to return. */
static bool bad(struct json_obj *o, const char *name, const char *fmt, ...)
    PT2_PRINTF(3, 4);
static bool bad(struct json_obj *o, const char *name, const char *fmt, ...)
{
    char pointer[JSON_POINTER_SIZE], text[400];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    json_member_pointer(o, name, pointer);
    json_problem(o->problems, pointer, "%s", text);
    return false;
}

void json_require(struct json_obj *o, const char *name)
{
    if (!ask(o, name) && o->object)
        bad(o, name, "is required");
}

bool json_has(struct json_obj *o, const char *name)
{
    return ask(o, name) != NULL;
}

bool json_is_null_member(struct json_obj *o, const char *name)
{
    return json_is_null(ask(o, name));
}

bool json_get_bool(struct json_obj *o, const char *name, bool *ret)
{
    const json_t *v = ask(o, name);

    if (!v)
        return false;
    if (!json_is_boolean(v))
        return bad(o, name, "must be true or false");
    *ret = json_is_true(v);
    return true;
}

bool json_get_int(struct json_obj *o, const char *name, int64_t min, int64_t max,
                  int64_t *ret)
{
    const json_t *v = ask(o, name);

    if (!v)
        return false;
    if (!json_is_integer(v))
        return bad(o, name, "must be an integer");
    if (json_integer_value(v) < min || json_integer_value(v) > max)
        return bad(o, name, "must be %lld to %lld, not %lld", (long long)min,
                   (long long)max, (long long)json_integer_value(v));
    *ret = json_integer_value(v);
    return true;
}

bool json_get_string(struct json_obj *o, const char *name, size_t max_len,
                     const char **ret)
{
    const json_t *v = ask(o, name);

    if (!v)
        return false;
    if (!json_is_string(v))
        return bad(o, name, "must be a string");
    if (json_string_length(v) == 0)
        return bad(o, name, "must not be empty");
    if (json_string_length(v) > max_len)
        return bad(o, name, "must be at most %zu bytes long, not %zu", max_len,
                   json_string_length(v));
    if (memchr(json_string_value(v), '\0', json_string_length(v)))
        return bad(o, name, "must not contain U+0000");
    *ret = json_string_value(v);
    return true;
}

bool json_get_choice(struct json_obj *o, const char *name, const char *const *choices,
                     size_t n, size_t *ret)
{
    const json_t *v = ask(o, name);
    char all[300] = "";
    size_t len = 0;

    if (!v)
        return false;
    for (size_t i = 0; json_is_string(v) && i < n; i++) {
        if (streq(json_string_value(v), choices[i]) &&
            json_string_length(v) == strlen(choices[i])) {
            *ret = i;
            return true;
        }
    }
    for (size_t i = 0; i < n && len < sizeof(all); i++)
        len += (size_t)snprintf(all + len, sizeof(all) - len, "%s\"%s\"", i ? ", " : "",
                                choices[i]);
    return bad(o, name, "must be %s%s", n > 1 ? "one of " : "", all);
}

bool json_get_obj(struct json_obj *o, const char *name, struct json_obj *ret)
{
    const json_t *v = ask(o, name);
    char pointer[JSON_POINTER_SIZE];

    if (!v)
        return false;
    json_member_pointer(o, name, pointer);
    json_obj_begin(ret, v, pointer, o->problems);
    return ret->object != NULL;
}

bool json_get_array(struct json_obj *o, const char *name, size_t min_len, size_t max_len,
                    const json_t **ret)
{
    const json_t *v = ask(o, name);

    if (!v)
        return false;
    if (!json_is_array(v))
        return bad(o, name, "must be an array");
    if (json_array_size(v) < min_len && max_len == SIZE_MAX)
        return bad(o, name, "must have at least %zu item%s, not %zu", min_len,
                   min_len == 1 ? "" : "s", json_array_size(v));
    if (json_array_size(v) < min_len || json_array_size(v) > max_len)
        return bad(o, name, "must have %zu to %zu items, not %zu", min_len, max_len,
                   json_array_size(v));
    *ret = v;
    return true;
}

bool json_get_ints(struct json_obj *o, const char *name, size_t min_len, size_t max_len,
                   int64_t min, int64_t max, int64_t **ret, size_t *ret_n)
{
    const json_t *array = NULL;
    char pointer[JSON_POINTER_SIZE];
    AUTO_PTR int64_t *values = NULL;
    size_t n, before = o->problems->n;

    if (!json_get_array(o, name, min_len, max_len, &array))
        return false;
    n = json_array_size(array);
    values = calloc(n + 1, sizeof(*values));
    if (!values) {
        o->problems->ran_out = true;
        return bad(o, name, "no memory for %zu integers", n);
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(array, i);

        values[i] = json_integer_value(item);
        if (json_is_integer(item) && values[i] >= min && values[i] <= max)
            continue;
        json_item_pointer(o, name, i, pointer);
        json_problem(o->problems, pointer, "must be an integer of %lld to %lld",
                     (long long)min, (long long)max);
    }
    if (o->problems->n > before)
        return false;
    *ret = TAKE(values);
    *ret_n = n;
    return true;
}

static bool is_label_name(const char *s)
{
    size_t n =
        strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");

    return n > 0 && n <= 63 && s[n] == '\0';
}

bool json_get_labels(struct json_obj *o, const char *name, const json_t **ret)
{
    const json_t *v = ask(o, name);
    char pointer[JSON_POINTER_SIZE];
    struct json_obj labels;
    size_t before = o->problems->n;
    const char *key;
    json_t *value;

    if (!v)
        return false;
    json_member_pointer(o, name, pointer);
    json_obj_begin(&labels, v, pointer, o->problems);
    if (json_object_size(labels.object) > 32)
        bad(o, name, "must have at most 32 labels");
    json_object_foreach ((json_t *)labels.object, key, value) {
        if (!is_label_name(key))
            bad(&labels, key, "a label's name is 1 to 63 of A-Z a-z 0-9 . _ -");
        else if (!json_is_string(value) || json_string_length(value) > 255 ||
                 memchr(json_string_value(value), '\0', json_string_length(value)))
            bad(&labels, key, "a label's value is a string of at most 255 bytes");
    }
    if (o->problems->n > before)
        return false;
    *ret = v;
    return true;
}

char *json_canonical(const json_t *value)
{
    return json_to_text(value, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
}
