/* fuzz_http.c - what a client's request line and headers hold: one piece a line of the
 * input, a target, a media type, an Accept, a Range, an If-None-Match. */
#include "fuzz.h"

#include "base/utf8.h"
#include "http/conditions.h"
#include "http/negotiate.h"
#include "http/url.h"

const char fuzz_name[] = "http";
const char *const fuzz_corpus[] = {NULL};

static const char etag[] = "0123456789abcdef";

static void check_target(char *target)
{
    AUTO_PTR char *authority = malloc(strlen(target) + 1);
    const char *path = NULL;
    char *query = NULL, *decoded;
    const char *why = NULL, *end = target + strlen(target);

    FUZZ_CHECK(authority);
    if (!url_split(target, authority, &path, &query))
        return;
    FUZZ_CHECK(streq(path, "/") || (path >= target && path <= end));
    FUZZ_CHECK(!strpbrk(authority, "/@"));
    FUZZ_CHECK(!query || (query > target && query <= end));
    for (int plus = 0; plus < 2; plus++) {
        const char *text = query ? query : path;
        size_t n = strlen(text);

        decoded = malloc(n + 1);
        if (decoded && url_decode(text, n, plus, decoded, &why)) {
            FUZZ_CHECK(strlen(decoded) <= n);
            for (size_t len, at = 0; decoded[at]; at += len)
                FUZZ_CHECK((len = utf8_char_len(decoded + at, strlen(decoded + at))) > 0);
        } else {
            FUZZ_CHECK(why && *why);
        }
        free(decoded);
    }
}

static void check_negotiate(const char *content_type, const char *accept)
{
    static const char produces[] = "application/json application/octet-stream";
    size_t n = 0;
    const char *best = negotiate(accept, produces, &n);

    FUZZ_CHECK(!best || (best >= produces && best + n <= produces + strlen(produces)));
    if (media_type_is(content_type, "application/json"))
        FUZZ_CHECK(strlen(content_type) >= strlen("application/json"));
}

static void check_range(const char *text, const char *if_range, const char *list)
{
    static const uint64_t sizes[] = {0, 1, 100, UINT64_MAX};
    uint64_t first = 0, last = 0;

    for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
        if (range_parse(text, sizes[i], &first, &last) == RANGE_GOOD)
            FUZZ_CHECK(first <= last && last < sizes[i]);
    if_range_holds(if_range, etag);
    if_range_holds(if_range, NULL);
    if (etag_is_listed(list, etag))
        FUZZ_CHECK(strstr(list, etag) || strchr(list, '*'));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *lines[5], *text = malloc(size + 1), *at = text;

    FUZZ_CHECK(text);
    memcpy(text, data, size);
    text[size] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        size_t n = strcspn(at, "\n");
        bool is_last = !at[n];

        /* A copy for each, so that a read behind it is seen. */
        lines[i] = strndup(at, n);
        FUZZ_CHECK(lines[i]);
        at += is_last ? n : n + 1;
    }
    check_target(lines[0]);
    check_negotiate(lines[1], lines[2]);
    check_range(lines[3], lines[4], lines[4]);
    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        free(lines[i]);
    free(text);
    return 0;
}
