/* check_experts.c - experts of a plan: as computed in double precision; the same bits for a
 * row alone and among others, on any number of threads; and no weights read but those of
 * experts that were chosen. */
#include "native/run.h"

#include "suite.h"

#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define N_EXPERTS 9
#define N_CHOSEN  3
#define K         300
#define N_OUT     533 /* more than a turn's outputs; no multiple of a block of them */
#define N_TOKENS  200 /* more than a turn's rows */
#define UNCHOSEN  4
#define WIDTH     (K + N_EXPERTS) /* of a token: an input, and what each expert scores */
#define N_ANSWER  (N_CHOSEN * N_OUT)

struct kind {
    enum pt2_dtype dtype;
    bool is_transposed;
};

static const struct kind kinds[] = {
    {PT2_FLOAT32, false}, {PT2_BFLOAT16, false}, {PT2_FLOAT16, false},
    {PT2_FLOAT32, true},  {PT2_BFLOAT16, true},  {PT2_FLOAT16, true},
};

/* A plan by hand: embed, topk of the scores, experts, the answer. */
struct experts {
    struct plan plan;
    struct plan_step steps[4];
    uint32_t widths[3];
    float *tokens;  /* (N_TOKENS, WIDTH) */
    float *weights; /* as the dtype has them */
    void *mapped;
    size_t bytes;
};

static uint32_t dice = 1;

/* A multiple of 1/32 between -1 and 1: exact in each dtype. */
static float draw(void)
{
    dice = dice * 1664525 + 1013904223;
    return (float)((int)((dice >> 16) % 65) - 32) / 32;
}

/* Most tokens choose expert 0; none of them UNCHOSEN. */
static void make_tokens(struct experts *e)
{
    e->tokens = calloc((size_t)N_TOKENS * WIDTH, sizeof(float));
    for (size_t t = 0; t < N_TOKENS; t++) {
        float *token = e->tokens + t * WIDTH;

        for (size_t i = 0; i < WIDTH; i++)
            token[i] = draw();
        token[K] += t % 5 ? 4 : 0;
        token[K + UNCHOSEN] = -9;
    }
}

static void make_weights(struct experts *e, const struct kind *kind,
                         const struct kernels *kernels)
{
    size_t n = (size_t)N_EXPERTS * N_OUT * K;

    e->weights = malloc(n * sizeof(float));
    for (size_t i = 0; i < n; i++)
        e->weights[i] = draw();
    e->bytes = n * pt2_dtype_size(kind->dtype);
    e->mapped = mmap(NULL, e->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert(e->mapped != MAP_FAILED);
    if (kind->dtype == PT2_FLOAT32)
        memcpy(e->mapped, e->weights, e->bytes);
    else
        kernels->narrow[kind->dtype](e->weights, n, e->mapped);
}

/* A read of what nobody chose ends the process. */
static void protect_unchosen(const struct experts *e)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), each = e->bytes / N_EXPERTS;
    size_t from = (UNCHOSEN * each + page - 1) / page * page,
           to = (UNCHOSEN + 1) * each / page * page;

    ck_assert_int_eq(mprotect((uint8_t *)e->mapped + from, to - from, PROT_NONE), 0);
}

static void experts_init(struct experts *e, const struct kind *kind,
                         const struct kernels *kernels)
{
    static const struct plan_step blank = {.sizes = {1, 1, 1, 1}};

    memset(e, 0, sizeof(*e));
    make_tokens(e);
    make_weights(e, kind, kernels);
    protect_unchosen(e);
    for (size_t i = 0; i < ARRAY_LEN(e->steps); i++)
        e->steps[i] = blank;
    e->steps[0].op = PLAN_EMBED;
    e->steps[0].out = 0;
    e->steps[0].sizes[3] = WIDTH;
    e->steps[0].embed.weights = e->tokens;
    e->steps[0].embed.dtype = PT2_FLOAT32;
    e->steps[0].embed.n_rows = N_TOKENS;
    e->steps[0].embed.width = WIDTH;
    e->steps[0].embed.scale = 1;
    e->steps[1].op = PLAN_TOPK;
    e->steps[1].out = 1;
    e->steps[1].sizes[3] = N_CHOSEN;
    e->steps[1].in = (struct plan_view){.offset = K, .strides = {0, 0, 0, 1}};
    e->steps[1].topk.n = N_EXPERTS;
    e->steps[1].topk.is_sorted = true;
    e->steps[2].op = PLAN_EXPERTS;
    e->steps[2].out = 2;
    e->steps[2].sizes[2] = N_CHOSEN;
    e->steps[2].sizes[3] = N_OUT;
    e->steps[2].b = (struct plan_view){.i = 1, .strides = {1}};
    e->steps[2].experts = (struct plan_experts){
        .weights = e->mapped, .is_transposed = kind->is_transposed, .dtype = kind->dtype,
        .n_experts = N_EXPERTS, .n_chosen = N_CHOSEN, .n_out = N_OUT, .k = K};
    e->steps[3].op = PLAN_LOGITS;
    e->steps[3].sizes[3] = N_ANSWER;
    e->steps[3].in = (struct plan_view){.i = 2, .strides = {0, 0, 0, 1}};
    e->widths[0] = (WIDTH + 15) / 16 * 16;
    e->widths[1] = 16;
    e->widths[2] = (N_ANSWER + 15) / 16 * 16;
    e->plan = (struct plan){.steps = e->steps, .n_steps = 4, .tail = 3, .widths = e->widths,
                            .n_registers = 3};
    e->plan.decoder.vocab_size = N_ANSWER;
}

static void experts_done(struct experts *e)
{
    munmap(e->mapped, e->bytes);
    free(e->tokens);
    free(e->weights);
}

/* The answers of tokens from .. from + n - 1, in runs of `chunk` rows: (n, N_ANSWER). */
static void run(const struct experts *e, const struct kernels *kernels, unsigned n_threads,
                size_t chunk, float *answers)
{
    struct block_store store = {0};
    struct plan_runner *runner;
    struct run_row rows[RUN_MAX_ROWS];
    struct pt2_err err = {0};
    struct team *team;

    ck_assert_msg(team_new(n_threads, &team, &err) == 0, "%s", err.text);
    ck_assert_msg(plan_runner_new(&e->plan, &store, kernels, team, &runner, &err) == 0, "%s",
                  err.text);
    for (size_t at = 0; at < N_TOKENS; at += chunk) {
        size_t n = MIN(chunk, N_TOKENS - at);

        for (size_t i = 0; i < n; i++)
            rows[i] = (struct run_row){.token = (int64_t)(at + i),
                                       .logits = answers + (at + i) * N_ANSWER};
        plan_runner_run(runner, rows, n);
    }
    plan_runner_free(runner);
    team_free(team);
}

static int by_score(const void *a, const void *b)
{
    const float *x = *(const float *const *)a, *y = *(const float *const *)b;

    return *x < *y ? 1 : *x > *y ? -1 : 0;
}

static void check_token(const struct experts *e, const struct kind *kind, size_t t,
                        const float *answer, const char *name)
{
    const float *x = e->tokens + t * WIDTH, *scores = x + K, *best[N_EXPERTS];

    for (size_t i = 0; i < N_EXPERTS; i++)
        best[i] = scores + i;
    qsort(best, N_EXPERTS, sizeof(best[0]), by_score);
    for (size_t c = 1; c <= N_CHOSEN; c++)
        if (*best[c] == *best[c - 1])
            return; /* which is a matter of order: check_largest */
    for (size_t c = 0; c < N_CHOSEN; c++) {
        const float *w = e->weights + (size_t)(best[c] - scores) * N_OUT * K;

        for (size_t o = 0; o < N_OUT; o++) {
            double sum = 0;

            for (size_t i = 0; i < K; i++)
                sum += (double)x[i] * (double)w[kind->is_transposed ? i * N_OUT + o : o * K + i];
            ck_assert_msg(fabs(sum - (double)answer[c * N_OUT + o]) <= 1e-4,
                          "%s, token %zu, choice %zu, output %zu: %g, not %g", name, t, c, o,
                          (double)answer[c * N_OUT + o], sum);
        }
    }
}

START_TEST(test_experts_of_any_rows_and_threads)
{
    static const struct {
        unsigned n_threads;
        size_t chunk;
    } cuts[] = {{1, 200}, {2, 1}, {2, 200}, {3, 7}, {3, 130}, {5, 65}};
    const struct kind *kind = &kinds[_i];
    size_t bytes = (size_t)N_TOKENS * N_ANSWER * sizeof(float);
    float *alone = malloc(bytes), *again = malloc(bytes);
    const struct kernels *kernels;
    struct experts e;

    for (size_t isa = 0; (kernels = kernels_at(isa)) != NULL; isa++) {
        experts_init(&e, kind, kernels);
        run(&e, kernels, 1, 1, alone);
        for (size_t t = 0; t < N_TOKENS; t += 9)
            check_token(&e, kind, t, alone + t * N_ANSWER, kernels->name);
        for (size_t i = 0; i < ARRAY_LEN(cuts); i++) {
            memset(again, 0xff, bytes);
            run(&e, kernels, cuts[i].n_threads, cuts[i].chunk, again);
            ck_assert_msg(memcmp(alone, again, bytes) == 0, "%s: %u threads, %zu rows",
                          kernels->name, cuts[i].n_threads, cuts[i].chunk);
        }
        experts_done(&e);
    }
    free(alone);
    free(again);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("experts");
    TCase *core = tcase_create("core");

    tcase_set_timeout(core, 120);
    tcase_add_loop_test(core, test_experts_of_any_rows_and_threads, 0, (int)ARRAY_LEN(kinds));
    suite_add_tcase(s, core);
    return suite_run(s);
}
