#include "export/weights.h"

#include "base/log.h"
#include "export/text_part.h"

/* The walk over a decoder's weights. */
struct walk {
    const struct decoder_spec *spec;
    const struct pt2_checkpoint *checkpoint;
    struct weights *weights;
    size_t cap;
    size_t n_missing;
    char missing[300]; /* the first of them */
    struct pt2_err *err;
};


/* The shape of a weight: a vector, a matrix, or one number. */
struct shape {
    unsigned n_dims;
    int64_t sizes[2];
};

static struct shape vector(int64_t n)
{
    return (struct shape){1, {n, 0}};
}

static struct shape matrix(int64_t rows, int64_t cols)
{
    return (struct shape){2, {rows, cols}};
}

static void print_sizes(char to[64], unsigned n_dims, const int64_t *sizes)
{
    size_t n = 0;

    to[0] = '\0';
    for (unsigned i = 0; i < n_dims && n < 64; i++)
        n += (size_t)snprintf(to + n, 64 - n, "%s%lld", i ? ", " : "",
                              (long long)sizes[i]);
}

static int check_source(const struct pt2_checkpoint_tensor *t, const struct weight *w,
                        struct pt2_err *err)
{
    bool same = t->n_dims == w->n_dims;
    char is[64], wants[64];

    for (unsigned i = 0; i < w->n_dims && same; i++)
        same = t->sizes[i] == w->sizes[i];
    if (same && !pt2_dtype_is_float(t->dtype))
        return pt2_err_set(err, PT2_ERR_NOT_EXPORTABLE,
                           "tensor '%s' is of dtype %s; floating point is offered",
                           t->name, t->dtype_name);
    if (same)
        return 0;
    print_sizes(is, t->n_dims, t->sizes);
    print_sizes(wants, w->n_dims, w->sizes);
    return pt2_err_set(err, PT2_ERR_BAD_CHECKPOINT,
                       "tensor '%s' is (%s), config.json says (%s)", t->name, is, wants);
}

/* The tensor of the text part's name, under which prefix it ever lies. */
static const struct pt2_checkpoint_tensor *find_in_whole(const struct walk *k,
                                                         const char *name)
{
    const struct pt2_checkpoint_tensor *t = NULL;
    char whole[WEIGHT_FQN_SIZE + 32];

    for (size_t i = 0; !t && text_part_name(i, name, whole, sizeof(whole)); i++)
        t = pt2_checkpoint_find_tensor(k->checkpoint, whole);
    return t;
}

/* By its name, or as transformers finds it too: without the base model's prefix, where
 * the model was saved without its head, or by the name that the head once had. */
static const struct pt2_checkpoint_tensor *find_source(const struct walk *k,
                                                       const char *name)
{
    const struct decoder_names *n = k->spec->names;
    const struct pt2_checkpoint_tensor *t =
        pt2_checkpoint_find_tensor(k->checkpoint, name);
    size_t prefix = (size_t)(strchr(n->embed, '.') + 1 - n->embed);
    size_t head = strlen(n->head);
    char old[WEIGHT_FQN_SIZE];

    if (t || k->spec->part_of)
        return t ? t : find_in_whole(k, name);
    if (strncmp(name, n->embed, prefix) == 0)
        return pt2_checkpoint_find_tensor(k->checkpoint, name + prefix);
    if (!n->old_head || strncmp(name, n->head, head) != 0)
        return NULL;
    snprintf(old, sizeof(old), "%s%s", n->old_head, name + head);
    return pt2_checkpoint_find_tensor(k->checkpoint, old);
}

/* Goes on, so that all that is missing is counted. */
static void note_missing(struct walk *k, const char *name)
{
    size_t n = strlen(k->missing);

    if (k->n_missing++ < WEIGHTS_MAX_NAMED)
        snprintf(k->missing + n, sizeof(k->missing) - n, "%s'%.90s'", n ? ", " : "",
                 name);
}

static int refuse_missing(const struct walk *k)
{
    char rest[40] = "";

    if (k->n_missing > WEIGHTS_MAX_NAMED)
        snprintf(rest, sizeof(rest), " and %zu more", k->n_missing - WEIGHTS_MAX_NAMED);
    return pt2_err_set(k->err, PT2_ERR_BAD_CHECKPOINT,
                       "%s %s%s %s missing, which config.json asks for",
                       k->n_missing == 1 ? "tensor" : "tensors", k->missing, rest,
                       k->n_missing == 1 ? "is" : "are");
}

/* Append the weight that the tensor of that name is. */
static struct weight *add(struct walk *k, enum weight_role role, int64_t layer,
                          const char *fqn_name, const char *tensor_name,
                          struct shape shape)
{
    struct weight *w = &k->weights->list[k->weights->n];
    uint64_t elements = 1;

    ASSERT(k->weights->n < k->cap);
    *w = (struct weight){.role = role, .layer = layer, .n_dims = shape.n_dims};
    memcpy(w->sizes, shape.sizes, sizeof(w->sizes));
    for (unsigned i = 0; i < shape.n_dims; i++)
        elements *= (uint64_t)shape.sizes[i];
    ASSERT(snprintf(w->fqn, sizeof(w->fqn), "model.%s", fqn_name) < (int)sizeof(w->fqn));
    w->source = find_source(k, tensor_name);
    if (!w->source)
        note_missing(k, tensor_name);
    else if (check_source(w->source, w, k->err) < 0)
        return NULL;
    w->record = k->weights->n_records++;
    k->weights->n_elements += elements;
    k->weights->n++;
    return w;
}

static struct weight *add_part(struct walk *k, enum weight_role role, int64_t layer,
                               const char *module, const char *part, struct shape shape)
{
    char name[WEIGHT_FQN_SIZE - 8];

    if (layer < 0)
        snprintf(name, sizeof(name), "%s.%s", module, part);
    else
        snprintf(name, sizeof(name), "%s.%lld.%s.%s", k->spec->names->layers,
                 (long long)layer, module, part);
    return add(k, role, layer, name, name, shape);
}

/* A tensor of the layer by its whole name there. */
static struct weight *add_of_layer(struct walk *k, enum weight_role role, int64_t layer,
                                   const char *tensor, struct shape shape)
{
    char name[WEIGHT_FQN_SIZE - 8];

    snprintf(name, sizeof(name), "%s.%lld.%s", k->spec->names->layers, (long long)layer,
             tensor);
    return add(k, role, layer, name, name, shape);
}

static int add_linear(struct walk *k, enum weight_role role, int64_t layer,
                      const char *module, int64_t rows, int64_t cols, bool has_bias)
{
    bool is_transposed = layer >= 0 && k->spec->transposed;
    struct shape shape = is_transposed ? matrix(cols, rows) : matrix(rows, cols);

    if (!add_part(k, role, layer, module, "weight", shape))
        return -1;
    if (has_bias && !add_part(k, role + 1, layer, module, "bias", vector(rows)))
        return -1;
    return 0;
}

static int add_norm(struct walk *k, enum weight_role role, int64_t layer,
                    const char *module, enum norm_kind kind, struct shape shape)
{
    bool has_weight = kind != NORM_RMS_PLAIN && kind != NORM_LAYER_PLAIN;
    bool has_bias = kind == NORM_LAYER || kind == NORM_LAYER_PLUS_ONE;

    if (!module || !has_weight)
        return 0;
    if (!add_part(k, role, layer, module, "weight", shape))
        return -1;
    if (has_bias && !add_part(k, role + 1, layer, module, "bias", shape))
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
        w = add_of_layer(k, role, layer, tensor, vector(k->spec->head_dim));
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
        if (add_linear(k, WEIGHT_QKV, layer, n->qkv, q + 2 * kv, hidden, s->qkv_bias) < 0)
            return -1;
    } else if (add_linear(k, WEIGHT_Q, layer, n->q, q, hidden, s->qkv_bias) < 0 ||
               add_linear(k, WEIGHT_K, layer, n->k, kv, hidden, s->qkv_bias) < 0 ||
               add_linear(k, WEIGHT_V, layer, n->v, kv, hidden, s->qkv_bias) < 0) {
        return -1;
    }
    if (add_qk_norms(k, layer) < 0)
        return -1;
    if (add_norm(k, WEIGHT_ATTN_SUB_NORM, layer, n->attn_sub_norm, NORM_RMS, vector(q)) <
            0 ||
        add_linear(k, WEIGHT_O, layer, n->o, hidden, q, s->o_bias) < 0)
        return -1;
    if (n->last_o_bias && layer == s->n_layers - 1 &&
        !add_of_layer(k, WEIGHT_O_BIAS, layer, n->last_o_bias, vector(hidden)))
        return -1;
    return 0;
}

/* XIELUActivation: beta and eps are buffers there. */
static int add_activation(struct walk *k, int64_t layer)
{
    const char *module = k->spec->names->act;
    struct shape number = {0, {0, 0}};
    struct weight *beta, *eps;

    if (k->spec->act != ACT_XIELU)
        return 0;
    if (!add_part(k, WEIGHT_ALPHA_P, layer, module, "alpha_p", vector(1)) ||
        !add_part(k, WEIGHT_ALPHA_N, layer, module, "alpha_n", vector(1)) ||
        !(beta = add_part(k, WEIGHT_ACT_BETA, layer, module, "beta", number)) ||
        !(eps = add_part(k, WEIGHT_ACT_EPS, layer, module, "eps", number)))
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
        add_linear(k, WEIGHT_GATE, layer, n->gate, gate, hidden, s->mlp_bias) < 0)
        return -1;
    if (s->mlp != MLP_GATED_FUSED &&
        add_linear(k, WEIGHT_UP, layer, n->up, inter, hidden, s->mlp_bias) < 0)
        return -1;
    if (add_activation(k, layer) < 0 ||
        add_norm(k, WEIGHT_MLP_SUB_NORM, layer, n->mlp_sub_norm, NORM_RMS,
                 vector(inter)) < 0)
        return -1;
    return add_linear(k, WEIGHT_DOWN, layer, n->down, hidden, inter, s->mlp_bias);
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
        add_mlp(k, layer) < 0 ||
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
        if (!add(k, WEIGHT_HEAD, -1, head, head, matrix(s->vocab_size, embed_size(s))))
            return -1;
    } else {
        struct weight *w = &ws->list[ws->n++];

        *w = ws->list[0];
        w->role = WEIGHT_HEAD;
        w->is_alias = true;
        snprintf(w->fqn, sizeof(w->fqn), "model.%s", head);
    }
    if (s->head_bias &&
        !add_part(k, WEIGHT_HEAD_BIAS, -1, s->names->head, "bias", vector(s->vocab_size)))
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
    has_embed = find_source(k, embed);
    has_head = find_source(k, head);
    k->weights->is_tied = s->tied && !(has_embed && has_head);
    k->weights->is_untied_by_data = s->tied && has_embed && has_head;
    if (!add(k, WEIGHT_EMBED, -1, embed,
             k->weights->is_tied && !has_embed && has_head ? head : embed,
             matrix(s->vocab_size, embed_size(s))))
        return -1;
    if (s->names->positions &&
        !add_part(k, WEIGHT_POSITIONS, -1, s->names->positions, "weight",
                  matrix(s->max_position + s->position_offset, s->hidden_size)))
        return -1;
    if (s->names->project_in &&
        add_linear(k, WEIGHT_PROJECT_IN, -1, s->names->project_in, s->hidden_size,
                   embed_size(s), /* has_bias= */ false) < 0)
        return -1;
    for (int64_t i = 0; i < s->n_layers; i++)
        if (add_layer(k, i) < 0)
            return -1;
    if (add_norm(k, WEIGHT_NORM, -1, s->names->norm, s->norm, vector(s->hidden_size)) < 0)
        return -1;
    if (s->names->project_out &&
        add_linear(k, WEIGHT_PROJECT_OUT, -1, s->names->project_out, embed_size(s),
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
    AUTO_PTR const struct pt2_checkpoint_tensor **used = calloc(ws->n, sizeof(*used));

    if (!used)
        return pt2_err_set(k->err, PT2_ERR_NOMEM, "%zu weights", ws->n);
    for (size_t i = 0; i < ws->n; i++)
        used[i] = ws->list[i].source;
    qsort(used, ws->n, sizeof(*used), compare_sources);
    for (size_t i = 0; i < pt2_checkpoint_n_tensors(k->checkpoint); i++) {
        const struct pt2_checkpoint_tensor *t = pt2_checkpoint_tensor(k->checkpoint, i);

        if (is_harmless(k->spec, t->name) ||
            bsearch(&t, used, ws->n, sizeof(t), compare_sources))
            continue;
        if (leave_out(k, t->name))
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
    int r;

    k.cap = ((size_t)spec->n_layers + 1) * N_WEIGHT_ROLES;
    if (spec->qk_norm == QK_NORM_MODULES)
        k.cap += (size_t)(spec->n_layers * (spec->n_heads + spec->n_kv_heads));
    weights.list = calloc(k.cap, sizeof(*weights.list));
    if (!weights.list)
        return pt2_err_set(err, PT2_ERR_NOMEM, "%zu weights", k.cap);
    r = add_all(&k);
    if (r == 0 && k.n_missing > 0)
        r = refuse_missing(&k);
    if (r < 0 || find_unused(&k) < 0) {
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
