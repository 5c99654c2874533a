#include "http/config.h"
#include "http/params.h"

#define WIDTH 78 /* of the comments in pt2d.conf */

/* ---- pt2d.conf ---- */

/* The words of text, in lines that begin with "# ". */
static void add_wrapped(struct buf *to, const char *text)
{
    size_t column = 0;

    while (*text) {
        size_t n = strcspn(text, " ");

        if (column && column + 1 + n > WIDTH) {
            buf_str(to, "\n");
            column = 0;
        }
        buf_str(to, column ? " " : "# ");
        buf_add(to, text, n);
        column += n + (column ? 1 : 2);
        text += n + strspn(text + n, " ");
    }
    buf_str(to, "\n");
}

static void add_facts(struct buf *to, const struct param *p)
{
    char takes[200];
    AUTO_BUF facts = BUF_INIT(1024);

    param_describe(p, takes, sizeof(takes));
    if (p->type == PARAM_TEXT)
        buf_printf(&facts, "Takes: %s.", p->unit);
    else if (p->type == PARAM_INT || p->type == PARAM_SIZE)
        buf_printf(&facts, "Takes: %s, %s.", p->unit, takes);
    else
        buf_printf(&facts, "Takes: %s.", takes);
    buf_printf(&facts, " Default: %s.", *p->text ? p->text : "empty");
    if (facts.data)
        add_wrapped(to, facts.data);
}

static void print_conf(struct buf *to)
{
    buf_str(to,
            "# pt2d.conf - the configuration of pt2d(8); see pt2d.conf(5).\n"
            "#\n"
            "# Every key is here with its default, commented out.  Sizes take KiB, MiB,\n"
            "# GiB, TiB; times take ms, s, min, h, d (a bare number is seconds).\n");
    for (size_t i = 0; i < N_PARAMS; i++) {
        const struct param *p = &params[i];

        if (i == 0 || !streq(params[i - 1].section, p->section))
            buf_printf(to, "\n[%s]\n", p->section);
        buf_str(to, "\n");
        add_wrapped(to, p->prose);
        add_facts(to, p);
        buf_printf(to, "#%s =%s%s\n", p->key, *p->text ? " " : "", p->text);
    }
}

/* ---- the values in force ---- */

static void print_values(const struct config *config, struct buf *to)
{
    for (size_t i = 0; i < N_PARAMS; i++) {
        const char *text = config->values[i].text;
        bool has_space = *text && *text != ';'; /* " ;" would begin a comment */

        if (i == 0 || !streq(params[i - 1].section, params[i].section))
            buf_printf(to, "%s[%s]\n", i ? "\n" : "", params[i].section);
        buf_printf(to, "%s =%s%s\n", params[i].key, has_space ? " " : "", text);
    }
}

/* ---- pt2d.conf.5 ---- */

/* Text for troff: '\' and '-' escaped, a '.' or ''' at the beginning made harmless. */
static void add_roff(struct buf *to, const char *text)
{
    if (*text == '.' || *text == '\'')
        buf_str(to, "\\&");
    for (; *text; text++) {
        if (*text == '\\')
            buf_str(to, "\\e");
        else if (*text == '-')
            buf_str(to, "\\-");
        else
            buf_add(to, text, 1);
    }
}

static void print_man_param(const struct param *p, struct buf *to)
{
    char takes[200];

    param_describe(p, takes, sizeof(takes));
    buf_str(to, ".TP\n.B ");
    add_roff(to, p->key);
    buf_str(to, "\n");
    add_roff(to, p->prose);
    buf_str(to, "\n.br\nTakes ");
    add_roff(to, p->type == PARAM_TEXT ? p->unit : takes);
    if (p->type == PARAM_INT || p->type == PARAM_SIZE)
        buf_printf(to, " (%s)", p->unit);
    buf_str(to, "; default: ");
    add_roff(to, *p->text ? p->text : "empty");
    buf_str(to, ".\n");
}

static void print_man(struct buf *to)
{
    buf_str(
        to,
        ".\\\" printed by: pt2d --dump-config=man\n"
        ".TH PT2D.CONF 5 \"\" \"pt2d\"\n"
        ".SH NAME\npt2d.conf \\- configuration of the pt2d daemon\n"
        ".SH DESCRIPTION\n"
        "An INI file: sections in brackets, lines of\n.IR key \" = \" value ,\n"
        "comments after # or ; at the beginning of a line.\n"
        "Every key has a default, and the defaults serve a laptop, so the file may be\n"
        "missing.\n"
        "Keys and sections that are not described here are errors, as are values that\n"
        "do not fit; the message names the line.\n"
        ".PP\n"
        "Sizes are bytes and take KiB, MiB, GiB and TiB (powers of 1024).\n"
        "Times take ms, s, min, h and d; a bare number is seconds.\n"
        "Flags of\n.BR pt2d (8)\noverride the file.\n");
    for (size_t i = 0; i < N_PARAMS; i++) {
        if (i == 0 || !streq(params[i - 1].section, params[i].section))
            buf_printf(to, ".SH [%s]\n", params[i].section);
        print_man_param(&params[i], to);
    }
    buf_str(to, ".SH SEE ALSO\n.BR pt2d (8)\n");
}

void config_print(const struct config *config, enum config_print how, struct buf *to)
{
    switch (how) {
    case CONFIG_PRINT_CONF:
        print_conf(to);
        break;
    case CONFIG_PRINT_VALUES:
        print_values(config, to);
        break;
    case CONFIG_PRINT_MAN:
        print_man(to);
        break;
    }
}
