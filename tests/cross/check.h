/* check.h - of libcheck what check_kernels uses, for a processor whose libcheck is not at
 * hand: tests/check_neon.sh.  Tests run in the one process; the first failure ends it. */
#ifndef TESTS_CROSS_CHECK_H
#define TESTS_CROSS_CHECK_H

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TESTS 64

typedef struct {
    void (*setup)(void);
    void (*tests[MAX_TESTS])(int i);
    int n_tests;
} TCase;
typedef struct {
    const char *name;
    TCase *cases[MAX_TESTS];
    int n_cases;
} Suite;
typedef Suite SRunner;

#define START_TEST(name) static void name(__attribute__((unused)) int _i)
#define END_TEST

#define ck_assert_msg(holds, ...)                                                         \
    do {                                                                                  \
        if (!(holds)) {                                                                   \
            printf("%s:%d: %s: ", __FILE__, __LINE__, #holds);                            \
            printf(__VA_ARGS__);                                                          \
            printf("\n");                                                                 \
            exit(EXIT_FAILURE);                                                           \
        }                                                                                 \
    } while (0)
#define ck_assert(holds)          ck_assert_msg(holds, "does not hold")
#define ck_assert_ptr_nonnull(p)  ck_assert((p) != NULL)
#define ck_assert_ptr_eq(a, b)    ck_assert((a) == (b))
#define ck_assert_str_eq(a, b)    ck_assert_msg(strcmp(a, b) == 0, "%s, not %s", a, b)
#define ck_assert_mem_eq(a, b, n) ck_assert(memcmp(a, b, n) == 0)
#define ck_assert_int_eq(a, b)                                                            \
    ck_assert_msg((a) == (b), "%jd, not %jd", (intmax_t)(a), (intmax_t)(b))
#define ck_assert_uint_eq(a, b)                                                           \
    ck_assert_msg((a) == (b), "%ju, not %ju", (uintmax_t)(a), (uintmax_t)(b))
#define ck_assert_double_eq_tol(a, b, t)                                                  \
    ck_assert_msg(fabs((double)(a) - (double)(b)) < (t), "%.9g, not %.9g", (double)(a),   \
                  (double)(b))

#define CK_NORMAL 0

static inline Suite *suite_create(const char *name)
{
    Suite *s = calloc(1, sizeof(*s));

    s->name = name;
    return s;
}

static inline TCase *tcase_create(__attribute__((unused)) const char *name)
{
    return calloc(1, sizeof(TCase));
}

#define tcase_set_timeout(c, seconds)             ((void)(c))
#define tcase_add_checked_fixture(c, begin, done) ((c)->setup = (begin))
#define tcase_add_test(c, test)                   ((c)->tests[(c)->n_tests++] = (test))
#define suite_add_tcase(s, c)                     ((s)->cases[(s)->n_cases++] = (c))
#define srunner_create(s)                         (s)
#define srunner_ntests_failed(s)                  0
#define srunner_free(s)                           ((void)(s))

static inline void srunner_run_all(SRunner *s, __attribute__((unused)) int mode)
{
    int n = 0;

    for (int c = 0; c < s->n_cases; c++)
        for (int t = 0; t < s->cases[c]->n_tests; t++, n++) {
            if (s->cases[c]->setup)
                s->cases[c]->setup();
            s->cases[c]->tests[t](0);
        }
    printf("%s: %d tests hold\n", s->name, n);
}

#endif
