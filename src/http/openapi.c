#include "http/openapi.h"

#include "http/endpoints.h"
#include "http/exchange.h"
#include "http/link.h"
#include "http/reply.h"
#include "http/server_parts.h"
#include "http/tls.h"

#include <sys/socket.h>

/* The schema files as text: schemas.inc is made from them by make. */
static const struct {
    const char *name, *text;
} files[] = {
#include "http/schemas.inc"
};

/* ---- the components ---- */

static int merge_section(json_t *all, const json_t *file, const char *section,
                         const char *name, struct pt2_err *err)
{
    const char *key;
    json_t *value;

    json_object_foreach (json_object_get(file, section), key, value) {
        if (json_object_get(json_object_get(all, section), key))
            return pt2_err_set(err, PT2_ERR_INTERNAL, "%s: %s '%s' is there twice", name,
                               section, key);
        if (json_object_set(json_object_get(all, section), key, value) < 0)
            return pt2_err_set(err, PT2_ERR_NOMEM, "OpenAPI document");
    }
    return 0;
}

static int load_components(json_t **ret, struct pt2_err *err)
{
    static const char *const sections[] = {"schemas", "parameters", "responses"};
    json_auto_t *all = json_pack("{s:{}, s:{}, s:{}, s:{s:{s:s, s:s, s:s}}}", "schemas",
                                 "parameters", "responses", "securitySchemes", "bearer",
                                 "type", "http", "scheme", "bearer", "description",
                                 "A token of the daemon's token file.  An operation "
                                 "names the scope that it needs: read, step, export or "
                                 "admin, which has the others within.");

    if (!all)
        return pt2_err_set(err, PT2_ERR_NOMEM, "OpenAPI document");
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        json_auto_t *file = NULL;

        if (json_parse(files[i].text, strlen(files[i].text), &file, err) < 0)
            return pt2_err_prefix(err, "%s", files[i].name);
        for (size_t s = 0; s < ARRAY_LEN(sections); s++)
            if (merge_section(all, file, sections[s], files[i].name, err) < 0)
                return -1;
    }
    *ret = TAKE(all);
    return 0;
}

static json_t *make_ref(const char *section, const char *name)
{
    return json_pack("{s:o}", "$ref", json_sprintf("#/components/%s/%s", section, name));
}

/* ---- one operation ---- */

struct making {
    const json_t *components;
    bool needs_token; /* nobody is let in without one */
    const struct route *route;
    json_t *operation;
    struct pt2_err *err;
};

static int add_ref(struct making *m, json_t *to, const char *schema)
{
    if (!json_object_get(json_object_get(m->components, "schemas"), schema))
        return pt2_err_set(m->err, PT2_ERR_INTERNAL, "%s %s: there is no schema '%s'",
                           m->route->method, m->route->path, schema);
    return json_object_set_new(to, "schema", make_ref("schemas", schema));
}

/* A parameter that a schema file describes: for this operation, as
 * "query.get_v1_exports.after", or for all, as "query.limit"; otherwise a string. */
static void add_parameter(struct making *m, const char *in, const char *name, size_t len)
{
    const char *id = json_string_value(json_object_get(m->operation, "operationId"));
    const json_t *described = json_object_get(m->components, "parameters");
    json_t *list = json_object_get(m->operation, "parameters");
    bool is_prefix = name[len - 1] == '.';
    char key[256];

    snprintf(key, sizeof(key), "%s.%s.%.*s", in, id ? id : "", (int)len, name);
    if (!json_object_get(described, key))
        snprintf(key, sizeof(key), "%s.%.*s", in, (int)len, name);
    if (json_object_get(described, key))
        json_array_append_new(list, make_ref("parameters", key));
    else
        json_array_append_new(list, json_pack("{s:o, s:s, s:b, s:{s:s}}", "name",
                                              json_sprintf("%.*s%s", (int)len, name,
                                                           is_prefix ? "NAME" : ""),
                                              "in", in, "required", streq(in, "path"),
                                              "schema", "type", "string"));
}

static void add_names(struct making *m, const char *in, const char *names)
{
    while (names && *names) {
        size_t n = strcspn(names, " ");

        add_parameter(m, in, names, n);
        names += n + strspn(names + n, " ");
    }
}

static void add_path_parameters(struct making *m)
{
    for (const char *s = strchr(m->route->path, '{'); s; s = strchr(s + 1, '{'))
        add_parameter(m, "path", s + 1, strcspn(s + 1, "}"));
}

static int add_request_body(struct making *m)
{
    const struct route *route = m->route;
    bool is_json = route->body == HTTP_BODY_JSON;
    const char *type = is_json             ? "application/json"
                       : route->media_type ? route->media_type
                                           : "application/octet-stream";
    json_t *media = json_object(), *body;

    if (route->body == HTTP_BODY_NONE) {
        json_decref(media);
        return 0;
    }
    body = json_pack("{s:b, s:{s:o}}", "required", !(route->flags & HTTP_OPTIONAL_BODY),
                     "content", type, media);
    json_object_set_new(m->operation, "requestBody", body);
    if (is_json && route->takes)
        return add_ref(m, media, route->takes);
    return 0;
}

/* The content of a good reply: each type that the route produces. */
static int add_content(struct making *m, json_t *response)
{
    const char *types = m->route->produces ? m->route->produces : "application/json";
    json_t *content = json_object();

    json_object_set_new(response, "content", content);
    while (*types) {
        size_t n = strcspn(types, " ");
        json_t *media = json_object();
        char type[80];

        snprintf(type, sizeof(type), "%.*s", (int)n, types);
        json_object_set_new(content, type, media);
        if (streq(type, "application/json") && m->route->gives &&
            add_ref(m, media, m->route->gives) < 0)
            return -1;
        types += n + strspn(types + n, " ");
    }
    return 0;
}

static const char *describe_status(int status)
{
    switch (status) {
    case 200:
        return "Done";
    case 201:
        return "Made";
    case 202:
        return "Accepted";
    case 204:
        return "Done; no body";
    case 206:
        return "A part";
    case 304:
        return "Not modified";
    default:
        return "A problem";
    }
}

static int add_statuses(struct making *m, json_t *responses, const char *statuses)
{
    while (*statuses) {
        int status = atoi(statuses);
        size_t n = strcspn(statuses, " ");
        char code[8];
        json_t *response;

        snprintf(code, sizeof(code), "%d", status);
        if (status >= 400)
            response = make_ref("responses", "Problem");
        else
            response = json_pack("{s:s}", "description", describe_status(status));
        json_object_set_new(responses, code, response);
        if (status < 300 && status != 204 && add_content(m, response) < 0)
            return -1;
        statuses += n + strspn(statuses + n, " ");
    }
    return 0;
}

static int add_responses(struct making *m)
{
    const struct route *route = m->route;
    const char *callers = route->scope == SCOPE_OPEN ? "403" : "401 403 429";
    json_t *responses = json_object();

    json_object_set_new(m->operation, "responses", responses);
    if (add_statuses(m, responses, route->statuses ? route->statuses : "200") < 0 ||
        add_statuses(m, responses, callers) < 0)
        return -1;
    json_object_set_new(responses, "default", make_ref("responses", "Problem"));
    return 0;
}

/* Anybody may call an open route; others want a token with the scope, or none where the
 * daemon has no token file or may know the process at the other end, or its certificate. */
static void add_security(struct making *m)
{
    enum scope scope = m->route->scope;
    json_t *security = json_array();

    json_object_set_new(m->operation, "security", security);
    if (scope == SCOPE_OPEN)
        return;
    json_array_append_new(security, json_pack("{s:[s]}", "bearer", scope_name(scope)));
    if (!m->needs_token)
        json_array_append_new(security, json_object());
}

/* "post_v1_sessions_id_step" */
static json_t *make_operation_id(const struct route *route)
{
    char id[160];
    size_t n = (size_t)snprintf(id, sizeof(id), "%s", route->method);

    for (size_t i = 0; i < n; i++)
        id[i] |= 0x20;
    for (const char *s = route->path; *s && n + 1 < sizeof(id); s++) {
        if (*s == '/' || *s == '.')
            id[n++] = '_';
        else if (*s != '{' && *s != '}')
            id[n++] = *s;
    }
    return json_stringn(id, n);
}

/* "sessions" of "/v1/sessions/{id}"; "service" of what is outside /v1. */
static json_t *make_tag(const struct route *route)
{
    const char *rest = after_prefix(route->path, "/v1/");

    return rest ? json_stringn(rest, strcspn(rest, "/")) : json_string("service");
}

static int add_operation(struct making *m, json_t *paths)
{
    const struct route *route = m->route;
    json_t *item = json_object_get(paths, route->path);
    char method[16];

    if (!item) {
        item = json_object();
        json_object_set_new(paths, route->path, item);
    }
    snprintf(method, sizeof(method), "%s", route->method);
    for (char *s = method; *s; s++)
        *s |= 0x20;
    m->operation =
        json_pack("{s:o, s:s, s:[o], s:[]}", "operationId", make_operation_id(route),
                  "summary", route->summary ? route->summary : route->path, "tags",
                  make_tag(route), "parameters");
    if (json_object_set_new(item, method, m->operation) < 0)
        return pt2_err_set(m->err, PT2_ERR_NOMEM, "OpenAPI document");
    add_path_parameters(m);
    add_names(m, "query", route->query);
    add_names(m, "header", route->headers);
    add_security(m);
    return add_request_body(m) < 0 || add_responses(m) < 0 ? -1 : 0;
}

int openapi_make(const struct route_table *table, bool needs_token, json_t **ret_json,
                 struct pt2_err *err)
{
    json_auto_t *components = NULL, *document = NULL;
    json_t *paths = json_object();

    if (load_components(&components, err) < 0) {
        json_decref(paths);
        return -1;
    }
    document = json_pack(
        "{s:s, s:{s:s, s:s, s:s}, s:[{s:s}], s:o, s:O}", "openapi",
        "3.1.0", "info", "title", "pt2d", "version", PACKAGE_VERSION, "description",
        "Makes torch.export programs from language-model checkpoints, and steps such "
        "programs token by token.",
        "servers", "url", "/", "paths", paths, "components",
        components);
    if (!document)
        return pt2_err_set(err, PT2_ERR_NOMEM, "OpenAPI document");
    for (size_t i = 0; i < table->n; i++) {
        struct making m = {.components = components,
                           .needs_token = needs_token,
                           .route = &table->rows[i],
                           .err = err};

        if (add_operation(&m, paths) < 0)
            return -1;
    }
    *ret_json = TAKE(document);
    return 0;
}

/* Is a caller over this connection let in by his token alone? */
static bool is_token_needed(const struct http_exchange *x)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof(address);

    if (x->link->tls && tls_asks_clients(x->server->tls))
        return false;
    return auth_is_needed(x->server->auth) &&
           getsockname(x->fd, (struct sockaddr *)&address, &size) == 0 &&
           address.ss_family != AF_UNIX;
}

/* GET /openapi.json */
void openapi_get(struct http_request *req)
{
    struct http_exchange *x = exchange_of(req);
    struct pt2_err err = {0};
    json_t *json = NULL;

    if (openapi_make(x->server->table, is_token_needed(x), &json, &err) < 0)
        http_reply_err(req, &err);
    else
        http_reply_json(req, 200, json);
}
