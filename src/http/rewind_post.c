/* POST /v1/sessions/{id}/rewind: go back to an earlier position. */
#include "http/endpoints.h"
#include "http/reply.h"
#include "http/session_body.h"
#include "http/session_call.h"

static void reply(struct session_call *sc)
{
    session_reply_info(sc, 200);
}

void rewind_post(struct http_request *req)
{
    struct json_problems problems = {0};
    struct serve_facts facts;
    struct session_call *sc;

    if (session_facts(req, &facts) < 0)
        return;
    sc = session_call_new(req, SERVE_REWIND, reply);
    if (!sc)
        return;
    session_body_rewind(req->json, facts.max_cache_len, &sc->call, &problems);
    if (json_problems_any(&problems))
        http_reply_problems(req, &problems);
    else
        session_call_submit(sc);
    json_problems_done(&problems);
}
