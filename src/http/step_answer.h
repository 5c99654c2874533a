/* step_answer.h - what a step answers: its size, told beforehand, and its text.
 * Any thread. */
#ifndef HTTP_STEP_ANSWER_H
#define HTTP_STEP_ANSWER_H

#include "base/buf.h"
#include "http/step_body.h"

/* The bytes that the answer takes at most: of the JSON text, or of the raw logits. */
uint64_t step_answer_bytes(const struct step_body *body, const struct serve_facts *facts,
                           bool is_raw);
/* Errors: ANSWER_TOO_LARGE, with the largest s that fits into max_bytes. */
MUST_USE int step_answer_check(const struct step_body *body,
                               const struct serve_facts *facts, bool is_raw,
                               uint64_t max_bytes, struct pt2_err *err);

/* Append the JSON object for a call that went well. */
void step_answer_json(struct buf *to, const struct step_body *body,
                      const struct serve_facts *facts, const struct serve_call *call);

#endif
