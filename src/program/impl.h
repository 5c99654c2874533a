/* impl.h - the inside of struct pt2_program, for src/program alone. */
#ifndef PROGRAM_IMPL_H
#define PROGRAM_IMPL_H

#include "program/arena.h"
#include "program/names.h"

#include <pt2/program.h>

/* No program comes near these (a 126-layer decoder has some 16000 nodes); they bound what
 * a file can make us hold. */
#define PROGRAM_MAX_VALUES  (1u << 18)
#define PROGRAM_MAX_NODES   (1u << 18)
#define PROGRAM_MAX_INPUTS  (1u << 16)
#define PROGRAM_MAX_OUTPUTS (1u << 12)
#define PROGRAM_MAX_RANGES  (1u << 8)
#define PROGRAM_MAX_NAME    255  /* bytes, of a value, node, target or argument */
#define PROGRAM_MAX_FQN     1023 /* bytes */

/* Bytes of a model.json; a 126-layer Python export has some 35 MB. */
#define PROGRAM_MAX_JSON ((size_t)128 << 20)

#define PROGRAM_TORCH_VERSION "2.13.0" /* whose schema we write */
#define PROGRAM_SCHEMA_MAJOR  8
#define PROGRAM_SCHEMA_MINOR  20

struct pt2_program {
    struct arena arena;
    struct names names; /* of values */
    struct pt2_value *values;
    struct pt2_node *nodes;
    struct pt2_input *inputs;
    struct pt2_output *outputs;
    struct pt2_range *ranges;
    uint32_t n_values, n_nodes, n_inputs, n_outputs, n_ranges;
    uint32_t cap_values, cap_nodes, cap_inputs, cap_outputs, cap_ranges;
    const char *torch_version;
    int schema_major, schema_minor;
    int64_t max_context_len; /* that the archive speaks of; 0: it does not */
};

static inline void pt2_program_auto(struct pt2_program **p)
{
    pt2_program_free(*p);
}
#define AUTO_PROGRAM __attribute__((cleanup(pt2_program_auto))) struct pt2_program

/* Room for one more item of an array that belongs to the program; what names it. */
MUST_USE int program_grow(void *items, uint32_t n, uint32_t *cap, uint32_t max,
                          size_t size, const char *what, struct pt2_err *err);
#define PROGRAM_GROW(p, list, max, err)                                                  \
    program_grow(&(p)->list, (p)->n_##list, &(p)->cap_##list, (max), sizeof(*(p)->list), \
                 #list, (err))

/* Append; names, expressions and lists are taken as they are (in the arena already).
 * A value's name must not be there yet, and is checked. */
MUST_USE int program_push_value(struct pt2_program *program,
                                const struct pt2_value *value, uint32_t *ret_index,
                                struct pt2_err *err);
MUST_USE int program_push_node(struct pt2_program *program, const struct pt2_node *node,
                               struct pt2_err *err);
MUST_USE int program_push_input(struct pt2_program *program,
                                const struct pt2_input *input, struct pt2_err *err);
MUST_USE int program_push_output(struct pt2_program *program,
                                 const struct pt2_output *output, struct pt2_err *err);
MUST_USE int program_push_range(struct pt2_program *program,
                                const struct pt2_range *range, struct pt2_err *err);

/* Printable without quotes or brackets, 1 to PROGRAM_MAX_NAME bytes: a value's name. */
bool program_name_is_good(const char *name, size_t len);

const struct pt2_range *program_find_range(const struct pt2_program *program,
                                           const char *symbol);
const char *program_value_kind_name(enum pt2_value_kind kind); /* "a tensor" */

#endif
