#include "cmd/blob_hash.h"

void blob_hash_start(struct blob_hash *hash, enum blob_hash_kind kind, uint64_t bytes)
{
    char head[40];

    hash->kind = kind;
    sha256_start(&hash->sha256);
    sha1_init(&hash->sha1);
    if (kind == BLOB_GIT) {
        int n = snprintf(head, sizeof(head), "blob %llu", (unsigned long long)bytes);

        sha1_update(&hash->sha1, (size_t)n + 1, (const uint8_t *)head);
    }
}

void blob_hash_add(struct blob_hash *hash, const void *data, size_t len)
{
    if (hash->kind == BLOB_GIT)
        sha1_update(&hash->sha1, len, data);
    else
        sha256_add(&hash->sha256, data, len);
}

void blob_hash_hex(const struct blob_hash *hash, char ret_hex[BLOB_HASH_HEX])
{
    struct sha256 sha256 = hash->sha256;
    struct sha1_ctx sha1 = hash->sha1;
    uint8_t digest[SHA256_BYTES];

    if (hash->kind == BLOB_SHA256) {
        sha256_finish(&sha256, digest);
        sha256_to_hex(digest, ret_hex);
        return;
    }
    sha1_digest(&sha1, SHA1_DIGEST_SIZE, digest);
    for (size_t i = 0; i < SHA1_DIGEST_SIZE; i++)
        snprintf(ret_hex + 2 * i, 3, "%02x", digest[i]);
}

bool blob_hash_is_hex(enum blob_hash_kind kind, const char *text)
{
    size_t n = kind == BLOB_GIT ? 2 * SHA1_DIGEST_SIZE : 2 * SHA256_BYTES;

    return strlen(text) == n && strspn(text, "0123456789abcdef") == n;
}

const char *blob_hash_name(enum blob_hash_kind kind)
{
    return kind == BLOB_GIT ? "git SHA-1" : "SHA-256";
}
