/* fsck_sessions.h - STATE/sessions, as far as pt2d --fsck can tell without an engine.
 *
 * A saved session is whole where its file, the cache's image included, has its checksums, says
 * what can be, was written by engines that lay out caches as these do, and its program is
 * there.  Whole ones stay, whether sessions are kept or not; the others are problems, and go
 * to lost+found.  Caches of a process that ended, and sessions past their time, are leftovers. */
#ifndef SERVE_FSCK_SESSIONS_H
#define SERVE_FSCK_SESSIONS_H

#include "store/fsck.h"

fsck_part fsck_sessions;

#endif
