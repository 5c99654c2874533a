#include "cmd/pt2d_options.h"

#include "base/folder.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <sys/stat.h>

#define INSTALLED_CONFIG PT2_SYSCONFDIR "/pt2d.conf"

static const char usage[] =
    "Usage: pt2d [OPTION]...\n"
    "Make torch.export programs from language-model checkpoints, and step such "
    "programs,\n"
    "over HTTP.  Without options it serves on 127.0.0.1:8250.\n"
    "\n"
    "  -c, --config FILE      configuration; default " INSTALLED_CONFIG "\n"
    "                         where it is there\n"
    "  -l, --listen ADDRESS   HOST:PORT, [IPV6]:PORT, https: before either for TLS,\n"
    "                         or unix:PATH; port 0: a free one;\n"
    "                         may be given several times\n"
    "  -s, --state-dir DIR    database, programs, temporary files\n"
    "  -m, --models-dir DIR   checkpoints\n"
    "  -p, --port-file FILE   write the addresses in use to FILE once they are served\n"
    "      --fsck[=repair|check]\n"
    "                         check all that is kept in the state directory, repair what can\n"
    "                         be repaired (check: only say it), and exit\n"
    "      --set KEY=VALUE    any parameter, as --set http.threads=4\n"
    "      --dump-config[=conf|values|man]\n"
    "                         print pt2d.conf with every default (conf), the values in\n"
    "                         force (values) or the manual page (man)\n"
    "  -V, --version          print the version\n"
    "  -h, --help             print this\n"
    "\n"
    "Options override the file.  See pt2d(8) and pt2d.conf(5).\n";

enum { FLAG_SET = 256, FLAG_DUMP, FLAG_FSCK };

static const struct option flags[] = {{"config", required_argument, NULL, 'c'},
                                      {"listen", required_argument, NULL, 'l'},
                                      {"state-dir", required_argument, NULL, 's'},
                                      {"models-dir", required_argument, NULL, 'm'},
                                      {"port-file", required_argument, NULL, 'p'},
                                      {"fsck", optional_argument, NULL, FLAG_FSCK},
                                      {"set", required_argument, NULL, FLAG_SET},
                                      {"dump-config", optional_argument, NULL, FLAG_DUMP},
                                      {"version", no_argument, NULL, 'V'},
                                      {"help", no_argument, NULL, 'h'},
                                      {NULL, 0, NULL, 0}};

static int wrong_usage(const char *text)
{
    fprintf(stderr, "pt2d: %s\nTry: pt2d --help\n", text);
    return 2;
}

static int set(struct pt2d_options *o, const char *name, const char *value)
{
    if (o->n_settings + 2 > ARRAY_LEN(o->settings))
        return wrong_usage("too many options");
    o->settings[o->n_settings++] = name;
    o->settings[o->n_settings++] = value;
    return -1;
}

/* Several --listen are one value with spaces between. */
static int add_listen(struct pt2d_options *o, const char *address)
{
    static char all[1024];
    size_t n = strlen(all);

    if (n + strlen(address) + 2 > sizeof(all))
        return wrong_usage("too many addresses");
    if (n)
        strcat(all, " ");
    strcat(all, address);
    return n ? -1 : set(o, "http.listen", all);
}

static int dump(const struct pt2d_options *o, const char *what)
{
    static const char *const names[] = {"conf", "values", "man"};
    AUTO(config) config = NULL;
    AUTO_BUF text = BUF_INIT(1 << 20);
    struct pt2_err err = {0};
    size_t how = 0;

    while (what && how < ARRAY_LEN(names) && !streq(what, names[how]))
        how++;
    if (how == ARRAY_LEN(names))
        return wrong_usage("--dump-config takes conf, values or man");
    if (pt2d_options_config(o, &config, &err) < 0) {
        fprintf(stderr, "pt2d: %s\n", err.text);
        return 1;
    }
    config_print(config, (enum config_print)how, &text);
    if (buf_failed(&text) || fwrite(text.data, 1, text.len, stdout) != text.len ||
        fflush(stdout) != 0) {
        fprintf(stderr, "pt2d: cannot print: %s\n", strerror(errno));
        return 1;
    }
    return 0;
}

/* "http.threads=4" */
static int set_any(struct pt2d_options *o, char *text)
{
    char *equals = strchr(text, '=');

    if (!equals)
        return wrong_usage("--set takes SECTION.KEY=VALUE");
    *equals = '\0';
    return set(o, text, equals + 1);
}

static int set_fsck(struct pt2d_options *o, const char *how)
{
    if (how && !streq(how, "repair") && !streq(how, "check"))
        return wrong_usage("--fsck takes repair or check");
    o->fsck = how && streq(how, "check") ? PT2D_FSCK_CHECK : PT2D_FSCK_REPAIR;
    return -1;
}

int pt2d_options_parse(int argc, char **argv, struct pt2d_options *ret)
{
    const char *dump_what = NULL;
    bool has_dump = false;
    int flag, status = -1;

    *ret = (struct pt2d_options){0};
    while (status < 0 &&
           (flag = getopt_long(argc, argv, "c:l:s:m:p:Vh", flags, NULL)) != -1) {
        switch (flag) {
        case 'c':
            ret->config_path = optarg;
            break;
        case 'l':
            status = add_listen(ret, optarg);
            break;
        case 's':
            status = set(ret, "daemon.state_dir", optarg);
            break;
        case 'm':
            status = set(ret, "daemon.models_dir", optarg);
            break;
        case 'p':
            ret->port_file = optarg;
            break;
        case FLAG_SET:
            status = set_any(ret, optarg);
            break;
        case FLAG_FSCK:
            status = set_fsck(ret, optarg);
            break;
        case FLAG_DUMP:
            has_dump = true;
            dump_what = optarg;
            break;
        case 'V':
            printf("pt2d %s\n", PACKAGE_VERSION);
            return 0;
        case 'h':
            fputs(usage, stdout);
            return 0;
        default:
            return 2; /* getopt has said why */
        }
    }
    if (status < 0 && optind < argc)
        status = wrong_usage("there are no arguments but options");
    return status < 0 && has_dump ? dump(ret, dump_what) : status;
}

/* ---- directories ---- */

static int find_state_dir(struct config *config, struct pt2_err *err)
{
    const char *service = getenv("STATE_DIRECTORY"), *xdg = getenv("XDG_STATE_HOME");
    const char *home = getenv("HOME");
    char path[PATH_MAX], base[PATH_MAX] = "";

    if (*config_get_text(config, "daemon.state_dir"))
        return 0;
    if (service && *service == '/') /* may be several, with ':' between */
        snprintf(path, sizeof(path), "%.*s", (int)strcspn(service, ":"), service);
    else if (geteuid() == 0)
        snprintf(path, sizeof(path), "/var/lib/pt2d");
    else if (xdg && *xdg == '/')
        snprintf(base, sizeof(base), "%s", xdg);
    else if (home && *home == '/')
        snprintf(base, sizeof(base), "%.*s/.local/state", PATH_MAX - 20, home);
    else
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "no place for the state: give --state-dir, or set HOME");
    if (*base) {
        /* A new user has none yet.  Where it can't be made, the store says so. */
        (void)!folder_make(base, 0700, NULL);
        snprintf(path, sizeof(path), "%.*s/pt2d", PATH_MAX - 10, base);
    }
    return config_set(config, "daemon.state_dir", path, err);
}

int pt2d_options_config(const struct pt2d_options *options, struct config **ret_config,
                        struct pt2_err *err)
{
    AUTO(config) config = NULL;
    const char *path = options->config_path;

    if (config_new(&config, err) < 0)
        return -1;
    if (!path && access(INSTALLED_CONFIG, F_OK) == 0)
        path = INSTALLED_CONFIG;
    if (path && config_load(config, path, err) < 0)
        return -1;
    for (size_t i = 0; i + 1 < options->n_settings; i += 2)
        if (config_set(config, options->settings[i], options->settings[i + 1], err) < 0)
            return -1;
    if (find_state_dir(config, err) < 0)
        return -1;
    *ret_config = TAKE(config);
    return 0;
}
