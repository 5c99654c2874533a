#include "base/sha256.h"

#include <errno.h>

#include <nettle/version.h>

void sha256_start(struct sha256 *h)
{
    sha256_init(&h->ctx);
}

void sha256_add(struct sha256 *h, const void *data, size_t len)
{
    if (len) /* data may be NULL then */
        sha256_update(&h->ctx, len, data);
}

void sha256_finish(struct sha256 *h, uint8_t ret_digest[SHA256_BYTES])
{
#if NETTLE_VERSION_MAJOR >= 4 /* dropped the length */
    sha256_digest(&h->ctx, ret_digest);
#else
    sha256_digest(&h->ctx, SHA256_BYTES, ret_digest);
#endif
}

void sha256_of(const void *data, size_t len, uint8_t ret_digest[SHA256_BYTES])
{
    struct sha256 h;

    sha256_start(&h);
    sha256_add(&h, data, len);
    sha256_finish(&h, ret_digest);
}

#define SLICE_BYTES ((size_t)1 << 20)

int sha256_of_file(int fd, const char *path, const atomic_bool *stop,
                   uint8_t ret_digest[SHA256_BYTES], struct pt2_err *err)
{
    AUTO_PTR char *slice = malloc(SLICE_BYTES);
    struct sha256 h;
    ssize_t n;

    if (!slice)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a digest's buffer");
    sha256_start(&h);
    while ((n = read(fd, slice, SLICE_BYTES)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return pt2_err_errno(err, PT2_ERR_IO, "%s", path);
        if (stop && *stop)
            return pt2_err_set(err, PT2_ERR_CANCELLED, "stopped");
        sha256_add(&h, slice, (size_t)n);
    }
    sha256_finish(&h, ret_digest);
    return 0;
}

static const char digits[] = "0123456789abcdef";

void sha256_to_hex(const uint8_t digest[SHA256_BYTES], char ret_hex[SHA256_HEX])
{
    for (size_t i = 0; i < SHA256_BYTES; i++) {
        ret_hex[2 * i] = digits[digest[i] >> 4];
        ret_hex[2 * i + 1] = digits[digest[i] & 15];
    }
    ret_hex[2 * SHA256_BYTES] = '\0';
}

bool sha256_from_hex(const char *hex, uint8_t ret_digest[SHA256_BYTES])
{
    uint8_t digest[SHA256_BYTES] = {0};

    if (strlen(hex) != SHA256_HEX - 1)
        return false;
    for (size_t i = 0; i < SHA256_HEX - 1; i++) {
        const char *digit = strchr(digits, hex[i]);

        if (!digit)
            return false;
        digest[i / 2] = (uint8_t)(digest[i / 2] << 4 | (digit - digits));
    }
    memcpy(ret_digest, digest, sizeof(digest));
    return true;
}
