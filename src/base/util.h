/* util.h - the small words of the house: ownership of locals, sizes, strings. */
#ifndef BASE_UTIL_H
#define BASE_UTIL_H

#include <pt2/macros.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MUST_USE PT2_MUST_USE
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)    ((a) < (b) ? (a) : (b))
#define MAX(a, b)    ((a) > (b) ? (a) : (b))

/* AUTO(thing) x: a `struct thing *` that thing_free() releases when x leaves its scope.
 * Declare the pair once with DEFINE_AUTO(thing).  TAKE(x) hands x on and forgets it. */
#define DEFINE_AUTO(type)                                                                 \
    static inline void auto_free_##type(struct type **p)                                  \
    {                                                                                     \
        type##_free(*p);                                                                  \
    }
#define AUTO(type) __attribute__((cleanup(auto_free_##type))) struct type *
#define TAKE(x)                                                                           \
    ({                                                                                    \
        __typeof__(x) take_ = (x);                                                        \
        (x) = NULL;                                                                       \
        take_;                                                                            \
    })

/* AUTO_PTR char *s: freed by free(); AUTO_FD int fd: closed where >= 0; AUTO_FILE FILE *f. */
static inline void auto_ptr(void *p)
{
    free(*(void **)p);
}
static inline void auto_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}
static inline void auto_file(FILE **f)
{
    if (*f)
        fclose(*f);
}
#define AUTO_PTR  __attribute__((cleanup(auto_ptr)))
#define AUTO_FD   __attribute__((cleanup(auto_fd)))
#define AUTO_FILE __attribute__((cleanup(auto_file)))
#define TAKE_FD(fd)                                                                       \
    ({                                                                                    \
        int take_ = (fd);                                                                 \
        (fd) = -1;                                                                        \
        take_;                                                                            \
    })

static inline bool streq(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}
/* What follows the prefix in s, or NULL where s does not begin with it. */
static inline const char *after_prefix(const char *s, const char *prefix)
{
    size_t n = strlen(prefix);

    return strncmp(s, prefix, n) == 0 ? s + n : NULL;
}
static inline bool ends_with(const char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);

    return n >= m && strcmp(s + n - m, suffix) == 0;
}

/* Checked arithmetic on sizes from files: false where the result does not fit. */
static inline MUST_USE bool size_add(uint64_t a, uint64_t b, uint64_t *ret)
{
    return !__builtin_add_overflow(a, b, ret);
}
static inline MUST_USE bool size_mul(uint64_t a, uint64_t b, uint64_t *ret)
{
    return !__builtin_mul_overflow(a, b, ret);
}

#endif
