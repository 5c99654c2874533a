/* file_faults.h - let one call on files after the other fail.
 *
 * For tests linked with $(WITH_FILE_FAULTS), which send our own calls through here; any
 * thread. */
#ifndef TESTS_FILE_FAULTS_H
#define TESTS_FILE_FAULTS_H

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <unistd.h>

static atomic_long file_fault_at; /* the call that fails, from now on; 0: none */
static atomic_long file_fault_more; /* so many after it fail, too */
static atomic_int file_fault_code = ENOSPC;
static atomic_long file_fault_hits;

/* Must this call fail? */
static inline int file_fails(void)
{
    long at = atomic_load(&file_fault_at);

    while (at > 0 && !atomic_compare_exchange_weak(&file_fault_at, &at, at - 1))
        ;
    if (at != 1)
        return 0;
    if (atomic_load(&file_fault_more) > 0) {
        atomic_fetch_sub(&file_fault_more, 1);
        atomic_store(&file_fault_at, 1);
    }
    atomic_fetch_add(&file_fault_hits, 1);
    errno = file_fault_code;
    return 1;
}

#define FILE_FAULT(type, name, parameters, arguments)                                    \
    type __real_##name parameters;                                                       \
    type __wrap_##name parameters;                                                       \
    type __wrap_##name parameters                                                        \
    {                                                                                    \
        return file_fails() ? -1 : __real_##name arguments;                              \
    }
FILE_FAULT(ssize_t, read, (int fd, void *data, size_t n), (fd, data, n))
FILE_FAULT(ssize_t, write, (int fd, const void *data, size_t n), (fd, data, n))
FILE_FAULT(ssize_t, pwrite, (int fd, const void *data, size_t n, off_t at),
           (fd, data, n, at))
FILE_FAULT(int, ftruncate, (int fd, off_t n), (fd, n))
FILE_FAULT(int, fsync, (int fd), (fd))
FILE_FAULT(int, rename, (const char *from, const char *to), (from, to))
FILE_FAULT(int, unlink, (const char *path), (path))
#undef FILE_FAULT

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
    va_list ap;
    int mode = 0;

    va_start(ap, flags);
    if (flags & O_CREAT)
        mode = va_arg(ap, int);
    va_end(ap);
    return file_fails() ? -1 : __real_open(path, flags, mode);
}

#endif
