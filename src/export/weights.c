#include "export/weights.h"

#include "base/log.h"

/* The walk over a decoder's weights. */
struct walk {
    const struct decoder_spec *spec;
    const struct pt2_checkpoint *checkpoint;
    struct weights *weights;
    size_t cap;
    struct pt2_err *err;
};

static int check_source(const struct pt2_checkpoint_tensor *t, const struct weight *w,
                        struct pt2_err *err)
{
    bool same = t->n_dims == w->n_dims && t->sizes[0] == w->sizes[0] &&
                (w->n_dims < 2 || t->sizes[1] == w->sizes[1]);
    char is[64] = "", wants[64];
    size_t n = 0;

    if (same && !pt2_dtype_is_float(t->dtype))
        return pt2_err_set(err, PT2_ERR_NOT_EXPORTABLE,
                           "tensor '%s' is of dtype %s; floating point is offered",
                           t->name, t->dtype_name);
    if (same)
        return 0;
    for (unsigned i = 0; i < t->n_dims && n < sizeof(is); i++)
        n += (size_t)snprintf(is + n, sizeof(is) - n, "%s%lld", i ? ", " : "",
                              (long long)t->sizes[i]);
    if (w->n_dims == 1)
        snprintf(wants, sizeof(wants), "%lld", (long long)w->sizes[0]);
    else
        snprintf(wants, sizeof(wants), "%lld, %lld", (long long)w->sizes[0],
                 (long long)w->sizes[1]);
    return pt2_err_set(err, PT2_ERR_BAD_CHECKPOINT,
                       "tensor '%s' is (%s), config.json says (%s)", t->name, is, wants);
}

/* Append the weight that the tensor of that name is; cols 0: a vector. */
static int add(struct walk *k, enum weight_role role, int64_t layer, const char *fqn_name,
               const char *tensor_name, int64_t rows, int64_t cols)
{
    struct weight *w = &k->weights->list[k->weights->n];
    uint64_t elements = (uint64_t)rows * (uint64_t)(cols ? cols : 1);

    ASSERT(k->weights->n < k->cap);
    *w = (struct weight){.role = role, .layer = layer, .sizes = {rows, cols}};
    w->n_dims = cols ? 2 : 1;
    ASSERT(snprintf(w->fqn, sizeof(w->fqn), "model.%s", fqn_name) < (int)sizeof(w->fqn));
    w->source = pt2_checkpoint_find_tensor(k->checkpoint, tensor_name);
    if (!w->source)
        return pt2_err_set(k->err, PT2_ERR_BAD_CHECKPOINT,
                           "tensor '%s' is missing, which config.json asks for",
                           tensor_name);
    if (check_source(w->source, w, k->err) < 0)
        return -1;
    w->record = k->weights->n_records++;
    k->weights->n_elements += elements;
    k->weights->n++;
    return 0;
}

static int add_part(struct walk *k, enum weight_role role, int64_t layer,
                    const char *module, const char *part, int64_t rows, int64_t cols)
{
    char name[WEIGHT_FQN_SIZE - 8];

    if (layer < 0)
        snprintf(name, sizeof(name), "%s.%s", module, part);
    else
        snprintf(name, sizeof(name), "%s.%lld.%s.%s", k->spec->names->layers,
                 (long long)layer, module, part);
    return add(k, role, layer, name, name, rows, cols);
}

static int add_linear(struct walk *k, enum weight_role role, int64_t layer,
                      const char *module, int64_t rows, int64_t cols, bool has_bias)
{
    if (add_part(k, role, layer, module, "weight", rows, cols) < 0)
        return -1;
    return has_bias ? add_part(k, role + 1, layer, module, "bias", rows, 0) : 0;
}

static int add_layer(struct walk *k, int64_t layer)
{
    const struct decoder_spec *s = k->spec;
    const struct decoder_names *n = s->names;
    int64_t q = s->n_heads * s->head_dim, kv = s->n_kv_heads * s->head_dim;
    int64_t hidden = s->hidden_size, inter = s->intermediate_size;

    if (add_part(k, WEIGHT_ATTN_NORM, layer, n->attn_norm, "weight", hidden, 0) < 0 ||
        add_linear(k, WEIGHT_Q, layer, n->q, q, hidden, s->qkv_bias) < 0 ||
        add_linear(k, WEIGHT_K, layer, n->k, kv, hidden, s->qkv_bias) < 0 ||
        add_linear(k, WEIGHT_V, layer, n->v, kv, hidden, s->qkv_bias) < 0 ||
        add_linear(k, WEIGHT_O, layer, n->o, hidden, q, s->o_bias) < 0 ||
        add_part(k, WEIGHT_MLP_NORM, layer, n->mlp_norm, "weight", hidden, 0) < 0 ||
        add_linear(k, WEIGHT_GATE, layer, n->gate, inter, hidden, s->mlp_bias) < 0 ||
        add_linear(k, WEIGHT_UP, layer, n->up, inter, hidden, s->mlp_bias) < 0 ||
        add_linear(k, WEIGHT_DOWN, layer, n->down, hidden, inter, s->mlp_bias) < 0)
        return -1;
    return 0;
}

/* As transformers ties (modeling_utils.py, tie_weights): where the checkpoint holds one
 * of the two, whichever, it is both; where it holds both, each is itself. */
static int add_all(struct walk *k)
{
    const struct decoder_spec *s = k->spec;
    char embed[WEIGHT_FQN_SIZE - 8], head[WEIGHT_FQN_SIZE - 8];
    bool has_embed, has_head;

    snprintf(embed, sizeof(embed), "%s.weight", s->names->embed);
    snprintf(head, sizeof(head), "%s.weight", s->names->head);
    has_embed = pt2_checkpoint_find_tensor(k->checkpoint, embed);
    has_head = pt2_checkpoint_find_tensor(k->checkpoint, head);
    k->weights->is_tied = s->tied && !(has_embed && has_head);
    k->weights->is_untied_by_data = s->tied && has_embed && has_head;
    if (add(k, WEIGHT_EMBED, -1, embed,
            k->weights->is_tied && !has_embed && has_head ? head : embed, s->vocab_size,
            s->hidden_size) < 0)
        return -1;
    for (int64_t i = 0; i < s->n_layers; i++)
        if (add_layer(k, i) < 0)
            return -1;
    if (add_part(k, WEIGHT_NORM, -1, s->names->norm, "weight", s->hidden_size, 0) < 0)
        return -1;
    if (!k->weights->is_tied)
        return add(k, WEIGHT_HEAD, -1, head, head, s->vocab_size, s->hidden_size);
    k->weights->list[k->weights->n] = k->weights->list[0];
    k->weights->list[k->weights->n].role = WEIGHT_HEAD;
    k->weights->list[k->weights->n].is_alias = true;
    snprintf(k->weights->list[k->weights->n++].fqn, WEIGHT_FQN_SIZE, "model.%s", head);
    return 0;
}

static int compare_sources(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t) * (const struct pt2_checkpoint_tensor *const *)a;
    uintptr_t y = (uintptr_t) * (const struct pt2_checkpoint_tensor *const *)b;

    return x < y ? -1 : x > y;
}

/* A tensor that is no weight would change what the model computes if it were one: a bias
 * that config.json does not speak of, a layer too many. */
static int check_all_used(const struct walk *k)
{
    const struct weights *ws = k->weights;
    AUTO_PTR const struct pt2_checkpoint_tensor **used = calloc(ws->n, sizeof(*used));

    if (!used)
        return pt2_err_set(k->err, PT2_ERR_NOMEM, "%zu weights", ws->n);
    for (size_t i = 0; i < ws->n; i++)
        used[i] = ws->list[i].source;
    qsort(used, ws->n, sizeof(*used), compare_sources);
    for (size_t i = 0; i < pt2_checkpoint_n_tensors(k->checkpoint); i++) {
        const struct pt2_checkpoint_tensor *t = pt2_checkpoint_tensor(k->checkpoint, i);

        /* Saved by old versions, and computed anew by every one. */
        if (ends_with(t->name, "rotary_emb.inv_freq"))
            continue;
        if (!bsearch(&t, used, ws->n, sizeof(t), compare_sources))
            return pt2_err_set(k->err, PT2_ERR_BAD_CHECKPOINT,
                               "tensor '%s' is no part of the %s model that config.json "
                               "describes",
                               t->name, k->spec->model_type);
    }
    return 0;
}

int weights_bind(const struct decoder_spec *spec, const struct pt2_checkpoint *checkpoint,
                 struct weights *ret_weights, struct pt2_err *err)
{
    struct weights weights = {0};
    struct walk k = {spec, checkpoint, &weights, 0, err};

    k.cap = ((size_t)spec->n_layers + 1) * N_WEIGHT_ROLES;
    weights.list = calloc(k.cap, sizeof(*weights.list));
    if (!weights.list)
        return pt2_err_set(err, PT2_ERR_NOMEM, "%zu weights", k.cap);
    if (add_all(&k) < 0 || check_all_used(&k) < 0) {
        weights_done(&weights);
        return -1;
    }
    *ret_weights = weights;
    return 0;
}

void weights_done(struct weights *weights)
{
    free(weights->list);
    *weights = (struct weights){0};
}
