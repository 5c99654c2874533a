/* ctl_download.h - bring a program's file here, whole and right.  How is said in ctl_fetch.h. */
#ifndef CMD_CTL_DOWNLOAD_H
#define CMD_CTL_DOWNLOAD_H

#include "base/output.h"
#include "cmd/ctl.h"

/* Look at where a file is to go, before anything is asked for; standard output is claimed
 * (base/output.h).  output_done when done. */
MUST_USE int ctl_output(struct ctl *ctl, const char *path, struct output *ret_output);

/* id: the program's full id (64 hex digits).
 * *ret_resumed (may be NULL): bytes that an earlier call had brought. */
MUST_USE int ctl_download(struct ctl *ctl, const char *id, const struct output *output,
                          uint64_t *ret_bytes, uint64_t *ret_resumed);

/* The same of an export's .pte: sha256 and bytes as its job says. */
MUST_USE int ctl_download_pte(struct ctl *ctl, const char *export, const char *sha256,
                              uint64_t bytes, const struct output *output,
                              uint64_t *ret_resumed);

/* The SHA-256 of a file in hex (SHA256_HEX chars), its size. */
MUST_USE int ctl_digest_file(struct ctl *ctl, FILE *file, const char *path, char *ret_hex,
                             uint64_t *ret_bytes);

#endif
