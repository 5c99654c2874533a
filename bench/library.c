/* library.c - steps by the library, with no daemon and no HTTP: what the native engine itself
 * does with a program.
 *
 * usage: bench/library PROGRAM.pt2 [THREADS [PACKED]]
 *
 * PACKED: where the packing of weights of 4 and 8 bits is kept.  Tokens a second, the best of
 * five turns: one session's, at the beginning of its cache; a prompt of 512; 4 and 16 sessions
 * together. */
#include <pt2/engine.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define TURNS    5
#define STEPS    64 /* of one turn */
#define PROMPT   512
#define SESSIONS 16

struct bench {
    struct pt2_engine *engine;
    struct pt2_cache *caches[SESSIONS];
    int64_t vocab_size, ids[PROMPT];
    float *logits; /* (SESSIONS, vocab_size) */
};

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void stop(const char *what, const struct pt2_err *err)
{
    fprintf(stderr, "%s: %s\n", what, err->text);
    exit(1);
}

/* n sessions, a token each, STEPS times. */
static void run_steps(struct bench *b, int n)
{
    for (int64_t i = 0; i < STEPS; i++) {
        struct pt2_step steps[SESSIONS] = {0};

        for (int k = 0; k < n; k++)
            steps[k] = (struct pt2_step){.cache = b->caches[k],
                                         .input_ids = b->ids + i + k,
                                         .s = 1,
                                         .start = i,
                                         .rows = PT2_ROWS_LAST,
                                         .logits = b->logits + k * b->vocab_size,
                                         .ids_stride = 1,
                                         .rows_stride = 1};
        pt2_engine_steps(b->engine, steps, (size_t)n);
        for (int k = 0; k < n; k++)
            if (steps[k].err.code != PT2_ERR_NONE)
                stop("step", &steps[k].err);
    }
}

static void run_prompt(struct bench *b, int n)
{
    struct pt2_err err = {0};

    if (pt2_engine_step(b->engine, b->caches[0], b->ids, n, 0, PT2_ROWS_LAST, b->logits,
                        &err) < 0)
        stop("prompt", &err);
}

/* Tokens a second, the best of the turns. */
static double best(struct bench *b, void (*run)(struct bench *b, int n), int n, int tokens)
{
    double least = 0;

    for (int i = 0; i < TURNS; i++) {
        double begin = seconds(), took;

        run(b, n);
        took = seconds() - begin;
        if (i == 0 || took < least)
            least = took;
    }
    return tokens / least;
}

int main(int argc, char **argv)
{
    struct pt2_engine_options options = {.kind = PT2_ENGINE_NATIVE,
                                         .n_threads = argc > 2 ? atoi(argv[2]) : 2,
                                         .packed_path = argc > 3 ? argv[3] : NULL};
    struct bench b = {0};
    struct pt2_err err = {0};
    double begin = seconds(), one;

    if (argc < 2) {
        fprintf(stderr, "usage: library PROGRAM.pt2 [THREADS [PACKED]]\n");
        return 2;
    }
    if (pt2_engine_open(argv[1], &options, &b.engine, &err) < 0)
        stop("open", &err);
    printf("open: %.0f ms\n", 1e3 * (seconds() - begin));
    b.vocab_size = pt2_engine_decoder(b.engine)->vocab_size;
    b.logits = calloc(SESSIONS * (size_t)b.vocab_size, sizeof(*b.logits));
    for (int i = 0; i < PROMPT; i++)
        b.ids[i] = (i * 7919 + 13) % b.vocab_size;
    for (int i = 0; i < SESSIONS; i++)
        if (!b.logits || pt2_cache_new(b.engine, &b.caches[i], &err) < 0)
            stop("session", &err);
    one = best(&b, run_steps, 1, STEPS);
    printf("one session: %.1f tokens/s\n", one);
    printf("prompt of %d: %.0f tokens/s\n", PROMPT, best(&b, run_prompt, PROMPT, PROMPT));
    for (int n = 4; n <= SESSIONS; n *= 4) {
        double all = best(&b, run_steps, n, n * STEPS);

        printf("%d sessions: %.0f tokens/s, %.2f times one\n", n, all, all / one);
    }
    for (int i = 0; i < SESSIONS; i++)
        pt2_cache_free(b.caches[i]);
    pt2_engine_free(b.engine);
    free(b.logits);
    return 0;
}
