/* native_open.c - opening and closing: the archive mapped, its graph compiled. */
#include "engine/native.h"

#include "base/log.h"
#include "native/pack.h"

static bool native_is_dead(struct pt2_engine *engine)
{
    return native_engine(engine)->is_dead;
}

/* Also where caches are short in the program: undoing a step puts the blocks back. */
static bool native_can_rewind(const struct pt2_engine *engine)
{
    (void)engine;
    return true;
}

static int64_t native_slice(const struct pt2_engine *engine)
{
    return MAX(RUN_MAX_ROWS / engine->decoder.batch_size, 1);
}

static int64_t native_max_rows(const struct pt2_engine *engine)
{
    (void)engine;
    return RUN_MAX_ROWS;
}

static void native_free(struct pt2_engine *base)
{
    struct native_engine *engine = native_engine(base);

    ASSERT(engine->n_tables == 0); /* its caches go first */
    plan_runner_free(engine->runner);
    if (engine->store.kinds)
        block_store_done(&engine->store);
    plan_free(engine->plan);
    pt2_program_free(engine->program);
    pt2_archive_free(engine->archive);
    layout_done(&base->layout);
    layout_done(&base->int8);
    free(engine->int8);
    free(engine->row);
    free(engine);
}

static const struct engine_ops native_ops = {
    .kind = PT2_ENGINE_NATIVE,
    .free = native_free,
    .is_dead = native_is_dead,
    .can_rewind = native_can_rewind,
    .rewind_floor = native_rewind_floor,
    .slice = native_slice,
    .max_rows = native_max_rows,
    .steps = native_steps,
    .cache_new = native_cache_new,
    .cache_fork = native_cache_fork,
    .cache_adopt = native_cache_adopt,
    .cache_free = native_cache_free,
    .cache_cost = native_cache_cost,
    .cache_growth = native_cache_growth,
    .cache_bytes = native_cache_bytes,
    .cache_read = native_cache_read,
    .cache_write = native_cache_write,
    .put_away = native_put_away,
    .take_back = native_take_back,
    .image_cost = native_image_cost,
    .undo_new = native_undo_new,
    .undo_apply = native_undo_apply,
    .undo_free = native_undo_free,
};

/* One of the program's buffers as it is there. */
static struct layout_buffer plain_buffer(const struct plan *plan,
                                         const struct plan_buffer *from)
{
    struct layout_buffer b = {
        .fqn = (char *)from->fqn, /* copied */
        .dtype = from->dtype,
        .n_dims = from->n_dims,
        .position_dim = -1,
        .is_counter = from->is_counter,
    };

    memcpy(b.sizes, from->sizes, sizeof(b.sizes));
    if (!from->is_counter && from->length >= plan->decoder.max_cache_len)
        b.position_dim = (int)from->position_dim;
    return b;
}

static int lay_out(struct native_engine *engine, struct pt2_err *err)
{
    const struct plan *plan = engine->plan;

    if (layout_init(&engine->base.layout, plan->n_buffers, err) < 0)
        return -1;
    for (size_t i = 0; i < plan->n_buffers; i++) {
        struct layout_buffer b = plain_buffer(plan, &plan->buffers[i]);

        if (layout_add(&engine->base.layout, &b, err) < 0)
            return -1;
    }
    return 0;
}

static int add_int8(struct native_engine *engine, struct layout_buffer *b,
                    const struct plan_buffer *of, bool is_scale, struct pt2_err *err)
{
    engine->int8[engine->base.int8.n_buffers] = (struct native_buffer){of, is_scale};
    return layout_add(&engine->base.int8, b, err);
}

/* A cache as whole numbers, with their scales behind it. */
static int add_whole_numbers(struct native_engine *engine, struct layout_buffer *b,
                             const struct plan_buffer *of, struct pt2_err *err)
{
    AUTO_PTR char *fqn = NULL;

    if (asprintf(&fqn, "%s.scale", of->fqn) < 0) {
        fqn = NULL;
        return pt2_err_set(err, PT2_ERR_NOMEM, "cache buffers");
    }
    b->dtype = PT2_INT8;
    if (add_int8(engine, b, of, false, err) < 0)
        return -1;
    b->fqn = fqn;
    b->dtype = PT2_BFLOAT16;
    b->sizes[b->n_dims - 1] = 1;
    return add_int8(engine, b, of, true, err);
}

/* The same of caches of PT2_INT8. */
static int lay_out_int8(struct native_engine *engine, struct pt2_err *err)
{
    const struct plan *plan = engine->plan;
    size_t most = 1;

    engine->int8 = calloc(2 * plan->n_buffers + 1, sizeof(*engine->int8));
    if (!engine->int8 || layout_init(&engine->base.int8, 2 * plan->n_buffers, err) < 0)
        return pt2_err_set(err, PT2_ERR_NOMEM, "cache buffers");
    for (size_t i = 0; i < plan->n_buffers; i++) {
        const struct plan_buffer *of = &plan->buffers[i];
        struct layout_buffer b = plain_buffer(plan, of);

        if (!of->is_counter)
            most = MAX(most, (size_t)b.sizes[b.n_dims - 1]);
        if ((of->is_counter ? add_int8(engine, &b, of, false, err)
                            : add_whole_numbers(engine, &b, of, err)) < 0)
            return -1;
    }
    engine->row = malloc(most * sizeof(*engine->row));
    return engine->row ? 0 : pt2_err_set(err, PT2_ERR_NOMEM, "a row of %zu", most);
}

static uint32_t count_ids(const struct plan *plan)
{
    uint32_t n = UINT32_MAX;

    for (size_t i = 0; i < plan->n_steps; i++)
        if (plan->steps[i].op == PLAN_EMBED)
            n = MIN(n, plan->steps[i].embed.n_rows);
    return n;
}

static int engine_start(struct native_engine *engine, const char *path,
                        const struct pt2_engine_options *options, struct pt2_err *err)
{
    struct team *team;
    AUTO_FD int fd = -1;

    if (kernels_choose(&engine->kernels, err) < 0 ||
        engine_read(path, &fd, &engine->archive, &engine->program, err) < 0 ||
        plan_compile(engine->archive, engine->program, &engine->plan, err) < 0)
        return -1;
    engine->base.decoder = engine->plan->decoder;
    engine->n_ids = count_ids(engine->plan);
    if (lay_out(engine, err) < 0 || lay_out_int8(engine, err) < 0 ||
        team_shared(options ? options->n_threads : 0, &team, err) < 0 ||
        plan_pack(engine->plan, engine->archive, team, options ? options->packed_path : NULL,
                  &engine->base.warning, err) < 0 ||
        block_store_init(&engine->store, engine->plan, err) < 0)
        return -1;
    return plan_runner_new(engine->plan, &engine->store, engine->kernels, team,
                           &engine->runner, err);
}

int native_engine_open(const char *path, const struct pt2_engine_options *options,
                       struct pt2_engine **ret_engine, struct pt2_err *err)
{
    struct native_engine *engine = calloc(1, sizeof(*engine));

    if (!engine)
        return pt2_err_set(err, PT2_ERR_NOMEM, "engine");
    engine->base.magic = ENGINE_MAGIC;
    engine->base.ops = &native_ops;
    if (engine_start(engine, path, options, err) < 0) {
        pt2_engine_free(&engine->base);
        return -1;
    }
    *ret_engine = &engine->base;
    return 0;
}
