#include "http/endpoints.h"
#include "http/program_reply.h"
#include "http/reply.h"
#include "jobs/jobs.h"

void exports_file_get(struct http_request *req)
{
    const char *name = req->params[0];
    enum job_state state = JOB_QUEUED;
    struct pt2_err err = {0};
    json_auto_t *job = NULL;
    char id[PROGRAM_ID_SIZE];

    if (jobs_get(req->app->jobs, name, &state, NULL, &job, &err) < 0)
        http_reply_err(req, &err);
    else if (state != JOB_SUCCEEDED)
        http_reply_problem(req, PT2_ERR_CONFLICT, "export '%s' is %s, it has no file",
                           name, job_state_name(state));
    else if (programs_resolve(req->app->programs, name, id, NULL, &err) < 0)
        http_reply_err(req, &err); /* the program was deleted */
    else
        program_reply_file(req, id);
}
