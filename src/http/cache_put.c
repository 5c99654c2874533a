/* PUT /v1/sessions/{id}/cache: fill the cache from a .safetensors file. */
#include "http/config.h"
#include "http/endpoints.h"
#include "http/reply.h"
#include "http/session_call.h"
#include "serve/cache_file.h"

#include <inttypes.h>

static void reply(struct session_call *sc)
{
    session_reply_timing(sc->req, &sc->call);
    session_reply_info(sc, 200);
}

uint64_t cache_put_max_body(const struct http_request *req)
{
    struct pt2_err not_found = {0};
    struct serve_facts facts;

    if (serve_facts(req->app->serve, req->params[0], http_who(req), &facts, &not_found) ==
        0)
        return facts.file_bytes + CACHE_FILE_MAX_HEADER;
    return config_get_size(req->app->config, "sessions.max_cache_bytes") +
           CACHE_FILE_MAX_HEADER;
}

int cache_put_prepare(struct http_request *req, struct pt2_err *err)
{
    const char *length = http_header(req, "Content-Length");
    struct pt2_err not_found = {0};
    struct serve_facts facts;
    uint64_t max;

    if (!length || serve_facts(req->app->serve, req->params[0], http_who(req), &facts,
                               &not_found) < 0)
        return 0; /* the handler says what became of the session */
    max = facts.file_bytes + CACHE_FILE_MAX_HEADER;
    if (strtoull(length, NULL, 10) <= max)
        return 0;
    return pt2_err_set(err, PT2_ERR_TOO_LARGE,
                       "the session's cache takes %" PRIu64
                       " bytes, and a file of it %" PRIu64 " at most, not %.20s",
                       facts.file_bytes, max, length);
}

void cache_put(struct http_request *req)
{
    struct session_call *sc = session_call_new(req, SERVE_RESTORE, reply);

    if (!sc)
        return;
    sc->call.restore.data = req->body;
    sc->call.restore.size = req->body_len;
    session_call_submit(sc);
}
