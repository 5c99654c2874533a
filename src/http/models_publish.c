#include "base/log.h"
#include "base/metrics.h"
#include "http/endpoints.h"
#include "http/publish_body.h"
#include "http/reply.h"

/* ---- reply ---- */

/* The slash of an id is %2F; nothing else in it needs escaping. */
static void reply_location(struct http_request *req, const char *id)
{
    char name[MODEL_ID_SIZE];

    model_id_to_file_name(id, name);
    http_reply_header(req, "Location", "/v1/models/%s", name);
}

static void reply_published(struct http_request *req, enum uploads_published published)
{
    const char *id = req->params[0];
    struct pt2_err err = {0};
    json_t *json = NULL;

    if (models_get(req->app->models, id, &json, &err) < 0) {
        http_reply_err(req, &err);
        return;
    }
    if (published == UPLOADS_MADE)
        reply_location(req, id);
    http_reply_json(req, published == UPLOADS_MADE ? 201 : 200, json);
}

/* ---- work ---- */

static void publish(struct http_request *req, const struct publish_body *body)
{
    enum uploads_published published = UPLOADS_UNCHANGED;
    json_t *missing = NULL;
    struct pt2_err err = {0};

    if (uploads_publish(req->app->uploads, req->params[0], body->files, body->n, &published,
                        &missing, &err) < 0) {
        http_reply_err_with(req, &err,
                            missing ? json_pack("{s:o}", "missing", missing) : NULL);
        return;
    }
    if (published != UPLOADS_UNCHANGED) {
        metrics_add(METRIC_MODELS_PUBLISHED, 1, NULL);
        log_info("model '%s' was %s: %zu files, %llu bytes", req->params[0],
                 published == UPLOADS_MADE ? "published" : "replaced", body->n,
                 (unsigned long long)body->bytes);
    }
    reply_published(req, published);
}

/* ---- handler ---- */

void models_publish_post(struct http_request *req)
{
    AUTO_PTR struct publish_body *body = calloc(1, sizeof(*body));
    struct json_problems problems = {0};

    if (!body) {
        http_reply_problem(req, PT2_ERR_NOMEM, "a list of files");
        return;
    }
    publish_body_read(body, req->json, &problems);
    if (json_problems_any(&problems))
        http_reply_problems(req, &problems);
    else
        publish(req, body);
    json_problems_done(&problems);
}
