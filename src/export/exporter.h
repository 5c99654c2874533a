/* exporter.h - the steps of an export that describe.c takes too. */
#ifndef EXPORT_EXPORTER_H
#define EXPORT_EXPORTER_H

#include "export/spec.h"
#include "export/weights.h"

#include <pt2/export.h>

/* What an export's dtype defaults to.
 * Errors: NOT_EXPORTABLE (config.json names one that is not offered), BAD_CONFIG. */
MUST_USE int export_default_dtype(const struct pt2_checkpoint *checkpoint,
                                  enum pt2_dtype *ret_dtype, struct pt2_err *err);

/* All checks that pt2_export_new makes of the model, without building anything.
 * ret_weights: weights_done.  Errors: as pt2_export_new. */
MUST_USE int export_check_model(const struct pt2_checkpoint *checkpoint,
                                const struct pt2_export_options *asked,
                                struct decoder_spec *ret_spec,
                                struct weights *ret_weights,
                                struct pt2_export_options *ret_options,
                                struct pt2_err *err);

#endif
