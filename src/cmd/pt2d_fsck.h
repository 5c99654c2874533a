/* pt2d_fsck.h - pt2d --fsck: what store/fsck.h finds, a line each on standard output.
 *
 * The main thread alone, in place of serving. */
#ifndef CMD_PT2D_FSCK_H
#define CMD_PT2D_FSCK_H

#include "cmd/pt2d_options.h"

/* Answers the exit status, as fsck(8): 0 all is well; 1 something was changed; 4 problems
 * are left; 5 both; 8 it could not be looked at (said on standard error). */
MUST_USE int pt2d_fsck(const struct config *config, enum pt2d_fsck how);

#endif
