/* config.h - the daemon's configuration: one table of parameters, read from an INI file.
 *
 * Every parameter is a line of tbl_params.h; the commented etc/pt2d.conf and
 * man/pt2d.conf.5 are printed from it (make params), and a test compares them.  Keys,
 * sections and values that the table does not know are errors that name the line.
 *
 * Filled by main before anything else starts and constant afterwards, so the getters may
 * be called from any thread.  A getter names "section.key"; a name that the table lacks,
 * or a getter of another type, is our own bug and aborts. */
#ifndef HTTP_CONFIG_H
#define HTTP_CONFIG_H

#include "base/buf.h"

#include <pt2/err.h>

struct config;

/* All defaults.  new: config_free.  Errors: NOMEM. */
MUST_USE int config_new(struct config **ret_config, struct pt2_err *err);
void config_free(struct config *config);
DEFINE_AUTO(config)

/* Read an INI file over what is there.  Errors: NOT_FOUND, IO, INVALID ("pt2d.conf:12:
 * …"). */
MUST_USE int config_load(struct config *config, const char *path, struct pt2_err *err);
/* The same for one value, as a flag gives it.  Errors: INVALID, NOMEM. */
MUST_USE int config_set(struct config *config, const char *name, const char *value,
                        struct pt2_err *err);

/* The types of the table: INT a number, SIZE bytes, TIME milliseconds, BOOL, TEXT (never
 * NULL; "" where nothing is set), CHOICE the word. */
int64_t config_get_int(const struct config *config, const char *name);
uint64_t config_get_size(const struct config *config, const char *name);
int64_t config_get_ms(const struct config *config, const char *name);
bool config_get_bool(const struct config *config, const char *name);
const char *config_get_text(const struct config *config,
                            const char *name); /* CHOICE too */

/* Walk the parameters in which the two differ: their names; NULL after the last.  *i
 * begins as 0. */
const char *config_next_difference(const struct config *a, const struct config *b,
                                   size_t *i);

enum config_print {
    CONFIG_PRINT_CONF,   /* etc/pt2d.conf: each key with its text, commented out */
    CONFIG_PRINT_VALUES, /* the values in force, one "key = value" a line */
    CONFIG_PRINT_MAN,    /* man/pt2d.conf.5 */
};
void config_print(const struct config *config, enum config_print how, struct buf *to);

#endif
