/* sha256.h - SHA-256 of bytes as they pass, over nettle.
 *
 * nettle picks the CPU's SHA instructions itself (1.7 GB/s where there are some), as long
 * as it is given long runs: feed slices of 64 KiB and more.  One thread at a time per
 * struct; nothing but sha256_of_file can fail, and nothing needs to be released. */
#ifndef BASE_SHA256_H
#define BASE_SHA256_H

#include "base/util.h"

#include <nettle/sha2.h>
#include <pt2/err.h>
#include <stdatomic.h>

#define SHA256_BYTES 32
#define SHA256_HEX   65 /* 64 lower-case digits and the '\0' */

struct sha256 {
    struct sha256_ctx ctx;
};

void sha256_start(struct sha256 *h);
void sha256_add(struct sha256 *h, const void *data, size_t len);
/* The digest of what was added; h is as just started afterwards. */
void sha256_finish(struct sha256 *h, uint8_t ret_digest[SHA256_BYTES]);

/* The three in one. */
void sha256_of(const void *data, size_t len, uint8_t ret_digest[SHA256_BYTES]);

/* Of what lies in the file from its place on, in slices.  stop (NULL: none) is looked at between
 * them; path is for messages.  Errors: IO, NOMEM, CANCELLED (stop was set). */
MUST_USE int sha256_of_file(int fd, const char *path, const atomic_bool *stop,
                            uint8_t ret_digest[SHA256_BYTES], struct pt2_err *err);

void sha256_to_hex(const uint8_t digest[SHA256_BYTES], char ret_hex[SHA256_HEX]);
/* False where hex is not 64 lower-case digits. */
bool sha256_from_hex(const char *hex, uint8_t ret_digest[SHA256_BYTES]);

#endif
