/* fuzz_plan.c - a models/model.json, compiled as a plan; what compiles is printed, and run.
 *
 * The archive around it is made from the JSON: each parameter, buffer and constant as its
 * metadata says, small parameters with numbers, all else zeros.  Mutations are of the graph
 * (mutate_plan.c), so that most of them still parse. */
#include "fuzz.h"

#include "plan_run.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAX_NUMBERS   (INT64_C(1) << 16) /* elements of a parameter that are no zeros */
#define MAX_PAYLOADS  512
#define MAX_BATCH     8
#define MAX_POSITIONS 4096
#define MAX_BYTES     (UINT64_C(1) << 26) /* of registers and caches, to be run */
#define N_TOKENS      40 /* more than RUN_TAIL_ROWS */

const char fuzz_name[] = "plan";
const char *const fuzz_corpus[] = {"tests/data/model-json/llama-batch2-seq4.json",
                                   "tests/data/model-json/mistral-window.json", NULL};

const char *__asan_default_options(void);
const char *__asan_default_options(void) /* what is too large must fail as calloc does */
{
    return "allocator_may_return_null=1:max_allocation_size_mb=4096";
}

/* ---- the archive ---- */

/* Elements of the contiguous tensor; -1: none that an archive can have. */
static int64_t count(const struct pt2_tensor_meta *meta)
{
    int64_t n = 1;

    for (unsigned d = 0; d < meta->n_dims; d++)
        if (meta->sizes[d].expr || meta->sizes[d].value < 0 ||
            __builtin_mul_overflow(n, meta->sizes[d].value, &n))
            return -1;
    return n;
}

static int write_numbers(struct pt2_writer *w, enum pt2_dtype dtype, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        float f = (float)((i * 37 + i / 16 * 5) % 63 - 31) / 32;
        uint32_t bits;
        uint16_t half;

        memcpy(&bits, &f, sizeof(bits));
        half = (uint16_t)(bits >> 16);
        if (pt2_writer_add(w, dtype == PT2_FLOAT32 ? (void *)&f : (void *)&half,
                           dtype == PT2_FLOAT32 ? sizeof(f) : sizeof(half), NULL) < 0)
            return -1;
    }
    return 0;
}

static int write_payload(struct pt2_writer *w, enum pt2_table table,
                         const struct pt2_payload_entry *e, int64_t n)
{
    bool has_numbers = table == PT2_TABLE_WEIGHTS && n <= MAX_NUMBERS &&
                       (e->dtype == PT2_FLOAT32 || e->dtype == PT2_BFLOAT16);

    if (pt2_writer_begin_tensor(w, table, e->record,
                                has_numbers ? (uint64_t)n * pt2_dtype_size(e->dtype) : 0,
                                NULL) < 0 ||
        (has_numbers && write_numbers(w, e->dtype, n) < 0))
        return -1;
    return pt2_writer_end(w, NULL);
}

static int write_table(struct pt2_writer *w, const struct pt2_program *program,
                       enum pt2_table table)
{
    struct pt2_payload_entry entries[MAX_PAYLOADS];
    uint32_t n = 0;

    for (uint32_t i = 0; i < pt2_program_n_inputs(program); i++) {
        const struct pt2_input *in = pt2_program_input(program, i);
        const struct pt2_tensor_meta *meta = &pt2_program_value(program, in->value)->meta;
        struct pt2_payload_entry *e = &entries[n];
        bool is_weight = in->kind == PT2_INPUT_PARAMETER ||
                         (in->kind == PT2_INPUT_BUFFER && in->persistent);

        if (in->kind == PT2_INPUT_USER || is_weight != (table == PT2_TABLE_WEIGHTS))
            continue;
        if (n == MAX_PAYLOADS || count(meta) < 0)
            return -1;
        *e = (struct pt2_payload_entry){.fqn = in->fqn, .record = n++, .dtype = meta->dtype,
                                        .n_dims = meta->n_dims,
                                        .is_param = in->kind == PT2_INPUT_PARAMETER};
        for (unsigned d = 0; d < meta->n_dims; d++)
            e->sizes[d] = meta->sizes[d].value;
        if (write_payload(w, table, e, count(meta)) < 0)
            return -1;
    }
    return pt2_writer_payloads(w, table, entries, n, NULL);
}

static int write_archive(int fd, const char *json, size_t len,
                         const struct pt2_program *program)
{
    struct pt2_writer *w = NULL;
    uint8_t sha256[32];
    uint64_t bytes;
    int r;

    r = pt2_writer_new(fd, "fuzz", &w, NULL) < 0 || pt2_writer_fixed(w, NULL) < 0 ||
                pt2_writer_model(w, json, len, NULL) < 0 ||
                write_table(w, program, PT2_TABLE_WEIGHTS) < 0 ||
                write_table(w, program, PT2_TABLE_CONSTANTS) < 0
            ? -1
            : pt2_writer_finish(w, sha256, &bytes, NULL);
    pt2_writer_free(w);
    return r;
}

/* ---- the plan ---- */

static int64_t n_ids(const struct plan *plan)
{
    int64_t n = plan->decoder.vocab_size;

    for (size_t i = 0; i < plan->n_steps; i++)
        if (plan->steps[i].op == PLAN_EMBED)
            n = MIN(n, (int64_t)plan->steps[i].embed.n_rows);
    return n;
}

static void run_tokens(struct plan_run *r)
{
    const struct pt2_decoder *d = &r->plan->decoder;
    int64_t n = MIN(MIN(d->max_cache_len, N_TOKENS), RUN_MAX_ROWS / d->batch_size);
    int64_t ids[MAX_BATCH * N_TOKENS];
    float *logits;

    if ((uint64_t)(d->batch_size * n) * (uint64_t)d->vocab_size > 1 << 22)
        return;
    logits = calloc((size_t)(d->batch_size * n * d->vocab_size), sizeof(*logits));
    FUZZ_CHECK(logits != NULL);
    for (int64_t i = 0; i < d->batch_size * n; i++)
        ids[i] = i * 7 % n_ids(r->plan);
    plan_run_tokens(r, ids, n, n, logits);
    plan_run_tokens(r, ids, MIN(n, 3), 1, logits);
    free(logits);
}

/* Is it small enough to be run here, again and again? */
static bool is_small(const struct plan *plan)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < plan->n_registers; i++)
        bytes += (uint64_t)plan->widths[i] * RUN_MAX_ROWS * sizeof(float);
    for (size_t i = 0; i < plan->n_caches; i++)
        bytes += (uint64_t)plan->decoder.max_cache_len * plan->caches[i].kv_heads *
                 (plan->caches[i].head_dim + plan->caches[i].v_head_dim) * sizeof(float);
    return plan->decoder.batch_size <= MAX_BATCH &&
           plan->decoder.max_cache_len <= MAX_POSITIONS && bytes < MAX_BYTES;
}

static void compile(const char *path)
{
    struct plan_run r = {0};
    struct pt2_err err = {0};
    const struct kernels *kernels;
    char *text = NULL;

    if (pt2_archive_open(path, &r.archive, &err) == 0 &&
        pt2_program_read(r.archive, &r.program, &err) == 0 &&
        plan_compile(r.archive, r.program, &r.plan, &err) == 0) {
        FUZZ_CHECK(kernels_choose(&kernels, NULL) == 0);
        FUZZ_CHECK(plan_print(r.plan, kernels, &text, NULL) == 0);
        if (is_small(r.plan)) {
            FUZZ_CHECK(plan_run_start(&r, NULL) == 0);
            run_tokens(&r);
        }
    } else {
        FUZZ_CHECK(err.code && *err.text && !r.plan);
    }
    free(text);
    plan_run_close(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pt2_program *program = NULL;
    char path[40];
    int fd;

    if (pt2_program_parse((const char *)data, size, &program, NULL) < 0)
        return 0;
    fd = memfd_create("fuzz_plan", MFD_CLOEXEC);
    FUZZ_CHECK(fd >= 0);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (write_archive(fd, (const char *)data, size, program) == 0)
        compile(path);
    close(fd);
    pt2_program_free(program);
    return 0;
}
