/* archive.h - .pt2 archives: a zip of records under one folder (doc/pt2-format.md).
 *
 * The reader maps the file and trusts nothing in it: offsets, lengths, names, overlaps,
 * counts, the payload tables against the records.  It never runs a pickle.  The writer
 * streams: stored records, tensors aligned to 64 bytes, zip64 where needed, the same
 * input giving the same bytes.
 *
 * A reader is immutable once open: any thread.  A writer: one thread at a time. */
#ifndef PT2_ARCHIVE_H
#define PT2_ARCHIVE_H

#include <pt2/dtype.h>
#include <pt2/err.h>

#include <stdint.h>

#define PT2_MAX_DIMS     8
#define PT2_TENSOR_ALIGN 64 /* bytes; in the file, of a tensor record's first byte */

/* ---- reading ---- */

struct pt2_archive;

struct pt2_record {
    const char *name;    /* without the root folder: "models/model.json" */
    uint64_t offset;     /* of the record's first byte in the file */
    uint64_t size;       /* bytes, uncompressed */
    uint64_t packed;     /* bytes in the file; == size where stored */
    uint32_t crc32;
    bool is_stored;      /* otherwise deflated */
};

/* One tensor of data/weights or data/constants. */
struct pt2_payload {
    const char *fqn;                 /* "model.model.norm.weight" */
    const struct pt2_record *record; /* two payloads may share one (tied weights); its bytes
                                      * may be deflated, and may lie unaligned */
    enum pt2_dtype dtype;
    unsigned n_dims;
    int64_t sizes[PT2_MAX_DIMS], strides[PT2_MAX_DIMS]; /* in elements */
    int64_t storage_offset;                             /* in elements */
    bool is_param;
    bool is_zeros;    /* the record holds no bytes: zeros of that shape */
    bool is_constant; /* in data/constants (non-persistent buffers, constants) */
};

/* Open and check the archive at path (or at fd, which is borrowed and may be closed after
 * the call; name is for messages).  The file must not change while it is open.
 * new: free with pt2_archive_free.
 * Errors: IO, BAD_ARCHIVE (the text names the part), NOMEM. */
PT2_API PT2_MUST_USE int pt2_archive_open(const char *path, struct pt2_archive **ret_archive,
                                          struct pt2_err *err);
PT2_API PT2_MUST_USE int pt2_archive_open_fd(int fd, const char *name,
                                             struct pt2_archive **ret_archive,
                                             struct pt2_err *err);
PT2_API void pt2_archive_free(struct pt2_archive *archive);

PT2_API const char *pt2_archive_root(const struct pt2_archive *archive);
PT2_API size_t pt2_archive_n_records(const struct pt2_archive *archive);
PT2_API const struct pt2_record *pt2_archive_record(const struct pt2_archive *archive,
                                                    size_t i);
/* NULL where there is none of that name. */
PT2_API const struct pt2_record *pt2_archive_find(const struct pt2_archive *archive,
                                                  const char *name);

/* The bytes of a stored record where they lie in the mapped file, borrowed from the archive;
 * NULL for a deflated record. */
PT2_API const void *pt2_archive_data(const struct pt2_archive *archive,
                                     const struct pt2_record *record);

/* Has the file become shorter since it was opened, or could a part of it not be read?  What
 * pt2_archive_data points to is the file's own, and a process that reads what is no longer
 * there gets a SIGBUS.  (In the daemon, which catches that, it reads zeros: base/mapping.h.) */
PT2_API bool pt2_archive_is_cut(const struct pt2_archive *archive);

/* The bytes of any record, new (caller frees), with a '\0' behind them that does not count.
 * Checks the CRC-32.
 * Errors: LIMIT (more than max_bytes), BAD_ARCHIVE, NOMEM. */
PT2_API PT2_MUST_USE int pt2_archive_read(const struct pt2_archive *archive,
                                          const struct pt2_record *record, size_t max_bytes,
                                          void **ret_data, size_t *ret_size,
                                          struct pt2_err *err);

/* Give the record's bytes to take, in their order: full slices of PT2_ARCHIVE_SLICE bytes,
 * then what is left.  None stays in memory, so what it takes does not depend on the record's
 * size.  A deflated record's CRC-32 is checked, after the last slice; a stored one's is not.
 * Errors: IO, BAD_ARCHIVE, NOMEM; where take answers -1, what it has set. */
#define PT2_ARCHIVE_SLICE ((size_t)256 << 10)
typedef int pt2_archive_take(void *ctx, const void *bytes, size_t len, struct pt2_err *err);
PT2_API PT2_MUST_USE int pt2_archive_slices(const struct pt2_archive *archive,
                                            const struct pt2_record *record,
                                            pt2_archive_take *take, void *ctx,
                                            struct pt2_err *err);

/* Read every record and compare its CRC-32: once, before an archive from outside is used
 * where it lies (opening checks the headers and the tables only).
 * Errors: BAD_ARCHIVE (names the record), NOMEM. */
PT2_API PT2_MUST_USE int pt2_archive_verify(const struct pt2_archive *archive,
                                            struct pt2_err *err);

/* The tensors, weights before constants, in the order of their tables. */
PT2_API size_t pt2_archive_n_payloads(const struct pt2_archive *archive);
PT2_API const struct pt2_payload *pt2_archive_payload(const struct pt2_archive *archive,
                                                      size_t i);
PT2_API const struct pt2_payload *pt2_archive_find_payload(const struct pt2_archive *archive,
                                                           const char *fqn);

/* The bytes that a tensor of these sizes takes, contiguous.  False where a size is negative
 * or the product does not fit. */
PT2_API PT2_MUST_USE bool pt2_tensor_bytes(enum pt2_dtype dtype, unsigned n_dims,
                                           const int64_t *sizes, uint64_t *ret_bytes);

/* ---- writing ---- */

struct pt2_writer;

/* Write an archive to fd (borrowed; written from its current place on, never sought back).
 * At the end of a regular file, zeros of 64 KiB and more become holes, where it can.
 * root is the folder that all records lie under, one component.  SHA-256 and CRC-32 are taken
 * as bytes pass, the digest on a thread of the writer's own.
 * new: free with pt2_writer_free, also where it was not finished.
 * Errors: NOMEM, INTERNAL (no thread). */
PT2_API PT2_MUST_USE int pt2_writer_new(int fd, const char *root,
                                        struct pt2_writer **ret_writer, struct pt2_err *err);
PT2_API void pt2_writer_free(struct pt2_writer *writer);

/* With fd -1 a writer writes nothing and hashes nothing: pt2_writer_finish then answers the
 * bytes that the same calls would have written, and a digest of zeros.  For such a writer
 * this stands for pt2_writer_add of len bytes, which nobody needs to have.
 * Errors: INVALID. */
PT2_API PT2_MUST_USE int pt2_writer_skip(struct pt2_writer *writer, uint64_t len,
                                         struct pt2_err *err);

/* Nobody asks for the file's digest: pt2_writer_finish answers one of zeros.  Before the first
 * record. */
PT2_API void pt2_writer_no_digest(struct pt2_writer *writer);

/* Begin a record of exactly size bytes, its first one aligned to align bytes (1: not at
 * all); then add them in any number of calls; then end it.
 * Errors: IO, NO_SPACE, INVALID (a name twice, bytes too many or too few), NOMEM. */
PT2_API PT2_MUST_USE int pt2_writer_begin(struct pt2_writer *writer, const char *name,
                                          uint64_t size, unsigned align, struct pt2_err *err);
PT2_API PT2_MUST_USE int pt2_writer_add(struct pt2_writer *writer, const void *data,
                                        size_t len, struct pt2_err *err);
/* The same where the caller, perhaps on another thread, has computed these bytes' CRC-32. */
PT2_API PT2_MUST_USE int pt2_writer_add_summed(struct pt2_writer *writer, const void *data,
                                               size_t len, uint32_t crc32_of_data,
                                               struct pt2_err *err);
PT2_API PT2_MUST_USE int pt2_writer_end(struct pt2_writer *writer, struct pt2_err *err);
/* The three in one call. */
PT2_API PT2_MUST_USE int pt2_writer_record(struct pt2_writer *writer, const char *name,
                                           const void *data, size_t len, unsigned align,
                                           struct pt2_err *err);

/* Write the central directory.  ret_sha256 (32 bytes) and ret_bytes are those of the whole
 * file, where it began at fd's offset 0.  Does not sync. */
PT2_API PT2_MUST_USE int pt2_writer_finish(struct pt2_writer *writer, uint8_t *ret_sha256,
                                           uint64_t *ret_bytes, struct pt2_err *err);

/* Go on with an archive that pt2_writer_finish finished: it begins at offset 0 of fd, which
 * is open for reading and writing.  The bytes are read once, then the central directory is
 * cut off, and records can be added; until pt2_writer_finish the file is no archive.  The
 * result is the one that a single writer of all the records would have written.
 * ret_sha256 (32 bytes): of the file as it was.
 * Errors: BAD_ARCHIVE (also where another program wrote it), IO, NOMEM, INTERNAL. */
PT2_API PT2_MUST_USE int pt2_writer_reopen(int fd, struct pt2_writer **ret_writer,
                                           uint8_t *ret_sha256, struct pt2_err *err);

/* ---- writing the layout of a .pt2 ----
 *
 * What torch.export.load wants, in the order that reads best:
 *
 *     pt2_writer_new(fd, root)
 *     pt2_writer_fixed           archive_format, archive_version, byteorder, .data/version,
 *                                an empty data/sample_inputs/model.pt
 *     pt2_writer_model           models/model.json
 *     for each weight:           pt2_writer_begin_tensor, _add ..., _end
 *     pt2_writer_payloads        data/weights/model_weights_config.json
 *     for each constant:         the same (a cache that starts as zeros: size 0)
 *     pt2_writer_payloads        data/constants/model_constants_config.json
 *     pt2_writer_record          extra/<name>, UTF-8 text only
 *     pt2_writer_finish
 *
 * Both tables must be there, also where they are empty. */

/* Which table: parameters and persistent buffers are weights, non-persistent buffers and
 * tensor constants are constants. */
enum pt2_table { PT2_TABLE_WEIGHTS, PT2_TABLE_CONSTANTS };

/* A line of a payload table: a contiguous tensor. */
struct pt2_payload_entry {
    const char *fqn;
    uint32_t record; /* N of weight_N or tensor_N; entries may share one (tied weights) */
    enum pt2_dtype dtype;
    unsigned n_dims;
    int64_t sizes[PT2_MAX_DIMS];
    bool is_param;      /* true exactly for what the signature calls a parameter */
    bool requires_grad; /* floating-point types only */
};

PT2_API PT2_MUST_USE int pt2_writer_fixed(struct pt2_writer *writer, struct pt2_err *err);
PT2_API PT2_MUST_USE int pt2_writer_model(struct pt2_writer *writer, const char *json,
                                          size_t len, struct pt2_err *err);
/* Begin record data/weights/weight_<n> or data/constants/tensor_<n>, aligned to
 * PT2_TENSOR_ALIGN.  size 0 stands for zeros of whatever shape the table says.
 * Errors: as pt2_writer_begin. */
PT2_API PT2_MUST_USE int pt2_writer_begin_tensor(struct pt2_writer *writer,
                                                 enum pt2_table table, uint32_t n,
                                                 uint64_t size, struct pt2_err *err);
/* Write the table's own record, entries in the order given.
 * Errors: INVALID (an fqn twice, a shape that can not be), and those of pt2_writer_record. */
PT2_API PT2_MUST_USE int pt2_writer_payloads(struct pt2_writer *writer, enum pt2_table table,
                                             const struct pt2_payload_entry *entries,
                                             size_t n_entries, struct pt2_err *err);

#endif
