/* fuzz_program.c - a models/model.json.  What parses is printed, looked at as a decoder, and
 * written; what was written parses, and is written alike. */
#include "fuzz.h"

#include "base/util.h"

#include <pt2/program.h>

const char fuzz_name[] = "program";
const char *const fuzz_corpus[] = {"tests/data/model-json", "tests/data/program-invalid",
                                   "tests/data/program-refused", NULL};

static void check_written(const struct pt2_program *program)
{
    struct pt2_program *again = NULL;
    char *json = NULL, *json_again = NULL;
    size_t n = 0, n_again = 0;
    struct pt2_err err = {0};

    if (pt2_program_to_json(program, &json, &n, &err) < 0) {
        FUZZ_CHECK(*err.text);
        return;
    }
    if (pt2_program_parse(json, n, &again, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        FUZZ_CHECK(!"what was written parses");
    }
    FUZZ_CHECK(pt2_program_to_json(again, &json_again, &n_again, NULL) == 0);
    FUZZ_CHECK(n == n_again && memcmp(json, json_again, n) == 0);
    free(json);
    free(json_again);
    pt2_program_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pt2_program *program = NULL;
    struct pt2_decoder decoder;
    struct pt2_err err = {0};
    char *text = NULL;

    if (pt2_program_parse((const char *)data, size, &program, &err) < 0) {
        FUZZ_CHECK(err.code && *err.text && !program);
        return 0;
    }
    for (uint32_t i = 0; i < pt2_program_n_values(program); i++) {
        const struct pt2_value *v = pt2_program_value(program, i);

        FUZZ_CHECK(v->node < (int64_t)pt2_program_n_nodes(program));
        FUZZ_CHECK(pt2_program_find_value(program, v->name) == i);
    }
    FUZZ_CHECK(pt2_program_print(program, &text, NULL) == 0);
    free(text);
    if (pt2_program_decoder(program, &decoder, &err) == 0)
        FUZZ_CHECK(decoder.batch_size > 0 && decoder.vocab_size > 0 &&
                   decoder.max_cache_len > 0 && decoder.max_seq_len > 0);
    check_written(program);
    pt2_program_free(program);
    return 0;
}
