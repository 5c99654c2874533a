/* export_pte.h - the ExecuTorch program that pt2-export makes of a .pt2. */
#ifndef CMD_EXPORT_PTE_H
#define CMD_EXPORT_PTE_H

#include "base/json.h"
#include "base/sha256.h"

#include <pt2/export.h>

struct export_pte {
    struct pt2_pte_options options;
    struct pt2_pte_facts facts; /* of what was written */
    uint8_t sha256[SHA256_BYTES];
    uint64_t bytes;
};

/* Make one of the archive in from, write it to fd; both are borrowed, and not synced.
 * progress is told of the stage "pte".  Errors: those of pt2_pte_new and pt2_pte_write. */
MUST_USE int export_pte(struct export_pte *pte, int from, int fd,
                        pt2_export_progress *progress, void *ctx, struct pt2_err *err);

/* {"backend", "sha256", "bytes", "instructions", "delegates", "arena_bytes"}; new.  NULL: out of
 * memory. */
json_t *export_pte_to_json(const struct export_pte *pte);

/* What the daemon asks for on standard input: the member "pte" of a job's options. */
MUST_USE int export_pte_parse(const json_t *body, struct json_problems *problems,
                              struct export_pte *ret_pte, struct pt2_err *err);

#endif
