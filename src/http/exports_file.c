#include "http/endpoints.h"
#include "http/program_reply.h"
#include "http/reply.h"
#include "jobs/jobs.h"

/* False: replied. */
static bool read_format(struct http_request *req, bool *ret_is_pte)
{
    const char *format = http_query(req, "format");

    *ret_is_pte = format && streq(format, "pte");
    if (!format || *ret_is_pte || streq(format, "pt2"))
        return true;
    http_reply_problem(req, PT2_ERR_INVALID, "format must be pt2 or pte, not '%.40s'",
                       format);
    return false;
}

static void reply_pte(struct http_request *req, const char *id, const json_t *job)
{
    const char *sha256 =
        json_string_value(json_object_get(json_object_get(job, "pte"), "sha256"));

    if (sha256)
        program_reply_pte(req, id, sha256);
    else
        http_reply_problem(req, PT2_ERR_NOT_FOUND,
                           "export '%s' has no .pte: it did not ask for format pte",
                           req->params[0]);
}

void exports_file_get(struct http_request *req)
{
    const char *name = req->params[0], *who = http_who(req);
    enum job_state state = JOB_QUEUED;
    struct pt2_err err = {0};
    json_auto_t *job = NULL;
    char id[PROGRAM_ID_SIZE];
    bool is_pte;

    if (!read_format(req, &is_pte))
        return;
    if (jobs_get(req->app->jobs, name, who, &state, NULL, &job, &err) < 0)
        http_reply_err(req, &err);
    else if (state != JOB_SUCCEEDED)
        http_reply_problem(req, PT2_ERR_CONFLICT, "export '%s' is %s, it has no file",
                           name, job_state_name(state));
    else if (programs_resolve(req->app->programs, name, who, id, NULL, &err) < 0)
        http_reply_err(req, &err); /* the program was deleted */
    else if (is_pte)
        reply_pte(req, id, job);
    else
        program_reply_file(req, id);
}
