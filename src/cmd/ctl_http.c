#include "cmd/ctl_http.h"

#include <ctype.h>
#include <curl/curl.h>
#include <stdarg.h>

#define REPLY_MAX      ((size_t)1 << 30)
#define DEFAULT_SERVER "http://127.0.0.1:8250"

/* One transfer, for the callbacks. */
struct transfer {
    struct ctl *ctl;
    const struct ctl_request *request;
    struct ctl_reply *reply;
    bool stopped; /* by on_data */
};

static long answer_status(struct transfer *t)
{
    long status = 0;

    curl_easy_getinfo(t->ctl->curl, CURLINFO_RESPONSE_CODE, &status);
    return status;
}

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
    struct transfer *t = arg;
    size_t len = size * n;
    long status = answer_status(t);

    if (t->request->on_data && status >= 200 && status < 300) {
        if (t->request->on_data(t->request->ctx, status, data, len))
            return len;
        t->stopped = true;
        return 0;
    }
    buf_add(&t->reply->body, data, len);
    return buf_failed(&t->reply->body) ? 0 : len;
}

/* The value of header `name` where the line is of that header. */
static void keep_header(const char *line, size_t len, const char *name, char *to,
                        size_t room)
{
    size_t n = strlen(name);

    if (len <= n || strncasecmp(line, name, n) != 0 || line[n] != ':')
        return;
    line += n + 1;
    len -= n + 1;
    while (len && isspace((unsigned char)*line))
        line++, len--;
    while (len && isspace((unsigned char)line[len - 1]))
        len--;
    snprintf(to, room, "%.*s", (int)len, line);
}

static size_t on_header(char *data, size_t size, size_t n, void *arg)
{
    struct transfer *t = arg;
    struct ctl_reply *r = t->reply;
    size_t len = size * n;

    keep_header(data, len, "ETag", r->etag, sizeof(r->etag));
    keep_header(data, len, "Content-Type", r->content_type, sizeof(r->content_type));
    keep_header(data, len, "Content-Range", r->content_range, sizeof(r->content_range));
    keep_header(data, len, "Location", r->location, sizeof(r->location));
    keep_header(data, len, "X-Error-Code", r->error_code, sizeof(r->error_code));
    keep_header(data, len, "Retry-After", r->retry_after, sizeof(r->retry_after));
    return len;
}

static size_t on_read(char *to, size_t size, size_t n, void *arg)
{
    struct transfer *t = arg;
    size_t got = fread(to, 1, size * n, t->request->file);

    return got == 0 && ferror(t->request->file) ? CURL_READFUNC_ABORT : got;
}

static int on_seek(void *arg, curl_off_t offset, int origin)
{
    struct transfer *t = arg;

    return fseeko(t->request->file, offset, origin) == 0 ? CURL_SEEKFUNC_OK
                                                         : CURL_SEEKFUNC_FAIL;
}

static int on_progress(void *arg, curl_off_t down_total, curl_off_t down,
                       curl_off_t up_total, curl_off_t up)
{
    struct transfer *t = arg;

    if (t->request->on_sent && up_total > 0)
        t->request->on_sent(t->request->ctx, (uint64_t)up, (uint64_t)up_total);
    return ctl_interrupted != 0;
}

/* ---- the server ---- */

const char *ctl_server(const struct ctl *ctl)
{
    return ctl->server && *ctl->server ? ctl->server : DEFAULT_SERVER;
}

/* "unix:/run/x" is a socket and a URL of no meaning; "host:port" lacks its scheme. */
static int set_url(struct ctl *ctl, const char *path)
{
    const char *server = ctl_server(ctl);
    const char *file = after_prefix(server, "unix:");
    char url[4096];
    size_t len;
    int n;

    if (file) {
        if (after_prefix(file, "//"))
            file += 2;
        curl_easy_setopt(ctl->curl, CURLOPT_UNIX_SOCKET_PATH, file);
        server = "http://localhost";
    }
    len = strlen(server);
    while (len && server[len - 1] == '/')
        len--;
    n = snprintf(url, sizeof(url), "%s%.*s%s", strstr(server, "://") ? "" : "http://",
                 (int)len, server, path);
    if (n < 0 || (size_t)n >= sizeof(url))
        return ctl_fail(ctl, CTL_USAGE, "the address '%s%s' is too long", server, path);
    curl_easy_setopt(ctl->curl, CURLOPT_URL, url);
    return 0;
}

static struct curl_slist *add_header(struct curl_slist *list, const char *fmt, ...)
    PT2_PRINTF(2, 3);

static struct curl_slist *add_header(struct curl_slist *list, const char *fmt, ...)
{
    char line[4096];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    return curl_slist_append(list, line);
}

static struct curl_slist *headers_of(struct ctl *ctl, const struct ctl_request *request)
{
    struct curl_slist *list = NULL;

    list = add_header(list, "Accept: %s",
                      request->accept ? request->accept : "application/json");
    if (request->json)
        list = add_header(list, "Content-Type: application/json");
    else if (request->file)
        list = add_header(list, "Content-Type: %s",
                          request->content_type ? request->content_type
                                                : "application/octet-stream");
    if (ctl->token && !request->url)
        list = add_header(list, "Authorization: Bearer %s", ctl->token);
    for (size_t i = 0; i < ARRAY_LEN(request->headers) && request->headers[i]; i++)
        list = add_header(list, "%s", request->headers[i]);
    return list;
}

/* The daemon's connections alone; a hub has the system's CAs. */
static void set_tls(const struct ctl *ctl)
{
    if (ctl->cacert && *ctl->cacert) {
        curl_easy_setopt(ctl->curl, CURLOPT_CAINFO, ctl->cacert);
        curl_easy_setopt(ctl->curl, CURLOPT_CAPATH, NULL);
    }
    if (ctl->cert && *ctl->cert)
        curl_easy_setopt(ctl->curl, CURLOPT_SSLCERT, ctl->cert);
    if (ctl->key && *ctl->key)
        curl_easy_setopt(ctl->curl, CURLOPT_SSLKEY, ctl->key);
}

static int set_options(struct ctl *ctl, struct transfer *t, const char *body)
{
    const struct ctl_request *request = t->request;
    CURL *curl = ctl->curl;

    curl_easy_reset(curl); /* the connection stays */
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, t);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
#if LIBCURL_VERSION_NUM >= 0x075500
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
#else
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 15L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME,
                     request->timeout_s ? request->timeout_s : 120L);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, PACKAGE_NAME "ctl/" PACKAGE_VERSION);
    if (body) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(body));
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
    } else if (request->file) {
        curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(curl, CURLOPT_READFUNCTION, on_read);
        curl_easy_setopt(curl, CURLOPT_READDATA, t);
        curl_easy_setopt(curl, CURLOPT_SEEKFUNCTION, on_seek);
        curl_easy_setopt(curl, CURLOPT_SEEKDATA, t);
        curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)request->file_bytes);
        curl_easy_setopt(curl, CURLOPT_EXPECT_100_TIMEOUT_MS, 2000L);
    } else if (streq(request->method, "POST") || streq(request->method, "PUT")) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, 0L);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, "");
    } else if (streq(request->method, "HEAD")) {
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    }
    if (!request->url) {
        set_tls(ctl);
        return set_url(ctl, request->path);
    }
    curl_easy_setopt(curl, CURLOPT_URL, request->url);
    return 0;
}

/* ---- failures ---- */

static int fail_problem(struct ctl *ctl, const struct ctl_request *request,
                        const struct ctl_reply *reply)
{
    enum ctl_exit code = reply->status == 404   ? CTL_MISSING
                         : reply->status >= 500 ? CTL_BROKEN
                                                : CTL_REFUSED;
    const char *title = NULL, *detail = NULL;
    char more[512] = "";
    size_t used = 0, i;
    json_t *e;

    if (ctl->exit == CTL_OK)
        ctl->problem = reply->body.len
                           ? json_loadb(reply->body.data, reply->body.len, 0, NULL)
                           : NULL;
    if (ctl->problem) {
        title = json_string_value(json_object_get(ctl->problem, "title"));
        detail = json_string_value(json_object_get(ctl->problem, "detail"));
    }
    json_array_foreach (json_object_get(ctl->problem, "errors"), i, e) {
        const char *pointer = json_string_value(json_object_get(e, "pointer"));
        const char *text = json_string_value(json_object_get(e, "detail"));

        if (used < sizeof(more))
            used += (size_t)snprintf(more + used, sizeof(more) - used, "\n  %s: %s",
                                     pointer ? pointer : "", text ? text : "");
    }
    if (!detail && !title)
        return ctl_fail(ctl, code, "%s %s answered %ld", request->method, request->path,
                        reply->status);
    return ctl_fail(ctl, code, "%s%s%s%s", title ? title : "",
                    title && detail ? ": " : "", detail ? detail : "", more);
}

static int fail_transfer(struct ctl *ctl, struct transfer *t, CURLcode code,
                         const char *why)
{
    const char *server = ctl_server(ctl);
    const char *url = t->request->url;
    long number = 0;

    if (ctl_interrupted)
        return ctl_fail(ctl, CTL_INTERRUPTED, "interrupted");
    if (buf_failed(&t->reply->body))
        return ctl_fail(ctl, CTL_BROKEN, "the answer to %s %s is beyond %zu bytes",
                        t->request->method, url ? url : t->request->path, REPLY_MAX);
    if (code == CURLE_ABORTED_BY_CALLBACK && t->request->file)
        return ctl_fail(ctl, CTL_FILE, "the file could not be read");
    t->reply->is_cut = t->reply->status != 0;
    if (url) /* without its query, which may be a signature */
        return ctl_fail(ctl, CTL_UNREACHABLE, "%.*s: %s", (int)strcspn(url, "?"), url,
                        *why ? why : curl_easy_strerror(code));
    if (code == CURLE_COULDNT_CONNECT && after_prefix(server, "unix:")) {
        curl_easy_getinfo(ctl->curl, CURLINFO_OS_ERRNO, &number); /* why has a port */
        why = number ? strerror((int)number) : "can't be connected to";
    }
    return ctl_fail(ctl, CTL_UNREACHABLE, "the daemon at %s: %s", server,
                    *why ? why : curl_easy_strerror(code));
}

static int start_curl(struct ctl *ctl)
{
    if (ctl->curl)
        return 0;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0)
        return ctl_fail(ctl, CTL_BROKEN, "libcurl does not start");
    ctl->curl = curl_easy_init();
    return ctl->curl ? 0 : ctl_fail_nomem(ctl);
}

int ctl_http(struct ctl *ctl, const struct ctl_request *request,
             struct ctl_reply *ret_reply)
{
    struct transfer t = {.ctl = ctl, .request = request, .reply = ret_reply};
    struct curl_slist *headers = NULL;
    char why[CURL_ERROR_SIZE] = "";
    AUTO_PTR char *body = NULL;
    CURLcode code;

    memset(ret_reply, 0, sizeof(*ret_reply));
    buf_init(&ret_reply->body, REPLY_MAX);
    if (!request->path && !request->url)
        return ctl_fail_nomem(ctl);
    if (start_curl(ctl) < 0)
        return -1;
    if (request->json && !(body = json_dumps(request->json, JSON_COMPACT)))
        return ctl_fail_nomem(ctl);
    if (set_options(ctl, &t, body) < 0)
        return -1;
    headers = headers_of(ctl, request);
    curl_easy_setopt(ctl->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(ctl->curl, CURLOPT_ERRORBUFFER, why);
    code = curl_easy_perform(ctl->curl);
    ret_reply->status = answer_status(&t);
    curl_easy_setopt(ctl->curl, CURLOPT_HTTPHEADER, NULL);
    curl_easy_setopt(ctl->curl, CURLOPT_ERRORBUFFER, NULL);
    curl_slist_free_all(headers);
    if (code != CURLE_OK && !t.stopped) {
        /* A refusal may come while the body is still being sent, and then the connection
         * closes: what was refused matters more than how. */
        if (ret_reply->status >= 400 && ret_reply->body.len && !ctl_interrupted &&
            !request->url)
            return fail_problem(ctl, request, ret_reply);
        return fail_transfer(ctl, &t, code, why);
    }
    if (!request->url && (ret_reply->status < 200 || ret_reply->status >= 300))
        return fail_problem(ctl, request, ret_reply);
    return 0;
}

void ctl_reply_done(struct ctl_reply *reply)
{
    buf_done(&reply->body);
}

/* ---- JSON ---- */

int ctl_json(struct ctl *ctl, const char *method, const char *path, json_t *body,
             json_t **ret_json)
{
    json_auto_t *taken = body;
    struct ctl_request request = {.method = method, .path = path, .json = taken};
    AUTO_REPLY reply;
    json_error_t why;
    json_t *json;

    if (ctl_http(ctl, &request, &reply) < 0)
        return -1;
    if (!ret_json)
        return 0;
    *ret_json = NULL;
    if (reply.body.len == 0)
        return 0;
    json = json_loadb(reply.body.data, reply.body.len, JSON_REJECT_DUPLICATES, &why);
    if (!json)
        return ctl_fail(ctl, CTL_BROKEN, "the answer to %s %s is not JSON: %s", method,
                        path, why.text);
    *ret_json = json;
    return 0;
}

int ctl_list(struct ctl *ctl, const char *path, json_t **ret_data)
{
    json_auto_t *all = json_array();
    AUTO_PTR char *after = NULL; /* encoded; NULL: the first page */

    if (!all)
        return ctl_fail_nomem(ctl);
    for (;;) {
        json_auto_t *page = NULL;
        AUTO_PTR char *url = NULL;
        const char *next;

        if (asprintf(&url, "%s%climit=1000%s%s", path, strchr(path, '?') ? '&' : '?',
                     after ? "&after=" : "", after ? after : "") < 0) {
            url = NULL;
            return ctl_fail_nomem(ctl);
        }
        if (ctl_json(ctl, "GET", url, NULL, &page) < 0)
            return -1;
        if (!json_is_array(json_object_get(page, "data")))
            return ctl_fail(ctl, CTL_BROKEN, "the answer to GET %s is not a list", path);
        json_array_extend(all, json_object_get(page, "data"));
        next = json_string_value(json_object_get(page, "next"));
        if (!next)
            break;
        free(after);
        after = ctl_path("%s", next);
        if (!after)
            return ctl_fail_nomem(ctl);
    }
    *ret_data = TAKE(all);
    return 0;
}

char *ctl_path(const char *fmt, ...)
{
    AUTO_BUF b = BUF_INIT(1 << 16);
    va_list ap;

    va_start(ap, fmt);
    for (const char *p = fmt; *p; p++) {
        const char *s;

        if (p[0] != '%' || p[1] != 's') {
            buf_add(&b, p, 1);
            continue;
        }
        p++;
        s = va_arg(ap, const char *);
        for (; s && *s; s++)
            if (isalnum((unsigned char)*s) || strchr("-._~", *s))
                buf_add(&b, s, 1);
            else
                buf_printf(&b, "%%%02X", (unsigned char)*s);
    }
    va_end(ap);
    return buf_failed(&b) ? NULL : buf_take(&b);
}

void ctl_http_done(struct ctl *ctl)
{
    if (!ctl->curl)
        return;
    curl_easy_cleanup(ctl->curl);
    curl_global_cleanup();
    ctl->curl = NULL;
}
