/* lower.h - ops spelled in others: what lower.c and its parts share.  Private to them.
 *
 *     lower.c          which way a call goes; float32 for half precision, attention, norms
 *     lower_grouped.c  products of groups of rows with a matrix each
 *     lower_llama.c    ExecuTorch's caches and attention
 *     lower_torchao.c  quantised values to numbers and back */
#ifndef ATEN_LOWER_H
#define ATEN_LOWER_H

#include "aten/graph.h"

DEFINE_AUTO(bridge_tensor)

#define TENSOR(x) ((struct bridge_value){.kind = BRIDGE_TENSOR, .t = (x)})
#define INT(x)    ((struct bridge_value){.kind = BRIDGE_INT, .i = (x)})
#define FLOAT(x)  ((struct bridge_value){.kind = BRIDGE_FLOAT, .f = (x)})
#define BOOL(x)   ((struct bridge_value){.kind = BRIDGE_BOOL, .b = (x)})
#define DTYPE(x)  ((struct bridge_value){.kind = BRIDGE_DTYPE, .dtype = (x)})
#define INTS(p, k)                                                                       \
    ((struct bridge_value){.kind = BRIDGE_LIST, .list = {.items = (p), .n = (k)}})

/* ret = op(...), one new tensor; arguments that are not given are left to their defaults.
 */
#define CALL(ret, err, name, overload, ...)                                              \
    lower_op(ret, err, name, overload, (struct bridge_value[OP_MAX_ARGS]){__VA_ARGS__})

/* args has as many as the op takes: those not given are DEFAULT.  *ret is NULL or a tensor,
 * which is released. */
MUST_USE int lower_op(struct bridge_tensor **ret, struct pt2_err *err, const char *name,
                      const char *overload, const struct bridge_value *args);

bool lower_is_half(enum pt2_dtype dtype);
/* Do this libtorch's CPU kernels of many ops lack float16, and some bfloat16? */
bool lower_lacks_half(void);
/* x in float32 where it is of half precision, otherwise x itself; new. */
MUST_USE int lower_widen(struct bridge_tensor *x, struct bridge_tensor **ret,
                         struct pt2_err *err);

/* transformers::grouped_mm_fallback, aten::_grouped_mm. */
MUST_USE int lower_grouped(const struct call *call, struct bridge_value *rets,
                           struct pt2_err *err);
/* llama::update_cache, llama::custom_sdpa. */
MUST_USE int lower_update_cache(const struct call *call, struct bridge_value *rets,
                                struct pt2_err *err);
MUST_USE int lower_custom_sdpa(const struct call *call, struct bridge_value *rets,
                               struct pt2_err *err);
/* torchao::choose_qparams_affine, quantize_affine, dequantize_affine. */
MUST_USE int lower_torchao(const struct call *call, struct bridge_value *rets,
                           struct pt2_err *err);

#endif
