/* ctl_fetch.h - bring a file of known digest here, whole and right.
 *
 * The bytes go to FILE.<first 12 digits of the digest>.part beside FILE; a broken
 * download goes on there, in this call (a few times) and in the next; the digest of all
 * bytes must be right before the file gets its name.  Where a part that an earlier call
 * left turns out to be damaged, all of it is brought again.
 *
 * To a device or a pipe the bytes go straight; a digest that is another is then said too
 * late, by the exit status alone. */
#ifndef CMD_CTL_FETCH_H
#define CMD_CTL_FETCH_H

#include "base/output.h"
#include "cmd/blob_hash.h"
#include "cmd/ctl.h"

struct fetch_source {
    const char *label; /* of the progress bar */
    const char *what;  /* in messages: "the program" */
    uint64_t bytes;    /* of the whole */
    enum blob_hash_kind kind;
    const char *digest; /* hex */
    /* One request for the bytes from `from` on, or for all of them: each piece goes to
     * fn(to, status, …), 200 for all and 206 for the rest, which answers false to stop.
     * -1: a failure is recorded; *ret_status may be 416 then. */
    int (*get)(void *ctx, uint64_t from,
               bool (*fn)(void *to, long status, const char *data, size_t len), void *to,
               long *ret_status);
    void *ctx;
};

/* *ret_resumed (may be NULL): bytes that were here before. */
MUST_USE int ctl_fetch(struct ctl *ctl, const struct fetch_source *source,
                       const struct output *output, uint64_t *ret_resumed);

/* Is the file at path, of that size, the one with that digest?  True only where it is. */
bool ctl_file_is(struct ctl *ctl, const char *path, const struct fetch_source *source);

#endif
