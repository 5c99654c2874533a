/* gguf_vocab.h - the vocabulary of a GGUF file: tokens, their types, scores and merges.
 *
 * Tokens are bytes, UTF-8.  In a byte-level vocabulary (model "gpt2") each character
 * stands for a byte; in a SentencePiece one (model "llama") U+2581 stands for a space,
 * and merges are found from the scores.  One thread at a time; immutable once read. */
#ifndef CHECKPOINT_GGUF_VOCAB_H
#define CHECKPOINT_GGUF_VOCAB_H

#include "checkpoint/gguf.h"

#define VOCAB_MAX_TOKENS ((uint64_t)1 << 20)
#define VOCAB_MAX_TOKEN  512 /* bytes of one */

enum vocab_type { /* of tokenizer.ggml.token_type; llama.h, llama_token_attr */
                  VOCAB_NORMAL = 1,
                  VOCAB_CONTROL = 3,
                  VOCAB_USER_DEFINED = 4,
};

/* Strings one behind the other, as the file has them. */
struct vocab_list {
    char *bytes; /* owned */
    size_t n;
    uint32_t *at, *len; /* (n), bytes */
};

struct vocab_merge {
    uint32_t text; /* that the two make: a token, or a line of the file's merges */
    uint16_t left_len, left_chars, right_chars;
};

struct vocab {
    struct vocab_list tokens, merge_texts;
    uint32_t *sorted;           /* (n) ids in the order of their texts */
    int32_t *types;             /* (n) */
    float *scores;              /* (n), NULL where there are none */
    struct vocab_merge *merges; /* in the order in which they are tried */
    size_t n_merges, cap_merges;
    bool by_id; /* a token counts more the lower its id */
};

/* Read tokens, types and scores; has_spaces: a token of spaces alone is respelled with
 * U+2581 (Gemma's files).  vocab_done, also after an error.
 * Errors: UNSUPPORTED (none, too many, one not UTF-8, too long or there twice),
 * CHECKPOINT_CHANGED, IO, LIMIT, NOMEM. */
MUST_USE int vocab_read(const struct gguf *gguf, bool has_spaces, struct vocab *vocab,
                        struct pt2_err *err);
/* And the merges: those of the file, else those that the tokens imply, the ones that make
 * a token of a high score first, or, by_id, of a low id (Gemma).  A byte-level vocabulary
 * has to bring its own. Errors: UNSUPPORTED (no pair, merges or scores missing), those
 * above. */
MUST_USE int vocab_read_merges(const struct gguf *gguf, bool is_byte_level, bool by_id,
                               struct vocab *vocab, struct pt2_err *err);
void vocab_done(struct vocab *vocab);

static inline const char *vocab_token(const struct vocab *v, size_t id, size_t *ret_len)
{
    *ret_len = v->tokens.len[id];
    return v->tokens.bytes + v->tokens.at[id];
}

/* The two texts that merge i puts together. */
void vocab_merge_at(const struct vocab *v, size_t i, const char **ret_left,
                    size_t *ret_left_len, const char **ret_right, size_t *ret_right_len);

#endif
