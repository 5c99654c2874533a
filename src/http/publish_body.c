#include "http/publish_body.h"

#include "checkpoint/file_names.h"

static bool is_repeated(const struct publish_body *body, const char *name)
{
    for (size_t i = 0; i < body->n; i++)
        if (streq(body->files[i].name, name))
            return true;
    return false;
}

static void read_file(struct publish_body *body, const json_t *item, const char *pointer,
                      struct json_problems *problems)
{
    struct upload_file *file = &body->files[body->n];
    uint8_t digest[SHA256_BYTES];
    const char *hex = NULL;
    int64_t bytes = 0;
    char at[JSON_POINTER_SIZE];
    struct json_obj o;

    json_obj_begin(&o, item, pointer, problems);
    json_require(&o, "name");
    json_require(&o, "bytes");
    json_require(&o, "sha256");
    file->name = NULL;
    if (json_get_string(&o, "name", 255, &file->name)) {
        json_member_pointer(&o, "name", at);
        if (!file_names_is_allowed(file->name))
            json_problem(problems, at, "a checkpoint holds no such file");
        else if (is_repeated(body, file->name))
            json_problem(problems, at, "'%s' is named twice", file->name);
    }
    json_get_int(&o, "bytes", 0, INT64_MAX, &bytes);
    if (json_get_string(&o, "sha256", 255, &hex)) {
        json_member_pointer(&o, "sha256", at);
        if (sha256_from_hex(hex, digest))
            memcpy(file->sha256, hex, SHA256_HEX);
        else
            json_problem(problems, at, "64 lower-case hex digits are due");
    }
    json_obj_end(&o);
    if (!file->name)
        return;
    file->bytes = (uint64_t)bytes;
    body->bytes += file->bytes;
    body->n++;
}

void publish_body_read(struct publish_body *body, const json_t *json,
                       struct json_problems *problems)
{
    char pointer[JSON_POINTER_SIZE];
    const json_t *files = NULL, *item;
    struct json_obj o;
    size_t i;

    json_obj_begin(&o, json, "", problems);
    json_require(&o, "files");
    if (json_get_array(&o, "files", 1, UPLOADS_MAX_FILES, &files)) {
        json_array_foreach (files, i, item) {
            json_item_pointer(&o, "files", i, pointer);
            read_file(body, item, pointer, problems);
        }
    }
    json_obj_end(&o);
}
