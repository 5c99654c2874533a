/* blob_hash.h - the two digests by which files are known: SHA-256, and git's SHA-1 of a
 * blob, which is that of "blob <bytes>", a zero byte and the file.
 *
 * One thread at a time per struct; nothing here can fail. */
#ifndef CMD_BLOB_HASH_H
#define CMD_BLOB_HASH_H

#include "base/sha256.h"

#include <nettle/sha1.h>

enum blob_hash_kind { BLOB_SHA256, BLOB_GIT };

#define BLOB_HASH_HEX SHA256_HEX /* enough for both */

struct blob_hash {
    enum blob_hash_kind kind;
    struct sha256 sha256;
    struct sha1_ctx sha1;
};

void blob_hash_start(struct blob_hash *hash, enum blob_hash_kind kind, uint64_t bytes);
void blob_hash_add(struct blob_hash *hash, const void *data, size_t len);
/* Of what was added so far, in lower-case hex; hash goes on. */
void blob_hash_hex(const struct blob_hash *hash, char ret_hex[BLOB_HASH_HEX]);
/* Is text a digest of that kind? */
bool blob_hash_is_hex(enum blob_hash_kind kind, const char *text);
const char *blob_hash_name(enum blob_hash_kind kind); /* "SHA-256", "git SHA-1" */

#endif
