#include "cmd/hub.h"

#include "cmd/ctl_http.h"
#include "cmd/ctl_push_files.h"
#include "store/model_id.h"

#include <curl/curl.h>
#include <errno.h>
#include <sys/stat.h>

#define MAX_REDIRECTS 8
#define TRIES         5
#define MAX_LIST      ((size_t)64 << 20)

/* ---- names ---- */

/* A branch, a tag or a commit; as a path beneath refs it leads nowhere else. */
static bool is_revision(const char *s)
{
    size_t n = strlen(s);

    if (n == 0 || n > 255 || s[0] == '/' || s[n - 1] == '/' || strstr(s, ".."))
        return false;
    for (; *s; s++)
        if ((unsigned char)*s <= ' ' || *s == 0x7f)
            return false;
    return true;
}

int hub_init(struct hub *hub, struct ctl *ctl, const char *repo, const char *revision)
{
    *hub = (struct hub){.ctl = ctl, .repo = repo, .revision = revision};
    if (model_id_check_new(repo, NULL) < 0)
        return ctl_fail(ctl, CTL_USAGE,
                        "'%s' is no name of a hub's model, as org/name is one", repo);
    if (!is_revision(revision))
        return ctl_fail(ctl, CTL_USAGE, "'%s' is no branch, tag or commit", revision);
    return hub_settings_read(ctl, &hub->settings);
}

/* ---- URLs ---- */

static char *url_part(CURLU *url, CURLUPart part)
{
    char *text = NULL;

    /* The whole stays as it came: a port added would be signed for by nobody. */
    unsigned flags = part == CURLUPART_URL ? 0 : CURLU_DEFAULT_PORT;

    return curl_url_get(url, part, &text, flags) == CURLUE_OK ? text : NULL;
}

static bool is_same_part(CURLU *a, CURLU *b, CURLUPart part)
{
    char *x = url_part(a, part), *y = url_part(b, part);
    bool is_same = x && y && strcasecmp(x, y) == 0;

    curl_free(x);
    curl_free(y);
    return is_same;
}

/* May the hub's token go there? */
static bool is_endpoint(const struct hub *hub, CURLU *url)
{
    CURLU *endpoint = curl_url();
    bool is = endpoint &&
              curl_url_set(endpoint, CURLUPART_URL, hub->settings.endpoint, 0) ==
                  CURLUE_OK &&
              is_same_part(endpoint, url, CURLUPART_SCHEME) &&
              is_same_part(endpoint, url, CURLUPART_HOST) &&
              is_same_part(endpoint, url, CURLUPART_PORT);

    curl_url_cleanup(endpoint);
    return is;
}

static bool has_scheme(CURLU *url, const char *wanted)
{
    char *scheme = url_part(url, CURLUPART_SCHEME);
    bool has = scheme && strcasecmp(scheme, wanted) == 0;

    curl_free(scheme);
    return has;
}

/* location may be relative. */
static int follow(struct hub *hub, CURLU *url, const char *location)
{
    bool was_secure = has_scheme(url, "https");

    if (!*location || curl_url_set(url, CURLUPART_URL, location, 0) != CURLUE_OK ||
        !(has_scheme(url, "https") || has_scheme(url, "http")))
        return ctl_fail(hub->ctl, CTL_BROKEN, "the hub redirects to what is no URL");
    if (was_secure && !has_scheme(url, "https"))
        return ctl_fail(hub->ctl, CTL_BROKEN,
                        "the hub redirects from https to http; that is not followed");
    return 0;
}

/* ---- requests ---- */

struct ask {
    uint64_t from;
    bool (*on_data)(void *to, long status, const char *data, size_t len);
    void *to;
};

static bool is_redirect(long status)
{
    return status == 301 || status == 302 || status == 303 || status == 307 ||
           status == 308;
}

static int ask_once(struct hub *hub, CURLU *url, const struct ask *ask,
                    struct ctl_reply *ret_reply)
{
    char range[64], authorization[sizeof(hub->settings.token) + 32];
    struct ctl_request request = {
        .method = "GET", .accept = "*/*", .on_data = ask->on_data, .ctx = ask->to};
    char *text = NULL;
    size_t n = 0;
    int r;

    if (ask->from > 0) {
        snprintf(range, sizeof(range), "Range: bytes=%llu-",
                 (unsigned long long)ask->from);
        request.headers[n++] = range;
    }
    if (hub->settings.token[0] && is_endpoint(hub, url)) {
        snprintf(authorization, sizeof(authorization), "Authorization: Bearer %s",
                 hub->settings.token);
        request.headers[n++] = authorization;
    }
    text = url_part(url, CURLUPART_URL);
    request.url = text;
    r = ctl_http(hub->ctl, &request, ret_reply);
    curl_free(text);
    return r;
}

static int ask_along(struct hub *hub, CURLU *url, const struct ask *ask,
                     struct ctl_reply *ret_reply)
{
    for (unsigned hops = 0; hops < MAX_REDIRECTS; hops++) {
        char location[sizeof(ret_reply->location)];

        if (ask_once(hub, url, ask, ret_reply) < 0)
            return -1;
        if (!is_redirect(ret_reply->status))
            return 0;
        snprintf(location, sizeof(location), "%s", ret_reply->location);
        if (follow(hub, url, location) < 0)
            return -1;
        ctl_reply_done(ret_reply);
    }
    return ctl_fail(hub->ctl, CTL_BROKEN, "the hub redirects in circles");
}

static int refused(struct hub *hub, const struct ctl_reply *reply, const char *path)
{
    struct ctl *ctl = hub->ctl;
    long status = reply->status;
    bool has_token = hub->settings.token[0];

    if (streq(reply->error_code, "GatedRepo"))
        return ctl_fail(ctl, CTL_REFUSED,
                        "%s/%s is gated: accept its terms there, and set HF_TOKEN to your "
                        "token",
                        hub->settings.endpoint, hub->repo);
    if (streq(reply->error_code, "RevisionNotFound"))
        return ctl_fail(ctl, CTL_MISSING, "model '%s' has no revision '%s'", hub->repo,
                        hub->revision);
    if (status == 401 || status == 403)
        return ctl_fail(ctl, CTL_REFUSED,
                        "the hub refuses model '%s' (%ld): %s", hub->repo, status,
                        has_token ? "there is none, or your token may not read it"
                                  : "there is none, or it needs a token in HF_TOKEN");
    if (status == 404)
        return ctl_fail(ctl, CTL_MISSING, "the hub %s has no %s", hub->settings.endpoint,
                        path);
    return ctl_fail(ctl, status >= 500 ? CTL_BROKEN : CTL_REFUSED,
                    "the hub answered %ld to %s", status, path);
}

/* 0 for a 2xx answer, and for 416 to a range. */
static int hub_ask(struct hub *hub, const char *path, const struct ask *ask,
                   struct ctl_reply *ret_reply)
{
    CURLU *url = curl_url();
    char text[sizeof(hub->settings.endpoint) + 2048];
    int r = -1;

    snprintf(text, sizeof(text), "%s%s", hub->settings.endpoint, path);
    for (unsigned try = 1;; try++) {
        if (!url || curl_url_set(url, CURLUPART_URL, text, 0) != CURLUE_OK) {
            r = ctl_fail(hub->ctl, CTL_USAGE, "'%s' is no URL", text);
            break;
        }
        r = ask_along(hub, url, ask, ret_reply);
        if (r < 0 || (ret_reply->status != 429 && ret_reply->status < 500) ||
            try == TRIES)
            break;
        r = ctl_pause(hub->ctl, ret_reply->retry_after, try);
        if (r < 0)
            break;
        ctl_reply_done(ret_reply);
    }
    curl_url_cleanup(url);
    if (r < 0 || (ret_reply->status >= 200 && ret_reply->status < 300))
        return r;
    if (ret_reply->status == 416)
        return ctl_fail(hub->ctl, CTL_BROKEN, "the hub has no such bytes of %s", path);
    return refused(hub, ret_reply, path);
}

/* ---- the list ---- */

struct list_text {
    struct buf buf;
};

static bool keep_text(void *to, long status, const char *data, size_t len)
{
    struct list_text *text = to;

    buf_add(&text->buf, data, len);
    return !buf_failed(&text->buf);
}

/* The path of a repository: its slash is one. */
static char *repo_path(const struct hub *hub, const char *before, const char *fmt_after,
                       const char *revision, const char *file)
{
    AUTO_PTR char *after = ctl_path(fmt_after, revision, file);
    char *path = NULL;

    if (!after || asprintf(&path, "%s%s%s", before, hub->repo, after) < 0)
        return NULL;
    return path;
}

int hub_get_list(struct hub *hub, struct hub_list *ret_list)
{
    AUTO_PTR char *path =
        repo_path(hub, "/api/models/", "/revision/%s?blobs=true", hub->revision, "");
    struct list_text text;
    struct ask ask = {.on_data = keep_text, .to = &text};
    struct pt2_err err = {0};
    AUTO_REPLY reply = {0};
    int r;

    *ret_list = (struct hub_list){0};
    if (!path)
        return ctl_fail_nomem(hub->ctl);
    buf_init(&text.buf, MAX_LIST);
    r = hub_ask(hub, path, &ask, &reply);
    if (r == 0 && buf_failed(&text.buf))
        r = ctl_fail(hub->ctl, CTL_BROKEN, "the hub's list is beyond %zu bytes",
                     MAX_LIST);
    if (r == 0 && hub_list_parse(text.buf.data ? text.buf.data : "", text.buf.len,
                                 ret_list, &err) < 0)
        r = ctl_fail_err(hub->ctl, CTL_BROKEN, &err);
    buf_done(&text.buf);
    return r;
}

/* ---- a file ---- */

static int get_remote(void *ctx, uint64_t from,
                      bool (*fn)(void *to, long status, const char *data, size_t len),
                      void *to, long *ret_status)
{
    const struct hub_source *source = ctx;
    AUTO_PTR char *path = repo_path(source->hub, "/", "/resolve/%s/%s", source->commit,
                                    source->file->name);
    struct ask ask = {.from = from, .on_data = fn, .to = to};
    AUTO_REPLY reply = {0};
    int r;

    if (!path)
        return ctl_fail_nomem(source->hub->ctl);
    r = hub_ask(source->hub, path, &ask, &reply);
    *ret_status = reply.status;
    return r;
}

static int get_local(void *ctx, uint64_t from,
                     bool (*fn)(void *to, long status, const char *data, size_t len),
                     void *to, long *ret_status)
{
    const struct hub_source *source = ctx;
    AUTO_FILE FILE *file = fopen(source->path, "rb");
    static char block[1 << 16];
    size_t n;

    *ret_status = from > 0 ? 206 : 200;
    if (!file || fseeko(file, (off_t)from, SEEK_SET) < 0)
        return ctl_fail(source->hub->ctl, CTL_FILE, "%s: %s", source->path,
                        strerror(errno));
    while ((n = fread(block, 1, sizeof(block), file)) > 0) {
        if (ctl_interrupted)
            return ctl_fail(source->hub->ctl, CTL_INTERRUPTED, "interrupted");
        if (!fn(to, *ret_status, block, n))
            return 0;
    }
    return ferror(file) ? ctl_fail(source->hub->ctl, CTL_FILE, "%s: %s", source->path,
                                   strerror(errno))
                        : 0;
}

void hub_source_init(struct hub_source *source, struct hub *hub, const char *commit,
                     const struct hub_file *file, const char *path)
{
    *source = (struct hub_source){
        .hub = hub, .commit = commit, .file = file, .path = path};
    snprintf(source->label, sizeof(source->label), "%s %s", path ? "copy" : "download",
             file->name);
    source->fetch = (struct fetch_source){.label = source->label,
                                          .what = file->name,
                                          .bytes = file->bytes,
                                          .kind = file->kind,
                                          .digest = file->digest,
                                          .get = path ? get_local : get_remote,
                                          .ctx = source};
}

/* ---- the cache ---- */

/* …/models--org--name */
static void cache_folder(const struct hub *hub, char ret_path[PATH_MAX])
{
    const char *slash = strchr(hub->repo, '/');

    snprintf(ret_path, PATH_MAX, "%.*s/models--%.*s%s%s", PATH_MAX - 800,
             hub->settings.cache, slash ? (int)(slash - hub->repo) : 0, hub->repo,
             slash ? "--" : "", slash ? slash + 1 : hub->repo);
}

void hub_snapshot(const struct hub *hub, const char *commit, char ret_path[PATH_MAX])
{
    size_t n;

    cache_folder(hub, ret_path);
    n = strlen(ret_path);
    snprintf(ret_path + n, PATH_MAX - n, "/snapshots/%s", commit);
}

int hub_cached_commit(struct hub *hub, char ret_commit[HUB_COMMIT_SIZE])
{
    char path[PATH_MAX], text[HUB_COMMIT_SIZE + 1] = "";
    AUTO_FILE FILE *file = NULL;
    size_t n;

    if (blob_hash_is_hex(BLOB_GIT, hub->revision)) {
        memcpy(ret_commit, hub->revision, HUB_COMMIT_SIZE);
        return 0;
    }
    cache_folder(hub, path);
    n = strlen(path);
    snprintf(path + n, PATH_MAX - n, "/refs/%s", hub->revision);
    file = fopen(path, "r");
    text[file ? fread(text, 1, sizeof(text) - 1, file) : 0] = '\0';
    text[strcspn(text, "\r\n")] = '\0';
    if (!blob_hash_is_hex(BLOB_GIT, text))
        return ctl_fail(hub->ctl, CTL_MISSING,
                        "the hub's cache %s has no revision '%s' of model '%s'",
                        hub->settings.cache, hub->revision, hub->repo);
    memcpy(ret_commit, text, HUB_COMMIT_SIZE);
    return 0;
}
