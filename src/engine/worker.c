#include "engine/worker.h"

#include "base/log.h"
#include "base/sandbox.h"
#include "base/utf8.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>

#define EXIT_GRACE_MS 2000
#define MAX_FILES     1024 /* libtorch's, while it loads */

/* An address sanitizer reserves terabytes, which would count. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CAN_LIMIT_DATA 0
#else
#define CAN_LIMIT_DATA 1
#endif

/* What libtorch, the loader and sanitizers read; nothing else of ours is its business. */
static const char *const kept_env[] = {"LANG",
                                       "LC_ALL",
                                       "LD_LIBRARY_PATH",
                                       "PATH",
                                       "TZ",
                                       "ASAN_OPTIONS",
                                       "LSAN_OPTIONS",
                                       "TSAN_OPTIONS",
                                       "UBSAN_OPTIONS",
                                       "ATEN_CPU_CAPABILITY",
                                       "DNNL_MAX_CPU_ISA",
                                       "GOMP_CPU_AFFINITY",
                                       "GOMP_SPINCOUNT",
                                       "OMP_WAIT_POLICY",
                                       NULL};

int worker_init(struct worker *worker, const char *path, uint64_t max_data_bytes,
                struct pt2_err *err)
{
    const char *name = strrchr(path, '/');
    const char *argv[] = {name ? name + 1 : path, NULL};
    const struct spawn_limit limits[] = {{RLIMIT_CORE, 0},
                                         {RLIMIT_NOFILE, MAX_FILES},
                                         {RLIMIT_MEMLOCK, 0},
                                         {RLIMIT_MSGQUEUE, 0},
                                         {RLIMIT_DATA, max_data_bytes}};
    struct spawn_fd fds[] = {{.as = WIRE_FD}};
    struct spawn what = {.path = path,
                         .argv = argv,
                         .fds = fds,
                         .n_fds = 1,
                         .keep_env = kept_env,
                         .limits = limits,
                         .n_limits = CAN_LIMIT_DATA && max_data_bytes ? ARRAY_LEN(limits)
                                                              : ARRAY_LEN(limits) - 1,
                         .goes_first = true,
                         .deny = SANDBOX_NO_NETWORK};
    AUTO_FD int ours = -1, theirs = -1;
    int pair[2];

    *worker = (struct worker)WORKER_NONE;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return pt2_err_errno(err, PT2_ERR_INTERNAL, "socket pair");
    ours = pair[0];
    fds[0].fd = theirs = pair[1];
    if (spawn_start(&what, &worker->child, err) < 0)
        return -1;
    worker->fd = TAKE_FD(ours);
    return 0;
}

void worker_done(struct worker *worker)
{
    if (worker->fd >= 0)
        close(worker->fd);
    worker->fd = -1;
    if (worker->child.pid > 0 && !spawn_wait(&worker->child, EXIT_GRACE_MS, NULL))
        spawn_child_done(&worker->child);
}

/* Make sure that it is dead, keep how, and fill err. */
static int worker_bury(struct worker *worker, const char *how, struct pt2_err *err)
{
    struct spawn_end end = {.status = -1};

    if (!how && spawn_wait(&worker->child, EXIT_GRACE_MS, &end))
        spawn_end_text(&end, worker->died, sizeof(worker->died));
    else
        snprintf(worker->died, sizeof(worker->died), "%s",
                 how ? how : "closed its socket");
    spawn_child_done(&worker->child);
    close(worker->fd);
    worker->fd = -1;
    return pt2_err_set(err, PT2_ERR_ENGINE_DIED, "the engine's worker %s", worker->died);
}

int worker_distrust(struct worker *worker, const char *why, struct pt2_err *err)
{
    char text[120];

    snprintf(text, sizeof(text), "was killed: it answered %s", why);
    return worker_bury(worker, text, err);
}

bool worker_is_alive(struct worker *worker)
{
    struct pollfd p = {.fd = worker->fd};

    if (!worker_is_dead(worker) && poll(&p, 1, 0) > 0)
        worker_bury(worker, NULL, NULL);
    return !worker_is_dead(worker);
}

/* One message with at most one descriptor. */
static int wire_send(int socket, const struct wire_request *request, int fd)
{
    struct iovec io = {.iov_base = (void *)request, .iov_len = sizeof(*request)};
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr message = {.msg_iov = &io, .msg_iovlen = 1};
    ssize_t n;

    if (fd >= 0) {
        message.msg_control = control.room;
        message.msg_controllen = sizeof(control.room);
        control.head.cmsg_level = SOL_SOCKET;
        control.head.cmsg_type = SCM_RIGHTS;
        control.head.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
    }
    while ((n = sendmsg(socket, &message, MSG_NOSIGNAL)) < 0 && errno == EINTR)
        ;
    return n == (ssize_t)sizeof(*request) ? 0 : -1;
}

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* 1: a message or the end is there; 0: not in time; -1: stop_fd came first. */
static int wire_wait(int socket, int stop_fd, int64_t timeout_ms)
{
    int64_t deadline = now_ms() + timeout_ms, left = timeout_ms;
    struct pollfd p[] = {{.fd = socket, .events = POLLIN},
                         {.fd = stop_fd, .events = POLLIN}};
    int n;

    for (; left >= 0; left = deadline - now_ms()) {
        n = poll(p, 2, (int)MIN(left, 1 << 30)); /* a negative fd is none */
        if (n > 0)
            return p[0].revents ? 1 : -1;
        if (n < 0 && errno != EINTR && errno != EAGAIN && errno != ENOMEM)
            return 1; /* recv will say */
    }
    return 0;
}

/* Codes that a worker may answer; ours and the client's are not among them. */
static bool code_is_possible(uint32_t code)
{
    switch ((enum pt2_error)code) {
    case PT2_ERR_NONE:
    case PT2_ERR_INTERNAL:
    case PT2_ERR_IO:
    case PT2_ERR_NOMEM:
    case PT2_ERR_LIMIT:
    case PT2_ERR_BAD_ARCHIVE:
    case PT2_ERR_BAD_PROGRAM:
    case PT2_ERR_PROGRAM_REFUSED:
    case PT2_ERR_PROGRAM_FAILED:
        return true;
    default:
        return false;
    }
}

/* A program's names stand in a text, and it may be cut within a character: what is not
 * UTF-8 becomes '?'. */
static void text_clean(char *text, size_t size)
{
    size_t len = strnlen(text, size - 1), n;

    text[len] = '\0';
    for (size_t i = 0; i < len; i += n)
        if ((n = utf8_char_len(text + i, len - i)) == 0) {
            text[i] = '?';
            n = 1;
        }
}

static int reply_check(struct worker *worker, const struct wire_request *request,
                       struct wire_reply *reply, size_t len, struct pt2_err *err)
{

    if (len != sizeof(*reply))
        return worker_distrust(worker, "with a message of another size", err);
    if (reply->verb != request->verb)
        return worker_distrust(worker, "to what was not asked", err);
    if (!code_is_possible(reply->code))
        return worker_distrust(worker, "with an error code that it can not give", err);
    if (reply->code == PT2_ERR_NONE)
        return 0;
    text_clean(reply->text, sizeof(reply->text));
    return pt2_err_set(err, (enum pt2_error)reply->code, "%s", reply->text);
}

int worker_ask(struct worker *worker, const struct wire_request *request, int fd,
               int64_t timeout_ms, struct wire_reply *ret_reply, struct pt2_err *err)
{
    char why[80];
    ssize_t n;
    int came;

    if (worker_is_dead(worker))
        return pt2_err_set(err, PT2_ERR_ENGINE_DIED, "the engine's worker %s",
                           worker->died);
    if (wire_send(worker->fd, request, fd) < 0)
        return worker_bury(worker, NULL, err);
    came = wire_wait(worker->fd, worker->stop_fd, timeout_ms);
    if (came < 0)
        return worker_bury(worker, "was killed: the engine was told to stop", err);
    if (came == 0) {
        snprintf(why, sizeof(why), "was killed: it did not answer within %jd seconds",
                 (intmax_t)(timeout_ms / 1000));
        return worker_bury(worker, why, err);
    }
    while ((n = recv(worker->fd, ret_reply, sizeof(*ret_reply), MSG_TRUNC)) < 0 &&
           errno == EINTR)
        ;
    if (n <= 0)
        return worker_bury(worker, NULL, err);
    return reply_check(worker, request, ret_reply, (size_t)n, err);
}
