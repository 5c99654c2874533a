/* pack.h - weights of whole numbers as the kernels read them: packed when a program is opened, by
 * all threads of the team, 4 bits where the data has no more.
 *
 * With a path the packing is kept there, in a file of its own that the next opening maps:
 *
 *     struct header        magic, version, how many matrices, bytes, two sums
 *     struct entry [n]     shape and place of each matrix
 *     zeros up to 4096
 *     packed matrices      each a multiple of 64 bytes
 *
 * The file is written under another name, synced, made read-only and renamed.  It is used where it
 * is whole, of this version, of the same archive and of the same matrices; anything else there is
 * written anew.  What it holds is a sum of words, not a signature: the folder is the service's own.
 *
 * One thread at a time for a plan; the team is held for a few milliseconds at a time. */
#ifndef NATIVE_PACK_H
#define NATIVE_PACK_H

#include "native/plan.h"
#include "native/team.h"

#define PACK_VERSION 1 /* of the file and of what quant_pack makes: higher with every change */

struct packing;

/* Pack the matrices that the plan's linears read.  archive: the plan's own, with which a file
 * must agree.  path may be NULL: in memory, which counts as private_bytes.
 * A file that could not be written is no error: *ret_warning (may be NULL) says why then.
 * Errors: PROGRAM_DAMAGED (the archive is cut), NOMEM. */
MUST_USE int plan_pack(struct plan *plan, const struct pt2_archive *archive, struct team *team,
                       const char *path, struct pt2_err *ret_warning, struct pt2_err *err);
/* Is it mapped from a file? */
bool packing_is_mapped(const struct packing *packing);
/* Is that file no longer whole?  What was computed since it was mapped may be wrong then.  packing
 * may be NULL. */
bool packing_is_cut(const struct packing *packing);
void packing_free(struct packing *packing);
DEFINE_AUTO(packing)

#endif
