#include "http/digest_header.h"

#include <nettle/base64.h>

#define KEY   "abcdefghijklmnopqrstuvwxyz0123456789_*.-"
#define BYTES "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/="

/* One member, "key=:base64:", at *p, which is moved behind it.  False: it is none. */
static bool take_member(const char **p, const char **ret_key, size_t *ret_key_len,
                        const char **ret_bytes, size_t *ret_len)
{
    const char *s = *p;

    *ret_key = s;
    *ret_key_len = strspn(s, KEY);
    s += *ret_key_len;
    if (*ret_key_len == 0 || s[0] != '=' || s[1] != ':')
        return false;
    s += 2;
    *ret_bytes = s;
    *ret_len = strspn(s, BYTES);
    s += *ret_len;
    if (*s != ':')
        return false;
    *p = s + 1;
    return true;
}

static bool decode(const char *text, size_t len, uint8_t ret_sha256[SHA256_BYTES])
{
    uint8_t bytes[BASE64_DECODE_LENGTH(44)];
    struct base64_decode_ctx ctx;
    size_t n = sizeof(bytes);

    if (len != BASE64_ENCODE_RAW_LENGTH(SHA256_BYTES))
        return false;
    base64_decode_init(&ctx);
    if (!base64_decode_update(&ctx, &n, bytes, len, text) ||
        !base64_decode_final(&ctx) || n != SHA256_BYTES)
        return false;
    memcpy(ret_sha256, bytes, SHA256_BYTES);
    return true;
}

static int bad(const char *value, struct pt2_err *err)
{
    return pt2_err_set(err, PT2_ERR_BAD_REQUEST,
                       "Repr-Digest is sha-256=:<base64 of 32 bytes>:, not '%.120s'",
                       value);
}

int digest_header_parse(const char *value, uint8_t ret_sha256[SHA256_BYTES],
                        bool *ret_found, struct pt2_err *err)
{
    const char *p = value, *key, *bytes;
    size_t key_len, len;

    *ret_found = false;
    while (p) {
        p += strspn(p, " \t");
        if (!take_member(&p, &key, &key_len, &bytes, &len))
            return bad(value, err);
        if (key_len == strlen("sha-256") && memcmp(key, "sha-256", key_len) == 0) {
            if (!decode(bytes, len, ret_sha256))
                return bad(value, err);
            *ret_found = true;
        }
        p += strspn(p, " \t");
        if (*p == '\0')
            break;
        if (*p++ != ',')
            return bad(value, err);
    }
    return 0;
}
