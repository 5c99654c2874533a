#include "cmd/ctl_text.h"

#include "base/utf8.h"
#include "cmd/ctl_record.h"
#include "cmd/ctl_show.h"

#include <errno.h>

#define MAX_TOKENIZER ((size_t)64 << 20)
#define MAX_METADATA  ((size_t)1 << 20)
#define MAX_TEXT      ((size_t)1 << 26)

/* ---- the tokenizer ---- */

static int read_file(struct ctl *ctl, const char *path, char **ret_json, size_t *ret_len)
{
    AUTO_FILE FILE *file = fopen(path, "rb");
    AUTO_BUF b = BUF_INIT(MAX_TOKENIZER);
    size_t n;

    if (!file)
        return ctl_fail(ctl, CTL_FILE, "%s: %s", path, strerror(errno));
    do {
        char *to = buf_room(&b, 1 << 16);

        if (!to)
            return ctl_fail(ctl, CTL_FILE, "%s: more than %zu bytes", path,
                            MAX_TOKENIZER);
        n = fread(to, 1, 1 << 16, file);
        b.len += n;
    } while (n > 0);
    if (ferror(file))
        return ctl_fail(ctl, CTL_FILE, "%s: %s", path, strerror(errno));
    *ret_len = b.len;
    *ret_json = buf_take(&b);
    return *ret_json ? 0 : ctl_fail_nomem(ctl);
}

static int take_tokenizer(struct text *text, struct ctl *ctl, const char *json,
                          size_t len, bool wants_tokenizer)
{
    struct pt2_err err = {0};

    if (!json && wants_tokenizer)
        return ctl_fail(
            ctl, CTL_REFUSED,
            "the program carries no extra/tokenizer.json; give --tokenizer FILE, "
            "or --ids");
    if (!json || tokenizer_new(json, len, &text->tokenizer, &err) == 0)
        return 0;
    return wants_tokenizer
               ? ctl_fail(ctl, CTL_REFUSED, "tokenizer.json: %s (--ids works without it)",
                          err.text)
               : 0;
}

/* get_eos_ids: a list of ids, or one. */
static void take_ends(struct text *text, const char *metadata, size_t len)
{
    json_auto_t *root = json_loadb(metadata, len, 0, NULL);
    json_t *ids = json_object_get(root, "get_eos_ids"), *id;
    size_t i;

    if (json_is_integer(ids))
        text->ends[text->n_ends++] = json_integer_value(ids);
    json_array_foreach (ids, i, id)
        if (json_is_integer(id) && text->n_ends < TEXT_MAX_ENDS)
            text->ends[text->n_ends++] = json_integer_value(id);
}

int text_init(struct text *text, struct ctl *ctl, const json_t *program, const char *path,
              bool wants_tokenizer)
{
    const char *id = json_string_value(json_object_get(program, "id"));
    json_int_t bytes = json_integer_value(json_object_get(program, "bytes"));
    AUTO_PTR char *json = NULL, *metadata = NULL;
    AUTO(record_reader) reader = NULL;
    size_t len = 0, n_metadata = 0;

    *text = (struct text){0};
    if (record_reader_new(ctl, id ? id : "", (uint64_t)MAX(bytes, 0), &reader) < 0 ||
        record_reader_get(reader, "extra/executorch_metadata.json", MAX_METADATA,
                          &metadata, &n_metadata) < 0)
        return -1;
    if (metadata)
        take_ends(text, metadata, n_metadata);
    if ((path ? read_file(ctl, path, &json, &len)
              : record_reader_get(reader, "extra/tokenizer.json", MAX_TOKENIZER, &json,
                                  &len)) < 0)
        return -1;
    return take_tokenizer(text, ctl, json, len, wants_tokenizer);
}

void text_done(struct text *text)
{
    tokenizer_free(text->tokenizer);
    text->tokenizer = NULL;
}

bool text_ends_with(const struct text *text, int64_t id)
{
    for (size_t i = 0; i < text->n_ends; i++)
        if (text->ends[i] == id)
            return true;
    return false;
}

/* ---- printing ---- */

void text_printer_init(struct text_printer *p, FILE *to)
{
    p->to = to;
    buf_init(&p->bytes, MAX_TEXT);
    buf_init(&p->all, MAX_TEXT);
}

void text_printer_done(struct text_printer *p)
{
    buf_done(&p->bytes);
    buf_done(&p->all);
}

/* May these be the first bytes of a character whose others have not come yet? */
static bool is_begun(const char *s, size_t len)
{
    unsigned char c = (unsigned char)s[0];
    size_t want = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc2 ? 2 : 1;

    if (c > 0xf4 || len >= want)
        return false;
    for (size_t i = 1; i < len; i++)
        if (((unsigned char)s[i] & 0xc0) != 0x80)
            return false;
    return true;
}

static void print_whole(struct text_printer *p, bool is_end)
{
    size_t from = p->all.len, at = 0;

    while (at < p->bytes.len) {
        const char *s = p->bytes.data + at;
        size_t left = p->bytes.len - at, n = utf8_char_len(s, left);

        if (n == 0 && !is_end && is_begun(s, left))
            break;
        if (n == 0 || *s == '\0')
            buf_str(&p->all, "\xef\xbf\xbd");
        else
            buf_add(&p->all, s, n);
        at += MAX(n, (size_t)1);
    }
    if (at == 0)
        return;
    memmove(p->bytes.data, p->bytes.data + at, p->bytes.len - at);
    p->bytes.len -= at;
    if (p->to && p->all.len > from) {
        show_text(p->to, p->all.data + from, true);
        fflush(p->to);
    }
}

void text_print(struct text_printer *p, const struct text *text, int64_t id)
{
    if (text->tokenizer)
        tokenizer_decode(text->tokenizer, id, &p->bytes);
    print_whole(p, false);
}

void text_print_end(struct text_printer *p)
{
    print_whole(p, true);
}
