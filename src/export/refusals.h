/* refusals.h - model types that are known, and why they are not exported.
 *
 * Any thread. */
#ifndef EXPORT_REFUSALS_H
#define EXPORT_REFUSALS_H

#include "base/util.h"

/* Why, as half a sentence; NULL where the type is not known.  Static. */
const char *refusal_find(const char *model_type);

/* The i-th type, and why; NULL behind the last. */
const char *refusal_at(size_t i, const char **ret_why);

#endif
