#include "cmd/export_file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <sys/stat.h>

static struct {
    char *path, *temporary; /* temporary is NULL in place */
    int fd;
} file = {.fd = -1};

static const int signals[] = {SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGTERM, SIGXCPU};

/* Async-signal-safe: unlink and raise are. */
static void on_signal(int number)
{
    if (file.temporary)
        unlink(file.temporary);
    signal(number, SIG_DFL);
    raise(number);
}

static void handle_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal}, old;

    signal(SIGXFSZ, SIG_IGN); /* write() then fails, and the error says so */
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
        /* nohup: what is ignored stays so */
        if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaction(signals[i], &action, NULL);
    }
}

/* A device, a pipe, a link (/dev/stdout) would be replaced by the rename, not written to. */
static int check_replaceable(const char *path, struct pt2_err *err)
{
    struct stat st;

    if (lstat(path, &st) < 0 || S_ISREG(st.st_mode))
        return 0;
    return pt2_err_set(err, PT2_ERR_INVALID, "'%s' is there, and is no regular file", path);
}

int export_file_begin(const char *path, int *ret_fd, struct pt2_err *err)
{
    if (check_replaceable(path, err) < 0)
        return -1;
    file.path = strdup(path);
    if (!file.path || asprintf(&file.temporary, "%s.tmp-%ld", path, (long)getpid()) < 0) {
        file.temporary = NULL;
        return pt2_err_set(err, PT2_ERR_NOMEM, "a file's name");
    }
    handle_signals();
    file.fd =
        open(file.temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (file.fd < 0) {
        pt2_err_errno(err, PT2_ERR_IO, "'%s'", file.temporary);
        free(file.temporary);
        file.temporary = NULL;
        return -1;
    }
    *ret_fd = file.fd;
    return 0;
}

int export_file_begin_in_place(const char *path, int *ret_fd, struct pt2_err *err)
{
    if (check_replaceable(path, err) < 0)
        return -1;
    if (!(file.path = strdup(path)))
        return pt2_err_set(err, PT2_ERR_NOMEM, "a file's name");
    signal(SIGXFSZ, SIG_IGN);
    unlink(path);
    file.fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (file.fd < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "'%s'", path);
    *ret_fd = file.fd;
    return 0;
}

/* Where the file system has no O_TMPFILE: a name for a moment. */
static int open_and_unlink(const char *path, int *ret_fd, struct pt2_err *err)
{
    AUTO_PTR char *name = NULL;

    if (asprintf(&name, "%s.pt2-tmp-%ld", path, (long)getpid()) < 0) {
        name = NULL;
        return pt2_err_set(err, PT2_ERR_NOMEM, "a file's name");
    }
    *ret_fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (*ret_fd < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "'%s'", name);
    if (unlink(name) < 0) {
        close(*ret_fd);
        return pt2_err_errno(err, PT2_ERR_IO, "'%s'", name);
    }
    return 0;
}

int export_file_unnamed(const char *path, int *ret_fd, struct pt2_err *err)
{
    AUTO_PTR char *copy = strdup(path);

    if (!copy)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a file's name");
    *ret_fd = open(dirname(copy), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    return *ret_fd >= 0 ? 0 : open_and_unlink(path, ret_fd, err);
}

const char *export_file_path(void)
{
    return file.temporary;
}

static int sync_folder(struct pt2_err *err)
{
    AUTO_PTR char *copy = strdup(file.path);
    AUTO_FD int fd = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

    if (fd < 0 || fsync(fd) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "sync the folder of '%s'", file.path);
    return 0;
}

int export_file_finish(bool sync, struct pt2_err *err)
{
    int fd = TAKE_FD(file.fd);
    char *temporary;

    if (sync && fsync(fd) < 0) {
        pt2_err_errno(err, PT2_ERR_IO, "sync '%s'", file.path);
        close(fd);
        return -1;
    }
    if (close(fd) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "close '%s'", file.path);
    if (!file.temporary)
        return 0;
    if (rename(file.temporary, file.path) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "rename to '%s'", file.path);
    temporary = TAKE(file.temporary);
    free(temporary);
    return sync ? sync_folder(err) : 0;
}

void export_file_drop(void)
{
    char *temporary = TAKE(file.temporary);

    if (file.fd >= 0 && !temporary && ftruncate(file.fd, 0) < 0)
        pt2_err_errno(NULL, PT2_ERR_IO, "'%s'", file.path);
    if (file.fd >= 0)
        close(TAKE_FD(file.fd));
    if (temporary)
        unlink(temporary);
    free(temporary);
    free(TAKE(file.path));
}
