/* GET /v1/sessions/{id}: one session; counts as a use. */
#include "http/endpoints.h"
#include "http/session_call.h"

static void reply(struct session_call *sc)
{
    session_reply_info(sc, 200);
}

void sessions_get(struct http_request *req)
{
    struct session_call *sc = session_call_new(req, SERVE_GET, reply);

    if (sc)
        session_call_submit(sc);
}
