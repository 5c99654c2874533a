#include "jobs/child.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

#define MAX_LINE     ((size_t)32 << 20) /* the result repeats the options */
#define READ_BYTES   ((size_t)64 << 10)
#define MAX_FILES    1024 /* of a checkpoint 600 at most, and its own */
#define STDERR_BYTES 200  /* kept, of the end */
#define DRAIN_MS     1000 /* for what is left in the pipes when the child has ended */

enum { IN, OUT, ERR, N_PIPES };

struct child {
    const struct child_task *task;
    struct spawn_child process;
    int ours[N_PIPES]; /* -1: closed */
    size_t n_written;  /* of the input */
    struct buf line;
    char said[STDERR_BYTES + 1]; /* the end of standard error */
    size_t n_said;
    json_t *result;
    bool is_error;         /* result is {"error": …} */
    const char *complaint; /* it does not keep to the protocol; NULL: it does */
};

/* ---- starting ---- */

/* Sockets, so that a write to a dead child is an error and no signal.  Our ends alone do
 * not wait. */
static int make_pipes(int ours[N_PIPES], int theirs[N_PIPES], struct pt2_err *err)
{
    int pair[2];

    for (int i = 0; i < N_PIPES; i++) {
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
            return pt2_err_errno(err, PT2_ERR_IO, "pipes for the export worker");
        ours[i] = pair[0];
        theirs[i] = pair[1];
        if (fcntl(ours[i], F_SETFL, O_NONBLOCK) < 0)
            return pt2_err_errno(err, PT2_ERR_IO, "pipes for the export worker");
    }
    return 0;
}

static void close_pipes(int fds[N_PIPES])
{
    for (int i = 0; i < N_PIPES; i++)
        if (fds[i] >= 0)
            close(TAKE_FD(fds[i]));
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { CAN_LIMIT_MEMORY = 0 }; /* sanitizers map terabytes */
#else
enum { CAN_LIMIT_MEMORY = 1 };
#endif

static int start(struct child *c, const int theirs[N_PIPES], struct pt2_err *err)
{
    const struct child_task *task = c->task;
    const struct spawn_fd fds[] = {{theirs[IN], 0}, {theirs[OUT], 1}, {theirs[ERR], 2}};
    const struct spawn_limit limits[] = {
        {RLIMIT_CORE, 0},
        {RLIMIT_NOFILE, MAX_FILES},
        {RLIMIT_MEMLOCK, 0},
        {RLIMIT_MSGQUEUE, 0},
        {RLIMIT_AS, task->max_address_bytes}, /* the last: not always */
    };
    const struct spawn spawn = {
        .path = task->path,
        .argv = task->argv,
        .fds = fds,
        .n_fds = ARRAY_LEN(fds),
        .limits = limits,
        .n_limits = CAN_LIMIT_MEMORY && task->max_address_bytes
                        ? ARRAY_LEN(limits)
                        : ARRAY_LEN(limits) - 1,
        .nice = task->nice,
        .goes_first = true,
        .deny = task->deny,
    };

    return spawn_start(&spawn, &c->process, err);
}

/* ---- what it says ---- */

static bool is_plain_word(const char *s)
{
    size_t n = strlen(s);

    return n > 0 && n < 32 && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_-") == n;
}

static void take_progress(struct child *c, const json_t *progress)
{
    const char *stage = json_string_value(json_object_get(progress, "stage"));
    const json_t *done = json_object_get(progress, "done");
    const json_t *total = json_object_get(progress, "total");

    if (!stage || !is_plain_word(stage) || !json_is_integer(done) ||
        !json_is_integer(total)) {
        c->complaint = "sent progress that is none";
        return;
    }
    c->task->progress(c->task->ctx, stage, json_integer_value(done),
                      json_integer_value(total));
}

static bool is_problem(const json_t *problem)
{
    const char *type = json_string_value(json_object_get(problem, "type"));
    json_int_t status = json_integer_value(json_object_get(problem, "status"));

    return type && after_prefix(type, "/problems/") && status >= 400 && status <= 599;
}

static void take_end(struct child *c, json_t *end, bool is_error)
{
    if (c->result)
        c->complaint = "ended twice";
    else if (!json_is_object(end) || (is_error && !is_problem(end)))
        c->complaint = "sent an end that is none";
    else
        c->result = json_incref(end);
    c->is_error = is_error;
}

static void take_line(struct child *c, const char *text, size_t len)
{
    json_auto_t *line = NULL;
    json_t *part;

    if (json_parse(text, len, &line, NULL) < 0) {
        c->complaint = "sent a line that is not JSON";
        return;
    }
    if ((part = json_object_get(line, "progress")))
        take_progress(c, part);
    else if ((part = json_object_get(line, "result")))
        take_end(c, part, false);
    else if ((part = json_object_get(line, "error")))
        take_end(c, part, true);
    else
        c->complaint = "sent a line of another kind";
}

/* n bytes have come in.  Only these are searched, so that a long line costs no more than
 * its length. */
static void take_lines(struct child *c, size_t n)
{
    char *begin = c->line.data, *fresh = begin + c->line.len, *end = fresh + n, *newline;

    while (!c->complaint && (newline = memchr(fresh, '\n', (size_t)(end - fresh)))) {
        take_line(c, begin, (size_t)(newline - begin));
        begin = fresh = newline + 1;
    }
    c->line.len = (size_t)(end - begin);
    if (begin > c->line.data)
        memmove(c->line.data, begin, c->line.len);
}

/* Keep the last bytes. */
static void take_stderr(struct child *c, const char *data, size_t len)
{
    size_t keep, n = MIN(len, (size_t)STDERR_BYTES);

    keep = MIN(c->n_said, STDERR_BYTES - n);
    memmove(c->said, c->said + c->n_said - keep, keep);
    memcpy(c->said + keep, data + len - n, n);
    c->n_said = keep + n;
}

/* Read what is there.  False: closed. */
static bool read_pipe(struct child *c, int which)
{
    char data[8192];
    char *to = which == OUT ? buf_room(&c->line, READ_BYTES) : data;
    ssize_t n;

    if (!to) {
        c->complaint = "sent a line that is too long";
        return false;
    }
    n = read(c->ours[which], to, which == OUT ? READ_BYTES : sizeof(data));
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    if (n == 0)
        return false;
    if (which == ERR) {
        take_stderr(c, data, (size_t)n);
        return true;
    }
    take_lines(c, (size_t)n);
    return true;
}

/* False: all is written, or it does not read. */
static bool write_input(struct child *c)
{
    const char *input = c->task->input;
    size_t len = strlen(input);
    ssize_t n =
        send(c->ours[IN], input + c->n_written, len - c->n_written, MSG_NOSIGNAL);

    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    c->n_written += (size_t)n;
    return c->n_written < len;
}

/* ---- the run ---- */

static void handle_pipes(struct child *c, const struct pollfd *polled)
{
    bool goes_on;

    for (int i = 0; i < N_PIPES; i++) {
        if (c->ours[i] < 0 || !polled[i].revents)
            continue;
        goes_on = i == IN ? write_input(c) : read_pipe(c, i);
        if (!goes_on)
            close(TAKE_FD(c->ours[i]));
    }
}

enum poll_end { POLL_GO_ON, POLL_STOP, POLL_TIMEOUT, POLL_ENDED };

/* Wait for the next thing, and deal with what the pipes say. */
static enum poll_end poll_once(struct child *c, int64_t until)
{
    int64_t left = until - clock_mono_ms();
    struct pollfd polled[N_PIPES + 2] = {{.fd = c->ours[IN], .events = POLLOUT},
                                         {.fd = c->ours[OUT], .events = POLLIN},
                                         {.fd = c->ours[ERR], .events = POLLIN},
                                         {.fd = c->task->stop_fd, .events = POLLIN},
                                         {.fd = c->process.pidfd, .events = POLLIN}};

    if (left <= 0)
        return POLL_TIMEOUT;
    if (poll(polled, ARRAY_LEN(polled), (int)MIN(left, (int64_t)1000000)) <= 0)
        return POLL_GO_ON;
    handle_pipes(c, polled);
    if (polled[N_PIPES].revents)
        return POLL_STOP;
    return polled[N_PIPES + 1].revents ? POLL_ENDED : POLL_GO_ON;
}

/* What is left in the pipes of a child that has ended. */
static void drain(struct child *c)
{
    int64_t until = clock_mono_ms() + DRAIN_MS;

    if (c->ours[IN] >= 0)
        close(TAKE_FD(c->ours[IN]));
    while (!c->complaint && (c->ours[OUT] >= 0 || c->ours[ERR] >= 0) &&
           clock_mono_ms() < until) {
        struct pollfd polled[N_PIPES] = {{.fd = -1},
                                         {.fd = c->ours[OUT], .events = POLLIN},
                                         {.fd = c->ours[ERR], .events = POLLIN}};

        if (poll(polled, N_PIPES, DRAIN_MS) <= 0)
            break;
        handle_pipes(c, polled);
    }
    if (c->line.len > 0 && !c->complaint)
        c->complaint = "broke off within a line";
}

static void died(struct child *c, struct child_end *end, const char *how)
{
    size_t n = c->n_said;

    while (n > 0 && (unsigned char)c->said[n - 1] <= ' ')
        n--;
    end->outcome = CHILD_DIED;
    snprintf(end->text, sizeof(end->text), "%s %s%s%.*s", c->task->what, how,
             n ? "; its last words: " : "", (int)n, c->said);
}

static void judge(struct child *c, struct child_end *end)
{
    struct spawn_end how;
    char text[80];

    spawn_kill(&c->process, SIGKILL); /* one with a complaint still runs */
    (void)spawn_wait(&c->process, -1, &how);
    spawn_end_text(&how, text, sizeof(text));
    if (c->complaint) {
        died(c, end, c->complaint);
    } else if (!c->result || how.status != (c->is_error ? 1 : 0)) {
        died(c, end, text);
    } else {
        end->outcome = c->is_error ? CHILD_REFUSED : CHILD_DONE;
        end->result = TAKE(c->result);
    }
}

static void follow(struct child *c, struct child_end *end)
{
    int64_t until = c->task->begun_ms + c->task->timeout_ms;
    enum poll_end how = POLL_GO_ON;
    char text[80];

    while (how == POLL_GO_ON && !c->complaint)
        how = poll_once(c, until);
    if (how == POLL_STOP) {
        end->outcome = CHILD_STOPPED;
    } else if (how == POLL_TIMEOUT) {
        snprintf(text, sizeof(text), "took longer than %lld s and was stopped",
                 (long long)(c->task->timeout_ms / 1000));
        died(c, end, text);
    } else {
        if (how == POLL_ENDED)
            drain(c);
        judge(c, end);
    }
}

int child_run(const struct child_task *task, struct child_end *ret_end,
              struct pt2_err *err)
{
    struct child c = {.task = task,
                      .process = SPAWN_NO_CHILD,
                      .ours = {-1, -1, -1},
                      .line = BUF_INIT(MAX_LINE)};
    int theirs[N_PIPES] = {-1, -1, -1};
    struct child_end end = {0};
    int r = make_pipes(c.ours, theirs, err);

    if (r == 0)
        r = start(&c, theirs, err);
    close_pipes(theirs);
    if (r == 0) {
        follow(&c, &end);
        *ret_end = end;
    }
    spawn_child_done(&c.process);
    close_pipes(c.ours);
    buf_done(&c.line);
    json_decref(c.result);
    return r;
}

void child_end_done(struct child_end *end)
{
    json_decref(end->result);
    end->result = NULL;
}
