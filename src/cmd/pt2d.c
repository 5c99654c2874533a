/* pt2d.c - the daemon: starts the parts, waits for signals, stops the parts.
 *
 * Order of the start: configuration, HTTP server (listens, answers 503), parts, ready.
 * Order of a stop: no more connections and no more work taken up; wait for what runs, at
 * most the grace time; end the parts' work; stop the server; release the parts. */
#include "base/landlock.h"
#include "base/log.h"
#include "base/mapping.h"
#include "base/output.h"
#include "cmd/pt2d_fsck.h"
#include "cmd/pt2d_options.h"
#include "cmd/pt2d_parts.h"
#include "http/config.h"
#include "http/server.h"
#include "store/models.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>
#ifdef HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

#define REPLY_MS 2000 /* what requests get that are cancelled at the end */

/* ---- the service manager ---- */

#ifdef HAVE_SYSTEMD
static void notify(const char *state)
{
    (void)sd_notify(0, state);
}

/* With the time, which Type=notify-reload wants. */
static void notify_reloading(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    (void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%lld",
                     (long long)ts.tv_sec * 1000000 + ts.tv_nsec / 1000);
}

/* The grace time may be longer than the unit's TimeoutStopSec. */
static void notify_stopping(int64_t grace_ms)
{
    (void)sd_notifyf(0, "STOPPING=1\nSTATUS=finishing what runs\nEXTEND_TIMEOUT_USEC=%lld",
                     (long long)(grace_ms + 10000) * 1000);
}

/* How often to say that all is well; 0: never. */
static int64_t watchdog_ms(void)
{
    uint64_t usec = 0;

    return sd_watchdog_enabled(0, &usec) > 0 ? (int64_t)(usec / 2000) : 0;
}
#else
static void notify(const char *state)
{
    (void)state;
}

static void notify_reloading(void)
{
}

static void notify_stopping(int64_t grace_ms)
{
    (void)grace_ms;
}

static int64_t watchdog_ms(void)
{
    return 0;
}
#endif

/* ---- the port file ---- */

static int write_addresses(int fd, const struct http_server *server)
{
    FILE *file = fdopen(fd, "w");
    bool ok;

    if (!file) {
        close(fd);
        return -1;
    }
    for (size_t i = 0; http_server_address(server, i); i++)
        fprintf(file, "%s\n", http_server_address(server, i));
    ok = !ferror(file);
    ok &= fclose(file) == 0;
    return ok ? 0 : -1;
}

static int write_regular(const struct output *output, const struct http_server *server,
                         struct pt2_err *err)
{
    AUTO_PTR char *temp = NULL;
    int fd;

    if (asprintf(&temp, "%s.%ld", output->path, (long)getpid()) < 0) {
        temp = NULL;
        return pt2_err_set(err, PT2_ERR_NOMEM, "a file's name");
    }
    fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "'%s'", temp);
    if (write_addresses(fd, server) < 0)
        pt2_err_errno(err, PT2_ERR_IO, "'%s'", temp);
    else if (output_rename(output, temp, err) == 0)
        return 0;
    unlink(temp);
    return -1;
}

/* All addresses, a line each; a file is there at once or not at all. */
static int write_port_file(const char *path, const struct http_server *server,
                           struct pt2_err *err)
{
    struct output output = {0};
    int fd, r = output_find(path, &output, err);

    if (r == 0 && !output.is_stream) {
        r = write_regular(&output, server, err);
    } else if (r == 0) {
        r = output_open_stream(&output, /* wait= */ false, &fd, err);
        if (r == 0 && write_addresses(fd, server) < 0)
            r = pt2_err_errno(err, PT2_ERR_IO, "'%s'", path);
    }
    output_done(&output);
    return r < 0 ? pt2_err_prefix(err, "port file") : 0;
}

/* At the end; a device or a pipe stays. */
static void remove_port_file(const char *path)
{
    struct stat st;

    if (lstat(path, &st) == 0 && S_ISREG(st.st_mode))
        unlink(path);
}

/* ---- signals ---- */

static void block_signals(sigset_t *ret_signals)
{
    sigemptyset(ret_signals);
    sigaddset(ret_signals, SIGTERM);
    sigaddset(ret_signals, SIGINT);
    sigaddset(ret_signals, SIGHUP);
    /* Before any thread is made: all of them inherit it. */
    pthread_sigmask(SIG_BLOCK, ret_signals, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* The next signal; 0 where none came in time. */
static int wait_signal(const sigset_t *signals, int64_t ms)
{
    struct timespec timeout = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    int number = sigtimedwait(signals, NULL, &timeout);

    return number < 0 ? 0 : number;
}

static int64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void set_log(const struct config *config)
{
    int level = log_level_from_name(config_get_text(config, "daemon.log_level"));
    const char *format = config_get_text(config, "daemon.log_format");

    log_set_level((enum log_level)level);
    log_set_format(streq(format, "json") ? LOG_JSON : LOG_PLAIN);
}

/* SIGHUP: the log, the tokens and the certificates.  Anything else needs a restart. */
static void reload(struct app *app, const struct pt2d_options *options)
{
    AUTO(config) config = NULL;
    struct pt2_err err = {0};
    const char *name;
    size_t i = 0;

    notify_reloading();
    if (pt2d_options_config(options, &config, &err) < 0) {
        log_warning("reload: %s, the old configuration stays", err.text);
    } else {
        while ((name = config_next_difference(app->config, config, &i)))
            if (strncmp(name, "daemon.log_", 11) != 0)
                log_warning("reload: %s changed, which needs a restart, ignoring", name);
        set_log(config);
        if (http_server_reload(app->server))
            log_info("reloaded");
    }
    notify("READY=1");
}

/* ---- running ---- */

/* All is well where the watcher comes round and no part's lock is stuck. */
static void feed_watchdog(const struct app *app)
{
    parts_touch(app);
    if (http_server_is_alive(app->server))
        notify("WATCHDOG=1");
}

/* Until SIGTERM or SIGINT. */
static void serve(struct app *app, const struct pt2d_options *options,
                  const sigset_t *signals)
{
    int64_t watchdog = watchdog_ms();

    for (;;) {
        int number = wait_signal(signals, watchdog ? watchdog : 60000);

        if (watchdog)
            feed_watchdog(app);
        if (number == SIGHUP)
            reload(app, options);
        else if (number)
            return;
    }
}

/* Finish what runs within the grace time; another signal ends the wait. */
static void drain(struct app *app, const sigset_t *signals)
{
    int64_t grace = config_get_ms(app->config, "daemon.grace");
    int64_t end = now_ms() + grace;

    notify_stopping(grace);
    log_info("stopping: finishing what runs");
    http_server_drain(app->server);
    parts_drain(app);
    while (now_ms() < end) {
        int number;

        if (http_server_is_idle(app->server) && parts_are_idle(app))
            return;
        notify("WATCHDOG=1");
        number = wait_signal(signals, 20);
        if (number == SIGTERM || number == SIGINT) {
            log_warning("stopping at once, ending what still runs");
            return;
        }
    }
    if (!http_server_is_idle(app->server) || !parts_are_idle(app))
        log_warning("the grace time is over, ending what still runs");
}

static void stop(struct app *app)
{
    parts_stop(app);
    http_server_stop(app->server, REPLY_MS);
    parts_done(app);
}

/* What workers are confined by, and what this kernel lacks for it.  A filter is not among
 * what may be missing: without one no worker starts. */
static void log_protections(void)
{
    int abi = landlock_abi();

    if (abi == 0)
        log_warning("workers are confined by seccomp alone: this kernel has no Landlock, "
                    "so that one which a file takes over reads what this user may");
    else
        log_info("workers are confined by seccomp and Landlock (ABI %d)%s%s", abi,
                 landlock_network_of(abi) ? "" : ", without its network rules",
                 landlock_scopes_of(abi) ? "" : ", without its scopes of signals");
}

static int start(struct app *app, const struct pt2d_options *options, struct pt2_err *err)
{
    if (http_server_new(app, NULL, &app->server, err) < 0)
        return -1;
    if (parts_start(app, err) < 0)
        return -1;
    http_server_ready(app->server);
    /* Whoever waits for that file is not told that the daemon is starting. */
    if (options->port_file && write_port_file(options->port_file, app->server, err) < 0) {
        stop(app);
        return -1;
    }
    log_protections();
    for (size_t i = 0; http_server_address(app->server, i); i++)
        log_info("pt2d %s serves on %s, models '%s', state '%s'", PACKAGE_VERSION,
                 http_server_address(app->server, i),
                 models_dir(app->models),
                 config_get_text(app->config, "daemon.state_dir"));
    notify("READY=1\nSTATUS=serving");
    return 0;
}

int main(int argc, char **argv)
{
    struct pt2d_options options;
    struct app app = {0};
    struct pt2_err err = {0};
    sigset_t signals;
    int status = pt2d_options_parse(argc, argv, &options);

    if (status >= 0)
        return status;
    block_signals(&signals);
    mapping_catch_cuts();
    if (pt2d_options_config(&options, &app.config, &err) < 0) {
        log_error("%s", err.text);
        return 1;
    }
    set_log(app.config);
    if (options.fsck) {
        status = pt2d_fsck(app.config, options.fsck);
        config_free(app.config);
        return status;
    }
    if (start(&app, &options, &err) < 0) {
        log_error("cannot start: %s", err.text);
        status = 1;
    } else {
        serve(&app, &options, &signals);
        drain(&app, &signals);
        stop(&app);
        if (options.port_file)
            remove_port_file(options.port_file);
        log_info("stopped");
        status = 0;
    }
    http_server_free(app.server);
    config_free(app.config);
    return status;
}
