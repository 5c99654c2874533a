#include "http/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#ifdef HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

#define BACKLOG 1024

/* ---- what a socket is called ---- */

static bool is_loopback(const struct sockaddr_storage *addr)
{
    const struct in6_addr *six = &((const struct sockaddr_in6 *)addr)->sin6_addr;

    if (addr->ss_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)addr)->sin_addr.s_addr) >> 24 == 127;
    return addr->ss_family == AF_INET6 &&
           (IN6_IS_ADDR_LOOPBACK(six) ||
            (IN6_IS_ADDR_V4MAPPED(six) && six->s6_addr[12] == 127));
}

static void name_listener(struct listener *l)
{
    struct sockaddr_storage addr = {0};
    socklen_t len = sizeof(addr);
    char host[80], port[8];

    if (getsockname(l->fd, (struct sockaddr *)&addr, &len) < 0)
        return;
    if (addr.ss_family == AF_UNIX) {
        l->is_unix = l->is_loopback = true;
        snprintf(l->name, sizeof(l->name), "unix:%s",
                 ((struct sockaddr_un *)&addr)->sun_path);
        return;
    }
    l->is_loopback = is_loopback(&addr);
    if (getnameinfo((struct sockaddr *)&addr, len, host, sizeof(host), port,
                           sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV) == 0) {
        snprintf(l->name, sizeof(l->name),
                 addr.ss_family == AF_INET6 ? "%s[%s]:%s" : "%s%s:%s",
                 l->is_tls ? "https:" : "", host, port);
    }
}

/* ---- unix sockets ---- */

/* Is this a socket that nobody listens on any more? */
static bool is_stale(const struct sockaddr_un *addr)
{
    AUTO_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct stat st;

    if (fd < 0 || lstat(addr->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return false;
    return connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0 &&
           errno == ECONNREFUSED;
}

static int open_unix(const char *path, unsigned mode, struct listener *l,
                     struct pt2_err *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    if (!*path || strlen(path) >= sizeof(addr.sun_path))
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "unix:%s: the path must have 1 to %zu bytes", path,
                           sizeof(addr.sun_path) - 1);
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
    l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (l->fd < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "unix:%s", path);
    if (is_stale(&addr))
        unlink(path);
    if (bind(l->fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "unix:%s", path);
    snprintf(l->path, sizeof(l->path), "%s", path);
    if (chmod(path, mode) < 0 || listen(l->fd, BACKLOG) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "unix:%s", path);
    return 0;
}

/* ---- TCP ---- */

/* HOST:PORT or [HOST]:PORT, taken apart. */
static int split_address(char *text, char **ret_host, char **ret_port,
                         struct pt2_err *err)
{
    char *colon = strrchr(text, ':');
    char *end;
    long port;

    if (!colon || colon == text)
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "'%s' is no address: HOST:PORT, [IPV6]:PORT, either after "
                           "https:, or unix:PATH",
                           text);
    port = strtol(colon + 1, &end, 10);
    if (end == colon + 1 || *end || port < 0 || port > 65535)
        return pt2_err_set(err, PT2_ERR_INVALID, "'%s': the port must be 0 to 65535",
                           text);
    *colon = '\0';
    *ret_port = colon + 1;
    *ret_host = text;
    if (*text == '[' && ends_with(text, "]")) {
        colon[-1] = '\0';
        *ret_host = text + 1;
    } else if (strchr(text, ':')) {
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "'%s:%s': an IPv6 address stands in brackets, as [::1]:8250",
                           text, colon + 1);
    }
    return 0;
}

static int listen_at(const struct addrinfo *info, struct listener *l)
{
    int one = 1;

    l->fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (l->fd < 0)
        return -1;
    setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (info->ai_family == AF_INET6)
        setsockopt(l->fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
    if (bind(l->fd, info->ai_addr, info->ai_addrlen) < 0 || listen(l->fd, BACKLOG) < 0) {
        int e = errno;

        close(TAKE_FD(l->fd));
        errno = e;
        return -1;
    }
    return 0;
}

static int open_tcp(const char *address, struct listener *l, struct pt2_err *err)
{
    struct addrinfo hints = {.ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM};
    struct addrinfo *infos = NULL;
    AUTO_PTR char *text = strdup(address);
    char *host = NULL, *port = NULL;
    int e;

    if (!text)
        return pt2_err_set(err, PT2_ERR_NOMEM, "address");
    if (split_address(text, &host, &port, err) < 0)
        return -1;
    e = getaddrinfo(host, port, &hints, &infos);
    if (e)
        return pt2_err_set(err, PT2_ERR_INVALID, "'%s': %s", address, gai_strerror(e));
    for (struct addrinfo *i = infos; i && l->fd < 0; i = i->ai_next)
        (void)listen_at(i, l);
    e = errno;
    freeaddrinfo(infos);
    errno = e;
    if (l->fd < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "cannot listen on '%s'", address);
    return 0;
}

/* ---- all of them ---- */

static int open_one(const char *address, unsigned mode, struct listener *l,
                    struct pt2_err *err)
{
    const char *path = after_prefix(address, "unix:");
    const char *tls = after_prefix(address, "https:");

    *l = (struct listener){.fd = -1, .is_tls = tls != NULL};
    if ((path ? open_unix(path, mode, l, err) : open_tcp(tls ? tls : address, l, err)) <
        0) {
        listeners_close(l, 1);
        return -1;
    }
    name_listener(l);
    return 0;
}

int listeners_open(const char *addresses, unsigned mode,
                   struct listener ret[LISTENERS_MAX], size_t *ret_n, struct pt2_err *err)
{
    AUTO_PTR char *text = strdup(addresses);
    char *state = NULL;
    size_t n = 0;

    if (!text)
        return pt2_err_set(err, PT2_ERR_NOMEM, "addresses");
    for (char *a = strtok_r(text, " \t", &state); a; a = strtok_r(NULL, " \t", &state)) {
        if (n == LISTENERS_MAX)
            pt2_err_set(err, PT2_ERR_INVALID, "more than %d addresses", LISTENERS_MAX);
        if (n == LISTENERS_MAX || open_one(a, mode, &ret[n], err) < 0) {
            listeners_close(ret, n);
            return -1;
        }
        n++;
    }
    if (n == 0)
        return pt2_err_set(err, PT2_ERR_INVALID, "no address to listen on");
    *ret_n = n;
    return 0;
}

#ifdef HAVE_SYSTEMD
/* name, the unit's FileDescriptorName=, may be NULL. */
static int inherit_one(int fd, const char *name, struct listener *l, struct pt2_err *err)
{
    if (sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, /* listening= */ 1) <= 0)
        return pt2_err_set(err, PT2_ERR_IO,
                           "the passed descriptor %d is no listening stream socket", fd);
    if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "the passed descriptor %d", fd);
    *l = (struct listener){.fd = fd, .is_tls = name && after_prefix(name, "https")};
    name_listener(l);
    if (l->is_unix && l->is_tls)
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "%s is called '%s': there is no TLS over unix sockets", l->name,
                           name);
    return 0;
}

int listeners_inherit(struct listener ret[LISTENERS_MAX], size_t *ret_n,
                      struct pt2_err *err)
{
    char **names = NULL;
    int n = sd_listen_fds_with_names(/* unset_environment= */ 1, &names), r = 0;

    *ret_n = 0;
    if (n < 0) {
        errno = -n;
        return pt2_err_errno(err, PT2_ERR_IO, "socket activation");
    }
    if (n > LISTENERS_MAX)
        r = pt2_err_set(err, PT2_ERR_IO, "%d sockets were passed, %d is the most", n,
                        LISTENERS_MAX);
    for (int i = 0; i < n && r == 0; i++)
        r = inherit_one(SD_LISTEN_FDS_START + i, names ? names[i] : NULL, &ret[i], err);
    for (int i = 0; names && names[i]; i++)
        free(names[i]);
    free(names);
    if (r == 0)
        *ret_n = (size_t)n;
    return r;
}
#else
int listeners_inherit(struct listener ret[LISTENERS_MAX], size_t *ret_n,
                      struct pt2_err *err)
{
    (void)ret;
    (void)err;
    *ret_n = 0;
    return 0;
}
#endif

void listeners_close(struct listener *listeners, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (listeners[i].fd >= 0)
            close(TAKE_FD(listeners[i].fd));
        if (listeners[i].path[0])
            unlink(listeners[i].path);
        listeners[i].path[0] = '\0';
    }
}
