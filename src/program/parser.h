/* parser.h - what the parts of the model.json reader share, for src/program alone. */
#ifndef PROGRAM_PARSER_H
#define PROGRAM_PARSER_H

#include "program/expr.h"
#include "program/impl.h"
#include "program/pull.h"

struct expr_seen {
    const char *text; /* NULL: a number */
    int64_t number;
};

/* A graph that a node holds, read in place of the node; see inline.c. */
struct subgraph {
    struct pt2_named_arg **inputs; /* what each input shows is not known until it ends */
    uint32_t *outputs;             /* values */
    uint32_t n_inputs, cap_inputs, n_outputs, cap_outputs;
};

struct parser {
    struct pull pull;
    struct pt2_program *program;
    struct pt2_err *err;

    /* expressions come again and again: each text is read once */
    struct names exprs;
    struct expr_seen *seen;
    uint32_t n_seen, cap_seen;
    struct names symbols; /* in any expression; each needs a range */

    /* items of the list being read, copied into the arena when it ends */
    struct pt2_arg *args;
    uint32_t n_args, cap_args;
    struct pt2_named_arg *named;
    uint32_t n_named, cap_named;

    uint32_t n_has_meta;
    uint8_t *has_meta;     /* per value: its entry in the table of its kind was read */
    bool makes_names;      /* a name makes a value; otherwise it must be there */
    int32_t node;          /* that makes them; -1: none, they are inputs */
    const char *target;    /* of the node being read */
    const char *node_name; /* NULL: not said */
    struct subgraph *sub;  /* of the node being read; NULL: none */
    const char *scope;     /* of the names in the subgraph being read; NULL: in none */
    unsigned depth;        /* of subgraphs */
};

static inline struct parser *parser_of(struct pull *s)
{
    return (struct parser *)((char *)s - offsetof(struct parser, pull));
}

int parser_no_memory(struct parser *p);
/* The next string, into the arena: 1 to max bytes without control characters; what names
 * it in messages. */
MUST_USE int parser_string(struct parser *p, size_t max, const char *what,
                           const char **ret);

/* meta.c: tensor_values and the tables of symbols; struct pt2_tensor_meta, struct pt2_dim
 */
MUST_USE int parser_tensor_values(struct pull *s, void *ctx);
MUST_USE int parser_sym_int_values(struct pull *s, void *ctx);
MUST_USE int parser_sym_bool_values(struct pull *s, void *ctx);
MUST_USE int parser_sym_float_values(struct pull *s, void *ctx);
MUST_USE int parser_device(struct parser *p, const char **ret);

/* args.c: one union Argument.  Values that it names are made where p->makes_names. */
MUST_USE int parser_arg(struct parser *p, struct pt2_arg *ret);
/* {"name": "x"}: a TensorArgument that must be there. */
MUST_USE int parser_tensor_name(struct parser *p, uint32_t *ret);

/* parse.c: the nodes of a graph; what no decoder has */
MUST_USE int parser_nodes(struct pull *s, void *ctx);
MUST_USE int parser_custom_obj_values(struct pull *s, void *ctx);

/* inline.c: does the node being read hold a graph, to be put in its place? */
bool parser_inlines(const struct parser *p);
/* The graph, an argument of such a node: its nodes are the program's from here on. */
MUST_USE int parser_subgraph(struct pull *s, struct pt2_arg *ret);
/* Such a node has been read: the graph's inputs and outputs become its own. */
MUST_USE int parser_inline(struct parser *p, const struct pt2_arg *outputs,
                           uint32_t n_outputs);
void parser_subgraph_done(struct parser *p);
/* A name as the program has it: in a subgraph, with the scope before it. */
#define PARSER_SCOPED_SIZE (2 * PROGRAM_MAX_NAME)
MUST_USE int parser_scoped(struct parser *p, struct pull_text *name,
                           char buffer[PARSER_SCOPED_SIZE]);

/* signature.c: graph_module.signature, after the graph */
MUST_USE int parser_signature(struct pull *s, void *ctx);

#endif
