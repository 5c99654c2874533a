/* produce.h - what the child processes of one run make: a `pt2-export --job` writes the
 * file, where the options say so a `pt2-export --pte-job` makes an ExecuTorch program of it, and
 * where they say `verify` a `pt2-export --verify-job` runs it and adds its record.
 *
 * The last one is a process of its own because engines start workers, which the first
 * one's sandbox forbids, and it gives way to all else on the machine; the one before it
 * because it maps the file, which the first one's limit has no room for.  Both read nothing
 * but the file that was just written.  For the thread that runs it. */
#ifndef JOBS_PRODUCE_H
#define JOBS_PRODUCE_H

#include "jobs/child.h"

#include <pt2/engine.h>

struct produce_task {
    const char *export_path; /* pt2-export */
    const char *model_dir, *output;
    const char *pte_output; /* where the format is pte; otherwise NULL */
    const char *options; /* JSON text, all resolved */
    int64_t timeout_ms;  /* of all together */
    uint64_t max_memory_bytes;
    struct pt2_engine_options engine;
    int stop_fd;
    void (*progress)(void *ctx, const char *stage, int64_t done, int64_t total);
    void *ctx;
};

/* As child_run.  The result is the exporter's, with "sha256", "bytes" and "verify" (absent
 * where nothing was verified) of the file as it is in the end, and "pte" (absent where none
 * was asked for). */
MUST_USE int produce(const struct produce_task *task, struct child_end *ret_end,
                     struct pt2_err *err);

#endif
