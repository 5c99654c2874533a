#include "base/output.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

static int stdout_fd = -1; /* once claimed */

static const char *kind_of(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFDIR:
        return "a folder";
    case S_IFSOCK:
        return "a socket";
    case S_IFBLK:
        return "a block device";
    case S_IFLNK:
        return "a link";
    case S_IFIFO:
        return "a pipe";
    case S_IFCHR:
        return "a device";
    default:
        return "a regular file";
    }
}

static bool is_open_as(const struct stat *st, int fd)
{
    struct stat other;

    return fstat(fd, &other) == 0 && other.st_dev == st->st_dev &&
           other.st_ino == st->st_ino;
}

/* path in full, where the last component is a link. */
static int follow(const char *path, struct output *output, struct pt2_err *err)
{
    output->path = realpath(path, NULL);
    return output->path ? 0 : pt2_err_errno(err, PT2_ERR_IO, "'%s'", path);
}

int output_find(const char *path, struct output *ret_output, struct pt2_err *err)
{
    struct output output = {0};
    struct stat own, st;
    bool is_there = lstat(path, &own) == 0, is_link = is_there && S_ISLNK(own.st_mode);

    if (!is_there && errno != ENOENT)
        return pt2_err_errno(err, PT2_ERR_IO, "'%s'", path);
    if (is_there && stat(path, &st) < 0)
        return errno == ENOENT
                   ? pt2_err_set(err, PT2_ERR_IO, "'%s' is a link to nothing", path)
                   : pt2_err_errno(err, PT2_ERR_IO, "'%s'", path);
    if (is_there) {
        output.is_stdout = is_open_as(&st, STDOUT_FILENO);
        output.is_stream =
            output.is_stdout || S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode);
        if (!output.is_stream && !S_ISREG(st.st_mode))
            return pt2_err_set(err, PT2_ERR_IO, "'%s' is %s, and can not be written",
                               path, kind_of(st.st_mode));
    }
    if (is_link && !output.is_stream) {
        if (follow(path, &output, err) < 0)
            return -1;
    } else if (!(output.path = strdup(path))) {
        return pt2_err_set(err, PT2_ERR_NOMEM, "a file's name");
    }
    *ret_output = output;
    return 0;
}

void output_done(struct output *output)
{
    free(TAKE(output->path));
}

int output_open_stream(const struct output *output, bool wait, int *ret_fd,
                       struct pt2_err *err)
{
    int fd;

    if (output->is_stdout)
        fd = fcntl(stdout_fd >= 0 ? stdout_fd : STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    else
        fd = open(output->path, O_WRONLY | O_CLOEXEC | O_NOCTTY | (wait ? 0 : O_NONBLOCK));
    if (fd < 0 && errno == ENXIO)
        return pt2_err_set(err, PT2_ERR_IO, "'%s': nobody reads this pipe", output->path);
    if (fd < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "'%s'", output->path);
    *ret_fd = fd;
    return 0;
}

int output_rename(const struct output *output, const char *temporary,
                  struct pt2_err *err)
{
    struct stat st;

    if (lstat(output->path, &st) == 0 && !S_ISREG(st.st_mode))
        return pt2_err_set(err, PT2_ERR_IO, "'%s' is %s by now, and is not replaced",
                           output->path, kind_of(st.st_mode));
    if (rename(temporary, output->path) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "rename to '%s'", output->path);
    return 0;
}

int output_claim_stdout(const struct output *output, struct pt2_err *err)
{
    if (!output->is_stdout || stdout_fd >= 0)
        return 0;
    stdout_fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    if (stdout_fd < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "standard output");
    return 0;
}
