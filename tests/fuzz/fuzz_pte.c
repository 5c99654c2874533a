/* fuzz_pte.c - an ExecuTorch program from outside, as pt2ctl inspect reads it.
 *
 * The corpus is of a llama of one layer (hidden_size 8, vocab_size 16, random weights), as
 * pt2-export --format pte --max-cache-len 4 writes it for both backends. */
#include "fuzz.h"

#include "pte/describe.h"

const char fuzz_name[] = "pte";
const char *const fuzz_corpus[] = {NULL};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pt2_err err = {0};
    json_t *json = NULL, *method;
    char *text;
    size_t i;

    if (pte_describe(data, size, &json, &err) < 0) {
        FUZZ_CHECK(err.code == PT2_ERR_BAD_ARCHIVE && *err.text && !json);
        return 0;
    }
    FUZZ_CHECK(pte_is_program(data, size));
    json_array_foreach (json_object_get(json, "methods"), i, method)
        FUZZ_CHECK(json_is_string(json_object_get(method, "name")));
    text = json_dumps(json, JSON_COMPACT);
    FUZZ_CHECK(text); /* all of it is UTF-8 */
    free(text);
    json_decref(json);
    return 0;
}
