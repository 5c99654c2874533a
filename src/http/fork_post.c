/* POST /v1/sessions/{id}/fork: a new session that starts from this one's cache. */
#include "http/config.h"
#include "http/endpoints.h"
#include "http/reply.h"
#include "http/session_call.h"

static void reply(struct session_call *sc)
{
    http_reply_header(sc->req, "Location", "/v1/sessions/%s", sc->call.info.id);
    session_reply_timing(sc->req, &sc->call);
    session_reply_info(sc, 201);
}

void fork_post(struct http_request *req)
{
    struct json_problems problems = {0};
    struct serve_facts facts;
    struct session_call *sc;
    struct json_obj o;

    if (session_facts(req, &facts) < 0)
        return;
    sc = session_call_new(req, SERVE_FORK, reply);
    if (!sc)
        return;
    sc->call.fork.position = sc->call.fork.ttl_s = -1;
    json_obj_begin(&o, req->json, "", &problems);
    json_get_int(&o, "position", 0, facts.max_cache_len, &sc->call.fork.position);
    json_get_int(&o, "ttl", 1, config_get_ms(req->app->config, "sessions.max_ttl") / 1000,
                 &sc->call.fork.ttl_s);
    json_obj_end(&o);
    if (json_problems_any(&problems))
        http_reply_problems(req, &problems);
    else
        session_call_submit(sc);
    json_problems_done(&problems);
}
