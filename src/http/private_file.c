#include "http/private_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

int private_file_open(const char *path, int *ret_fd, struct pt2_err *err)
{
    /* O_NONBLOCK: a pipe must not hold the daemon up. */
    AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return pt2_err_errno(err, errno == ENOENT ? PT2_ERR_NOT_FOUND : PT2_ERR_IO, "%s",
                             path);
    if (!S_ISREG(st.st_mode))
        return pt2_err_set(err, PT2_ERR_INVALID, "%s is not a regular file", path);
    if (st.st_mode & (S_IWGRP | S_IRWXO))
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "%s has mode %04o: others may not get at it; chmod 640 (or 600)",
                           path, (unsigned)st.st_mode & 07777);
    *ret_fd = TAKE_FD(fd);
    return 0;
}
