/* graph.h - a program's graph, prepared to be called node by node; inside src/aten only.
 *
 *     graph_open ── cells.c       what inputs lie in: memory of weights, buffers,
 * constants ├── calls.c       each node against the table of ops, its arguments prepared
 *               └── write_rule.c  what each write reaches; which cells are session state
 *     graph_run ─── run.c         the calls in order: native, lowered (lower.c) or
 *                                 interpreted (symbolic.c)
 *     positions.c  what a decoder's writes mean (interp.c asks)
 *
 * Any graph, not only a decoder's: tests run small ones.  One thread at a time. */
#ifndef ATEN_GRAPH_H
#define ATEN_GRAPH_H

#include "aten/bridge.h"
#include "aten/interp.h"
#include "aten/ops.h"

#define NO_CELL UINT32_MAX

/* A block of graph_alloc's. */
struct allocation {
    struct allocation *next;
    uint64_t data[];
};

/* Memory that one or several inputs stand for: inputs whose payloads show the same
 * elements of a record (tied weights; the constant and the buffer that non-strict exports
 * make of one cache) are one. */
struct cell {
    enum pt2_input_kind
        kind;        /* PARAMETER where one of its inputs is, USER for user inputs */
    const char *fqn; /* a buffer's before a constant's; a user input's own name */
    const struct pt2_payload *payload; /* NULL: user input */
    bool is_overlapped; /* another cell shows its record in another shape */
    bool is_state;      /* some node or buffer mutation writes it: a session buffer */
    uint64_t bytes;
    struct bridge_tensor
        *tensor; /* the fixed memory, or state's first value; NULL: zeros */
    void *owned; /* memory that is not the archive's; NULL: none */
    /* positions.c */
    int position_dim; /* -1: none */
    bool is_ring;     /* of rows at positions modulo its length */
    bool is_counter;
};

/* A place in a call's arguments that a value of the run goes to. */
struct slot {
    struct bridge_value *to;
    uint32_t value;
};

struct call {
    const struct pt2_node *node;
    const struct op *op; /* NULL: arithmetic on sizes (_operator.add) */
    const struct bridge_op
        *target; /* NULL: not called (OWN), or this libtorch has none */
    const struct pt2_arg *given[OP_MAX_ARGS]; /* by op->args; NULL: default */
    struct bridge_value args[OP_MAX_ARGS];    /* slots filled before each call */
    unsigned n_args;
    struct slot *slots;
    uint32_t n_slots;
    const uint32_t *dead; /* values that nobody needs after this call */
    uint32_t n_dead;
    bool writes; /* one of its arguments */
};

struct graph {
    const struct pt2_archive *archive; /* NULL where nothing of it is needed */
    const struct pt2_program *program;
    struct aten_limits limits;
    struct cell *cells;
    uint32_t n_cells;
    uint32_t *input_cells;  /* by the program's inputs */
    uint32_t *output_cells; /* by its outputs: the cell that a buffer mutation writes */
    uint32_t *states;       /* the cells that are session state, in the order of inputs */
    uint32_t n_states;
    struct call *calls;
    uint32_t n_calls;
    struct bridge_value
        *values; /* by the program's values, DEFAULT where there is none */
    uint32_t
        *origins; /* by the program's values: the cell it may be a view of, or NO_CELL */
    bool *keeps;  /* by values: an output, or an input: not freed by a call */
    uint64_t owned_bytes;
    uintptr_t fixed_begin, fixed_end; /* what of the mapped file cells lie in */
    int64_t fail_at;                  /* a call that fails, for tests; -1: none */
    struct allocation *allocations;
};

/* A tensor at the border of a run. */
struct graph_tensor {
    void *data;
    enum pt2_dtype dtype;
    unsigned n_dims;
    int64_t sizes[PT2_MAX_DIMS]; /* contiguous */
};

/* archive may be NULL where the program has user inputs only.
 * Errors: PROGRAM_REFUSED, LIMIT, NOMEM. */
MUST_USE int graph_open(const struct pt2_archive *archive,
                        const struct pt2_program *program,
                        const struct aten_limits *limits, struct graph **ret_graph,
                        struct pt2_err *err);
void graph_free(struct graph *graph);
DEFINE_AUTO(graph)

/* Run it.  states: memory for each state cell; inputs: the user inputs in order,
 * read-only. ret_outputs: the tensors of the user outputs in order, new, n_outputs of
 * them; NULL in place of one that is no tensor. Errors: PROGRAM_FAILED, INVALID (an input
 * of another shape), LIMIT, NOMEM. */
MUST_USE int graph_run(struct graph *graph, void *const *states,
                       const struct graph_tensor *inputs, uint32_t n_inputs,
                       struct bridge_tensor **ret_outputs, uint32_t n_outputs,
                       struct pt2_err *err);

/* Zeroed memory that goes with the graph; NULL: none left. */
void *graph_alloc(struct graph *graph, size_t n, size_t size);

/* ---- the steps of graph_open ---- */

MUST_USE int cells_open(struct graph *graph, struct pt2_err *err);
/* After the write rule: the fixed cells' tensors and the states' first values. */
MUST_USE int cells_load(struct graph *graph, struct pt2_err *err);
/* Is it memory of a weight, a constant, a buffer that is no state?  Then nothing may
 * write it. */
bool cells_are_fixed(const struct graph *graph, const void *storage);
void cells_done(struct graph *graph);
MUST_USE int calls_open(struct graph *graph, struct pt2_err *err);
/* Follow each write through views: to a session buffer or a fresh intermediate it may go,
 * to a parameter or a user input it may not.  Sets cells' is_state and graph->states. */
MUST_USE int write_rule_check(struct graph *graph, struct pt2_err *err);

/* Is what the call answers the argument itself, elements and shape unchanged (alias,
 * detach, an in-place op)?  Then *ret_arg is its place. */
bool call_is_identity(const struct call *call, unsigned *ret_arg);
/* The value that an argument is; -1 where it is no value. */
int64_t call_value(const struct call *call, const char *arg);

/* ---- what a decoder's writes mean ---- */

/* Set position_dim and is_counter of the state cells. */
MUST_USE int positions_find(struct graph *graph, const struct pt2_decoder *decoder,
                            struct pt2_err *err);

/* ---- calls that are not plain ---- */

/* Is the target arithmetic on sizes, interpreted here? */
bool symbolic_is_known(const char *target);
/* Run an OWN op, or (call->op NULL) arithmetic on sizes.  rets has one place. */
MUST_USE int symbolic_run(const struct call *call, struct bridge_value *rets,
                          struct pt2_err *err);

/* Does lower.c spell the op in others where libtorch has none? */
bool lower_can(const struct op *op);
/* Call op, slots filled, in whatever way this libtorch needs. */
MUST_USE int lower_call(const struct call *call, struct bridge_value *rets,
                        struct pt2_err *err);

#endif
