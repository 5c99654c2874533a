/* fuzz_tokenizer.c - a tokenizer.json that a program carries.  What is read encodes and
 * decodes; ids are never negative. */
#include "fuzz.h"

#include "base/util.h"
#include "cmd/tokenizer.h"

const char fuzz_name[] = "tokenizer";
const char *const fuzz_corpus[] = {"tests/data/tokenizer",
                                   "share/models/demo/tokenizer.json", NULL};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] = "It's 12345 \xc3\xa9t\xc3\xa9s,\n\n  <|im_end|> na\xc3\xafve "
                               "\xe4\xbd\xa0\xe5\xa5\xbd \xf0\x9f\x99\x82 don't\t!!";
    struct tokenizer *t = NULL;
    struct pt2_err err = {0};

    if (tokenizer_new((const char *)data, size, &t, &err) < 0) {
        FUZZ_CHECK(err.code && *err.text && !t);
        return 0;
    }
    for (int special = 0; special < 2; special++) {
        struct buf decoded = BUF_INIT(1 << 20);
        int64_t *ids = NULL;
        size_t n = 0;

        if (tokenizer_encode(t, text, sizeof(text) - 1, special, &ids, &n, &err) == 0) {
            for (size_t i = 0; i < n; i++) {
                FUZZ_CHECK(ids[i] >= 0);
                tokenizer_decode(t, ids[i], &decoded);
            }
        }
        for (int64_t id = -2; id < 300; id++)
            tokenizer_decode(t, id, &decoded);
        tokenizer_decode(t, INT64_MAX, &decoded);
        free(ids);
        buf_done(&decoded);
    }
    tokenizer_free(t);
    return 0;
}
