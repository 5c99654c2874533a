#include "checkpoint/gguf_vocab.h"

#include "base/utf8.h"

#include <math.h>

#define SPACE     "\xe2\x96\x81" /* U+2581 */
#define SPACE_LEN 3

static int unsupported(struct pt2_err *err, const char *what, size_t i)
{
    return pt2_err_set(err, PT2_ERR_UNSUPPORTED, "token %zu %s", i, what);
}

static int no_memory(struct pt2_err *err)
{
    return pt2_err_set(err, PT2_ERR_NOMEM, "no memory for a vocabulary");
}

/* ---- lists ---- */

static void list_done(struct vocab_list *list)
{
    free(list->bytes);
    free(list->at);
    free(list->len);
    *list = (struct vocab_list){0};
}

/* Where each string lies.  The file was checked, but may be another one by now. */
static int find_strings(struct vocab_list *list, size_t bytes, struct pt2_err *err)
{
    size_t at = 0;

    for (size_t i = 0; i < list->n; i++) {
        const uint8_t *p = (const uint8_t *)list->bytes + at;
        uint64_t len = 0;

        if (bytes - at >= 8)
            for (unsigned b = 0; b < 8; b++)
                len |= (uint64_t)p[b] << 8 * b;
        if (bytes - at < 8 || len > bytes - at - 8)
            return pt2_err_set(err, PT2_ERR_CHECKPOINT_CHANGED,
                               "the vocabulary was written meanwhile");
        if (len > VOCAB_MAX_TOKEN)
            return unsupported(err, "is too long", i);
        if (!utf8_is_valid(list->bytes + at + 8, (size_t)len))
            return unsupported(err, "is not UTF-8", i);
        list->at[i] = (uint32_t)(at + 8);
        list->len[i] = (uint32_t)len;
        at += 8 + (size_t)len;
    }
    return 0;
}

static int read_list(const struct gguf *g, const struct gguf_value *v,
                     struct vocab_list *list, struct pt2_err *err)
{
    if (v->n_items > 4 * VOCAB_MAX_TOKENS)
        return pt2_err_set(err, PT2_ERR_UNSUPPORTED, "'%s' has %llu strings", v->key,
                           (unsigned long long)v->n_items);
    list->n = (size_t)v->n_items;
    list->at = calloc(list->n + 1, sizeof(*list->at));
    list->len = calloc(list->n + 1, sizeof(*list->len));
    if (!list->at || !list->len)
        return no_memory(err);
    if (gguf_bytes(g, v, GGUF_MAX_HEADER, &list->bytes, err) < 0)
        return -1;
    return find_strings(list, (size_t)v->bytes, err);
}

static bool is_array(const struct gguf_value *v, enum gguf_kind item_kind)
{
    return v && v->kind == GGUF_ARRAY && v->item_kind == item_kind;
}

/* An array of a number of four bytes for each token; *ret is NULL where there is none. */
static int read_numbers(const struct gguf *g, const char *key, enum gguf_kind kind,
                        size_t n, char **ret, struct pt2_err *err)
{
    const struct gguf_value *v = gguf_find(g, key);

    *ret = NULL;
    if (!is_array(v, kind) || v->n_items != n)
        return 0;
    return gguf_bytes(g, v, GGUF_MAX_HEADER, ret, err);
}

/* ---- by their texts ---- */

static int compare_texts(const char *a, size_t a_len, const char *b, size_t b_len)
{
    int r = memcmp(a, b, MIN(a_len, b_len));

    return r ? r : (a_len > b_len) - (a_len < b_len);
}

static int compare_tokens(const void *a, const void *b, void *list)
{
    const struct vocab_list *l = list;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return compare_texts(l->bytes + l->at[x], l->len[x], l->bytes + l->at[y], l->len[y]);
}

static int sort_tokens(struct vocab *v, struct pt2_err *err)
{
    struct vocab_list *l = &v->tokens;

    v->sorted = calloc(l->n, sizeof(*v->sorted));
    if (!v->sorted)
        return no_memory(err);
    for (size_t i = 0; i < l->n; i++)
        v->sorted[i] = (uint32_t)i;
    qsort_r(v->sorted, l->n, sizeof(*v->sorted), compare_tokens, l);
    for (size_t i = 1; i < l->n; i++)
        if (compare_tokens(&v->sorted[i - 1], &v->sorted[i], l) == 0)
            return unsupported(err, "is there twice", v->sorted[i]);
    return 0;
}

static bool is_token(const struct vocab *v, const char *text, size_t len)
{
    const struct vocab_list *l = &v->tokens;
    size_t low = 0, high = l->n;

    while (low < high) {
        size_t middle = (low + high) / 2;
        uint32_t id = v->sorted[middle];
        int r = compare_texts(text, len, l->bytes + l->at[id], l->len[id]);

        if (r == 0)
            return true;
        if (r < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return false;
}

/* ---- merges ---- */

static int add_merge(struct vocab *v, const struct vocab_merge *merge,
                     struct pt2_err *err)
{
    size_t cap = MAX((size_t)1024, v->cap_merges + v->cap_merges / 2);
    struct vocab_merge *grown;

    if (v->n_merges == v->cap_merges) {
        grown = reallocarray(v->merges, cap, sizeof(*grown));
        if (!grown)
            return no_memory(err);
        v->merges = grown;
        v->cap_merges = cap;
    }
    v->merges[v->n_merges++] = *merge;
    return 0;
}

void vocab_merge_at(const struct vocab *v, size_t i, const char **ret_left,
                    size_t *ret_left_len, const char **ret_right, size_t *ret_right_len)
{
    const struct vocab_merge *m = &v->merges[i];
    bool is_line = v->merge_texts.n > 0;
    const struct vocab_list *l = is_line ? &v->merge_texts : &v->tokens;

    *ret_left = l->bytes + l->at[m->text];
    *ret_left_len = m->left_len;
    *ret_right = *ret_left + m->left_len + is_line; /* behind the space */
    *ret_right_len = l->len[m->text] - m->left_len - is_line;
}

/* "left right": the file says them. */
static int read_merges(const struct gguf *g, const struct gguf_value *value,
                       struct vocab *v, struct pt2_err *err)
{
    const struct vocab_list *l = &v->merge_texts;

    if (read_list(g, value, &v->merge_texts, err) < 0)
        return -1;
    for (size_t i = 0; i < l->n; i++) {
        const char *text = l->bytes + l->at[i];
        const char *space = memchr(text, ' ', l->len[i]);
        struct vocab_merge m = {.text = (uint32_t)i};

        if (!space || memchr(space + 1, ' ', l->len[i] - (size_t)(space + 1 - text)))
            return pt2_err_set(err, PT2_ERR_UNSUPPORTED, "merge %zu is no pair", i);
        m.left_len = (uint16_t)(space - text);
        if (add_merge(v, &m, err) < 0)
            return -1;
    }
    return 0;
}

/* The tokens first to end, by their texts, begin with len - 1 bytes or fewer of text:
 * leave those that begin with len. */
static void narrow(const struct vocab *v, const char *text, size_t len, size_t *first,
                   size_t *end)
{
    const struct vocab_list *l = &v->tokens;
    size_t low[2] = {*first, *first};

    for (int after = 0; after < 2; after++) {
        size_t high = *end;

        while (low[after] < high) {
            size_t middle = (low[after] + high) / 2;
            uint32_t id = v->sorted[middle];
            int r = compare_texts(l->bytes + l->at[id], MIN((size_t)l->len[id], len),
                                  text, len);

            if (r < 0 || (r == 0 && after))
                low[after] = middle + 1;
            else
                high = middle;
        }
    }
    *first = low[0];
    *end = low[1];
}

/* All ways to put the token together from two others. */
static int split_token(struct vocab *v, uint32_t id, struct pt2_err *err)
{
    size_t len, n, first = 0, end = v->tokens.n;
    const char *text = vocab_token(v, id, &len);
    uint16_t chars = 0, done = 0;

    for (size_t i = 0; i < len; i += n, chars++)
        n = utf8_char_len(text + i, len - i);
    for (size_t i = utf8_char_len(text, len); i < len; i += n) {
        struct vocab_merge m = {
            .text = id, .left_len = (uint16_t)i, .left_chars = ++done};

        n = utf8_char_len(text + i, len - i);
        narrow(v, text, i, &first, &end);
        if (v->tokens.len[v->sorted[first]] != i || !is_token(v, text + i, len - i))
            continue;
        m.right_chars = chars - done;
        if (add_merge(v, &m, err) < 0)
            return -1;
    }
    return 0;
}

static double score_of(const struct vocab *v, uint32_t id)
{
    double score = v->by_id ? -(double)id : (double)v->scores[id];

    return isnan(score) ? -HUGE_VAL : score;
}

/* transformers, tokenization_utils_base.py, generate_merges: the better score first, then
 * the longer left part, then the longer right one, then the lower id. */
static int compare_merges(const void *a, const void *b, void *vocab)
{
    const struct vocab_merge *x = a, *y = b;
    double x_score = score_of(vocab, x->text), y_score = score_of(vocab, y->text);

    if (x_score != y_score)
        return x_score < y_score ? 1 : -1;
    if (x->left_chars != y->left_chars)
        return (int)y->left_chars - (int)x->left_chars;
    if (x->right_chars != y->right_chars)
        return (int)y->right_chars - (int)x->right_chars;
    return (x->text > y->text) - (x->text < y->text);
}

static int find_merges(struct vocab *v, struct pt2_err *err)
{
    if (!v->by_id && !v->scores)
        return pt2_err_set(err, PT2_ERR_UNSUPPORTED,
                           "a vocabulary with neither merges nor scores");
    for (size_t i = 0; i < v->tokens.n; i++)
        if (split_token(v, v->sorted[i], err) < 0) /* neighbours share what is narrowed */
            return -1;
    if (v->n_merges > 0)
        qsort_r(v->merges, v->n_merges, sizeof(*v->merges), compare_merges, v);
    return 0;
}

/* Gemma's files hold runs of spaces as they are, its tokenizer with U+2581. */
static int respell_spaces(struct vocab_list *l, struct pt2_err *err)
{
    size_t more = 0, bytes = 0;
    char *grown;

    for (size_t i = 0; i < l->n; i++) {
        const char *text = l->bytes + l->at[i];
        size_t n = strspn(text, " ");

        bytes = MAX(bytes, (size_t)l->at[i] + l->len[i]);
        if (l->len[i] > 0 && n >= l->len[i])
            more += (size_t)l->len[i] * SPACE_LEN;
    }
    grown = realloc(l->bytes, bytes + more + 1);
    if (!grown)
        return no_memory(err);
    l->bytes = grown;
    for (size_t i = 0; i < l->n; i++) {
        uint32_t len = l->len[i];

        if (len == 0 || strspn(l->bytes + l->at[i], " ") < len)
            continue;
        l->at[i] = (uint32_t)bytes;
        l->len[i] = len * SPACE_LEN;
        for (uint32_t k = 0; k < len; k++, bytes += SPACE_LEN)
            memcpy(l->bytes + bytes, SPACE, SPACE_LEN);
    }
    l->bytes[bytes] = '\0';
    return 0;
}

/* ---- all of it ---- */

static int read_types(const struct gguf *g, struct vocab *v, struct pt2_err *err)
{
    char *types = NULL, *scores = NULL;
    size_t n = v->tokens.n;

    if (read_numbers(g, "tokenizer.ggml.token_type", GGUF_I32, n, &types, err) < 0)
        return -1;
    v->types = (int32_t *)(void *)types;
    if (!types && !(v->types = calloc(n, sizeof(*v->types))))
        return no_memory(err);
    if (read_numbers(g, "tokenizer.ggml.scores", GGUF_F32, n, &scores, err) < 0)
        return -1;
    v->scores = (float *)(void *)scores;
    return 0;
}

int vocab_read(const struct gguf *gguf, bool has_spaces, struct vocab *vocab,
               struct pt2_err *err)
{
    const struct gguf_value *tokens = gguf_find(gguf, "tokenizer.ggml.tokens");

    if (!is_array(tokens, GGUF_STRING) || tokens->n_items == 0 ||
        tokens->n_items > VOCAB_MAX_TOKENS)
        return pt2_err_set(err, PT2_ERR_UNSUPPORTED,
                           "tokenizer.ggml.tokens must be 1 to %llu strings",
                           (unsigned long long)VOCAB_MAX_TOKENS);
    if (read_list(gguf, tokens, &vocab->tokens, err) < 0 ||
        read_types(gguf, vocab, err) < 0 ||
        (has_spaces && respell_spaces(&vocab->tokens, err) < 0))
        return -1;
    return sort_tokens(vocab, err);
}

int vocab_read_merges(const struct gguf *gguf, bool is_byte_level, bool by_id,
                      struct vocab *vocab, struct pt2_err *err)
{
    const struct gguf_value *merges = gguf_find(gguf, "tokenizer.ggml.merges");

    if (is_array(merges, GGUF_STRING))
        return read_merges(gguf, merges, vocab, err);
    if (is_byte_level)
        return pt2_err_set(err, PT2_ERR_UNSUPPORTED,
                           "a byte-level vocabulary without tokenizer.ggml.merges");
    vocab->by_id = by_id;
    return find_merges(vocab, err);
}

void vocab_done(struct vocab *vocab)
{
    list_done(&vocab->tokens);
    list_done(&vocab->merge_texts);
    free(vocab->sorted);
    free(vocab->types);
    free(vocab->scores);
    free(vocab->merges);
    *vocab = (struct vocab){0};
}
