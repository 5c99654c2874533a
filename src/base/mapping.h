/* mapping.h - a file mapped to be read, that others may cut short.
 *
 * A page of a mapping that lies behind the file's end, or that the disk can't give,
 * raises SIGBUS in whoever touches it.  Once mapping_catch_cuts was called, which only
 * the daemon does, that thread reads zeros instead: from that page to the mapping's end
 * no byte is the file's any more, and mapping_is_cut says so.  Whoever takes something
 * from a mapping asks afterwards, before the result is believed.  Without
 * mapping_catch_cuts (workers, tools, libpt2 in others' processes) the signal is what it
 * always was.
 *
 * All mappings are in a table that the signal handler walks: nodes that are linked once,
 * never freed, and taken again; no lock.  There are as many as were mapped at once.
 * What makes it hold:
 *
 * - A mapping is in the table from after mmap until before munmap, so no two in it
 *   overlap, and nothing else can lie where one of them says that it does.
 * - Who faults reads a mapping that is not freed under it (the caller's affair), so its
 *   own node stands still while the handler runs.  A node that changes meanwhile is
 *   another's: its count of changes is odd then, and the handler, which wants the same
 *   even one before and after, passes it over.  So no half of a range is taken for one.
 * - The mark is set before the zeros are there: whoever has read one sees the mark.
 * - Two threads that fault at once both lay zeros over what they find: the same.
 *
 * Any thread; a mapping is freed by its last user. */
#ifndef BASE_MAPPING_H
#define BASE_MAPPING_H

#include "base/util.h"

#include <pt2/err.h>

struct mapping;

/* Catch SIGBUS from now on.  What is in no mapping, or was sent by somebody, goes to the
 * action that was there before.  Once, before there are threads. */
void mapping_catch_cuts(void);

/* Map all of the file, which is not empty, with a descriptor of its own to the same file.
 * new: mapping_free.
 * Errors: IO, NOMEM. */
MUST_USE int mapping_new(int fd, struct mapping **ret_mapping, struct pt2_err *err);
void mapping_free(struct mapping *mapping);

const uint8_t *mapping_data(const struct mapping *mapping);
size_t mapping_bytes(const struct mapping *mapping);
int mapping_fd(const struct mapping *mapping); /* borrowed */

/* Has the file become shorter than it was when it was mapped, or could a page of it not
 * be read?  Asks for its length too: what is cut within the last page that is left reads
 * as zeros and raises nothing.  It stays so. */
bool mapping_is_cut(struct mapping *mapping);

#endif
