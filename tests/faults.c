/* faults.c - libfaults.so, for LD_PRELOAD: lets one call after the other fail that writes to a
 * file, or kills the process at it, in a daemon and its workers (tests/http/faults.py).
 *
 * PT2_FAULTS names a file that holds a struct control, shared by all of these processes and by the
 * test, which arms it.  Counted are calls that change what lies beneath control.under: open with
 * O_CREAT or for writing, mkdir, write, pwrite, ftruncate, fsync, fdatasync, rename, renameat2, link,
 * linkat.  Where the file can't be opened nothing is counted and nothing fails.
 *
 * With ACTION_NO_MEMORY counted are instead all of one process's calls that take memory, also those
 * of the libraries and of libc itself: malloc and its kin, and mmap.  A build with a sanitizer,
 * whose malloc can't be stood before, has none of that (control.has_memory). */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

enum action { ACTION_NONE, ACTION_FAIL, ACTION_KILL, ACTION_NO_MEMORY };

struct control {
    _Atomic uint32_t action;
    uint32_t error; /* errno of ACTION_FAIL */
    uint32_t at, n; /* the calls from this one on, from 1, so many of them */
    _Atomic uint32_t count, n_hit;
    uint32_t pid;        /* whose memory ACTION_NO_MEMORY takes */
    uint32_t has_memory; /* this build can */
    char under[2][512]; /* folders; "" none */
    char hit[512];      /* the last one: name of the call and path */
};

static struct control *control;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_MEMORY 0
#else
#define HAS_MEMORY 1
#endif

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("PT2_FAULTS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *at;

    if (fd < 0)
        return;
    at = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at == MAP_FAILED)
        return;
    control = at;
    control->has_memory = HAS_MEMORY;
}

static int is_under(const char *path)
{
    for (int i = 0; i < 2; i++) {
        size_t n = strlen(control->under[i]);

        if (n && strncmp(path, control->under[i], n) == 0)
            return 1;
    }
    return 0;
}

/* -1, errno set: the call fails. */
static int count(const char *call, const char *path)
{
    uint32_t number;

    if (!is_under(path))
        return 0;
    number = atomic_fetch_add(&control->count, 1) + 1;
    if (number < control->at || number - control->at >= control->n)
        return 0;
    if (atomic_fetch_add(&control->n_hit, 1) == 0) /* one writes: the first */
        snprintf(control->hit, sizeof(control->hit), "%s %s", call, path);
    if (control->action == ACTION_KILL) {
        kill(getpid(), SIGKILL);
        for (;;)
            pause();
    }
    errno = (int)control->error;
    return -1;
}

static int is_armed(void)
{
    return control && (control->action == ACTION_FAIL || control->action == ACTION_KILL);
}

static int fails(const char *call, const char *path)
{
    return is_armed() ? count(call, path) : 0;
}

static int fails_fd(const char *call, int fd)
{
    char link[40], path[PATH_MAX];
    int saved = errno;
    ssize_t n;

    if (!is_armed())
        return 0;
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    n = readlink(link, path, sizeof(path) - 1);
    errno = saved;
    if (n <= 0)
        return 0;
    path[n] = '\0';
    return count(call, path);
}

/* The next of that name, libc's; any thread. */
static void *next_of(_Atomic(void *) * known, const char *name)
{
    void *next = *known;

    if (!next)
        *known = next = dlsym(RTLD_NEXT, name);
    return next;
}

#define CALL(ret, name, params, args, test)                                              \
    EXPORT ret name params                                                               \
    {                                                                                    \
        static _Atomic(void *) known;                                                    \
        ret(*next) params = (ret(*) params)next_of(&known, #name);                       \
                                                                                         \
        return (test) ? (ret)-1 : next args;                                             \
    }

CALL(ssize_t, write, (int fd, const void *data, size_t n), (fd, data, n), fails_fd("write", fd))
CALL(ssize_t, pwrite, (int fd, const void *data, size_t n, off_t at), (fd, data, n, at),
     fails_fd("pwrite", fd))
CALL(ssize_t, pwrite64, (int fd, const void *data, size_t n, off64_t at), (fd, data, n, at),
     fails_fd("pwrite", fd))
CALL(ssize_t, writev, (int fd, const struct iovec *v, int n), (fd, v, n), fails_fd("write", fd))
CALL(int, fsync, (int fd), (fd), fails_fd("fsync", fd))
CALL(int, fdatasync, (int fd), (fd), fails_fd("fdatasync", fd))
CALL(int, ftruncate, (int fd, off_t n), (fd, n), fails_fd("ftruncate", fd))
CALL(int, ftruncate64, (int fd, off64_t n), (fd, n), fails_fd("ftruncate", fd))
CALL(int, mkdir, (const char *path, mode_t mode), (path, mode), fails("mkdir", path))
CALL(int, link, (const char *from, const char *to), (from, to), fails("link", to))
CALL(int, linkat, (int a, const char *from, int b, const char *to, int flags),
     (a, from, b, to, flags), fails("linkat", to))
CALL(int, rename, (const char *from, const char *to), (from, to), fails("rename", to))
CALL(int, renameat2, (int a, const char *from, int b, const char *to, unsigned flags),
     (a, from, b, to, flags), fails("renameat2", to))

#define OPEN(name)                                                                       \
    EXPORT int name(const char *path, int flags, ...)                                    \
    {                                                                                    \
        static _Atomic(void *) known;                                                    \
        int (*next)(const char *, int, ...) =                                            \
            (int (*)(const char *, int, ...))next_of(&known, #name);                     \
        mode_t mode = 0;                                                                 \
        va_list args;                                                                    \
                                                                                         \
        if (flags & (O_CREAT | __O_TMPFILE)) {                                           \
            va_start(args, flags);                                                       \
            mode = va_arg(args, mode_t);                                                 \
            va_end(args);                                                                \
        }                                                                                \
        if (((flags & O_CREAT) || (flags & O_ACCMODE) != O_RDONLY) &&                    \
            fails("open", path))                                                         \
            return -1;                                                                   \
        return next(path, flags, mode);                                                  \
    }

OPEN(open)
OPEN(open64)

/* ---- memory ---- */

#if HAS_MEMORY

extern void *__libc_malloc(size_t n), *__libc_calloc(size_t n, size_t size),
    *__libc_realloc(void *p, size_t n), *__libc_memalign(size_t to, size_t n);

/* 1, errno set: there is none.  caller says where, as an offset into its file. */
static int no_memory(const char *call, void *caller)
{
    Dl_info where = {0};
    uint32_t number;

    if (!control || control->action != ACTION_NO_MEMORY || control->pid != (uint32_t)getpid())
        return 0;
    number = atomic_fetch_add(&control->count, 1) + 1;
    if (number < control->at || number - control->at >= control->n)
        return 0;
    if (atomic_fetch_add(&control->n_hit, 1) == 0 && dladdr(caller, &where) != 0)
        snprintf(control->hit, sizeof(control->hit), "%s %s+0x%zx", call, where.dli_fname,
                 (size_t)((char *)caller - (char *)where.dli_fbase));
    errno = ENOMEM;
    return 1;
}

#define MEMORY(name, params, real)                                                       \
    EXPORT void *name params                                                             \
    {                                                                                    \
        return no_memory(#name, __builtin_return_address(0)) ? NULL : real;              \
    }

MEMORY(malloc, (size_t n), __libc_malloc(n))
MEMORY(calloc, (size_t n, size_t size), __libc_calloc(n, size))
MEMORY(realloc, (void *p, size_t n), __libc_realloc(p, n))
MEMORY(memalign, (size_t to, size_t n), __libc_memalign(to, n))
MEMORY(aligned_alloc, (size_t to, size_t n), __libc_memalign(to, n))

EXPORT int posix_memalign(void **ret, size_t to, size_t n)
{
    void *p = no_memory("posix_memalign", __builtin_return_address(0))
                  ? NULL
                  : __libc_memalign(to, n);

    if (p)
        *ret = p;
    return p ? 0 : ENOMEM;
}

EXPORT void *mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
    return no_memory("mmap", __builtin_return_address(0))
               ? MAP_FAILED
               : (void *)syscall(SYS_mmap, at, n, protection, flags, fd, offset);
}

EXPORT void *mmap64(void *at, size_t n, int protection, int flags, int fd, off64_t offset)
    __attribute__((alias("mmap")));

#endif
