/* signature.c - read graph_module.signature: what each input and output of the graph is.
 */
#include "program/parser.h"

/* ---- input_specs ---- */

/* A spec of any kind under way. */
struct spec {
    enum pt2_input_kind input;
    enum pt2_output_kind output;
    struct pt2_arg arg;
    const char *fqn;
    bool persistent;
};

/* TensorArgument */
static int read_spec_name(struct pull *s, void *ctx)
{
    struct spec *spec = ctx;

    spec->arg.kind = PT2_ARG_TENSOR;
    return parser_tensor_name(parser_of(s), &spec->arg.value);
}

/* Argument */
static int read_spec_arg(struct pull *s, void *ctx)
{
    struct spec *spec = ctx;

    return parser_arg(parser_of(s), &spec->arg);
}

static int read_spec_fqn(struct pull *s, void *ctx)
{
    struct spec *spec = ctx;

    return parser_string(parser_of(s), PROGRAM_MAX_FQN, "a name in the signature",
                         &spec->fqn);
}

static int read_spec_persistent(struct pull *s, void *ctx)
{
    struct spec *spec = ctx;

    return pull_bool(s, &spec->persistent);
}

/* A kind of spec, its members (n of them; 0: the kind is refused). */
struct spec_kind {
    const char *key;
    unsigned kind;
    size_t n;
    struct pull_member members[3];
};

static const struct spec_kind input_kinds[] = {
    {"parameter",
     PT2_INPUT_PARAMETER,
     2,
     {{"arg", read_spec_name, true, 0}, {"parameter_name", read_spec_fqn, true, 0}}},
    {"buffer",
     PT2_INPUT_BUFFER,
     3,
     {{"arg", read_spec_name, true, 0},
      {"buffer_name", read_spec_fqn, true, 0},
      {"persistent", read_spec_persistent, true, 0}}},
    {"tensor_constant",
     PT2_INPUT_CONSTANT,
     2,
     {{"arg", read_spec_name, true, 0},
      {"tensor_constant_name", read_spec_fqn, true, 0}}},
    {"user_input", PT2_INPUT_USER, 1, {{"arg", read_spec_arg, true, 0}}},
    {"custom_obj", 0, 0, {{0}}},
    {"token", 0, 0, {{0}}},
    {"constant_input", 0, 0, {{0}}},
};

static const struct spec_kind output_kinds[] = {
    {"user_output", PT2_OUTPUT_USER, 1, {{"arg", read_spec_arg, true, 0}}},
    {"buffer_mutation",
     PT2_OUTPUT_BUFFER_MUTATION,
     2,
     {{"arg", read_spec_name, true, 0}, {"buffer_name", read_spec_fqn, true, 0}}},
    {"user_input_mutation",
     PT2_OUTPUT_INPUT_MUTATION,
     2,
     {{"arg", read_spec_name, true, 0}, {"user_input_name", read_spec_fqn, true, 0}}},
    {"loss_output", 0, 0, {{0}}},
    {"gradient_to_parameter", 0, 0, {{0}}},
    {"gradient_to_user_input", 0, 0, {{0}}},
    {"parameter_mutation", 0, 0, {{0}}},
    {"token", 0, 0, {{0}}},
};

/* A spec: a union of the kinds. */
static int read_spec(struct pull *s, const struct spec_kind *kinds, size_t n_kinds,
                     struct spec *ret, unsigned *ret_kind)
{
    struct pull_text key;

    if (pull_union(s, &key) < 0)
        return -1;
    for (size_t i = 0; i < n_kinds; i++) {
        if (!pull_text_is(key, kinds[i].key))
            continue;
        if (kinds[i].n == 0)
            return pull_fail(s, "'%s' is not supported", kinds[i].key);
        *ret_kind = kinds[i].kind;
        if (pull_object(s, kinds[i].members, kinds[i].n, ret) < 0)
            return -1;
        return pull_union_end(s);
    }
    return pull_fail(s, "there is no spec of kind '%.*s'", (int)MIN(key.len, (size_t)64),
                     key.s);
}

/* ctx: how many specs have been read. */
static int read_input_spec(struct pull *s, void *ctx)
{
    struct parser *p = parser_of(s);
    uint32_t *n = ctx;
    struct spec spec = {0};
    struct pt2_input *input;
    unsigned kind = 0;

    if (read_spec(s, input_kinds, ARRAY_LEN(input_kinds), &spec, &kind) < 0)
        return pt2_err_prefix(p->err, "input_specs[%u]", *n);
    if (*n == p->program->n_inputs)
        return pull_fail(s, "more input_specs than the graph's %u inputs", *n);
    input = &p->program->inputs[*n];
    if ((spec.arg.kind != PT2_ARG_TENSOR && spec.arg.kind != PT2_ARG_SYM_INT) ||
        spec.arg.value != input->value)
        return pull_fail(s, "input_specs[%u] is not about input %u of the graph, '%s'",
                         *n, *n, p->program->values[input->value].name);
    input->kind = (enum pt2_input_kind)kind;
    input->fqn = spec.fqn;
    input->persistent = spec.persistent;
    ++*n;
    return 0;
}

static int read_input_specs(struct pull *s, void *ctx)
{
    struct parser *p = parser_of(s);
    uint32_t n = 0;

    if (pull_list(s, read_input_spec, &n) < 0)
        return -1;
    return n == p->program->n_inputs
               ? 0
               : pull_fail(s, "%u input_specs for the graph's %u inputs", n,
                           p->program->n_inputs);
}

/* ---- output_specs ---- */

static bool same_output(const struct pt2_arg *a, const struct pt2_arg *b)
{
    if (a->kind != b->kind)
        return false;
    if (a->kind >= PT2_ARG_TENSOR && a->kind <= PT2_ARG_SYM_FLOAT)
        return a->value == b->value;
    return true;
}

/* Is what a mutation names there to be mutated? */
static int check_mutation(struct parser *p, const struct pt2_output *output)
{
    bool is_buffer = output->kind == PT2_OUTPUT_BUFFER_MUTATION;

    for (uint32_t i = 0; i < p->program->n_inputs; i++) {
        const struct pt2_input *input = &p->program->inputs[i];

        if (is_buffer && input->kind == PT2_INPUT_BUFFER &&
            streq(input->fqn, output->fqn))
            return 0;
        if (!is_buffer && input->kind == PT2_INPUT_USER &&
            streq(p->program->values[input->value].name, output->fqn))
            return 0;
    }
    return pull_fail(&p->pull, "there is no %s '%s' to mutate",
                     is_buffer ? "buffer" : "user input", output->fqn);
}

static int read_output_spec(struct pull *s, void *ctx)
{
    struct parser *p = parser_of(s);
    uint32_t *n = ctx;
    struct spec spec = {0};
    struct pt2_output *output;
    unsigned kind = 0;

    if (read_spec(s, output_kinds, ARRAY_LEN(output_kinds), &spec, &kind) < 0)
        return pt2_err_prefix(p->err, "output_specs[%u]", *n);
    if (*n == p->program->n_outputs)
        return pull_fail(s, "more output_specs than the graph's %u outputs", *n);
    output = &p->program->outputs[*n];
    if (!same_output(&spec.arg, &output->arg))
        return pull_fail(s, "output_specs[%u] is not about output %u of the graph", *n,
                         *n);
    output->kind = (enum pt2_output_kind)kind;
    output->fqn = spec.fqn;
    if (output->kind != PT2_OUTPUT_USER) {
        if (*n > 0 && output[-1].kind == PT2_OUTPUT_USER)
            return pull_fail(s, "output_specs[%u]: mutations come before user outputs",
                             *n);
        if (check_mutation(p, output) < 0)
            return -1;
    }
    ++*n;
    return 0;
}

static int read_output_specs(struct pull *s, void *ctx)
{
    struct parser *p = parser_of(s);
    uint32_t n = 0;

    if (pull_list(s, read_output_spec, &n) < 0)
        return -1;
    return n == p->program->n_outputs
               ? 0
               : pull_fail(s, "%u output_specs for the graph's %u outputs", n,
                           p->program->n_outputs);
}

/* No parameter, buffer or constant may stand twice: each is one tensor of the archive. */
static int check_fqns(struct parser *p)
{
    const struct pt2_program *program = p->program;
    struct names fqns;
    int result = 0;

    names_init(&fqns);
    for (uint32_t i = 0; i < program->n_inputs && result == 0; i++) {
        const char *fqn = program->inputs[i].fqn;

        if (!fqn)
            continue;
        if (names_find(&fqns, fqn, strlen(fqn)))
            result = pull_fail(&p->pull, "'%s' is an input twice", fqn);
        else if (!names_add(&fqns, fqn, i))
            result = parser_no_memory(p);
    }
    names_done(&fqns);
    return result;
}

int parser_signature(struct pull *s, void *ctx)
{
    static const struct pull_member members[] = {
        {"input_specs", read_input_specs, true, 0},
        {"output_specs", read_output_specs, true, 1},
    };

    if (pull_object(s, members, ARRAY_LEN(members), ctx) < 0)
        return -1;
    return check_fqns(parser_of(s));
}
