/* ctl_download.h - bring a program's file here, whole and right.
 *
 * The bytes go to FILE.<first 12 digits>.part beside FILE; a broken download goes on there,
 * in this call (a few times) and in the next; the SHA-256 of all bytes must be the
 * program's id before the file gets its name. */
#ifndef CMD_CTL_DOWNLOAD_H
#define CMD_CTL_DOWNLOAD_H

#include "cmd/ctl.h"

/* id: the program's full id (64 hex digits).
 * *ret_resumed (may be NULL): bytes that an earlier call had brought. */
MUST_USE int ctl_download(struct ctl *ctl, const char *id, const char *path,
                          uint64_t *ret_bytes, uint64_t *ret_resumed);

/* The SHA-256 of a file in hex (SHA256_HEX chars), its size. */
MUST_USE int ctl_digest_file(struct ctl *ctl, FILE *file, const char *path, char *ret_hex,
                             uint64_t *ret_bytes);

#endif
