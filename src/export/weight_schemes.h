/* weight_schemes.h - which weights an export quantises, and how.
 *
 * As torchao's quantize_ with filters for nn.Linear and nn.Embedding does, in the way of
 * optimum-executorch (exporters/executorch/quantization.py): a linear whose rows the group
 * size does not divide stays as it is, or is quantised per channel by the fallback. */
#ifndef EXPORT_WEIGHT_SCHEMES_H
#define EXPORT_WEIGHT_SCHEMES_H

#include "export/deviations.h"
#include "export/weights.h"

#include <pt2/export.h>

/* Check what was asked for by itself, and bring it into the one form of all that mean the
 * same: names sorted and each once, members at their defaults where nothing reads them.
 * Errors: INVALID. */
MUST_USE int weight_schemes_resolve(struct pt2_quantization *q, struct pt2_err *err);

/* Set each weight's scheme and record, and add what there is to say to deviations; a tied head
 * whose numbers differ from its embedding's becomes a weight of its own.  options are resolved.
 * Errors: INVALID (a name that is no module of the model), NOT_EXPORTABLE, NOMEM. */
MUST_USE int weight_schemes_set(struct weights *weights, const struct decoder_spec *spec,
                                const struct pt2_export_options *options,
                                struct deviations *deviations, struct pt2_err *err);

#endif
