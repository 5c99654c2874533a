#include "cmd/ctl_session.h"

#include "cmd/ctl_http.h"

int ctl_session_open(struct ctl *ctl, const char *program, const char *engine,
                     const char *cache_dtype, int64_t ttl_s, json_t **ret_session)
{
    json_t *body = json_pack("{s:s}", "program", program);
    json_auto_t *session = NULL;

    if (engine)
        json_object_set_new(body, "engine", json_string(engine));
    if (cache_dtype)
        json_object_set_new(body, "cache_dtype", json_string(cache_dtype));
    if (ttl_s)
        json_object_set_new(body, "ttl", json_integer(ttl_s));
    if (ctl_json(ctl, "POST", "/v1/sessions", body, &session) < 0)
        return -1;
    if (!*ctl_session_id(session))
        return ctl_fail(ctl, CTL_BROKEN, "the answer to POST /v1/sessions has no id");
    *ret_session = TAKE(session);
    return 0;
}

const char *ctl_session_id(const json_t *session)
{
    const char *id = json_string_value(json_object_get(session, "id"));

    return id ? id : "";
}

int ctl_session_step(struct ctl *ctl, const char *id, json_t *body, json_t **ret_answer)
{
    AUTO_PTR char *path = ctl_path("/v1/sessions/%s/step", id);

    return ctl_json(ctl, "POST", path, body, ret_answer);
}

void ctl_session_close(struct ctl *ctl, const char *id)
{
    AUTO_PTR char *path = ctl_path("/v1/sessions/%s", id);
    sig_atomic_t interrupted = ctl_interrupted;
    struct ctl quiet = {.server = ctl->server, .token = ctl->token, .curl = ctl->curl};
    struct ctl_request request = {.method = "DELETE", .path = path, .timeout_s = 5};
    AUTO_REPLY reply;

    ctl_interrupted = 0;
    if (ctl_http(&quiet, &request, &reply) < 0)
        ctl_forgive(&quiet); /* it expires by itself */
    ctl->curl = quiet.curl;
    if (interrupted)
        ctl_interrupted = 1;
}
