/* gguf_tokenizer.h - the tokenizer of a GGUF file as the files of a Hugging Face
 * directory.
 *
 * tokenizer.json is what Transformers' gguf_file= makes (integrations/gguf,
 * gguf_tokenizer_mapping.py), and right where that is not: digits that the vocabulary
 * wants one by one, and the tokens that the file says to put around a text.  Offered are
 * byte-level BPE (tokenizer.ggml.model "gpt2") with the patterns of the table, and
 * SentencePiece ("llama").  Pure; any thread. */
#ifndef CHECKPOINT_GGUF_TOKENIZER_H
#define CHECKPOINT_GGUF_TOKENIZER_H

#include "checkpoint/gguf.h"

/* Each: *ret_text is new (caller frees), '\0' behind it; NULL where the file says nothing
 * of it.  Errors: UNSUPPORTED (a tokenizer that is not offered; the text says why),
 * CHECKPOINT_CHANGED, IO, LIMIT, NOMEM. */
MUST_USE int gguf_tokenizer_json(const struct gguf *gguf, char **ret_text,
                                 size_t *ret_len, struct pt2_err *err);
MUST_USE int gguf_tokenizer_config(const struct gguf *gguf, char **ret_text,
                                   size_t *ret_len, struct pt2_err *err);
MUST_USE int gguf_chat_template(const struct gguf *gguf, char **ret_text, size_t *ret_len,
                                struct pt2_err *err);

#endif
