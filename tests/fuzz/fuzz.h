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
 * With clang: ../configure CC=clang CXX=clang++ CFLAGS='-g -O1 -fsanitize=fuzzer-no-link'
 * --enable-asan --enable-ubsan, then make LIB_FUZZING_ENGINE=-fsanitize=fuzzer
 * FUZZ_DEFINES=-DFUZZ_LIBFUZZER fuzz_program: libFuzzer's main() in the place of main.c's. */
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
