/* program.h - an ExecuTorch program while it is made: values, calls, delegates, blobs.
 *
 *     values        numbers, lists and tensors; a tensor is an input of the caller's, a
 *                   constant (a blob), or a part of the arena
 *     instructions  kernel calls, delegate calls and jumps, one chain
 *     delegates     XNNPACK graphs (xnn.h)
 *     blobs         bytes of weights and tables, in memory or somebody else's to write
 *
 * After ExecuTorch 1.5.1's schema/program.fbs; the file is written by file.h.  Everything
 * lives as long as the program.  The first failure (no memory, a size) sticks: later calls
 * answer 0, pte_failed() says so.  One thread at a time. */
#ifndef PTE_PROGRAM_H
#define PTE_PROGRAM_H

#include "base/util.h"
#include "program/arena.h"

#include <pt2/dtype.h>
#include <pt2/err.h>

#define PTE_MAX_DIMS 8
#define PTE_KEY_SIZE 1040 /* a tensor's name has up to 1024 bytes, and an end comes on top */
#define PTE_NONE     UINT32_MAX /* no blob */

struct xnn_graph;

enum pte_value_kind {
    PTE_NULL,
    PTE_INT,
    PTE_BOOL,
    PTE_DOUBLE,
    PTE_STRING,
    PTE_TENSOR,
    PTE_INTS,             /* items: indices of INTs */
    PTE_TENSORS,          /* items: indices of tensors */
    PTE_OPTIONAL_TENSORS, /* the same; -1 for none */
};

/* Where a tensor's bytes are. */
enum pte_place {
    PTE_INPUT,    /* with the caller */
    PTE_CONSTANT, /* a blob */
    PTE_ARENA,    /* a place of its own */
    PTE_ALIAS,    /* within that of another */
};

struct pte_tensor {
    enum pt2_dtype dtype;
    unsigned n_dims;
    int32_t sizes[PTE_MAX_DIMS]; /* where dynamic: the largest */
    bool is_dynamic;
    enum pte_place place;
    bool is_kept;    /* ARENA: lives from call to call (a cache) */
    uint32_t blob;   /* CONSTANT */
    uint32_t base;   /* ALIAS: the value of an ARENA tensor ... */
    uint64_t offset; /* ... and the bytes behind its start; ARENA: memory_plan's */
};

struct pte_value {
    enum pte_value_kind kind;
    bool is_own; /* a kernel writes it, so it is shared with nobody */
    union {
        int64_t i;
        bool b;
        double d;
        const char *s; /* static */
        struct pte_tensor tensor;
        struct {
            const int32_t *items;
            uint32_t n;
        } list;
    };
};

enum pte_call_kind { PTE_KERNEL, PTE_DELEGATE, PTE_JUMP_FALSE };

struct pte_call {
    enum pte_call_kind kind;
    uint32_t index; /* of the operator, the delegate, or the call that is jumped to */
    const int32_t *args; /* values; JUMP_FALSE: the condition */
    uint32_t n_args;
    uint32_t n_outs; /* DELEGATE: the last of args; KERNEL: the last value is written, and
                        n_outs says in how many places of args it stands */
    bool is_row;     /* KERNEL: a row of the first value is written, the others stay */
};

struct pte_operator {
    const char *name, *overload; /* static */
};

/* What a blob is of the tensor that it comes from. */
enum pte_form {
    PTE_PLAIN,        /* its bytes */
    PTE_LOW_NIBBLES,  /* int8 of -8 to 7, plus 8, two a byte: the first is the low nibble */
    PTE_HIGH_NIBBLES, /* the same, the first the high one */
    PTE_BFLOAT16,     /* float32, rounded */
};

struct pte_blob {
    const char *key;    /* unique; what delegates know it by */
    const char *source; /* the tensor's name, for who writes the file */
    enum pte_form form;
    uint64_t bytes;
    const void *data; /* NULL: who writes the file is asked for them */
    bool is_constant; /* a tensor has it */
    bool is_named;    /* a delegate has it */
    uint64_t offset;  /* file.c's, in the segments' area */
};

struct pte_program {
    struct arena memory;
    struct pte_value *values;
    uint32_t n_values, cap_values;
    struct pte_call *calls;
    uint32_t n_calls, cap_calls;
    struct pte_operator *operators;
    uint32_t n_operators, cap_operators;
    struct xnn_graph **delegates;
    uint32_t n_delegates, cap_delegates;
    struct pte_blob *blobs;
    uint32_t n_blobs, cap_blobs;
    int32_t *inputs, *outputs; /* values */
    uint32_t n_inputs, n_outputs, cap_inputs, cap_outputs;
    uint64_t arena_bytes; /* memory_plan's */
    bool failed;
    bool is_too_big; /* what failed was a tensor of more bytes or longer than a file may have */
    bool is_wrong;   /* what failed was a use that does not fit what there is */
};

void pte_init(struct pte_program *p);
void pte_done(struct pte_program *p);
static inline bool pte_failed(const struct pte_program *p)
{
    return p->failed;
}

/* Fail since the caller's graph makes no sense here. */
static inline void pte_fail_wrong(struct pte_program *p)
{
    p->failed = p->is_wrong = true;
}

/* ---- values ---- */

/* Values that nothing writes are shared. */
uint32_t pte_null(struct pte_program *p);
uint32_t pte_int(struct pte_program *p, int64_t i);
uint32_t pte_bool(struct pte_program *p, bool b);
uint32_t pte_double(struct pte_program *p, double d);
uint32_t pte_string(struct pte_program *p, const char *s); /* static */
uint32_t pte_ints(struct pte_program *p, const int64_t *items, uint32_t n);
uint32_t pte_tensors(struct pte_program *p, const int32_t *items, uint32_t n);
uint32_t pte_optional_tensors(struct pte_program *p, const int32_t *items, uint32_t n);
/* One of its own, which a kernel writes. */
uint32_t pte_int_out(struct pte_program *p);
uint32_t pte_bool_out(struct pte_program *p);

/* sizes: n_dims of them. */
uint32_t pte_input(struct pte_program *p, enum pt2_dtype dtype, unsigned n_dims,
                   const int64_t *sizes, bool is_dynamic);
uint32_t pte_activation(struct pte_program *p, enum pt2_dtype dtype, unsigned n_dims,
                        const int64_t *sizes);
uint32_t pte_cache(struct pte_program *p, enum pt2_dtype dtype, unsigned n_dims,
                   const int64_t *sizes);
/* The same bytes as x's, from byte `offset` of them, with another shape: of a constant the
 * whole, otherwise any part. */
uint32_t pte_view(struct pte_program *p, uint32_t x, enum pt2_dtype dtype,
                  unsigned n_dims, const int64_t *sizes, uint64_t offset);
uint32_t pte_constant(struct pte_program *p, uint32_t blob, enum pt2_dtype dtype,
                      unsigned n_dims, const int64_t *sizes);
void pte_output(struct pte_program *p, uint32_t x);

static inline const struct pte_tensor *pte_tensor(const struct pte_program *p, uint32_t x)
{
    return &p->values[x].tensor;
}
uint64_t pte_tensor_bytes(const struct pte_tensor *t);

/* ---- blobs ---- */

/* Made of that tensor, which has `bytes` bytes; who writes the file reads it.  The same
 * source and form give the same blob. */
uint32_t pte_blob(struct pte_program *p, const char *source, enum pte_form form,
                  uint64_t bytes);
/* One with these bytes, copied; one that has them already is it. */
uint32_t pte_blob_of(struct pte_program *p, const char *key, const void *data,
                     size_t bytes);
/* The key by which a delegate may name it from here on. */
const char *pte_blob_key(struct pte_program *p, uint32_t blob);

/* ---- instructions ---- */

/* name and overload are static.  The last of args is what is written; functional kernels
 * take it twice. */
void pte_call(struct pte_program *p, const char *name, const char *overload,
              const uint32_t *args, uint32_t n_args);
#define PTE_CALL(p, name, overload, ...)                                                  \
    pte_call((p), (name), (overload), (const uint32_t[]){__VA_ARGS__},                    \
             sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t))
/* The same where the last n_outs of args are what is written. */
void pte_call_outs(struct pte_program *p, const char *name, const char *overload,
                   const uint32_t *args, uint32_t n_args, uint32_t n_outs);
/* The graph is the program's to free from here on; *ret_delegate: its number. */
uint32_t pte_add_delegate(struct pte_program *p, struct xnn_graph *graph);
/* args: the graph's inputs, then its n_outs outputs. */
void pte_call_delegate(struct pte_program *p, uint32_t delegate, const uint32_t *args,
                       uint32_t n_args, uint32_t n_outs);
/* Jump where the Bool is false; to where pte_land says. */
uint32_t pte_jump_false(struct pte_program *p, uint32_t condition);
void pte_land(struct pte_program *p, uint32_t jump);

/* Is the call the end of a loop, whose first one is its index? */
static inline bool pte_is_loop(const struct pte_program *p, uint32_t call)
{
    return p->calls[call].kind == PTE_JUMP_FALSE && p->calls[call].index <= call;
}

#endif
