/* gguf_words.h - the table of tokenizer.ggml.pre: how a byte-level vocabulary wants a
 * text cut into words.  Static; any thread. */
#ifndef CHECKPOINT_GGUF_WORDS_H
#define CHECKPOINT_GGUF_WORDS_H

#include "base/util.h"

struct gguf_words {
    const char *pre;
    const char *json; /* the pre_tokenizer of a tokenizer.json */
    bool is_llama3;   /* a text begins with bos; a word that is a token is not merged */
};

/* NULL where there is none of that name. */
const struct gguf_words *gguf_words_find(const char *pre);

#endif
