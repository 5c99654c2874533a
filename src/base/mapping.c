#include "base/mapping.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

struct mapping {
    atomic_bool is_taken;
    atomic_uint change; /* odd while start and bytes change */
    _Atomic uintptr_t start;
    _Atomic size_t bytes; /* 0: no mapping */
    atomic_bool is_cut;
    int fd;
    struct mapping *next; /* constant once it is in the table */
};

static _Atomic(struct mapping *) table;

/* Constant once the handler is there. */
static struct sigaction earlier;
static uintptr_t page_bytes;

/* ---- the handler: async-signal-safe ---- */

/* Whose range is the address in?  NULL: nobody's. */
static struct mapping *find(uintptr_t at)
{
    for (struct mapping *m = table; m; m = m->next) {
        unsigned change = m->change;
        uintptr_t start = m->start;
        size_t bytes = m->bytes;

        if (change % 2 == 0 && m->change == change && at >= start && at - start < bytes)
            return m;
    }
    return NULL;
}

/* The system call itself: sanitizers and tests have a mmap of their own, which is not
 * made for signal handlers. */
static bool lay_zeros(uintptr_t from, uintptr_t end)
{
    return syscall(SYS_mmap, from, end - from, PROT_READ,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0L) != -1;
}

static bool is_mended(const siginfo_t *info)
{
    uintptr_t at = (uintptr_t)info->si_addr;
    struct mapping *m;

    if (info->si_code != BUS_ADRERR)
        return false;
    m = find(at);
    if (!m)
        return false;
    m->is_cut = true;
    return lay_zeros(at - at % page_bytes, m->start + m->bytes);
}

/* With the default action in place a fault happens once more, and ends the process; a
 * signal that was sent would be forgotten, so it is sent again. */
static void pass_on(int number, siginfo_t *info, void *context)
{
    if (earlier.sa_flags & SA_SIGINFO) {
        earlier.sa_sigaction(number, info, context);
        return;
    }
    if (earlier.sa_handler == SIG_IGN && info->si_code <= 0)
        return;
    if (earlier.sa_handler != SIG_DFL && earlier.sa_handler != SIG_IGN) {
        earlier.sa_handler(number);
        return;
    }
    sigaction(number, &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
    if (info->si_code <= 0)
        raise(number);
}

static void on_bus_error(int number, siginfo_t *info, void *context)
{
    int before = errno;

    if (!is_mended(info))
        pass_on(number, info, context);
    errno = before;
}

void mapping_catch_cuts(void)
{
    struct sigaction action = {.sa_sigaction = on_bus_error,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK};

    ASSERT(page_bytes == 0);
    page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE);
    /* First what it was: the handler may be wanted as soon as it is there. */
    ASSERT(sigaction(SIGBUS, NULL, &earlier) == 0);
    ASSERT(sigaction(SIGBUS, &action, NULL) == 0);
}

/* ---- the table ---- */

static struct mapping *take_node(void)
{
    struct mapping *m;

    for (m = table; m; m = m->next)
        if (!atomic_exchange(&m->is_taken, true))
            return m;
    m = calloc(1, sizeof(*m));
    if (!m)
        return NULL;
    m->is_taken = true;
    m->next = table;
    while (!atomic_compare_exchange_weak(&table, &m->next, m)) {
    }
    return m;
}

static void set_range(struct mapping *m, uintptr_t start, size_t bytes)
{
    m->change++;
    m->start = start;
    m->bytes = bytes;
    m->change++;
}

/* ---- mappings ---- */

static int map_file(int fd, void **ret_at, size_t *ret_bytes, struct pt2_err *err)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "stat");
    *ret_bytes = (size_t)st.st_size;
    *ret_at = mmap(NULL, *ret_bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (*ret_at == MAP_FAILED)
        return pt2_err_errno(err, PT2_ERR_IO, "map %lld bytes", (long long)st.st_size);
    return 0;
}

int mapping_new(int fd, struct mapping **ret_mapping, struct pt2_err *err)
{
    AUTO_FD int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    struct mapping *m;
    size_t bytes = 0;
    void *at = NULL;

    if (own < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "another descriptor");
    if (map_file(own, &at, &bytes, err) < 0)
        return -1;
    m = take_node();
    if (!m) {
        munmap(at, bytes);
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory for a mapping");
    }
    m->is_cut = false;
    m->fd = TAKE_FD(own);
    set_range(m, (uintptr_t)at, bytes);
    *ret_mapping = m;
    return 0;
}

void mapping_free(struct mapping *m)
{
    uintptr_t start;
    size_t bytes;

    if (!m)
        return;
    start = m->start;
    bytes = m->bytes;
    set_range(m, 0, 0);
    munmap((void *)start, bytes);
    close(m->fd);
    m->is_taken = false;
}

const uint8_t *mapping_data(const struct mapping *m)
{
    return (const uint8_t *)m->start;
}

size_t mapping_bytes(const struct mapping *m)
{
    return m->bytes;
}

int mapping_fd(const struct mapping *m)
{
    return m->fd;
}

bool mapping_is_cut(struct mapping *m)
{
    struct stat st;

    if (!m->is_cut && (fstat(m->fd, &st) < 0 || (uint64_t)st.st_size < m->bytes))
        m->is_cut = true;
    return m->is_cut;
}
