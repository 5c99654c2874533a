#include "http/watcher.h"

#include "base/log.h"
#include "base/metrics.h"
#include "http/clients.h"
#include "http/exchange.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#define ROUND_MS        1000  /* the watcher comes round at least this often */
#define POKE_MS         100   /* and this often while libmicrohttpd overlooks a close */
#define ACCEPTS_A_ROUND 64    /* so that accepting does not hold up the rest */
#define LINGER_MS       10000 /* what a client that still sends gets to read its reply */
#define LINGER_MAX      64
#define LINGER_BYTES    (4 << 20) /* read from one of them in one round */
#define YOUNG_MS        1000      /* a connection this young is not cut to make room */
#define FULL_MS         100       /* how often to look for one that is old enough */

/* What an event is about: the high half of its data; the low one is the descriptor. */
enum about { ABOUT_WAKE, ABOUT_LISTENER, ABOUT_LINK, ABOUT_LINGER };

struct lingering {
    int fd;
    int64_t due_ms;
};

struct telling {
    struct telling *next;
    struct http_exchange *x; /* a reference */
    unsigned why;
};

struct watcher {
    const struct listener *listeners;
    size_t n_listeners, max_links;
    struct clients *clients;
    struct MHD_Daemon *daemon, *tls_daemon;
    int epoll_fd, wake_fd;
    pthread_t thread;
    bool has_thread;
    _Atomic int64_t last_round_ms;

    pthread_mutex_t lock;     /* guards what follows */
    struct http_link **links; /* by descriptor */
    size_t n_slots, n_links;
    size_t n_displaced; /* of these: cut to make room, and not yet gone */
    struct telling *tellings;
    struct lingering lingering[LINGER_MAX];
    size_t n_lingering;
    int64_t next_scan_ms;
    bool is_stopping, is_forced;
    bool accepts;             /* wanted */
    bool is_accepting;        /* the listeners are in the epoll set */
    int64_t accept_at_ms;     /* not before: after running out of descriptors */
    bool tell_poll, tell_all; /* HTTP_SHUTDOWN */
};

/* ---- life ---- */

static void set_event(struct watcher *w, int op, uint32_t events, enum about about,
                      int fd)
{
    struct epoll_event event = {.events = events,
                                .data.u64 = (uint64_t)about << 32 | (uint32_t)fd};

    (void)epoll_ctl(w->epoll_fd, op, fd, &event);
}

static void wake(struct watcher *w)
{
    uint64_t one = 1;

    if (write(w->wake_fd, &one, sizeof(one)) < 0)
        return; /* full: it will wake anyway */
}

static struct http_link *link_at_locked(struct watcher *w, int fd)
{
    return (size_t)fd < w->n_slots ? w->links[fd] : NULL;
}

static void drop_link_locked(struct watcher *w, int fd)
{
    w->n_displaced -= w->links[fd]->is_displaced;
    client_disconnect(w->links[fd]->client);
    free(w->links[fd]);
    w->links[fd] = NULL;
    w->n_links--;
    metrics_set(METRIC_HTTP_CONNECTIONS, (double)w->n_links, NULL);
}

int watcher_new(const struct listener *listeners, size_t n_listeners, size_t max_links,
                struct clients *clients, struct watcher **ret_watcher,
                struct pt2_err *err)
{
    struct watcher *w = calloc(1, sizeof(*w));

    if (!w)
        return pt2_err_set(err, PT2_ERR_NOMEM, "watcher");
    w->listeners = listeners;
    w->n_listeners = n_listeners;
    w->max_links = max_links;
    w->clients = clients;
    metrics_set(METRIC_HTTP_CONNECTIONS_LIMIT, (double)max_links, NULL);
    w->accepts = true;
    pthread_mutex_init(&w->lock, NULL);
    w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (w->epoll_fd < 0 || w->wake_fd < 0) {
        pt2_err_errno(err, PT2_ERR_IO, "watcher");
        watcher_free(w);
        return -1;
    }
    set_event(w, EPOLL_CTL_ADD, EPOLLIN, ABOUT_WAKE, w->wake_fd);
    *ret_watcher = w;
    return 0;
}

void watcher_free(struct watcher *w)
{
    if (!w)
        return;
    watcher_stop(w);
    for (size_t i = 0; i < w->n_slots; i++)
        if (w->links[i])
            drop_link_locked(w, (int)i);
    free(w->links);
    if (w->epoll_fd >= 0)
        close(w->epoll_fd);
    if (w->wake_fd >= 0)
        close(w->wake_fd);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

/* ---- links ---- */

/* Make the link of an accepted descriptor, with its client (taken on success).  NULL: out
 * of memory. */
static struct http_link *make_link_locked(struct watcher *w, int fd,
                                          struct client *client)
{
    struct http_link *link = calloc(1, sizeof(*link));

    if (!link)
        return NULL;
    if ((size_t)fd >= w->n_slots) {
        size_t n = MAX((size_t)fd + 1, w->n_slots * 2);
        struct http_link **grown = realloc(w->links, n * sizeof(struct http_link *));

        if (!grown) {
            free(link);
            return NULL;
        }
        memset(grown + w->n_slots, 0, (n - w->n_slots) * sizeof(*grown));
        w->links = grown;
        w->n_slots = n;
    }
    if (w->links[fd]) /* libmicrohttpd closed it without a word: it had no memory */
        drop_link_locked(w, fd);
    link->fd = fd;
    link->client = client;
    link->deadline_ms = INT64_MAX;
    link_expect_nothing(link);
    w->links[fd] = link;
    w->n_links++;
    metrics_set(METRIC_HTTP_CONNECTIONS, (double)w->n_links, NULL);
    set_event(w, EPOLL_CTL_ADD, EPOLLRDHUP | EPOLLONESHOT, ABOUT_LINK, fd);
    return link;
}

struct http_link *watcher_opened(struct watcher *w, int fd)
{
    struct http_link *link;

    pthread_mutex_lock(&w->lock);
    link = link_at_locked(w, fd);
    pthread_mutex_unlock(&w->lock);
    return link;
}

void watcher_closed(struct watcher *w, struct http_link *link)
{
    bool is_wanted;

    pthread_mutex_lock(&w->lock);
    drop_link_locked(w, link->fd);
    is_wanted = w->accepts && !w->is_accepting;
    pthread_mutex_unlock(&w->lock);
    if (is_wanted)
        wake(w);
}

void watcher_serves(struct watcher *w, struct http_link *link, struct http_exchange *x)
{
    pthread_mutex_lock(&w->lock);
    link->x = x;
    link->deadline_ms = INT64_MAX;
    pthread_mutex_unlock(&w->lock);
}

bool watcher_wait(struct watcher *w, struct http_link *link, int64_t deadline_ms)
{
    bool may, must_wake = false;

    pthread_mutex_lock(&w->lock);
    may = !w->is_forced;
    if (may) {
        link->waiting = true;
        link->deadline_ms = deadline_ms;
        set_event(w, EPOLL_CTL_MOD, EPOLLRDHUP | EPOLLONESHOT, ABOUT_LINK, link->fd);
        must_wake = deadline_ms < w->next_scan_ms || w->tell_poll || w->tell_all;
        w->next_scan_ms = MIN(w->next_scan_ms, deadline_ms);
    }
    pthread_mutex_unlock(&w->lock);
    if (must_wake)
        wake(w);
    return may;
}

bool watcher_pace(struct watcher *w, struct http_link *link, struct http_exchange *x,
                  bool is_upload, int64_t at_ms)
{
    bool may, must_wake = false;

    pthread_mutex_lock(&w->lock);
    may = !w->is_forced && !(is_upload && link->is_closed);
    if (may) {
        link->paced = x;
        link->is_paced_upload = is_upload;
        link->paced_until_ms = at_ms;
        must_wake = at_ms < w->next_scan_ms;
        w->next_scan_ms = MIN(w->next_scan_ms, at_ms);
    }
    pthread_mutex_unlock(&w->lock);
    if (must_wake)
        wake(w);
    return may;
}

void watcher_set_deadline(struct watcher *w, struct http_link *link, int64_t deadline_ms)
{
    bool must_wake;

    pthread_mutex_lock(&w->lock);
    link->deadline_ms = deadline_ms;
    must_wake = deadline_ms < w->next_scan_ms;
    w->next_scan_ms = MIN(w->next_scan_ms, deadline_ms);
    pthread_mutex_unlock(&w->lock);
    if (must_wake)
        wake(w);
}

void watcher_unwait(struct watcher *w, struct http_link *link)
{
    pthread_mutex_lock(&w->lock);
    link->waiting = false;
    link->deadline_ms = INT64_MAX;
    pthread_mutex_unlock(&w->lock);
}

void watcher_tell(struct watcher *w, struct http_exchange *x, unsigned why)
{
    struct telling *t = malloc(sizeof(*t));

    if (!t)
        return; /* no memory: its next write or reply finds out */
    exchange_ref(x);
    *t = (struct telling){.x = x, .why = why};
    pthread_mutex_lock(&w->lock);
    t->next = w->tellings;
    w->tellings = t;
    pthread_mutex_unlock(&w->lock);
    wake(w);
}

size_t watcher_n_links(struct watcher *w)
{
    size_t n;

    pthread_mutex_lock(&w->lock);
    n = w->n_links;
    pthread_mutex_unlock(&w->lock);
    return n;
}

int64_t watcher_last_round_ms(const struct watcher *w)
{
    return atomic_load(&w->last_round_ms);
}

/* ---- accepting ---- */

static void set_accepting_locked(struct watcher *w, bool on)
{
    if (on == w->is_accepting)
        return;
    w->is_accepting = on;
    for (size_t i = 0; i < w->n_listeners; i++)
        set_event(w, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, EPOLLIN, ABOUT_LISTENER,
                  w->listeners[i].fd);
}

/* The connection to be cut where there is no room: the one whose header, or else whose
 * handshake, has been coming for the longest time, which takes a moment where it is meant well;
 * otherwise the one that was silent between requests for the longest.  NULL: all are young, or at work. */
static struct http_link *find_idlest_locked(const struct watcher *w, int64_t now)
{
    struct http_link *found[LINK_BODY] = {NULL}; /* by what they are late with */

    for (size_t i = 0; i < w->n_slots; i++) {
        struct http_link *link = w->links[i];
        int what = link ? atomic_load(&link->due_what) : LINK_BODY;

        if (what == LINK_BODY || !link_is_expected(link) ||
            now - atomic_load(&link->since_ms) < YOUNG_MS)
            continue;
        if (!found[what] ||
            atomic_load(&link->since_ms) < atomic_load(&found[what]->since_ms))
            found[what] = link;
    }
    return found[LINK_HEADER] ?: found[LINK_HANDSHAKE] ?: found[LINK_IDLE];
}

/* Somebody waits to be accepted.  Its end is seen to by libmicrohttpd, soon. */
static void make_room(struct watcher *w)
{
    struct http_link *link = NULL;

    pthread_mutex_lock(&w->lock);
    if (w->accepts && w->n_links >= w->max_links && w->n_displaced == 0)
        link = find_idlest_locked(w, http_now_ms());
    if (link) {
        shutdown(link->fd, SHUT_RDWR);
        link_expect_nothing(link);
        link->is_displaced = true;
        w->n_displaced++;
        metrics_add(METRIC_HTTP_DISPLACED, 1, NULL);
    }
    pthread_mutex_unlock(&w->lock);
}

static void update_accepting(struct watcher *w, int64_t now)
{
    bool is_full, may;

    pthread_mutex_lock(&w->lock);
    is_full = w->n_links >= w->max_links;
    may = w->accepts && now >= w->accept_at_ms;
    if (may && is_full) /* who waits may have the place of an idle one */
        may = w->n_displaced == 0 && find_idlest_locked(w, now);
    set_accepting_locked(w, may);
    if (w->accepts && !may && w->accept_at_ms > now)
        w->next_scan_ms = MIN(w->next_scan_ms, w->accept_at_ms);
    else if (w->accepts && !may)
        w->next_scan_ms = MIN(w->next_scan_ms, now + FULL_MS);
    pthread_mutex_unlock(&w->lock);
}

static bool may_accept(struct watcher *w)
{
    bool may;

    pthread_mutex_lock(&w->lock);
    may = w->accepts && w->n_links < w->max_links;
    pthread_mutex_unlock(&w->lock);
    return may;
}

static void accept_failed(struct watcher *w)
{
    if (errno != EMFILE && errno != ENFILE && errno != ENOMEM && errno != ENOBUFS)
        return; /* nobody there, or gone again */
    log_warning("cannot accept a connection: %s, trying again in a second",
                strerror(errno));
    pthread_mutex_lock(&w->lock);
    w->accept_at_ms = http_now_ms() + 1000;
    pthread_mutex_unlock(&w->lock);
}

static struct MHD_Daemon *daemon_of(const struct watcher *w, int listener)
{
    for (size_t i = 0; i < w->n_listeners; i++)
        if (w->listeners[i].fd == listener && w->listeners[i].is_tls)
            return w->tls_daemon;
    return w->daemon;
}

/* A client that has as many connections as it may have: say so and close, at once.  Where it
 * does not hear it, others wait for its place.  Over TLS a handshake would have to come first,
 * so there it is closed without a word. */
static void turn_away(struct watcher *w, bool is_tls, int fd)
{
    static const char answer[] =
        "HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\nRetry-After: 1\r\n"
        "Cache-Control: no-store\r\nContent-Type: application/problem+json\r\n\r\n"
        "{\"type\":\"/problems/too-many-connections\",\"title\":\"Too many "
        "connections\",\"status\":429,\"detail\":\"this address has as many connections "
        "as one may have (http.max_connections_per_client)\"}\n";

    metrics_add(METRIC_HTTP_REFUSED, 1, METRICS_LABELS("connections"));
    if (!is_tls && send(fd, answer, strlen(answer), MSG_NOSIGNAL | MSG_DONTWAIT) > 0) {
        shutdown(fd, SHUT_WR);
        watcher_linger(w, fd);
    }
    close(fd);
}

/* The accepted descriptor's link; NULL: it is closed. */
static struct http_link *let_in(struct watcher *w, const struct sockaddr *addr, bool is_tls,
                                int fd)
{
    bool is_full;
    struct client *client = client_connect(w->clients, addr, fd, &is_full);
    struct http_link *link = NULL;

    if (is_full) {
        turn_away(w, is_tls, fd);
        return NULL;
    }
    pthread_mutex_lock(&w->lock);
    if (client)
        link = make_link_locked(w, fd, client);
    pthread_mutex_unlock(&w->lock);
    if (link)
        return link;
    if (client)
        client_disconnect(client);
    close(fd);
    return NULL;
}

static void take_connections(struct watcher *w, int listener)
{
    struct MHD_Daemon *daemon = daemon_of(w, listener);

    for (int i = 0; i < ACCEPTS_A_ROUND && may_accept(w); i++) {
        struct sockaddr_storage addr;
        socklen_t len = sizeof(addr);
        int fd = accept4(listener, (struct sockaddr *)&addr, &len,
                         SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd < 0) {
            accept_failed(w);
            return;
        }
        if (!let_in(w, (struct sockaddr *)&addr, /* is_tls= */ daemon != w->daemon, fd))
            continue;
        /* It closes the descriptor where it fails. */
        if (MHD_add_connection(daemon, fd, (struct sockaddr *)&addr, len) != MHD_YES) {
            pthread_mutex_lock(&w->lock);
            drop_link_locked(w, fd);
            pthread_mutex_unlock(&w->lock);
        }
    }
}

void watcher_stop_accepting(struct watcher *w)
{
    pthread_mutex_lock(&w->lock);
    w->accepts = false;
    set_accepting_locked(w, false);
    pthread_mutex_unlock(&w->lock);
}

/* ---- lingering ---- */

void watcher_linger(struct watcher *w, int fd)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    bool has_room;

    if (copy < 0)
        return;
    pthread_mutex_lock(&w->lock);
    has_room = w->n_lingering < LINGER_MAX && !w->is_stopping;
    if (has_room) {
        w->lingering[w->n_lingering++] =
            (struct lingering){copy, http_now_ms() + LINGER_MS};
        /* The copy would keep it in the set after it is closed. */
        set_event(w, EPOLL_CTL_DEL, 0, ABOUT_LINK, fd);
        set_event(w, EPOLL_CTL_ADD, EPOLLIN, ABOUT_LINGER, copy);
    }
    pthread_mutex_unlock(&w->lock);
    if (!has_room)
        close(copy);
}

static void end_lingering(struct watcher *w, int fd)
{
    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; i < w->n_lingering; i++) {
        if (w->lingering[i].fd != fd)
            continue;
        w->lingering[i] = w->lingering[--w->n_lingering];
        /* While libmicrohttpd has the original open, closing the copy would leave it in the
         * set, to be taken for whoever gets its number next. */
        set_event(w, EPOLL_CTL_DEL, 0, ABOUT_LINGER, fd);
        close(fd);
        break;
    }
    pthread_mutex_unlock(&w->lock);
}

static void read_away(struct watcher *w, int fd)
{
    static char sink[64 << 10]; /* the watcher's thread alone */
    ssize_t n = 0, total = 0;

    while (total < LINGER_BYTES) {
        n = recv(fd, sink, sizeof(sink), MSG_DONTWAIT);
        if (n <= 0)
            break;
        total += n;
    }
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        end_lingering(w, fd);
}

/* ---- the scan: deadlines and time-outs ---- */

/* References to take along, so that callbacks run without the lock. */
struct picked {
    struct http_exchange *x;
    enum http_cancel why;
    bool is_paced; /* its pause is over; no why */
};

static void cut_slow_locked(struct http_link *link)
{
    static const char *const names[] = {"idle", "handshake", "header", "body"};
    int what = atomic_load(&link->due_what);

    /* libmicrohttpd sees an end of file and closes. */
    shutdown(link->fd, SHUT_RDWR);
    link_expect_nothing(link);
    metrics_add(METRIC_HTTP_TIMEOUTS, 1, METRICS_LABELS(names[what]));
}

/* libmicrohttpd 0.9.75 takes a short read for the end of what is there, so it overlooks a
 * close that came with the last bytes, and would wait until the client is late.  This has
 * its epoll tell it again; bytes that are still to be read stay. */
static void poke_locked(struct watcher *w, struct http_link *link, int64_t now)
{
    if (!link->is_closed || link->waiting || !link_is_expected(link))
        return;
    shutdown(link->fd, SHUT_RD);
    w->next_scan_ms = MIN(w->next_scan_ms, now + POKE_MS);
}

/* A pause that is over, or all of them: *ret is a reference. */
static bool pick_paced_locked(struct watcher *w, struct http_link *link, bool is_over,
                              struct picked *ret)
{
    if (!link->paced)
        return false;
    if (!is_over) {
        w->next_scan_ms = MIN(w->next_scan_ms, link->paced_until_ms);
        return false;
    }
    *ret = (struct picked){.x = TAKE(link->paced), .is_paced = true};
    exchange_ref(ret->x);
    return true;
}

static bool pick_locked(const struct watcher *w, struct http_link *link, int64_t now,
                        struct picked *ret)
{
    bool is_poll;

    if (!link->x)
        return false;
    is_poll = link->x->req.route->flags & HTTP_POLL;
    if (now >= link->deadline_ms) {
        link->deadline_ms = INT64_MAX;
        *ret = (struct picked){.x = link->x, .why = HTTP_DEADLINE};
    } else if (w->tell_all || (w->tell_poll && is_poll)) {
        *ret = (struct picked){.x = link->x, .why = HTTP_SHUTDOWN};
    } else {
        return false;
    }
    exchange_ref(link->x);
    return true;
}

/* Fill picked (room for max), from slot *at on. */
static size_t scan_locked(struct watcher *w, int64_t now, size_t *at,
                          struct picked *picked, size_t max)
{
    size_t n = 0;

    for (; *at < w->n_slots && n < max; ++*at) {
        struct http_link *link = w->links[*at];

        if (!link)
            continue;
        if (now >= atomic_load(&link->due_ms))
            cut_slow_locked(link);
        poke_locked(w, link, now);
        if (pick_paced_locked(w, link, now >= link->paced_until_ms, &picked[n]))
            n++;
        else if (pick_locked(w, link, now, &picked[n]))
            n++;
        w->next_scan_ms = MIN(w->next_scan_ms, link->deadline_ms);
    }
    return n;
}

static void scan(struct watcher *w, int64_t now)
{
    struct picked picked[64];
    size_t at = 0, n;

    pthread_mutex_lock(&w->lock);
    w->next_scan_ms = now + ROUND_MS;
    pthread_mutex_unlock(&w->lock);
    do {
        pthread_mutex_lock(&w->lock);
        n = scan_locked(w, now, &at, picked, ARRAY_LEN(picked));
        pthread_mutex_unlock(&w->lock);
        for (size_t i = 0; i < n; i++) {
            if (picked[i].is_paced)
                pace_over(picked[i].x);
            else
                exchange_cancel(picked[i].x, picked[i].why);
            exchange_unref(picked[i].x);
        }
    } while (n > 0);
    for (;;) {
        int late = -1;

        pthread_mutex_lock(&w->lock);
        for (size_t i = 0; i < w->n_lingering && late < 0; i++)
            if (now >= w->lingering[i].due_ms || w->is_stopping)
                late = w->lingering[i].fd;
        pthread_mutex_unlock(&w->lock);
        if (late < 0)
            break;
        end_lingering(w, late);
    }
}

static void tell(struct watcher *w)
{
    struct telling *list;

    pthread_mutex_lock(&w->lock);
    list = TAKE(w->tellings);
    pthread_mutex_unlock(&w->lock);
    while (list) {
        struct telling *t = list;

        list = t->next;
        for (int why = 0; why <= HTTP_SHUTDOWN; why++)
            if (t->why & 1u << why)
                exchange_cancel(t->x, (enum http_cancel)why);
        exchange_unref(t->x);
        free(t);
    }
}

/* ---- the thread ---- */

/* A socket has something to say: has its client closed, or half-closed? */
static void look_at_link(struct watcher *w, int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLRDHUP};
    struct http_exchange *x = NULL;
    struct picked paced = {0};
    struct http_link *link;

    pthread_mutex_lock(&w->lock);
    link = link_at_locked(w, fd);
    /* The descriptor may be another connection's by now, so ask again. */
    if (link && poll(&p, 1, 0) > 0 && p.revents & (POLLRDHUP | POLLHUP | POLLERR)) {
        link->is_closed = true;
        poke_locked(w, link, http_now_ms());
        if (link->waiting && link->x) {
            x = link->x;
            exchange_ref(x);
        }
        /* Who half-closes may still read; who has sent all that he will is read at once. */
        (void)pick_paced_locked(
            w, link, link->is_paced_upload || p.revents & (POLLHUP | POLLERR), &paced);
    }
    pthread_mutex_unlock(&w->lock);
    if (paced.x) {
        pace_over(paced.x);
        exchange_unref(paced.x);
    }
    if (x) {
        exchange_cancel(x, HTTP_CLIENT_GONE);
        exchange_unref(x);
    }
}

static void handle(struct watcher *w, const struct epoll_event *event)
{
    int fd = (int)(event->data.u64 & 0xffffffff);
    uint64_t count;

    switch ((enum about)(event->data.u64 >> 32)) {
    case ABOUT_WAKE:
        while (read(fd, &count, sizeof(count)) > 0)
            continue;
        break;
    case ABOUT_LISTENER:
        make_room(w);
        take_connections(w, fd);
        break;
    case ABOUT_LINK:
        look_at_link(w, fd);
        break;
    case ABOUT_LINGER:
        read_away(w, fd);
        break;
    }
}

/* Milliseconds until something is due; -1 where the thread is to end. */
static int time_left(struct watcher *w, int64_t now)
{
    int left;

    pthread_mutex_lock(&w->lock);
    left = (int)MAX(0, MIN(ROUND_MS, w->next_scan_ms - now));
    if (w->is_stopping && !w->tellings)
        left = -1;
    pthread_mutex_unlock(&w->lock);
    return left;
}

static bool is_scan_due(struct watcher *w, int64_t now)
{
    bool is_due;

    pthread_mutex_lock(&w->lock);
    is_due = now >= w->next_scan_ms || w->tell_all || w->tell_poll || w->is_stopping;
    pthread_mutex_unlock(&w->lock);
    return is_due;
}

static void *watch(void *arg)
{
    struct watcher *w = arg;
    struct epoll_event events[64];
    int left;

    pthread_setname_np(pthread_self(), "pt2-watcher");
    for (;;) {
        int64_t now = http_now_ms();
        int n;

        atomic_store(&w->last_round_ms, now);
        if (is_scan_due(w, now))
            scan(w, now);
        tell(w);
        update_accepting(w, now);
        left = time_left(w, now);
        if (left < 0)
            return NULL;
        n = epoll_wait(w->epoll_fd, events, ARRAY_LEN(events), left);
        for (int i = 0; i < n; i++)
            handle(w, &events[i]);
    }
}

int watcher_start(struct watcher *w, struct MHD_Daemon *daemon,
                  struct MHD_Daemon *tls_daemon, struct pt2_err *err)
{
    w->daemon = daemon;
    w->tls_daemon = tls_daemon;
    atomic_store(&w->last_round_ms, http_now_ms());
    errno = pthread_create(&w->thread, NULL, watch, w);
    if (errno)
        return pt2_err_errno(err, PT2_ERR_IO, "watcher");
    w->has_thread = true;
    return 0;
}

void watcher_stop(struct watcher *w)
{
    if (!w->has_thread)
        return;
    pthread_mutex_lock(&w->lock);
    w->is_stopping = true;
    pthread_mutex_unlock(&w->lock);
    wake(w);
    pthread_join(w->thread, NULL);
    w->has_thread = false;
    while (w->n_lingering > 0)
        end_lingering(w, w->lingering[0].fd);
}

/* ---- shutdown ---- */

void watcher_shut_down(struct watcher *w, bool all)
{
    pthread_mutex_lock(&w->lock);
    w->tell_poll = true;
    w->tell_all |= all;
    pthread_mutex_unlock(&w->lock);
    wake(w);
}

size_t watcher_force(struct watcher *w)
{
    size_t at = 0, n, n_waiting = 0;

    do {
        struct http_exchange *waiting[64], *pacing[64];
        size_t n_paced = 0;

        n = 0;
        pthread_mutex_lock(&w->lock);
        w->is_forced = true;
        for (; at < w->n_slots && n < ARRAY_LEN(waiting) && n_paced < ARRAY_LEN(pacing);
             at++) {
            struct http_link *link = w->links[at];
            struct picked paced;

            if (link && pick_paced_locked(w, link, true, &paced))
                pacing[n_paced++] = paced.x;
            if (!link || !link->waiting || !link->x)
                continue;
            waiting[n++] = link->x;
            exchange_ref(link->x);
        }
        pthread_mutex_unlock(&w->lock);
        for (size_t i = 0; i < n; i++) {
            exchange_force(waiting[i]);
            exchange_unref(waiting[i]);
        }
        for (size_t i = 0; i < n_paced; i++) {
            pace_over(pacing[i]);
            exchange_unref(pacing[i]);
        }
        n += n_paced;
        n_waiting += n;
    } while (n > 0);
    return n_waiting;
}
