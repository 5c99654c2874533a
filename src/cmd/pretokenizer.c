#include "cmd/pretokenizer.h"

#include "base/utf8.h"

/* ---- characters ---- */

struct range {
    uint32_t first, last;
};

static const struct range letters[] = {
#define UNICODE_L(first, last) {first, last},
#include "cmd/tbl_unicode.h"
#undef UNICODE_L
};

static const struct range numbers[] = {
#define UNICODE_N(first, last) {first, last},
#include "cmd/tbl_unicode.h"
#undef UNICODE_N
};

static bool within(const struct range *ranges, size_t n, uint32_t c)
{
    size_t low = 0, high = n;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (c > ranges[middle].last)
            low = middle + 1;
        else
            high = middle;
    }
    return low < n && c >= ranges[low].first;
}

/* \p{L}, \p{N}, \s, anything else */
enum kind { LETTER, NUMBER, SPACE, OTHER, END };

/* White_Space of Unicode's PropList.txt, which \s of the patterns is. */
static bool is_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

/* A character of a text that is UTF-8, and where the next one begins. */
struct at {
    enum kind kind;
    uint32_t c;
    size_t next;
};

static struct at look(const char *text, size_t len, size_t pos)
{
    static const unsigned char masks[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    size_t n = pos < len ? utf8_char_len(text + pos, len - pos) : 0;
    struct at at = {.kind = END, .next = pos + n};

    if (n == 0)
        return at;
    at.c = (unsigned char)text[pos] & masks[n];
    for (size_t i = 1; i < n; i++)
        at.c = at.c << 6 | ((unsigned char)text[pos + i] & 0x3f);
    at.kind = within(letters, ARRAY_LEN(letters), at.c)   ? LETTER
              : within(numbers, ARRAY_LEN(numbers), at.c) ? NUMBER
              : is_space(at.c)                            ? SPACE
                                                          : OTHER;
    return at;
}

/* The end of a run of a kind from pos on, of at most max characters. */
static size_t run(const char *text, size_t len, size_t pos, enum kind kind, size_t max)
{
    for (; max > 0; max--) {
        struct at at = look(text, len, pos);

        if (at.kind != kind)
            break;
        pos = at.next;
    }
    return pos;
}

/* ---- the patterns, each as the length of the first word ---- */

/* 's 't 're 've 'm 'll 'd; 0 where there is none. */
static size_t contraction(const char *text, size_t len, bool any_case)
{
    static const char *const endings[] = {"s", "t", "re", "ve", "m", "ll", "d"};

    if (text[0] != '\'')
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(endings); i++) {
        size_t n = strlen(endings[i]);

        if (len > n && (any_case ? strncasecmp(text + 1, endings[i], n)
                                 : strncmp(text + 1, endings[i], n)) == 0)
            return n + 1;
    }
    return 0;
}

/* \s+(?!\S)|\s+ : white space but for its last character, which goes to the word behind
 * it, unless there is none. */
static size_t spaces(const char *text, size_t len)
{
    size_t end = run(text, len, 0, SPACE, SIZE_MAX), last = 0, next;

    if (end == len)
        return end;
    for (next = look(text, len, 0).next; next < end; next = look(text, len, next).next)
        last = next;
    return last > 0 ? last : end;
}

/* ?\p{L}+ and its like: a run with one space before it, or 0. */
static size_t spaced_run(const char *text, size_t len, enum kind kind)
{
    size_t start = text[0] == ' ', end = run(text, len, start, kind, SIZE_MAX);

    return end > start ? end : 0;
}

/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static size_t gpt2_word(const char *text, size_t len)
{
    size_t n = contraction(text, len, false);

    for (enum kind kind = LETTER; n == 0 && kind < END; kind++)
        if (kind != SPACE)
            n = spaced_run(text, len, kind);
    return n ? n : spaces(text, len);
}

static bool is_line_end(uint32_t c)
{
    return c == '\r' || c == '\n';
}

/* \s*[\r\n]+ : white space up to its last line end, or 0. */
static size_t lines(const char *text, size_t len)
{
    size_t end = run(text, len, 0, SPACE, SIZE_MAX);

    while (end > 0 && !is_line_end((unsigned char)text[end - 1]))
        end--;
    return end;
}

/* (?i:'s|...)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,max}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|
 * \s+(?!\S)|\s+ */
static size_t modern_word(const char *text, size_t len, size_t max_digits)
{
    struct at first = look(text, len, 0);
    size_t n = contraction(text, len, true), start, end;

    if (n > 0)
        return n;
    start = first.kind == LETTER || first.kind == NUMBER || is_line_end(first.c)
                ? 0
                : first.next;
    end = run(text, len, start, LETTER, SIZE_MAX);
    if (end > start)
        return end;
    if (first.kind == NUMBER)
        return run(text, len, 0, NUMBER, max_digits);
    n = spaced_run(text, len, OTHER);
    if (n > 0) {
        while (n < len && is_line_end((unsigned char)text[n]))
            n++;
        return n;
    }
    n = lines(text, len);
    return n ? n : spaces(text, len);
}

/* Numbers apart from the rest: one by one, or in runs. */
static size_t digits_word(const char *text, size_t len, bool one_by_one)
{
    size_t pos = run(text, len, 0, NUMBER, one_by_one ? 1 : SIZE_MAX);
    struct at at;

    if (pos > 0)
        return pos;
    for (at = look(text, len, 0); at.kind != NUMBER && at.kind != END;
         at = look(text, len, pos))
        pos = at.next;
    return pos;
}

static size_t first_word(enum pretokenizer_step step, const char *text, size_t len)
{
    switch (step) {
    case STEP_DIGITS:
        return digits_word(text, len, false);
    case STEP_DIGIT:
        return digits_word(text, len, true);
    case STEP_GPT2:
        return gpt2_word(text, len);
    case STEP_WORDS_1:
        return modern_word(text, len, 1);
    case STEP_WORDS_3:
        return modern_word(text, len, 3);
    case STEP_PREFIX_SPACE:
        break;
    }
    return len;
}

/* ---- all steps ---- */

static int run_from(const struct pretokenizer *p, size_t i, const char *text, size_t len,
                    int (*on_word)(void *ctx, const char *word, size_t len), void *ctx)
{
    if (len == 0)
        return 0;
    if (i == p->n)
        return on_word(ctx, text, len);
    if (p->steps[i] == STEP_PREFIX_SPACE && text[0] != ' ') {
        AUTO_PTR char *longer = malloc(len + 1);

        if (!longer)
            return -1;
        longer[0] = ' ';
        memcpy(longer + 1, text, len);
        return run_from(p, i + 1, longer, len + 1, on_word, ctx);
    }
    while (len > 0) {
        size_t n = first_word(p->steps[i], text, len);

        if (n == 0) /* not UTF-8: the rest as it is */
            n = len;
        if (run_from(p, i + 1, text, n, on_word, ctx) < 0)
            return -1;
        text += n;
        len -= n;
    }
    return 0;
}

int pretokenizer_run(const struct pretokenizer *p, const char *text, size_t len,
                     int (*on_word)(void *ctx, const char *word, size_t len), void *ctx)
{
    return run_from(p, 0, text, len, on_word, ctx);
}

/* ---- from tokenizer.json ---- */

#define WORDS(numbers)                                                                   \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" numbers                \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static int add_step(struct pretokenizer *p, enum pretokenizer_step step,
                    struct pt2_err *err)
{
    if (p->n == PRETOKENIZER_MAX_STEPS)
        return pt2_err_set(err, PT2_ERR_UNSUPPORTED,
                           "the pre_tokenizer has more than %d steps",
                           PRETOKENIZER_MAX_STEPS);
    p->steps[p->n++] = step;
    return 0;
}

static int add_split(struct pretokenizer *p, const json_t *split, struct pt2_err *err)
{
    static const struct {
        const char *pattern;
        enum pretokenizer_step step;
    } known[] = {
        {WORDS("\\p{N}{1,3}"), STEP_WORDS_3},
        {WORDS("\\p{N}"), STEP_WORDS_1},
        {"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| "
         "?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
         STEP_GPT2},
    };
    const char *pattern =
        json_string_value(json_object_get(json_object_get(split, "pattern"), "Regex"));
    const char *behavior = json_string_value(json_object_get(split, "behavior"));

    if (!behavior || !streq(behavior, "Isolated") ||
        json_is_true(json_object_get(split, "invert")))
        pattern = NULL;
    for (size_t i = 0; pattern && i < ARRAY_LEN(known); i++)
        if (streq(pattern, known[i].pattern))
            return add_step(p, known[i].step, err);
    return pt2_err_set(err, PT2_ERR_UNSUPPORTED,
                       "the tokenizer cuts words by a pattern that is not known");
}

static int add_byte_level(struct pretokenizer *p, const json_t *step, struct pt2_err *err)
{
    const json_t *use_regex = json_object_get(step, "use_regex");

    if (json_is_true(json_object_get(step, "add_prefix_space")) &&
        add_step(p, STEP_PREFIX_SPACE, err) < 0)
        return -1;
    return use_regex && !json_is_true(use_regex) ? 0 : add_step(p, STEP_GPT2, err);
}

/* One step that is no sequence. */
static int add_one(struct pretokenizer *p, const json_t *step, struct pt2_err *err)
{
    const char *type = json_string_value(json_object_get(step, "type"));

    if (!type)
        return pt2_err_set(err, PT2_ERR_UNSUPPORTED, "a pre_tokenizer has no type");
    if (streq(type, "ByteLevel"))
        return add_byte_level(p, step, err);
    if (streq(type, "Split"))
        return add_split(p, step, err);
    if (streq(type, "Digits"))
        return add_step(p,
                        json_is_true(json_object_get(step, "individual_digits"))
                            ? STEP_DIGIT
                            : STEP_DIGITS,
                        err);
    return pt2_err_set(err, PT2_ERR_UNSUPPORTED, "pre_tokenizer '%s' is not known", type);
}

int pretokenizer_init(struct pretokenizer *p, const json_t *pre_tokenizer,
                      struct pt2_err *err)
{
    const char *type = json_string_value(json_object_get(pre_tokenizer, "type"));
    json_t *step;
    size_t i;

    *p = (struct pretokenizer){0};
    if (!type || !streq(type, "Sequence"))
        return add_one(p, pre_tokenizer, err);
    json_array_foreach (json_object_get(pre_tokenizer, "pretokenizers"), i, step)
        if (add_one(p, step, err) < 0)
            return -1;
    return 0;
}
