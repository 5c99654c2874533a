#include "http/audit.h"

#include "base/log.h"
#include "http/exchange.h"

#include <netdb.h>
#include <sys/socket.h>

static bool is_change(const struct http_exchange *x)
{
    const struct route *route = x->req.route;

    return route && !streq(route->method, "GET") && !(route->flags & HTTP_ROUTINE);
}

/* ---- where it came from ---- */

static void put_unix_peer(int fd, char *to, size_t size)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0)
        snprintf(to, size, "uid:%lld", (long long)peer.uid);
}

static void put_peer(int fd, char *to, size_t size)
{
    struct sockaddr_storage addr;
    socklen_t len = sizeof(addr);
    char host[NI_MAXHOST], port[NI_MAXSERV];
    bool is_six;

    if (getpeername(fd, (struct sockaddr *)&addr, &len) < 0)
        return;
    is_six = addr.ss_family == AF_INET6;
    if (addr.ss_family == AF_UNIX)
        put_unix_peer(fd, to, size);
    else if (getnameinfo((struct sockaddr *)&addr, len, host, sizeof(host), port,
                         sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV) == 0)
        snprintf(to, size, "%s%.60s%s:%.6s", is_six ? "[" : "", host, is_six ? "]" : "",
                 port);
}

/* ---- what was changed ---- */

void audit_note(struct http_exchange *x, struct MHD_Response *response,
                const json_t *json)
{
    struct audit_facts *facts = &x->audit;
    const char *location, *end, *program;

    if (!is_change(x))
        return;
    put_peer(x->fd, facts->from, sizeof(facts->from));
    location = response ? MHD_get_response_header(response, "Location") : NULL;
    end = location ? strrchr(location, '/') : NULL;
    if (end)
        snprintf(facts->id, sizeof(facts->id), "%s", end + 1);
    program = json_string_value(json_object_get(json, "program"));
    if (program)
        snprintf(facts->program, sizeof(facts->program), "%s", program);
}

/* The {…} parts of the path. */
static void put_named(const struct http_exchange *x, char *to, size_t size)
{
    size_t n = 0;

    to[0] = '\0';
    for (size_t i = 0; i < HTTP_MAX_PARAMS && x->req.params[i] && n < size; i++)
        n += (size_t)snprintf(to + n, size - n, "%s%s", i ? " " : "", x->req.params[i]);
}

void audit_line(const struct http_exchange *x, unsigned status)
{
    char action[120], named[300], code[8];
    bool is_made;

    if (!is_change(x))
        return;
    snprintf(action, sizeof(action), "%s %s", x->req.route->method, x->req.route->path);
    snprintf(code, sizeof(code), "%u", status);
    put_named(x, named, sizeof(named));
    is_made = x->audit.id[0] != '\0';
    log_with(LOG_LEVEL_INFO,
             (const struct log_field[]){
                 {"action", action},
                 {"id", is_made ? x->audit.id : named},
                 {"of", is_made ? named : NULL},
                 {"program", x->audit.program},
                 {"who", x->req.caller.owner},
                 {"from", x->audit.from},
                 {"outcome", status == 0     ? "unanswered"
                             : x->problem[0] ? x->problem
                                             : "done"},
                 {"status", code},
                 {"request", x->req.id},
                 {NULL, NULL}},
             "audit");
}
