/* gguf_dump.c - for the conformance tests: what a GGUF file is read as.
 *
 *     gguf-dump FILE.gguf           {"config": {...}, "tensors": {name: [dtype,
 * [sizes]]}} gguf-dump FILE.gguf NAME      the bytes of a tensor, or of a file that is
 * made Exit status 1 where it is refused, the reason on stderr. */
#include "base/util.h"

#include <jansson.h>
#include <pt2/checkpoint.h>

static int dump_all(const struct pt2_checkpoint *c)
{
    json_t *tensors = json_object();

    for (size_t i = 0; i < pt2_checkpoint_n_tensors(c); i++) {
        const struct pt2_checkpoint_tensor *t = pt2_checkpoint_tensor(c, i);
        json_t *sizes = json_array();

        for (unsigned k = 0; k < t->n_dims; k++)
            json_array_append_new(sizes, json_integer(t->sizes[k]));
        json_object_set_new(tensors, t->name,
                            json_pack("[s, o]", pt2_dtype_name(t->dtype), sizes));
    }
    tensors =
        json_pack("{s:O, s:o}", "config", pt2_checkpoint_config(c), "tensors", tensors);
    json_dumpf(tensors, stdout, 0);
    json_decref(tensors);
    return 0;
}

static int dump_tensor(const struct pt2_checkpoint *c,
                       const struct pt2_checkpoint_tensor *t, struct pt2_err *err)
{
    AUTO_PTR char *bytes = malloc(t->bytes);

    if (!bytes)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a tensor");
    if (pt2_checkpoint_read(c, t, 0, bytes, t->bytes, err) < 0)
        return -1;
    fwrite(bytes, 1, t->bytes, stdout);
    return 0;
}

static int dump_one(const struct pt2_checkpoint *c, const char *name, struct pt2_err *err)
{
    const struct pt2_checkpoint_tensor *t = pt2_checkpoint_find_tensor(c, name);

    if (t)
        return dump_tensor(c, t, err);
    for (size_t i = 0; i < pt2_checkpoint_n_made(c); i++) {
        AUTO_PTR char *text = NULL;
        size_t len;

        if (!streq(pt2_checkpoint_made_name(c, i), name))
            continue;
        if (pt2_checkpoint_make(c, i, &text, &len, err) < 0)
            return -1;
        fwrite(text, 1, len, stdout);
        return 0;
    }
    return pt2_err_set(err, PT2_ERR_NOT_FOUND, "there is no '%s'", name);
}

int main(int argc, char **argv)
{
    struct pt2_checkpoint *c = NULL;
    struct pt2_err err = {0};
    int r;

    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: gguf-dump FILE.gguf [NAME]\n");
        return 2;
    }
    r = pt2_checkpoint_open(argv[1], &c, &err);
    if (r == 0)
        r = argc == 3 ? dump_one(c, argv[2], &err) : dump_all(c);
    if (r < 0)
        fprintf(stderr, "%s\n", err.text);
    pt2_checkpoint_free(c);
    return r < 0;
}
