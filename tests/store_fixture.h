/* store_fixture.h - a state directory of one's own, and programs to put into it. */
#ifndef TESTS_STORE_FIXTURE_H
#define TESTS_STORE_FIXTURE_H

#include "store/objects.h"
#include "store/store.h"

#include "cases.h"

#include <ftw.h>
#include <limits.h>
#include <pt2/checkpoint.h>
#include <pt2/export.h>
#include <sys/stat.h>
#include <unistd.h>

#define OK(call)                                                                         \
    do {                                                                                 \
        struct pt2_err err_ = {0}, *err = &err_;                                         \
        ck_assert_msg((call) >= 0, "%s: %s", #call, err_.text);                          \
    } while (0)
#define FAILS(error, call)                                                               \
    do {                                                                                 \
        struct pt2_err err_ = {0}, *err = &err_;                                         \
        ck_assert_msg((call) < 0, "%s must fail", #call);                                \
        ck_assert_str_eq(pt2_error_name(err_.code), pt2_error_name(PT2_ERR_##error));    \
    } while (0)

static char state_dir[PATH_MAX / 2];

static inline int remove_entry(const char *path, const struct stat *st, int kind,
                               struct FTW *ftw)
{
    return remove(path);
}

static inline void state_make(void)
{
    snprintf(state_dir, sizeof(state_dir), "%s/pt2-store-XXXXXX",
             getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(state_dir));
}

static inline void state_remove(void)
{
    nftw(state_dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    ck_assert_msg(f && fputs(text, f) >= 0 && fclose(f) == 0, "%s", path);
}

static inline void copy_file(const char *from, const char *to)
{
    char data[65536];
    FILE *in = fopen(from, "r"), *out = fopen(to, "w");
    size_t n;

    ck_assert_msg(in && out, "%s to %s", from, to);
    while ((n = fread(data, 1, sizeof(data), in)) > 0)
        ck_assert_uint_eq(fwrite(data, 1, n, out), n);
    fclose(in);
    ck_assert_int_eq(fclose(out), 0);
}

static inline const char *demo_dir(void)
{
    static char path[PATH_MAX];

    snprintf(path, sizeof(path), "%s/../../share/models/demo", test_data());
    return path;
}

/* A copy of the bundled model's config and weights. */
static inline void copy_demo(const char *to)
{
    static const char *const names[] = {"config.json", "model.safetensors"};
    char from[PATH_MAX + 64], dest[PATH_MAX + 64];

    ck_assert_int_eq(mkdir(to, 0700), 0);
    for (int i = 0; i < 2; i++) {
        snprintf(from, sizeof(from), "%s/%s", demo_dir(), names[i]);
        snprintf(dest, sizeof(dest), "%s/%s", to, names[i]);
        copy_file(from, dest);
    }
}

/* Export the bundled model into a temporary file; another max_cache_len is another
 * program. */
static inline void make_program(struct objects *objects, int64_t max_cache_len,
                                struct temp_file *ret_temp,
                                uint8_t ret_sha256[SHA256_BYTES])
{
    struct pt2_export_options options = {.max_cache_len = max_cache_len};
    struct pt2_checkpoint *checkpoint;
    struct pt2_export *exp;
    uint64_t bytes;

    OK(temp_file_make(objects_temp(objects), 0, ret_temp, err));
    OK(pt2_checkpoint_open(demo_dir(), &checkpoint, err));
    OK(pt2_export_new(checkpoint, &options, &exp, err));
    OK(pt2_export_write(exp, ret_temp->fd, NULL, NULL, ret_sha256, &bytes, err));
    pt2_export_free(exp);
    pt2_checkpoint_free(checkpoint);
}

#endif
