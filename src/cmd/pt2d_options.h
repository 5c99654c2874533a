/* pt2d_options.h - the daemon's command line and what it comes to: a configuration.
 *
 * The main thread alone. */
#ifndef CMD_PT2D_OPTIONS_H
#define CMD_PT2D_OPTIONS_H

#include "http/config.h"

enum pt2d_fsck { PT2D_FSCK_NONE, PT2D_FSCK_REPAIR, PT2D_FSCK_CHECK };

struct pt2d_options {
    const char *config_path; /* NULL: the installed one, where there is one */
    const char *port_file;   /* NULL: none */
    enum pt2d_fsck fsck;     /* instead of serving */
    /* "section.key" and value by turns, from flags: they override the file. */
    const char *settings[64];
    size_t n_settings;
};

/* Read the flags.  Answers -1 to go on, otherwise the exit status: after --help,
 * --version or --dump-config, or a flag that is wrong (said on standard error). */
MUST_USE int pt2d_options_parse(int argc, char **argv, struct pt2d_options *ret);

/* The configuration that file and flags give, with daemon.state_dir and daemon.models_dir
 * filled in.  new: config_free.  Errors: as config_load; INVALID. */
MUST_USE int pt2d_options_config(const struct pt2d_options *options,
                                 struct config **ret_config, struct pt2_err *err);

#endif
