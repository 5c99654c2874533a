/* quantized_checkpoint.h - which quantization_config a checkpoint may have.
 *
 * What is read is src/checkpoint's affair (quantized.h): weights of float8 with scales,
 * and mxfp4.  Here any other is refused by its name.  Pure; any thread. */
#ifndef EXPORT_QUANTIZED_CHECKPOINT_H
#define EXPORT_QUANTIZED_CHECKPOINT_H

#include "export/fields.h"

/* Errors: NOT_EXPORTABLE (a method that is not read; the text says why), BAD_CONFIG. */
MUST_USE int quantized_checkpoint_check(const struct fields *config, struct pt2_err *err);

#endif
