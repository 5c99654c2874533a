/* GET /v1/sessions/{id}/cache: the cache as a .safetensors file. */
#include "http/endpoints.h"
#include "http/reply.h"
#include "http/session_call.h"

#include <inttypes.h>

static void reply(struct session_call *sc)
{
    http_reply_header(sc->req, "Content-Disposition",
                      "attachment; filename=\"%s.safetensors\"", sc->id);
    http_reply_header(sc->req, "X-Session-Position", "%" PRId64, sc->call.position);
    session_reply_timing(sc->req, &sc->call);
    http_reply_bytes(sc->req, 200, "application/octet-stream", TAKE(sc->call.file),
                     sc->call.file_size);
}

void cache_get(struct http_request *req)
{
    struct session_call *sc = session_call_new(req, SERVE_SAVE, reply);

    if (sc)
        session_call_submit(sc);
}
