/* hostile_aten.c - pt2-aten, taken over as it runs a program: each run attacks, and fails
 * with how that went.
 *
 * Linked with --wrap=aten_program_run, so that all else is pt2-aten's own. */
#include "aten/interp.h"
#include "hostile.h"

int __wrap_aten_program_run(struct aten_program *program, void *const *buffers,
                            const int64_t *input_ids, const int64_t *cache_position,
                            int64_t s, int64_t first_row, int64_t n_rows, float *logits,
                            struct pt2_err *err);

int __wrap_aten_program_run(struct aten_program *program, void *const *buffers,
                            const int64_t *input_ids, const int64_t *cache_position,
                            int64_t s, int64_t first_row, int64_t n_rows, float *logits,
                            struct pt2_err *err)
{
    char report[120];

    (void)program, (void)buffers, (void)input_ids, (void)cache_position;
    (void)s, (void)first_row, (void)n_rows, (void)logits;
    hostile_attack(0, report, sizeof(report));
    return pt2_err_set(err, PT2_ERR_PROGRAM_FAILED, "%s", report);
}
