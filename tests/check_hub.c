#include "suite.h"

#include "cmd/hub_list.h"

#define GIT "0123456789abcdef0123456789abcdef01234567"
#define SHA "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* As a caller has them: err is fresh for each call. */
static struct pt2_err why;
#define OK(call)                                                                         \
    do {                                                                                 \
        struct pt2_err *err = &why;                                                      \
        why = (struct pt2_err){0};                                                       \
        ck_assert_msg((call) == 0, "%s: %s", #call, why.text);                           \
    } while (0)
#define FAILS(error, call)                                                               \
    do {                                                                                 \
        struct pt2_err *err = &why;                                                      \
        why = (struct pt2_err){0};                                                       \
        ck_assert_msg((call) < 0, "%s must fail", #call);                                \
        ck_assert_str_eq(pt2_error_name(why.code), pt2_error_name(PT2_ERR_##error));     \
    } while (0)

static struct hub_list list;

static void parse(const char *siblings)
{
    char text[4096];

    snprintf(text, sizeof(text), "{\"sha\": \"" GIT "\", \"siblings\": [%s], \"x\": 1}",
             siblings);
    OK(hub_list_parse(text, strlen(text), &list, err));
}

#define SMALL(name) "{\"rfilename\": \"" name "\", \"size\": 3, \"blobId\": \"" GIT "\"}"
#define LARGE(name)                                                                      \
    "{\"rfilename\": \"" name "\", \"size\": 134, \"blobId\": \"" GIT                    \
    "\", \"lfs\": {\"sha256\": \"" SHA "\", \"size\": 5000000000, \"pointerSize\": 1}}"

static const char *wanted(const char *only, bool *ret_has_index)
{
    static char text[1000];

    text[0] = '\0';
    OK(hub_list_choose(&list, only, ret_has_index, err));
    for (size_t i = 0; i < list.n; i++)
        if (list.files[i].is_wanted)
            strcat(strcat(text, list.files[i].name), " ");
    return text;
}

/* Digests of "hello\n" by `git hash-object` and `sha256sum`. */
START_TEST(test_blob_hash_is_git_s_and_sha256)
{
    struct blob_hash hash;
    char hex[BLOB_HASH_HEX];

    blob_hash_start(&hash, BLOB_GIT, 6);
    blob_hash_add(&hash, "hel", 3);
    blob_hash_hex(&hash, hex);
    blob_hash_add(&hash, "lo\n", 3);
    blob_hash_hex(&hash, hex);
    ck_assert_str_eq(hex, "ce013625030ba8dba906f756967f9e9ca394464a");
    blob_hash_start(&hash, BLOB_SHA256, 6);
    blob_hash_add(&hash, "hello\n", 6);
    blob_hash_hex(&hash, hex);
    ck_assert_str_eq(hex,
                     "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
    ck_assert(blob_hash_is_hex(BLOB_GIT, GIT) && !blob_hash_is_hex(BLOB_GIT, SHA));
    ck_assert(blob_hash_is_hex(BLOB_SHA256, SHA) && !blob_hash_is_hex(BLOB_SHA256, GIT));
    ck_assert(!blob_hash_is_hex(BLOB_GIT, "0123456789ABCDEF0123456789abcdef01234567"));
}
END_TEST

START_TEST(test_hub_list_holds_what_a_checkpoint_may)
{
    parse(SMALL("config.json") "," SMALL("README.md") "," SMALL("onnx/config.json") ","
              LARGE("model.safetensors") "," LARGE("../x.safetensors") ","
                  LARGE("pytorch_model.bin"));
    ck_assert_uint_eq(list.n, 2);
    ck_assert_str_eq(list.commit, GIT);
    ck_assert_int_eq(list.files[0].kind, BLOB_GIT);
    ck_assert_str_eq(list.files[0].digest, GIT);
    ck_assert_uint_eq(list.files[0].bytes, 3);
    ck_assert_int_eq(list.files[1].kind, BLOB_SHA256);
    ck_assert_str_eq(list.files[1].digest, SHA);
    ck_assert_uint_eq(list.files[1].bytes, 5000000000);
    ck_assert_ptr_eq(hub_list_find(&list, "model.safetensors"), &list.files[1]);
    ck_assert_ptr_null(hub_list_find(&list, "README.md"));
    hub_list_done(&list);
}
END_TEST

START_TEST(test_hub_list_chooses_weights)
{
    bool has_index;

    parse(SMALL("config.json") "," LARGE("consolidated.safetensors") ","
              LARGE("model.safetensors") "," SMALL("tokenizer.json") "," LARGE("a.gguf"));
    ck_assert_str_eq(wanted(NULL, &has_index),
                     "config.json model.safetensors tokenizer.json ");
    ck_assert(!has_index);
    ck_assert_str_eq(wanted("a.gguf", &has_index), "config.json tokenizer.json a.gguf ");
    FAILS(NOT_FOUND, hub_list_choose(&list, "config.json", &has_index, err));
    FAILS(NOT_FOUND, hub_list_choose(&list, "b.gguf", &has_index, err));
    ck_assert_ptr_nonnull(strstr(why.text, "'a.gguf'"));
    hub_list_done(&list);

    parse(SMALL("model.safetensors.index.json") "," LARGE("m-1.safetensors") ","
              LARGE("m-2.safetensors"));
    ck_assert_str_eq(wanted(NULL, &has_index), "model.safetensors.index.json ");
    ck_assert(has_index);
    hub_list_done(&list);

    parse(LARGE("only.safetensors") "," LARGE("a.gguf"));
    ck_assert_str_eq(wanted(NULL, &has_index), "only.safetensors ");
    hub_list_done(&list);

    parse(LARGE("a.safetensors") "," LARGE("b.safetensors"));
    FAILS(NOT_FOUND, hub_list_choose(&list, NULL, &has_index, err));
    ck_assert_ptr_nonnull(strstr(why.text, "--file"));
    hub_list_done(&list);

    parse(SMALL("config.json"));
    FAILS(NOT_FOUND, hub_list_choose(&list, NULL, &has_index, err));
    hub_list_done(&list);
}
END_TEST

START_TEST(test_hub_list_refuses_what_makes_no_sense)
{
    static const char *const bad[] = {
        "[]",
        "{}",
        "{\"sha\": \"" SHA "\", \"siblings\": []}",
        "{\"sha\": \"main\", \"siblings\": []}",
        "{\"sha\": \"" GIT "\"}",
        "{\"sha\": \"" GIT "\", \"siblings\": {}}",
        "{\"sha\": \"" GIT "\", \"siblings\": [1]}",
        "{\"sha\": \"" GIT "\", \"siblings\": [{\"rfilename\": \"config.json\"}]}",
        "{\"sha\": \"" GIT "\", \"siblings\": [{\"rfilename\": \"config.json\","
        " \"size\": -1, \"blobId\": \"" GIT "\"}]}",
        "{\"sha\": \"" GIT "\", \"siblings\": [{\"rfilename\": \"config.json\","
        " \"size\": 1, \"blobId\": \"" SHA "\"}]}",
        "{\"sha\": \"" GIT "\", \"siblings\": [{\"rfilename\": \"a.gguf\","
        " \"size\": 1, \"blobId\": \"" GIT "\", \"lfs\": {}}]}",
        "{\"sha\": \"" GIT "\", \"siblings\": [" SMALL("a.gguf") "," SMALL("a.gguf") "]}",
    };

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        FAILS(INVALID, hub_list_parse(bad[i], strlen(bad[i]), &list, err));
        hub_list_done(&list);
    }
    FAILS(BAD_JSON, hub_list_parse("{", 1, &list, err));
    hub_list_done(&list);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("hub");
    TCase *core = tcase_create("core"), *errors = tcase_create("errors");

    tcase_add_test(core, test_blob_hash_is_git_s_and_sha256);
    tcase_add_test(core, test_hub_list_holds_what_a_checkpoint_may);
    tcase_add_test(core, test_hub_list_chooses_weights);
    tcase_add_test(errors, test_hub_list_refuses_what_makes_no_sense);
    suite_add_tcase(suite, core);
    suite_add_tcase(suite, errors);
    return suite_run(suite);
}
