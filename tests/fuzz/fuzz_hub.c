/* fuzz_hub.c - what comes with checkpoints over the network: the first byte says what, 'l' a
 * hub's list, 'd' a Repr-Digest, 'i' a model's id, 'n' a file's name; the rest is the text.
 * What is refused has a reason; what is taken leads nowhere. */
#include "fuzz.h"

#include "checkpoint/file_names.h"
#include "cmd/hub_list.h"
#include "http/digest_header.h"
#include "store/model_id.h"

const char fuzz_name[] = "hub";
const char *const fuzz_corpus[] = {NULL};

static bool is_plain(const char *name)
{
    return *name && *name != '.' && !strpbrk(name, "/\\%\n\r ") && !strstr(name, "/..");
}

static void check_choice(struct hub_list *list, const char *only)
{
    struct pt2_err err = {0};
    bool has_index = false;
    size_t n = 0;

    if (hub_list_choose(list, only, &has_index, &err) < 0) {
        FUZZ_CHECK(err.code == PT2_ERR_NOT_FOUND && *err.text);
        return;
    }
    for (size_t i = 0; i < list->n; i++)
        n += list->files[i].is_wanted && (file_names_is_weights(list->files[i].name) ||
                                          streq(list->files[i].name, INDEX_NAME));
    FUZZ_CHECK(n == 1);
}

static void check_list(const char *text, size_t len)
{
    struct hub_list list;
    struct pt2_err err = {0};

    if (hub_list_parse(text, len, &list, &err) < 0) {
        FUZZ_CHECK(err.code && *err.text);
    } else {
        FUZZ_CHECK(blob_hash_is_hex(BLOB_GIT, list.commit));
        for (size_t i = 0; i < list.n; i++) {
            FUZZ_CHECK(is_plain(list.files[i].name));
            FUZZ_CHECK(blob_hash_is_hex(list.files[i].kind, list.files[i].digest));
            FUZZ_CHECK(list.files[i].bytes <= INT64_MAX);
            FUZZ_CHECK(hub_list_find(&list, list.files[i].name) == &list.files[i]);
        }
        check_choice(&list, NULL);
        check_choice(&list, "a.gguf");
    }
    hub_list_done(&list);
}

static void check_digest(const char *text)
{
    uint8_t sha256[SHA256_BYTES];
    struct pt2_err err = {0};
    bool found = false;

    if (digest_header_parse(text, sha256, &found, &err) < 0)
        FUZZ_CHECK(err.code == PT2_ERR_BAD_REQUEST && *err.text);
    else
        FUZZ_CHECK(!found || strstr(text, "sha-256=:"));
}

static void check_id(const char *id)
{
    struct pt2_err err = {0};
    char name[MODEL_ID_SIZE];

    if (model_id_check_new(id, &err) < 0) {
        FUZZ_CHECK(err.code == PT2_ERR_INVALID && *err.text);
        return;
    }
    FUZZ_CHECK(model_id_is_valid(id));
    model_id_to_file_name(id, name);
    FUZZ_CHECK(name[0] != '.' && !strchr(name, '/') && !strchr(id, '%'));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text;

    if (size == 0)
        return 0;
    text = malloc(size);
    FUZZ_CHECK(text);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    if (data[0] == 'l')
        check_list(text, size - 1);
    else if (data[0] == 'd')
        check_digest(text);
    else if (data[0] == 'i')
        check_id(text);
    else if (file_names_is_allowed(text))
        FUZZ_CHECK(is_plain(text) && strlen(text) <= FILE_NAME_MAX_LEN);
    free(text);
    return 0;
}
