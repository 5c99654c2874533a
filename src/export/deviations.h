/* deviations.h - sentences that say where an export differs from the reference's.
 *
 * One thread at a time. */
#ifndef EXPORT_DEVIATIONS_H
#define EXPORT_DEVIATIONS_H

#include "export/spec.h"
#include "export/weights.h"

#include <pt2/export.h>

struct deviations {
    char **list;
    size_t n;
};

/* Errors: NOMEM. */
MUST_USE int deviations_add(struct deviations *deviations, struct pt2_err *err,
                            const char *fmt, ...) PT2_PRINTF(3, 4);
/* Those that follow from the model and the (resolved) options. */
MUST_USE int deviations_find(const struct decoder_spec *spec,
                             const struct weights *weights,
                             const struct pt2_export_options *options,
                             struct deviations *deviations, struct pt2_err *err);
void deviations_done(struct deviations *deviations);

#endif
