/* fuzz_record.c - pt2ctl's reading of a record by ranges: the input is the program's file as
 * a daemon that lies would serve it. */
#include "fuzz.h"

#include "cmd/ctl_http.h"
#include "cmd/ctl_record.h"

const char fuzz_name[] = "record";
const char *const fuzz_corpus[] = {"tests/data/archive-valid", "tests/data/archive-invalid",
                                   NULL};

static const uint8_t *served;
static size_t n_served;

/* In the place of ctl_http.c: answers "Range: bytes=a-b" from the input. */
int ctl_http(struct ctl *ctl, const struct ctl_request *request, struct ctl_reply *ret_reply)
{
    unsigned long long first = 0, last = 0;

    *ret_reply = (struct ctl_reply){.status = 206, .body = BUF_INIT(1 << 20)};
    FUZZ_CHECK(ctl && sscanf(request->headers[0], "Range: bytes=%llu-%llu", &first,
                             &last) == 2);
    FUZZ_CHECK(first <= last && last < n_served);
    buf_add(&ret_reply->body, served + first, (size_t)(last - first + 1));
    return 0;
}

void ctl_reply_done(struct ctl_reply *reply)
{
    buf_done(&reply->body);
}

char *ctl_path(const char *fmt, ...)
{
    return strdup(fmt);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"extra/tokenizer.json", "models/model.json",
                                        "archive_format", "data/weights/weight_0"};
    struct record_reader *reader = NULL;
    struct ctl ctl = {0};

    served = data;
    n_served = size;
    if (record_reader_new(&ctl, "id", size, &reader) < 0) {
        FUZZ_CHECK(ctl.exit && *ctl.text);
        return 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char *text = NULL;
        size_t n = 0;

        ctl_forgive(&ctl);
        if (record_reader_get(reader, names[i], 1 << 20, &text, &n) < 0)
            FUZZ_CHECK(ctl.exit && *ctl.text && !text);
        else
            FUZZ_CHECK(!text || (n > 0 && n <= 1 << 20 && text[n] == '\0'));
        free(text);
    }
    record_reader_free(reader);
    return 0;
}
