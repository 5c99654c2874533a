/* scope.h - what a route asks of its caller, and what a token allows.
 *
 * Constant; any thread. */
#ifndef HTTP_SCOPE_H
#define HTTP_SCOPE_H

#include "base/util.h"

#include <pt2/err.h>

enum scope {
    SCOPE_READ = 1,   /* look: every GET */
    SCOPE_STEP = 2,   /* sessions, and steps on them */
    SCOPE_EXPORT = 4, /* exports; uploads of models and programs; aliases */
    SCOPE_ADMIN = 8,  /* delete what is everybody's; see what is others' */
    SCOPE_OPEN = 16,  /* of routes alone: anybody, with no token */
};
#define SCOPE_ALL (SCOPE_READ | SCOPE_STEP | SCOPE_EXPORT | SCOPE_ADMIN)

#define SCOPES_TEXT_SIZE 32 /* "read,step,export,admin" and the '\0' */

const char *scope_name(enum scope scope); /* "read"; not of SCOPE_OPEN */
/* "read,step": several with commas between.  admin has all the others within.
 * Errors: INVALID. */
MUST_USE int scopes_parse(const char *text, unsigned *ret_scopes, struct pt2_err *err);
void scopes_print(unsigned scopes, char ret_text[SCOPES_TEXT_SIZE]);

#endif
