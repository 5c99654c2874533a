#include "export/extras.h"

#include "base/json.h"
#include "base/log.h"
#include "base/utf8.h"
#include "export/decoder_graph.h"

#define SLICE         ((size_t)48 << 10) /* a multiple of 3, for base64 */
#define MAX_CONFIG    ((size_t)1 << 20)  /* of a generation_config.json */
#define METADATA_NAME "extra/executorch_metadata.json"

/* ---- is it UTF-8? ---- */

/* A character may lie across two slices: up to three bytes are carried over. */
static int file_is_utf8(const struct pt2_checkpoint *c, size_t file, bool *ret_is,
                        struct pt2_err *err)
{
    uint64_t bytes = pt2_checkpoint_file(c, file)->bytes, pos = 0;
    AUTO_PTR char *buf = malloc(SLICE + 4);
    size_t kept = 0;

    if (!buf)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a slice of a file");
    while (pos < bytes) {
        size_t len = (size_t)MIN(bytes - pos, (uint64_t)SLICE), i = 0, n;

        if (pt2_checkpoint_read_file(c, file, pos, buf + kept, len, err) < 0)
            return -1;
        pos += len;
        len += kept;
        while (i < len && (n = utf8_char_len(buf + i, len - i)) > 0)
            i += n;
        kept = len - i;
        if (kept > 3 || (kept > 0 && pos == bytes)) {
            *ret_is = false;
            return 0;
        }
        memmove(buf, buf + i, kept);
    }
    *ret_is = true;
    return 0;
}

/* ---- what the runner needs ---- */

/* The ids that a member names, as a list: a number or a list of them; NULL where neither.
 */
static int ids_of(const json_t *from, const char *name, json_t **ret, struct pt2_err *err)
{
    json_t *v = json_object_get(from, name), *item;
    bool is_one = json_is_integer(v);
    json_auto_t *list = NULL;
    size_t i;

    *ret = NULL;
    if (!is_one && json_array_size(v) == 0)
        return 0;
    list = json_array();
    if (!list || (is_one && json_array_append(list, v) < 0))
        return pt2_err_set(err, PT2_ERR_NOMEM, METADATA_NAME);
    json_array_foreach (v, i, item)
        if (json_is_integer(item) && json_array_append(list, item) < 0)
            return pt2_err_set(err, PT2_ERR_NOMEM, METADATA_NAME);
    *ret = TAKE(list);
    return 0;
}

/* generation_config.json counts more than config.json, as in generate(); the whole's more
 * than its text_config. */
static int set_ids(json_t *metadata, const struct pt2_checkpoint *c, struct pt2_err *err)
{
    json_auto_t *generation = NULL;
    const json_t *config = pt2_checkpoint_config(c);
    const json_t *text = json_object_get(config, "text_config"); /* of a text part */
    json_auto_t *bos = NULL, *eos = NULL;

    if (pt2_checkpoint_extra_json(c, "generation_config.json", MAX_CONFIG, &generation,
                                  err) < 0 ||
        ids_of(generation, "bos_token_id", &bos, err) < 0 ||
        ids_of(generation, "eos_token_id", &eos, err) < 0 ||
        (!bos && ids_of(config, "bos_token_id", &bos, err) < 0) ||
        (!eos && ids_of(config, "eos_token_id", &eos, err) < 0) ||
        (!bos && ids_of(text, "bos_token_id", &bos, err) < 0) ||
        (!eos && ids_of(text, "eos_token_id", &eos, err) < 0))
        return -1;
    if ((json_array_size(bos) > 0 &&
         json_object_set(metadata, "get_bos_id", json_array_get(bos, 0)) < 0) ||
        (json_array_size(eos) > 0 && json_object_set(metadata, "get_eos_ids", eos) < 0))
        return pt2_err_set(err, PT2_ERR_NOMEM, METADATA_NAME);
    return 0;
}

/* The constant methods of executorch/extension/llm/runner (constants.h), by name. */
static int make_metadata(const struct decoder_spec *spec, const struct pt2_checkpoint *c,
                         const struct pt2_export_options *options, char **ret_text,
                         struct pt2_err *err)
{
    json_auto_t *metadata = json_object();
    json_int_t max = options->max_cache_len, max_rows = max;

    if (!metadata)
        return pt2_err_set(err, PT2_ERR_NOMEM, METADATA_NAME);
    if (set_ids(metadata, c, err) < 0)
        return -1;
    if (options->dynamic_shapes) /* the runner cuts prompts by it */
        max_rows = decoder_max_rows(spec, options);
    if (json_object_set_new(metadata, "get_max_seq_len", json_integer(max_rows)) < 0 ||
        json_object_set_new(metadata, "get_max_context_len", json_integer(max)) < 0 ||
        json_object_set_new(metadata, "get_vocab_size", json_integer(spec->vocab_size)) <
            0 ||
        json_object_set_new(metadata, "use_kv_cache", json_true()) < 0 ||
        json_object_set_new(metadata, "enable_dynamic_shape",
                            json_boolean(options->dynamic_shapes)) < 0 ||
        !(*ret_text = json_to_text(metadata, JSON_COMPACT)))
        return pt2_err_set(err, PT2_ERR_NOMEM, METADATA_NAME);
    return 0;
}

/* ---- the list ---- */

static int add_file(struct extras *extras, const struct pt2_checkpoint *c, size_t file,
                    struct deviations *deviations, struct pt2_err *err)
{
    const struct pt2_checkpoint_file *f = pt2_checkpoint_file(c, file);
    struct extra *e = &extras->list[extras->n];
    bool is_utf8 = false;

    if (f->kind != PT2_FILE_CONFIG && f->kind != PT2_FILE_EXTRA)
        return 0;
    if (file_is_utf8(c, file, &is_utf8, err) < 0)
        return -1;
    *e = (struct extra){.file = file, .is_base64 = !is_utf8};
    snprintf(e->name, sizeof(e->name), "extra/%s%s", f->name, is_utf8 ? "" : ".base64");
    e->bytes = is_utf8 ? f->bytes : (f->bytes + 2) / 3 * 4;
    extras->bytes += e->bytes;
    extras->n++;
    if (is_utf8)
        return 0;
    return deviations_add(
        deviations, err,
        "%s is not UTF-8, which torch.export.load takes alone: it is there in "
        "base64, as %s.",
        f->name, e->name);
}

/* What a GGUF file stands for is not in any file, so it is held.  A tokenizer that can
 * not be made is left out, and that is said. */
static int add_made(struct extras *extras, const struct pt2_checkpoint *c, size_t i,
                    struct deviations *deviations, struct pt2_err *err)
{
    const char *name = pt2_checkpoint_made_name(c, i);
    struct extra *e = &extras->list[extras->n];
    struct pt2_err why = {0};
    size_t len = 0;

    *e = (struct extra){0};
    snprintf(e->name, sizeof(e->name), "extra/%s", name);
    if (pt2_checkpoint_make(c, i, &e->text, &len, &why) < 0) {
        if (why.code != PT2_ERR_UNSUPPORTED)
            return pt2_err_set(err, why.code, "%s", why.text);
        return deviations_add(deviations, err, "%s is left out: %s.", name, why.text);
    }
    if (!e->text)
        return 0;
    e->bytes = len;
    extras->bytes += e->bytes;
    extras->n++;
    return 0;
}

static int add_all(struct extras *extras, const struct pt2_checkpoint *c,
                   struct deviations *deviations, struct pt2_err *err)
{
    for (size_t i = 0; i < pt2_checkpoint_n_files(c); i++)
        if (add_file(extras, c, i, deviations, err) < 0)
            return -1;
    for (size_t i = 0; i < pt2_checkpoint_n_made(c); i++)
        if (add_made(extras, c, i, deviations, err) < 0)
            return -1;
    return 0;
}

int extras_find(const struct decoder_spec *spec, const struct pt2_checkpoint *checkpoint,
                const struct pt2_export_options *options, struct extras *ret_extras,
                struct deviations *deviations, struct pt2_err *err)
{
    size_t n_files =
        pt2_checkpoint_n_files(checkpoint) + pt2_checkpoint_n_made(checkpoint);
    struct extras extras = {.list = calloc(n_files + 1, sizeof(*extras.list)), .n = 1};
    struct extra *first = extras.list;

    if (!first)
        return pt2_err_set(err, PT2_ERR_NOMEM, "%zu files", n_files);
    snprintf(first->name, sizeof(first->name), METADATA_NAME);
    if (make_metadata(spec, checkpoint, options, &first->text, err) < 0) {
        extras_done(&extras);
        return -1;
    }
    first->bytes = extras.bytes = strlen(first->text);
    if (add_all(&extras, checkpoint, deviations, err) < 0) {
        extras_done(&extras);
        return -1;
    }
    *ret_extras = extras;
    return 0;
}

const char *extras_metadata(const struct extras *extras)
{
    return extras->list[0].text;
}

void extras_done(struct extras *extras)
{
    for (size_t i = 0; i < extras->n && extras->list; i++)
        free(extras->list[i].text);
    free(extras->list);
    *extras = (struct extras){0};
}

/* ---- writing ---- */

static size_t to_base64(const uint8_t *from, size_t len, char *to)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n = 0;

    for (size_t i = 0; i < len; i += 3) {
        uint32_t three = (uint32_t)from[i] << 16;

        three |= i + 1 < len ? (uint32_t)from[i + 1] << 8 : 0;
        three |= i + 2 < len ? from[i + 2] : 0;
        to[n++] = digits[three >> 18];
        to[n++] = digits[three >> 12 & 63];
        to[n++] = i + 1 < len ? digits[three >> 6 & 63] : '=';
        to[n++] = i + 2 < len ? digits[three & 63] : '=';
    }
    return n;
}

int extras_write(const struct extra *extra, const struct pt2_checkpoint *checkpoint,
                 struct pt2_writer *writer, void *buf, size_t buf_bytes,
                 struct pt2_err *err)
{
    uint8_t *raw = buf;
    uint64_t bytes, pos = 0;
    char *text;

    if (extra->text)
        return pt2_writer_record(writer, extra->name, extra->text, (size_t)extra->bytes,
                                 1, err);
    ASSERT(raw && buf_bytes >= SLICE + SLICE / 3 * 4);
    text = (char *)buf + SLICE;
    bytes = pt2_checkpoint_file(checkpoint, extra->file)->bytes;
    if (pt2_writer_begin(writer, extra->name, extra->bytes, 1, err) < 0)
        return -1;
    while (pos < bytes) {
        size_t len = (size_t)MIN(bytes - pos, (uint64_t)SLICE);
        size_t n = len;

        if (pt2_checkpoint_read_file(checkpoint, extra->file, pos, raw, len, err) < 0)
            return -1;
        if (extra->is_base64)
            n = to_base64(raw, len, text);
        if (pt2_writer_add(writer, extra->is_base64 ? (void *)text : raw, n, err) < 0)
            return -1;
        pos += len;
    }
    return pt2_writer_end(writer, err);
}
