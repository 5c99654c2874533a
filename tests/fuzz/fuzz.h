/* fuzz.h - what a fuzz target is, and what its driver gives it.
 *
 * A target is one file with fuzz_corpus and LLVMFuzzerTestOneInput, linked with main.c.
 * Started with no arguments it reads every file of its corpus, then makes some thousand
 * mutations of them, in a few seconds: one of the tests of `make check`.
 *
 *     fuzz_program                            PT2_SEED=n PT2_RUNS=n PT2_SECONDS=n
 *     fuzz_program FILE...                    these files alone: a case once more
 *     fuzz_program -o DIR                     the corpus as files, for libFuzzer
 *
 * A target may bring its own mutations, as LLVMFuzzerCustomMutator (mutate_plan.c).
 *
 * Input i of a seed is the same each time.  One that crashes, hangs or breaks a check is
 * written to crash-<target> in the current folder.
 *
 * Each is a target of libFuzzer too: tools/fuzz builds and runs them so, with the
 * dictionaries of tests/fuzz/dict and the corpora of tests/data/fuzz (<target>.tar.xz is
 * what its runs found, <target>/ what is written by hand: those alone are read here). */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* Name, and the files and folders below the source tree that inputs are made of; NULL
 * ends them.  tests/data/fuzz/<name> is read too. */
extern const char fuzz_name[];
extern const char *const fuzz_corpus[];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A check of the target's own: holds in every build. */
#define FUZZ_CHECK(condition)                                                            \
    do {                                                                                 \
        if (!(condition)) {                                                              \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__,             \
                    #condition);                                                         \
            abort();                                                                     \
        }                                                                                \
    } while (0)

#endif
