#include "engine/chunk.h"

#include "base/log.h"

int chunk_check(const struct chunk_shape *shape, struct pt2_err *err)
{
    if (shape->seq_len > 1 && shape->last_row_only && shape->has_counters)
        return pt2_err_set(
            err, PT2_ERR_PROGRAM_REFUSED,
            "the program computes %jd rows a run at a counter of its own and "
            "answers the last one's logits alone, so shorter steps can not "
            "be answered",
            (intmax_t)shape->seq_len);
    if (shape->seq_len > 1 && shape->rolls)
        return pt2_err_set(err, PT2_ERR_PROGRAM_REFUSED,
                           "the program computes %jd rows a run and its cache rolls, so "
                           "shorter steps can not be run",
                           (intmax_t)shape->seq_len);
    return 0;
}

/* Runs of any length: no row too many. */
static void next_dynamic(const struct chunk_shape *shape, const struct chunk_step *step,
                         struct chunk_run *run)
{
    int64_t left = step->s - step->done;

    run->take = MIN(left, shape->max_rows);
    if (shape->last_row_only && step->all_rows)
        run->take = 1;
}

/* Fewer tokens than rows, and the answer is the last row's: it must be the last token's.
 */
static void end_on_token(const struct chunk_shape *shape, const struct chunk_step *step,
                         struct chunk_run *run)
{
    int64_t left = step->s - step->done;

    run->take = step->all_rows ? 1 : MIN(left, shape->seq_len);
    run->pad = shape->seq_len - run->take;
    run->repeat = run->pad > 0;
}

static int next_static(const struct chunk_shape *shape, const struct chunk_step *step,
                       struct chunk_run *run, struct pt2_err *err)
{
    int64_t k = shape->seq_len, left = step->s - step->done, over;

    if (shape->last_row_only) {
        end_on_token(shape, step, run);
        return 0;
    }
    run->take = MIN(left, k);
    run->pad = k - run->take;
    over = run->first + k - shape->max_cache_len;
    if (shape->ring_len > 0) {
        run->repeat = run->pad > 0;
        return 0;
    }
    if (over <= 0)
        return 0;
    if (run->first - over >= step->known) {
        run->first -= over;
        run->lead = over;
        run->pad -= over;
    } else if (!shape->has_counters) {
        run->repeat = true;
    } else {
        return pt2_err_set(
            err, PT2_ERR_UNSUPPORTED,
            "the program computes %jd rows a run, which pass the end of its "
            "cache of %jd from position %jd on, and the tokens before that "
            "are not known (the cache was read or restored); step them again "
            "from position %jd",
            (intmax_t)k, (intmax_t)shape->max_cache_len, (intmax_t)run->first,
            (intmax_t)(run->first - over));
    }
    return 0;
}

int chunk_next(const struct chunk_shape *shape, const struct chunk_step *step,
               struct chunk_run *ret_run, struct pt2_err *err)
{
    struct chunk_run run = {.first = step->start + step->done};

    ASSERT(step->done < step->s && step->start + step->s <= shape->max_cache_len);
    if (shape->seq_len == 0)
        next_dynamic(shape, step, &run);
    else if (next_static(shape, step, &run, err) < 0)
        return -1;
    *ret_run = run;
    return 0;
}

int chunk_span(const struct chunk_shape *shape, const struct chunk_step *step,
               int64_t *ret_low, int64_t *ret_high, struct pt2_err *err)
{
    struct chunk_step at = *step;
    int64_t low = step->start, high = step->start + step->s;

    for (at.done = 0; at.done < at.s;) {
        struct chunk_run run;

        if (chunk_next(shape, &at, &run, err) < 0)
            return -1;
        low = MIN(low, run.first);
        high = MAX(high, run.first + run.lead + run.take + (run.repeat ? 0 : run.pad));
        at.done += run.take;
    }
    *ret_low = low;
    *ret_high = high;
    return 0;
}
