/* read.c - a program out of an archive, checked against the archive's tensors. */
#include "base/json.h"
#include "program/impl.h"

#define MODEL_JSON      "models/model.json"
#define METADATA_JSON   "extra/executorch_metadata.json"
#define MAX_METADATA    ((size_t)1 << 20)
#define MAX_CONTEXT_LEN (INT64_C(1) << 24) /* positions; a session keeps a number for each */

static const char *const kind_names[] = {
    [PT2_INPUT_PARAMETER] = "parameter",
    [PT2_INPUT_BUFFER] = "buffer",
    [PT2_INPUT_CONSTANT] = "constant",
    [PT2_INPUT_USER] = "input",
};

/* "(2, 3)", for messages. */
static const char *shape_text(unsigned n_dims, const int64_t *sizes, char *to,
                              size_t room)
{
    size_t n = (size_t)snprintf(to, room, "(");

    for (unsigned i = 0; i < n_dims && n < room; i++)
        n += (size_t)snprintf(to + n, room - n, i ? ", %lld" : "%lld",
                              (long long)sizes[i]);
    if (n < room)
        snprintf(to + n, room - n, ")");
    return to;
}

/* One input that the archive has to hold. */
static int check_input(const struct pt2_archive *archive, const struct pt2_program *p,
                       const struct pt2_input *input, struct pt2_err *err)
{
    const struct pt2_value *value = &p->values[input->value];
    const struct pt2_payload *payload = pt2_archive_find_payload(archive, input->fqn);
    const char *kind = kind_names[input->kind];
    int64_t sizes[PT2_MAX_DIMS] = {0};
    char want[200], have[200];

    if (value->kind != PT2_VALUE_TENSOR)
        return pt2_err_set(err, PT2_ERR_BAD_PROGRAM, "%s '%s' is no tensor", kind,
                           input->fqn);
    if (!payload)
        return pt2_err_set(err, PT2_ERR_BAD_PROGRAM,
                           "the archive has no tensor for %s '%s'", kind, input->fqn);
    if (payload->dtype != value->meta.dtype)
        return pt2_err_set(err, PT2_ERR_BAD_PROGRAM, "%s '%s' is %s, the archive has %s",
                           kind, input->fqn, pt2_dtype_name(value->meta.dtype),
                           pt2_dtype_name(payload->dtype));
    for (unsigned i = 0; i < value->meta.n_dims; i++) {
        if (value->meta.sizes[i].expr)
            return pt2_err_set(err, PT2_ERR_BAD_PROGRAM, "%s '%s' has a symbolic size",
                               kind, input->fqn);
        sizes[i] = value->meta.sizes[i].value;
    }
    if (payload->n_dims != value->meta.n_dims ||
        memcmp(payload->sizes, sizes, payload->n_dims * sizeof(*sizes)) != 0)
        return pt2_err_set(
            err, PT2_ERR_BAD_PROGRAM, "%s '%s' is %s in the graph, %s in the archive",
            kind, input->fqn, shape_text(value->meta.n_dims, sizes, want, sizeof(want)),
            shape_text(payload->n_dims, payload->sizes, have, sizeof(have)));
    if (input->kind == PT2_INPUT_PARAMETER && !payload->is_param)
        return pt2_err_set(
            err, PT2_ERR_BAD_PROGRAM,
            "parameter '%s' is not marked as one (is_param) in the archive", input->fqn);
    return 0;
}

/* What an exporter says of the context's length beside the program, as ExecuTorch's llm runner
 * has it; 0: nothing, or nothing that can be. */
static int read_max_context_len(const struct pt2_archive *archive, int64_t *ret_len,
                                struct pt2_err *err)
{
    const struct pt2_record *record = pt2_archive_find(archive, METADATA_JSON);
    json_auto_t *metadata = NULL;
    AUTO_PTR void *text = NULL;
    struct pt2_err own = {0};
    int64_t len;
    size_t size;

    *ret_len = 0;
    if (!record || record->size > MAX_METADATA)
        return 0;
    if (pt2_archive_read(archive, record, MAX_METADATA, &text, &size, err) < 0)
        return -1;
    if (json_parse(text, size, &metadata, &own) < 0)
        return own.code == PT2_ERR_NOMEM ? pt2_err_set(err, own.code, "%s", own.text) : 0;
    len = json_integer_value(json_object_get(metadata, "get_max_context_len"));
    if (len > 0 && len <= MAX_CONTEXT_LEN)
        *ret_len = len;
    return 0;
}

int pt2_program_read(const struct pt2_archive *archive, struct pt2_program **ret_program,
                     struct pt2_err *err)
{
    const struct pt2_record *record = pt2_archive_find(archive, MODEL_JSON);
    AUTO_PROGRAM *program = NULL;
    AUTO_PTR void *json = NULL;
    struct pt2_err own = {0};
    size_t len;

    if (!record)
        return pt2_err_set(err, PT2_ERR_BAD_PROGRAM, "the archive has no " MODEL_JSON);
    if (pt2_archive_read(archive, record, PROGRAM_MAX_JSON, &json, &len, err) < 0)
        return -1;
    if (pt2_program_parse(json, len, &program, &own) < 0)
        return pt2_err_set(err, own.code, MODEL_JSON ": %s", own.text);
    for (uint32_t i = 0; i < program->n_inputs; i++)
        if (program->inputs[i].kind != PT2_INPUT_USER &&
            check_input(archive, program, &program->inputs[i], err) < 0)
            return -1;
    if (read_max_context_len(archive, &program->max_context_len, err) < 0)
        return -1;
    *ret_program = TAKE(program);
    return 0;
}
