#include "cmd/ctl_download.h"

#include "base/sha256.h"
#include "cmd/ctl_fetch.h"
#include "cmd/ctl_http.h"

#include <errno.h>

struct program {
    struct ctl *ctl;
    const char *id;
};

static int get(void *ctx, uint64_t from,
               bool (*fn)(void *to, long status, const char *data, size_t len), void *to,
               long *ret_status)
{
    const struct program *program = ctx;
    AUTO_PTR char *path = ctl_path("/v1/programs/%s/file", program->id);
    char range[64], if_range[SHA256_HEX + 16];
    struct ctl_request request = {
        .method = "GET", .path = path, .accept = "*/*", .on_data = fn, .ctx = to};
    AUTO_REPLY reply;
    int r;

    if (from > 0) {
        snprintf(range, sizeof(range), "Range: bytes=%llu-", (unsigned long long)from);
        snprintf(if_range, sizeof(if_range), "If-Range: \"%s\"", program->id);
        request.headers[0] = range;
        request.headers[1] = if_range;
    }
    r = ctl_http(program->ctl, &request, &reply);
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

int ctl_download(struct ctl *ctl, const char *id, const struct output *output,
                 uint64_t *ret_bytes, uint64_t *ret_resumed)
{
    struct program program = {.ctl = ctl, .id = id};
    struct fetch_source source = {.label = "download",
                                  .what = "the program",
                                  .kind = BLOB_SHA256,
                                  .digest = id,
                                  .get = get,
                                  .ctx = &program};

    if (!blob_hash_is_hex(BLOB_SHA256, id))
        return ctl_fail(ctl, CTL_BROKEN, "'%s' is not a program's id", id);
    if (ask_bytes(ctl, id, &source.bytes) < 0 ||
        ctl_fetch(ctl, &source, output, ret_resumed) < 0)
        return -1;
    *ret_bytes = source.bytes;
    return 0;
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
