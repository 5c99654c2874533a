/* ctl_session.h - sessions as step and generate use them: open, step, close. */
#ifndef CMD_CTL_SESSION_H
#define CMD_CTL_SESSION_H

#include "cmd/ctl.h"

/* engine and cache_dtype may be NULL; ttl_s 0: the daemon's default.  *ret_session is new, with
 * its id. */
MUST_USE int ctl_session_open(struct ctl *ctl, const char *program, const char *engine,
                              const char *cache_dtype, int64_t ttl_s, json_t **ret_session);
const char *ctl_session_id(const json_t *session); /* "" where it has none */

/* body is taken.  *ret_answer is new. */
MUST_USE int ctl_session_step(struct ctl *ctl, const char *id, json_t *body,
                              json_t **ret_answer);

/* Delete the session, also after an interruption or another failure, which stays the one
 * that is reported. */
void ctl_session_close(struct ctl *ctl, const char *id);

#endif
