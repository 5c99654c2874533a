#include "base/log.h"
#include "base/metrics.h"
#include "http/endpoints.h"
#include "http/reply.h"
#include "store/uploads.h"

struct context {
    struct upload_file files[UPLOADS_MAX_FILES]; /* names borrowed from the body */
    size_t n;
    uint64_t bytes;
};

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

/* ---- context ---- */

static bool is_repeated(const struct context *c, const char *name)
{
    for (size_t i = 0; i < c->n; i++)
        if (streq(c->files[i].name, name))
            return true;
    return false;
}

static void read_file(struct context *c, const json_t *item, const char *pointer,
                      struct json_problems *problems)
{
    struct upload_file *file = &c->files[c->n];
    uint8_t digest[SHA256_BYTES];
    const char *hex = NULL;
    int64_t bytes = 0;
    char at[JSON_POINTER_SIZE];
    struct json_obj o;

    json_obj_begin(&o, item, pointer, problems);
    json_require(&o, "name");
    json_require(&o, "bytes");
    json_require(&o, "sha256");
    file->name = NULL;
    if (json_get_string(&o, "name", 255, &file->name)) {
        json_member_pointer(&o, "name", at);
        if (!file_names_is_allowed(file->name))
            json_problem(problems, at, "a checkpoint holds no such file");
        else if (is_repeated(c, file->name))
            json_problem(problems, at, "'%s' is named twice", file->name);
    }
    json_get_int(&o, "bytes", 0, INT64_MAX, &bytes);
    if (json_get_string(&o, "sha256", 255, &hex)) {
        json_member_pointer(&o, "sha256", at);
        if (sha256_from_hex(hex, digest))
            memcpy(file->sha256, hex, SHA256_HEX);
        else
            json_problem(problems, at, "64 lower-case hex digits are due");
    }
    json_obj_end(&o);
    if (!file->name)
        return;
    file->bytes = (uint64_t)bytes;
    c->bytes += file->bytes;
    c->n++;
}

/* False: replied. */
static bool read_request(struct http_request *req, struct context *c)
{
    struct json_problems problems = {0};
    char pointer[JSON_POINTER_SIZE];
    const json_t *files = NULL, *item;
    struct json_obj o;
    bool is_good;
    size_t i;

    json_obj_begin(&o, req->json, "", &problems);
    json_require(&o, "files");
    if (json_get_array(&o, "files", 1, UPLOADS_MAX_FILES, &files)) {
        json_array_foreach (files, i, item) {
            json_item_pointer(&o, "files", i, pointer);
            read_file(c, item, pointer, &problems);
        }
    }
    json_obj_end(&o);
    is_good = !json_problems_any(&problems);
    if (!is_good)
        http_reply_problems(req, &problems);
    json_problems_done(&problems);
    return is_good;
}

/* ---- work ---- */

static void publish(struct http_request *req, const struct context *c)
{
    enum uploads_published published = UPLOADS_UNCHANGED;
    json_t *missing = NULL;
    struct pt2_err err = {0};

    if (uploads_publish(req->app->uploads, req->params[0], c->files, c->n, &published,
                        &missing, &err) < 0) {
        http_reply_err_with(req, &err,
                            missing ? json_pack("{s:o}", "missing", missing) : NULL);
        return;
    }
    if (published != UPLOADS_UNCHANGED) {
        metrics_add(METRIC_MODELS_PUBLISHED, 1, NULL);
        log_info("model '%s' was %s: %zu files, %llu bytes", req->params[0],
                 published == UPLOADS_MADE ? "published" : "replaced", c->n,
                 (unsigned long long)c->bytes);
    }
    reply_published(req, published);
}

/* ---- handler ---- */

void models_publish_post(struct http_request *req)
{
    AUTO_PTR struct context *c = calloc(1, sizeof(*c));

    if (!c)
        http_reply_problem(req, PT2_ERR_NOMEM, "a list of files");
    else if (read_request(req, c))
        publish(req, c);
}
