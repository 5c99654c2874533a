/* wrong_aten.c - pt2-aten, but for one mistake: where a run answers the token at position
 * 3, the logit of id 1 is 100 too large.  For stories of verifications that must fail.
 *
 * Linked with --wrap=aten_program_run, so that all else is pt2-aten's own. */
#include "aten/interp.h"

#define WRONG_POSITION 3
#define WRONG_ID       1

int __real_aten_program_run(struct aten_program *program, void *const *buffers,
                            const int64_t *input_ids, const int64_t *cache_position,
                            int64_t s, int64_t first_row, int64_t n_rows, float *logits,
                            struct pt2_err *err);
int __wrap_aten_program_run(struct aten_program *program, void *const *buffers,
                            const int64_t *input_ids, const int64_t *cache_position,
                            int64_t s, int64_t first_row, int64_t n_rows, float *logits,
                            struct pt2_err *err);

int __wrap_aten_program_run(struct aten_program *program, void *const *buffers,
                            const int64_t *input_ids, const int64_t *cache_position,
                            int64_t s, int64_t first_row, int64_t n_rows, float *logits,
                            struct pt2_err *err)
{
    int r = __real_aten_program_run(program, buffers, input_ids, cache_position, s,
                                    first_row, n_rows, logits, err);

    for (int64_t i = 0; r == 0 && logits && i < n_rows; i++)
        if (cache_position[first_row + i] == WRONG_POSITION)
            logits[i * aten_program_decoder(program)->vocab_size + WRONG_ID] += 100;
    return r;
}
