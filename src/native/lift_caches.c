/* Caches: which buffers they are, how they are written, which two are a layer. */
#include "native/lift.h"

/* ---- caches ---- */

bool lift_cache_is_ready(const struct lift *l, const struct lifted *v)
{
    const struct cache *c = &l->caches[v->cache];

    return v->is_fresh || (c->is_stored && c->is_in_place && !v->is_rolled);
}

/* Another input that shows the same memory, from `from` on; NULL: none. */
static const struct pt2_input *find_shared(const struct lift *l, const struct pt2_input *in,
                                           uint32_t from, uint32_t *ret_i)
{
    const struct pt2_payload *p =
        in->fqn ? pt2_archive_find_payload(l->archive, in->fqn) : NULL;

    for (uint32_t i = from; p && !p->is_zeros && i < pt2_program_n_inputs(l->program); i++) {
        const struct pt2_input *other = pt2_program_input(l->program, i);
        const struct pt2_payload *q = other != in && other->fqn
                                          ? pt2_archive_find_payload(l->archive, other->fqn)
                                          : NULL;

        if (q && q->record == p->record) {
            *ret_i = i;
            return other;
        }
    }
    return NULL;
}

/* What sessions call it: a constant that is a buffer by another name, by the buffer's. */
static const char *state_name(const struct lift *l, const struct pt2_input *in)
{
    const struct pt2_input *other;

    for (uint32_t i = 0; in->kind == PT2_INPUT_CONSTANT && (other = find_shared(l, in, i, &i));
         i++)
        if (other->kind == PT2_INPUT_BUFFER)
            return other->fqn;
    return in->fqn;
}

/* Nobody may read or write a session's memory by another name, which is not followed. */
static int check_alone(struct lift *l, const struct pt2_input *in)
{
    const struct pt2_input *other;

    for (uint32_t i = 0; (other = find_shared(l, in, i, &i)); i++)
        if (l->needed[other->value])
            return pt2_err_set(l->err, PT2_ERR_PROGRAM_REFUSED,
                               "'%s' is written and shares its memory with '%s'", in->fqn,
                               other->fqn);
    return 0;
}

/* Does llama::update_cache write it?  Its caches are (batch, positions, heads, head_dim). */
static bool is_updated(const struct lift *l, uint32_t value)
{
    for (uint32_t i = 0; i < pt2_program_n_nodes(l->program); i++) {
        const struct pt2_node *node = pt2_program_node(l->program, i);
        int64_t cache = node_is(node, "llama.update_cache") ? node_value(node, "cache") : -1;

        if (cache >= 0 && l->roots[cache] == value)
            return true;
    }
    return false;
}

static int add_cache(struct lift *l, const struct pt2_input *in)
{
    const struct pt2_value *value = pt2_program_value(l->program, in->value);
    struct cache *c = &l->caches[l->n_caches];
    int64_t sizes[PT2_MAX_DIMS];
    unsigned n = value->meta.n_dims, first = n == 4, pos = n - 2, heads = first;

    for (unsigned d = 0; d < n; d++)
        sizes[d] = value->meta.sizes[d].expr ? -1 : value->meta.sizes[d].value;
    if (n == 4 && is_updated(l, in->value)) {
        pos = 1;
        heads = 2;
    }
    if ((n != 4 && n != 3) || (n == 3 && l->decoder->batch_size != 1) ||
        (n == 4 && sizes[0] != l->decoder->batch_size) || sizes[pos] < 1 ||
        sizes[pos] > PLAN_MAX_POSITIONS || sizes[heads] < 1 || sizes[n - 1] < 1)
        return pt2_err_set(l->err, PT2_ERR_PROGRAM_REFUSED,
                           "buffer '%s' is written and is no cache of (batch, heads, "
                           "positions, head_dim)",
                           in->fqn);
    if (sizes[heads] > LIFT_MAX_WIDTH || sizes[n - 1] > LIFT_MAX_WIDTH / sizes[heads])
        return pt2_err_set(l->err, PT2_ERR_PROGRAM_REFUSED,
                           "cache '%s' has rows of more than %d elements", in->fqn,
                           LIFT_MAX_WIDTH);
    *c = (struct cache){.value = in->value, .fqn = state_name(l, in), .dtype = value->meta.dtype,
                        .n_dims = n, .pos_dim = pos, .heads_dim = heads, .length = sizes[pos],
                        .kv_heads = (uint32_t)sizes[heads], .head_dim = (uint32_t)sizes[n - 1],
                        .layer = -1};
    if (c->dtype != PT2_FLOAT32 && c->dtype != PT2_BFLOAT16 && c->dtype != PT2_FLOAT16)
        return pt2_err_set(l->err, PT2_ERR_PROGRAM_REFUSED, "cache '%s' is %s", in->fqn,
                           pt2_dtype_name(c->dtype));
    if (first)
        c->dims[0] = new_dim(sizes[0] == 1 ? DIM_ONE : DIM_BATCH, sizes[0], 0);
    c->dims[heads] = new_dim(c->kv_heads == 1 ? DIM_ONE : DIM_KV, sizes[heads], 0);
    c->dims[pos] = new_dim(DIM_POS, sizes[pos], 0);
    c->dims[n - 1] = new_dim(DIM_DATA, sizes[n - 1], 0);
    l->values[in->value] = (struct lifted){.kind = KIND_CACHE, .n_dims = n, .factor = 1,
                                           .cache = (uint32_t)l->n_caches++};
    memcpy(l->values[in->value].dims, c->dims, sizeof(c->dims));
    return 0;
}

/* A session's cache begins with zeros; so must the program's. */
static int check_zeros(struct lift *l, const char *fqn)
{
    const struct pt2_payload *p = pt2_archive_find_payload(l->archive, fqn);
    AUTO_PTR void *copy = NULL;
    const uint8_t *data;
    size_t size;

    if (!p)
        return pt2_err_set(l->err, PT2_ERR_PROGRAM_REFUSED, "cache '%s' has no payload", fqn);
    if (p->is_zeros)
        return 0;
    data = pt2_archive_data(l->archive, p->record);
    size = (size_t)p->record->size;
    if (!data) {
        if (pt2_archive_read(l->archive, p->record, SIZE_MAX, &copy, &size, l->err) < 0)
            return -1;
        data = copy;
    }
    if (size > 0 && (data[0] != 0 || memcmp(data, data + 1, size - 1) != 0))
        return pt2_err_set(l->err, PT2_ERR_PROGRAM_REFUSED,
                           "cache '%s' does not begin with zeros", fqn);
    return 0;
}

int lift_caches(struct lift *l)
{
    l->caches = calloc(pt2_program_n_inputs(l->program) + 1, sizeof(*l->caches));
    if (!l->caches)
        return lift_no_memory(l);
    for (uint32_t i = 0; i < pt2_program_n_inputs(l->program); i++) {
        const struct pt2_input *in = pt2_program_input(l->program, i);
        bool is_cache = eval_may_be_state(in) && eval_class(l->eval, in->value) == EVAL_TOKENS;

        if (is_cache && (add_cache(l, in) < 0 || check_zeros(l, in->fqn) < 0))
            return -1;
        if ((is_cache || eval_is_counter(l->eval, in->value)) && check_alone(l, in) < 0)
            return -1;
    }
    return 0;
}

/* ---- writing ---- */

static int index_is_positions(struct lift *l, uint32_t value, int64_t length)
{
    struct of_length *known = &l->known[l->same[value]];

    if (l->values[value].kind != KIND_EVAL)
        return lift_refuse(l, "an index that depends on tokens");
    if (known->positions != length) {
        if (eval_is_positions(l->eval, value, (struct eval_cache){length, false},
                              &known->is_positions, l->err) < 0)
            return -1;
        known->positions = length;
    }
    if (!known->is_positions)
        return lift_refuse(l, "'%s' is not the run's positions",
                           pt2_program_value(l->program, value)->name);
    return 0;
}

/* A cache that is too short, and is not rolled before it is written: is it a ring? */
static int check_ring(struct lift *l, const struct cache *c, uint32_t index)
{
    struct of_length *known = &l->known[l->same[index]];

    if (l->values[index].kind != KIND_EVAL)
        return lift_refuse(l, "an index that depends on tokens");
    if (known->ring != c->length) {
        if (eval_is_positions(l->eval, index, (struct eval_cache){c->length, true},
                              &known->is_ring, l->err) < 0)
            return -1;
        known->ring = c->length;
    }
    if (!known->is_ring)
        return lift_refuse(l, "cache '%s' holds %lld of %lld positions, and neither rolls nor "
                           "is a ring",
                           c->fqn, (long long)c->length, (long long)l->decoder->max_cache_len);
    if (l->decoder->max_seq_len > c->length)
        return lift_refuse(l, "a run of %lld rows in a ring of %lld",
                           (long long)l->decoder->max_seq_len, (long long)c->length);
    return 0;
}

/* The dimension and the index that index_copy or index_put writes by. */
static int write_place(struct lift *l, unsigned n_dims, unsigned *ret_dim, uint32_t *ret_index)
{
    const struct pt2_arg *list = node_list(l->node, "indices");
    int64_t index = node_value(l->node, "index");
    bool adds;

    if (index >= 0) {
        *ret_index = (uint32_t)index;
        return node_dim(l->node, "dim", 0, n_dims, ret_dim) ? 0 : lift_refuse(l, "'dim'");
    }
    if (!list || list->list.n == 0 || list->list.n > n_dims ||
        !node_bool(l->node, "accumulate", false, &adds) || adds)
        return lift_refuse(l, "not one index of positions");
    for (uint32_t i = 0; i < list->list.n; i++)
        if ((list->list.items[i].kind == PT2_ARG_TENSOR) != (i + 1 == list->list.n))
            return lift_refuse(l, "not one index of positions");
    *ret_dim = list->list.n - 1;
    *ret_index = list->list.items[*ret_dim].value;
    return 0;
}

/* The source's dimensions must be the cache's, with the sequence for the positions. */
static int source_view(struct lift *l, const struct cache *c, const struct lifted *src,
                       struct plan_view *ret)
{
    unsigned kv = c->heads_dim;
    struct lifted v, copy;

    if (!lift_is_rows(src) || src->n_dims != c->n_dims || src->is_last)
        return lift_refuse(l, "what is written is no row of each token");
    v = *src;
    for (unsigned d = 0; d < c->n_dims; d++) {
        const struct dim *have = &src->dims[d], *want = &c->dims[d];
        enum label label = want->label == DIM_POS    ? DIM_SEQ
                           : want->label == DIM_KV   ? DIM_ROW
                           : want->label == DIM_DATA ? DIM_ROW
                                                     : want->label;

        if (want->label == DIM_POS ? have->label != DIM_SEQ &&
                                         !(have->label == DIM_ONE && l->decoder->seq_len == 1)
                                   : have->size != want->size ||
                                         (have->label != label && have->size != 1))
            return lift_refuse(l, "what is written is not shaped as the cache is");
    }
    if (v.dims[c->n_dims - 1].label == DIM_ROW && v.dims[c->n_dims - 1].stride != 1) {
        if (lift_copy(l, src, &copy) < 0)
            return -1;
        v = copy;
    }
    *ret = (struct plan_view){.source = PLAN_REGISTER, .i = v.reg, .offset = v.offset};
    ret->strides[0] = v.dims[kv].label == DIM_ROW ? v.dims[kv].stride : 0;
    ret->strides[1] = 1;
    return 0;
}

static bool is_whole(const struct cache *c, const struct lifted *v)
{
    return v->n_dims == c->n_dims && memcmp(v->dims, c->dims, sizeof(c->dims)) == 0 &&
           v->factor == 1;
}

int lift_roll(struct lift *l, const struct lifted *self)
{
    const struct cache *c = &l->caches[self->cache];
    struct of_length *known;
    uint32_t index = 0;
    unsigned dim;

    if (!is_whole(c, self) || self->is_fresh || self->is_rolled || c->is_stored)
        return lift_refuse(l, "a cache that is rolled after it was written");
    if (write_place(l, c->n_dims, &dim, &index) < 0)
        return -1;
    if (c->dims[dim].label != DIM_POS || l->values[index].kind != KIND_EVAL)
        return lift_refuse(l, "a part of a cache");
    known = &l->known[l->same[index]];
    if (known->rolling != c->length) {
        if (eval_is_rolling(l->eval, index, c->length, &known->is_rolling, l->err) < 0)
            return -1;
        known->rolling = c->length;
    }
    if (!known->is_rolling)
        return lift_refuse(l, "'%s' does not roll cache '%s' by one row",
                           pt2_program_value(l->program, index)->name, c->fqn);
    *lift_out(l) = *self;
    lift_out(l)->is_rolled = true;
    return 0;
}

static int add_store(struct lift *l, uint32_t cache, const struct lifted *src)
{
    const struct cache *c = &l->caches[cache];
    struct plan_view view;
    struct plan_step *step;

    if (source_view(l, c, src, &view) < 0)
        return -1;
    step = lift_step(l, PLAN_STORE);
    if (!step)
        return -1;
    step->in = view;
    step->sizes[2] = c->kv_heads;
    step->sizes[3] = c->head_dim;
    step->store.layer = cache; /* the cache, until the layers are known */
    return 0;
}

int lift_start_is_first(struct lift *l, int64_t length)
{
    int64_t start = node_value(l->node, "start_pos");
    struct of_length *known;

    if (start < 0 || l->values[start].kind != KIND_EVAL)
        return lift_refuse(l, "a 'start_pos' that is a plain number, or depends on tokens");
    known = &l->known[l->same[start]];
    if (known->positions != length) {
        if (eval_is_first(l->eval, (uint32_t)start, length, &known->is_positions, l->err) < 0)
            return -1;
        known->positions = length;
    }
    return known->is_positions
               ? 0
               : lift_refuse(l, "'%s' is not the run's first position",
                             pt2_program_value(l->program, (uint32_t)start)->name);
}

int lift_update(struct lift *l)
{
    const struct lifted *self = lift_arg(l, "cache"), *src = lift_arg(l, "value");
    struct cache *c = self && self->kind == KIND_CACHE ? &l->caches[self->cache] : NULL;

    if (!c || !is_whole(c, self) || self->is_fresh || self->is_rolled ||
        l->values[c->value].n_dims != 4)
        return lift_refuse(l, "a write to what is no cache, or one that is shown otherwise");
    if (c->is_stored)
        return lift_refuse(l, "cache '%s' is written twice", c->fqn);
    if (c->length < l->decoder->max_cache_len)
        return lift_refuse(l, "cache '%s' holds %lld of %lld positions", c->fqn,
                           (long long)c->length, (long long)l->decoder->max_cache_len);
    if (lift_start_is_first(l, c->length) < 0 || add_store(l, self->cache, src) < 0)
        return -1;
    c->is_stored = c->is_in_place = true;
    return 0; /* what it answers is nothing */
}

int lift_write(struct lift *l, const struct lifted *self, bool is_in_place)
{
    struct cache *c = &l->caches[self->cache];
    const struct lifted *src =
        lift_arg(l, node_arg(l->node, "source") ? "source" : "values");
    uint32_t index = 0;
    unsigned dim;

    if (!is_whole(c, self) || self->is_fresh)
        return lift_refuse(l, "a write to a cache that is shown otherwise");
    if (c->is_stored)
        return lift_refuse(l, "cache '%s' is written twice", c->fqn);
    if (write_place(l, c->n_dims, &dim, &index) < 0)
        return -1;
    if (c->dims[dim].label != DIM_POS)
        return lift_refuse(l, "dimension %u is not the cache's positions", dim);
    c->is_ring = c->length < l->decoder->max_cache_len && !self->is_rolled;
    if ((c->is_ring ? check_ring(l, c, index) : index_is_positions(l, index, c->length)) < 0 ||
        add_store(l, self->cache, src) < 0)
        return -1;
    c->is_stored = true;
    c->is_in_place = is_in_place && !self->is_rolled;
    *lift_out(l) = *self;
    lift_out(l)->is_fresh = !c->is_in_place;
    lift_out(l)->is_rolled = false;
    if (is_in_place && self->is_rolled) /* into the copy, which others may name */
        l->values[node_value(l->node, "self")] = *lift_out(l);
    return 0;
}

int lift_write_back(struct lift *l, const struct lifted *self)
{
    const struct lifted *src = lift_arg(l, "src");
    struct cache *c = &l->caches[self->cache];

    if (!src || src->kind != KIND_CACHE || src->cache != self->cache || !src->is_fresh ||
        !is_whole(c, src) || !is_whole(c, self) || self->is_rolled)
        return lift_refuse(l, "a cache's contents replaced");
    c->is_mutated = true;
    *lift_out(l) = *src;
    return 0;
}

static int finish_mutations(struct lift *l)
{
    for (uint32_t i = 0; i < pt2_program_n_outputs(l->program); i++) {
        const struct pt2_output *out = pt2_program_output(l->program, i);

        for (size_t k = 0; k < l->n_caches && out->kind == PT2_OUTPUT_BUFFER_MUTATION; k++) {
            struct cache *c = &l->caches[k];
            const struct lifted *v =
                out->arg.kind == PT2_ARG_TENSOR ? &l->values[out->arg.value] : NULL;

            if (!streq(c->fqn, out->fqn))
                continue;
            if (!v || v->kind != KIND_CACHE || v->cache != k || !is_whole(c, v) ||
                !lift_cache_is_ready(l, v))
                return pt2_err_set(l->err, PT2_ERR_PROGRAM_REFUSED,
                                   "cache '%s' ends a run as something else", c->fqn);
            c->is_mutated = true;
        }
    }
    return 0;
}

static const struct cache *find_cache(const struct lift *l, uint32_t value)
{
    for (size_t k = 0; k < l->n_caches; k++)
        if (l->caches[k].value == value)
            return &l->caches[k];
    return NULL;
}

/* What a session has its own of, for saving and restoring. */
static int list_buffers(struct lift *l)
{
    uint32_t n = pt2_program_n_inputs(l->program);
    struct plan *p = l->plan;

    p->buffers = calloc(n + 1, sizeof(*p->buffers));
    if (!p->buffers)
        return lift_no_memory(l);
    for (uint32_t i = 0; i < n; i++) {
        const struct pt2_input *in = pt2_program_input(l->program, i);
        const struct pt2_tensor_meta *meta = &pt2_program_value(l->program, in->value)->meta;
        const struct cache *c = find_cache(l, in->value);
        struct plan_buffer *b = &p->buffers[p->n_buffers];

        if (!c && !eval_is_counter(l->eval, in->value))
            continue;
        *b = (struct plan_buffer){.fqn = state_name(l, in), .dtype = meta->dtype,
                                  .n_dims = meta->n_dims, .is_counter = !c};
        for (unsigned d = 0; d < meta->n_dims; d++)
            b->sizes[d] = meta->sizes[d].value;
        if (c) {
            b->length = c->length;
            b->position_dim = c->pos_dim;
            b->is_ring = c->is_ring;
            b->layer = (uint32_t)c->layer;
            b->is_value = c->is_value;
        }
        p->n_buffers++;
    }
    return 0;
}

int lift_caches_done(struct lift *l)
{
    if (finish_mutations(l) < 0)
        return -1;
    for (size_t k = 0; k < l->n_caches; k++) {
        const struct cache *c = &l->caches[k];

        if (!c->is_stored || c->layer < 0 || (!c->is_in_place && !c->is_mutated))
            return pt2_err_set(l->err, PT2_ERR_PROGRAM_REFUSED,
                               "cache '%s' is not both written and attended", c->fqn);
    }
    for (size_t i = 0; i < l->n_steps; i++) {
        struct plan_step *s = &l->steps[i].s;

        if (s->op == PLAN_STORE) {
            const struct cache *c = &l->caches[s->store.layer];

            s->store.layer = (uint32_t)c->layer;
            s->store.is_value = c->is_value;
        }
    }
    return list_buffers(l);
}

int lift_layer(struct lift *l, uint32_t key, uint32_t value, uint32_t *ret)
{
    struct cache *k = &l->caches[key], *v = &l->caches[value];
    struct plan *p = l->plan;
    struct plan_cache *more;

    if (k->layer >= 0 || v->layer >= 0) {
        if (k->layer != v->layer || k->is_value || !v->is_value)
            return lift_refuse(l, "caches '%s' and '%s' are no pair", k->fqn, v->fqn);
        *ret = (uint32_t)k->layer;
        return 0;
    }
    if (key == value || k->kv_heads != v->kv_heads || k->dtype != v->dtype ||
        k->length != v->length || k->is_ring != v->is_ring)
        return lift_refuse(l, "caches '%s' and '%s' are no pair", k->fqn, v->fqn);
    more = realloc(p->caches, (p->n_caches + 1) * sizeof(*more));
    if (!more)
        return lift_no_memory(l);
    p->caches = more;
    more[p->n_caches] = (struct plan_cache){k->fqn, v->fqn, k->dtype, k->kv_heads,
                                            k->head_dim, v->head_dim, k->length};
    k->layer = v->layer = (int32_t)p->n_caches;
    v->is_value = true;
    *ret = (uint32_t)p->n_caches++;
    return 0;
}
