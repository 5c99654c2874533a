#include "suite.h"

#include "store_fixture.h"

#include "http/digest_header.h"
#include "store/unfinished.h"
#include "store/uploads.h"

static struct store *store;
static struct models *models;
static struct uploads *uploads;
static char root[PATH_MAX];

#define MAX_UNFINISHED 1000

static void open_uploads(int64_t ttl_ms)
{
    OK(models_new(root, NULL, &models, err));
    OK(uploads_new(models, store,
                   &(struct uploads_limits){.ttl_ms = ttl_ms,
                                            .max_unfinished_bytes = MAX_UNFINISHED},
                   &uploads, err));
}

static void close_uploads(void)
{
    uploads_free(uploads);
    models_free(models);
}

static void setup(void)
{
    state_make();
    snprintf(root, sizeof(root), "%s/models", state_dir);
    OK(store_open(state_dir, &store, err));
    open_uploads(60000);
}

static void teardown(void)
{
    close_uploads();
    store_free(store);
    state_remove();
}

static const char *in(const char *name)
{
    static char paths[4][PATH_MAX + 256];
    static int next;
    char *path = paths[next++ % 4];

    snprintf(path, sizeof(paths[0]), "%s/%s", root, name);
    return path;
}

static bool is_there(const char *name)
{
    return access(in(name), F_OK) == 0;
}

static bool put(const char *id, const char *name, const void *data, size_t len,
                struct upload_file *ret_file)
{
    uint8_t sha256[SHA256_BYTES];
    struct upload upload;
    bool is_new;

    OK(upload_begin(uploads, "", id, name, len, &upload, err));
    OK(upload_write(&upload, data, len / 2, err));
    OK(upload_write(&upload, (const char *)data + len / 2, len - len / 2, err));
    OK(upload_finish(&upload, NULL, sha256, &is_new, err));
    upload_drop(&upload);
    if (ret_file) {
        *ret_file = (struct upload_file){.name = name, .bytes = len};
        sha256_to_hex(sha256, ret_file->sha256);
    }
    return is_new;
}

/* The bundled model's two files; merges is the text of a third. */
static void put_demo(const char *id, const char *merges, struct upload_file ret_files[3])
{
    static const char *const names[] = {"config.json", "model.safetensors"};
    char path[PATH_MAX + 32];

    for (int i = 0; i < 2; i++) {
        char *data;
        size_t len;
        FILE *f;

        snprintf(path, sizeof(path), "%s/%s", demo_dir(), names[i]);
        f = fopen(path, "r");
        ck_assert_ptr_nonnull(f);
        fseek(f, 0, SEEK_END);
        len = (size_t)ftell(f);
        rewind(f);
        data = malloc(len);
        ck_assert_uint_eq(fread(data, 1, len, f), len);
        fclose(f);
        put(id, names[i], data, len, &ret_files[i]);
        free(data);
    }
    put(id, "merges.txt", merges, strlen(merges), &ret_files[2]);
}

static enum uploads_published publish(const char *id, const struct upload_file *files,
                                      size_t n)
{
    enum uploads_published published = UPLOADS_UNCHANGED;
    json_t *missing;

    OK(uploads_publish(uploads, id, files, n, &published, &missing, err));
    ck_assert_ptr_null(missing);
    return published;
}

static size_t n_missing(const char *id, const struct upload_file *files, size_t n)
{
    enum uploads_published published;
    json_t *missing;
    size_t count;

    FAILS(MISSING_FILES,
          uploads_publish(uploads, id, files, n, &published, &missing, err));
    count = json_array_size(missing);
    json_decref(missing);
    return count;
}

START_TEST(test_uploads_are_no_model_until_they_are_published)
{
    struct upload_file files[3];
    char path[PATH_MAX];

    put_demo("org/demo", "x", files);
    FAILS(NOT_FOUND, models_path(models, "org/demo", path, err));
    ck_assert(!is_there("org"));
    ck_assert_int_eq(publish("org/demo", files, 3), UPLOADS_MADE);
    OK(models_path(models, "org/demo", path, err));
    ck_assert(is_there("org/demo/merges.txt") && !is_there(".uploads/files/org%2Fdemo"));
    ck_assert_int_eq(publish("org/demo", files, 3), UPLOADS_UNCHANGED);
    ck_assert_int_eq(publish("org/demo", files, 2), UPLOADS_REPLACED);
    ck_assert(!is_there("org/demo/merges.txt") && is_there("org/demo/config.json"));
    ck_assert_uint_eq(n_missing("org/demo", files, 3), 1);
    OK(uploads_delete(uploads, "org/demo", err));
    FAILS(NOT_FOUND, uploads_delete(uploads, "org/demo", err));
    ck_assert(!is_there("org"));
}
END_TEST

START_TEST(test_uploads_contents_of_one_name_lie_side_by_side)
{
    struct upload_file files[3], other;

    put_demo("m", "one", files);
    ck_assert(put("m", "merges.txt", "two", 3, &other));
    ck_assert(!put("m", "merges.txt", "two", 3, NULL));
    ck_assert_int_eq(publish("m", files, 3), UPLOADS_MADE);
    files[2] = other;
    ck_assert_uint_eq(n_missing("m", files, 3), 1); /* used up */
    put("m", "merges.txt", "two", 3, NULL);
    ck_assert_int_eq(publish("m", files, 3), UPLOADS_REPLACED);
}
END_TEST

START_TEST(test_uploads_pinned_models_stay)
{
    struct upload_file files[3];
    enum uploads_published published;
    char path[PATH_MAX], again[PATH_MAX];
    json_t *missing;

    put_demo("m", "one", files);
    publish("m", files, 3);
    ck_assert_int_eq(symlink("m", in("link")), 0);
    OK(models_pin(models, "m", path, err));
    OK(models_pin(models, "link", again, err));
    ck_assert_str_eq(path, again);
    models_unpin(models, path);
    FAILS(IN_USE, uploads_delete(uploads, "m", err));
    FAILS(IN_USE, uploads_publish(uploads, "m", files, 2, &published, &missing, err));
    ck_assert_int_eq(publish("m", files, 3), UPLOADS_UNCHANGED);
    models_unpin(models, path);
    ck_assert_int_eq(publish("m", files, 2), UPLOADS_REPLACED);
    OK(uploads_delete(uploads, "link", err));
    ck_assert(is_there("m/config.json") && !is_there("link"));
    OK(uploads_delete(uploads, "m", err));
    FAILS(NOT_FOUND, models_pin(models, "m", path, err));
}
END_TEST

START_TEST(test_uploads_half_a_file_is_none)
{
    uint8_t sha256[SHA256_BYTES], other[SHA256_BYTES] = {1};
    struct upload upload;
    bool is_new;

    OK(upload_begin(uploads, "", "m", "config.json", 2, &upload, err));
    OK(upload_write(&upload, "{", 1, err));
    ck_assert(is_there(".uploads/tmp/0.part"));
    upload_drop(&upload);
    ck_assert(!is_there(".uploads/tmp/0.part") && !is_there(".uploads/files/m"));
    OK(upload_begin(uploads, "", "m", "config.json", 2, &upload, err));
    OK(upload_write(&upload, "{}", 2, err));
    FAILS(DIGEST_MISMATCH, upload_finish(&upload, other, sha256, &is_new, err));
    upload_drop(&upload);
    ck_assert(!is_there(".uploads/files/m"));
    FAILS(NO_SPACE,
          upload_begin(uploads, "", "m", "config.json", UINT64_MAX / 2, &upload, err));
}
END_TEST

START_TEST(test_uploads_are_swept_at_a_start)
{
    struct upload_file files[3];

    put_demo("m", "one", files);
    write_text(in(".uploads/tmp/7.part"), "left");
    ck_assert_int_eq(mkdir(in(".uploads/tmp/8.part"), 0700), 0);
    write_text(in(".uploads/tmp/8.part/config.json"), "left");
    close_uploads();
    open_uploads(60000);
    ck_assert(!is_there(".uploads/tmp/7.part") && !is_there(".uploads/tmp/8.part"));
    ck_assert(is_there(".uploads/files/m"));
    ck_assert_int_eq(publish("m", files, 3), UPLOADS_MADE);
    put("n", "config.json", "{}", 2, NULL);
    close_uploads();
    usleep(20000);
    open_uploads(1);
    ck_assert(!is_there(".uploads/files/n") && is_there("m/config.json"));
}
END_TEST

START_TEST(test_uploads_one_daemon_takes_them)
{
    struct uploads *other;
    struct upload upload;

    put("m", "config.json", "{}", 2, NULL);
    OK(uploads_new(models, store, &(struct uploads_limits){.ttl_ms = 1}, &other, err));
    FAILS(FORBIDDEN, upload_begin(other, "", "m", "config.json", 2, &upload, err));
    ck_assert(is_there(".uploads/files/m")); /* nor does it sweep */
    uploads_free(other);
}
END_TEST

/* ---- unfinished ones ---- */

static struct upload resumed; /* it may not be moved */
static int64_t there;

static int resume(const char *owner, const char *id, uint64_t offset, uint64_t expected,
                  struct pt2_err *err)
{
    resumed = (struct upload){.temp = TEMP_NO_FILE};
    return upload_resume(uploads, owner, id, "config.json", offset, expected, &resumed,
                         &there, err);
}

static void append(const char *owner, const char *id, uint64_t offset, const char *text)
{
    uint64_t end = 0;

    OK(resume(owner, id, offset, 0, err));
    OK(upload_write(&resumed, text, strlen(text), err));
    OK(upload_pause(&resumed, &end, err));
    ck_assert_uint_eq(end, offset + strlen(text));
    OK(upload_pause(&resumed, &end, err)); /* again: nothing */
    upload_drop(&resumed);
}

static int find(const char *owner, const char *id, uint64_t *ret_offset,
                struct pt2_err *err)
{
    return unfinished_find(uploads, owner, id, "config.json", ret_offset, err);
}

static uint64_t found(const char *owner, const char *id)
{
    uint64_t offset = 0;

    OK(find(owner, id, &offset, err));
    return offset;
}

START_TEST(test_uploads_unfinished_ones_go_on)
{
    uint8_t sha256[SHA256_BYTES], due[SHA256_BYTES];
    uint64_t offset;
    bool is_new;

    FAILS(NOT_FOUND, find("ann", "m", &offset, err));
    append("ann", "m", 0, "{\"a\"");
    append("bob", "m", 0, "b");
    FAILS(CONFLICT, resume("ann", "m", 3, 1, err));
    ck_assert_int_eq(there, 4);
    close_uploads();
    open_uploads(60000);
    ck_assert_uint_eq(found("ann", "m"), 4);
    ck_assert_uint_eq(found("bob", "m"), 1);
    OK(resume("ann", "m", 4, 3, err));
    ck_assert_int_eq(chmod(resumed.temp.path, 0444), 0); /* a finish, interrupted */
    upload_drop(&resumed);
    OK(resume("ann", "m", 4, 3, err));
    FAILS(CONFLICT, find("ann", "m", &offset, err));
    FAILS(CONFLICT, unfinished_remove(uploads, "ann", "m", "config.json", err));
    OK(upload_write(&resumed, ":1}", 3, err));
    sha256_of("{\"a\":1}", 7, due);
    OK(upload_finish(&resumed, due, sha256, &is_new, err));
    upload_drop(&resumed);
    ck_assert(is_new && memcmp(due, sha256, sizeof(due)) == 0);
    FAILS(NOT_FOUND, find("ann", "m", &offset, err));
    ck_assert(!put("m", "config.json", "{\"a\":1}", 7, NULL));
    append("ann", "m", 0, "{}");
    OK(resume("ann", "m", 2, 0, err));
    FAILS(DIGEST_MISMATCH, upload_finish(&resumed, due, sha256, &is_new, err));
    upload_drop(&resumed);
    FAILS(NOT_FOUND, find("ann", "m", &offset, err));
    OK(unfinished_remove(uploads, "bob", "m", "config.json", err));
    FAILS(NOT_FOUND, unfinished_remove(uploads, "bob", "m", "config.json", err));
    ck_assert(!is_there(".uploads/unfinished/m"));
}
END_TEST

START_TEST(test_uploads_unfinished_ones_are_bounded)
{
    static char bytes[MAX_UNFINISHED + 1];
    struct upload *other = calloc(1, sizeof(*other));
    uint64_t end;

    FAILS(NO_SPACE, resume("", "m", 0, MAX_UNFINISHED + 1, err));
    FAILS(NOT_FOUND, find("", "m", &end, err));
    /* What a request may still bring counts as if it were there. */
    other->temp = (struct temp_file)TEMP_NO_FILE;
    OK(upload_resume(uploads, "", "n", "config.json", 0, 600, other, &there, err));
    FAILS(NO_SPACE, resume("", "m", 0, 401, err));
    OK(resume("", "m", 0, 400, err));
    OK(upload_write(&resumed, bytes, 400, err));
    FAILS(NO_SPACE, upload_write(&resumed, bytes, 1, err));
    OK(upload_pause(&resumed, &end, err));
    ck_assert_uint_eq(end, 400);
    OK(upload_write(other, bytes, 10, err));
    upload_drop(other);
    ck_assert_uint_eq(found("", "n"), 10);
    /* What does not belong there harms nobody. */
    write_text(in(".uploads/unfinished/stray"), "x");
    ck_assert_int_eq(symlink("/dev/null", in(".uploads/unfinished/n/link")), 0);
    close_uploads();
    open_uploads(60000);
    ck_assert_uint_eq(found("", "n"), 10);
    /* Of unknown length: it takes what is left. */
    OK(resume("", "m", 400, 0, err));
    OK(upload_write(&resumed, bytes, 590, err));
    FAILS(NO_SPACE, upload_write(&resumed, bytes, 1, err));
    upload_drop(&resumed);
    ck_assert_uint_eq(found("", "m"), 990);
    free(other);
}
END_TEST

START_TEST(test_uploads_unfinished_ones_expire)
{
    append("", "m", 0, "{");
    append("", "n", 0, "{");
    OK(resume("", "n", 1, 1, err));
    upload_drop(&resumed);
    close_uploads();
    usleep(20000);
    open_uploads(1);
    ck_assert(!is_there(".uploads/unfinished/m") && !is_there(".uploads/unfinished/n"));
    append("", "m", 0, "{}");
    usleep(20000);
    OK(resume("", "m", 0, 1, err)); /* anew */
    usleep(20000);
    put("x", "config.json", "{}", 2, NULL); /* sweeps, but not what is written */
    ck_assert(is_there(".uploads/unfinished/m"));
    upload_drop(&resumed);
}
END_TEST

START_TEST(test_model_id_of_new_ones)
{
    static const char *const good[] = {"a", "A-b_c.d", "org/name", "0/1", "_/_", "a."};
    static const char *const bad[] = {"",     "/",   "a/",  "/a",  "a/b/c", ".a",  "a/.b", "..",
                                      "-a",   "a b", "a\n", "a%b", "a\\b",  "\xc3\xa4", "a//b"};
    char name[MODEL_ID_SIZE], long_id[200];

    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        OK(model_id_check_new(good[i], err));
        ck_assert(model_id_is_valid(good[i]));
        model_id_to_file_name(good[i], name);
        ck_assert(!strchr(name, '/'));
    }
    model_id_to_file_name("org/name", name);
    ck_assert_str_eq(name, "org%2Fname");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        FAILS(INVALID, model_id_check_new(bad[i], err));
    memset(long_id, 'x', sizeof(long_id));
    long_id[96] = '\0';
    OK(model_id_check_new(long_id, err));
    long_id[96] = 'x';
    long_id[97] = '\0';
    FAILS(INVALID, model_id_check_new(long_id, err));
}
END_TEST

START_TEST(test_file_names_of_checkpoints)
{
    static const char *const good[] = {"config.json",      "model.safetensors",
                                       "x.gguf",           "model.safetensors.index.json",
                                       "tokenizer.model",  "chat_template.jinja",
                                       "generation_config.json",
                                       "model-00001-of-00002.safetensors"};
    static const char *const bad[] = {"",  ".", "..", ".safetensors", ".gguf", "a/b.gguf",
                                      "../config.json", "config.json/", "config.JSON",
                                      "pytorch_model.bin", "a.safetensors.index.json",
                                      "a b.gguf", "a\n.gguf", "\xc3\xa4.gguf", "model.pt",
                                      "README.md", "a%2F.gguf"};
    char name[FILE_NAME_MAX_LEN + 2];

    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        ck_assert_msg(file_names_is_allowed(good[i]), "%s", good[i]);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ck_assert_msg(!file_names_is_allowed(bad[i]), "%s", bad[i]);
    for (size_t i = 0; file_names_extra(i); i++)
        ck_assert(file_names_is_allowed(file_names_extra(i)));
    memset(name, 'x', sizeof(name));
    memcpy(name + FILE_NAME_MAX_LEN - 5, ".gguf", 6);
    ck_assert(file_names_is_allowed(name));
    memcpy(name + FILE_NAME_MAX_LEN - 5, "x.gguf", 7);
    ck_assert(!file_names_is_allowed(name));
}
END_TEST

/* The digest of no bytes, by `sha256sum </dev/null | xxd -r -p | base64`. */
#define NOTHING "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="

START_TEST(test_digest_header_is_rfc_9530)
{
    static const char *const good[] = {"sha-256=:" NOTHING ":",
                                       "md5=:AA==:, sha-256=:" NOTHING ":",
                                       " sha-256=:" NOTHING ": , sha-512=::"};
    static const char *const bad[] = {"",
                                      "sha-256",
                                      "sha-256=" NOTHING,
                                      "sha-256=::",
                                      "sha-256=:AAAA:",
                                      "sha-256=:" NOTHING,
                                      "sha-256=:" NOTHING ":,",
                                      "sha-256=:" NOTHING ": x",
                                      "SHA-256=:" NOTHING ":",
                                      "=:" NOTHING ":",
                                      "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuF==:"};
    uint8_t sha256[SHA256_BYTES], want[SHA256_BYTES];
    bool found;

    sha256_of("", 0, want);
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        OK(digest_header_parse(good[i], sha256, &found, err));
        ck_assert(found);
        ck_assert_mem_eq(sha256, want, sizeof(want));
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        FAILS(BAD_REQUEST, digest_header_parse(bad[i], sha256, &found, err));
    OK(digest_header_parse(NULL, sha256, &found, err));
    ck_assert(!found);
    OK(digest_header_parse("sha-512=:AA==:", sha256, &found, err));
    ck_assert(!found);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("uploads");
    TCase *core = tcase_create("core"), *names = tcase_create("names");

    tcase_add_checked_fixture(core, setup, teardown);
    tcase_add_test(core, test_uploads_are_no_model_until_they_are_published);
    tcase_add_test(core, test_uploads_contents_of_one_name_lie_side_by_side);
    tcase_add_test(core, test_uploads_pinned_models_stay);
    tcase_add_test(core, test_uploads_half_a_file_is_none);
    tcase_add_test(core, test_uploads_are_swept_at_a_start);
    tcase_add_test(core, test_uploads_one_daemon_takes_them);
    tcase_add_test(core, test_uploads_unfinished_ones_go_on);
    tcase_add_test(core, test_uploads_unfinished_ones_are_bounded);
    tcase_add_test(core, test_uploads_unfinished_ones_expire);
    tcase_add_test(names, test_model_id_of_new_ones);
    tcase_add_test(names, test_file_names_of_checkpoints);
    tcase_add_test(names, test_digest_header_is_rfc_9530);
    suite_add_tcase(suite, core);
    suite_add_tcase(suite, names);
    return suite_run(suite);
}
