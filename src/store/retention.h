/* retention.h - which programs go, so that the store keeps within its limits.
 *
 * Two rules, both off where their number is 0.  Age: a program that was not used for keep_ms.
 * Size: while all programs with what was made of them take more than max_bytes, the one that was
 * used longest ago.  Used is a program when it is made, downloaded, opened by a session, or found
 * by an export.  Never go by themselves: one that a session uses, that an alias names, or that a
 * client has pinned, and by size the one that came last.
 *
 * A thread of its own looks at a start, when a program came or may go, and now and then.  Any
 * thread may call. */
#ifndef STORE_RETENTION_H
#define STORE_RETENTION_H

#include "store/objects.h"
#include "store/programs.h"
#include "store/store.h"

struct retention;

/* programs, store and objects are borrowed.  new: retention_free.
 * Errors: NOMEM, INTERNAL (no thread). */
MUST_USE int retention_new(struct programs *programs, struct store *store,
                           struct objects *objects, uint64_t max_bytes, int64_t keep_ms,
                           struct retention **ret_retention, struct pt2_err *err);
void retention_free(struct retention *retention);

/* Look again, soon.  newest: the program that came; NULL: none did. */
void retention_wake(struct retention *retention, const char *newest);

/* Would a program of that size have room, with all gone that may go?  The quick one goes by what
 * was seen last, and does not wait.  Errors: NO_SPACE, and of the slow one IO, NOMEM. */
MUST_USE int retention_check_room(struct retention *retention, uint64_t bytes,
                                  struct pt2_err *err);
MUST_USE int retention_check_room_quick(struct retention *retention, uint64_t bytes,
                                        struct pt2_err *err);

#endif
