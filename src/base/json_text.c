#include "base/json.h"

/* ---- memory ---- */

/* jansson does not say of every allocation that it failed: it is noted here. */
static _Thread_local size_t n_shortages;

size_t json_shortages(void)
{
    return n_shortages;
}

json_t *json_if_whole(json_t *json, size_t shortages)
{
    if (n_shortages == shortages)
        return json;
    json_decref(json);
    return NULL;
}

/* jansson's lexer goes on where it has no memory for a further byte of a string or a number,
 * and then asserts that what it kept is well-formed (lex_scan_string and lex_scan_number in
 * load.c of 2.14).  So some is set aside before it begins.  Once there is no other it gets
 * that, and no more of the text, so that it ends soon. */
static _Thread_local struct reserve {
    char *data;
    size_t size, used, largest; /* bytes; largest: of one allocation */
} reserve;

/* jansson 2.14 with glibc's malloc on 64 bits: the value, its place in the table or list of
 * what holds it, and what a table has besides while it grows. */
#define ELEMENT_BYTES 64
#define MEMBER_BYTES  128 /* more than an element has, without the name */
#define ARRAY_BYTES   144
#define OBJECT_BYTES  272
#define STRING_BYTES  96 /* without its text, which is there twice while it is read */

static void *take_reserve(size_t n)
{
    size_t at = (reserve.used + 15) & ~(size_t)15;

    if (n > reserve.largest || at > reserve.size || n > reserve.size - at)
        return NULL;
    reserve.used = at + n;
    return reserve.data + at;
}

static void *take_memory(size_t n)
{
    void *p = malloc(n);

    if (p)
        return p;
    n_shortages++;
    return take_reserve(n);
}

static void give_memory(void *p)
{
    uintptr_t at = (uintptr_t)p, begin = (uintptr_t)reserve.data;

    if (at < begin || at >= begin + reserve.size)
        free(p);
}

__attribute__((constructor)) static void begin(void)
{
    json_set_alloc_funcs(take_memory, give_memory);
}

/* ---- parsing ---- */

struct source {
    const char *text;
    size_t len, at;
    size_t shortages; /* when it began */
    size_t deepest; /* nesting of brackets outside strings */
    size_t longest; /* bytes of a string or another token */
};

/* What is asked of the text before it is parsed: jansson recurses as deep as its input, up to
 * 2048 levels. */
static void look_over(struct source *s)
{
    size_t depth = 0, begin = 0; /* of the token */
    bool in_string = false;

    for (size_t i = 0; i < s->len; i++) {
        char c = s->text[i];

        if (in_string) {
            i += c == '\\';
            in_string = c != '"';
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            depth++;
            s->deepest = MAX(s->deepest, depth);
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
        if (!in_string && strchr("{}[]:,\" \t\r\n", c)) {
            s->longest = MAX(s->longest, i - begin + 1);
            begin = i + 1;
        }
    }
    s->longest = MAX(s->longest, s->len - begin);
}

#define AT_ONCE 32 /* bytes that are read after memory ran out, at most */

static size_t give_text(void *buffer, size_t room, void *ctx)
{
    struct source *s = ctx;
    size_t n = MIN(MIN(room, s->len - s->at), (size_t)AT_ONCE);

    if (n_shortages != s->shortages)
        return 0; /* the end */
    memcpy(buffer, s->text + s->at, n);
    s->at += n;
    return n;
}

/* The lexer's buffer doubles; a string is copied from there once or twice; and each byte may
 * begin an object. */
static int set_aside(const struct source *s, struct pt2_err *err)
{
    size_t token = 2 * (s->longest + 16), size = 2 * token + 40 * OBJECT_BYTES;

    reserve = (struct reserve){.data = malloc(size),
                               .size = size,
                               .largest = MAX(token, (size_t)OBJECT_BYTES)};
    if (reserve.data)
        return 0;
    reserve = (struct reserve){0};
    return pt2_err_set(err, PT2_ERR_NOMEM, "no memory to parse JSON");
}

static int read_failure(const json_error_t *e, struct pt2_err *err)
{
    switch (json_error_code(e)) {
    case json_error_out_of_memory:
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory to parse JSON");
    case json_error_duplicate_key:
        return pt2_err_set(err, PT2_ERR_INVALID, "a member is there twice: %s, line %d",
                           e->text, e->line);
    case json_error_numeric_overflow:
        return pt2_err_set(err, PT2_ERR_INVALID, "a number is too big: %s, line %d",
                           e->text, e->line);
    default:
        return pt2_err_set(err, PT2_ERR_BAD_JSON, "line %d, column %d: %s", e->line,
                           e->column, e->text);
    }
}

int json_parse(const char *text, size_t len, json_t **ret_json, struct pt2_err *err)
{
    struct source source = {.text = text, .len = len, .shortages = n_shortages};
    json_error_t e;
    json_t *json;
    int r = 0;

    look_over(&source);
    if (source.deepest > JSON_MAX_NESTING)
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "the JSON is nested more than %d levels deep",
                           JSON_MAX_NESTING);
    if (set_aside(&source, err) < 0)
        return -1;
    json = json_load_callback(give_text, &source,
                              JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
    /* Its parser has no other failure without words. */
    if (n_shortages != source.shortages || (!json && !*e.text)) {
        json_decref(json);
        r = pt2_err_set(err, PT2_ERR_NOMEM, "no memory to parse JSON");
    } else if (json) {
        *ret_json = json;
    } else {
        r = read_failure(&e, err);
    }
    free(reserve.data);
    reserve = (struct reserve){0};
    return r;
}

uint64_t json_tree_bytes(const char *text, size_t len)
{
    uint64_t bytes = ELEMENT_BYTES + 2 * (uint64_t)len;
    bool is_string = false;

    for (size_t i = 0; i < len; i++) {
        if (text[i] == '"') {
            is_string = !is_string;
            bytes += is_string ? STRING_BYTES : 0;
        } else if (is_string) {
            i += text[i] == '\\';
        } else if (text[i] == ',') {
            bytes += ELEMENT_BYTES;
        } else if (text[i] == ':') {
            bytes += MEMBER_BYTES;
        } else if (text[i] == '[') {
            bytes += ARRAY_BYTES;
        } else if (text[i] == '{') {
            bytes += OBJECT_BYTES;
        }
    }
    return bytes;
}

/* ---- our own texts ---- */

char *json_to_text(const json_t *json, size_t flags)
{
    const size_t shortages = n_shortages;
    char *text = json_dumps(json, flags);

    if (n_shortages == shortages)
        return text;
    free(text);
    return NULL;
}

json_t *json_of_text(const char *text)
{
    json_t *json = NULL;

    return json_parse(text, strlen(text), &json, NULL) == 0 ? json : NULL;
}
