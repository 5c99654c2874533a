#include "export/weights_walk.h"

#include "base/log.h"
#include "export/text_part.h"

static void print_sizes(char to[64], unsigned n_dims, const int64_t *sizes)
{
    size_t n = 0;

    to[0] = '\0';
    for (unsigned i = 0; i < n_dims && n < 64; i++)
        n += (size_t)snprintf(to + n, 64 - n, "%s%lld", i ? ", " : "",
                              (long long)sizes[i]);
}

static int check_source(const struct pt2_checkpoint_tensor *t, struct shape shape,
                        struct pt2_err *err)
{
    bool same = t->n_dims == shape.n_dims;
    char is[64], wants[64];

    for (unsigned i = 0; i < shape.n_dims && same; i++)
        same = t->sizes[i] == shape.sizes[i];
    if (same && !pt2_dtype_is_float(t->dtype))
        return pt2_err_set(err, PT2_ERR_NOT_EXPORTABLE,
                           "tensor '%s' is of dtype %s; floating point is offered",
                           t->name, t->dtype_name);
    if (same)
        return 0;
    print_sizes(is, t->n_dims, t->sizes);
    print_sizes(wants, shape.n_dims, shape.sizes);
    return pt2_err_set(err, PT2_ERR_BAD_CHECKPOINT,
                       "tensor '%s' is (%s), config.json says (%s)", t->name, is, wants);
}

/* ---- by which names ---- */

const char *walk_name_in_layer(const struct decoder_names *n, const char *name)
{
    size_t len = strlen(n->layers), digits;

    if (strncmp(name, n->layers, len) != 0 || name[len] != '.')
        return NULL;
    digits = strspn(name + len + 1, "0123456789");
    return name[len + 1 + digits] == '.' ? name + len + digits + 2 : NULL;
}

/* The name by which checkpoints have it, where that is another one. */
static bool find_saved_name(const struct decoder_names *n, const char *name,
                            char ret_saved[WEIGHT_FQN_SIZE])
{
    const char *rest = walk_name_in_layer(n, name);

    for (const struct rename *r = n->saved; rest && r && r->now; r++) {
        size_t len = strlen(r->now);

        if (strncmp(rest, r->now, len) == 0) {
            snprintf(ret_saved, WEIGHT_FQN_SIZE, "%.*s%s%s", (int)(rest - name), name,
                     r->saved, rest + len);
            return true;
        }
    }
    return false;
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

/* By its name, or without the base model's prefix, where the model was saved without its
 * head. */
static const struct pt2_checkpoint_tensor *find_by_name(const struct walk *k,
                                                        const char *name)
{
    const char *embed = k->spec->names->embed;
    const struct pt2_checkpoint_tensor *t =
        pt2_checkpoint_find_tensor(k->checkpoint, name);
    size_t prefix = (size_t)(strchr(embed, '.') + 1 - embed);

    if (!t && strncmp(name, embed, prefix) == 0)
        t = pt2_checkpoint_find_tensor(k->checkpoint, name + prefix);
    return t;
}

/* As transformers finds it too: also by the name that a part of the layer or the head
 * once had. */
const struct pt2_checkpoint_tensor *walk_find(const struct walk *k, const char *name)
{
    const struct decoder_names *n = k->spec->names;
    const struct pt2_checkpoint_tensor *t = find_by_name(k, name);
    size_t head = strlen(n->head);
    char old[WEIGHT_FQN_SIZE];

    if (t)
        return t;
    if (find_saved_name(n, name, old))
        return find_by_name(k, old);
    if (k->spec->part_of)
        return find_in_whole(k, name);
    if (!n->old_head || strncmp(name, n->head, head) != 0)
        return NULL;
    snprintf(old, sizeof(old), "%s%s", n->old_head, name + head);
    return pt2_checkpoint_find_tensor(k->checkpoint, old);
}

/* ---- what there is not ---- */

/* Goes on, so that all that is missing is counted. */
static void note_missing(struct walk *k, const char *name)
{
    size_t n = strlen(k->missing);

    if (k->n_missing++ < WEIGHTS_MAX_NAMED)
        snprintf(k->missing + n, sizeof(k->missing) - n, "%s'%.90s'", n ? ", " : "",
                 name);
}

int walk_check_missing(const struct walk *k)
{
    char rest[40] = "";

    if (k->n_missing == 0)
        return 0;
    if (k->n_missing > WEIGHTS_MAX_NAMED)
        snprintf(rest, sizeof(rest), " and %zu more", k->n_missing - WEIGHTS_MAX_NAMED);
    return pt2_err_set(k->err, PT2_ERR_BAD_CHECKPOINT,
                       "%s %s%s %s missing, which config.json asks for",
                       k->n_missing == 1 ? "tensor" : "tensors", k->missing, rest,
                       k->n_missing == 1 ? "is" : "are");
}

/* ---- the list ---- */

struct weight *walk_begin(struct walk *k, enum weight_role role, int64_t layer,
                          const char *name, struct shape shape)
{
    struct weight *w = &k->weights->list[k->weights->n];
    uint64_t elements = 1;

    ASSERT(k->weights->n < k->cap);
    *w = (struct weight){.role = role,
                         .layer = layer,
                         .n_dims = shape.n_dims,
                         .first_source = k->weights->n_sources};
    memcpy(w->sizes, shape.sizes, sizeof(w->sizes));
    for (unsigned i = 0; i < shape.n_dims; i++)
        elements *= (uint64_t)shape.sizes[i];
    ASSERT(snprintf(w->fqn, sizeof(w->fqn), "model.%s", name) < (int)sizeof(w->fqn));
    w->record = k->weights->n_records++;
    k->weights->n_elements += elements;
    k->weights->n++;
    return w;
}

int walk_source(struct walk *k, struct weight *w, const char *name, struct shape shape)
{
    const struct pt2_checkpoint_tensor *t = walk_find(k, name);
    char saved[WEIGHT_FQN_SIZE];

    if (!t) {
        note_missing(k, find_saved_name(k->spec->names, name, saved) ? saved : name);
        return 0;
    }
    if (check_source(t, shape, k->err) < 0)
        return -1;
    ASSERT(k->weights->n_sources < k->sources_cap);
    k->weights->sources[k->weights->n_sources++] = t;
    w->n_sources++;
    return 0;
}

struct weight *walk_add(struct walk *k, enum weight_role role, int64_t layer,
                        const char *fqn_name, const char *tensor_name,
                          struct shape shape)
{
    struct weight *w = walk_begin(k, role, layer, fqn_name, shape);

    return walk_source(k, w, tensor_name, shape) < 0 ? NULL : w;
}

void walk_name(const struct walk *k, int64_t layer, const char *part,
               char ret_name[WALK_NAME_SIZE])
{
    int n = layer < 0 ? snprintf(ret_name, WALK_NAME_SIZE, "%s", part)
                      : snprintf(ret_name, WALK_NAME_SIZE, "%s.%lld.%s",
                                 k->spec->names->layers, (long long)layer, part);

    ASSERT(n < WALK_NAME_SIZE);
}

struct weight *walk_tensor(struct walk *k, enum weight_role role, int64_t layer,
                           const char *part, struct shape shape)
{
    char name[WALK_NAME_SIZE];

    walk_name(k, layer, part, name);
    return walk_add(k, role, layer, name, name, shape);
}

struct weight *walk_part(struct walk *k, enum weight_role role, int64_t layer,
                         const char *module, const char *part, struct shape shape)
{
    char name[WALK_NAME_SIZE];

    snprintf(name, sizeof(name), "%s.%s", module, part);
    return walk_tensor(k, role, layer, name, shape);
}

int walk_linear(struct walk *k, enum weight_role role, int64_t layer,
                const char *module, int64_t rows, int64_t cols, bool has_bias)
{
    bool is_transposed = layer >= 0 && k->spec->transposed;
    struct shape shape = is_transposed ? matrix(cols, rows) : matrix(rows, cols);

    if (!walk_part(k, role, layer, module, "weight", shape))
        return -1;
    if (has_bias && !walk_part(k, role + 1, layer, module, "bias", vector(rows)))
        return -1;
    return 0;
}
