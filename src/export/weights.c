#include "export/weights.h"

#include "export/text_part.h"
#include "export/weights_walk.h"

static int add_norm(struct walk *k, enum weight_role role, int64_t layer,
                    const char *module, enum norm_kind kind, struct shape shape)
{
    bool has_weight = kind != NORM_RMS_PLAIN && kind != NORM_LAYER_PLAIN;
    bool has_bias = kind == NORM_LAYER || kind == NORM_LAYER_PLUS_ONE;
    struct weight *w;

    if (!module || !has_weight)
        return 0;
    w = walk_part(k, role, layer, module, "weight", shape);
    if (!w)
        return -1;
    w->is_wide_f16 = k->spec->norms_wide_f16;
    if (has_bias && !walk_part(k, role + 1, layer, module, "bias", shape))
        return -1;
    return 0;
}

static int add_head_norms(struct walk *k, enum weight_role role, int64_t layer,
                          const char *module, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        char tensor[80];
        struct weight *w;

        snprintf(tensor, sizeof(tensor), "%s.norms.%lld.weight", module, (long long)i);
        w = walk_tensor(k, role, layer, tensor, vector(k->spec->head_dim));
        if (!w)
            return -1;
        w->head = i;
    }
    return 0;
}

static int add_qk_norms(struct walk *k, int64_t layer)
{
    const struct decoder_spec *s = k->spec;
    int64_t d = s->head_dim, n_q = s->n_heads, n_k = s->n_kv_heads;
    struct shape q = vector(d), kv = vector(d);

    if (s->qk_norm == QK_NORM_NONE)
        return 0;
    if (s->qk_norm == QK_NORM_MODULES)
        return add_head_norms(k, WEIGHT_Q_NORM, layer, s->names->q_norm, n_q) < 0
                   ? -1
                   : add_head_norms(k, WEIGHT_K_NORM, layer, s->names->k_norm, n_k);
    if (s->qk_norm == QK_NORM_ALL) {
        q = vector(n_q * d);
        kv = vector(n_k * d);
    } else if (s->qk_norm == QK_NORM_EVERY_HEAD) {
        q = matrix(n_q, d);
        kv = matrix(n_k, d);
    }
    if (add_norm(k, WEIGHT_Q_NORM, layer, s->names->q_norm, s->qk_norm_kind, q) < 0)
        return -1;
    return add_norm(k, WEIGHT_K_NORM, layer, s->names->k_norm, s->qk_norm_kind, kv);
}

static int add_attention(struct walk *k, int64_t layer)
{
    const struct decoder_spec *s = k->spec;
    const struct decoder_names *n = s->names;
    int64_t q = s->n_heads * s->head_dim, kv = s->n_kv_heads * s->head_dim;
    int64_t hidden = s->hidden_size;

    if (s->qkv != QKV_SEPARATE) {
        if (walk_linear(k, WEIGHT_QKV, layer, n->qkv, q + 2 * kv, hidden, s->qkv_bias) < 0)
            return -1;
    } else if (walk_linear(k, WEIGHT_Q, layer, n->q, q, hidden, s->qkv_bias) < 0 ||
               walk_linear(k, WEIGHT_K, layer, n->k, kv, hidden, s->qkv_bias) < 0 ||
               walk_linear(k, WEIGHT_V, layer, n->v, kv, hidden, s->qkv_bias) < 0) {
        return -1;
    }
    if (add_qk_norms(k, layer) < 0)
        return -1;
    if (s->has_sinks && !walk_tensor(k, WEIGHT_SINKS, layer, n->sinks, vector(s->n_heads)))
        return -1;
    if (add_norm(k, WEIGHT_ATTN_SUB_NORM, layer, n->attn_sub_norm, NORM_RMS, vector(q)) <
            0 ||
        walk_linear(k, WEIGHT_O, layer, n->o, hidden, q, s->o_bias) < 0)
        return -1;
    if (n->last_o_bias && layer == s->n_layers - 1 &&
        !walk_tensor(k, WEIGHT_O_BIAS, layer, n->last_o_bias, vector(hidden)))
        return -1;
    return 0;
}

/* XIELUActivation: beta and eps are buffers there. */
static int add_activation(struct walk *k, int64_t layer)
{
    const char *module = k->spec->names->act;
    struct shape number = {0};
    struct weight *beta, *eps;

    if (k->spec->act != ACT_XIELU)
        return 0;
    if (!walk_part(k, WEIGHT_ALPHA_P, layer, module, "alpha_p", vector(1)) ||
        !walk_part(k, WEIGHT_ALPHA_N, layer, module, "alpha_n", vector(1)) ||
        !(beta = walk_part(k, WEIGHT_ACT_BETA, layer, module, "beta", number)) ||
        !(eps = walk_part(k, WEIGHT_ACT_EPS, layer, module, "eps", number)))
        return -1;
    beta->is_buffer = eps->is_buffer = true;
    return 0;
}

static int add_mlp(struct walk *k, int64_t layer)
{
    const struct decoder_spec *s = k->spec;
    const struct decoder_names *n = s->names;
    int64_t hidden = s->hidden_size, inter = s->intermediate_size;
    int64_t gate = s->mlp == MLP_GATED_FUSED ? 2 * inter : inter;

    if (s->mlp != MLP_PLAIN &&
        walk_linear(k, WEIGHT_GATE, layer, n->gate, gate, hidden, s->mlp_bias) < 0)
        return -1;
    if (s->mlp != MLP_GATED_FUSED &&
        walk_linear(k, WEIGHT_UP, layer, n->up, inter, hidden, s->mlp_bias) < 0)
        return -1;
    if (add_activation(k, layer) < 0 ||
        add_norm(k, WEIGHT_MLP_SUB_NORM, layer, n->mlp_sub_norm, NORM_RMS,
                 vector(inter)) < 0)
        return -1;
    return walk_linear(k, WEIGHT_DOWN, layer, n->down, hidden, inter, s->mlp_bias);
}

static int add_layer(struct walk *k, int64_t layer)
{
    const struct decoder_spec *s = k->spec;
    const struct decoder_names *n = s->names;
    struct shape hidden = vector(s->hidden_size);

    if (add_norm(k, WEIGHT_ATTN_NORM, layer, n->attn_norm, s->norm, hidden) < 0 ||
        add_attention(k, layer) < 0 ||
        add_norm(k, WEIGHT_ATTN_POST_NORM, layer, n->attn_post_norm, s->norm, hidden) <
            0 ||
        add_norm(k, WEIGHT_MLP_NORM, layer, n->mlp_norm, s->norm, hidden) < 0 ||
        (s->layers[layer].has_experts ? walk_experts(k, layer) : add_mlp(k, layer)) < 0 ||
        add_norm(k, WEIGHT_MLP_POST_NORM, layer, n->mlp_post_norm, s->norm, hidden) < 0)
        return -1;
    return 0;
}

static int64_t embed_size(const struct decoder_spec *s)
{
    return s->embed_size ? s->embed_size : s->hidden_size;
}

static int add_head(struct walk *k, const char *head)
{
    const struct decoder_spec *s = k->spec;
    struct weights *ws = k->weights;

    if (!ws->is_tied) {
        if (!walk_add(k, WEIGHT_HEAD, -1, head, head, matrix(s->vocab_size, embed_size(s))))
            return -1;
    } else {
        struct weight *w = &ws->list[ws->n++];

        *w = ws->list[0];
        w->role = WEIGHT_HEAD;
        w->is_alias = true;
        snprintf(w->fqn, sizeof(w->fqn), "model.%s", head);
    }
    if (s->head_bias &&
        !walk_part(k, WEIGHT_HEAD_BIAS, -1, s->names->head, "bias", vector(s->vocab_size)))
        return -1;
    return 0;
}

/* As transformers ties (modeling_utils.py, tie_weights): where the checkpoint holds one
 * of the two, whichever, it is both; where it holds both, each is itself. */
static int add_all(struct walk *k)
{
    const struct decoder_spec *s = k->spec;
    char embed[WALK_NAME_SIZE], head[WALK_NAME_SIZE];
    bool has_embed, has_head;

    snprintf(embed, sizeof(embed), "%s.weight", s->names->embed);
    snprintf(head, sizeof(head), "%s.weight", s->names->head);
    has_embed = walk_find(k, embed);
    has_head = walk_find(k, head);
    k->weights->is_tied = s->tied && !(has_embed && has_head);
    k->weights->is_untied_by_data = s->tied && has_embed && has_head;
    if (!walk_add(k, WEIGHT_EMBED, -1, embed,
             k->weights->is_tied && !has_embed && has_head ? head : embed,
             matrix(s->vocab_size, embed_size(s))))
        return -1;
    if (s->names->positions &&
        !walk_part(k, WEIGHT_POSITIONS, -1, s->names->positions, "weight",
                  matrix(s->max_position + s->position_offset, s->hidden_size)))
        return -1;
    if (s->names->project_in &&
        walk_linear(k, WEIGHT_PROJECT_IN, -1, s->names->project_in, s->hidden_size,
                   embed_size(s), /* has_bias= */ false) < 0)
        return -1;
    for (int64_t i = 0; i < s->n_layers; i++)
        if (add_layer(k, i) < 0)
            return -1;
    if (add_norm(k, WEIGHT_NORM, -1, s->names->norm, s->norm, vector(s->hidden_size)) < 0)
        return -1;
    if (s->names->project_out &&
        walk_linear(k, WEIGHT_PROJECT_OUT, -1, s->names->project_out, embed_size(s),
                   s->hidden_size, /* has_bias= */ false) < 0)
        return -1;
    return add_head(k, head);
}

static int compare_sources(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t) * (const struct pt2_checkpoint_tensor *const *)a;
    uintptr_t y = (uintptr_t) * (const struct pt2_checkpoint_tensor *const *)b;

    return x < y ? -1 : x > y;
}

static bool is_ignored(const struct decoder_spec *spec, const char *name)
{
    const char *layers = spec->names->layers;
    long long layer;

    if (spec->n_extra_layers > 0 && walk_name_in_layer(spec->names, name)) {
        layer = strtoll(name + strlen(layers) + 1, NULL, 10);
        if (layer >= spec->n_layers && layer - spec->n_layers < spec->n_extra_layers)
            return true;
    }
    for (size_t i = 0; spec->ignores && spec->ignores[i]; i++)
        if (ends_with(name, spec->ignores[i]))
            return true;
    return false;
}

/* Does the tensor belong to another part of the whole?  Then count it. */
static bool leave_out(const struct walk *k, const char *name)
{
    struct weights *ws = k->weights;
    const char *module = k->spec->part_of ? text_part_other_module(name) : NULL;
    size_t i = 0;

    if (!module)
        return false;
    while (i < ws->n_left_out_modules && ws->left_out[i] != module)
        i++;
    if (i == ws->n_left_out_modules && i < WEIGHTS_MAX_LEFT_OUT)
        ws->left_out[ws->n_left_out_modules++] = module;
    ws->n_left_out++;
    return true;
}

/* Known to say nothing: what every version computes anew, and scales of a cache of float8,
 * which this cache is not. */
static bool is_harmless(const struct decoder_spec *spec, const char *name)
{
    static const char *const suffixes[] = {"rotary_emb.inv_freq", ".k_scale", ".v_scale"};

    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++)
        if (ends_with(name, suffixes[i]))
            return true;
    return is_ignored(spec, name);
}

/* Tensors that are no weight: a bias that config.json does not speak of, a layer too many.
 * Transformers leaves them out too, with a warning. */
static int find_unused(const struct walk *k)
{
    struct weights *ws = k->weights;
    size_t n = ws->n_sources;
    AUTO_PTR const struct pt2_checkpoint_tensor **used = calloc(n, sizeof(*used));

    if (!used)
        return pt2_err_set(k->err, PT2_ERR_NOMEM, "%zu tensors", n);
    memcpy(used, ws->sources, n * sizeof(*used));
    qsort(used, n, sizeof(*used), compare_sources);
    for (size_t i = 0; i < pt2_checkpoint_n_tensors(k->checkpoint); i++) {
        const struct pt2_checkpoint_tensor *t = pt2_checkpoint_tensor(k->checkpoint, i);

        if (is_harmless(k->spec, t->name) ||
            bsearch(&t, used, n, sizeof(t), compare_sources) || leave_out(k, t->name))
            continue;
        if (ws->n_unused < WEIGHTS_MAX_NAMED)
            ws->unused[ws->n_unused] = t;
        ws->n_unused++;
    }
    return 0;
}

int weights_bind(const struct decoder_spec *spec, const struct pt2_checkpoint *checkpoint,
                 struct weights *ret_weights, struct pt2_err *err)
{
    struct weights weights = {0};
    struct walk k = {
        .spec = spec, .checkpoint = checkpoint, .weights = &weights, .err = err};

    k.cap = ((size_t)spec->n_layers + 1) * N_WEIGHT_ROLES;
    if (spec->qk_norm == QK_NORM_MODULES)
        k.cap += (size_t)(spec->n_layers * (spec->n_heads + spec->n_kv_heads));
    k.sources_cap = k.cap + 3 * (size_t)(spec->n_layers * spec->moe.n_experts);
    weights.list = calloc(k.cap, sizeof(*weights.list));
    weights.sources = calloc(k.sources_cap, sizeof(*weights.sources));
    if (!weights.list || !weights.sources) {
        weights_done(&weights);
        return pt2_err_set(err, PT2_ERR_NOMEM, "%zu weights", k.cap);
    }
    if (add_all(&k) < 0 || walk_check_missing(&k) < 0 || find_unused(&k) < 0) {
        weights_done(&weights);
        return -1;
    }
    *ret_weights = weights;
    return 0;
}

void weights_done(struct weights *weights)
{
    free(weights->list);
    free(weights->sources);
    *weights = (struct weights){0};
}
