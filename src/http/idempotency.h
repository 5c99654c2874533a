/* idempotency.h - Idempotency-Key: the same request again gets the same answer.
 *
 * For handlers on the pool (HTTP_BLOCKING), at their very beginning:
 *
 *     if (!idempotency_begin(req, exists))
 *         return;                         a reply is on its way
 *     ... the work, then any reply
 *
 * A key belongs to the token and the path that it came with.  While the first request
 * runs another one with that key is 409; its answer is kept for 24 hours where it was a
 * 2xx, and given again to the same (parsed) body, with Idempotency-Replayed: true;
 * another body is 422; a new key where http.max_idempotency_keys are kept is 429.  Kept
 * answers are in the database, running requests in memory: a crash frees their keys, unless
 * idempotency_keep was called in the transaction that did the work. */
#ifndef HTTP_IDEMPOTENCY_H
#define HTTP_IDEMPOTENCY_H

#include "http/request.h"

#include <pt2/err.h>

/* Look at the request's Idempotency-Key.  True: go on (there is none, or it is claimed
 * now); the claim ends with the reply.  False: replied.  exists() says whether the
 * resource that a kept answer's Location names is still there (NULL: always); where it is
 * gone the key is free again.  Pool thread. */
MUST_USE bool idempotency_begin(struct http_request *req,
                                bool (*exists)(struct app *app, const char *location));

/* Keep the answer that will be given, in the caller's transaction (store_begin): work and
 * answer are then durable together.  Nothing to do where the request has no key.
 * Optional: a 2xx JSON reply is kept by itself.  Errors: IO, NO_SPACE, NOMEM. */
MUST_USE int idempotency_keep(struct http_request *req, unsigned status,
                              const char *location, const json_t *body,
                              struct pt2_err *err);

#endif
