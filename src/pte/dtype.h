/* dtype.h - ExecuTorch's ScalarType (runtime/core/portable_type/scalar_type.h). */
#ifndef PTE_DTYPE_H
#define PTE_DTYPE_H

#include <pt2/dtype.h>

/* -1 where a program here has no tensor of it. */
static inline int pte_scalar_type(enum pt2_dtype dtype)
{
    switch (dtype) {
    case PT2_UINT8:
        return 0;
    case PT2_INT8:
        return 1;
    case PT2_INT32:
        return 3;
    case PT2_INT64:
        return 4;
    case PT2_FLOAT16:
        return 5;
    case PT2_FLOAT32:
        return 6;
    case PT2_BOOL:
        return 11;
    case PT2_BFLOAT16:
        return 15;
    default:
        return -1;
    }
}

#endif
