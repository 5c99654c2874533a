/* measure.h - gauges that nobody keeps up: what is read when metrics are asked for.
 *
 * Any thread; none of it waits for the disk, but for what measure_store says. */
#ifndef HTTP_MEASURE_H
#define HTTP_MEASURE_H

#include "http/app.h"

/* The process's memory, files, time; the build. */
void measure_process(void);
/* The queue and the free space.  While the daemon starts nothing.  Has the store measured on
 * a pool thread where that is longer ago than MEASURE_STORE_MS; the next answer shows it. */
void measure_parts(const struct app *app);
#define MEASURE_STORE_MS 10000
/* Count what the store holds, where that is longer ago; waits for the database and the disk. */
void measure_store(const struct app *app);

#endif
