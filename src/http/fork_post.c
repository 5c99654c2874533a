/* POST /v1/sessions/{id}/fork: a new session that starts from this one's cache. */
#include "http/config.h"
#include "http/endpoints.h"
#include "http/reply.h"
#include "http/session_body.h"
#include "http/session_call.h"

static void reply(struct session_call *sc)
{
    http_reply_header(sc->req, "Location", "/v1/sessions/%s", sc->call.info.id);
    session_reply_timing(sc->req, &sc->call);
    session_reply_info(sc, 201);
}

void fork_post(struct http_request *req)
{
    int64_t max_ttl_s = config_get_ms(req->app->config, "sessions.max_ttl") / 1000;
    struct json_problems problems = {0};
    struct serve_facts facts;
    struct session_call *sc;

    if (session_facts(req, &facts) < 0)
        return;
    sc = session_call_new(req, SERVE_FORK, reply);
    if (!sc)
        return;
    session_body_fork(req->json, facts.max_cache_len, max_ttl_s, &sc->call, &problems);
    if (json_problems_any(&problems))
        http_reply_problems(req, &problems);
    else
        session_call_submit(sc);
    json_problems_done(&problems);
}
