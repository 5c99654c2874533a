/* owner.h - whose something is: the name that a token has in the token file.
 *
 * "" is nobody's: of a daemon without tokens.  Who asks is a name too, or NULL for one
 * who sees everything: an administrator, and anybody where there are no tokens. */
#ifndef BASE_OWNER_H
#define BASE_OWNER_H

#include "base/util.h"

#define OWNER_SIZE 65 /* 64 characters and the '\0' */

static inline bool owner_is_seen_by(const char *owner, const char *who)
{
    return !who || streq(owner, who);
}

#endif
