#include "http/server.h"

#include "base/log.h"
#include "base/metrics.h"
#include "http/arriving.h"
#include "http/auth.h"
#include "http/clients.h"
#include "http/config.h"
#include "http/epoll.h"
#include "http/exchange.h"
#include "http/guard.h"
#include "http/pool.h"
#include "http/server_parts.h"
#include "http/tls_peer.h"
#include "http/watcher.h"

#include <gnutls/abstract.h>
#include <stdarg.h>
#include <sys/random.h>

/* Read buffer and reply header of one connection come out of this. */
#define CONNECTION_MEMORY (64 << 10)
#define UPLOAD_NICE       10
#define FLUSH_MS          1000 /* what replies get to leave before the connections are cut */

/* ---- libmicrohttpd's callbacks, on the connection's HTTP thread ---- */

static void expect_first(struct http_server *server, struct http_link *link,
                         struct MHD_Connection *conn)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(conn, MHD_CONNECTION_INFO_GNUTLS_SESSION);
    int64_t now = http_now_ms();

    if (!info) {
        link_expect(link, LINK_IDLE, now + server->limits.idle_timeout_ms);
        return;
    }
    link_expect(link, LINK_HANDSHAKE, now + server->limits.header_timeout_ms);
    link->tls = tls_peer_new(server->tls, info->tls_session, link,
                             server->limits.idle_timeout_ms);
}

static void connection_changed(void *context, struct MHD_Connection *conn,
                               void **socket_context,
                               enum MHD_ConnectionNotificationCode what)
{
    struct http_server *server = context;
    const union MHD_ConnectionInfo *info;
    struct http_link *link = *socket_context;

    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        info = MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD);
        link = watcher_opened(server->watcher, info->connect_fd);
        *socket_context = link;
        if (link)
            expect_first(server, link, conn);
    } else if (link) {
        *socket_context = NULL;
        tls_peer_free(TAKE(link->tls));
        watcher_closed(server->watcher, link);
    }
}

static struct http_link *link_of(struct MHD_Connection *conn)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(conn, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

    return info->socket_context;
}

/* The request line is there, as it came. */
static void *request_begun(void *context, const char *target, struct MHD_Connection *conn)
{
    struct http_server *server = context;
    struct http_link *link = link_of(conn);
    struct http_exchange *x;

    if (!link)
        return NULL;
    link_expect(link, LINK_HEADER, http_now_ms() + server->limits.header_timeout_ms);
    x = exchange_new(server, link, link->fd, target ? target : "");
    if (!x)
        return NULL;
    x->conn = conn;
    x->target_at = target;
    arriving_begin(x);
    return x;
}

static enum MHD_Result begin(struct http_exchange *x, const char *method,
                             const char *version)
{
    arriving_end(x);
    x->counted = true;
    atomic_fetch_add(&x->server->n_active, 1);
    metrics_add(METRIC_HTTP_ACTIVE, 1, NULL);
    return intake(x, method, version);
}

static enum MHD_Result access_request(void *context, struct MHD_Connection *conn,
                                      const char *url, const char *method,
                                      const char *version, const char *data, size_t *len,
                                      void **request_context)
{
    struct http_exchange *x = *request_context;

    (void)context;
    (void)conn;
    (void)url;
    if (!x)
        return MHD_NO; /* no memory */
    switch (x->phase) {
    case PHASE_NEW:
        return begin(x, method, version);
    case PHASE_BODY:
        return *len > 0 ? body_take(x, data, len) : body_end(x);
    case PHASE_DISCARD:
        if (*len == 0) {
            link_expect_nothing(x->link);
            return exchange_answer(x);
        }
        *len = 0;
        return MHD_YES;
    case PHASE_SERVED:
        return exchange_answer(x);
    case PHASE_QUEUED:
        break;
    }
    return MHD_NO;
}

static void request_ended(void *context, struct MHD_Connection *conn,
                          void **request_context, enum MHD_RequestTerminationCode how)
{
    struct http_server *server = context;
    struct http_exchange *x = *request_context;

    (void)conn;
    (void)how;
    *request_context = NULL;
    if (!x)
        return;
    arriving_end(x);
    exchange_ended(x);
    link_expect(x->link, LINK_IDLE, http_now_ms() + server->limits.idle_timeout_ms);
    exchange_unref(x);
}

/* Paths and queries are decoded by us, after they were split. */
static size_t leave_escaped(void *context, struct MHD_Connection *conn, char *text)
{
    (void)context;
    (void)conn;
    return strlen(text);
}

static void log_mhd(void *context, const char *fmt, va_list ap)
{
    char line[400];
    struct http_exchange *x;
    unsigned status;

    (void)context;
    vsnprintf(line, sizeof(line), fmt, ap);
    line[strcspn(line, "\n")] = '\0';
    log_debug("libmicrohttpd: %s", line);
    if (!arriving_is_refusal(line, &status))
        return;
    x = arriving_whole();
    if (x) {
        arriving_end(x);
        intake_refuse(x, status);
    }
}

/* ---- making it ---- */

/* The credentials of each session are set as its connection begins (tls_peer.c); one
 * whose could not be has none. */
static int no_certificate(gnutls_session_t session, const gnutls_datum_t *cas, int n_cas,
                          const gnutls_pk_algorithm_t *algorithms, int n_algorithms,
                          gnutls_pcert_st **ret_certificates, unsigned *ret_n,
                          gnutls_privkey_t *ret_key)
{
    (void)session;
    (void)cas;
    (void)n_cas;
    (void)algorithms;
    (void)n_algorithms;
    (void)ret_certificates;
    (void)ret_n;
    (void)ret_key;
    return -1;
}

static struct MHD_Daemon *start_mhd(struct http_server *server, bool is_tls,
                                    struct pt2_err *err)
{
    const struct config *config = server->app->config;
    unsigned n_threads = (unsigned)config_get_int(config, "http.threads");
    struct MHD_OptionItem threads[] = {
        {n_threads > 1 ? MHD_OPTION_THREAD_POOL_SIZE : MHD_OPTION_END, n_threads, NULL},
        {MHD_OPTION_END, 0, NULL}};
    struct MHD_OptionItem tls[] = {
        {is_tls ? MHD_OPTION_HTTPS_PRIORITIES : MHD_OPTION_END, 0,
         (char[]){TLS_PRIORITIES}},
        {MHD_OPTION_HTTPS_CERT_CALLBACK, 0, (void *)no_certificate},
        {MHD_OPTION_END, 0, NULL}};
    struct MHD_Daemon *daemon;

    /* Its own limit on connections is out of reach; the watcher keeps ours. */
    http_epoll_link();
    daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ITC | MHD_ALLOW_SUSPEND_RESUME |
            MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ERROR_LOG | (is_tls ? MHD_USE_TLS : 0),
        0, NULL, NULL, access_request, server,     /* options */
        MHD_OPTION_EXTERNAL_LOGGER, log_mhd, NULL, /* first, so that it gets all lines */
        MHD_OPTION_URI_LOG_CALLBACK, request_begun, server, /* */
        MHD_OPTION_UNESCAPE_CALLBACK, leave_escaped, NULL,  /* */
        MHD_OPTION_NOTIFY_COMPLETED, request_ended, server, /* */
        MHD_OPTION_NOTIFY_CONNECTION, connection_changed, server,
        MHD_OPTION_STRICT_FOR_CLIENT, 0, /* intake.c checks Host, with our own answer */
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY,
        MHD_OPTION_CONNECTION_LIMIT, 2000000u, /* */
        MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)MAX(1, server->limits.idle_timeout_ms / 1000), /* */
        MHD_OPTION_ARRAY, threads, MHD_OPTION_ARRAY, tls, MHD_OPTION_END);
    if (!daemon)
        pt2_err_errno(err, PT2_ERR_IO, "cannot start the HTTP server");
    return daemon;
}

static int start_daemons(struct http_server *server, struct pt2_err *err)
{
    server->daemon = start_mhd(server, /* is_tls= */ false, err);
    if (server->daemon && server->tls)
        server->tls_daemon = start_mhd(server, /* is_tls= */ true, err);
    return server->daemon && (server->tls_daemon || !server->tls) ? 0 : -1;
}

static void read_limits(struct http_limits *l, const struct config *config)
{
    l->max_header_bytes = config_get_size(config, "http.max_header_bytes");
    l->max_request_bytes = config_get_size(config, "http.max_request_bytes");
    l->min_body_rate = config_get_size(config, "http.min_body_rate");
    l->header_timeout_ms = config_get_ms(config, "http.header_timeout");
    l->idle_timeout_ms = config_get_ms(config, "http.idle_timeout");
    l->body_timeout_ms = config_get_ms(config, "http.body_timeout");
    l->max_sessions = (unsigned)config_get_int(config, "sessions.max_per_client");
    l->max_exports = (unsigned)config_get_int(config, "exports.max_per_client");
}

/* Who is beyond this machine is let in by a token or a certificate, or because the
 * operator says so. */
static int check_exposure(const struct http_server *server, struct pt2_err *err)
{
    if (auth_is_needed(server->auth) ||
        config_get_bool(server->app->config, "http.allow_unauthenticated"))
        return 0;
    for (size_t i = 0; i < server->n_listeners; i++) {
        const struct listener *l = &server->listeners[i];

        if (!l->is_loopback && !(l->is_tls && tls_needs_clients(server->tls)))
            return pt2_err_set(
                err, PT2_ERR_INVALID,
                "'%s' can be reached from other machines, and there is no "
                "http.token_file: name one, listen on a loopback address or a unix "
                "socket, have clients show certificates (https:, http.tls_client_ca), or "
                "set http.allow_unauthenticated = yes",
                l->name);
    }
    return 0;
}

/* The certificate, where one of the listeners needs it. */
static int read_tls(struct http_server *server, struct pt2_err *err)
{
    const struct config *config = server->app->config;
    struct tls_settings settings = {
        .certificate = config_get_text(config, "http.tls_certificate"),
        .key = config_get_text(config, "http.tls_key"),
        .client_ca = config_get_text(config, "http.tls_client_ca"),
        .client_is_required = streq(config_get_text(config, "http.tls_client"),
                                    "required")};
    const struct listener *l = server->listeners, *end = l + server->n_listeners;

    while (l < end && !l->is_tls)
        l++;
    if (l == end && *settings.certificate)
        log_warning("http.tls_certificate is set, but no https: address in http.listen, "
                    "ignoring it");
    if (l == end)
        return 0;
    if (!*settings.certificate || !*settings.key)
        return pt2_err_set(err, PT2_ERR_INVALID,
                           "'%s' needs http.tls_certificate and http.tls_key", l->name);
    return tls_new(&settings, &server->tls, err);
}

static int start_parts(struct http_server *server, struct pt2_err *err)
{
    const struct config *config = server->app->config;
    const struct clients_options clients = {
        .max_connections =
            (size_t)config_get_int(config, "http.max_connections_per_client"),
        .limit_local = config_get_bool(config, "http.limit_local"),
        .rates = {[CLIENT_UPLOAD] = config_get_size(config, "http.upload_rate"),
                  [CLIENT_DOWNLOAD] = config_get_size(config, "http.download_rate")},
        .max = {[HOLD_BODIES] = config_get_size(config, "http.max_body_memory"),
                [HOLD_ANSWERS] = config_get_size(config, "http.max_answer_memory"),
                [HOLD_UPLOADS] = (uint64_t)config_get_int(config, "http.max_uploads"),
                [HOLD_FOLLOWERS] = (uint64_t)config_get_int(config, "http.max_followers")}};
    const struct pool_options pool = {
        .name = "pt2-pool",
        .n_threads = (unsigned)config_get_int(config, "http.pool_threads"),
        .max_queue = (size_t)config_get_int(config, "http.pool_queue")};
    const struct pool_options upload_pool = {
        .name = "pt2-uploads", .n_threads = pool.n_threads, .nice = UPLOAD_NICE};
    unsigned mode =
        (unsigned)strtoul(config_get_text(config, "http.socket_mode"), NULL, 8);

    if (guard_check_config(server->hosts, server->origins, err) < 0 ||
        auth_new(config_get_text(config, "http.token_file"), &server->auth, err) < 0 ||
        listeners_inherit(server->listeners, &server->n_listeners, err) < 0)
        return -1;
    if (server->n_listeners == 0 &&
        listeners_open(config_get_text(config, "http.listen"), mode, server->listeners,
                       &server->n_listeners, err) < 0)
        return -1;
    if (read_tls(server, err) < 0 || check_exposure(server, err) < 0)
        return -1;
    metrics_set(METRIC_HTTP_ANSWER_LIMIT, (double)clients.max[HOLD_ANSWERS], NULL);
    metrics_set(METRIC_HTTP_BODY_LIMIT, (double)clients.max[HOLD_BODIES], NULL);
    if (clients_new(&clients, &server->clients, err) < 0 ||
        watcher_new(server->listeners, server->n_listeners,
                    (size_t)config_get_int(config, "http.max_connections"),
                    server->clients, &server->watcher, err) < 0 ||
        pool_new(&pool, &server->pool, err) < 0 ||
        pool_new(&upload_pool, &server->upload_pool, err) < 0 ||
        start_daemons(server, err) < 0)
        return -1;
    return watcher_start(server->watcher, server->daemon, server->tls_daemon, err);
}

int http_server_new(struct app *app, const struct route_table *table,
                    struct http_server **ret_server, struct pt2_err *err)
{
    AUTO(http_server) server = calloc(1, sizeof(*server));
    uint32_t random = 0;

    if (!server)
        return pt2_err_set(err, PT2_ERR_NOMEM, "HTTP server");
    server->app = app;
    server->table = table ? table : routes_table();
    atomic_store(&server->state, HTTP_STARTING);
    read_limits(&server->limits, app->config);
    server->hosts = config_get_text(app->config, "http.hosts");
    server->origins = config_get_text(app->config, "http.origins");
    if (getrandom(&random, sizeof(random), 0) < 0)
        random = (uint32_t)time(NULL);
    snprintf(server->id_prefix, sizeof(server->id_prefix), "%08x-", (unsigned)random);
    atomic_store(&server->next_id, 1);
    if (start_parts(server, err) < 0)
        return -1;
    *ret_server = TAKE(server);
    return 0;
}

void http_server_free(struct http_server *server)
{
    if (!server)
        return;
    http_server_stop(server, 0);
    watcher_free(server->watcher);
    pool_free(server->upload_pool);
    pool_free(server->pool);
    auth_free(server->auth);
    tls_free(server->tls);
    clients_free(server->clients);
    listeners_close(server->listeners, server->n_listeners);
    free(server);
}

/* ---- its states ---- */

enum http_server_state http_server_state(const struct http_server *server)
{
    return (enum http_server_state)atomic_load(&server->state);
}

void http_server_ready(struct http_server *server)
{
    atomic_store(&server->state, HTTP_READY);
}

void http_server_drain(struct http_server *server)
{
    atomic_store(&server->state, HTTP_DRAINING);
    watcher_stop_accepting(server->watcher);
    watcher_shut_down(server->watcher, /* all= */ false);
}

bool http_server_is_idle(const struct http_server *server)
{
    return atomic_load(&server->n_active) == 0;
}

static void wait_idle(const struct http_server *server, int64_t ms)
{
    int64_t end = http_now_ms() + ms;

    while (!http_server_is_idle(server) && http_now_ms() < end)
        usleep(2000);
}

/* Nothing may be suspended when libmicrohttpd is stopped. */
static void force_all(struct http_server *server)
{
    while (watcher_force(server->watcher) > 0)
        usleep(2000);
}

void http_server_stop(struct http_server *server, int64_t grace_ms)
{
    if (server->daemon) {
        http_server_drain(server);
        watcher_shut_down(server->watcher, /* all= */ true);
        wait_idle(server, grace_ms);
        force_all(server);
        /* Its end also resumes what waits for receive(). */
        pool_stop(server->upload_pool);
        pool_stop(server->pool);
        force_all(server);
        wait_idle(server, FLUSH_MS);
        MHD_stop_daemon(TAKE(server->daemon));
        if (server->tls_daemon)
            MHD_stop_daemon(TAKE(server->tls_daemon));
    }
    if (server->watcher)
        watcher_stop(server->watcher);
}

bool http_server_reload(struct http_server *server)
{
    struct pt2_err err = {0};
    bool is_good = true, is_new;

    if (auth_reload(server->auth, &err) < 0) {
        log_warning("reload: %s, the old tokens stay", err.text);
        is_good = false;
    }
    pt2_err_clear(&err);
    if (!server->tls)
        return is_good;
    if (tls_reload(server->tls, &is_new, &err) < 0) {
        log_warning("reload: %s, the old certificates stay", err.text);
        return false;
    }
    if (is_new)
        log_info("reload: new connections get the new certificates");
    return is_good;
}

bool http_server_run(struct http_server *server, void (*fn)(void *arg, bool is_stopping),
                     void *arg)
{
    return pool_push(server->pool, fn, arg, /* must_fit= */ true, NULL) == 0;
}

bool http_server_is_alive(const struct http_server *server)
{
    return http_now_ms() - watcher_last_round_ms(server->watcher) < 10000;
}

const char *http_server_address(const struct http_server *server, size_t i)
{
    return i < server->n_listeners ? server->listeners[i].name : NULL;
}
