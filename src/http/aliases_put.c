#include "http/alias_json.h"
#include "http/config.h"
#include "http/endpoints.h"
#include "http/reply.h"
#include "store/programs.h"

static bool read_program(struct http_request *req, const char **ret_program)
{
    struct json_problems problems = {0};
    bool is_good;

    alias_read(req->json, ret_program, &problems);
    is_good = !json_problems_any(&problems);
    if (!is_good)
        http_reply_problems(req, &problems);
    json_problems_done(&problems);
    return is_good;
}

static void reply_put(struct http_request *req, bool is_new)
{
    struct pt2_err err = {0};
    struct alias alias;
    bool found;

    if (aliases_db_find(req->app->store, req->params[0], &found, &alias, &err) < 0) {
        http_reply_err(req, &err);
    } else if (!found) {
        http_reply_problem(req, PT2_ERR_CONFLICT, "alias '%s' was deleted meanwhile",
                           req->params[0]);
    } else {
        if (is_new)
            http_reply_header(req, "Location", "/v1/aliases/%s", alias.name);
        http_reply_json(req, is_new ? 201 : 200, alias_to_json(&alias));
    }
}

/* An alias has no tag, so that "*" alone can fit it.  False: nothing fits. */
static bool read_condition(const struct http_request *req, enum alias_if *ret)
{
    const char *match = http_header(req, "If-Match");
    const char *none_match = http_header(req, "If-None-Match");

    *ret = ALIAS_IF_ANY;
    if (match)
        *ret = ALIAS_IF_THERE;
    else if (none_match && streq(none_match, "*"))
        *ret = ALIAS_IF_NEW;
    return !match || streq(match, "*");
}

void aliases_put(struct http_request *req)
{
    int64_t max = config_get_int(req->app->config, "programs.max_aliases");
    const char *name = req->params[0], *program = NULL;
    char id[PROGRAM_ID_SIZE];
    struct pt2_err err = {0};
    enum alias_if condition;
    bool is_new = false;

    if (alias_check_name(name, &err) < 0) {
        http_reply_err(req, &err);
    } else if (!read_program(req, &program)) {
        return;
    } else if (programs_resolve(req->app->programs, program, http_who(req), id, NULL,
                                &err) < 0) {
        http_reply_err_with(req, &err,
                            json_pack("{s:[{s:s, s:s}]}", "errors", "pointer", "/program",
                                      "detail", err.text));
    } else if (!read_condition(req, &condition)) {
        http_reply_problem(req, PT2_ERR_PRECONDITION,
                           "an alias has no ETag: If-Match can be * alone");
    } else if (aliases_db_put(req->app->store, name, id, max, condition, &is_new, &err) <
               0) {
        http_reply_err(req, &err);
    } else {
        programs_look_again(req->app->programs);
        reply_put(req, is_new);
    }
}
