/* audit.h - a line in the log for each change that a client asked for, and what came of it.
 *
 *     info: audit, action 'DELETE /v1/models/{id}', id org/demo, who ci, from 127.0.0.1:4711,
 *     outcome done, status 204, request 5f-1
 *
 * Here alone, for every route that is no GET; but for those that are HTTP_ROUTINE.  outcome is
 * done, the problem's type, or unanswered: the client left, and the change may have been made.
 * Fields that there is nothing for are left out.  Core. */
#ifndef HTTP_AUDIT_H
#define HTTP_AUDIT_H

#include <jansson.h>

struct http_exchange;
struct MHD_Response;

/* What the answer tells, and where the request came from. */
struct audit_facts {
    char id[160];     /* what was made: the end of its Location */
    char program[65]; /* the "program" of the answer */
    char from[80];    /* "127.0.0.1:4711", "[::1]:4711", "uid:1000" of a unix socket */
};

/* Take them from the answer, while the connection is open; response and json may be NULL.
 * The holder of x->lock, or [HTTP]. */
void audit_note(struct http_exchange *x, struct MHD_Response *response,
                const json_t *json);
/* At the request's end.  [HTTP] */
void audit_line(const struct http_exchange *x, unsigned status);

#endif
