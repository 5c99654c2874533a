/* utf8.h - is it UTF-8 (RFC 3629: no overlong forms, no surrogates, at most U+10FFFF)?
 *
 * Pure functions; any thread. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include "base/util.h"

/* The bytes of the character that begins at s, 1 to 4, of len that are there; 0 where it
 * is none, or is cut at len. */
size_t utf8_char_len(const char *s, size_t len);
bool utf8_is_valid(const char *s, size_t len);
/* Write the character (not a surrogate, at most 0x10ffff).  Returns its bytes. */
size_t utf8_put(char to[4], uint32_t c);

#endif
