/* app.h - what every endpoint can reach: the daemon's parts, in one struct.
 *
 * Filled by src/cmd/pt2d.c before the server starts, and constant until it has stopped;
 * the parts are themselves safe for any thread.  Owned by main; borrowed by everyone. */
#ifndef HTTP_APP_H
#define HTTP_APP_H

#include "base/util.h"

struct config;
struct http_server;
struct jobs;
struct models;
struct objects;
struct programs;
struct serve;
struct store;
struct uploads;

struct app {
    struct config *config; /* http/config.h; read values through config_get_... */
    struct http_server *server;
    struct store *store;
    struct objects *objects;
    struct jobs *jobs;
    struct programs *programs;
    struct models *models;
    struct uploads *uploads;
    struct serve *serve;
};

#endif
