/* log.h - lines for the operator, on standard error.
 *
 * Only main programs, workers and http log; everything else fills a pt2_err.  Any thread.
 * Client strings stand in single quotes.  Under systemd each line begins with its
 * priority ("<4>"), otherwise with the time and the level's name. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/util.h"

enum log_level {
    LOG_LEVEL_ERROR,   /* an operator must act */
    LOG_LEVEL_WARNING, /* we went on; the line says so */
    LOG_LEVEL_INFO,    /* an operator understands it */
    LOG_LEVEL_DEBUG,   /* ours */
};

void log_set_level(enum log_level level);
/* -1 where the name is not "error", "warning", "info" or "debug". */
int log_level_from_name(const char *name);
void log_line(enum log_level level, const char *fmt, ...) PT2_PRINTF(2, 3);

#define log_error(...)   log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)    log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* A condition that only our own bug can break: reported with its place, then abort(). */
#define ASSERT(cond) ((cond) ? (void)0 : assert_failed(#cond, __FILE__, __LINE__, __func__))
_Noreturn void assert_failed(const char *cond, const char *file, int line,
                             const char *func);

#endif
