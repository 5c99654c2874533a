/* alias_json.h - {"name", "program", "changed"}, and what a client says of an alias.  Any
 * thread. */
#ifndef HTTP_ALIAS_JSON_H
#define HTTP_ALIAS_JSON_H

#include "base/json.h"
#include "store/aliases_db.h"

/* new; NULL: out of memory. */
json_t *alias_to_json(const struct alias *alias);

/* *ret_program (an id, a part of one, or an alias) is borrowed from body.  What is wrong is
 * in problems. */
void alias_read(const json_t *body, const char **ret_program,
                struct json_problems *problems);

#endif
