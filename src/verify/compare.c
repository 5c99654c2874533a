#include "verify/compare.h"

#include <math.h>

static double ratio_of(double difference, double logit)
{
    return difference == 0 ? 0 : logit == 0 ? INFINITY : difference / logit;
}

void comparison_add(struct comparison *c, const float *reference, const float *other,
                    size_t n_logits, int64_t position, int64_t element)
{
    double difference = 0, logit = 0;

    for (size_t i = 0; i < n_logits; i++) {
        double x = (double)reference[i], d = x - (double)other[i];

        difference = fmax(difference, fabs(d));
        logit = fmax(logit, fabs(x));
        c->difference_squares += d * d;
        c->logit_squares += x * x;
    }
    if (c->n_rows == 0 || ratio_of(difference, logit) > comparison_ratio(c)) {
        c->difference = difference;
        c->logit = logit;
        c->position = position;
        c->element = element;
    }
    c->n_rows++;
}

double comparison_ratio(const struct comparison *c)
{
    return ratio_of(c->difference, c->logit);
}

double comparison_rms(const struct comparison *c)
{
    return sqrt(ratio_of(c->difference_squares, c->logit_squares));
}

size_t logits_find_bad(const float *logits, size_t n)
{
    size_t i = 0;

    while (i < n && isfinite(logits[i]))
        i++;
    return i;
}

double ratio_round_up(double ratio)
{
    double power = 1;

    if (!(ratio > 0) || isinf(ratio))
        return ratio;
    while (power < ratio)
        power *= 10;
    while (power / 10 >= ratio)
        power /= 10;
    return power;
}
