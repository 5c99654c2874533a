/* program_facts.h - what GET /v1/programs/{id} says of an archive's content.  Any thread.
 */
#ifndef STORE_PROGRAM_FACTS_H
#define STORE_PROGRAM_FACTS_H

#include "base/util.h"

#include <jansson.h>
#include <pt2/program.h>

/* {torch_version, schema_version, inputs, outputs, parameters, buffers, cache,
 * vocab_size, verified}; cache and vocab_size are null where the program is no decoder with
 * a static cache, verified where the archive has no record of a verification.
 * Parameters that share their bytes (tied weights) are counted by name, and measured
 * once. new; NULL: out of memory. */
json_t *program_facts_json(const struct pt2_archive *archive,
                           const struct pt2_program *program);

/* The same of the file open at fd (borrowed): checks archive and program; with
 * verify_records every byte too, against the records' CRC-32.
 * Errors: BAD_ARCHIVE, BAD_PROGRAM, IO, NOMEM. */
MUST_USE int program_facts_read(int fd, bool verify_records, json_t **ret_facts,
                                struct pt2_err *err);

#endif
