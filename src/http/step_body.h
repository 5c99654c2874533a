/* step_body.h - what a client says about a step: read, and checked against the session.
 * Any thread. */
#ifndef HTTP_STEP_BODY_H
#define HTTP_STEP_BODY_H

#include "base/json.h"
#include "serve/serve.h"

struct step_body {
    int64_t *input_ids; /* (batch_size, s); new */
    int64_t s;
    int64_t start; /* -1: not said */
    bool all_rows; /* "rows": "all" */
    bool logits;
    int64_t top_k;
    int64_t *logit_ids; /* new; NULL: not asked for */
    size_t n_logit_ids;
};

/* Read the members of o, which the caller has begun and ends.  What is wrong is in o's
 * problems; step_body_done in any case. */
void step_body_read(struct step_body *body, struct json_obj *o,
                    const struct serve_facts *facts);
void step_body_done(struct step_body *body);

/* Which rows does the answer need, and how many tokens' rows are they? */
enum pt2_rows step_body_rows(const struct step_body *body);
int64_t step_body_n_rows(const struct step_body *body);

#endif
