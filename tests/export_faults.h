/* export_faults.h - an export begun while one allocation after the other fails; for tests linked
 * with $(WITH_ALLOC_FAIL). */
#ifndef TESTS_EXPORT_FAULTS_H
#define TESTS_EXPORT_FAULTS_H

#include "alloc_fail.h"

#include <check.h>
#include <pt2/export.h>

static inline void export_survives_no_memory(const struct pt2_checkpoint *checkpoint,
                                             const struct pt2_export_options *asked)
{
    for (alloc_fail_begin(); alloc_fail_next();) {
        struct pt2_export *exp = NULL;
        struct pt2_err e = {0};
        int r = pt2_export_new(checkpoint, asked, &exp, &e);

        if (alloc_failed()) {
            ck_assert_int_eq(r, -1);
            ck_assert_msg(e.code == PT2_ERR_NOMEM, "%s", e.text);
        } else {
            ck_assert_msg(r == 0, "%s", e.text);
            pt2_export_free(exp);
        }
    }
}

#endif
