/* pretokenizer.h - cut a text into the words that a byte-level BPE works on.
 *
 * What Hugging Face's `tokenizers` calls pre_tokenizer: a step or a sequence of them. The
 * steps that byte-level models use are known by name (Digits, ByteLevel) or, of Split, by
 * their very pattern; another one is refused, for a text cut otherwise would be other
 * tokens without anyone noticing.  Immutable once made: any thread. */
#ifndef CMD_PRETOKENIZER_H
#define CMD_PRETOKENIZER_H

#include "base/util.h"

#include <jansson.h>
#include <pt2/err.h>

#define PRETOKENIZER_MAX_STEPS 8

enum pretokenizer_step {
    STEP_DIGITS,       /* runs of numbers apart */
    STEP_DIGIT,        /* each number apart */
    STEP_PREFIX_SPACE, /* a space before a text that begins with none */
    STEP_GPT2,         /* the pattern of GPT-2: ByteLevel with use_regex */
    STEP_WORDS_1,      /* the pattern of Qwen2: numbers one by one */
    STEP_WORDS_3,      /* the pattern of Llama 3: numbers by up to three */
};

struct pretokenizer {
    enum pretokenizer_step steps[PRETOKENIZER_MAX_STEPS];
    size_t n;
};

/* From the tokenizer.json's member.  Errors: UNSUPPORTED (what is not known). */
MUST_USE int pretokenizer_init(struct pretokenizer *p, const json_t *pre_tokenizer,
                               struct pt2_err *err);

/* Call on_word for each word of len bytes of UTF-8; -1 from it ends the work.  The words
 * in order are the text (but for a space before it). */
MUST_USE int pretokenizer_run(const struct pretokenizer *p, const char *text, size_t len,
                              int (*on_word)(void *ctx, const char *word, size_t len),
                              void *ctx);

#endif
