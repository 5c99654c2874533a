/* compare.h - rows of logits of two runs of one program, and how far they are apart.
 *
 * A row is the logits of one token of one batch element.  Two measures: the row that is
 * furthest off, its largest difference beside the reference's largest logit in it, since
 * rounding grows with what is rounded; and the root mean square of all differences beside
 * that of all the reference's logits.  The first finds one wrong row, the second what is a
 * little wrong everywhere, which in half precision hides in a row's largest difference.
 * Pure functions; any thread. */
#ifndef VERIFY_COMPARE_H
#define VERIFY_COMPARE_H

#include "base/util.h"

/* Zeroed: nothing compared. */
struct comparison {
    int64_t n_rows;
    /* of the row that is furthest off; no row: zeros */
    double difference; /* the largest between two logits of the same id */
    double logit;      /* the reference's largest, by magnitude */
    int64_t position, element;
    double difference_squares, logit_squares; /* sums, of all rows */
};

/* Take a row of n_logits, finite ones, of batch element `element` at `position`. */
void comparison_add(struct comparison *c, const float *reference, const float *other,
                    size_t n_logits, int64_t position, int64_t element);
/* difference / logit; infinite where the reference is all zeros and the other is not. */
double comparison_ratio(const struct comparison *c);
/* Root mean square of the differences over that of the reference's logits; likewise. */
double comparison_rms(const struct comparison *c);

/* The first that is NaN or infinite; n where none is. */
size_t logits_find_bad(const float *logits, size_t n);

/* The least power of ten that is not below ratio; 0 for 0.  For records that are to be the
 * same on machines that round otherwise. */
double ratio_round_up(double ratio);

#endif
