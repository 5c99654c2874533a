#include "cmd/ctl_push_files.h"

#include "checkpoint/file_names.h"
#include "cmd/ctl_download.h"
#include "cmd/ctl_http.h"
#include "cmd/ctl_show.h"

#include <errno.h>
#include <nettle/base64.h>
#include <poll.h>
#include <pt2/checkpoint.h>
#include <sys/stat.h>

#define TRIES       5
#define MAX_PAUSE_S 60

/* ---- the list ---- */

int push_files_add(struct ctl *ctl, struct push_files *files, const char *name,
                   const char *path, uint64_t bytes, struct push_file **ret_file)
{
    struct push_file *grown, file = {.bytes = bytes};

    if (!file_names_is_allowed(name))
        return ctl_fail(ctl, CTL_FILE, "'%s' is no name for a checkpoint's file", name);
    grown = reallocarray(files->files, files->n + 1, sizeof(*grown));
    if (grown)
        files->files = grown;
    file.name = strdup(name);
    file.path = path ? strdup(path) : NULL;
    if (!grown || !file.name || (path && !file.path)) {
        free(file.name);
        free(file.path);
        return ctl_fail_nomem(ctl);
    }
    grown[files->n++] = file;
    files->bytes += bytes;
    if (ret_file)
        *ret_file = &grown[files->n - 1];
    return 0;
}

void push_files_done(struct push_files *files)
{
    for (size_t i = 0; i < files->n; i++) {
        free(files->files[i].name);
        free(files->files[i].path);
    }
    free(files->files);
    *files = (struct push_files){0};
}

int push_files_of_checkpoint(struct ctl *ctl, const char *dir, struct push_files *files)
{
    struct pt2_checkpoint *checkpoint;
    struct pt2_err err = {0};
    int r = 0;

    if (pt2_checkpoint_open(dir, &checkpoint, &err) < 0)
        return ctl_fail(ctl, CTL_FILE, "'%s' is no checkpoint: %s", dir, err.text);
    for (size_t i = 0; i < pt2_checkpoint_n_files(checkpoint) && r == 0; i++) {
        const struct pt2_checkpoint_file *file = pt2_checkpoint_file(checkpoint, i);
        AUTO_PTR char *path = NULL;

        if (asprintf(&path, "%s/%s", dir, file->name) < 0)
            path = NULL;
        r = path ? push_files_add(ctl, files, file->name, path, file->bytes, NULL)
                 : ctl_fail_nomem(ctl);
    }
    pt2_checkpoint_free(checkpoint);
    return r;
}

int push_file_digest(struct ctl *ctl, struct push_file *file)
{
    AUTO_FILE FILE *f = NULL;
    uint64_t bytes;

    if (file->sha256[0])
        return 0;
    f = fopen(file->path, "rb");
    if (!f)
        return ctl_fail(ctl, CTL_FILE, "%s: %s", file->path, strerror(errno));
    if (ctl_digest_file(ctl, f, file->path, file->sha256, &bytes) < 0)
        return -1;
    if (bytes != file->bytes)
        return ctl_fail(ctl, CTL_FILE, "%s: its size changed while it was read",
                        file->path);
    return 0;
}

/* ---- publishing ---- */

static json_t *manifest(const struct push_files *files)
{
    json_t *list = json_array();

    for (size_t i = 0; i < files->n; i++) {
        const struct push_file *file = &files->files[i];

        json_array_append_new(list, json_pack("{s:s, s:I, s:s}", "name", file->name,
                                              "bytes", (json_int_t)file->bytes, "sha256",
                                              file->sha256));
    }
    return json_pack("{s:o}", "files", list);
}

/* False: the failure was another one. */
static bool mark_missing(const struct ctl *ctl, struct push_files *files)
{
    const char *type = json_string_value(json_object_get(ctl->problem, "type"));
    const json_t *name;
    size_t i, n = 0;

    if (!type || !streq(type, "/problems/missing-files"))
        return false;
    for (size_t f = 0; f < files->n; f++) {
        files->files[f].is_missing = false;
        json_array_foreach (json_object_get(ctl->problem, "missing"), i, name) {
            if (json_is_string(name) &&
                streq(json_string_value(name), files->files[f].name)) {
                files->files[f].is_missing = true;
                n++;
                break;
            }
        }
    }
    return n > 0;
}

int push_files_publish(struct ctl *ctl, const char *id, struct push_files *files,
                       json_t **ret_model)
{
    AUTO_PTR char *path = ctl_path("/v1/models/%s/publish", id);

    *ret_model = NULL;
    if (ctl_json(ctl, "POST", path, manifest(files), ret_model) == 0)
        return *ret_model ? 0
                          : ctl_fail(ctl, CTL_BROKEN, "the answer to publish is empty");
    if (!mark_missing(ctl, files))
        return -1;
    ctl_forgive(ctl);
    return 0;
}

/* ---- sending ---- */

int ctl_pause(struct ctl *ctl, const char *seconds, unsigned try)
{
    long asked = strtol(seconds, NULL, 10); /* a date counts as none */
    long ms = asked > 0 ? MIN(asked, MAX_PAUSE_S) * 1000 : 100L << MIN(try, 6);

    for (; ms > 0 && !ctl_interrupted; ms -= 100)
        poll(NULL, 0, (int)MIN(ms, 100));
    return ctl_interrupted ? ctl_fail(ctl, CTL_INTERRUPTED, "interrupted") : 0;
}

struct sending {
    struct bar bar;
    char label[64];
};

static void draw_sent(void *ctx, uint64_t done, uint64_t total)
{
    struct sending *sending = ctx;

    bar_draw(&sending->bar, sending->label, done, total, true);
}

static void digest_header(const char *hex, char *to, size_t size)
{
    char text[BASE64_ENCODE_RAW_LENGTH(SHA256_BYTES) + 1];
    uint8_t digest[SHA256_BYTES] = {0};

    (void)!sha256_from_hex(hex, digest);
    base64_encode_raw(text, sizeof(digest), digest);
    text[sizeof(text) - 1] = '\0';
    snprintf(to, size, "Repr-Digest: sha-256=:%s:", text);
}

static int send_once(struct ctl *ctl, const char *id, const struct push_file *file,
                     FILE *f, struct ctl_reply *reply)
{
    AUTO_PTR char *path = ctl_path("/v1/models/%s/files/%s", id, file->name);
    struct sending sending;
    char digest[96];
    struct ctl_request request = {.method = "PUT",
                                  .path = path,
                                  .file = f,
                                  .file_bytes = file->bytes,
                                  .headers = {digest},
                                  .on_sent = draw_sent,
                                  .ctx = &sending};
    int r;

    rewind(f);
    digest_header(file->sha256, digest, sizeof(digest));
    snprintf(sending.label, sizeof(sending.label), "upload %s", file->name);
    bar_start(&sending.bar, ctl);
    r = ctl_http(ctl, &request, reply);
    bar_end(&sending.bar);
    return r;
}

int push_file_send(struct ctl *ctl, const char *id, struct push_files *files,
                   struct push_file *file)
{
    AUTO_FILE FILE *f = fopen(file->path, "rb");

    if (!f)
        return ctl_fail(ctl, CTL_FILE, "%s: %s", file->path, strerror(errno));
    for (unsigned try = 1;; try++) {
        AUTO_REPLY reply;
        bool is_busy;

        if (send_once(ctl, id, file, f, &reply) == 0)
            break;
        is_busy = reply.status == 429 || reply.status == 503;
        if (try == TRIES || (ctl->exit != CTL_UNREACHABLE && !is_busy))
            return -1;
        ctl_forgive(ctl);
        if (ctl_pause(ctl, reply.retry_after, try) < 0)
            return -1;
    }
    files->n_sent++;
    files->bytes_sent += file->bytes;
    return 0;
}

int push_files_show(struct ctl *ctl, const struct push_files *files, const json_t *model)
{
    char all[SHOW_SIZE_CHARS], sent[SHOW_SIZE_CHARS];

    if (ctl->json)
        return show_json(ctl, model);
    show_member(model, "id");
    show_line("files", "%zu, %s", files->n, show_bytes(files->bytes, all));
    show_line("sent", "%zu, %s", files->n_sent, show_bytes(files->bytes_sent, sent));
    show_member(model, "exportable");
    if (!json_is_true(json_object_get(model, "exportable")))
        show_member(model, "reason");
    return 0;
}
