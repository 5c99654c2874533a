#include "cmd/ctl_program_show.h"

#include "cmd/ctl_show.h"

static void show_if_there(const json_t *program, const char *name)
{
    if (json_object_get(program, name) && !json_is_null(json_object_get(program, name)))
        show_member(program, name);
}

static json_int_t number(const json_t *object, const char *group, const char *name)
{
    return json_integer_value(json_object_get(json_object_get(object, group), name));
}

static void show_tensors(const json_t *list, const char *title)
{
    json_t *tensor;
    size_t i;

    json_array_foreach (list, i, tensor) {
        const char *name = json_string_value(json_object_get(tensor, "name"));
        AUTO_PTR char *text = show_tensor(tensor);

        show_line(title, "%s: %s", name ? name : "?", text ? text : "?");
    }
}

static void show_engine(const json_t *engines, const char *name)
{
    const json_t *engine = json_object_get(engines, name);
    const char *reason = json_string_value(json_object_get(engine, "reason"));
    char title[32];

    if (!engine)
        return;
    snprintf(title, sizeof(title), "engine %s", name);
    if (json_is_true(json_object_get(engine, "ok")))
        show_line(title, "yes");
    else
        show_line(title, "no: %s", reason ? reason : "not said");
}

static void show_verified(const json_t *verified)
{
    const char *name;
    const json_t *run;
    const char *reference = json_string_value(json_object_get(verified, "reference"));

    if (!reference)
        return;
    show_line("verified", "%lld tokens, compared with %s, a token at a time:",
              (long long)json_integer_value(json_object_get(verified, "tokens")),
              reference);
    json_object_foreach (json_object_get(verified, "runs"), name, run)
        if (json_is_object(run))
            show_line("", "%s: within %g of the largest logit", name,
                      json_number_value(json_object_get(run, "largest_within")));
}

void show_program(const json_t *program)
{
    const json_t *cache = json_object_get(program, "cache");
    char size[SHOW_SIZE_CHARS];

    show_if_there(program, "id");
    show_line("bytes", "%s",
              show_bytes(
                  (uint64_t)MAX(json_integer_value(json_object_get(program, "bytes")), 0),
                  size));
    show_if_there(program, "created");
    show_if_there(program, "used");
    show_if_there(program, "integrity");
    if (json_is_true(json_object_get(program, "pinned")))
        show_line("pinned", "yes");
    show_if_there(program, "origin");
    show_if_there(program, "model");
    show_if_there(program, "torch_version");
    show_if_there(program, "schema_version");
    show_tensors(json_object_get(program, "inputs"), "input");
    show_tensors(json_object_get(program, "outputs"), "output");
    show_line("parameters", "%lld tensors, %lld elements, %s",
              (long long)number(program, "parameters", "count"),
              (long long)number(program, "parameters", "elements"),
              show_bytes((uint64_t)MAX(number(program, "parameters", "bytes"), 0), size));
    show_line("buffers", "%lld tensors, %s",
              (long long)number(program, "buffers", "count"),
              show_bytes((uint64_t)MAX(number(program, "buffers", "bytes"), 0), size));
    if (json_is_object(cache))
        show_line("cache", "batch size %lld, %lld positions, %lld layers",
                  (long long)number(program, "cache", "batch_size"),
                  (long long)number(program, "cache", "max_cache_len"),
                  (long long)number(program, "cache", "layers"));
    show_if_there(program, "vocab_size");
    show_verified(json_object_get(program, "verified"));
    show_engine(json_object_get(program, "engines"), "native");
    show_engine(json_object_get(program, "engines"), "aten");
}
