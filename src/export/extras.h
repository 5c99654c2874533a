/* extras.h - what an export carries along under extra/: the checkpoint's config,
 * tokenizer and chat template, and what ExecuTorch's runner needs to know.
 *
 * torch.export.load reads each as UTF-8 and fails on anything else, so a file of other
 * bytes goes in as base64 (RFC 4648, section 4) with ".base64" behind its name.  Files
 * are streamed, not held.  One thread at a time. */
#ifndef EXPORT_EXTRAS_H
#define EXPORT_EXTRAS_H

#include "export/deviations.h"
#include "export/spec.h"

#include <pt2/archive.h>
#include <pt2/export.h>

struct extra {
    char name[200]; /* "extra/tokenizer.json" */
    char *text;     /* NULL: file of the checkpoint */
    size_t file;
    bool is_base64;
    uint64_t bytes; /* of the record */
};

struct extras {
    struct extra *list;
    size_t n;
    uint64_t bytes; /* of all */
};

/* Reads each file once, to see whether it is UTF-8; one that is not becomes a deviation.
 * Errors: NOMEM, IO, BAD_CONFIG (a generation_config.json that can not be read),
 * CHECKPOINT_CHANGED. */
MUST_USE int extras_find(const struct decoder_spec *spec,
                         const struct pt2_checkpoint *checkpoint,
                         const struct pt2_export_options *options,
                         struct extras *ret_extras, struct deviations *deviations,
                         struct pt2_err *err);
/* The text of extra/executorch_metadata.json; borrowed. */
const char *extras_metadata(const struct extras *extras);
void extras_done(struct extras *extras);

/* Write one record. buf is for the caller's slices: (buf_bytes), at least 64 KiB.
 * Errors: those of the writer, IO, CHECKPOINT_CHANGED. */
MUST_USE int extras_write(const struct extra *extra,
                          const struct pt2_checkpoint *checkpoint,
                          struct pt2_writer *writer, void *buf, size_t buf_bytes,
                          struct pt2_err *err);

#endif
