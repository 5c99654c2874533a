/* kern_vec.h - vectors of LANES floats, and the elements of the three dtypes as such.
 * Part of kern_body.h. */

typedef float vec __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef uint32_t uvec __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef uint16_t hvec __attribute__((vector_size(LANES * 2), aligned(2), may_alias));
typedef int8_t bvec __attribute__((vector_size(LANES), aligned(1), may_alias));
typedef uint16_t pairs __attribute__((vector_size(LANES * 4), aligned(2), may_alias));

/* The loops of a tile's sums, whose trip counts are constants. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNROLL /* what sanitizers make of it takes minutes to compile */
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif
#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const float *p)
{
    return *(const vec *)p;
}

INLINE void store(float *p, vec v)
{
    *(vec *)p = v;
}

INLINE vec splat(float f)
{
    return f - (vec){};
}

/* The first n of the elements at p, the other lanes zero. */
INLINE vec load_part(const float *p, size_t n)
{
#ifdef KERN_LOAD_PART
    return KERN_LOAD_PART(p, n);
#else
    vec v = {};

    memcpy(&v, p, n * sizeof(float));
    return v;
#endif
}

INLINE void store_part(float *p, vec v, size_t n)
{
#ifdef KERN_STORE_PART
    KERN_STORE_PART(p, v, n);
#else
    memcpy(p, &v, n * sizeof(float));
#endif
}

/* By halves: lane l + lane l + LANES/2, and so on. */
INLINE float sum_lanes(vec v)
{
    float part[LANES];

    memcpy(part, &v, sizeof(part));
    for (int n = LANES / 2; n > 0; n /= 2)
        for (int l = 0; l < n; l++)
            part[l] += part[l + n];
    return part[0];
}

/* Lane l from lane l ^ h of a, or where l has the bit h, of b; and the same without crossing:
 * their sum is a's halves added in the lanes without h, and b's in those with it. */
#if LANES == 16
#define EACH_LANE(f, h)                                                                   \
    f(0, h), f(1, h), f(2, h), f(3, h), f(4, h), f(5, h), f(6, h), f(7, h), f(8, h),      \
        f(9, h), f(10, h), f(11, h), f(12, h), f(13, h), f(14, h), f(15, h)
#elif LANES == 8
#define EACH_LANE(f, h) f(0, h), f(1, h), f(2, h), f(3, h), f(4, h), f(5, h), f(6, h), f(7, h)
#else
#define EACH_LANE(f, h) f(0, h), f(1, h), f(2, h), f(3, h)
#endif
#define LANE_ITSELF(l, h)  (l)
#define LANE_ACROSS(l, h)  ((l) ^ (h))
#define SAME_LANE(l, h)    ((l) & (h) ? LANES + (l) : (l))
#define CROSSED_LANE(l, h) (((l) & (h) ? LANES + (l) : (l)) ^ (h))
#define ADD_HALVES(a, b, h)                                                               \
    (__builtin_shuffle(a, b, (ivec){EACH_LANE(SAME_LANE, h)}) +                           \
     __builtin_shuffle(a, b, (ivec){EACH_LANE(CROSSED_LANE, h)}))

/* Lane l: what sum_lanes makes of sums[l].  LANES of them, overwritten. */
INLINE vec sum_each(vec *sums)
{
#if LANES >= 16
    UNROLL for (int i = 0; i < 8; i++)
        sums[i] = ADD_HALVES(sums[i], sums[i + 8], 8);
#endif
#if LANES >= 8
    UNROLL for (int i = 0; i < 4; i++)
        sums[i] = ADD_HALVES(sums[i], sums[i + 4], 4);
#endif
    UNROLL for (int i = 0; i < 2; i++)
        sums[i] = ADD_HALVES(sums[i], sums[i + 2], 2);
    return ADD_HALVES(sums[0], sums[1], 1);
}

/* All ones in the first n lanes. */
INLINE ivec first_lanes(size_t n)
{
    return (ivec){EACH_LANE(LANE_ITSELF, 0)} < (int32_t)n;
}

/* Where mask is all ones a, where it is zero b. */
INLINE vec choose(ivec mask, vec a, vec b)
{
    return (vec)((mask & (ivec)a) | (~mask & (ivec)b));
}

/* The larger one; b where one is NaN. */
#ifndef KERN_MAX
#define KERN_MAX(a, b) choose((a) > (b), a, b)
#define KERN_MIN(a, b) choose((a) < (b), a, b)
#endif

#define ACROSS(v, h) __builtin_shuffle(v, (ivec){EACH_LANE(LANE_ACROSS, h)})

/* The largest lane; no lane is NaN. */
INLINE float max_lanes(vec v)
{
#if LANES >= 16
    v = KERN_MAX(v, ACROSS(v, 8));
#endif
#if LANES >= 8
    v = KERN_MAX(v, ACROSS(v, 4));
#endif
    v = KERN_MAX(v, ACROSS(v, 2));
    v = KERN_MAX(v, ACROSS(v, 1));
    return v[0];
}

INLINE bool any_lane(ivec mask)
{
#if LANES >= 16
    mask |= ACROSS(mask, 8);
#endif
#if LANES >= 8
    mask |= ACROSS(mask, 4);
#endif
    mask |= ACROSS(mask, 2);
    mask |= ACROSS(mask, 1);
    return mask[0] != 0;
}

/* ---- elements of a dtype as vectors of floats ---- */

/* WEIGHTS_DOT: bfloat16 by KERN_DOT_BF16, where there is one. */
enum kern_weights { WEIGHTS_F32, WEIGHTS_BF16, WEIGHTS_F16, WEIGHTS_I8, WEIGHTS_DOT };

INLINE size_t weight_size(enum kern_weights kind)
{
    return kind == WEIGHTS_F32 ? 4 : kind == WEIGHTS_I8 ? 1 : 2;
}

/* As bf16_to_float and f16_to_float. */
#ifndef KERN_WIDEN_BF16
#define KERN_WIDEN_BF16(p) ((vec)(__builtin_convertvector(*(const hvec *)(p), uvec) << 16))
#endif
#ifndef KERN_WIDEN_F16
INLINE vec widen_f16(const uint8_t *p)
{
    uvec h = __builtin_convertvector(*(const hvec *)p, uvec);
    uvec a = (h & 0x7fff) << 13, sign = (h & 0x8000) << 16;
    uvec is_finite = (uvec)(a < 0x0f800000);

    return (vec)(sign | (is_finite & (uvec)((vec)a * 0x1p112f)) |
                 (~is_finite & (a | 0x7f800000)));
}
#define KERN_WIDEN_F16 widen_f16
#endif

#ifndef KERN_WIDEN_I8
#define KERN_WIDEN_I8(p) __builtin_convertvector(*(const bvec *)(p), vec)
#endif

INLINE vec widen(enum kern_weights kind, const uint8_t *p)
{
    if (kind == WEIGHTS_I8)
        return KERN_WIDEN_I8(p);
    if (kind == WEIGHTS_BF16)
        return KERN_WIDEN_BF16(p);
    if (kind == WEIGHTS_F16)
        return KERN_WIDEN_F16(p);
    if (kind == WEIGHTS_DOT)
        return (vec) * (const pairs *)p;
    return *(const vec *)p;
}

/* The first n elements at p, the others zero. */
INLINE vec widen_part(enum kern_weights kind, const uint8_t *p, size_t n)
{
    uint8_t part[LANES * 4] = {0};

    memcpy(part, p, n * weight_size(kind));
    return widen(kind, part);
}

/* n elements as floats. */
INLINE void widen_all(enum kern_weights kind, const uint8_t *from, size_t n, float *to)
{
    size_t i = 0;

    for (; i + LANES <= n; i += LANES)
        store(to + i, widen(kind, from + i * weight_size(kind)));
    if (i < n)
        store_part(to + i, widen_part(kind, from + i * weight_size(kind), n - i), n - i);
}
