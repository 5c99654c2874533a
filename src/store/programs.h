/* programs.h - the .pt2 programs that the daemon keeps: rows and objects, and the .pte files
 * made of them, which are objects too.
 *
 * A program's id is the SHA-256 of its file, 64 lower-case hex digits.  What GET shows is
 * taken from the archive once, when it is added.  Which engines take it (engine.h) is
 * found out by a thread of its own, in the background, and kept with the engines'
 * version.
 *
 * A pin holds a program in place while something uses it: it can't be deleted.  Any
 * thread; all calls but programs_path, programs_packed_path, programs_unpin,
 * programs_is_used and programs_check_room_quick wait for the database or the disk, so not on an HTTP thread. */
#ifndef STORE_PROGRAMS_H
#define STORE_PROGRAMS_H

#include "base/sha256.h"
#include "store/objects.h"
#include "store/store.h"

#include "store/whole.h"

#include <jansson.h>
#include <pt2/engine.h>

struct programs;

#define PROGRAM_ID_SIZE    SHA256_HEX /* 64 digits and the '\0' */
#define PROGRAM_NAME_MAX   255        /* bytes of a client's name for one; longer than any */
#define PROGRAM_MIN_PREFIX 8

struct programs_options {
    struct pt2_engine_options engine; /* for the engines' verdicts */
    const char *engine_version;       /* verdicts of another one are asked for anew */
    /* retention.h; 0: no limit */
    uint64_t max_store_bytes;
    int64_t keep_ms;
};

/* Start; removes objects that no row names.  store and objects are borrowed.  new: free
 * with programs_free, which waits for a check that runs.
 * Errors: IO, NO_SPACE, NOMEM, INTERNAL (no thread). */
MUST_USE int programs_new(struct store *store, struct objects *objects,
                          const struct programs_options *options,
                          struct programs **ret_programs, struct pt2_err *err);
/* What reads or waits gives up, so that the daemon's end does not wait for it. */
void programs_stop(struct programs *programs);
void programs_free(struct programs *programs);
DEFINE_AUTO(programs)

/* ---- names ---- */

/* Which program does a client mean?  Full id, alias, export id, unique prefix of 8 or
 * more digits, in that order.  *ret_by_alias (may be NULL): the name can move. Errors:
 * NOT_FOUND, AMBIGUOUS (lists the matches), CONFLICT (an export that has not succeeded),
 * IO.  Exports are those that who sees (base/owner.h). */
MUST_USE int programs_resolve(struct programs *programs, const char *name,
                              const char *who, char ret_id[PROGRAM_ID_SIZE],
                              bool *ret_by_alias, struct pt2_err *err);

/* The file of a full id, for engines; keep a pin while it is in use. */
void programs_path(const struct programs *programs, const char *id,
                   char ret_path[PATH_MAX]);

/* The file that its weights are kept packed in (engine.h), there or not. */
void programs_packed_path(const struct programs *programs, const char *id,
                          char ret_path[PATH_MAX]);

/* Count one more user of a full id, whose file is whole (whole.h: it may have to be read for
 * that); unpin as often.  Errors: NOT_FOUND, PROGRAM_DAMAGED, NOT_IN_TIME, CANCELLED, IO,
 * NOMEM. */
MUST_USE int programs_pin(struct programs *programs, const char *id, enum whole_wait wait,
                          struct pt2_err *err);
void programs_unpin(struct programs *programs, const char *id);
/* An engine has reason to doubt its file: read it, and if it is damaged serve it no more.
 * Errors: NOT_FOUND, PROGRAM_DAMAGED, CANCELLED, IO, NOMEM. */
MUST_USE int programs_suspect(struct programs *programs, const char *id, struct pt2_err *err);
bool programs_is_used(struct programs *programs, const char *id); /* or is being deleted */

/* A client's pin, which outlives the daemon: it is not removed to make room, nor for its age.
 * Errors: NOT_FOUND, IO, NO_SPACE. */
MUST_USE int programs_set_pinned(struct programs *programs, const char *id, bool is_pinned,
                                 struct pt2_err *err);

/* Aliases came or went: others may go now. */
void programs_look_again(struct programs *programs);

/* ---- room ---- */

/* Would one of that size have room, on the disk and within programs.max_store_bytes, with all
 * gone that may go (retention.h)?  programs_add asks again.  The quick one may be called by an
 * HTTP thread.  Errors: NO_SPACE, IO, NOMEM. */
MUST_USE int programs_check_room(struct programs *programs, uint64_t bytes,
                                 struct pt2_err *err);
MUST_USE int programs_check_room_quick(struct programs *programs, uint64_t bytes,
                                       struct pt2_err *err);

/* ---- reading ---- */

/* The object that GET /v1/programs/{id} answers; new.  Waits for the engines' verdicts
 * where wait_engines, otherwise they may be {"ok": null, "reason": "not checked yet"}.
 * Errors: NOT_FOUND, IO, NOMEM. */
MUST_USE int programs_get(struct programs *programs, const char *id, bool wait_engines,
                          json_t **ret_json, struct pt2_err *err);
/* Up to limit of them, oldest first, after the one of that cursor (0: from the first).
 * *ret_list is new, an array; *ret_next the next cursor, 0: no more. */
MUST_USE int programs_list(struct programs *programs, int64_t limit, int64_t after,
                           json_t **ret_list, int64_t *ret_next, struct pt2_err *err);
MUST_USE int programs_count(struct programs *programs, int64_t *ret_n,
                            struct pt2_err *err);
/* Read it where it is doubted.  One that is not there is not damaged.
 * Errors: IO, NO_SPACE, NOMEM. */
MUST_USE int programs_settle(struct programs *programs, const char *id, enum whole_wait wait,
                             bool *ret_is_damaged, struct pt2_err *err);
/* Its file, once it is known to be whole, or the .pte of that digest that was made of it.
 * *ret_fd is new (close it).  Errors: NOT_FOUND, PROGRAM_DAMAGED, NOT_IN_TIME, IO, NOMEM. */
MUST_USE int programs_open_file(struct programs *programs, const char *id, int *ret_fd,
                                uint64_t *ret_bytes, struct pt2_err *err);
MUST_USE int programs_open_pte(struct programs *programs, const char *id,
                               const char *sha256, int *ret_fd, uint64_t *ret_bytes,
                               struct pt2_err *err);
/* The graph for people, new (free).
 * Errors: NOT_FOUND, PROGRAM_DAMAGED, IO, NOMEM, BAD_ARCHIVE. */
MUST_USE int programs_graph(struct programs *programs, const char *id, char **ret_text,
                            struct pt2_err *err);
/* The native engine's plan of it for people, new (free).  Compiles it: up to a second.
 * Errors: NOT_FOUND, PROGRAM_DAMAGED, IO, NOMEM, LIMIT, BAD_ARCHIVE, PROGRAM_REFUSED (it has
 * none: why). */
MUST_USE int programs_plan(struct programs *programs, const char *id, char **ret_text,
                           struct pt2_err *err);
/* The facts of its decoder.  Errors: NOT_FOUND, PROGRAM_REFUSED, IO, NOMEM. */
MUST_USE int programs_decoder(struct programs *programs, const char *id,
                              struct pt2_decoder *ret_decoder, struct pt2_err *err);

/* ---- changing ---- */

enum program_origin { PROGRAM_EXPORT, PROGRAM_UPLOAD };

struct program_source {
    enum program_origin origin;
    const char *model; /* id of the model; NULL: not known */
    /* Its ExecuTorch program, kept and removed with it; as temp and sha256 below.  NULL: none. */
    struct temp_file *pte;
    const uint8_t *pte_sha256;
    /* Called within the transaction that records the program (or finds it there), for
     * rows that belong to it; -1 undoes it.  NULL: none. */
    int (*also)(void *ctx, const char *id, struct pt2_err *err);
    void *ctx;
};

/* Check the archive in temp and its program, keep it as an object and record it.  temp
 * holds all bytes, whose digest is sha256; it is emptied on success.  *ret_is_new (may be
 * NULL): it was not there before.
 * Errors: BAD_ARCHIVE, BAD_PROGRAM (the text names the part), IO, NO_SPACE, NOMEM, and
 * those of also. */
MUST_USE int programs_add(struct programs *programs, struct temp_file *temp,
                          const uint8_t sha256[SHA256_BYTES],
                          const struct program_source *source,
                          char ret_id[PROGRAM_ID_SIZE], bool *ret_is_new,
                          struct pt2_err *err);
/* id: a full one.  Errors: NOT_FOUND, IN_USE (pinned, or an alias points there; says
 * which), IO. */
MUST_USE int programs_delete(struct programs *programs, const char *id,
                             struct pt2_err *err);

#endif
