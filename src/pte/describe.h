/* describe.h - what an ExecuTorch program says of itself, whoever has made it. */
#ifndef PTE_DESCRIBE_H
#define PTE_DESCRIBE_H

#include "base/util.h"

#include <jansson.h>
#include <pt2/err.h>

/* Do these first bytes of a file (8 or more) begin such a program? */
bool pte_is_program(const void *data, size_t len);

/* {"methods": [{"name", "inputs": [{"dtype", "shape"}], "outputs", "values", "instructions",
 * "kernel_calls", "delegate_calls", "jumps", "delegates": [{"backend", "bytes"}],
 * "operators": [{"name", "calls"}], "arena_bytes"}], "constants" (how many tensors),
 * "named_data": [...], "segments": [{"offset", "bytes"}]}; new.  values are what a method
 * without inputs answers.  Nothing in data is trusted.
 * Errors: BAD_ARCHIVE (what is wrong, or that there is too much of it), NOMEM. */
MUST_USE int pte_describe(const void *data, size_t len, json_t **ret_json,
                          struct pt2_err *err);

#endif
