#include "cmd/ctl.h"

#include <errno.h>

static void set_tls_options(struct ctl *ctl, struct ctl_option table[3])
{
    table[0] = (struct ctl_option){
        .name = "cacert",
        .kind = CTL_STRING,
        .dest = &ctl->cacert,
        .arg = "FILE",
        .help = "https: believe these CAs (PEM), not the system's; otherwise $PT2_CACERT"};
    table[1] = (struct ctl_option){
        .name = "cert",
        .kind = CTL_STRING,
        .dest = &ctl->cert,
        .arg = "FILE",
        .help = "https: show this certificate (PEM); otherwise $PT2_CERT"};
    table[2] = (struct ctl_option){
        .name = "key",
        .kind = CTL_STRING,
        .dest = &ctl->key,
        .arg = "FILE",
        .help = "its key (PEM), where it is not in the same file; otherwise $PT2_KEY"};
}

const struct ctl_option *ctl_global_options(struct ctl *ctl)
{
    static struct ctl_option table[8];

    table[0] = (struct ctl_option){
        .letter = 's',
        .name = "server",
        .kind = CTL_STRING,
        .dest = &ctl->server,
        .arg = "URL",
        .help =
            "the daemon: http://HOST:PORT, https://HOST:PORT or unix:PATH; otherwise "
            "$PT2_SERVER, otherwise http://127.0.0.1:8250"};
    table[1] = (struct ctl_option){.letter = 'j',
                                   .name = "json",
                                   .kind = CTL_FLAG,
                                   .dest = &ctl->json,
                                   .help = "answer in JSON"};
    set_tls_options(ctl, &table[4]);
    table[2] = (struct ctl_option){.letter = 'q',
                                   .name = "quiet",
                                   .kind = CTL_FLAG,
                                   .dest = &ctl->quiet,
                                   .help = "no progress"};
    table[3] = (struct ctl_option){.letter = 'h',
                                   .name = "help",
                                   .kind = CTL_FLAG,
                                   .dest = &ctl->help,
                                   .help = "this text"};
    return table;
}

void ctl_print_options(FILE *to, const struct ctl_option *options)
{
    for (const struct ctl_option *o = options; o && o->name; o++) {
        char left[64];

        snprintf(left, sizeof(left), "%c%c%c --%s%s%s", o->letter ? '-' : ' ',
                 o->letter ? o->letter : ' ', o->letter ? ',' : ' ', o->name,
                 o->arg ? " " : "", o->arg ? o->arg : "");
        if (strlen(left) <= 26)
            fprintf(to, "  %-26s  %s\n", left, o->help);
        else
            fprintf(to, "  %s\n  %-26s  %s\n", left, "", o->help);
    }
}

static const struct ctl_option *find(const struct ctl_option *options, const char *name,
                                     size_t len, char letter)
{
    for (const struct ctl_option *o = options; o && o->name; o++) {
        if (name && strlen(o->name) == len && memcmp(o->name, name, len) == 0)
            return o;
        if (!name && o->letter && o->letter == letter)
            return o;
    }
    return NULL;
}

static int set_int(struct ctl *ctl, const struct ctl_option *o, const char *value)
{
    bool bounded = o->min || o->max;
    char *end;
    long long n;

    errno = 0;
    n = strtoll(value, &end, 10);
    if (errno || end == value || *end)
        return ctl_fail(ctl, CTL_USAGE, "--%s wants a whole number, not '%s'", o->name,
                        value);
    if (bounded && (n < o->min || n > o->max))
        return ctl_fail(ctl, CTL_USAGE, "--%s is %lld, and must be %lld to %lld", o->name,
                        n, (long long)o->min, (long long)o->max);
    *(int64_t *)o->dest = n;
    return 0;
}

static int set_double(struct ctl *ctl, const struct ctl_option *o, const char *value)
{
    char *end;
    double d = strtod(value, &end);

    if (end == value || *end || !(d >= 0) || d > 1e6)
        return ctl_fail(ctl, CTL_USAGE, "--%s wants a number from 0 to 1e6, not '%s'",
                        o->name, value);
    *(double *)o->dest = d;
    return 0;
}

static int set(struct ctl *ctl, const struct ctl_option *o, const char *value)
{
    struct ctl_list *list;

    switch (o->kind) {
    case CTL_FLAG:
        *(bool *)o->dest = true;
        return 0;
    case CTL_STRING:
        *(const char **)o->dest = value;
        return 0;
    case CTL_INT:
        return set_int(ctl, o, value);
    case CTL_DOUBLE:
        return set_double(ctl, o, value);
    case CTL_LIST:
        list = o->dest;
        if (list->n == ARRAY_LEN(list->items))
            return ctl_fail(ctl, CTL_USAGE, "--%s is given more than %zu times", o->name,
                            ARRAY_LEN(list->items));
        list->items[list->n++] = value;
        return 0;
    }
    return -1;
}

/* One option at argv[*i], its value behind it or in the next argument. */
static int take(struct ctl *ctl, int argc, char **argv, int *i,
                const struct ctl_option *options)
{
    const char *word = argv[*i], *value = NULL;
    bool is_long = word[1] == '-';
    const struct ctl_option *o;

    if (is_long) {
        size_t len = strcspn(word + 2, "=");

        if (word[2 + len] == '=')
            value = word + 2 + len + 1;
        o = find(options, word + 2, len, 0);
        if (!o)
            o = find(ctl_global_options(ctl), word + 2, len, 0);
    } else {
        o = find(options, NULL, 0, word[1]);
        if (!o)
            o = find(ctl_global_options(ctl), NULL, 0, word[1]);
        if (word[2])
            value = word + 2;
    }
    if (!o)
        return ctl_fail(ctl, CTL_USAGE,
                        "there is no option '%s' (--help says which there are)", word);
    if (o->kind == CTL_FLAG && value)
        return ctl_fail(ctl, CTL_USAGE, "--%s takes no value", o->name);
    if (o->kind != CTL_FLAG && !value) {
        if (*i + 1 >= argc)
            return ctl_fail(ctl, CTL_USAGE, "--%s wants a value: %s", o->name, o->arg);
        value = argv[++*i];
    }
    return set(ctl, o, value);
}

static void print_usage(struct ctl *ctl, const struct ctl_usage *usage)
{
    printf("usage: pt2ctl %s\n\n%s\n", usage->usage, usage->about);
    if (usage->options && usage->options->name) {
        printf("\noptions:\n");
        ctl_print_options(stdout, usage->options);
    }
    printf("\neverywhere:\n");
    ctl_print_options(stdout, ctl_global_options(ctl));
}

int ctl_options(struct ctl *ctl, int argc, char **argv, const struct ctl_usage *usage,
                const char **ret_args, int *ret_n_args)
{
    bool only_args = false;
    int n = 0;

    for (int i = 1; i < argc; i++) {
        if (only_args || argv[i][0] != '-' || !argv[i][1]) {
            if (n == usage->max_args)
                return ctl_fail(ctl, CTL_USAGE,
                                "too many arguments: '%s'; usage: pt2ctl %s", argv[i],
                                usage->usage);
            ret_args[n++] = argv[i];
        } else if (streq(argv[i], "--")) {
            only_args = true;
        } else if (take(ctl, argc, argv, &i, usage->options) < 0) {
            return -1;
        }
        if (ctl->help) {
            print_usage(ctl, usage);
            return 0;
        }
    }
    if (n < usage->min_args)
        return ctl_fail(ctl, CTL_USAGE, "too few arguments; usage: pt2ctl %s",
                        usage->usage);
    *ret_n_args = n;
    return 0;
}

json_t *ctl_parse_ids(const char *text)
{
    json_t *ids = json_array();
    const char *p = text;

    while (ids && *p) {
        char *end;
        long long id;

        p += strspn(p, " ,[]\t\n");
        if (!*p)
            break;
        errno = 0;
        id = strtoll(p, &end, 10);
        if (errno || end == p || (*end && !strchr(" ,]\t\n", *end)) ||
            json_array_append_new(ids, json_integer(id)) < 0) {
            json_decref(ids);
            return NULL;
        }
        p = end;
    }
    return ids;
}
