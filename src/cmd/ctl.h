/* ctl.h - what the commands of pt2ctl share: the call's settings, how it fails, its
 * options.
 *
 * One thread.  A command is a function of struct ctl and its arguments that returns 0 or
 * -1; a failure is recorded by ctl_fail (the first one wins) and printed once, by main.
 */
#ifndef CMD_CTL_H
#define CMD_CTL_H

#include "base/util.h"

#include <jansson.h>
#include <pt2/err.h>
#include <signal.h>

/* What pt2ctl exits with; pt2ctl(1) says the same. */
enum ctl_exit {
    CTL_OK = 0,
    CTL_REFUSED = 1,     /* the daemon refused the request (4xx), or the export failed */
    CTL_USAGE = 2,       /* the command line is wrong */
    CTL_UNREACHABLE = 3, /* no daemon (or hub) answered */
    CTL_BROKEN = 4,      /* the daemon failed (5xx), or its answer makes no sense */
    CTL_FILE = 5, /* a local file could not be read or written, or has another digest */
    CTL_MISSING = 6, /* no such model, export, program or session (404) */
    CTL_INTERRUPTED = 130,
};

struct ctl {
    const char *server; /* borrowed: "http://host:port" or "unix:PATH" */
    const char *token;  /* borrowed; NULL: none */
    /* PEM files, of https: the CAs to believe (NULL: the system's), one's own certificate
     * and its key (NULL: none; no key: it is in the certificate's file); borrowed */
    const char *cacert, *cert, *key;
    bool json;          /* answers as JSON on standard output */
    bool quiet;         /* no progress */
    bool help;          /* the command's usage was asked for and printed */
    void *curl;         /* CURL *, made at the first request */
    enum ctl_exit exit; /* CTL_OK until something failed */
    char text[1024];
    json_t *problem; /* the daemon's problem object, where that is what failed; owned */
};

/* Record a failure.  Returns -1. */
int ctl_fail(struct ctl *ctl, enum ctl_exit code, const char *fmt, ...) PT2_PRINTF(3, 4);
/* The same with what libpt2 said. */
int ctl_fail_err(struct ctl *ctl, enum ctl_exit code, const struct pt2_err *err);
int ctl_fail_nomem(struct ctl *ctl);
/* Forget a failure, before another try. */
void ctl_forgive(struct ctl *ctl);

/* Set by SIGINT and SIGTERM; waiting calls look at it. */
extern volatile sig_atomic_t ctl_interrupted;

/* ---- options ---- */

enum ctl_opt_kind {
    CTL_FLAG,   /* bool */
    CTL_STRING, /* const char *, borrowed from argv */
    CTL_INT,    /* int64_t, within min and max */
    CTL_DOUBLE, /* double, >= 0 */
    CTL_LIST,   /* struct ctl_list: may be given many times */
};

struct ctl_list {
    const char *items[32];
    size_t n;
};

struct ctl_option {
    char letter; /* '\0': none */
    const char *name;
    enum ctl_opt_kind kind;
    void *dest;
    const char *arg; /* what help calls the value; NULL for a flag */
    const char *help;
    int64_t min, max; /* of CTL_INT; both 0: any */
};

/* A command line: the usage, the options (ended by an empty one), how many arguments. */
struct ctl_usage {
    const char *usage; /* "export MODEL [-o FILE] [options]" */
    const char *about; /* a sentence or some */
    const struct ctl_option *options;
    int min_args, max_args;
};

/* Sort argv into options and arguments; ctl_global_options are known everywhere.
 * ret_args has room for usage->max_args pointers.
 * After --help the usage is printed and ctl->help is set; the command then returns 0. */
MUST_USE int ctl_options(struct ctl *ctl, int argc, char **argv,
                         const struct ctl_usage *usage, const char **ret_args,
                         int *ret_n_args);
void ctl_print_options(FILE *to, const struct ctl_option *options);
extern const struct ctl_option *ctl_global_options(struct ctl *ctl);

/* "1,2,3" or "1 2 3" or "[1, 2]" as an array of integers, new; NULL where it is none. */
json_t *ctl_parse_ids(const char *text);

/* ---- commands: argv[0] is the command's name ---- */

struct ctl_command {
    const char *name;
    int (*run)(struct ctl *ctl, int argc, char **argv);
    const char *about;
};

int ctl_cmd_aliases(struct ctl *ctl, int argc, char **argv);
int ctl_cmd_export(struct ctl *ctl, int argc, char **argv);
int ctl_cmd_exports(struct ctl *ctl, int argc, char **argv);
int ctl_cmd_generate(struct ctl *ctl, int argc, char **argv);
int ctl_cmd_inspect(struct ctl *ctl, int argc, char **argv);
int ctl_cmd_models(struct ctl *ctl, int argc, char **argv);
int ctl_cmd_programs(struct ctl *ctl, int argc, char **argv);
int ctl_cmd_pull(struct ctl *ctl, int argc, char **argv);
int ctl_cmd_push(struct ctl *ctl, int argc, char **argv);
int ctl_cmd_sessions(struct ctl *ctl, int argc, char **argv);
int ctl_cmd_status(struct ctl *ctl, int argc, char **argv);
int ctl_cmd_step(struct ctl *ctl, int argc, char **argv);
int ctl_cmd_token(struct ctl *ctl, int argc, char **argv);

#endif
