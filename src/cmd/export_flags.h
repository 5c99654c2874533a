/* export_flags.h - the command line of pt2-export.
 *
 * Options become the members of the body of POST /v1/exports, so that the command and the
 * daemon refuse the same things in the same words. */
#ifndef CMD_EXPORT_FLAGS_H
#define CMD_EXPORT_FLAGS_H

#include "base/util.h"

#include <jansson.h>
#include <pt2/export.h>

struct export_flags {
    const char *model_dir; /* borrowed from argv */
    const char *output;    /* NULL: none given */
    json_t *body;          /* the members that were given; export_flags_done */
    int64_t seq_len;       /* 0: not given; it stands for the example inputs */
    bool job, json, quiet, sync;
    bool verify_job, pte_job; /* with job */
};

/* -1: go on.  Otherwise the status to exit with: help and version were printed (0), or
 * what is wrong (2). */
MUST_USE int export_flags_parse(int argc, char **argv, struct export_flags *ret_flags);
void export_flags_done(struct export_flags *flags);

/* The option that is the member of that pointer ("--dtype" of "/dtype"), or the pointer.
 */
const char *export_flag_of(const char *pointer);

#endif
