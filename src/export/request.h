/* request.h - the body of POST /v1/exports, and the options in it.
 *
 * The daemon's endpoint and `pt2-export --job` read the same members with the same
 * messages.  Any thread. */
#ifndef EXPORT_REQUEST_H
#define EXPORT_REQUEST_H

#include "base/json.h"
#include "base/util.h"

#include <jansson.h>
#include <pt2/export.h>

#define EXPORT_MODEL_MAX 255 /* bytes of a model's id */

struct export_request {
    const char *model; /* borrowed from the body; NULL where a job's options name none */
    struct pt2_export_options options; /* as asked for, not yet resolved */
    bool dry_run;
    const json_t *labels; /* borrowed from the body; NULL: none */
};

/* Read a body.  wants_model: "model" is required (POST), otherwise optional and unused (a
 * worker's job).  Every problem is put into problems; then the answer is -1 and err says
 * the first of them. Errors: INVALID, NOMEM. */
MUST_USE int export_request_parse(const json_t *body, bool wants_model,
                                  struct json_problems *problems,
                                  struct export_request *ret_request,
                                  struct pt2_err *err);

/* The members of "pte".  Its custom_ops is the program's, so a worker that has that file
 * already has no use for it. */
void export_request_pte(struct json_obj *o, struct pt2_pte_options *options,
                        bool *ret_custom_ops);

/* The options as an object with every member of the body but model, dry_run and labels:
 * what a job shows as its `options`, and what --job reads on standard input.  Two
 * requests that resolve to the same options give the same object.  new; NULL: out of
 * memory. options must be resolved (pt2_export_resolved). */
json_t *export_options_to_json(const struct pt2_export_options *options);

/* What a dry run answers, and what a job's result says beside its digest: {"options",
 * "program_bytes", "pte_bytes" (null where format is pt2), "cache_bytes", "parameters",
 * "deviations"}.  new; NULL: out of memory. */
json_t *export_summary_to_json(const struct pt2_export *exp);

#endif
