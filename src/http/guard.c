#include "http/guard.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <strings.h>
#include <sys/socket.h>

#define HOST_SIZE 256 /* DNS names have up to 253 characters */

/* The name of "name:80" or "[::1]:80", without brackets, port and final dot.  False: it has
 * no shape. */
static bool take_name(const char *host, char ret[HOST_SIZE])
{
    bool is_bracketed = *host == '[';
    const char *start = host + is_bracketed;
    size_t n = strcspn(start, is_bracketed ? "]" : ":");
    const char *rest = start + n + (is_bracketed && start[n] == ']');

    if (n == 0 || n >= HOST_SIZE || (is_bracketed && start[n] != ']'))
        return false;
    if (*rest && (*rest != ':' || strspn(rest + 1, "0123456789") != strlen(rest + 1)))
        return false;
    memcpy(ret, start, n);
    if (!is_bracketed && n > 1 && ret[n - 1] == '.')
        n--;
    ret[n] = '\0';
    return true;
}

static bool is_loopback_name(const char *name)
{
    static const char local[] = ".localhost";
    size_t n = strlen(name), m = strlen(local);
    struct in6_addr six;
    struct in_addr four;

    if (strcasecmp(name, "localhost") == 0 ||
        (n > m && strcasecmp(name + n - m, local) == 0))
        return true;
    if (inet_pton(AF_INET, name, &four) == 1)
        return ntohl(four.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, name, &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six);
}

/* Is name the address that the connection came to?  A unix socket takes any. */
static bool is_local_address(const char *name, int fd)
{
    struct sockaddr_storage addr = {0};
    socklen_t len = sizeof(addr);
    const struct in6_addr *mine;
    struct in6_addr six;
    struct in_addr four;

    if (getsockname(fd, (struct sockaddr *)&addr, &len) < 0)
        return false;
    switch (addr.ss_family) {
    case AF_UNIX:
        return true;
    case AF_INET:
        return inet_pton(AF_INET, name, &four) == 1 &&
               four.s_addr == ((struct sockaddr_in *)&addr)->sin_addr.s_addr;
    case AF_INET6:
        mine = &((struct sockaddr_in6 *)&addr)->sin6_addr;
        if (IN6_IS_ADDR_V4MAPPED(mine) && inet_pton(AF_INET, name, &four) == 1)
            return memcmp(&mine->s6_addr[12], &four, sizeof(four)) == 0;
        return inet_pton(AF_INET6, name, &six) == 1 && IN6_ARE_ADDR_EQUAL(&six, mine);
    default:
        return false;
    }
}

static bool is_one_of(const char *name, const char *list)
{
    size_t len = strlen(name);

    for (list += strspn(list, " \t"); *list; list += strspn(list, " \t")) {
        size_t n = strcspn(list, " \t");

        if (n == len && strncasecmp(list, name, n) == 0)
            return true;
        list += n;
    }
    return false;
}

bool guard_host_is_ours(const char *host, const char *hosts, int fd)
{
    char name[HOST_SIZE];

    if (is_local_address("", fd)) /* unix */
        return true;
    return take_name(host, name) && (is_loopback_name(name) || is_one_of(name, hosts) ||
                                     is_local_address(name, fd));
}

bool guard_origin_is_ours(const char *origin, const char *origins, const char *host,
                          bool is_tls)
{
    const char *rest = strstr(origin, "://");

    if (is_one_of(origin, origins))
        return true;
    if (is_tls && strncasecmp(origin, "https://", 8) != 0)
        return false;
    return rest && host && *host && strcasecmp(rest + 3, host) == 0;
}

int guard_check(const char *host, const char *origin, const char *hosts,
                const char *origins, int fd, bool is_tls, const char **ret_reason,
                struct pt2_err *err)
{
    *ret_reason = "host";
    if (host && !guard_host_is_ours(host, hosts, fd))
        return pt2_err_set(err, PT2_ERR_FORBIDDEN,
                           "the Host '%.100s' is none of this daemon's; http.hosts in "
                           "pt2d.conf lists further ones",
                           host);
    *ret_reason = "origin";
    if (origin && !guard_origin_is_ours(origin, origins, host, is_tls))
        return pt2_err_set(err, PT2_ERR_FORBIDDEN,
                           "pages of '%.100s' may not send requests; http.origins in "
                           "pt2d.conf lists those that may",
                           origin);
    return 0;
}

/* ---- what the configuration says ---- */

static bool is_host(const char *word, size_t n)
{
    char name[HOST_SIZE];
    struct in6_addr six;

    if (n >= sizeof(name))
        return false;
    memcpy(name, word, n);
    name[n] = '\0';
    return strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") ==
               n ||
           inet_pton(AF_INET6, name, &six) == 1;
}

static bool is_origin(const char *word, size_t n)
{
    static const char scheme_chars[] = "abcdefghijklmnopqrstuvwxyz0123456789+-.";
    char origin[2 * HOST_SIZE], name[HOST_SIZE];
    const char *rest;

    if (n >= sizeof(origin))
        return false;
    memcpy(origin, word, n);
    origin[n] = '\0';
    rest = strstr(origin, "://");
    if (!rest) /* that of a page of no origin */
        return streq(origin, "null");
    return rest > origin && strspn(origin, scheme_chars) == (size_t)(rest - origin) &&
           take_name(rest + 3, name) && is_host(name, strlen(name));
}

static int check_words(const char *list, const char *param,
                       bool (*is_good)(const char *, size_t), const char *due,
                       struct pt2_err *err)
{
    size_t n;

    for (list += strspn(list, " \t"); *list; list += n, list += strspn(list, " \t")) {
        n = strcspn(list, " \t");
        if (!is_good(list, n))
            return pt2_err_set(err, PT2_ERR_INVALID, "%s: '%.*s' is no %s", param,
                               (int)MIN(n, (size_t)100), list, due);
    }
    return 0;
}

int guard_check_config(const char *hosts, const char *origins, struct pt2_err *err)
{
    return check_words(hosts, "http.hosts", is_host, "host's name without a port", err) < 0
               ? -1
               : check_words(origins, "http.origins", is_origin,
                             "origin, as https://tools.example", err);
}
