/* clock.h - what time it is, and how answers show it.  Any thread. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include "base/util.h"

#define CLOCK_TEXT_SIZE                                                                  \
    32 /* "2026-02-03T04:05:06.789Z" and the '\0', with some to spare */

int64_t clock_unix_ms(void); /* since 1970; jumps when the machine's clock is set */
int64_t clock_mono_ms(void); /* for durations and deadlines; never jumps */
int64_t clock_mono_ns(void); /* the same, finer */

/* RFC 3339, UTC, with milliseconds. */
void clock_to_text(int64_t unix_ms, char ret_text[CLOCK_TEXT_SIZE]);

#endif
