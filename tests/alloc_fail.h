/* alloc_fail.h - let one allocation after the other fail.
 *
 * For tests linked with $(WITH_ALLOC_FAIL), which send the calls of our own code (and of
 * libcheck, but not those within shared libraries) through here.
 *
 *     for (alloc_fail_begin(); alloc_fail_next();) {
 *         r = thing_new(&thing, &err);
 *         if (alloc_failed())                from here on nothing fails any more
 *             ck_assert_int_eq(r, -1);
 *         ...                                the last round is one without a failure
 *     } */
#ifndef TESTS_ALLOC_FAIL_H
#define TESTS_ALLOC_FAIL_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static long alloc_fail_at;    /* the allocation that fails, from 1 */
static long alloc_fail_count; /* allocations of this round */
static bool alloc_fail_armed;
static bool alloc_fail_lasts; /* and so do all after it */

/* Must this allocation fail? */
static inline bool alloc_fails(void)
{
    if (!alloc_fail_armed)
        return false;
    alloc_fail_count++;
    return alloc_fail_count == alloc_fail_at ||
           (alloc_fail_lasts && alloc_fail_count > alloc_fail_at);
}

static inline void alloc_fail_begin(void)
{
    alloc_fail_at = 0;
    alloc_fail_count = 0;
}

/* The next round; none after one in which nothing failed. */
static inline bool alloc_fail_next(void)
{
    if (alloc_fail_count < alloc_fail_at)
        return false;
    alloc_fail_at++;
    alloc_fail_count = 0;
    alloc_fail_armed = true;
    return true;
}

/* Did this round's allocation fail?  None does afterwards. */
static inline bool alloc_failed(void)
{
    alloc_fail_armed = false;
    return alloc_fail_count >= alloc_fail_at;
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_reallocarray(void *p, size_t n, size_t size);
char *__real_strdup(const char *s);
char *__real_strndup(const char *s, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_reallocarray(void *p, size_t n, size_t size);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);

void *__wrap_malloc(size_t n)
{
    return alloc_fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return alloc_fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    return alloc_fails() ? NULL : __real_realloc(p, n);
}

void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
    return alloc_fails() ? NULL : __real_reallocarray(p, n, size);
}

char *__wrap_strdup(const char *s)
{
    return alloc_fails() ? NULL : __real_strdup(s);
}

char *__wrap_strndup(const char *s, size_t n)
{
    return alloc_fails() ? NULL : __real_strndup(s, n);
}

#endif
