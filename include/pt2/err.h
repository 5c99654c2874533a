/* err.h - what went wrong: a code and a text that names the thing and the numbers.
 *
 * A function that can fail returns 0 or -1 and fills the caller's struct pt2_err.  NULL is
 * allowed; the first error wins (a filled err is not overwritten).  Any thread, each with
 * its own struct.  A struct pt2_err owns nothing. */
#ifndef PT2_ERR_H
#define PT2_ERR_H

#include <pt2/macros.h>

#include <stdarg.h>
#include <stdint.h>

enum pt2_error {
#define PT2_ERROR(code, name, status, title) PT2_ERR_##code,
#include <pt2/tbl_errors.h>
#undef PT2_ERROR
    PT2_N_ERRORS
};

struct pt2_err {
    enum pt2_error code; /* PT2_ERR_NONE until set */
    char text[480];      /* UTF-8, what was wrong and what would be right; cut where too long */
};

/* Fill err where it is not filled yet.  Returns -1, so that callers can `return` it. */
PT2_API int pt2_err_set(struct pt2_err *err, enum pt2_error code, const char *fmt, ...)
    PT2_PRINTF(3, 4);
PT2_API int pt2_err_vset(struct pt2_err *err, enum pt2_error code, const char *fmt,
                         va_list ap) PT2_PRINTF(3, 0);

/* The same with ": <strerror(errno)>" after the text.  ENOSPC and EDQUOT become NO_SPACE and
 * ENOMEM NOMEM, whatever the code said. */
PT2_API int pt2_err_errno(struct pt2_err *err, enum pt2_error code, const char *fmt, ...)
    PT2_PRINTF(3, 4);

/* Put "fmt: " before the text of a filled err, to say where it happened.  Returns -1. */
PT2_API int pt2_err_prefix(struct pt2_err *err, const char *fmt, ...) PT2_PRINTF(2, 3);

/* Empty it, for the next use. */
PT2_API void pt2_err_clear(struct pt2_err *err);

/* The table's columns.  pt2_error_find answers PT2_ERR_INTERNAL for an unknown name. */
PT2_API const char *pt2_error_name(enum pt2_error code);
PT2_API const char *pt2_error_title(enum pt2_error code);
PT2_API int pt2_error_status(enum pt2_error code);
PT2_API enum pt2_error pt2_error_find(const char *name);

#endif
