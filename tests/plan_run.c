/* plan_run.c - for the conformance tests: compile a program, print its plan, or run it.
 *
 *     plan-run FILE.pt2                      the plan
 *     plan-run FILE.pt2 CHUNK ID...          logits, float32, (batch, ids, vocab), on stdout;
 *                                            CHUNK tokens a run; batch element b gets
 *                                            ID + b, modulo the vocabulary
 * Exit status 1 where the plan is refused, the reason on stderr. */
#include "plan_run.h"

static int print(const struct plan_run *r, struct pt2_err *err)
{
    AUTO_PTR char *text = NULL;

    if (plan_describe(r->archive, r->program, &text, err) < 0)
        return -1;
    fputs(text, stdout);
    return 0;
}

static int run(struct plan_run *r, char **argv, int n, struct pt2_err *err)
{
    const struct pt2_decoder *d = &r->plan->decoder;
    size_t n_logits = (size_t)(d->batch_size * n * d->vocab_size);
    AUTO_PTR int64_t *ids = calloc((size_t)(d->batch_size * n), sizeof(*ids));
    AUTO_PTR float *logits = calloc(n_logits, sizeof(*logits));
    long chunk = strtol(argv[0], NULL, 10);

    if (chunk < 1 || chunk * d->batch_size > RUN_MAX_ROWS || n > d->max_cache_len)
        return pt2_err_set(err, PT2_ERR_INVALID, "runs of %ld tokens, %d in all", chunk, n);
    if (!ids || !logits)
        return pt2_err_set(err, PT2_ERR_NOMEM, "logits");
    for (int64_t b = 0; b < d->batch_size; b++)
        for (int i = 0; i < n; i++)
            ids[b * n + i] = (strtol(argv[1 + i], NULL, 10) + b) % d->vocab_size;
    plan_run_tokens(r, ids, n, chunk, logits);
    return fwrite(logits, sizeof(*logits), n_logits, stdout) == n_logits
               ? 0
               : pt2_err_set(err, PT2_ERR_IO, "stdout");
}

int main(int argc, char **argv)
{
    struct plan_run r = {0};
    struct pt2_err err = {0};
    int result;

    if (argc != 2 && argc < 4) {
        fprintf(stderr, "usage: %s FILE.pt2 [CHUNK ID...]\n", argv[0]);
        return 2;
    }
    result = plan_run_open(&r, argv[1], &err);
    if (result == 0)
        result = argc == 2 ? print(&r, &err) : run(&r, argv + 2, argc - 3, &err);
    if (result < 0)
        fprintf(stderr, "%s\n", err.text);
    plan_run_close(&r);
    return result < 0;
}
