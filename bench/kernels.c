/* kernels.c - how fast are the native engine's inner loops beside what the machine can do?
 *
 *     kernels [SECONDS [ISA [THREADS]]]
 *
 * SECONDS for each figure, 1; of one instruction set, not all; on so many threads, not one
 * for each core.  One thread's figures are of its own processor time, and so hold on a
 * machine that does other things as well.
 *
 * In one run: the bandwidth of reading memory, the peak of multiplications and additions, a
 * meeting of the team; and for each instruction set and dtype the linears of a SmolLM2-135M
 * layer on 1 row (GB/s of weights, share of the bandwidth) and on 16, 64 and 512 (GFLOP/s,
 * share of the peak).  The same of weights of 4 and 8 bits: rows quantised (q) or of floats
 * (w), GB/s as packed, scales and all.  The layers of a model that no cache holds are timed
 * one after another; a figure is the best time of one. */
#include "base/clock.h"
#include "native/kernels.h"
#include "native/team.h"

#include <float.h>
#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define HIDDEN   576
#define N_LAYERS 30
#define MAX_K    1536
#define MAX_ROWS 512
#define BLOCK    16 /* outputs, dealt in these */

static const struct matrix {
    size_t n_out, k;
} layer[] = {
    {576, HIDDEN},  {192, HIDDEN},  {192, HIDDEN},  /* query, key, value */
    {HIDDEN, 576},                                  /* output */
    {1536, HIDDEN}, {1536, HIDDEN}, {HIDDEN, 1536}, /* gate, up, down */
};

struct bench {
    struct team *team;
    unsigned n_parts;
    double seconds;
    const struct kernels *kernels;
    enum pt2_dtype dtype;
    unsigned bits, group; /* of packed weights; group 0: per channel */
    bool is_weight_only;
    size_t n_rows;
    float *x, *y;           /* (MAX_ROWS, the widest) */
    const uint8_t *weights; /* of a layer */
    size_t bytes;           /* of it */
    void **packed;          /* by part */
};

static size_t layer_elements(void)
{
    size_t n = 0;

    for (size_t i = 0; i < ARRAY_LEN(layer); i++)
        n += layer[i].n_out * layer[i].k;
    return n;
}

/* ---- the jobs of a team ---- */

static void read_all(void *context, unsigned part)
{
    typedef uint64_t words __attribute__((vector_size(64), aligned(64)));
    struct bench *b = context;
    size_t n = b->bytes / 64, from = n * part / b->n_parts, to = n * (part + 1) / b->n_parts;
    const words *at = (const words *)b->weights;
    words sums[4] = {0};

    for (; from + 4 <= to; from += 4)
        for (size_t i = 0; i < 4; i++)
            sums[i] |= at[from + i];
    sums[0] |= sums[1] | sums[2] | sums[3];
    *(volatile words *)b->packed[part] = sums[0];
}

static void linears(void *context, unsigned part)
{
    struct bench *b = context;
    size_t size = pt2_dtype_size(b->dtype);
    const uint8_t *w = b->weights;

    for (size_t i = 0; i < ARRAY_LEN(layer); i++) {
        size_t k = layer[i].k, n = layer[i].n_out / BLOCK;
        size_t from = n * part / b->n_parts * BLOCK, to = n * (part + 1) / b->n_parts * BLOCK;
        struct kernel_rows x =
            b->kernels->pack[b->dtype](b->x, k, b->n_rows, k, b->packed[part]);

        b->kernels->linear[b->dtype](x, b->n_rows, w + from * k * size, k, to - from,
                                     b->y + from, layer[i].n_out, NULL);
        w += layer[i].n_out * k * size;
        team_meet(b->team);
    }
}

static struct quant_shape quant_shape(const struct bench *b, size_t i)
{
    unsigned k = (unsigned)layer[i].k;

    return (struct quant_shape){(uint32_t)layer[i].n_out, k, b->group ? b->group : k, b->bits};
}

static size_t quant_layer_bytes(const struct bench *b)
{
    size_t n = 0;

    for (size_t i = 0; i < ARRAY_LEN(layer); i++) {
        struct quant_shape shape = quant_shape(b, i);

        n += quant_packed_bytes(&shape);
    }
    return n;
}

static void quant_linears(void *context, unsigned part)
{
    struct bench *b = context;
    const uint8_t *w = b->weights;

    for (size_t i = 0; i < ARRAY_LEN(layer); i++) {
        struct quant_shape shape = quant_shape(b, i);
        size_t k = layer[i].k, n = layer[i].n_out / QUANT_PANEL;
        uint32_t from = (uint32_t)(n * part / b->n_parts * QUANT_PANEL);
        uint32_t to = (uint32_t)(n * (part + 1) / b->n_parts * QUANT_PANEL);

        if (b->is_weight_only) {
            b->kernels->linear_w(b->x, k, b->n_rows, &shape, w, from, to - from, b->y + from,
                                 layer[i].n_out);
        } else {
            b->kernels->quantize_rows(b->x, k, b->n_rows, k, FLT_MIN, b->packed[part]);
            b->kernels->linear_q8(b->packed[part], b->n_rows, &shape, w, from, to - from,
                                  b->y + from, layer[i].n_out);
        }
        w += quant_packed_bytes(&shape);
        team_meet(b->team);
    }
}

#define MEETINGS 1000

static void meetings(void *context, unsigned part)
{
    struct bench *b = context;

    (void)part;
    for (size_t i = 0; i < MEETINGS; i++)
        team_meet(b->team);
}

/* Independent sums in registers, enough of them to hide an addition's latency. */
#define PEAK_ROUNDS 100000
#define PEAK_SUMS   12

#define DEFINE_PEAK(name, isa, lanes, add_product)                                        \
    isa static void name(void *context, unsigned part)                                    \
    {                                                                                     \
        typedef float vec __attribute__((vector_size((lanes) * 4)));                      \
        struct bench *b = context;                                                        \
        vec sums[PEAK_SUMS] = {0}, by = {0};                                              \
                                                                                          \
        for (int s = 0; s < PEAK_SUMS; s++) /* nobody knows that they are all alike */    \
            __asm__ volatile("" : "+" VECTOR_REGISTER(sums[s]));                          \
        for (size_t i = 0; i < PEAK_ROUNDS; i++) {                                        \
            _Pragma("GCC unroll 12") for (int s = 0; s < PEAK_SUMS; s++)                  \
                sums[s] = add_product(sums[s], by);                                       \
            __asm__ volatile("" : "+" VECTOR_REGISTER(by));                               \
        }                                                                                 \
        for (int s = 1; s < PEAK_SUMS; s++)                                               \
            sums[0] += sums[s];                                                           \
        *(volatile float *)b->packed[part] = sums[0][0];                                  \
    }
#define ADD_PRODUCT(sum, by) ((sum) * (by) + (by))
#if defined(__x86_64__)
#define VECTOR_REGISTER "v"
#define ADD_DOT(sum, by)                                                                  \
    ((vec)_mm512_dpbf16_ps((__m512)(sum), (__m512bh)(by), (__m512bh)(by)))
DEFINE_PEAK(peak_avx2, __attribute__((target("avx2,fma"))), 8, ADD_PRODUCT)
DEFINE_PEAK(peak_avx512, __attribute__((target("avx512f"))), 16, ADD_PRODUCT)
DEFINE_PEAK(peak_avx512bf16, __attribute__((target("avx512f,avx512bf16"))), 16, ADD_DOT)
#else
#define VECTOR_REGISTER "w"
#endif
DEFINE_PEAK(peak_plain, , 4, ADD_PRODUCT)

static const struct peak {
    const char *isa;
    void (*job)(void *context, unsigned part);
    double flops; /* of a sum's step */
} peaks[] = {
#if defined(__x86_64__)
    {"avx2", peak_avx2, 16},
    {"avx512", peak_avx512, 32},
    {"avx512bf16", peak_avx512bf16, 64},
#endif
    {"", peak_plain, 8}, /* the last: any */
};

/* ---- timing ---- */

static int64_t now_ns(const struct bench *b)
{
    struct timespec t;

    if (b->n_parts > 1)
        return clock_mono_ns();
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The job's best time, in seconds: on each layer in turn, for b->seconds. */
static double best_time(struct bench *b, void (*job)(void *context, unsigned part),
                        const uint8_t *weights)
{
    int64_t end = clock_mono_ns() + (int64_t)(b->seconds * 1e9), best = INT64_MAX;

    for (size_t i = 0; i < 3 || clock_mono_ns() < end; i++) {
        int64_t start;

        b->weights = weights + i % N_LAYERS * b->bytes;
        start = now_ns(b);
        team_run(b->team, job, b);
        best = MIN(best, now_ns(b) - start);
    }
    return (double)best * 1e-9;
}

static double gflops_of_peak(struct bench *b, const char *isa, const uint8_t *weights)
{
    size_t i = 0;

    while (i + 1 < ARRAY_LEN(peaks) && !streq(peaks[i].isa, isa))
        i++;
    return peaks[i].flops * PEAK_SUMS * PEAK_ROUNDS * b->n_parts /
           best_time(b, peaks[i].job, weights) * 1e-9;
}

/* ---- the report ---- */

static void measure(struct bench *b, const struct kernels *kernels, enum pt2_dtype dtype,
                    const uint8_t *weights)
{
    static const size_t n_rows[] = {1, 16, 64, MAX_ROWS};
    bool is_dot = dtype == PT2_BFLOAT16 && streq(kernels->name, "avx512bf16");
    bool is_512 = strncmp(kernels->name, "avx512", 6) == 0;
    double peak, bandwidth;

    b->kernels = kernels;
    b->dtype = dtype;
    b->bytes = layer_elements() * pt2_dtype_size(dtype);
    bandwidth = (double)b->bytes / best_time(b, read_all, weights);
    peak = gflops_of_peak(b, is_dot ? kernels->name : is_512 ? "avx512" : kernels->name,
                          weights);
    printf("%-10s %-8s", kernels->name, pt2_dtype_name(dtype));
    for (size_t i = 0; i < ARRAY_LEN(n_rows); i++) {
        double seconds, flops = 2.0 * (double)(layer_elements() * n_rows[i]);

        b->n_rows = n_rows[i];
        seconds = best_time(b, linears, weights);
        if (n_rows[i] == 1)
            printf("  %5.1f GB/s (%3.0f %% of %.1f)", (double)b->bytes / seconds * 1e-9,
                   (double)b->bytes / seconds / bandwidth * 100, bandwidth * 1e-9);
        else
            printf("  %4zu: %5.1f (%3.0f %%)", n_rows[i], flops / seconds * 1e-9,
                   flops / seconds * 1e-9 / peak * 100);
        fflush(stdout);
    }
    printf("  of %.1f GFLOP/s\n", peak);
}

static void measure_quant(struct bench *b, const struct kernels *kernels, unsigned bits,
                          unsigned group, bool is_weight_only, const uint8_t *weights)
{
    static const size_t n_rows[] = {1, 16, 64, MAX_ROWS};
    double bandwidth;

    b->kernels = kernels;
    b->bits = bits;
    b->group = group;
    b->is_weight_only = is_weight_only;
    b->bytes = quant_layer_bytes(b);
    bandwidth = (double)b->bytes / best_time(b, read_all, weights);
    printf("%-10s %c%u g%-4u", kernels->name, is_weight_only ? 'w' : 'q', bits, group);
    for (size_t i = 0; i < ARRAY_LEN(n_rows); i++) {
        double seconds, ops = 2.0 * (double)(layer_elements() * n_rows[i]);

        b->n_rows = n_rows[i];
        seconds = best_time(b, quant_linears, weights);
        if (n_rows[i] == 1)
            printf("  %5.1f GB/s (%3.0f %% of %.1f)", (double)b->bytes / seconds * 1e-9,
                   (double)b->bytes / seconds / bandwidth * 100, bandwidth * 1e-9);
        else
            printf("  %4zu: %5.1f", n_rows[i], ops / seconds * 1e-9);
        fflush(stdout);
    }
    printf("  GOP/s\n");
}

static void *new_bytes(size_t n)
{
    void *p = aligned_alloc(64, (n + 63) / 64 * 64);

    if (!p)
        exit(1);
    memset(p, 0, n);
    return p;
}

int main(int argc, char **argv)
{
    static const enum pt2_dtype dtypes[] = {PT2_FLOAT32, PT2_BFLOAT16, PT2_FLOAT16};
    static const struct {
        unsigned bits, group;
        bool is_weight_only;
    } quants[] = {{4, 32, false}, {4, 128, false}, {8, 0, false}, {4, 32, true}, {8, 0, true}};
    struct bench b = {.seconds = argc > 1 ? atof(argv[1]) : 1};
    struct pt2_err err = {0};
    size_t n = layer_elements() * N_LAYERS;
    uint8_t *weights = new_bytes(n * sizeof(float));
    const struct kernels *kernels;

    if (team_new(argc > 3 ? (unsigned)atoi(argv[3]) : 0, &b.team, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    b.n_parts = team_n_threads(b.team);
    b.x = new_bytes(MAX_ROWS * MAX_K * sizeof(float));
    b.y = new_bytes(MAX_ROWS * MAX_K * sizeof(float));
    b.packed = new_bytes(b.n_parts * sizeof(void *));
    for (unsigned p = 0; p < b.n_parts; p++)
        b.packed[p] =
            new_bytes(MAX_ROWS * MAX(KERNEL_ROW_BYTES(MAX_K), QUANT_ROW_BYTES(MAX_K)));
    memset(weights, 0x3c, n * sizeof(float)); /* no subnormals, in any dtype */
    printf("%u threads; a meeting of theirs: %.0f ns\n", b.n_parts,
           best_time(&b, meetings, weights) / MEETINGS * 1e9);
    for (size_t i = 0; (kernels = kernels_at(i)); i++)
        for (size_t d = 0; d < ARRAY_LEN(dtypes); d++)
            if (argc < 3 || streq(argv[2], kernels->name))
                measure(&b, kernels, dtypes[d], weights);
    for (size_t i = 0; (kernels = kernels_at(i)); i++)
        for (size_t c = 0; c < ARRAY_LEN(quants); c++)
            if (argc < 3 || streq(argv[2], kernels->name))
                measure_quant(&b, kernels, quants[c].bits, quants[c].group,
                              quants[c].is_weight_only, weights);
    team_free(b.team);
    return 0;
}
