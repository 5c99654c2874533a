/* program.h - an exported program: values, nodes, signature, as in models/model.json.
 *
 * A struct pt2_program owns everything that hangs on it (strings, arrays) in one arena.
 * It is built by pt2_program_parse or by the pt2_program_add_... calls, and immutable
 * afterwards: then any thread.  Field meanings are those of torch/_export/serde/schema.py
 * (schema 8); doc/pt2-format.md says what of it loads where. */
#ifndef PT2_PROGRAM_H
#define PT2_PROGRAM_H

#include <pt2/archive.h>
#include <pt2/dtype.h>
#include <pt2/err.h>

#include <stdint.h>

struct pt2_program;

/* A size: a number, or an expression over symbols ("s0", "4*s0"). */
struct pt2_dim {
    const char *expr; /* NULL: concrete */
    int64_t value;    /* the number; where symbolic the hint, -1 where there is none */
};

struct pt2_tensor_meta {
    enum pt2_dtype dtype;
    unsigned n_dims;
    struct pt2_dim sizes[PT2_MAX_DIMS], strides[PT2_MAX_DIMS];
    struct pt2_dim storage_offset;
    const char *device; /* "cpu" */
    bool requires_grad;
};

enum pt2_value_kind { PT2_VALUE_TENSOR, PT2_VALUE_SYM_INT, PT2_VALUE_SYM_BOOL, PT2_VALUE_SYM_FLOAT };

struct pt2_value {
    const char *name;
    enum pt2_value_kind kind;
    struct pt2_tensor_meta meta; /* of a tensor */
    struct pt2_dim sym;          /* of a sym_int: its expression */
    int32_t node;                /* index of the node that makes it; -1: an input */
};

enum pt2_arg_kind {
    PT2_ARG_NONE,
    PT2_ARG_TENSOR,      /* value */
    PT2_ARG_SYM_INT,     /* value; a plain number in as_sym_int becomes PT2_ARG_INT */
    PT2_ARG_SYM_BOOL,    /* value */
    PT2_ARG_SYM_FLOAT,   /* value */
    PT2_ARG_INT,         /* i */
    PT2_ARG_FLOAT,       /* f, inf and nan too */
    PT2_ARG_BOOL,        /* b */
    PT2_ARG_STRING,      /* s */
    PT2_ARG_SCALAR_TYPE, /* dtype */
    PT2_ARG_MEMORY_FORMAT, /* i: 1 contiguous, 2 channels last, 3 channels last 3d, 4 preserve */
    PT2_ARG_LAYOUT,      /* i: 7 strided */
    PT2_ARG_DEVICE,      /* s: "cpu", "cuda:0" */
    /* lists: items, each of a kind above; the comment says which */
    PT2_ARG_TENSORS,          /* TENSOR */
    PT2_ARG_OPTIONAL_TENSORS, /* TENSOR, NONE */
    PT2_ARG_INTS,             /* INT */
    PT2_ARG_SYM_INTS,         /* INT, SYM_INT */
    PT2_ARG_FLOATS,           /* FLOAT */
    PT2_ARG_BOOLS,            /* BOOL */
    PT2_ARG_STRINGS,          /* STRING */
};

struct pt2_arg {
    enum pt2_arg_kind kind;
    union {
        uint32_t value; /* index into the program's values */
        int64_t i;
        double f;
        bool b;
        const char *s;
        enum pt2_dtype dtype;
        struct {
            const struct pt2_arg *items;
            uint32_t n;
        } list;
    };
};

struct pt2_named_arg {
    const char *name; /* the schema's argument name: "self", "dim" */
    struct pt2_arg arg;
    int kind; /* 1 positional, 2 keyword, 0 not said */
};

struct pt2_node {
    const char *target; /* "torch.ops.aten.linear.default" */
    const char *name;
    const struct pt2_named_arg *inputs;
    uint32_t n_inputs;
    const struct pt2_arg *outputs; /* TENSOR, TENSORS, SYM_INT, NONE, ... */
    uint32_t n_outputs;
};

enum pt2_input_kind { PT2_INPUT_PARAMETER, PT2_INPUT_BUFFER, PT2_INPUT_CONSTANT, PT2_INPUT_USER };

struct pt2_input {
    enum pt2_input_kind kind;
    uint32_t value;
    const char *fqn; /* parameter, buffer or constant name; NULL for a user input */
    bool persistent; /* buffers */
};

enum pt2_output_kind { PT2_OUTPUT_USER, PT2_OUTPUT_BUFFER_MUTATION, PT2_OUTPUT_INPUT_MUTATION };

struct pt2_output {
    enum pt2_output_kind kind;
    struct pt2_arg arg; /* TENSOR, or for a user output also INT, NONE, ... */
    const char *fqn;    /* the buffer, or the user input's name; NULL for a user output */
};

struct pt2_range {
    const char *symbol;
    int64_t min, max; /* INT64_MIN, INT64_MAX where open */
};

/* ---- building ---- */

/* An empty program.  new: free with pt2_program_free. */
PT2_API PT2_MUST_USE int pt2_program_new(struct pt2_program **ret_program,
                                         struct pt2_err *err);
PT2_API void pt2_program_free(struct pt2_program *program);

/* Memory and strings that live as long as the program; NULL where there is no memory. */
PT2_API void *pt2_program_alloc(struct pt2_program *program, size_t size);
PT2_API const char *pt2_program_string(struct pt2_program *program, const char *s);

/* Add a tensor input; the value's name is its placeholder's.  The meta's strings, fqn and
 * name are copied.  ret_value may be NULL.
 * Errors: BAD_PROGRAM (a name twice, too many), NOMEM. */
PT2_API PT2_MUST_USE int pt2_program_add_input(struct pt2_program *program,
                                               enum pt2_input_kind kind, const char *name,
                                               const char *fqn, bool persistent,
                                               const struct pt2_tensor_meta *meta,
                                               uint32_t *ret_value, struct pt2_err *err);
/* Add a node with one tensor output (the node's name; made unique by "_1", "_2" as FX does
 * where it is taken).  inputs are copied, lists within them too. */
PT2_API PT2_MUST_USE int pt2_program_add_node(struct pt2_program *program,
                                              const char *target, const char *name,
                                              const struct pt2_named_arg *inputs,
                                              uint32_t n_inputs,
                                              const struct pt2_tensor_meta *meta,
                                              uint32_t *ret_value, struct pt2_err *err);
/* The same of a node whose output is a number that only the run knows: symbol, "u0", is copied,
 * and needs a range. */
PT2_API PT2_MUST_USE int pt2_program_add_symbol(struct pt2_program *program,
                                                const char *target, const char *name,
                                                const struct pt2_named_arg *inputs,
                                                uint32_t n_inputs, const char *symbol,
                                                uint32_t *ret_value, struct pt2_err *err);
/* The same with n_values tensors, named "getitem", "getitem_1" as FX names what takes a
 * tuple apart; the node's name ends as its first value's does. */
PT2_API PT2_MUST_USE int pt2_program_add_tuple(struct pt2_program *program,
                                               const char *target, const char *name,
                                               const struct pt2_named_arg *inputs,
                                               uint32_t n_inputs,
                                               const struct pt2_tensor_meta *metas,
                                               uint32_t n_values, uint32_t *ret_values,
                                               struct pt2_err *err);
PT2_API PT2_MUST_USE int pt2_program_add_output(struct pt2_program *program,
                                                enum pt2_output_kind kind, uint32_t value,
                                                const char *fqn, struct pt2_err *err);
PT2_API PT2_MUST_USE int pt2_program_add_range(struct pt2_program *program,
                                               const char *symbol, int64_t min, int64_t max,
                                               struct pt2_err *err);
/* Fill in contiguous strides (symbolic ones too: "64*s0"), offset 0, device cpu. */
PT2_API PT2_MUST_USE int pt2_tensor_meta_contiguous(struct pt2_program *program,
                                                    enum pt2_dtype dtype, unsigned n_dims,
                                                    const struct pt2_dim *sizes,
                                                    struct pt2_tensor_meta *ret_meta,
                                                    struct pt2_err *err);

/* ---- reading ---- */

/* Parse and check a models/model.json: names defined before use, no cycle, known kinds,
 * bounded depth and size, signature parallel to the graph's inputs and outputs.  Which ops
 * run is the engines' affair.
 * Errors: BAD_PROGRAM (the text names the node or value), NOMEM. */
PT2_API PT2_MUST_USE int pt2_program_parse(const char *json, size_t len,
                                           struct pt2_program **ret_program,
                                           struct pt2_err *err);
/* Read models/model.json of an archive, parse it, and check it against the payloads: each
 * parameter, buffer and constant of the signature has one of the same dtype and shape. */
PT2_API PT2_MUST_USE int pt2_program_read(const struct pt2_archive *archive,
                                          struct pt2_program **ret_program,
                                          struct pt2_err *err);

PT2_API uint32_t pt2_program_n_values(const struct pt2_program *program);
PT2_API const struct pt2_value *pt2_program_value(const struct pt2_program *program,
                                                  uint32_t i);
/* -1 where there is none of that name. */
PT2_API int64_t pt2_program_find_value(const struct pt2_program *program, const char *name);
PT2_API uint32_t pt2_program_n_nodes(const struct pt2_program *program);
PT2_API const struct pt2_node *pt2_program_node(const struct pt2_program *program,
                                                uint32_t i);
PT2_API uint32_t pt2_program_n_inputs(const struct pt2_program *program);
PT2_API const struct pt2_input *pt2_program_input(const struct pt2_program *program,
                                                  uint32_t i);
PT2_API uint32_t pt2_program_n_outputs(const struct pt2_program *program);
PT2_API const struct pt2_output *pt2_program_output(const struct pt2_program *program,
                                                    uint32_t i);
PT2_API uint32_t pt2_program_n_ranges(const struct pt2_program *program);
PT2_API const struct pt2_range *pt2_program_range(const struct pt2_program *program,
                                                  uint32_t i);
PT2_API const char *pt2_program_torch_version(const struct pt2_program *program);
PT2_API void pt2_program_schema_version(const struct pt2_program *program, int *ret_major,
                                        int *ret_minor);

/* ---- writing ---- */

/* The model.json, new (caller frees), *ret_len bytes; the same program gives the same bytes.
 * User inputs are taken by keyword, as Transformers exports them. */
PT2_API PT2_MUST_USE int pt2_program_to_json(const struct pt2_program *program,
                                             char **ret_json, size_t *ret_len,
                                             struct pt2_err *err);
/* The graph for people, a node a line (GET /v1/programs/{id}/graph); new, caller frees. */
PT2_API PT2_MUST_USE int pt2_program_print(const struct pt2_program *program,
                                           char **ret_text, struct pt2_err *err);

/* ---- what a step needs to know ---- */

/* The facts of a decoder with a static cache: inputs input_ids [batch, s] and cache_position
 * [s] (int64, found by name, else by place and shape), logits [batch, s or 1, vocab] or [batch, vocab] out. */
struct pt2_decoder {
    uint32_t input_ids, cache_position; /* places among the user inputs, 0 or 1 */
    int64_t batch_size;
    int64_t seq_len;     /* exported sequence length; 0: symbolic */
    int64_t max_seq_len; /* where symbolic: the range's upper bound, else == seq_len */
    int64_t max_cache_len;
    int64_t vocab_size;
    int64_t n_layers;     /* pairs of cache buffers */
    bool logits_all_rows; /* false: the last row's logits only */
};

/* max_cache_len is the longest cache's; where each is a ring (index_copy at positions modulo its
 * length), and the archive's extra/executorch_metadata.json has a get_max_context_len, that;
 * but no more than the shortest cache has that is written at cache_position itself.
 * Errors: PROGRAM_REFUSED, with what is missing or in the way. */
PT2_API PT2_MUST_USE int pt2_program_decoder(const struct pt2_program *program,
                                             struct pt2_decoder *ret_decoder,
                                             struct pt2_err *err);

#endif
