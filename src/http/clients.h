/* clients.h - who uses the daemon now: their connections, the bytes that pass, and what they
 * hold of what there is a bounded amount of.
 *
 * A client is the name of a token where it sent one; otherwise the address that a
 * connection came from (of IPv6 the first 64 bits, which are one site's to use), the user
 * at the other end of a unix socket.  One is known while a connection or a request is
 * his, and for as long as he owes time to a rate, so that connecting anew gains nothing.
 *
 * Any thread.  Its lock is the last one to be taken. */
#ifndef HTTP_CLIENTS_H
#define HTTP_CLIENTS_H

#include "base/owner.h"
#include "http/bucket.h"

#include <pt2/err.h>

#include <sys/socket.h>

#define CLIENT_NAME_SIZE (OWNER_SIZE + 8)

struct clients;
struct client;

enum direction { CLIENT_UPLOAD, CLIENT_DOWNLOAD };

/* What all clients together may hold so much of, and one of them half: memory for bodies
 * and for answers, uploads at once, followers of exports. */
enum holding { HOLD_BODIES, HOLD_ANSWERS, HOLD_UPLOADS, HOLD_FOLLOWERS, N_HOLDINGS };

/* max_connections of one address; rates of one client in bytes a second; max of all clients
 * together; 0: any.  Connections from this machine itself count where limit_local. */
struct clients_options {
    size_t max_connections;
    bool limit_local;
    uint64_t rates[2]; /* enum direction */
    uint64_t max[N_HOLDINGS];
};

MUST_USE int clients_new(const struct clients_options *options,
                         struct clients **ret_clients, struct pt2_err *err);
void clients_free(struct clients *clients); /* all references were dropped */

/* The client of a connection from addr over the socket fd, counted with one more; a
 * reference, to be dropped by client_disconnect.  NULL: it has as many as it may have
 * (*ret_is_full), or there is no memory. */
struct client *client_connect(struct clients *clients, const struct sockaddr *addr,
                              int fd, bool *ret_is_full);
void client_disconnect(struct client *client);

/* The client of a token's name; a reference.  NULL: no memory. */
struct client *client_of_name(struct clients *clients, const char *name);
struct client *client_ref(struct client *client);
void client_unref(struct client *client); /* NULL is fine */

/* "203.0.113.9", "[2001:db8:1:2::]/64", "uid:1000", "name:edge". */
const char *client_name(const struct client *client);
/* Do limits hold for it?  Not for this machine's own, unless limit_local. */
bool client_is_limited(const struct client *client);

/* n bytes have passed; rate is the client's own (0: that of the options). */
void client_pass(struct client *client, enum direction direction, uint64_t rate,
                 uint64_t n);
/* How long to wait before more may, in milliseconds. */
int64_t client_wait_ms(struct client *client, enum direction direction, uint64_t rate);
/* Is there a rate at all? */
bool client_is_paced(const struct client *client, enum direction direction,
                     uint64_t rate);

enum held { HELD, HELD_ALL, HELD_SHARE }; /* it may; all is taken; its share is */

/* It holds n more from now on, where it may.  One answer alone may have more than half: a
 * cache is downloaded whole or not. */
MUST_USE enum held client_hold(struct client *client, enum holding what, uint64_t n);
void client_let_go(struct client *client, enum holding what, uint64_t n);
/* The most that it may hold: half of what there is, at least one; all where limits do not
 * hold for it. */
uint64_t client_share(const struct client *client, enum holding what);

/* What there is of it; UINT64_MAX: any amount. */
uint64_t client_share_of_all(const struct client *client, enum holding what);

/* How many are known. */
size_t clients_count(struct clients *clients);

#endif
