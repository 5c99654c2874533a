/* pt2-aten - the worker that runs one program by libtorch.
 *
 * Started by the daemon (src/engine/worker.c) with its end of a socket pair as descriptor
 * WIRE_FD, never by hand.  It answers one request after the other (src/engine/wire.h) and
 * ends when the socket closes.  Before it looks at the archive it gives up everything
 * that it needs no more: files, programs, the network (doc/engines.md, "the sandbox"). */
#include "aten/interp.h"
#include "aten/warm_up.h"
#include "base/landlock.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "engine/layout.h"
#include "engine/shared.h"
#include "engine/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>

struct aten_worker {
    struct pt2_archive *archive;
    struct pt2_program *program;
    struct aten_program *aten; /* NULL until WIRE_OPEN was answered well */
    struct layout layout;
    void **buffers; /* one cache's, for aten_program_run */
    struct shared area;
    struct shared *caches; /* by slot; data NULL: free */
    size_t n_caches;
};

/* ---- WIRE_OPEN ---- */

static int layout_fill(struct aten_worker *w, struct pt2_err *err)
{
    size_t n = aten_program_n_buffers(w->aten);

    if (layout_init(&w->layout, n, err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        const struct aten_buffer *from = aten_program_buffer(w->aten, i);
        struct layout_buffer b = {
            .fqn = (char *)from->fqn, .dtype = from->dtype, .n_dims = from->n_dims};

        memcpy(b.sizes, from->sizes, sizeof(b.sizes));
        if (layout_add(&w->layout, &b, err) < 0)
            return -1;
    }
    if (!(w->buffers = calloc(n + 1, sizeof(*w->buffers))))
        return pt2_err_set(err, PT2_ERR_NOMEM, "%zu buffers", n);
    return 0;
}

static int do_open(struct aten_worker *w, const struct wire_request *request, int fd,
                   struct wire_reply *reply, struct pt2_err *err)
{
    struct aten_limits limits = {.n_threads = request->open.n_threads,
                                 .max_run_bytes = request->open.max_run_bytes};

    if (w->archive || fd < 0)
        return pt2_err_set(err, PT2_ERR_INTERNAL, "opened twice, or without an archive");
    if (strncmp(request->open.version, WIRE_VERSION, sizeof(request->open.version)) != 0)
        return pt2_err_set(err, PT2_ERR_INTERNAL,
                           "pt2-aten is of version %s, the daemon of "
                           "another",
                           WIRE_VERSION);
    aten_warm_up(limits.n_threads);
    if (sandbox_enter(SANDBOX_NO_NETWORK | SANDBOX_NO_EXEC | SANDBOX_NO_OPEN, err) < 0 ||
        pt2_archive_open_fd(fd, "the archive", &w->archive, err) < 0 ||
        pt2_program_read(w->archive, &w->program, err) < 0 ||
        aten_program_open(w->archive, w->program, &limits, &w->aten, err) < 0 ||
        layout_fill(w, err) < 0)
        return -1;
    reply->open.n_buffers = aten_program_n_buffers(w->aten);
    reply->open.n_calls = aten_program_n_calls(w->aten);
    return 0;
}

/* ---- WIRE_BUFFER ---- */

static int do_buffer(struct aten_worker *w, const struct wire_request *request,
                     struct wire_reply *reply, struct pt2_err *err)
{
    const struct aten_buffer *b;

    if (request->i >= aten_program_n_buffers(w->aten))
        return pt2_err_set(err, PT2_ERR_INTERNAL, "no such buffer");
    b = aten_program_buffer(w->aten, request->i);
    for (uint32_t i = 0; i < pt2_program_n_inputs(w->program); i++) {
        const struct pt2_input *input = pt2_program_input(w->program, i);

        if (input->kind != PT2_INPUT_BUFFER || !streq(input->fqn, b->fqn))
            continue;
        reply->buffer.input = i;
        reply->buffer.position_dim = b->position_dim;
        reply->buffer.is_ring = b->is_ring;
        reply->buffer.is_counter = b->is_counter;
        return 0;
    }
    return pt2_err_set(err, PT2_ERR_INTERNAL, "buffer '%s' is no input", b->fqn);
}

/* ---- memory ---- */

static int do_area(struct aten_worker *w, const struct wire_request *request, int fd,
                   struct pt2_err *err)
{
    struct shared area;

    if (shared_map(&area, fd, request->size, err) < 0)
        return -1;
    shared_done(&w->area);
    w->area = area;
    return 0;
}

static int do_map(struct aten_worker *w, const struct wire_request *request, int fd,
                  struct pt2_err *err)
{
    size_t n = (size_t)request->slot + 1;
    struct shared *caches;

    if (n > WIRE_MAX_CACHES || request->size != w->layout.size ||
        (n <= w->n_caches && w->caches[n - 1].data))
        return pt2_err_set(err, PT2_ERR_INTERNAL, "a cache that can not be");
    if (n > w->n_caches) {
        if (!(caches = realloc(w->caches, n * sizeof(*caches))))
            return pt2_err_set(err, PT2_ERR_NOMEM, "%zu caches", n);
        w->caches = caches;
        while (w->n_caches < n)
            w->caches[w->n_caches++] = (struct shared)SHARED_NONE;
    }
    return shared_map(&w->caches[request->slot], fd, request->size, err);
}

static struct shared *cache_find(struct aten_worker *w, uint32_t slot,
                                 struct pt2_err *err)
{
    if (slot < w->n_caches && w->caches[slot].data)
        return &w->caches[slot];
    pt2_err_set(err, PT2_ERR_INTERNAL, "no such cache");
    return NULL;
}

static int do_unmap(struct aten_worker *w, const struct wire_request *request,
                    struct pt2_err *err)
{
    struct shared *cache = cache_find(w, request->slot, err);

    if (!cache)
        return -1;
    shared_done(cache);
    return 0;
}

/* ---- WIRE_RUN ---- */

static int do_run(struct aten_worker *w, const struct wire_request *request,
                  struct pt2_err *err)
{
    const struct pt2_decoder *d = aten_program_decoder(w->aten);
    struct shared *cache = cache_find(w, request->slot, err);
    char *area = w->area.data;
    struct layout_area at;
    int r;

    if (!cache)
        return -1;
    if (!area ||
        !layout_area(d->batch_size, d->vocab_size, request->run.s, request->run.n_rows,
                     &at) ||
        at.size > w->area.size)
        return pt2_err_set(err, PT2_ERR_INTERNAL, "the run does not fit its area");
    for (size_t i = 0; i < w->layout.n_buffers; i++)
        w->buffers[i] = (char *)cache->data + w->layout.buffers[i].offset;
    aten_program_fail_at(w->aten, request->run.fail_at);
    r = aten_program_run(w->aten, w->buffers, (const int64_t *)area,
                         (const int64_t *)(area + at.positions), request->run.s,
                         request->run.first_row, request->run.n_rows,
                         request->run.n_rows ? (float *)(area + at.logits) : NULL, err);
    if (r < 0 && request->run.dies)
        raise(SIGKILL);
    return r;
}

/* ---- the loop ---- */

/* One request and its descriptor, -1 where there is none.  False at the end. */
static bool request_receive(struct wire_request *request, int *ret_fd)
{
    struct iovec io = {.iov_base = request, .iov_len = sizeof(*request)};
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message = {.msg_iov = &io,
                             .msg_iovlen = 1,
                             .msg_control = control.room,
                             .msg_controllen = sizeof(control.room)};
    struct cmsghdr *head;
    ssize_t n;

    while ((n = recvmsg(WIRE_FD, &message, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR)
        ;
    *ret_fd = -1;
    head = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS)
        memcpy(ret_fd, CMSG_DATA(head), sizeof(*ret_fd));
    return n == (ssize_t)sizeof(*request);
}

static int request_do(struct aten_worker *w, const struct wire_request *request, int fd,
                      struct wire_reply *reply, struct pt2_err *err)
{
    if (!w->aten && request->verb != WIRE_OPEN)
        return pt2_err_set(err, PT2_ERR_INTERNAL, "nothing is open yet");
    switch ((enum wire_verb)request->verb) {
    case WIRE_OPEN:
        return do_open(w, request, fd, reply, err);
    case WIRE_BUFFER:
        return do_buffer(w, request, reply, err);
    case WIRE_AREA:
        return do_area(w, request, fd, err);
    case WIRE_MAP:
        return do_map(w, request, fd, err);
    case WIRE_UNMAP:
        return do_unmap(w, request, err);
    case WIRE_RUN:
        return do_run(w, request, err);
    }
    return pt2_err_set(err, PT2_ERR_INTERNAL, "unknown request");
}

/* What only a mistake of ours or a lying daemon leads to goes by one code. */
static uint32_t code_to_say(enum pt2_error code)
{
    return code == PT2_ERR_INVALID ? PT2_ERR_INTERNAL : code;
}

/* Before libtorch has threads, which would be left out.  Libraries that it loads when it
 * first computes are read; from WIRE_OPEN on nothing is. */
static int leave_files(struct pt2_err *err)
{
    struct landlock rules;
    int r;

    if (landlock_begin(&rules, err) < 0)
        return -1;
    r = landlock_allow_libraries(&rules, err);
    if (r == 0)
        r = landlock_enter(&rules, err);
    landlock_done(&rules);
    return r;
}

int main(int argc, char **argv)
{
    struct aten_worker w = {.area = SHARED_NONE};
    struct wire_request request;
    struct pt2_err no_files = {0};
    int fd;

    if (argc != 1 || fcntl(WIRE_FD, F_SETFD, FD_CLOEXEC) < 0) {
        fprintf(stderr, "%s: a worker of pt2d, which starts it\n", argv[0]);
        return 2;
    }
    if (leave_files(&no_files) < 0) {
        log_error("pt2-aten: %s", no_files.text);
        return 1;
    }
    while (request_receive(&request, &fd)) {
        AUTO_FD int given = fd; /* what is mapped needs its descriptor no more */
        struct wire_reply reply = {.verb = request.verb};
        struct pt2_err err = {0};

        if (request_do(&w, &request, given, &reply, &err) < 0) {
            reply.code = code_to_say(err.code);
            memcpy(reply.text, err.text, sizeof(reply.text));
        }
        if (send(WIRE_FD, &reply, sizeof(reply), MSG_NOSIGNAL) < 0)
            break;
    }
    /* Not by exit: what libtorch would take down, the kernel does faster, and a leak
     * check would want files that are closed to us. */
    _exit(0);
}
