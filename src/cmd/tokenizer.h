/* tokenizer.h - byte-level BPE, as a tokenizer.json of Hugging Face's `tokenizers` says
 * it.
 *
 * For pt2ctl generate --text: GPT-2, SmolLM, Qwen2, Llama 3 and their like, and the
 * bundled model (a token a byte).  Others (SentencePiece, WordPiece, unknown patterns)
 * are refused. A text counts as normalised: NFC is not applied.  Immutable once made: any
 * thread. */
#ifndef CMD_TOKENIZER_H
#define CMD_TOKENIZER_H

#include "base/buf.h"

#include <pt2/err.h>

struct tokenizer;

/* Read a tokenizer.json.  new: free with tokenizer_free.
 * Errors: BAD_JSON, INVALID (what is wrong), UNSUPPORTED (what is not known), NOMEM. */
MUST_USE int tokenizer_new(const char *json, size_t len, struct tokenizer **ret_tokenizer,
                           struct pt2_err *err);
void tokenizer_free(struct tokenizer *tokenizer);
DEFINE_AUTO(tokenizer)

/* The ids of len bytes of text, with the tokens that the post_processor puts around them
 * where with_special is true.  *ret_ids is new (free).
 * Errors: INVALID (not UTF-8, a byte that no token is), NOMEM. */
MUST_USE int tokenizer_encode(const struct tokenizer *tokenizer, const char *text,
                              size_t len, bool with_special, int64_t **ret_ids,
                              size_t *ret_n, struct pt2_err *err);

/* Append the bytes of a token; of one that is special or unknown, nothing.  A character
 * may lie across tokens. */
void tokenizer_decode(const struct tokenizer *tokenizer, int64_t id, struct buf *to);

#endif
