/* hostile_export.c - pt2-export, taken over where $PT2_HOSTILE_IN says: as it writes an
 * archive ("export"), makes a .pte ("pte") or verifies ("verify").  It attacks, says how
 * that went on standard error, and ends.  "term": it gets a signal as it writes.
 *
 * Linked with --wrap, so that all else is pt2-export's own. */
#include "hostile.h"
#include "verify/verify.h"

#include <pt2/export.h>
#include <pt2/pte.h>
#include <signal.h>
#include <stdio.h>

int __real_pt2_export_write(struct pt2_export *exp, int fd, pt2_export_progress *progress,
                            void *ctx, uint8_t *sha256, uint64_t *ret_bytes,
                            struct pt2_err *err);
int __wrap_pt2_export_write(struct pt2_export *exp, int fd, pt2_export_progress *progress,
                            void *ctx, uint8_t *sha256, uint64_t *ret_bytes,
                            struct pt2_err *err);
int __real_pt2_pte_new(const struct pt2_archive *archive,
                       const struct pt2_pte_options *options, struct pt2_pte **ret_pte,
                       struct pt2_err *err);
int __wrap_pt2_pte_new(const struct pt2_archive *archive,
                       const struct pt2_pte_options *options, struct pt2_pte **ret_pte,
                       struct pt2_err *err);
int __real_verify_program(const struct verify_task *task,
                          struct verify_result *ret_result, struct pt2_err *err);
int __wrap_verify_program(const struct verify_task *task,
                          struct verify_result *ret_result, struct pt2_err *err);

static bool is_in(const char *place)
{
    const char *in = getenv("PT2_HOSTILE_IN");

    return in && streq(in, place);
}

static void attack_in(const char *place, unsigned may)
{
    char report[120];
    bool refused;

    if (!is_in(place))
        return;
    refused = hostile_attack(may, report, sizeof(report));
    fprintf(stderr, "%s\n", report);
    _exit(refused ? 42 : 43);
}

int __wrap_pt2_export_write(struct pt2_export *exp, int fd, pt2_export_progress *progress,
                            void *ctx, uint8_t *sha256, uint64_t *ret_bytes,
                            struct pt2_err *err)
{
    attack_in("export", 0);
    if (is_in("term"))
        raise(SIGTERM);
    return __real_pt2_export_write(exp, fd, progress, ctx, sha256, ret_bytes, err);
}

int __wrap_pt2_pte_new(const struct pt2_archive *archive,
                       const struct pt2_pte_options *options, struct pt2_pte **ret_pte,
                       struct pt2_err *err)
{
    attack_in("pte", 0);
    return __real_pt2_pte_new(archive, options, ret_pte, err);
}

int __wrap_verify_program(const struct verify_task *task,
                          struct verify_result *ret_result, struct pt2_err *err)
{
    attack_in("verify", HOSTILE_MAY_RUN | HOSTILE_MAY_LIBRARIES);
    return __real_verify_program(task, ret_result, err);
}
