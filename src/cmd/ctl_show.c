#include "cmd/ctl_show.h"

#include "base/buf.h"

#include <stdarg.h>
#include <sys/ioctl.h>

struct table {
    size_t n_columns, n_cells, room;
    char **cells; /* row by row, the titles first */
    bool *right;  /* per cell: a number */
};

static void put(struct table *t, const char *text, bool right)
{
    if (!t)
        return;
    if (t->n_cells == t->room) {
        size_t room = t->room ? t->room * 2 : 64;
        char **cells = realloc(t->cells, room * sizeof(*cells));
        bool *rights;

        if (!cells)
            return;
        t->cells = cells;
        rights = realloc(t->right, room * sizeof(*rights));
        if (!rights)
            return;
        t->right = rights;
        t->room = room;
    }
    t->cells[t->n_cells] = strdup(text && *text ? text : "-");
    t->right[t->n_cells] = right;
    t->n_cells += t->cells[t->n_cells] != NULL;
}

struct table *table_new(size_t n_columns, const char *const *titles)
{
    struct table *t = calloc(1, sizeof(*t));

    if (!t)
        return NULL;
    t->n_columns = n_columns;
    for (size_t i = 0; i < n_columns; i++)
        put(t, titles[i], false);
    return t;
}

void table_free(struct table *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->n_cells; i++)
        free(t->cells[i]);
    free(t->cells);
    free(t->right);
    free(t);
}

void table_add(struct table *t, const char *text)
{
    put(t, text, false);
}

void table_add_int(struct table *t, json_int_t n)
{
    char text[32];

    snprintf(text, sizeof(text), "%lld", (long long)n);
    put(t, text, true);
}

void table_add_bytes(struct table *t, json_int_t bytes)
{
    char text[SHOW_SIZE_CHARS];

    put(t, show_bytes(bytes < 0 ? 0 : (uint64_t)bytes, text), true);
}

void table_add_member(struct table *t, const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);

    if (json_is_string(value))
        put(t, json_string_value(value), false);
    else if (json_is_integer(value))
        table_add_int(t, json_integer_value(value));
    else if (json_is_boolean(value))
        put(t, json_is_true(value) ? "yes" : "no", false);
    else
        put(t, NULL, false);
}

/* Characters of UTF-8 text, for widths: bytes that do not continue one. */
static size_t width(const char *s)
{
    size_t n = 0;

    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static size_t column_width(const struct table *t, size_t column)
{
    size_t most = 0;

    for (size_t i = column; i < t->n_cells; i += t->n_columns)
        most = MAX(most, width(t->cells[i]));
    return most;
}

void table_print(const struct table *t, const char *empty)
{
    if (!t)
        return;
    if (t->n_cells <= t->n_columns) {
        if (empty)
            printf("%s\n", empty);
        return;
    }
    for (size_t i = 0; i < t->n_cells; i++) {
        size_t column = i % t->n_columns;
        int pad = (int)(column_width(t, column) - width(t->cells[i]));
        bool is_last = column + 1 == t->n_columns;

        if (t->right[i])
            printf("%*s", pad, "");
        show_text(stdout, t->cells[i], false);
        if (!is_last)
            printf("%*s", t->right[i] ? 2 : pad + 2, "");
        else
            putchar('\n');
    }
}

const char *show_bytes(uint64_t bytes, char *to)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    double n = (double)bytes;
    size_t u = 0;

    while (n >= 999.95 && u + 1 < ARRAY_LEN(units)) {
        n /= 1000;
        u++;
    }
    snprintf(to, SHOW_SIZE_CHARS, u == 0 ? "%.0f %s" : "%.1f %s", n, units[u]);
    return to;
}

void show_line(const char *name, const char *fmt, ...)
{
    AUTO_PTR char *text = NULL;
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vasprintf(&text, fmt, ap);
    va_end(ap);
    printf("%-16s ", name);
    show_text(stdout, n < 0 ? "?" : text, false);
    putchar('\n');
    if (n < 0)
        text = NULL;
}

void show_member(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    AUTO_PTR char *text = NULL;

    if (!value || json_is_null(value)) {
        show_line(name, "-");
    } else if (json_is_string(value)) {
        show_line(name, "%s", json_string_value(value));
    } else {
        text = json_dumps(value, JSON_ENCODE_ANY);
        show_line(name, "%s", text ? text : "?");
    }
}

char *show_tensor(const json_t *tensor)
{
    const char *dtype = json_string_value(json_object_get(tensor, "dtype"));
    AUTO_BUF b = BUF_INIT(4096);
    json_t *dim;
    size_t i;

    buf_str(&b, dtype ? dtype : "?");
    buf_str(&b, " [");
    json_array_foreach (json_object_get(tensor, "shape"), i, dim) {
        buf_str(&b, i ? ", " : "");
        if (json_is_string(dim))
            buf_str(&b, json_string_value(dim));
        else
            buf_printf(&b, "%lld", (long long)json_integer_value(dim));
    }
    buf_str(&b, "]");
    return buf_failed(&b) ? NULL : buf_take(&b);
}

int show_json(struct ctl *ctl, const json_t *json)
{
    if (json_dumpf(json, stdout, JSON_INDENT(1) | JSON_ENCODE_ANY) < 0)
        return ctl_fail(ctl, CTL_FILE, "standard output could not be written");
    putchar('\n');
    return 0;
}

void show_text(FILE *to, const char *text, bool lines)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;

        if (c == 0xc2 && (unsigned char)text[1] >= 0x80 &&
            (unsigned char)text[1] < 0xa0) {
            fputc('?', to); /* U+0080 to U+009F, which terminals obey as well */
            text++;
        } else if ((lines && (c == '\n' || c == '\t')) || (c >= 0x20 && c != 0x7f)) {
            fputc(c, to);
        } else {
            fputc('?', to);
        }
    }
}

/* ---- the bar ---- */

void bar_start(struct bar *bar, const struct ctl *ctl)
{
    memset(bar, 0, sizeof(*bar));
    bar->last = -1;
    bar->is_on = !ctl->quiet;
    bar->is_tty = isatty(STDERR_FILENO) == 1;
}

static int columns(void)
{
    struct winsize size;

    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col < 50)
        return 50;
    return size.ws_col > 120 ? 120 : size.ws_col;
}

static void draw_tty(struct bar *bar, uint64_t done, uint64_t total, bool is_bytes)
{
    char figures[64], a[SHOW_SIZE_CHARS], b[SHOW_SIZE_CHARS];
    int room, full;

    if (is_bytes)
        snprintf(figures, sizeof(figures), "%s of %s", show_bytes(done, a),
                 show_bytes(total, b));
    else
        snprintf(figures, sizeof(figures), "%llu of %llu", (unsigned long long)done,
                 (unsigned long long)total);
    room = MAX(columns() - 42, 8);
    full = total ? (int)((double)room * (double)done / (double)total) : 0;
    full = MIN(full, room);
    fprintf(stderr, "\r%-12.12s [", bar->label);
    for (int i = 0; i < room; i++)
        fputc(i < full ? '#' : '.', stderr);
    fprintf(stderr, "] %-22.22s", figures);
    fflush(stderr);
}

void bar_draw(struct bar *bar, const char *label, uint64_t done, uint64_t total,
              bool is_bytes)
{
    int permille = total ? (int)((double)done * 1000.0 / (double)total) : 0;
    bool is_new = strncmp(bar->label, label, sizeof(bar->label) - 1) != 0;

    if (!bar->is_on || (!is_new && permille == bar->last))
        return;
    if (is_new && bar->is_tty && bar->last >= 0)
        fputc('\n', stderr);
    snprintf(bar->label, sizeof(bar->label), "%s", label);
    for (char *p = bar->label; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    bar->last = permille;
    if (bar->is_tty)
        draw_tty(bar, done, total, is_bytes);
    else if (is_new)
        fprintf(stderr, "%s\n", bar->label);
}

void bar_end(struct bar *bar)
{
    if (bar->is_on && bar->is_tty && bar->last >= 0)
        fputc('\n', stderr);
    bar->last = -1;
    bar->label[0] = '\0';
}
