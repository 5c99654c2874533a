/* cores.h - how many threads can run at once.  Any thread. */
#ifndef BASE_CORES_H
#define BASE_CORES_H

/* CPUs that this process may run on (sched_getaffinity(2)), at least 1: where these can
 * not be read, as with more than the 1024 of a cpu_set_t, it is 1. */
unsigned cores_count(void);

#endif
