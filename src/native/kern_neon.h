/* kern_neon.h - what NEON does for kern_body.h; KERN_NAME, KERN_TEXT and what more a processor
 * has are the including file's. */
#include <arm_neon.h>

#define LANES              4
#define ROWS               4
#define OUTS               4
#define WIDE_OUTS          8
#define QUANT_ROWS         4
#define QUANT_PANELS       1
#define WEIGHT_ROWS        4
#define KERN_WIDEN_BF16(p) ((vec)vshll_n_u16(vld1_u16((const void *)(p)), 16))
#define KERN_WIDEN_F16(p)  ((vec)vcvt_f32_f16(vld1_f16((const void *)(p))))
#define KERN_WIDEN_I8(p)                                                                 \
    ((vec)vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(                                  \
        vreinterpret_s8_u32(vld1_dup_u32((const void *)(p))))))))
#define KERN_FMA(a, b, c)  ((vec)vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b)))
#ifdef __ARM_FEATURE_DOTPROD
#define KERN_DOT_U4(sum, w, x) ((ivec)vdotq_s32((int32x4_t)(sum), (int8x16_t)(w), (int8x16_t)(x)))
#endif
