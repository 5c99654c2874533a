/* expr.h - symbolic sizes: sympy's text, checked and brought into one spelling.
 *
 * torch.export.save writes them as sympy's srepr,
 *     Mul(Integer(16), Symbol('s11', positive=True, integer=True))
 * and torch.export.load takes plain text as well; we keep and write "16*s11".  Nothing
 * but numbers, symbols, operators and calls of functions by name gets through (to Python
 * such a text is code to be evaluated).  Any thread. */
#ifndef PROGRAM_EXPR_H
#define PROGRAM_EXPR_H

#include "program/arena.h"

#include <pt2/err.h>

#define EXPR_MAX_LEN    1024 /* bytes, of the text read and of the text made */
#define EXPR_MAX_SYMBOL 63   /* bytes */
#define EXPR_MAX_DEPTH  32

/* Read len bytes of s.  *ret_text is in the arena, or NULL where the expression is a
 * plain number, *ret_number then.  on_symbol is called for each symbol in it, maybe more
 * than once; -1 from it ends the reading. Errors: BAD_PROGRAM (what is wrong, and the
 * text), NOMEM. */
MUST_USE int expr_read(const char *s, size_t len,
                       int (*on_symbol)(void *ctx, const char *symbol, size_t len),
                       void *ctx, struct arena *arena, const char **ret_text,
                       int64_t *ret_number, struct pt2_err *err);

/* Is the text one symbol and nothing else?  Then torch gives it a range. */
bool expr_is_symbol(const char *text);

#endif
