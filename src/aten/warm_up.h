/* warm_up.h - have libtorch do what it does once, while files may still be opened.
 *
 * At its first use libtorch reads the processor's facts from /proc and /sys; where it can
 * not, it falls back to kernels for any processor, several times slower.  Called by the
 * worker before it enters its sandbox. */
#ifndef ATEN_WARM_UP_H
#define ATEN_WARM_UP_H

/* Set the threads of the process (0: as many as there are cores), start them, and run a
 * small product in each floating-point type.  What fails here fails later, with a reason.
 */
void aten_warm_up(unsigned n_threads);

#endif
