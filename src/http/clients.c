#include "http/clients.h"

#include "base/clock.h"
#include "base/metrics.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>

#define N_CHAINS    1024  /* a power of two */
#define MAX_DEBTORS 16384 /* beyond, those who are gone are forgiven */

struct client {
    struct client *next; /* of its chain */
    struct clients *clients;
    size_t refs, n_connections;
    bool is_local;            /* constant, as name is */
    struct bucket buckets[2]; /* enum direction */
    uint64_t rates[2];        /* the last ones that were asked for */
    uint64_t held[N_HOLDINGS];
    char name[CLIENT_NAME_SIZE];
};

struct clients {
    struct clients_options options;
    pthread_mutex_t lock; /* guards what follows */
    struct client *chains[N_CHAINS];
    size_t n;
    uint64_t held[N_HOLDINGS]; /* of all */
};

int clients_new(const struct clients_options *options, struct clients **ret_clients,
                struct pt2_err *err)
{
    struct clients *clients = calloc(1, sizeof(*clients));

    if (!clients)
        return pt2_err_set(err, PT2_ERR_NOMEM, "clients");
    clients->options = *options;
    pthread_mutex_init(&clients->lock, NULL);
    *ret_clients = clients;
    return 0;
}

void clients_free(struct clients *clients)
{
    if (!clients)
        return;
    for (size_t i = 0; i < N_CHAINS; i++) {
        while (clients->chains[i]) {
            struct client *next = clients->chains[i]->next;

            free(clients->chains[i]);
            clients->chains[i] = next;
        }
    }
    pthread_mutex_destroy(&clients->lock);
    free(clients);
}

/* ---- names ---- */

static void name_unix(int fd, char ret_name[CLIENT_NAME_SIZE])
{
    struct ucred cred = {.uid = (uid_t)-1};
    socklen_t len = sizeof(cred);

    (void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len);
    snprintf(ret_name, CLIENT_NAME_SIZE, "uid:%u", (unsigned)cred.uid);
}

static void name_v4(uint32_t addr, char ret_name[CLIENT_NAME_SIZE], bool *ret_is_local)
{
    struct in_addr in = {htonl(addr)};

    *ret_is_local = addr >> 24 == 127;
    inet_ntop(AF_INET, &in, ret_name, CLIENT_NAME_SIZE);
}

static void name_v6(const struct in6_addr *addr, char ret_name[CLIENT_NAME_SIZE],
                    bool *ret_is_local)
{
    struct in6_addr site = {0};
    char text[INET6_ADDRSTRLEN];
    uint32_t v4;

    memcpy(&v4, &addr->s6_addr[12], sizeof(v4));
    if (IN6_IS_ADDR_V4MAPPED(addr)) {
        name_v4(ntohl(v4), ret_name, ret_is_local);
        return;
    }
    *ret_is_local = IN6_IS_ADDR_LOOPBACK(addr);
    memcpy(&site, addr, 8);
    inet_ntop(AF_INET6, &site, text, sizeof(text));
    snprintf(ret_name, CLIENT_NAME_SIZE, "[%s]/64", text);
}

static void name_address(const struct sockaddr *addr, int fd,
                         char ret_name[CLIENT_NAME_SIZE],
                         bool *ret_is_local)
{
    *ret_is_local = true;
    if (addr->sa_family == AF_INET) {
        struct sockaddr_in in;

        memcpy(&in, addr, sizeof(in));
        name_v4(ntohl(in.sin_addr.s_addr), ret_name, ret_is_local);
    } else if (addr->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;

        memcpy(&in6, addr, sizeof(in6));
        name_v6(&in6.sin6_addr, ret_name, ret_is_local);
    } else {
        name_unix(fd, ret_name);
    }
}

/* ---- the table ---- */

/* FNV-1a. */
static struct client **chain_of(struct clients *clients, const char *name)
{
    uint32_t hash = 0x811c9dc5;

    while (*name)
        hash = (hash ^ (unsigned char)*name++) * 0x01000193;
    return &clients->chains[(hash ^ hash >> 16) % N_CHAINS];
}

static uint64_t rate_of(const struct client *client, enum direction direction,
                        uint64_t rate)
{
    return rate ? rate : client->clients->options.rates[direction];
}

/* Nobody has it, and it owes nothing. */
static bool is_done_locked(struct client *client)
{
    int64_t now = clock_mono_ms();

    if (client->refs > 0)
        return false;
    if (client->clients->n > MAX_DEBTORS)
        return true;
    for (int i = 0; i < 2; i++)
        if (client->rates[i] &&
            !bucket_is_full(&client->buckets[i], client->rates[i], now))
            return false;
    return true;
}

/* Drop those of the chain that are done: each chain is seen again soon. */
static void sweep_locked(struct clients *clients, struct client **at)
{
    while (*at) {
        struct client *client = *at;

        if (!is_done_locked(client)) {
            at = &client->next;
            continue;
        }
        *at = client->next;
        clients->n--;
        free(client);
    }
    metrics_set(METRIC_HTTP_CLIENTS, (double)clients->n, NULL);
}

/* With one more reference; NULL: no memory. */
static struct client *get_locked(struct clients *clients, const char *name, bool is_local)
{
    struct client **chain = chain_of(clients, name), *client;

    for (client = *chain; client && !streq(client->name, name); client = client->next)
        ;
    if (!client) {
        sweep_locked(clients, chain);
        client = calloc(1, sizeof(*client));
        if (!client)
            return NULL;
        client->clients = clients;
        client->is_local = is_local;
        snprintf(client->name, sizeof(client->name), "%s", name);
        client->next = *chain;
        *chain = client;
        clients->n++;
        metrics_set(METRIC_HTTP_CLIENTS, (double)clients->n, NULL);
    }
    client->refs++;
    return client;
}

static void unref_locked(struct client *client)
{
    if (--client->refs == 0)
        sweep_locked(client->clients, chain_of(client->clients, client->name));
}

/* ---- who it is ---- */

struct client *client_connect(struct clients *clients, const struct sockaddr *addr,
                              int fd, bool *ret_is_full)
{
    size_t max = clients->options.max_connections;
    char name[CLIENT_NAME_SIZE] = "";
    struct client *client;
    bool is_local;

    name_address(addr, fd, name, &is_local);
    *ret_is_full = false;
    pthread_mutex_lock(&clients->lock);
    client = get_locked(clients, name, is_local);
    if (client) {
        *ret_is_full = max && client->n_connections >= max &&
                       (!is_local || clients->options.limit_local);
        client->n_connections += !*ret_is_full;
    }
    if (*ret_is_full) {
        unref_locked(client);
        client = NULL;
    }
    pthread_mutex_unlock(&clients->lock);
    return client;
}

void client_disconnect(struct client *client)
{
    struct clients *clients = client->clients;

    pthread_mutex_lock(&clients->lock);
    client->n_connections--;
    unref_locked(client);
    pthread_mutex_unlock(&clients->lock);
}

struct client *client_of_name(struct clients *clients, const char *name)
{
    char full[CLIENT_NAME_SIZE];
    struct client *client;

    snprintf(full, sizeof(full), "name:%s", name);
    pthread_mutex_lock(&clients->lock);
    client = get_locked(clients, full, /* is_local= */ false);
    pthread_mutex_unlock(&clients->lock);
    return client;
}

struct client *client_ref(struct client *client)
{
    pthread_mutex_lock(&client->clients->lock);
    client->refs++;
    pthread_mutex_unlock(&client->clients->lock);
    return client;
}

void client_unref(struct client *client)
{
    struct clients *clients = client ? client->clients : NULL;

    if (!client)
        return;
    pthread_mutex_lock(&clients->lock);
    unref_locked(client);
    pthread_mutex_unlock(&clients->lock);
}

const char *client_name(const struct client *client)
{
    return client->name;
}

bool client_is_limited(const struct client *client)
{
    return !client->is_local || client->clients->options.limit_local;
}

/* ---- what they hold ---- */

uint64_t client_share_of_all(const struct client *client, enum holding what)
{
    uint64_t max = client->clients->options.max[what];

    return max ? max : UINT64_MAX;
}

uint64_t client_share(const struct client *client, enum holding what)
{
    uint64_t max = client_share_of_all(client, what);

    return max < UINT64_MAX && client_is_limited(client) ? max - max / 2 : max;
}

enum held client_hold(struct client *client, enum holding what, uint64_t n)
{
    struct clients *clients = client->clients;
    uint64_t max = client_share_of_all(client, what), share = client_share(client, what);
    enum held held = HELD;
    bool is_first;

    pthread_mutex_lock(&clients->lock);
    is_first = what == HOLD_ANSWERS && client->held[what] == 0;
    if (n > max - clients->held[what]) {
        held = HELD_ALL;
    } else if (!is_first && (client->held[what] > share ||
                             n > share - client->held[what])) {
        held = HELD_SHARE;
    } else {
        clients->held[what] += n;
        client->held[what] += n;
    }
    pthread_mutex_unlock(&clients->lock);
    return held;
}

void client_let_go(struct client *client, enum holding what, uint64_t n)
{
    struct clients *clients = client->clients;

    pthread_mutex_lock(&clients->lock);
    clients->held[what] -= n;
    client->held[what] -= n;
    pthread_mutex_unlock(&clients->lock);
}

size_t clients_count(struct clients *clients)
{
    size_t n;

    pthread_mutex_lock(&clients->lock);
    n = clients->n;
    pthread_mutex_unlock(&clients->lock);
    return n;
}

/* ---- rates ---- */

void client_pass(struct client *client, enum direction direction, uint64_t rate,
                 uint64_t n)
{
    rate = rate_of(client, direction, rate);
    if (!rate)
        return;
    pthread_mutex_lock(&client->clients->lock);
    client->rates[direction] = rate;
    bucket_take(&client->buckets[direction], rate, n, clock_mono_ms());
    pthread_mutex_unlock(&client->clients->lock);
}

int64_t client_wait_ms(struct client *client, enum direction direction, uint64_t rate)
{
    int64_t ms;

    rate = rate_of(client, direction, rate);
    if (!rate)
        return 0;
    pthread_mutex_lock(&client->clients->lock);
    client->rates[direction] = rate;
    ms = bucket_wait_ms(&client->buckets[direction], rate, clock_mono_ms());
    pthread_mutex_unlock(&client->clients->lock);
    return ms;
}

bool client_is_paced(const struct client *client, enum direction direction, uint64_t rate)
{
    return rate_of(client, direction, rate) > 0;
}
