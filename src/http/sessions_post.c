/* POST /v1/sessions: a program, and a cache of its own. */
#include "http/config.h"
#include "http/endpoints.h"
#include "http/idempotency.h"
#include "http/reply.h"
#include "http/session_body.h"
#include "http/session_call.h"
#include "store/programs.h"

#include <limits.h>

struct open_context {
    struct programs *programs;
    char program[PROGRAM_ID_SIZE];
    char path[PATH_MAX], packed_path[PATH_MAX];
    bool is_pinned; /* until the session pins it itself */
};

static void unpin(struct open_context *c)
{
    if (c->is_pinned)
        programs_unpin(c->programs, c->program);
    c->is_pinned = false;
}

static void context_free(void *extra)
{
    unpin(extra);
    free(extra);
}

/* The pin goes first: who has the answer may delete the session, and then the program. */
static void reply(struct session_call *sc)
{
    unpin(sc->extra);
    http_reply_header(sc->req, "Location", "/v1/sessions/%s", sc->call.info.id);
    session_reply_timing(sc->req, &sc->call);
    session_reply_info(sc, 201);
}

static bool exists(struct app *app, const char *location)
{
    const char *id = after_prefix(location, "/v1/sessions/");
    struct serve_facts facts;
    struct pt2_err err = {0};

    return id && serve_facts(app->serve, id, /* who= */ NULL, &facts, &err) == 0;
}

/* -1: replied. */
static int read_body(struct http_request *req, struct session_call *sc,
                     const char **ret_program)
{
    const struct config *config = req->app->config;
    struct json_problems problems = {0};

    session_body_open(req->json, config_get_ms(config, "sessions.ttl") / 1000,
                      config_get_ms(config, "sessions.max_ttl") / 1000, &sc->call,
                      ret_program, &problems);
    if (!json_problems_any(&problems))
        return 0;
    http_reply_problems(req, &problems);
    json_problems_done(&problems);
    return -1;
}

/* Which program is meant, and where its file lies. */
static int find_program(struct open_context *c, const char *name, const char *who,
                        struct pt2_err *err)
{
    if (programs_resolve(c->programs, name, who, c->program, NULL, err) < 0 ||
        programs_pin(c->programs, c->program, WHOLE_BE_SHORT, err) < 0)
        return -1;
    c->is_pinned = true;
    programs_path(c->programs, c->program, c->path);
    programs_packed_path(c->programs, c->program, c->packed_path);
    return 0;
}

void sessions_post(struct http_request *req)
{
    const char *name = NULL;
    struct pt2_err err = {0};
    struct session_call *sc;
    struct open_context *c;

    if (!idempotency_begin(req, exists))
        return;
    sc = session_call_new(req, SERVE_OPEN, reply);
    if (!sc || read_body(req, sc, &name) < 0)
        return;
    c = calloc(1, sizeof(*c));
    if (!c) {
        http_reply_problem(req, PT2_ERR_NOMEM, "no memory for a session");
        return;
    }
    sc->extra = c;
    sc->extra_free = context_free;
    c->programs = req->app->programs;
    if (find_program(c, name, http_who(req), &err) < 0) {
        http_reply_err(req, &err);
        return;
    }
    sc->call.open.program = c->program;
    sc->call.open.path = c->path;
    sc->call.open.packed_path = c->packed_path;
    session_call_submit(sc);
}
