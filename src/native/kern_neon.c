/* kern_neon.c - the kernels for aarch64, which has NEON and conversions of float16. */
#if defined(__aarch64__)
#include <arm_neon.h>

#define KERN_NAME          kernels_neon
#define KERN_TEXT          "neon"
#define LANES              4
#define ROWS               4
#define OUTS               4
#define WIDE_OUTS          8
#define KERN_WIDEN_BF16(p) ((vec)vshll_n_u16(vld1_u16((const void *)(p)), 16))
#define KERN_WIDEN_F16(p)  ((vec)vcvt_f32_f16(vld1_f16((const void *)(p))))
#include "native/kern_body.h"
#endif
