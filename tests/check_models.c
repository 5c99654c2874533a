#include "suite.h"

#include "store_fixture.h"

#include "store/models.h"

#include <sys/resource.h>

static struct models *models;
static char root[PATH_MAX];

/* STATE/models is the models directory, STATE/outside is not in it. */
static void setup(void)
{
    state_make();
    snprintf(root, sizeof(root), "%s/models", state_dir);
    ck_assert_int_eq(mkdir(root, 0700), 0);
    OK(models_new(root, NULL, &models, err));
}

static void teardown(void)
{
    models_free(models);
    state_remove();
}

static const char *in(const char *name)
{
    static char paths[4][PATH_MAX + 128];
    static int next;
    char *path = paths[next++ % 4];

    snprintf(path, sizeof(paths[0]), "%s/%s", root, name);
    return path;
}

static const char *ids(size_t limit, const char *after, bool *ret_more)
{
    static char text[500];
    const json_t *item;
    json_t *list;
    size_t i;

    text[0] = '\0';
    OK(models_list(models, limit, after, &list, ret_more, err));
    json_array_foreach (list, i, item)
        strcat(strcat(text, json_string_value(json_object_get(item, "id"))), " ");
    json_decref(list);
    return text;
}

static const char *reason(const char *id)
{
    static char text[500];
    json_t *json;

    OK(models_get(models, id, &json, err));
    snprintf(text, sizeof(text), "%s",
             json_is_true(json_object_get(json, "exportable"))
                 ? "exportable"
                 : json_string_value(json_object_get(json, "reason")));
    json_decref(json);
    return text;
}

START_TEST(test_models_are_folders_and_orgs)
{
    bool more;

    ck_assert_str_eq(ids(10, NULL, &more), "");
    copy_demo(in("demo"));
    ck_assert_int_eq(mkdir(in("org"), 0700), 0);
    copy_demo(in("org/b"));
    copy_demo(in("org/a"));
    ck_assert_int_eq(mkdir(in("org/deep"), 0700), 0);
    copy_demo(in("org/deep/no"));
    copy_demo(in(".hidden"));
    write_text(in("file"), "x");
    ck_assert_int_eq(mkdir(in("empty"), 0700), 0);
    ck_assert_str_eq(ids(10, NULL, &more), "demo org/a org/b ");
    ck_assert(!more);
    ck_assert_str_eq(ids(2, NULL, &more), "demo org/a ");
    ck_assert(more);
    ck_assert_str_eq(ids(2, "org/a", &more), "org/b ");
    ck_assert(!more);
    ck_assert_str_eq(reason("org/a"), "exportable");
}
END_TEST

/* A file counts at the top alone, a part of a model in no place. */
START_TEST(test_models_may_be_gguf_files)
{
    char from[PATH_MAX];
    bool more;

    snprintf(from, sizeof(from), "%s/gguf/llama.gguf", test_data());
    ck_assert_int_eq(mkdir(in("folder"), 0700), 0);
    ck_assert_int_eq(mkdir(in("org"), 0700), 0);
    ck_assert_int_eq(mkdir(in("org/one"), 0700), 0);
    copy_file(from, in("folder/any.gguf"));
    copy_file(from, in("org/one/any.gguf"));
    copy_file(from, in("top.gguf"));
    copy_file(from, in("m-00001-of-00002.gguf"));
    ck_assert_int_eq(mkdir(in("no.gguf"), 0700), 0);
    ck_assert_int_eq(symlink("top.gguf", in("link.gguf")), 0);
    ck_assert_str_eq(ids(10, NULL, &more), "folder link.gguf org/one top.gguf ");
    ck_assert_str_eq(reason("top.gguf"), "exportable");
    ck_assert_str_eq(reason("link.gguf"), "exportable");
    ck_assert_str_eq(reason("org/one"), "exportable");
    FAILS(NOT_FOUND, models_path(models, "folder/any.gguf", from, err));
    FAILS(NOT_FOUND, models_path(models, "m-00001-of-00002.gguf", from, err));
    ck_assert_int_eq(truncate(in("top.gguf"), 100), 0);
    ck_assert_ptr_nonnull(strstr(reason("top.gguf"), "'top.gguf', byte "));
    copy_file(in("link.gguf"), in("folder/second.gguf"));
    ck_assert_ptr_nonnull(strstr(reason("folder"), "2 files *.gguf"));
}
END_TEST

START_TEST(test_models_odd_ids_are_not_found)
{
    static const char *const bad[] = {
        "",      "..",   ".",     "demo/..", "../models/demo", "/demo",
        "demo/", "nope", "a/b/c", ".hidden", "demo\n"};
    char path[PATH_MAX];

    copy_demo(in("demo"));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        FAILS(NOT_FOUND, models_path(models, bad[i], path, err));
    OK(models_path(models, "demo", path, err));
}
END_TEST

/* Where descriptors, or memory, are short nobody knows whether there is one. */
START_TEST(test_models_are_not_missing_for_a_shortage)
{
    struct rlimit limit, none;
    json_t *json = NULL;
    char path[PATH_MAX];
    bool more;

    copy_demo(in("demo"));
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = limit;
    none.rlim_cur = 0;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    FAILS(IO, models_path(models, "demo", path, err));
    FAILS(IO, models_get(models, "demo", &json, err));
    FAILS(IO, models_list(models, 10, NULL, &json, &more, err));
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    OK(models_path(models, "demo", path, err));
}
END_TEST

START_TEST(test_models_links_stay_beneath)
{
    char outside[PATH_MAX], target[PATH_MAX + 64], path[PATH_MAX];
    bool more;

    snprintf(outside, sizeof(outside), "%s/outside", state_dir);
    copy_demo(outside);
    copy_demo(in("demo"));
    ck_assert_int_eq(symlink(outside, in("leads-out")), 0);
    ck_assert_int_eq(symlink("demo", in("inside")), 0);
    ck_assert_int_eq(symlink("nowhere", in("dangling")), 0);
    ck_assert_int_eq(symlink(".", in("itself")), 0);
    ck_assert_str_eq(ids(10, NULL, &more), "demo inside ");
    FAILS(NOT_FOUND, models_path(models, "leads-out", path, err));

    /* the same for the files of a model */
    ck_assert_int_eq(mkdir(in("linked"), 0700), 0);
    ck_assert_int_eq(symlink("../demo/config.json", in("linked/config.json")), 0);
    ck_assert_int_eq(symlink("../demo/model.safetensors", in("linked/model.safetensors")),
                     0);
    ck_assert_str_eq(reason("linked"), "exportable");
    OK(models_path(models, "linked", path, err));
    unlink(in("linked/model.safetensors"));
    snprintf(target, sizeof(target), "%s/model.safetensors", outside);
    ck_assert_int_eq(symlink(target, in("linked/model.safetensors")), 0);
    ck_assert_ptr_nonnull(strstr(reason("linked"), "'model.safetensors' is a link"));
    FAILS(NOT_EXPORTABLE, models_path(models, "linked", path, err));
}
END_TEST

/* What was said of a model must not outlive its files. */
START_TEST(test_models_are_described_anew_when_they_change)
{
    copy_demo(in("demo"));
    ck_assert_str_eq(reason("demo"), "exportable");
    ck_assert_str_eq(reason("demo"), "exportable");
    write_text(in("demo/config.json"), "{\"model_type\": \"t5\"}");
    ck_assert_str_ne(reason("demo"), "exportable");
    unlink(in("demo/config.json"));
    ck_assert_str_ne(reason("demo"), "exportable"); /* weights alone */
    unlink(in("demo/model.safetensors"));
    FAILS(NOT_FOUND, models_get(models, "demo", &(json_t *){NULL}, err));
}
END_TEST

START_TEST(test_models_directory_may_be_missing)
{
    bool more;

    ck_assert_int_eq(rmdir(root), 0);
    ck_assert_str_eq(ids(10, NULL, &more), "");
    FAILS(NOT_FOUND, models_get(models, "demo", &(json_t *){NULL}, err));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("models");
    TCase *core = tcase_create("core");

    tcase_add_checked_fixture(core, setup, teardown);
    tcase_add_test(core, test_models_are_folders_and_orgs);
    tcase_add_test(core, test_models_may_be_gguf_files);
    tcase_add_test(core, test_models_odd_ids_are_not_found);
    tcase_add_test(core, test_models_are_not_missing_for_a_shortage);
    tcase_add_test(core, test_models_links_stay_beneath);
    tcase_add_test(core, test_models_are_described_anew_when_they_change);
    tcase_add_test(core, test_models_directory_may_be_missing);
    suite_add_tcase(suite, core);
    return suite_run(suite);
}
