#include "aten/warm_up.h"

#include "aten/bridge.h"
#include "base/util.h"

#define SIDE 256 /* large enough to be shared among threads */

static void multiply(enum pt2_dtype dtype, void *data)
{
    const struct bridge_op *op = bridge_op_find("aten::linear", "");
    int64_t sizes[] = {SIDE, SIDE}, strides[] = {SIDE, 1};
    struct bridge_tensor *t;
    struct bridge_value args[8] = {{.kind = BRIDGE_DEFAULT}},
                        ret = {.kind = BRIDGE_DEFAULT};

    if (!op || bridge_op_n_args(op) > ARRAY_LEN(args) ||
        bridge_tensor_wrap(data, dtype, 2, sizes, strides, &t, NULL) < 0)
        return;
    args[0] = args[1] = (struct bridge_value){.kind = BRIDGE_TENSOR, .t = t};
    if (bridge_call(op, args, &ret, 1, NULL) == 0)
        bridge_value_done(&ret);
    bridge_tensor_free(t);
}

void aten_warm_up(unsigned n_threads)
{
    AUTO_PTR void *zeros = calloc(SIDE * SIDE, sizeof(float));

    bridge_set_threads(n_threads);
    if (!zeros)
        return;
    multiply(PT2_FLOAT32, zeros);
    multiply(PT2_BFLOAT16, zeros);
    multiply(PT2_FLOAT16, zeros);
}
