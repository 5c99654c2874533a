/* ctl_sessions.c - pt2ctl sessions */
#include "cmd/ctl.h"
#include "cmd/ctl_download.h"
#include "cmd/ctl_http.h"
#include "cmd/ctl_session.h"
#include "cmd/ctl_show.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

struct sessions {
    struct ctl *ctl;
    const char *open, *engine, *cache_dtype, *save, *load;
    int64_t ttl_s, rewind; /* rewind -1: not given */
    bool is_delete, fork;
};

static void print_sessions(const json_t *sessions)
{
    static const char *const titles[] = {"SESSION",  "PROGRAM",   "ENGINE",
                                         "POSITION", "POSITIONS", "EXPIRES"};
    AUTO(table) table = table_new(ARRAY_LEN(titles), titles);
    json_t *session;
    size_t i;

    json_array_foreach (sessions, i, session) {
        const char *program = json_string_value(json_object_get(session, "program"));
        char prefix[13];

        snprintf(prefix, sizeof(prefix), "%s", program ? program : "?");
        table_add_member(table, session, "id");
        table_add(table, prefix);
        table_add_member(table, session, "engine");
        table_add_member(table, session, "position");
        table_add_member(table, session, "max_cache_len");
        table_add_member(table, session, "expires");
    }
    table_print(table, "no sessions");
}

static int answer(struct ctl *ctl, const json_t *session)
{
    static const char *const members[] = {"id",           "program",       "engine",
                                          "batch_size",   "max_cache_len", "position",
                                          "rewind_floor", "cache_bytes",   "cache_dtype",
                                          "vocab_size",   "created",       "expires",
                                          "resident",     "labels"};

    if (ctl->json)
        return show_json(ctl, session);
    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        show_member(session, members[i]);
    return 0;
}

static int list(struct ctl *ctl)
{
    json_auto_t *sessions = NULL;

    if (ctl_list(ctl, "/v1/sessions", &sessions) < 0)
        return -1;
    if (ctl->json)
        return show_json(ctl, sessions);
    print_sessions(sessions);
    return 0;
}

static int open_one(const struct sessions *s)
{
    json_auto_t *session = NULL;

    if (ctl_session_open(s->ctl, s->open, s->engine, s->cache_dtype, s->ttl_s, &session) < 0)
        return -1;
    return answer(s->ctl, session);
}

/* ---- saving and restoring the cache ---- */

/* A file being written; the first failure is kept. */
struct saving {
    FILE *file;
    int failed; /* errno */
};

static bool on_data(void *ctx, long status, const char *data, size_t len)
{
    struct saving *saving = ctx;

    if (fwrite(data, 1, len, saving->file) == len)
        return true;
    saving->failed = errno;
    return false;
}

/* The cache's bytes to fd, which is closed. */
static int fetch_cache(const struct sessions *s, const char *id, int fd)
{
    AUTO_PTR char *path = ctl_path("/v1/sessions/%s/cache", id);
    struct saving saving = {.file = fdopen(fd, "wb")};
    struct ctl_request request = {.method = "GET",
                                  .path = path,
                                  .accept = "*/*",
                                  .on_data = on_data,
                                  .ctx = &saving};
    AUTO_REPLY reply = {0};
    int r;

    if (!saving.file) {
        close(fd);
        return ctl_fail_nomem(s->ctl);
    }
    r = ctl_http(s->ctl, &request, &reply);
    if (fclose(saving.file) != 0 && !saving.failed)
        saving.failed = errno;
    if (saving.failed) {
        ctl_forgive(s->ctl);
        return ctl_fail(s->ctl, CTL_FILE, "%s: %s", s->save, strerror(saving.failed));
    }
    return r;
}

/* Into a temporary file that gets its name once it is whole. */
static int save_regular(const struct sessions *s, const char *id,
                        const struct output *output)
{
    AUTO_PTR char *part = NULL;
    struct pt2_err err = {0};
    int fd, r;

    if (asprintf(&part, "%s.%ld.part", output->path, (long)getpid()) < 0) {
        part = NULL;
        return ctl_fail_nomem(s->ctl);
    }
    fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd < 0)
        return ctl_fail(s->ctl, CTL_FILE, "%s: %s", part, strerror(errno));
    r = fetch_cache(s, id, fd);
    if (r == 0 && output_rename(output, part, &err) < 0)
        r = ctl_fail_err(s->ctl, CTL_FILE, &err);
    if (r < 0)
        unlink(part);
    return r;
}

static int save(const struct sessions *s, const char *id)
{
    struct output output = {0};
    struct pt2_err err = {0};
    int fd, r = ctl_output(s->ctl, s->save, &output);

    if (r == 0 && !output.is_stream)
        r = save_regular(s, id, &output);
    else if (r == 0)
        r = output_open_stream(&output, /* wait= */ true, &fd, &err) < 0
                ? ctl_fail_err(s->ctl, CTL_FILE, &err)
                : fetch_cache(s, id, fd);
    output_done(&output);
    return r;
}

static int load(const struct sessions *s, const char *id)
{
    AUTO_PTR char *path = ctl_path("/v1/sessions/%s/cache", id);
    AUTO_FILE FILE *file = fopen(s->load, "rb");
    struct ctl_request request = {.method = "PUT", .path = path, .file = file};
    AUTO_REPLY reply = {0};
    struct stat st;

    if (!file || fstat(fileno(file), &st) < 0)
        return ctl_fail(s->ctl, CTL_FILE, "%s: %s", s->load, strerror(errno));
    request.file_bytes = (uint64_t)st.st_size;
    return ctl_http(s->ctl, &request, &reply);
}

/* ---- one session ---- */

static int post(const struct sessions *s, const char *id, const char *verb, json_t *body)
{
    AUTO_PTR char *path = ctl_path("/v1/sessions/%s/%s", id, verb);
    json_auto_t *session = NULL;

    if (ctl_json(s->ctl, "POST", path, body, &session) < 0)
        return -1;
    return answer(s->ctl, session);
}

static int one(const struct sessions *s, const char *id)
{
    AUTO_PTR char *path = ctl_path("/v1/sessions/%s", id);
    json_auto_t *session = NULL;

    if (s->save)
        return save(s, id);
    if (s->load)
        return load(s, id);
    if (s->fork)
        return post(s, id, "fork",
                    s->rewind >= 0 ? json_pack("{s:I}", "position", (json_int_t)s->rewind)
                                   : json_object());
    if (s->rewind >= 0)
        return post(s, id, "rewind",
                    json_pack("{s:I}", "position", (json_int_t)s->rewind));
    if (s->is_delete)
        return ctl_json(s->ctl, "DELETE", path, NULL, NULL);
    if (ctl_json(s->ctl, "GET", path, NULL, &session) < 0)
        return -1;
    return answer(s->ctl, session);
}

int ctl_cmd_sessions(struct ctl *ctl, int argc, char **argv)
{
    struct sessions s = {.ctl = ctl, .rewind = -1};
    const struct ctl_option options[] = {
        {'o', "open", CTL_STRING, &s.open, "PROGRAM", "open a session on a program", 0,
         0},
        {0, "engine", CTL_STRING, &s.engine, "NAME", "with --open: auto, native or aten",
         0, 0},
        {0, "cache-dtype", CTL_STRING, &s.cache_dtype, "DTYPE",
         "with --open: int8 for a cache of half the memory", 0, 0},
        {0, "ttl", CTL_INT, &s.ttl_s, "SECONDS", "with --open: how long it lives unused",
         1, INT32_MAX},
        {0, "fork", CTL_FLAG, &s.fork, NULL, "a new session from this one's cache", 0, 0},
        {0, "rewind", CTL_INT, &s.rewind, "POSITION",
         "go back; with --fork, fork from there", 0, INT32_MAX},
        {0, "save", CTL_STRING, &s.save, "FILE", "write its cache to a .safetensors file",
         0, 0},
        {0, "load", CTL_STRING, &s.load, "FILE", "restore its cache from such a file", 0,
         0},
        {0, "delete", CTL_FLAG, &s.is_delete, NULL, "end it", 0, 0},
        {0}};
    const struct ctl_usage usage = {
        .usage = "sessions [SESSION] [options]",
        .about =
            "List the sessions, or open, show, fork, rewind, save, restore or end one.",
        .options = options,
        .max_args = 1};
    const char *args[1];
    int n;

    if (ctl_options(ctl, argc, argv, &usage, args, &n) < 0)
        return -1;
    if (ctl->help)
        return 0;
    if (s.open)
        return n ? ctl_fail(ctl, CTL_USAGE, "--open wants no session") : open_one(&s);
    if (n)
        return one(&s, args[0]);
    if (s.fork || s.rewind >= 0 || s.save || s.load || s.is_delete)
        return ctl_fail(ctl, CTL_USAGE, "which session?  usage: pt2ctl %s", usage.usage);
    return list(ctl);
}
