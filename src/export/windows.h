/* windows.h - which layers see a sliding window: sliding_window and layer_types.
 *
 * Pure functions over a borrowed config; any thread. */
#ifndef EXPORT_WINDOWS_H
#define EXPORT_WINDOWS_H

#include "export/families.h"

/* Which layers slide where layer_types doesn't say: those from first on, but not layer i
 * where (i + 1) % period == phase; period 0: all of them. */
struct window_pattern {
    int64_t first, period, phase;
};

/* layer_types: one a layer, full_attention or sliding_attention; is_offered: the latter
 * too.  Errors: BAD_CONFIG, NOT_EXPORTABLE. */
MUST_USE int windows_check_types(const struct family *family, const struct fields *config,
                                 int64_t n_layers, bool is_offered, struct pt2_err *err);

/* Fill in the windows of all layers; sliding_window of null is none.
 * Errors: BAD_CONFIG; NOT_EXPORTABLE: layer_types or a pattern with a period has a
 * sliding layer, but there is no window. */
MUST_USE int windows_read(const struct family *family, const struct fields *config,
                          struct window_pattern pattern, struct decoder_spec *spec,
                          struct pt2_err *err);

/* The same where one window is for all layers: layer_types may not say otherwise. */
MUST_USE int windows_read_all(const struct family *family, const struct fields *config,
                              struct decoder_spec *spec, struct pt2_err *err);

/* The same where use_sliding_window, false if left out, says whether there is one. */
MUST_USE int windows_read_if_used(const struct family *family,
                                  const struct fields *config,
                                  struct window_pattern pattern,
                                  struct decoder_spec *spec, struct pt2_err *err);

/* What layer_types says of a layer; NULL where it says nothing. */
const char *windows_layer_type(const struct fields *config, int64_t layer);

#endif
