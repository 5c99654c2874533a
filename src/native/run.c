#include "native/run.h"

#include "base/log.h"
#include "native/run_impl.h"

#include <math.h>

static void *new_bytes(uint64_t n, uint64_t *bytes)
{
    uint64_t size = (n + 63) / 64 * 64;

    *bytes += size;
    return aligned_alloc(64, MAX(size, 64));
}

/* ---- making ---- */

static size_t widest_inner(const struct plan *plan)
{
    size_t k = 1;

    for (size_t i = 0; i < plan->n_steps; i++) {
        const struct plan_step *s = &plan->steps[i];

        k = MAX(k, s->op == PLAN_LINEAR && !s->linear.of_whole ? s->linear.k
                   : s->op == PLAN_EXPERTS ? s->experts.k
                                           : 1);
    }
    return k;
}

static int parts_new(struct plan_runner *r, struct pt2_err *err)
{
    size_t packed = RUN_MAX_ROWS * KERNEL_ROW_BYTES(widest_inner(r->plan)), room, partials,
           expert_room = run_experts_room(r->plan);

    r->n_parts = team_n_threads(r->team);
    run_attend_sizes(r->plan, r->n_parts, &room, &partials);
    r->packed = calloc(r->n_parts, sizeof(*r->packed));
    r->rooms = calloc(r->n_parts, sizeof(*r->rooms));
    r->expert_rooms = calloc(r->n_parts, sizeof(*r->expert_rooms));
    r->partials = new_bytes(partials, &r->bytes);
    if (!r->packed || !r->rooms || !r->expert_rooms || !r->partials)
        return pt2_err_set(err, PT2_ERR_NOMEM, "%u parts", r->n_parts);
    for (unsigned p = 0; p < r->n_parts; p++) {
        r->packed[p] = new_bytes(packed, &r->bytes);
        r->rooms[p] = new_bytes(room, &r->bytes);
        if (expert_room > 0)
            r->expert_rooms[p] = new_bytes(expert_room, &r->bytes);
        if (!r->packed[p] || !r->rooms[p] || (expert_room > 0 && !r->expert_rooms[p]))
            return pt2_err_set(err, PT2_ERR_NOMEM, "rows of a compute thread");
    }
    return 0;
}

/* What a step writes: register i of these. */
static uint32_t n_written(const struct plan_step *s)
{
    return s->op == PLAN_LINEAR                            ? s->linear.n_outs
           : s->op == PLAN_STORE || s->op == PLAN_LOGITS ? 0
                                                           : 1;
}

static int registers_new(struct plan_runner *r, struct pt2_err *err)
{
    const struct plan *plan = r->plan;
    AUTO_PTR size_t *n_rows = calloc(plan->n_registers + 1, sizeof(*n_rows));

    r->registers = calloc(plan->n_registers + 1, sizeof(*r->registers));
    if (!r->registers || !n_rows)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a plan's registers");
    for (size_t i = 0; i < plan->n_steps; i++) {
        const struct plan_step *s = &plan->steps[i];
        size_t n = i < plan->tail ? RUN_MAX_ROWS : RUN_TAIL_ROWS;

        for (uint32_t o = 0; o < n_written(s); o++) {
            uint32_t out = s->op == PLAN_LINEAR ? s->linear.outs[o].out : s->out;

            n_rows[out] = MAX(n_rows[out], n);
        }
    }
    for (size_t i = 0; i < plan->n_registers; i++) {
        r->registers[i] = new_bytes(plan->widths[i] * n_rows[i] * sizeof(float), &r->bytes);
        if (!r->registers[i])
            return pt2_err_set(err, PT2_ERR_NOMEM, "register %zu of a plan", i);
    }
    return 0;
}

static bool is_written_before_tail(const struct plan *plan, uint32_t reg)
{
    for (size_t i = 0; i < plan->tail; i++) {
        const struct plan_step *s = &plan->steps[i];

        for (uint32_t o = 0; o < n_written(s); o++)
            if ((s->op == PLAN_LINEAR ? s->linear.outs[o].out : s->out) == reg)
                return true;
    }
    return false;
}

/* Which registers do the tail's steps read before they write them?  One that they fill by
 * parts looks like that, too; it has rows for the tail alone. */
static void find_carried(struct plan_runner *r)
{
    const struct plan *plan = r->plan;

    for (size_t i = plan->n_steps; i-- > plan->tail;) {
        const struct plan_step *s = &plan->steps[i];

        if (s->op == PLAN_LINEAR) {
            for (uint32_t o = 0; o < s->linear.n_outs; o++)
                r->carried[s->linear.outs[o].out] = false;
        } else if (s->op != PLAN_LOGITS && s->out_offset == 0 &&
                   run_n_elements(s) >= r->plan->widths[s->out]) {
            r->carried[s->out] = false;
        }
        if (plan_has_first(s) && s->in.source == PLAN_REGISTER)
            r->carried[s->in.i] = true;
        if (plan_has_second(s) && s->b.source == PLAN_REGISTER)
            r->carried[s->b.i] = true;
    }
    for (uint32_t i = 0; i < plan->n_registers; i++)
        r->carried[i] = r->carried[i] && is_written_before_tail(plan, i);
}

int plan_runner_new(const struct plan *plan, const struct block_store *store,
                    const struct kernels *kernels, struct team *team,
                    struct plan_runner **ret_runner, struct pt2_err *err)
{
    AUTO(plan_runner) r = calloc(1, sizeof(*r));

    if (!r)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a plan's registers");
    r->plan = plan;
    r->store = store;
    r->kernels = kernels;
    r->team = team;
    r->carried = calloc(plan->n_registers + 1, sizeof(bool));
    if (!r->carried || parts_new(r, err) < 0 || registers_new(r, err) < 0)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a plan's registers");
    find_carried(r);
    *ret_runner = TAKE(r);
    return 0;
}

void plan_runner_free(struct plan_runner *r)
{
    if (!r)
        return;
    for (unsigned p = 0; p < r->n_parts; p++) {
        if (r->packed)
            free(r->packed[p]);
        if (r->rooms)
            free(r->rooms[p]);
        if (r->expert_rooms)
            free(r->expert_rooms[p]);
    }
    for (size_t i = 0; r->registers && i < r->plan->n_registers; i++)
        free(r->registers[i]);
    free(r->packed);
    free(r->rooms);
    free(r->expert_rooms);
    free(r->partials);
    free(r->registers);
    free(r->carried);
    free(r);
}

uint64_t plan_runner_bytes(const struct plan_runner *r)
{
    return r->bytes;
}

/* ---- running ---- */

/* How a step's work is cut.  Rows' own steps need no meeting between them: the same part has
 * the same rows again. */
enum cut { CUT_ROWS, CUT_OUTPUTS, CUT_EXPERTS, CUT_HEADS };

static enum cut cut_of(const struct plan_step *s)
{
    return s->op == PLAN_LINEAR    ? CUT_OUTPUTS
           : s->op == PLAN_EXPERTS ? CUT_EXPERTS
           : s->op == PLAN_ATTEND  ? CUT_HEADS
                                   : CUT_ROWS;
}

static struct share share_of(size_t n, unsigned part, unsigned n_parts)
{
    return (struct share){n * part / n_parts, n * (part + 1) / n_parts};
}

static void run_step(struct plan_runner *r, const struct plan_step *s, unsigned part)
{
    switch (cut_of(s)) {
    case CUT_OUTPUTS:
        run_linear(r, s, part);
        break;
    case CUT_EXPERTS:
        run_experts(r, s, part);
        break;
    case CUT_HEADS:
        run_attend(r, s, part);
        break;
    case CUT_ROWS:
        run_rows(r, s, share_of(r->n_rows, part, r->n_parts));
        break;
    }
}

static void run_steps(struct plan_runner *r, size_t from, size_t to, unsigned part)
{
    for (size_t i = from; i < to; i++) {
        enum cut cut = cut_of(&r->plan->steps[i]);

        run_step(r, &r->plan->steps[i], part);
        if (i + 1 == to || cut != CUT_ROWS || cut_of(&r->plan->steps[i + 1]) != CUT_ROWS)
            team_meet(r->team);
    }
}

/* The next rows whose logits are wanted move to the front, with what the tail reads of them. */
static void keep_wanted(struct plan_runner *r)
{
    size_t n = 0;

    for (; r->next < r->n_all && n < RUN_TAIL_ROWS; r->next++) {
        if (!r->rows[r->next].logits)
            continue;
        if (n < r->next) {
            r->rows[n] = r->rows[r->next];
            for (size_t j = 0; j < r->plan->n_registers; j++)
                if (r->carried[j])
                    memcpy(r->registers[j] + n * r->plan->widths[j],
                           r->registers[j] + r->next * r->plan->widths[j],
                           r->plan->widths[j] * sizeof(float));
        }
        n++;
    }
    r->n_rows = n;
}

static void job(void *context, unsigned part)
{
    struct plan_runner *r = context;

    run_steps(r, 0, r->plan->tail, part);
    while (true) {
        if (part == 0)
            keep_wanted(r);
        team_meet(r->team);
        if (r->n_rows == 0)
            return;
        run_steps(r, r->plan->tail, r->plan->n_steps, part);
    }
}

void plan_runner_run(struct plan_runner *r, const struct run_row *rows, size_t n_rows)
{
    ASSERT(n_rows > 0 && n_rows <= RUN_MAX_ROWS);
    memcpy(r->rows, rows, n_rows * sizeof(*rows));
    r->n_rows = r->n_all = n_rows;
    r->next = 0;
    team_run(r->team, job, r);
}
