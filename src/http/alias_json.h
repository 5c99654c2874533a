/* alias_json.h - {"name", "program", "changed"}.  Any thread. */
#ifndef HTTP_ALIAS_JSON_H
#define HTTP_ALIAS_JSON_H

#include "store/aliases_db.h"

#include <jansson.h>

/* new; NULL: out of memory. */
json_t *alias_to_json(const struct alias *alias);

#endif
