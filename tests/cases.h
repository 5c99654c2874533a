/* cases.h - tests that are folders: <suite>/<what-is-wrong>/{input files..., error}.
 *
 * The file "error" has two lines: the error's name (as in tbl_errors.h), and a text that
 * its message must hold.  A new case needs no C. */
#ifndef TESTS_CASES_H
#define TESTS_CASES_H

#include <check.h>
#include <dirent.h>
#include <pt2/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Try the case in folder dir: 0 or -1 with err filled, like any function. */
typedef int cases_fn(const char *dir, struct pt2_err *err);

/* tests/data of the source tree, or a file in it. */
static inline const char *test_data(void)
{
    const char *dir = getenv("PT2_TEST_DATA");

    return dir ? dir : "../tests/data";
}

static inline void cases_run_one(const char *dir, cases_fn *fn)
{
    char path[600], name[100] = "", text[300] = "";
    struct pt2_err err = {0};
    FILE *f;

    snprintf(path, sizeof(path), "%s/error", dir);
    f = fopen(path, "r");
    ck_assert_msg(f && fscanf(f, "%99[^\n]\n%299[^\n]", name, text) == 2,
                  "%s: unreadable", path);
    fclose(f);
    ck_assert_msg(fn(dir, &err) < 0, "%s: must fail with %s", dir, name);
    ck_assert_msg(strcmp(pt2_error_name(err.code), name) == 0,
                  "%s: must fail with %s, not %s (%s)", dir, name,
                  pt2_error_name(err.code), err.text);
    ck_assert_msg(strstr(err.text, text) != NULL, "%s: must say '%s', not '%s'", dir,
                  text, err.text);
}

/* Run all cases of tests/data/<suite>; there must be some. */
static inline void cases_run(const char *suite, cases_fn *fn)
{
    char folder[300], dir[560];
    struct dirent *d;
    int n = 0;
    DIR *all;

    snprintf(folder, sizeof(folder), "%s/%s", test_data(), suite);
    all = opendir(folder);
    ck_assert_msg(all != NULL, "%s: no such folder", folder);
    while ((d = readdir(all)) != NULL) {
        if (strchr(d->d_name, '.'))
            continue; /* the generator, and what is no case */
        snprintf(dir, sizeof(dir), "%s/%s", folder, d->d_name);
        cases_run_one(dir, fn);
        n++;
    }
    closedir(all);
    ck_assert_int_gt(n, 0);
}

#endif
