/* bridge.h - libtorch as plain C: tensors, ops found by name, calls by the dispatcher.
 *
 * bridge.cc is the one file that sees libtorch.  Conventions:
 *
 * 1. Handles.  A struct bridge_tensor * counts one reference to a tensor of libtorch's.
 * One that a call answers is new: bridge_tensor_free.  One that is passed in is borrowed.
 *    Storage may be shared between tensors (views); it goes with the last of them.
 *    A struct bridge_op * belongs to libtorch and lives as long as the process.
 * 2. Lengths are counts of elements in size_t or unsigned; sizes and strides are int64_t,
 *    strides in elements.  A shape has at most BRIDGE_MAX_DIMS dimensions.
 * 3. Errors.  0, or -1 with err filled: PROGRAM_FAILED (what libtorch said, its first
 * line), LIMIT (the memory limit), NOMEM.  Outputs are written on success only.
 * 4. NULL.  err may be NULL; x_free(NULL) is fine; nothing else may be NULL where it does
 * not say so.
 * 5. No exception leaves.  What is thrown below, whatever its type, becomes an error.
 * 6. Threads.  One thread at a time.  libtorch's own threads work under a call and are
 * idle between calls.
 * 7. Autograd is off in every call; tensors are on the CPU and strided.
 * 8. Trust.  The bridge checks types, so that a wrong argument is an error; whether an op
 * may be called at all, and what it may write, is the caller's matter. */
#ifndef ATEN_BRIDGE_H
#define ATEN_BRIDGE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#include <pt2/dtype.h>
#include <pt2/err.h>

#define BRIDGE_MAX_DIMS 16

struct bridge_tensor;
struct bridge_op;

enum bridge_kind {
    BRIDGE_DEFAULT, /* an argument: the schema's default; a list's item: never */
    BRIDGE_NONE,
    BRIDGE_TENSOR, /* t */
    BRIDGE_INT,    /* i; also layouts and memory formats, as libtorch numbers them */
    BRIDGE_FLOAT,  /* f */
    BRIDGE_BOOL,   /* b */
    BRIDGE_STRING, /* s */
    BRIDGE_DTYPE,  /* dtype */
    BRIDGE_CPU,    /* the device; there is no other */
    BRIDGE_LIST,   /* list: all items of one kind, or of TENSOR and NONE */
};

struct bridge_value {
    enum bridge_kind kind;
    union {
        struct bridge_tensor *t;
        int64_t i;
        double f;
        bool b;
        const char *s;
        enum pt2_dtype dtype;
        struct {
            struct bridge_value *items;
            size_t n;
        } list;
    };
};

/* libtorch's version, as 100 * major + minor: 113, 213. */
int bridge_version(void);
/* Threads under a call, for the whole process; 0: as many as there are cores. */
void bridge_set_threads(unsigned n);

/* From now on, tensors may take at most max_bytes beyond what they hold at this moment;
 * more is LIMIT, before the memory is touched.  UINT64_MAX: no limit. */
void bridge_limit_memory(uint64_t max_bytes);
/* Bytes that tensors hold now (memory passed to bridge_tensor_wrap not counted). */
uint64_t bridge_memory(void);

/* ---- tensors ---- */

/* A tensor on memory that the caller keeps and that outlives it.  data is aligned to the
 * dtype's size; all elements that sizes and strides reach lie within the memory: the
 * caller has checked. */
int bridge_tensor_wrap(void *data, enum pt2_dtype dtype, unsigned n_dims,
                       const int64_t *sizes, const int64_t *strides,
                       struct bridge_tensor **ret_tensor, struct pt2_err *err);
struct bridge_tensor *bridge_tensor_ref(struct bridge_tensor *tensor); /* new */
void bridge_tensor_free(struct bridge_tensor *tensor);

/* PT2_DTYPE_NONE where it is none of ours. */
enum pt2_dtype bridge_tensor_dtype(const struct bridge_tensor *tensor);
unsigned bridge_tensor_n_dims(const struct bridge_tensor *tensor);
int64_t bridge_tensor_size(const struct bridge_tensor *tensor, unsigned dim);
int64_t bridge_tensor_stride(const struct bridge_tensor *tensor, unsigned dim);
/* Where the storage begins that the tensor is a view of, and where its first element
 * lies. */
const void *bridge_tensor_storage(const struct bridge_tensor *tensor);
void *bridge_tensor_data(struct bridge_tensor *tensor);

/* ---- ops ---- */

/* NULL where this libtorch has none: find("aten::add", "Tensor"), overload "" for
 * default. */
const struct bridge_op *bridge_op_find(const char *name, const char *overload);
size_t bridge_op_n_args(const struct bridge_op *op);
/* The argument's place by its name in this libtorch's schema; -1 where it has none. */
int bridge_op_arg(const struct bridge_op *op, const char *name);

/* Call op.  args has bridge_op_n_args entries.  rets has room for n_rets; each one is
 * new: bridge_value_done.  A return that is not asked for is dropped; one too few is an
 * error. A return is a TENSOR, INT, FLOAT, BOOL, NONE or a LIST of tensors. */
int bridge_call(const struct bridge_op *op, const struct bridge_value *args,
                struct bridge_value *rets, size_t n_rets, struct pt2_err *err);
/* Release what a return holds; it is DEFAULT afterwards. */
void bridge_value_done(struct bridge_value *value);

#ifdef __cplusplus
}
#endif

#endif
