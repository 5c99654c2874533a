#include "cmd/tokenizer.h"

#include "base/json.h"
#include "base/utf8.h"
#include "cmd/pretokenizer.h"
#include "program/names.h"

#define MAX_ID      (1 << 22)
#define MAX_SPECIAL 16 /* tokens around a text, on each side */

struct token {
    const char *text; /* in the characters that stand for bytes; of an added token as it
                         is; NULL: no token has the id */
    bool is_added, is_special;
};

/* A token that is found in a text before the rest is cut into words. */
struct added {
    const char *text;
    size_t len;
    int64_t id;
};

/* left and right become id; the lower the rank, the sooner. */
struct merge {
    int32_t left, right, id;
    uint32_t rank; /* from 1; 0: an empty slot */
};

struct tokenizer {
    json_t *root; /* owns the texts */
    struct names names;
    struct token *tokens; /* by id */
    int64_t n_tokens;
    struct added *added;
    size_t n_added;
    struct merge *merges; /* a hash table */
    uint32_t merges_mask;
    bool ignore_merges; /* a word that is a token is that token */
    int32_t byte_ids[256];
    uint8_t bytes[0x180]; /* of the characters that stand for bytes */
    struct pretokenizer words;
    int64_t before[MAX_SPECIAL], after[MAX_SPECIAL];
    size_t n_before, n_after;
};

/* ---- bytes as characters ---- */

/* GPT-2 lets a printable byte stand for itself, and the rest for U+0100 and on, in order
 * (openai/gpt-2, encoder.py, bytes_to_unicode). */
static bool is_printable(unsigned byte)
{
    return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
}

static uint32_t char_of_byte(unsigned byte)
{
    uint32_t n = 0x100;

    if (is_printable(byte))
        return byte;
    for (unsigned i = 0; i < byte; i++)
        n += !is_printable(i);
    return n;
}

/* The token that a byte is by itself; a vocabulary may lack some. */
static void find_bytes(struct tokenizer *t)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        uint32_t c = char_of_byte(byte);
        const struct name_slot *slot;
        char text[4];

        slot = names_find(&t->names, text, utf8_put(text, c));
        t->byte_ids[byte] = slot ? (int32_t)slot->number : -1;
        t->bytes[c] = (uint8_t)byte;
    }
}

/* ---- the vocabulary ---- */

static int invalid(struct pt2_err *err, const char *what)
{
    return pt2_err_set(err, PT2_ERR_INVALID, "the tokenizer: %s", what);
}

/* Room for ids up to id. */
static int hold_id(struct tokenizer *t, const json_t *value, int64_t *ret_id,
                   struct pt2_err *err)
{
    int64_t id = json_is_integer(value) ? json_integer_value(value) : -1, room;
    struct token *grown;

    if (id < 0 || id >= MAX_ID)
        return invalid(err, "a token's id is no number from 0 on");
    *ret_id = id;
    if (id < t->n_tokens)
        return 0;
    room = MAX(id + 1, MIN(t->n_tokens * 2, (int64_t)MAX_ID));
    grown = realloc(t->tokens, (size_t)room * sizeof(*grown));
    if (!grown)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a tokenizer");
    memset(grown + t->n_tokens, 0, (size_t)(room - t->n_tokens) * sizeof(*grown));
    t->tokens = grown;
    t->n_tokens = room;
    return 0;
}

static int read_vocab(struct tokenizer *t, json_t *vocab, struct pt2_err *err)
{
    const char *text;
    json_t *value;
    int64_t id;

    if (!json_is_object(vocab))
        return invalid(err, "model.vocab is no object");
    json_object_foreach (vocab, text, value) {
        if (hold_id(t, value, &id, err) < 0)
            return -1;
        if (t->tokens[id].text)
            return invalid(err, "two tokens have one id");
        t->tokens[id].text = text;
        if (!names_add(&t->names, text, (uint32_t)id))
            return pt2_err_set(err, PT2_ERR_NOMEM, "a tokenizer");
    }
    find_bytes(t);
    return 0;
}

static int read_added(struct tokenizer *t, const json_t *list, struct pt2_err *err)
{
    json_t *item;
    size_t i;

    t->added = calloc(json_array_size(list) + 1, sizeof(*t->added));
    if (!t->added)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a tokenizer");
    json_array_foreach (list, i, item) {
        const char *text = json_string_value(json_object_get(item, "content"));
        struct added *added = &t->added[t->n_added];

        if (!text || !*text)
            return invalid(err, "an added token has no content");
        if (hold_id(t, json_object_get(item, "id"), &added->id, err) < 0)
            return -1;
        added->text = text;
        added->len = strlen(text);
        t->tokens[added->id] =
            (struct token){.text = text,
                           .is_added = true,
                           .is_special = json_is_true(json_object_get(item, "special"))};
        t->n_added++;
    }
    return 0;
}

/* ---- merges ---- */

/* The slot of a pair, or the empty one where it would go. */
static struct merge *merge_slot(const struct tokenizer *t, int32_t left, int32_t right)
{
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    uint32_t i = (uint32_t)((key * 0x9e3779b97f4a7c15u) >> 32) & t->merges_mask;

    for (;; i = (i + 1) & t->merges_mask) {
        struct merge *m = &t->merges[i];

        if (m->rank == 0 || (m->left == left && m->right == right))
            return m;
    }
}

/* A merge is "left right" or ["left", "right"]. */
static bool merge_texts(const json_t *item, const char **left, size_t *n_left,
                        const char **right)
{
    const char *both = json_string_value(item), *space;

    if (both) {
        space = strchr(both, ' ');
        if (!space)
            return false;
        *left = both;
        *n_left = (size_t)(space - both);
        *right = space + 1;
        return true;
    }
    *left = json_string_value(json_array_get(item, 0));
    *right = json_string_value(json_array_get(item, 1));
    *n_left = *left ? strlen(*left) : 0;
    return *left && *right;
}

static int read_merge(struct tokenizer *t, const json_t *item, uint32_t rank,
                      struct pt2_err *err)
{
    const struct name_slot *a, *b, *ab;
    const char *left, *right;
    char text[1024];
    size_t n_left, n_right;
    struct merge *m;

    if (!merge_texts(item, &left, &n_left, &right))
        return invalid(err, "a merge is not of two tokens");
    n_right = strlen(right);
    if (n_left + n_right > sizeof(text))
        return invalid(err, "a merge is too long");
    memcpy(text, left, n_left);
    memcpy(text + n_left, right, n_right);
    a = names_find(&t->names, left, n_left);
    b = names_find(&t->names, right, n_right);
    ab = names_find(&t->names, text, n_left + n_right);
    if (!a || !b || !ab)
        return invalid(err, "a merge names a token that the vocabulary lacks");
    m = merge_slot(t, (int32_t)a->number, (int32_t)b->number);
    if (m->rank == 0)
        *m = (struct merge){.left = (int32_t)a->number,
                            .right = (int32_t)b->number,
                            .id = (int32_t)ab->number,
                            .rank = rank};
    return 0;
}

static int read_merges(struct tokenizer *t, const json_t *merges, struct pt2_err *err)
{
    size_t room = 16, i;
    json_t *item;

    if (!json_is_array(merges) || json_array_size(merges) > MAX_ID)
        return invalid(err, "model.merges is no list of merges");
    while (room < json_array_size(merges) * 2)
        room *= 2;
    t->merges = calloc(room, sizeof(*t->merges));
    if (!t->merges)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a tokenizer");
    t->merges_mask = (uint32_t)room - 1;
    json_array_foreach (merges, i, item)
        if (read_merge(t, item, (uint32_t)i + 1, err) < 0)
            return -1;
    return 0;
}

/* ---- what else the file says ---- */

static const char *type_of(const json_t *part)
{
    const char *type = json_string_value(json_object_get(part, "type"));

    return type ? type : "";
}

static int check_model(struct tokenizer *t, const json_t *model, struct pt2_err *err)
{
    static const char *const empty[] = {"continuing_subword_prefix", "end_of_word_suffix",
                                        "dropout"};

    if (!streq(type_of(model), "BPE"))
        return pt2_err_set(err, PT2_ERR_UNSUPPORTED,
                           "the tokenizer's model is '%s', only byte-level BPE is known",
                           type_of(model));
    if (json_is_true(json_object_get(model, "byte_fallback")))
        return pt2_err_set(err, PT2_ERR_UNSUPPORTED,
                           "the tokenizer is BPE with byte_fallback, not byte-level BPE");
    for (size_t i = 0; i < ARRAY_LEN(empty); i++) {
        const json_t *value = json_object_get(model, empty[i]);

        if (value && !json_is_null(value) &&
            !(json_is_string(value) && !*json_string_value(value)))
            return pt2_err_set(err, PT2_ERR_UNSUPPORTED,
                               "the tokenizer's %s is not known", empty[i]);
    }
    t->ignore_merges = json_is_true(json_object_get(model, "ignore_merges"));
    return 0;
}

static int check_normalizer(const json_t *normalizer, struct pt2_err *err)
{
    json_t *part;
    size_t i;

    if (!normalizer || json_is_null(normalizer) || streq(type_of(normalizer), "NFC"))
        return 0;
    if (!streq(type_of(normalizer), "Sequence"))
        return pt2_err_set(err, PT2_ERR_UNSUPPORTED,
                           "the tokenizer's normalizer '%s' is not "
                           "known",
                           type_of(normalizer));
    json_array_foreach (json_object_get(normalizer, "normalizers"), i, part)
        if (!streq(type_of(part), "NFC"))
            return pt2_err_set(err, PT2_ERR_UNSUPPORTED,
                               "the tokenizer's normalizer '%s' is not known",
                               type_of(part));
    return 0;
}

/* TemplateProcessing: special tokens before and after the text ("single"). */
static int read_template(struct tokenizer *t, const json_t *template, struct pt2_err *err)
{
    const json_t *specials = json_object_get(template, "special_tokens");
    bool is_after = false;
    json_t *part, *id;
    size_t i, k;

    json_array_foreach (json_object_get(template, "single"), i, part) {
        const json_t *special = json_object_get(part, "SpecialToken");
        const char *name = json_string_value(json_object_get(special, "id"));

        if (!special) {
            is_after = true;
            continue;
        }
        json_array_foreach (
            json_object_get(json_object_get(specials, name ? name : ""), "ids"), k, id) {
            size_t *n = is_after ? &t->n_after : &t->n_before;
            int64_t value = json_is_integer(id) ? json_integer_value(id) : -1;

            if (*n == MAX_SPECIAL || value < 0 || value >= MAX_ID)
                return invalid(err, "the post_processor's special tokens");
            (is_after ? t->after : t->before)[(*n)++] = value;
        }
    }
    return 0;
}

static int read_post_processor(struct tokenizer *t, const json_t *post,
                               struct pt2_err *err)
{
    json_t *part;
    size_t i;

    if (!post || json_is_null(post) || streq(type_of(post), "ByteLevel"))
        return 0;
    if (streq(type_of(post), "TemplateProcessing"))
        return read_template(t, post, err);
    if (!streq(type_of(post), "Sequence"))
        return pt2_err_set(err, PT2_ERR_UNSUPPORTED,
                           "the tokenizer's post_processor '%s' is not known",
                           type_of(post));
    json_array_foreach (json_object_get(post, "processors"), i, part) {
        if (streq(type_of(part), "Sequence"))
            return invalid(err, "a sequence within a sequence");
        if (read_post_processor(t, part, err) < 0)
            return -1;
    }
    return 0;
}

static int read_all(struct tokenizer *t, struct pt2_err *err)
{
    json_t *model = json_object_get(t->root, "model");

    if (check_model(t, model, err) < 0 ||
        check_normalizer(json_object_get(t->root, "normalizer"), err) < 0 ||
        pretokenizer_init(&t->words, json_object_get(t->root, "pre_tokenizer"), err) <
            0 ||
        read_vocab(t, json_object_get(model, "vocab"), err) < 0 ||
        read_merges(t, json_object_get(model, "merges"), err) < 0 ||
        read_added(t, json_object_get(t->root, "added_tokens"), err) < 0)
        return -1;
    return read_post_processor(t, json_object_get(t->root, "post_processor"), err);
}

int tokenizer_new(const char *json, size_t len, struct tokenizer **ret_tokenizer,
                  struct pt2_err *err)
{
    AUTO(tokenizer) t = calloc(1, sizeof(*t));

    if (!t)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a tokenizer");
    names_init(&t->names);
    if (json_parse(json, len, &t->root, err) < 0 || read_all(t, err) < 0)
        return -1;
    *ret_tokenizer = TAKE(t);
    return 0;
}

void tokenizer_free(struct tokenizer *t)
{
    if (!t)
        return;
    names_done(&t->names);
    json_decref(t->root);
    free(t->tokens);
    free(t->added);
    free(t->merges);
    free(t);
}

/* ---- encoding ---- */

struct encoder {
    const struct tokenizer *t;
    int64_t *ids;
    size_t n, room;
    struct pt2_err *err;
};

/* Room for more ids. */
static int reserve(struct encoder *e, size_t more)
{
    int64_t *grown;
    size_t room;

    if (more <= e->room - e->n)
        return 0;
    room = MAX(e->n + more, e->room * 2);
    grown = reallocarray(e->ids, room, sizeof(*grown));
    if (!grown)
        return pt2_err_set(e->err, PT2_ERR_NOMEM, "token ids");
    e->ids = grown;
    e->room = room;
    return 0;
}

static int push(struct encoder *e, int64_t id)
{
    if (reserve(e, 1) < 0)
        return -1;
    e->ids[e->n++] = id;
    return 0;
}

/* The place of the pair that merges first, n where none does. */
static size_t best_merge(const struct tokenizer *t, const int64_t *ids, size_t n,
                         int32_t *ret_id)
{
    uint32_t best = UINT32_MAX;
    size_t at = n;

    for (size_t i = 0; i + 1 < n; i++) {
        const struct merge *m = merge_slot(t, (int32_t)ids[i], (int32_t)ids[i + 1]);

        if (m->rank != 0 && m->rank < best) {
            best = m->rank;
            *ret_id = m->id;
            at = i;
        }
    }
    return at;
}

/* The whole word as one token, where there is such a token. */
static const struct name_slot *whole_word(const struct tokenizer *t, const char *word,
                                          size_t len)
{
    char text[1024];
    size_t n = 0;

    if (len > sizeof(text) / 2)
        return NULL;
    for (size_t i = 0; i < len; i++)
        n += utf8_put(text + n, char_of_byte((unsigned char)word[i]));
    return names_find(&t->names, text, n);
}

static int encode_word(void *ctx, const char *word, size_t len)
{
    struct encoder *e = ctx;
    const struct name_slot *whole =
        e->t->ignore_merges ? whole_word(e->t, word, len) : NULL;
    size_t n = len, at;
    int64_t *ids;
    int32_t id = -1;

    if (whole)
        return push(e, whole->number);
    if (reserve(e, len) < 0)
        return -1;
    ids = e->ids + e->n;
    for (size_t i = 0; i < len; i++) {
        ids[i] = e->t->byte_ids[(unsigned char)word[i]];
        if (ids[i] < 0)
            return pt2_err_set(e->err, PT2_ERR_INVALID,
                               "the tokenizer has no token for the byte 0x%02x",
                               (unsigned char)word[i]);
    }
    while ((at = best_merge(e->t, ids, n, &id)) < n) {
        ids[at] = id;
        memmove(ids + at + 1, ids + at + 2, (n - at - 2) * sizeof(*ids));
        n--;
    }
    e->n += n;
    return 0;
}

/* The longest added token that stands at the text's begin; NULL where none does. */
static const struct added *added_at(const struct tokenizer *t, const char *text,
                                    size_t len)
{
    const struct added *best = NULL;

    for (size_t i = 0; i < t->n_added; i++) {
        const struct added *a = &t->added[i];

        if (a->len <= len && a->text[0] == text[0] &&
            memcmp(a->text, text, a->len) == 0 && (!best || a->len > best->len))
            best = a;
    }
    return best;
}

static int encode_text(struct encoder *e, const char *text, size_t len)
{
    size_t from = 0, at = 0;

    while (at < len) {
        const struct added *added = added_at(e->t, text + at, len - at);

        if (!added) {
            at++;
            continue;
        }
        if (pretokenizer_run(&e->t->words, text + from, at - from, encode_word, e) < 0 ||
            push(e, added->id) < 0)
            return -1;
        from = at += added->len;
    }
    return pretokenizer_run(&e->t->words, text + from, len - from, encode_word, e);
}

static int encode_all(struct encoder *e, const char *text, size_t len, bool with_special)
{
    for (size_t i = 0; with_special && i < e->t->n_before; i++)
        if (push(e, e->t->before[i]) < 0)
            return -1;
    if (encode_text(e, text, len) < 0)
        return pt2_err_set(e->err, PT2_ERR_NOMEM, "token ids");
    for (size_t i = 0; with_special && i < e->t->n_after; i++)
        if (push(e, e->t->after[i]) < 0)
            return -1;
    return 0;
}

int tokenizer_encode(const struct tokenizer *t, const char *text, size_t len,
                     bool with_special, int64_t **ret_ids, size_t *ret_n,
                     struct pt2_err *err)
{
    struct pt2_err own = {0};
    struct encoder e = {.t = t, .err = &own};

    if (!utf8_is_valid(text, len))
        return pt2_err_set(err, PT2_ERR_INVALID, "the text is not UTF-8");
    if (encode_all(&e, text, len, with_special) < 0 || reserve(&e, 1) < 0) {
        free(e.ids);
        return pt2_err_set(err, own.code, "%s", own.text);
    }
    *ret_ids = e.ids;
    *ret_n = e.n;
    return 0;
}

/* ---- decoding ---- */

void tokenizer_decode(const struct tokenizer *t, int64_t id, struct buf *to)
{
    const struct token *token = id >= 0 && id < t->n_tokens ? &t->tokens[id] : NULL;

    if (!token || !token->text || token->is_special)
        return;
    if (token->is_added) {
        buf_str(to, token->text);
        return;
    }
    for (const char *p = token->text; *p;) {
        size_t n = utf8_char_len(p, strlen(p));
        uint32_t c = (unsigned char)*p;

        if (n == 2)
            c = (uint32_t)(p[0] & 0x1f) << 6 | (uint32_t)(p[1] & 0x3f);
        if (n <= 2 && c < ARRAY_LEN(t->bytes) && char_of_byte(t->bytes[c]) == c)
            buf_add(to, &t->bytes[c], 1);
        else
            buf_add(to, p, n); /* no byte-level character: as it is */
        p += n;
    }
}
