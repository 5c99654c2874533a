#include "checkpoint/gguf_tokenizer.h"

#include "base/buf.h"
#include "base/utf8.h"
#include "checkpoint/gguf_vocab.h"
#include "checkpoint/gguf_words.h"

#include <jansson.h>

#define MAX_JSON     ((size_t)256 << 20) /* bytes of a tokenizer.json */
#define MAX_TEMPLATE ((size_t)1 << 20)
#define MAX_WORD     64

/* ---- what the file says ---- */

enum model { MODEL_BYTES, MODEL_LLAMA, MODEL_GEMMA, MODEL_PHI3 };

struct tokenizer {
    const struct gguf *gguf;
    enum model model;
    const struct gguf_words *words; /* of MODEL_BYTES */
    bool add_bos, add_eos, has_prefix;
    int64_t bos, eos, unk, pad; /* -1: none */
    struct vocab vocab;
    struct buf to;
};

/* A short string of the metadata; "" where there is none. */
static int read_word(const struct gguf *g, const char *key, char to[MAX_WORD],
                     struct pt2_err *err)
{
    const struct gguf_value *v = gguf_find(g, key);
    AUTO_PTR char *text = NULL;

    to[0] = '\0';
    if (!v || v->kind != GGUF_STRING || v->bytes >= MAX_WORD)
        return 0;
    if (gguf_bytes(g, v, MAX_WORD, &text, err) < 0)
        return -1;
    if (utf8_is_valid(text, strlen(text)))
        snprintf(to, MAX_WORD, "%s", text);
    return 0;
}

static int64_t read_id(const struct tokenizer *t, const char *key)
{
    int64_t id;

    return gguf_int(gguf_find(t->gguf, key), &id) && id >= 0 &&
                   (uint64_t)id < t->vocab.tokens.n
               ? id
               : -1;
}

static int find_words(struct tokenizer *t, struct pt2_err *err)
{
    char pre[MAX_WORD];

    if (read_word(t->gguf, "tokenizer.ggml.pre", pre, err) < 0)
        return -1;
    t->words = gguf_words_find(*pre ? pre : "default");
    if (!t->words)
        return pt2_err_set(err, PT2_ERR_UNSUPPORTED,
                           "tokenizer.ggml.pre '%s' is not known", pre);
    return 0;
}

static int find_model(struct tokenizer *t, struct pt2_err *err)
{
    const char *arch = t->gguf->arch;
    char model[MAX_WORD];

    if (read_word(t->gguf, "tokenizer.ggml.model", model, err) < 0)
        return -1;
    if (streq(model, "gpt2")) {
        t->model = MODEL_BYTES;
        return find_words(t, err);
    }
    if (!streq(model, "llama"))
        return pt2_err_set(err, PT2_ERR_UNSUPPORTED,
                           "tokenizer.ggml.model '%s' is neither gpt2 nor llama", model);
    t->model = after_prefix(arch, "gemma") ? MODEL_GEMMA
               : streq(arch, "phi3")       ? MODEL_PHI3
                                           : MODEL_LLAMA;
    return 0;
}

static int tokenizer_read(struct tokenizer *t, struct pt2_err *err)
{
    if (find_model(t, err) < 0 ||
        vocab_read(t->gguf, t->model == MODEL_GEMMA, &t->vocab, err) < 0)
        return -1;
    t->bos = read_id(t, "tokenizer.ggml.bos_token_id");
    t->eos = read_id(t, "tokenizer.ggml.eos_token_id");
    t->unk = read_id(t, "tokenizer.ggml.unknown_token_id");
    t->pad = read_id(t, "tokenizer.ggml.padding_token_id");
    t->add_bos = gguf_bool(gguf_find(t->gguf, "tokenizer.ggml.add_bos_token"),
                           t->words ? t->words->is_llama3 : true) &&
                 t->bos >= 0;
    t->add_eos = gguf_bool(gguf_find(t->gguf, "tokenizer.ggml.add_eos_token"), false) &&
                 t->eos >= 0;
    t->has_prefix =
        gguf_bool(gguf_find(t->gguf, "tokenizer.ggml.add_space_prefix"), true);
    return 0;
}

static void tokenizer_done(struct tokenizer *t)
{
    vocab_done(&t->vocab);
    buf_done(&t->to);
}

/* ---- texts as JSON ---- */

static void put_text(struct buf *to, const char *text, size_t len)
{
    buf_add(to, "\"", 1);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];

        if (c == '"' || c == '\\')
            buf_printf(to, "\\%c", c);
        else if (c < ' ')
            buf_printf(to, "\\u%04x", c);
        else
            buf_add(to, text + i, 1);
    }
    buf_add(to, "\"", 1);
}

static void put_token(struct tokenizer *t, int64_t id)
{
    size_t len;
    const char *text = vocab_token(&t->vocab, (size_t)id, &len);

    put_text(&t->to, text, len);
}

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

/* Is each character one that stands for a byte?  68 bytes are not printable. */
static bool is_spelled(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i], next;

        if (c < 0x80) {
            if (!is_printable(c))
                return false;
            continue;
        }
        next = i + 1 < len ? (unsigned char)text[i + 1] : 0;
        if (c > 0xc5 || (c == 0xc5 && next > 0x83) || (c == 0xc2 && !is_printable(next)))
            return false;
        i++;
    }
    return true;
}

/* A token of the vocabulary: one with other characters counts as the bytes that it has.
 */
static void put_spelled(struct tokenizer *t, size_t id)
{
    char spelled[2 * VOCAB_MAX_TOKEN];
    size_t len, n = 0;
    const char *text = vocab_token(&t->vocab, id, &len);

    if (t->model != MODEL_BYTES || is_spelled(text, len)) {
        put_text(&t->to, text, len);
        return;
    }
    for (size_t i = 0; i < len; i++) {
        char c[4];
        size_t bytes = utf8_put(c, char_of_byte((unsigned char)text[i]));

        memcpy(spelled + n, c, bytes);
        n += bytes;
    }
    put_text(&t->to, spelled, n);
}

/* ---- the parts of a tokenizer.json ---- */

static bool is_special(const struct tokenizer *t, size_t id)
{
    int64_t i = (int64_t)id;

    return t->vocab.types[id] == VOCAB_CONTROL || i == t->bos || i == t->eos ||
           i == t->unk || i == t->pad;
}

/* Of Gemma's tokens of spaces, which are respelled: in a text they are not to be found.
 */
static bool is_respelled(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i += 3)
        if (len - i < 3 || memcmp(text + i, "\xe2\x96\x81", 3) != 0)
            return false;
    return len > 0;
}

/* Tokens that are found in a text before anything else. */
static bool is_added(const struct tokenizer *t, size_t id)
{
    size_t len;
    const char *text = vocab_token(&t->vocab, id, &len);

    if (t->model == MODEL_BYTES && !is_spelled(text, len))
        return false;
    if (is_special(t, id))
        return true;
    return t->vocab.types[id] == VOCAB_USER_DEFINED &&
           !(t->model == MODEL_GEMMA && is_respelled(text, len));
}

static void put_added(struct tokenizer *t)
{
    const char *comma = "";

    buf_str(&t->to, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,"
                    "\"added_tokens\":[");
    for (size_t i = 0; i < t->vocab.tokens.n; i++) {
        if (!is_added(t, i))
            continue;
        buf_printf(&t->to, "%s{\"id\":%zu,\"content\":", comma, i);
        put_token(t, (int64_t)i);
        buf_printf(&t->to,
                   ",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
                   "\"normalized\":false,\"special\":%s}",
                   is_special(t, i) ? "true" : "false");
        comma = ",";
    }
    buf_str(&t->to, "]");
}

/* Normalizer and pre-tokenizer: what happens to a text before it is merged. */
static void put_words(struct tokenizer *t)
{
#define TO_UNDERSCORE                                                                    \
    "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\xe2\x96\x81\"}"
    switch (t->model) {
    case MODEL_BYTES:
        buf_printf(&t->to, ",\"normalizer\":null,\"pre_tokenizer\":%s", t->words->json);
        break;
    case MODEL_LLAMA:
        buf_printf(&t->to,
                   ",\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"Metaspace\","
                   "\"replacement\":\"\xe2\x96\x81\",\"prepend_scheme\":\"%s\","
                   "\"split\":false}",
                   t->has_prefix ? "first" : "never");
        break;
    case MODEL_GEMMA:
        buf_str(&t->to, ",\"normalizer\":" TO_UNDERSCORE
                        ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":"
                        "\" \"},\"behavior\":\"MergedWithPrevious\",\"invert\":false}");
        break;
    case MODEL_PHI3:
        buf_printf(
            &t->to,
            ",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[%s" TO_UNDERSCORE
            "]},\"pre_tokenizer\":null",
            t->has_prefix ? "{\"type\":\"Prepend\",\"prepend\":\"\xe2\x96\x81\"}," : "");
        break;
    }
}

static void put_sequence(struct tokenizer *t, const char *name, unsigned type)
{
    buf_printf(&t->to, "{\"Sequence\":{\"id\":\"%s\",\"type_id\":%u}}", name, type);
}

static void put_around(struct tokenizer *t, int64_t id, unsigned type, bool is_before)
{
    buf_str(&t->to,
            is_before ? "{\"SpecialToken\":{\"id\":" : ",{\"SpecialToken\":{\"id\":");
    put_token(t, id);
    buf_printf(&t->to, ",\"type_id\":%u}}%s", type, is_before ? "," : "");
}

/* A text, or the first of two, between its first and last token. */
static void put_template(struct tokenizer *t, const char *name, unsigned type)
{
    if (t->add_bos)
        put_around(t, t->bos, type, true);
    put_sequence(t, name, type);
    if (t->add_eos)
        put_around(t, t->eos, type, false);
}

static void put_special(struct tokenizer *t, int64_t id)
{
    put_token(t, id);
    buf_str(&t->to, ":{\"id\":");
    put_token(t, id);
    buf_printf(&t->to, ",\"ids\":[%lld],\"tokens\":[", (long long)id);
    put_token(t, id);
    buf_str(&t->to, "]}");
}

static void put_post_processor(struct tokenizer *t)
{
    bool both = t->add_bos && t->add_eos && t->bos != t->eos;

    buf_str(&t->to, ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[");
    put_template(t, "A", 0);
    buf_str(&t->to, "],\"pair\":[");
    put_template(t, "A", 0);
    buf_str(&t->to, ",");
    put_template(t, "B", 1);
    buf_str(&t->to, "],\"special_tokens\":{");
    if (t->add_bos)
        put_special(t, t->bos);
    if (both)
        buf_str(&t->to, ",");
    if (t->add_eos && (both || !t->add_bos))
        put_special(t, t->eos);
    buf_str(&t->to, "}}");
}

static void put_decoder(struct tokenizer *t)
{
    bool strips = t->has_prefix && (t->model == MODEL_LLAMA || t->model == MODEL_PHI3);

    if (t->model == MODEL_BYTES)
        buf_str(&t->to, ",\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,"
                        "\"trim_offsets\":true,\"use_regex\":true}");
    else
        buf_printf(
            &t->to,
            ",\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\","
            "\"pattern\":{\"String\":\"\xe2\x96\x81\"},\"content\":\" \"},"
            "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}%s]}",
            strips ? ",{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}"
                   : "");
}

static void put_model(struct tokenizer *t)
{
    bool is_bytes = t->model == MODEL_BYTES;
    const char *around = is_bytes ? "\"\"" : "null";

    buf_str(&t->to, ",\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":");
    if (t->model == MODEL_GEMMA && t->unk >= 0)
        put_token(t, t->unk);
    else
        buf_str(&t->to, "null");
    buf_printf(
        &t->to,
        ",\"continuing_subword_prefix\":%s,\"end_of_word_suffix\":%s,\"fuse_unk\":%s,"
        "\"byte_fallback\":%s,\"ignore_merges\":%s,\"vocab\":{",
        around, around, is_bytes ? "false" : "true", is_bytes ? "false" : "true",
        is_bytes && t->words->is_llama3 ? "true" : "false");
    for (size_t i = 0; i < t->vocab.tokens.n; i++) {
        if (i > 0)
            buf_str(&t->to, ",");
        put_spelled(t, i);
        buf_printf(&t->to, ":%zu", i);
    }
    buf_str(&t->to, "},\"merges\":[");
    for (size_t i = 0; i < t->vocab.n_merges; i++) {
        const char *left, *right;
        size_t left_len, right_len;

        vocab_merge_at(&t->vocab, i, &left, &left_len, &right, &right_len);
        buf_str(&t->to, i > 0 ? ",[" : "[");
        put_text(&t->to, left, left_len);
        buf_str(&t->to, ",");
        put_text(&t->to, right, right_len);
        buf_str(&t->to, "]");
    }
    buf_str(&t->to, "]}}");
}

/* ---- the files ---- */

int gguf_tokenizer_json(const struct gguf *gguf, char **ret_text, size_t *ret_len,
                        struct pt2_err *err)
{
    struct tokenizer t = {.gguf = gguf, .to = BUF_INIT(MAX_JSON)};
    int r;

    *ret_text = NULL;
    *ret_len = 0;
    if (!gguf_find(gguf, "tokenizer.ggml.model"))
        return 0;
    r = tokenizer_read(&t, err);
    if (r == 0)
        r = vocab_read_merges(gguf, t.model == MODEL_BYTES, t.model == MODEL_GEMMA,
                              &t.vocab, err);
    if (r == 0) {
        put_added(&t);
        put_words(&t);
        put_post_processor(&t);
        put_decoder(&t);
        put_model(&t);
        if (buf_failed(&t.to))
            r = pt2_err_set(err, PT2_ERR_NOMEM, "no memory for a tokenizer.json");
    }
    if (r == 0) {
        *ret_len = t.to.len;
        *ret_text = buf_take(&t.to);
    }
    tokenizer_done(&t);
    return r;
}

static int put_config(struct tokenizer *t, struct pt2_err *err)
{
    const struct {
        const char *name;
        int64_t id;
    } all[] = {{"bos_token", t->bos},
               {"eos_token", t->eos},
               {"unk_token", t->unk},
               {"pad_token", t->pad}};

    buf_printf(&t->to,
               "{\"tokenizer_class\":\"PreTrainedTokenizerFast\",\"add_bos_token\":%s,"
               "\"add_eos_token\":%s,\"clean_up_tokenization_spaces\":false",
               t->add_bos ? "true" : "false", t->add_eos ? "true" : "false");
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        if (all[i].id < 0)
            continue;
        buf_printf(&t->to, ",\"%s\":", all[i].name);
        put_token(t, all[i].id);
    }
    buf_str(&t->to, "}");
    return buf_failed(&t->to)
               ? pt2_err_set(err, PT2_ERR_NOMEM, "no memory for a tokenizer_config.json")
               : 0;
}

int gguf_tokenizer_config(const struct gguf *gguf, char **ret_text, size_t *ret_len,
                          struct pt2_err *err)
{
    struct tokenizer t = {.gguf = gguf, .to = BUF_INIT(MAX_JSON)};
    int r;

    *ret_text = NULL;
    *ret_len = 0;
    if (!gguf_find(gguf, "tokenizer.ggml.model"))
        return 0;
    r = tokenizer_read(&t, err);
    if (r == 0)
        r = put_config(&t, err);
    if (r == 0) {
        *ret_len = t.to.len;
        *ret_text = buf_take(&t.to);
    }
    tokenizer_done(&t);
    return r;
}

int gguf_chat_template(const struct gguf *gguf, char **ret_text, size_t *ret_len,
                       struct pt2_err *err)
{
    const struct gguf_value *v = gguf_find(gguf, "tokenizer.chat_template");

    *ret_text = NULL;
    *ret_len = 0;
    if (!v || v->kind != GGUF_STRING)
        return 0;
    if (gguf_bytes(gguf, v, MAX_TEMPLATE, ret_text, err) < 0)
        return -1;
    *ret_len = (size_t)v->bytes;
    return 0;
}
