#include "cmd/ctl_download.h"

#include "base/sha256.h"
#include "cmd/ctl_fetch.h"
#include "cmd/ctl_http.h"

#include <errno.h>

struct file {
    struct ctl *ctl;
    const char *path;   /* of the request */
    const char *sha256; /* its ETag, too */
};

static int get(void *ctx, uint64_t from,
               bool (*fn)(void *to, long status, const char *data, size_t len), void *to,
               long *ret_status)
{
    const struct file *file = ctx;
    char range[64], if_range[SHA256_HEX + 16];
    struct ctl_request request = {
        .method = "GET", .path = file->path, .accept = "*/*", .on_data = fn, .ctx = to};
    AUTO_REPLY reply;
    int r;

    if (from > 0) {
        snprintf(range, sizeof(range), "Range: bytes=%llu-", (unsigned long long)from);
        snprintf(if_range, sizeof(if_range), "If-Range: \"%s\"", file->sha256);
        request.headers[0] = range;
        request.headers[1] = if_range;
    }
    r = ctl_http(file->ctl, &request, &reply);
    *ret_status = reply.status;
    return r;
}

static int ask_bytes(struct ctl *ctl, const char *id, uint64_t *ret_bytes)
{
    AUTO_PTR char *path = ctl_path("/v1/programs/%s", id);
    json_auto_t *facts = NULL;
    json_int_t bytes;

    if (ctl_json(ctl, "GET", path, NULL, &facts) < 0)
        return -1;
    bytes = json_integer_value(json_object_get(facts, "bytes"));
    if (bytes <= 0)
        return ctl_fail(ctl, CTL_BROKEN, "program '%s' has no size", id);
    *ret_bytes = (uint64_t)bytes;
    return 0;
}

int ctl_output(struct ctl *ctl, const char *path, struct output *ret_output)
{
    struct pt2_err err = {0};

    if (output_find(path, ret_output, &err) < 0 ||
        output_claim_stdout(ret_output, &err) < 0)
        return ctl_fail_err(ctl, CTL_FILE, &err);
    return 0;
}

static int fetch(struct ctl *ctl, const char *path, const char *what, const char *sha256,
                 uint64_t bytes, const struct output *output, uint64_t *ret_resumed)
{
    struct file file = {.ctl = ctl, .path = path, .sha256 = sha256};
    struct fetch_source source = {.label = "download",
                                  .what = what,
                                  .kind = BLOB_SHA256,
                                  .digest = sha256,
                                  .bytes = bytes,
                                  .get = get,
                                  .ctx = &file};

    return path ? ctl_fetch(ctl, &source, output, ret_resumed) : ctl_fail_nomem(ctl);
}

int ctl_download(struct ctl *ctl, const char *id, const struct output *output,
                 uint64_t *ret_bytes, uint64_t *ret_resumed)
{
    AUTO_PTR char *path = ctl_path("/v1/programs/%s/file", id);
    uint64_t bytes = 0;

    if (!blob_hash_is_hex(BLOB_SHA256, id))
        return ctl_fail(ctl, CTL_BROKEN, "'%s' is not a program's id", id);
    if (ask_bytes(ctl, id, &bytes) < 0 ||
        fetch(ctl, path, "the program", id, bytes, output, ret_resumed) < 0)
        return -1;
    *ret_bytes = bytes;
    return 0;
}

int ctl_download_pte(struct ctl *ctl, const char *export, const char *sha256,
                     uint64_t bytes, const struct output *output, uint64_t *ret_resumed)
{
    AUTO_PTR char *path = ctl_path("/v1/exports/%s/file?format=pte", export);

    if (!blob_hash_is_hex(BLOB_SHA256, sha256) || bytes == 0)
        return ctl_fail(ctl, CTL_BROKEN, "export '%s' tells of no .pte", export);
    return fetch(ctl, path, "the .pte", sha256, bytes, output, ret_resumed);
}

int ctl_digest_file(struct ctl *ctl, FILE *file, const char *path, char *ret_hex,
                    uint64_t *ret_bytes)
{
    static char block[1 << 16];
    uint8_t digest[SHA256_BYTES];
    struct sha256 hash;
    uint64_t bytes = 0;
    size_t n;

    sha256_start(&hash);
    while ((n = fread(block, 1, sizeof(block), file)) > 0) {
        sha256_add(&hash, block, n);
        bytes += n;
        if (ctl_interrupted)
            return ctl_fail(ctl, CTL_INTERRUPTED, "interrupted");
    }
    if (ferror(file))
        return ctl_fail(ctl, CTL_FILE, "%s: %s", path, strerror(errno));
    sha256_finish(&hash, digest);
    sha256_to_hex(digest, ret_hex);
    *ret_bytes = bytes;
    return 0;
}
