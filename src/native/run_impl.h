/* run_impl.h - what run.c and the steps' files share.  Private to them. */
#ifndef NATIVE_RUN_IMPL_H
#define NATIVE_RUN_IMPL_H

#include "native/run.h"

struct plan_runner {
    const struct plan *plan;
    const struct block_store *store;
    const struct kernels *kernels;
    struct team *team;
    float **registers; /* each (RUN_MAX_ROWS, its width); RUN_TAIL_ROWS if the tail's alone */
    bool *carried;     /* registers that the tail reads as they were before it */
    unsigned n_parts;
    void **packed;   /* rows as linear reads them, by part */
    uint8_t **rooms; /* run_attend.c's, by part */
    uint8_t **expert_rooms; /* run_experts.c's, by part; NULL: the plan has none */
    float *partials; /* of attention, before they are joined */
    uint64_t bytes;
    struct run_row rows[RUN_MAX_ROWS]; /* of this run; in the tail, of these the wanted */
    size_t n_rows;
    size_t n_all, next; /* rows of the run, and those of them that the tail has done with */
};

/* A part's share of a step: from .. to - 1 of whatever is counted. */
struct share {
    size_t from, to;
};

/* Elements of a row that the step writes. */
static inline size_t run_n_elements(const struct plan_step *s)
{
    size_t n_lines = (size_t)s->sizes[0] * s->sizes[1] * s->sizes[2];

    return s->op == PLAN_REDUCE ? n_lines : n_lines * s->sizes[3];
}

/* Element 0 of what a view reads of a row. */
const float *run_view(const struct plan_runner *r, const struct plan_view *view, size_t row);
/* The row's place where a step writes. */
float *run_out(const struct plan_runner *r, const struct plan_step *s, size_t row);

void run_linear(struct plan_runner *r, const struct plan_step *s, unsigned part);
void run_attend(struct plan_runner *r, const struct plan_step *s, unsigned part);
/* Bytes of a part's room and of the partials, for all attention of the plan. */
void run_attend_sizes(const struct plan *plan, unsigned n_parts, size_t *ret_room,
                      size_t *ret_partials);
/* PLAN_EXPERTS; and bytes of a part's room for all of these, 0 where there are none. */
void run_experts(struct plan_runner *r, const struct plan_step *s, unsigned part);
size_t run_experts_room(const struct plan *plan);
/* PLAN_TOPK, GATHER, SCATTER, PICK, MIX of one row. */
void run_choice(const struct plan_runner *r, const struct plan_step *s, size_t row);
void run_rows(struct plan_runner *r, const struct plan_step *s, struct share rows);
/* Where the three outer indices of a view lead, and the next ones; false after the last. */
size_t run_outer_offset(const struct plan_view *v, const size_t *at);
bool run_next_outer(const struct plan_step *s, size_t *at);

#endif
