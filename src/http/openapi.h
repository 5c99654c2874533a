/* openapi.h - GET /openapi.json: the OpenAPI 3.1 document, made from the table of routes
 * and the schema files (the files in schemas/, one for each part; see doc/http.md). */
#ifndef HTTP_OPENAPI_H
#define HTTP_OPENAPI_H

#include "http/routes.h"

#include <pt2/err.h>

/* The document.  new.  needs_token: it says that nobody is let in without one.
 * Errors: INTERNAL (a row names a schema that no file has), NOMEM.  Any thread. */
MUST_USE int openapi_make(const struct route_table *table, bool needs_token,
                          json_t **ret_json, struct pt2_err *err);

#endif
