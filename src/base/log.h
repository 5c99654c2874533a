/* log.h - lines for the operator, on standard error.
 *
 * Only main programs, workers and http log; everything else fills a pt2_err.  Any thread.
 * Client strings stand in single quotes.
 *
 * Plain:  2026-03-01T12:00:00.000Z info: model 'x' was deleted, request 5f-1
 *         <6>model 'x' was deleted, request 5f-1          under systemd
 * JSON:   {"time":"2026-…Z","level":"info","message":"model 'x' was deleted","request":"5f-1"}
 *
 * Fields follow the message: plain as ", name value", in quotes where the value is more than
 * letters, digits and -_.:/+@=; in JSON as strings of their own. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/util.h"

enum log_level {
    LOG_LEVEL_ERROR,   /* an operator must act */
    LOG_LEVEL_WARNING, /* we went on; the line says so */
    LOG_LEVEL_INFO,    /* an operator understands it */
    LOG_LEVEL_DEBUG,   /* ours */
};

enum log_format { LOG_PLAIN, LOG_JSON };

void log_set_level(enum log_level level);
/* -1 where the name is not "error", "warning", "info" or "debug". */
int log_level_from_name(const char *name);
void log_set_format(enum log_format format);

/* What this thread logs from now on belongs to a request: each line ends with the field
 * "request", where it has none.  Borrowed until NULL is set. */
void log_set_request(const char *id);

struct log_field {
    const char *name, *value; /* a value that is NULL or "" is left out */
};
/* For a line that another thread logs. */
#define LOG_REQUEST(id) ((const struct log_field[]){{"request", (id)}, {NULL, NULL}})
/* fields may be NULL; otherwise one without a name ends them. */
void log_with(enum log_level level, const struct log_field *fields, const char *fmt, ...)
    PT2_PRINTF(3, 4);

#define log_line(level, ...) log_with(level, NULL, __VA_ARGS__)
#define log_error(...)       log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...)     log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)        log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)       log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* A condition that only our own bug can break: reported with its place, then abort(). */
#define ASSERT(cond) ((cond) ? (void)0 : assert_failed(#cond, __FILE__, __LINE__, __func__))
_Noreturn void assert_failed(const char *cond, const char *file, int line,
                             const char *func);

#endif
