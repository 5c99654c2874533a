/* ctl_show.h - what people read: tables, sizes, a progress bar. */
#ifndef CMD_CTL_SHOW_H
#define CMD_CTL_SHOW_H

#include "cmd/ctl.h"

/* Rows of cells on standard output, columns aligned; numbers to the right. */
struct table;
struct table *table_new(size_t n_columns, const char *const *titles);
void table_free(struct table *table);
DEFINE_AUTO(table)
/* The next cell, row by row; NULL and "" print as "-". */
void table_add(struct table *table, const char *text);
void table_add_int(struct table *table, json_int_t n);
void table_add_bytes(struct table *table, json_int_t bytes);
/* A member of an object: strings and numbers as they are, booleans as yes and no. */
void table_add_member(struct table *table, const json_t *object, const char *name);
/* Print it; where it has no row, print `empty` instead (NULL: nothing). */
void table_print(const struct table *table, const char *empty);

#define SHOW_SIZE_CHARS 24
/* "1.3 MB": sizes in powers of 1000, as files are sold and API.md's limits are not. */
const char *show_bytes(uint64_t bytes, char *to);
/* "name: value" on a line of its own: strings, numbers, booleans, null as "-"; other
 * values in JSON. */
void show_member(const json_t *object, const char *name);
/* The same with a text. */
void show_line(const char *name, const char *fmt, ...) PT2_PRINTF(2, 3);
/* "float32 [1, 4, s0]" of an input or output of a program, new. */
char *show_tensor(const json_t *tensor);
/* One JSON value and a line break on standard output. */
int show_json(struct ctl *ctl, const json_t *json);
/* Text from the daemon: control characters are shown as '?', so that a terminal obeys
 * nothing that a file says.  Line breaks pass where `lines` is true. */
void show_text(FILE *to, const char *text, bool lines);

/* A bar on standard error, where that is a terminal and --quiet was not given; otherwise
 * a line for each new label. */
struct bar {
    bool is_on, is_tty;
    char label[64];
    int last; /* permille drawn last; -1: none */
};
void bar_start(struct bar *bar, const struct ctl *ctl);
void bar_draw(struct bar *bar, const char *label, uint64_t done, uint64_t total,
              bool is_bytes);
void bar_end(struct bar *bar);

#endif
