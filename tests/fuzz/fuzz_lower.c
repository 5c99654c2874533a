/* fuzz_lower.c - a models/model.json, lowered to an ExecuTorch program for both backends.
 *
 * The corpus is what pt2-export makes of tiny decoders with profile edge: plain, of any number
 * of tokens, quantised, with ExecuTorch's own ops, with experts.  Mutations are of the graph
 * (mutate_plan.c), so that most of them still parse. */
#include "fuzz.h"

#include "base/util.h"

#include <pt2/pte.h>

const char fuzz_name[] = "lower";
const char *const fuzz_corpus[] = {NULL};

static void lower(const struct pt2_program *program, enum pt2_pte_backend backend)
{
    struct pt2_pte_options options = {.backend = backend};
    struct pt2_pte_facts facts;
    struct pt2_err err = {0};

    if (pt2_pte_check(program, "{\"get_max_seq_len\": 16}", &options, &facts, &err) < 0)
        FUZZ_CHECK(err.code && err.code != PT2_ERR_INTERNAL && *err.text);
    else
        FUZZ_CHECK(facts.file_bytes > 0 && facts.n_instructions > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pt2_program *program = NULL;

    if (pt2_program_parse((const char *)data, size, &program, NULL) < 0)
        return 0;
    lower(program, PT2_PTE_XNNPACK);
    lower(program, PT2_PTE_PORTABLE);
    pt2_program_free(program);
    return 0;
}
