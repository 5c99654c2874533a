/* fuzz_gguf.c - a GGUF file from outside: opened, described, every tensor read at its
 * ends, the files that it stands for made and parsed, and exported as far as without
 * weights. */
#include "fuzz.h"

#include "base/util.h"

#include <jansson.h>
#include <pt2/checkpoint.h>
#include <pt2/export.h>

const char fuzz_name[] = "gguf";
const char *const fuzz_corpus[] = {"tests/data/gguf", "tests/data/gguf-invalid", NULL};

static char dir[64], path[80];

static void remove_dir(void)
{
    unlink(path);
    rmdir(dir);
}

/* The first and the last bytes, and where they are cut out of the middle. */
static void read_ends(const struct pt2_checkpoint *c,
                      const struct pt2_checkpoint_tensor *t)
{
    size_t n = (size_t)MIN(t->bytes, (uint64_t)1000);
    char ends[2][1000], byte;

    FUZZ_CHECK(pt2_checkpoint_find_tensor(c, t->name) == t);
    FUZZ_CHECK(pt2_checkpoint_read(c, t, 0, ends[0], n, NULL) == 0);
    FUZZ_CHECK(pt2_checkpoint_read(c, t, t->bytes - n, ends[1], n, NULL) == 0);
    FUZZ_CHECK(pt2_checkpoint_read(c, t, t->bytes - 1, &byte, 1, NULL) == 0);
    FUZZ_CHECK(byte == ends[1][n - 1]);
    FUZZ_CHECK(pt2_checkpoint_read(c, t, t->bytes, &byte, 1, NULL) < 0);
}

static void make_files(const struct pt2_checkpoint *c)
{
    for (size_t i = 0; i < pt2_checkpoint_n_made(c); i++) {
        struct pt2_err err = {0};
        char *text = NULL;
        size_t len = 0;

        if (pt2_checkpoint_make(c, i, &text, &len, &err) < 0) {
            FUZZ_CHECK(err.code && *err.text && !text);
        } else if (text && ends_with(pt2_checkpoint_made_name(c, i), ".json") &&
                   !strstr(text, "\\u0000")) { /* which jansson takes in no name */
            json_t *json = json_loadb(text, len, 0, NULL);

            FUZZ_CHECK(json);
            json_decref(json);
        }
        free(text);
    }
}

static void read_all(void)
{
    struct pt2_export_options options = {0};
    struct pt2_checkpoint *c = NULL;
    struct pt2_model_info info;
    struct pt2_export *exp = NULL;
    struct pt2_err err = {0};

    if (pt2_checkpoint_open(path, &c, &err) < 0) {
        FUZZ_CHECK(err.code && *err.text && !c);
        return;
    }
    for (size_t i = 0; i < pt2_checkpoint_n_tensors(c); i++)
        read_ends(c, pt2_checkpoint_tensor(c, i));
    make_files(c);
    FUZZ_CHECK(pt2_model_describe(c, &info, &err) == 0);
    FUZZ_CHECK(info.exportable || *info.reason);
    if (pt2_export_new(c, &options, &exp, &err) < 0)
        FUZZ_CHECK(err.code && *err.text && !exp);
    else
        FUZZ_CHECK(pt2_export_program_bytes(exp) > 0);
    pt2_export_free(exp);
    pt2_checkpoint_free(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FILE *f;

    if (!*dir) {
        strcpy(dir, "/tmp/pt2-fuzz-XXXXXX");
        FUZZ_CHECK(mkdtemp(dir));
        snprintf(path, sizeof(path), "%s/m.gguf", dir);
        atexit(remove_dir);
    }
    f = fopen(path, "wb");
    FUZZ_CHECK(f && fwrite(data, 1, size, f) == size && fclose(f) == 0);
    read_all();
    return 0;
}
