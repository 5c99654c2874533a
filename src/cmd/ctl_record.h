/* ctl_record.h - read a text record of a program's archive over HTTP, by ranges.
 *
 * A program is hundreds of megabytes, its tokenizer two: only the zip's directory and the
 * record are asked for.  Nothing that the daemon answers is trusted: sizes are bounded,
 * the CRC-32 is checked. */
#ifndef CMD_CTL_RECORD_H
#define CMD_CTL_RECORD_H

#include "cmd/ctl.h"

struct record_reader;

/* id: the program's full id; bytes: its file's size. */
MUST_USE int record_reader_new(struct ctl *ctl, const char *id, uint64_t bytes,
                               struct record_reader **ret_reader);
void record_reader_free(struct record_reader *reader);
DEFINE_AUTO(record_reader)

/* The record of that name below the root folder ("extra/tokenizer.json"), at most max
 * bytes: *ret_text is new, with a '\0' behind it; NULL where there is none. */
MUST_USE int record_reader_get(struct record_reader *reader, const char *name, size_t max,
                               char **ret_text, size_t *ret_len);

#endif
