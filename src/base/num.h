/* num.h - floating-point numbers as JSON text: the shortest digits that read back
 * exactly.
 *
 * In C++ (num.cc) because std::to_chars is the one function of the system's libraries
 * that prints the shortest digits; "%.9g" prints more of them and takes ten times as
 * long.
 *
 * A number always looks like a float ("5.0", "-0.0", "1e-07"), so that readers which tell
 * integers from floats keep the sign of zero.  NaN and the infinities, which JSON lacks,
 * are the strings "NaN", "Infinity", "-Infinity", quotes included.  No locale, no error,
 * no allocation but the buf's; any thread. */
#ifndef BASE_NUM_H
#define BASE_NUM_H

#ifdef __cplusplus
extern "C" {
#endif

#include "base/buf.h"

#define NUM_FLOAT_CHARS  16 /* at most, of one float32: "-1.17549435e-38" */
#define NUM_DOUBLE_CHARS 26 /* of one float64: "-2.2250738585072014e-308" */

/* Write the text of value to `to` (room for the characters above; no '\0').
 * Returns its length. */
size_t num_put_float(char *to, float value);
size_t num_put_double(char *to, double value);

/* Append n numbers with commas between them, no brackets.  The buf needs room for the
 * longest texts: it may fail up to 1 KiB before its maximum. */
void num_add_floats(struct buf *b, const float *values, size_t n);
void num_add_doubles(struct buf *b, const double *values, size_t n);

#ifdef __cplusplus
}
#endif

#endif
