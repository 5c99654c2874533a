/* model_id.h - what models are called: NAME or ORG/NAME.
 *
 * Pure functions; any thread. */
#ifndef STORE_MODEL_ID_H
#define STORE_MODEL_ID_H

#include "base/util.h"

#include <pt2/err.h>

#define MODEL_ID_SIZE 256 /* bytes, '\0' included */

/* One part of an id: what a file may be called, but for hidden ones and control
 * characters. */
bool model_id_is_part(const char *s, size_t len);
/* May a folder beneath the models directory be found by that id? */
bool model_id_is_valid(const char *id);
/* May a client make a model of that id?  Each part has 1 to 96 letters, digits, '.', '_'
 * and '-', the first of them neither '.' nor '-'.  Errors: INVALID (says this). */
MUST_USE int model_id_check_new(const char *id, struct pt2_err *err);
/* The id as one file name: '/' as "%2F".  Of an id that model_id_check_new takes. */
void model_id_to_file_name(const char *id, char ret_name[MODEL_ID_SIZE]);

#endif
