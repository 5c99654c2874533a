/* figures.h - what metrics and the log say of jobs.  Any thread. */
#ifndef JOBS_FIGURES_H
#define JOBS_FIGURES_H

#include "jobs/patch.h"

void figures_jobs_init(const struct jobs_options *options);
/* A job's run begins; row as it was before. */
void figures_job_begins(const struct job_row *row, const struct patch *patch);
/* What the patch makes of a job: counted and logged where that is its end.  Not under the
 * mutex: the log may wait. */
void figures_job_ends(const struct job_row *row, const struct patch *patch);
/* All jobs of a run.  The holder of change. */
void figures_run_ends(const struct run *run, const struct patch *patch);

#endif
