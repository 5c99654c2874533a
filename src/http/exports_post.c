#include "export/request.h"
#include "http/endpoints.h"
#include "http/idempotency.h"
#include "http/reply.h"
#include "jobs/jobs.h"

#include <pt2/checkpoint.h>
#include <pt2/export.h>

#define LOCATION_SIZE (sizeof("/v1/exports/") + JOB_ID_SIZE)

struct context {
    struct export_request request;
    struct pt2_checkpoint *checkpoint;
    struct pt2_export *exp;
};

static void context_done(struct context *c)
{
    pt2_export_free(c->exp);
    pt2_checkpoint_free(c->checkpoint);
}

/* ---- reply ---- */

static void location_of(const json_t *job, char ret_location[LOCATION_SIZE])
{
    snprintf(ret_location, LOCATION_SIZE, "/v1/exports/%s",
             json_string_value(json_object_get(job, "id")));
}

/* The model's name is at fault. */
static void reply_bad_model(struct http_request *req, const struct pt2_err *err)
{
    http_reply_err_with(req, err,
                        json_pack("{s:[{s:s, s:s}]}", "errors", "pointer", "/model",
                                  "detail", err->text));
}

/* ---- context ---- */

static bool export_exists(struct app *app, const char *location)
{
    const char *id = after_prefix(location, "/v1/exports/");
    AUTO_JOB_ROW row = {0};
    bool found = true;

    return !id || jobs_db_find(app->store, id, &found, &row, NULL) < 0 || found;
}

/* False: replied. */
static bool read_request(struct http_request *req, struct export_request *ret_request)
{
    struct json_problems problems = {0};
    struct pt2_err err = {0};
    int r = export_request_parse(req->json, /* wants_model= */ true, &problems,
                                 ret_request, &err);

    if (r < 0)
        http_reply_err_with(
            req, &err,
            problems.errors ? json_pack("{s:O}", "errors", problems.errors) : NULL);
    json_problems_done(&problems);
    return r == 0;
}

/* The model's headers are enough to say what would come of it.  False: replied. */
static bool open_export(struct http_request *req, struct context *c)
{
    struct pt2_err err = {0};
    char path[PATH_MAX];

    if (models_path(req->app->models, c->request.model, path, &err) < 0) {
        reply_bad_model(req, &err);
        return false;
    }
    if (pt2_checkpoint_open(path, &c->checkpoint, &err) < 0) {
        if (err.code == PT2_ERR_NOT_FOUND)
            err.code =
                PT2_ERR_NOT_EXPORTABLE; /* the model is there, its config.json not */
        reply_bad_model(req, &err);
        return false;
    }
    if (pt2_export_new(c->checkpoint, &c->request.options, &c->exp, &err) < 0) {
        http_reply_err(req, &err);
        return false;
    }
    return true;
}

/* ---- work ---- */

static int keep_answer(void *ctx, const json_t *job, struct pt2_err *err)
{
    char location[LOCATION_SIZE];

    location_of(job, location);
    return idempotency_keep(ctx, 202, location, job, err);
}

static void submit(struct http_request *req, const struct context *c)
{
    json_auto_t *summary = export_summary_to_json(c->exp);
    struct jobs_request request = {
        .model = c->request.model,
        .checkpoint = c->checkpoint,
        .options = json_object_get(summary, "options"),
        .deviations = json_object_get(summary, "deviations"),
        .labels = c->request.labels,
        .owner = req->caller.owner,
        .holder = req->caller.holder,
        .max_unfinished = req->caller.max_exports,
        .program_bytes =
            pt2_export_program_bytes(c->exp) + pt2_export_pte_facts(c->exp).file_bytes,
        .also = keep_answer,
        .ctx = req,
    };
    char location[LOCATION_SIZE];
    struct pt2_err err = {0};
    json_t *job = NULL;

    if (!summary)
        pt2_err_set(&err, PT2_ERR_NOMEM, "an export's options");
    if (err.code || jobs_submit(req->app->jobs, &request, &job, &err) < 0) {
        http_reply_err(req, &err);
        return;
    }
    location_of(job, location);
    http_reply_header(req, "Location", "%s", location);
    http_reply_json(req, 202, job);
}

/* ---- handler ---- */

void exports_post(struct http_request *req)
{
    struct context c = {0};

    if (!idempotency_begin(req, export_exists))
        return;
    if (read_request(req, &c.request) && open_export(req, &c)) {
        if (c.request.dry_run)
            http_reply_json(req, 200, export_summary_to_json(c.exp));
        else
            submit(req, &c);
    }
    context_done(&c);
}
