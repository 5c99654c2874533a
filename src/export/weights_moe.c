/* weights_moe.c - the weights of a layer's experts.
 *
 * An export has all experts of a layer in one tensor, as transformers 5 has them; most
 * checkpoints have them one by one, and are read in the order in which they lie there:
 * experts.gate_up_proj is expert 0's gate, its up, expert 1's gate, ... */
#include "export/weights_walk.h"

static struct shape cube(int64_t n, int64_t rows, int64_t cols)
{
    return (struct shape){3, {n, rows, cols}};
}

/* The tensor of that name, or the experts' own, of each first `one`, then `two` (NULL:
 * nothing), which share the rows. */
static int add_experts(struct walk *k, enum weight_role role, int64_t layer,
                       const char *part, const char *one, const char *two,
                       struct shape shape)
{
    const char *module = k->spec->names->experts, *ends[] = {one, two};
    size_t n_ends = two ? 2 : 1;
    struct shape of_one = matrix(shape.sizes[1] / (int64_t)n_ends, shape.sizes[2]);
    char whole[WALK_NAME_SIZE], own[WALK_NAME_SIZE], name[WALK_NAME_SIZE];
    struct weight *w;

    snprintf(own, sizeof(own), "%s.%s", module, part);
    walk_name(k, layer, own, whole);
    w = walk_begin(k, role, layer, whole, shape);
    if (!one || walk_find(k, whole))
        return walk_source(k, w, whole, shape);
    for (int64_t e = 0; e < shape.sizes[0]; e++)
        for (size_t i = 0; i < n_ends; i++) {
            snprintf(own, sizeof(own), "%s.%lld.%s.weight", module, (long long)e, ends[i]);
            walk_name(k, layer, own, name);
            if (walk_source(k, w, name, of_one) < 0)
                return -1;
        }
    return 0;
}

static int add_gated(struct walk *k, int64_t layer)
{
    const struct moe_spec *moe = &k->spec->moe;
    const struct decoder_names *n = k->spec->names;
    int64_t hidden = k->spec->hidden_size;

    if (add_experts(k, WEIGHT_EXPERTS_GATE_UP, layer, "gate_up_proj", n->expert_gate,
                    n->expert_up, cube(moe->n_experts, 2 * moe->size, hidden)) < 0)
        return -1;
    return add_experts(k, WEIGHT_EXPERTS_DOWN, layer, "down_proj", n->expert_down, NULL,
                       cube(moe->n_experts, hidden, moe->size));
}

static int add_clamped(struct walk *k, int64_t layer)
{
    const struct moe_spec *moe = &k->spec->moe;
    const char *module = k->spec->names->experts;
    int64_t n = moe->n_experts, size = moe->size, hidden = k->spec->hidden_size;

    if (!walk_part(k, WEIGHT_EXPERTS_GATE_UP, layer, module, "gate_up_proj",
                   cube(n, hidden, 2 * size)) ||
        !walk_part(k, WEIGHT_EXPERTS_GATE_UP_BIAS, layer, module, "gate_up_proj_bias",
                   matrix(n, 2 * size)) ||
        !walk_part(k, WEIGHT_EXPERTS_DOWN, layer, module, "down_proj",
                   cube(n, size, hidden)) ||
        !walk_part(k, WEIGHT_EXPERTS_DOWN_BIAS, layer, module, "down_proj_bias",
                   matrix(n, hidden)))
        return -1;
    return 0;
}

static int add_shared(struct walk *k, int64_t layer)
{
    const struct moe_spec *moe = &k->spec->moe;
    const struct decoder_names *n = k->spec->names;
    int64_t hidden = k->spec->hidden_size, size = moe->shared_size;
    int64_t gate = moe->shared_fused ? 2 * size : size;

    if (size == 0)
        return 0;
    if (walk_linear(k, WEIGHT_SHARED_GATE, layer, n->shared_gate, gate, hidden, false) < 0)
        return -1;
    if (!moe->shared_fused &&
        walk_linear(k, WEIGHT_SHARED_UP, layer, n->shared_up, size, hidden, false) < 0)
        return -1;
    if (walk_linear(k, WEIGHT_SHARED_DOWN, layer, n->shared_down, hidden, size, false) < 0)
        return -1;
    if (!moe->shared_gate)
        return 0;
    return walk_linear(k, WEIGHT_SHARED_ROUTER, layer, n->shared_router, 1, hidden, false);
}

int walk_experts(struct walk *k, int64_t layer)
{
    const struct moe_spec *moe = &k->spec->moe;
    const struct decoder_names *n = k->spec->names;
    struct weight *correction;

    if (walk_linear(k, WEIGHT_ROUTER, layer, n->router, moe->n_experts,
                    k->spec->hidden_size, moe->router_bias) < 0)
        return -1;
    if (moe->router == ROUTER_SIGMOID) {
        correction =
            walk_tensor(k, WEIGHT_CORRECTION, layer, n->correction, vector(moe->n_experts));
        if (!correction)
            return -1;
        correction->is_buffer = correction->is_wide = true;
    }
    if ((moe->kind == EXPERTS_CLAMPED ? add_clamped(k, layer) : add_gated(k, layer)) < 0)
        return -1;
    return add_shared(k, layer);
}
