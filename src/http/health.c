#include "http/endpoints.h"
#include "http/exchange.h"
#include "http/reply.h"
#include "http/server.h"

#include <microhttpd.h>

/* GET /healthz: alive, whatever the state. */
void healthz_get(struct http_request *req)
{
    http_reply_json(req, 200, json_pack("{s:s}", "status", "ok"));
}

/* GET /readyz: will requests be served? */
void readyz_get(struct http_request *req)
{
    switch (http_server_state(exchange_of(req)->server)) {
    case HTTP_STARTING:
        http_reply_problem(req, PT2_ERR_STARTING, "the daemon is starting");
        break;
    case HTTP_DRAINING:
        http_reply_problem(req, PT2_ERR_DRAINING, "the daemon is stopping");
        break;
    case HTTP_READY:
        http_reply_json(req, 200, json_pack("{s:s}", "status", "ready"));
        break;
    }
}

void version_get(struct http_request *req)
{
    http_reply_json(req, 200,
                    json_pack("{s:s, s:s, s:s, s:{s:s, s:s}}", "name", PACKAGE_NAME,
                              "version", PACKAGE_VERSION, "api", "v1", "libraries",
                              "jansson", jansson_version_str(), "libmicrohttpd",
                              MHD_get_version()));
}
