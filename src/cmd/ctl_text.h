/* ctl_text.h - a program's tokenizer and where its text ends, from its own archive. */
#ifndef CMD_CTL_TEXT_H
#define CMD_CTL_TEXT_H

#include "cmd/ctl.h"
#include "cmd/tokenizer.h"

#define TEXT_MAX_ENDS 32

struct text {
    struct tokenizer *tokenizer; /* NULL: there is none */
    int64_t ends[TEXT_MAX_ENDS]; /* tokens that end a text */
    size_t n_ends;
};

/* Read extra/tokenizer.json (or the file at path, where that is not NULL) and the
 * get_eos_ids of extra/executorch_metadata.json.  program: what GET /v1/programs/{id}
 * answered.  A tokenizer that is not there or not known is a failure where
 * wants_tokenizer is true, otherwise text->tokenizer is NULL. */
MUST_USE int text_init(struct text *text, struct ctl *ctl, const json_t *program,
                       const char *path, bool wants_tokenizer);
void text_done(struct text *text);

bool text_ends_with(const struct text *text, int64_t id);

/* Characters as they become whole: bytes come in pieces, tokens end within characters. */
struct text_printer {
    struct buf bytes; /* not printed yet */
    FILE *to;         /* NULL: nowhere */
    struct buf all;   /* what was printed, as UTF-8 */
};
void text_printer_init(struct text_printer *printer, FILE *to);
void text_printer_done(struct text_printer *printer);
/* Print what is whole of it; at the end, the rest too.  What is not UTF-8 becomes U+FFFD.
 */
void text_print(struct text_printer *printer, const struct text *text, int64_t id);
void text_print_end(struct text_printer *printer);

#endif
