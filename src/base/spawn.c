#include "base/spawn.h"

#include "base/log.h"
#include "base/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* From here on: no target of a struct spawn_fd. */
#define FIRST_FREE_FD (SPAWN_MAX_FD + 1)

/* What the child reports over a pipe when it can not become the program. */
struct failure {
    int number; /* errno */
    enum { AT_FDS, AT_LIMITS, AT_SANDBOX, AT_EXEC } at;
};

/* All that the child needs, made before the fork: between fork and exec nothing may be
 * allocated and no lock taken. */
struct job {
    const struct spawn *what;
    char **env; /* the array is ours; strings borrowed */
    int report; /* write end of the pipe */
    pid_t parent;
    pid_t pid; /* the answer: -1 and errno in number */
    int number;
};

/* ---- in the child, between fork and exec ---- */

static _Noreturn void child_fail(int report, int at)
{
    struct failure failure = {.number = errno};
    ssize_t n;

    failure.at = at;
    n = write(report, &failure, sizeof(failure));
    _exit(n == (ssize_t)sizeof(failure) ? 127 : 126);
}

/* The given fds to their numbers, by way of numbers above all targets; *report too. */
static int child_fds(const struct spawn *what, int *report)
{
    int high[SPAWN_MAX_FD + 1], null;
    bool given[FIRST_FREE_FD] = {false};

    for (size_t i = 0; i < what->n_fds; i++)
        if ((high[i] = fcntl(what->fds[i].fd, F_DUPFD_CLOEXEC, FIRST_FREE_FD)) < 0)
            return -1;
    if ((*report = fcntl(*report, F_DUPFD_CLOEXEC, FIRST_FREE_FD)) < 0)
        return -1;
    for (size_t i = 0; i < what->n_fds; i++) {
        if (dup2(high[i], what->fds[i].as) < 0)
            return -1;
        given[what->fds[i].as] = true;
    }
    for (int fd = STDERR_FILENO + 1; fd < FIRST_FREE_FD; fd++)
        if (!given[fd])
            close(fd);
    for (int fd = STDIN_FILENO; fd <= STDOUT_FILENO; fd++)
        if (!given[fd]) {
            if ((null = open("/dev/null", fd == STDIN_FILENO ? O_RDONLY : O_WRONLY)) <
                    0 ||
                dup2(null, fd) < 0)
                return -1;
            if (null != fd)
                close(null);
        }
    if (*report > FIRST_FREE_FD)
        close_range(FIRST_FREE_FD, (unsigned)*report - 1, 0);
    return close_range((unsigned)*report + 1, ~0u, 0);
}

static int child_limits(const struct spawn *what)
{
    for (size_t i = 0; i < what->n_limits; i++) {
        struct rlimit limit;

        if (getrlimit(what->limits[i].resource, &limit) < 0)
            return -1;
        limit.rlim_max = MIN(limit.rlim_max, (rlim_t)what->limits[i].value);
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(what->limits[i].resource, &limit) < 0)
            return -1;
    }
    errno = 0;
    return what->nice && nice(what->nice) == -1 && errno ? -1 : 0;
}

/* Half of the memory there is, in the kernel's eyes, beside what it holds.  A child that
 * may not open this has it from its parent. */
static void child_volunteers(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    if (fd < 0)
        return;
    (void)!write(fd, "500", 3);
    close(fd);
}

/* Default handling of every signal, none blocked. */
static void child_signals(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t none;

    for (int i = 1; i < NSIG; i++)
        sigaction(i, &action,
                  NULL); /* fails for KILL, STOP and libc's own: as it should */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static _Noreturn void child_run(const struct job *job)
{
    const struct spawn *what = job->what;
    int report = job->report;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != job->parent)
        _exit(125); /* it died before we asked */
    setsid();
    child_signals();
    if (child_fds(what, &report) < 0)
        child_fail(report, AT_FDS);
    if (what->goes_first)
        child_volunteers();
    if (child_limits(what) < 0)
        child_fail(report, AT_LIMITS);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        (what->deny && sandbox_enter(what->deny, NULL) < 0))
        child_fail(report, AT_SANDBOX);
    execve(what->path, (char *const *)what->argv, job->env);
    child_fail(report, AT_EXEC);
}

/* ---- the thread that forks ---- */

static struct {
    pthread_mutex_t lock; /* guards what follows; no other is taken under it */
    pthread_cond_t changed;
    bool is_running; /* the thread is there */
    bool is_done;    /* job->pid is there */
    struct job *job; /* what the thread is to do next, or does */
} forker = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

/* In a process that was forked from ours the thread is not there, and whoever held the
 * lock or waited is not either. */
static void forker_forget(void)
{
    pthread_mutex_init(&forker.lock, NULL);
    pthread_cond_init(&forker.changed, NULL);
    forker.is_running = false;
    forker.job = NULL;
}

static void forker_init(void)
{
    pthread_atfork(NULL, NULL, forker_forget);
}

static void *forker_main(void *unused)
{
    pthread_mutex_lock(&forker.lock);
    for (;;) {
        struct job *job;

        while (!forker.job || forker.is_done)
            pthread_cond_wait(&forker.changed, &forker.lock);
        job = forker.job;
        job->pid = fork();
        if (job->pid == 0)
            child_run(job);
        job->number = errno;
        forker.is_done = true;
        pthread_cond_broadcast(&forker.changed);
    }
    return unused;
}

/* Start the thread where it is not there, with every signal blocked. */
static int forker_start_locked(struct pt2_err *err)
{
    sigset_t all, old;
    pthread_t thread;
    int r;

    if (forker.is_running)
        return 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    r = pthread_create(&thread, NULL, forker_main, NULL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (r)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no thread for starting processes");
    pthread_detach(thread);
    forker.is_running = true;
    return 0;
}

static int forker_do(struct job *job, struct pt2_err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    int r;

    pthread_once(&once, forker_init);
    pthread_mutex_lock(&forker.lock);
    while (forker.job)
        pthread_cond_wait(&forker.changed, &forker.lock); /* another caller's */
    if ((r = forker_start_locked(err)) == 0) {
        forker.job = job;
        forker.is_done = false;
        pthread_cond_broadcast(&forker.changed);
        while (!forker.is_done)
            pthread_cond_wait(&forker.changed, &forker.lock);
        forker.job = NULL;
        pthread_cond_broadcast(&forker.changed);
    }
    pthread_mutex_unlock(&forker.lock);
    if (r == 0 && job->pid < 0) {
        errno = job->number;
        return pt2_err_errno(err, PT2_ERR_INTERNAL, "fork");
    }
    return r;
}

/* ---- the caller's side ---- */

static bool env_is_kept(const char *entry, const char *const *names)
{
    if (!names)
        return true;
    for (; *names; names++) {
        const char *rest = after_prefix(entry, *names);

        if (rest && *rest == '=')
            return true;
    }
    return false;
}

/* Does "NAME=value" of set stand for entry's name? */
static bool env_is_set(const char *entry, const char *const *set)
{
    for (; set && *set; set++) {
        size_t n = strcspn(*set, "=");

        if (strncmp(entry, *set, n) == 0 && entry[n] == '=')
            return true;
    }
    return false;
}

static char **env_build(const struct spawn *what)
{
    size_t n = 1, i = 0;
    char **env;

    for (char **e = environ; e && *e; e++)
        n++;
    for (const char *const *e = what->set_env; e && *e; e++)
        n++;
    if (!(env = calloc(n, sizeof(*env))))
        return NULL;
    for (char **e = environ; e && *e; e++)
        if (env_is_kept(*e, what->keep_env) && !env_is_set(*e, what->set_env))
            env[i++] = *e;
    for (const char *const *e = what->set_env; e && *e; e++)
        env[i++] = (char *)*e;
    return env;
}

static int failure_to_err(const struct spawn *what, const struct failure *failure,
                          struct pt2_err *err)
{
    static const char *const where[] = {
        [AT_FDS] = "its files", [AT_LIMITS] = "its limits", [AT_SANDBOX] = "its sandbox"};

    errno = failure->number;
    if (failure->at == AT_EXEC)
        return pt2_err_errno(err, PT2_ERR_IO, "can not run '%s'", what->path);
    return pt2_err_errno(err, PT2_ERR_INTERNAL, "starting '%s': %s", what->path,
                         where[failure->at]);
}

/* Wait until the child has become the program, or says why not. */
static int report_read(const struct spawn *what, int fd, struct pt2_err *err)
{
    struct failure failure;
    ssize_t n;

    while ((n = read(fd, &failure, sizeof(failure))) < 0 && errno == EINTR)
        ;
    if (n == 0)
        return 0;
    if (n != (ssize_t)sizeof(failure) || (unsigned)failure.at > AT_EXEC)
        return pt2_err_set(err, PT2_ERR_INTERNAL, "starting '%s': no report", what->path);
    return failure_to_err(what, &failure, err);
}

static void check_arguments(const struct spawn *what)
{
    ASSERT(what->path && what->argv && what->argv[0]);
    ASSERT(!(what->deny & (SANDBOX_NO_EXEC | SANDBOX_NO_OPEN)));
    ASSERT(what->n_fds <= SPAWN_MAX_FD + 1);
    for (size_t i = 0; i < what->n_fds; i++)
        ASSERT(what->fds[i].as >= 0 && what->fds[i].as <= SPAWN_MAX_FD);
}

int spawn_start(const struct spawn *what, struct spawn_child *ret_child,
                struct pt2_err *err)
{
    AUTO_PTR char **env = NULL;
    AUTO_FD int reader = -1, writer = -1;
    struct job job = {.what = what, .parent = getpid()};
    struct spawn_child child = SPAWN_NO_CHILD;
    int ends[2];

    check_arguments(what);
    if (!(job.env = env = env_build(what)))
        return pt2_err_set(err, PT2_ERR_NOMEM, "environment of '%s'", what->path);
    if (pipe2(ends, O_CLOEXEC) < 0)
        return pt2_err_errno(err, PT2_ERR_INTERNAL, "pipe");
    reader = ends[0];
    job.report = writer = ends[1];
    if (forker_do(&job, err) < 0)
        return -1;
    child.pid = job.pid;
    close(TAKE_FD(writer));
    if ((child.pidfd = pidfd_open(child.pid, 0)) < 0)
        pt2_err_errno(err, PT2_ERR_INTERNAL, "pidfd_open");
    if (child.pidfd < 0 || report_read(what, reader, err) < 0) {
        spawn_child_done(&child);
        return -1;
    }
    *ret_child = child;
    return 0;
}

static int reap(struct spawn_child *child, int flags, struct spawn_end *ret_end)
{
    siginfo_t info = {.si_pid = 0};
    int r;

    while ((r = waitid(P_PID, (id_t)child->pid, &info, WEXITED | flags)) < 0 &&
           errno == EINTR)
        ;
    if (r == 0 && info.si_pid == 0)
        return -1; /* WNOHANG, and it runs */
    if (ret_end)
        *ret_end = (struct spawn_end){
            .status = r == 0 && info.si_code == CLD_EXITED ? info.si_status : -1,
            .signal = r == 0 && info.si_code != CLD_EXITED ? info.si_status : 0};
    if (child->pidfd >= 0)
        close(child->pidfd);
    *child = (struct spawn_child)SPAWN_NO_CHILD;
    return 0;
}

bool spawn_wait(struct spawn_child *child, int timeout_ms, struct spawn_end *ret_end)
{
    struct pollfd p = {.fd = child->pidfd, .events = POLLIN};

    ASSERT(child->pid > 0);
    if (timeout_ms < 0)
        return reap(child, 0, ret_end) == 0;
    while (poll(&p, 1, timeout_ms) < 0 && errno == EINTR)
        ;
    return reap(child, WNOHANG, ret_end) == 0;
}

void spawn_kill(const struct spawn_child *child, int signal)
{
    if (child->pid > 0)
        kill(child->pid, signal); /* not waited for yet, so the number is still its own */
}

void spawn_child_done(struct spawn_child *child)
{
    if (child->pid <= 0)
        return;
    spawn_kill(child, SIGKILL);
    reap(child, 0, NULL);
}

void spawn_end_text(const struct spawn_end *end, char *ret_text, size_t size)
{
    const char *name = sigdescr_np(end->signal);

    if (end->signal)
        snprintf(ret_text, size, "was killed by signal %d (%s)", end->signal,
                 name ? name : "unknown");
    else
        snprintf(ret_text, size, "exited with status %d", end->status);
}

/* Is the program beside our own?  ret_dir: where that is. */
static bool is_beside(const char *name, char ret_dir[PATH_MAX])
{
    char path[PATH_MAX + NAME_MAX + 2];
    ssize_t n = readlink("/proc/self/exe", ret_dir, PATH_MAX - 1);
    char *slash;

    if (n < 0)
        return false;
    ret_dir[n] = '\0';
    slash = strrchr(ret_dir, '/');
    if (!slash)
        return false;
    *slash = '\0';
    snprintf(path, sizeof(path), "%s/%s", ret_dir, name);
    return access(path, X_OK) == 0;
}

int spawn_find(const char *name, const char *installed_dir, char *ret_path, size_t size,
               struct pt2_err *err)
{
    const char *dir = getenv("PT2_LIBEXEC");
    char path[PATH_MAX], own[PATH_MAX];
    struct stat st;

    if (!dir || !*dir)
        dir = is_beside(name, own) ? own : installed_dir;
    if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, name) >=
        MIN(sizeof(path), size))
        return pt2_err_set(err, PT2_ERR_IO, "the path '%s/%s' is too long", dir, name);
    if (stat(path, &st) < 0 || access(path, X_OK) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "'%s' can not be executed", path);
    if (!S_ISREG(st.st_mode))
        return pt2_err_set(err, PT2_ERR_IO, "'%s' is not a file", path);
    strcpy(ret_path, path);
    return 0;
}
