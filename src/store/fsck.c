#include "store/fsck_impl.h"

#include "base/folder.h"

#include <errno.h>
#include <stdarg.h>
#include <sys/stat.h>

#define LINE_SIZE (PATH_MAX + 512)

/* ---- what was found ---- */

void fsck_found(struct fsck *f, enum fsck_kind kind, const char *done, const char *fmt, ...)
{
    struct fsck_result *r = f->result;
    char line[LINE_SIZE];
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    if (done && n >= 0 && (size_t)n < sizeof(line))
        snprintf(line + n, sizeof(line) - (size_t)n, ": %s", done);
    f->options->say(f->options->ctx, line);
    if (kind == FSCK_PROBLEM)
        r->n_problems++;
    else
        r->n_leftovers++;
    if (done)
        r->n_repaired++;
    else if (kind == FSCK_PROBLEM)
        r->n_left++;
}

void fsck_leftover(struct fsck *f, const char *folder, const char *name, const char *why)
{
    char path[PATH_MAX + NAME_MAX + 2];
    struct pt2_err err = {0};

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    if (!f->options->repair)
        fsck_found(f, FSCK_LEFTOVER, NULL, "%s: %s", path, why);
    else if (folder_remove(path, &err) == 0)
        fsck_found(f, FSCK_LEFTOVER, "removed", "%s: %s", path, why);
    else
        fsck_found(f, FSCK_PROBLEM, NULL, "%s: %s, and can't be removed: %s", path, why,
                   err.text);
}

int fsck_put_aside(struct fsck *f, const char *folder, const char *name, const char *why,
                   struct pt2_err *err)
{
    char from[PATH_MAX + NAME_MAX + 2], to[PATH_MAX + NAME_MAX + 16];

    snprintf(from, sizeof(from), "%s/%s", folder, name);
    snprintf(to, sizeof(to), "%.*s/" OBJECTS_LOST, PATH_MAX - 16, fsck_state_dir(f));
    if (f->options->repair) {
        if (mkdir(to, 0700) < 0 && errno != EEXIST)
            return pt2_err_errno(err, PT2_ERR_IO, "%s", to);
        snprintf(to + strlen(to), sizeof(to) - strlen(to), "/%s", name);
        if (rename(from, to) < 0)
            return pt2_err_errno(err, PT2_ERR_IO, "%s", from);
    }
    fsck_found(f, FSCK_PROBLEM, f->options->repair ? "moved to " OBJECTS_LOST : NULL, "%s: %s",
               from, why);
    return 0;
}

const char *fsck_state_dir(const struct fsck *f)
{
    return store_dir(f->store);
}

void fsck_count_file(struct fsck *f, uint64_t bytes)
{
    f->result->n_files++;
    f->result->bytes += bytes;
}

/* ---- tmp ---- */

static int temp_entry(void *ctx, const char *folder, const char *name, struct pt2_err *err)
{
    (void)err;
    fsck_leftover(ctx, folder, name, "was under way");
    return 0;
}

static int fsck_temp(struct fsck *f, struct pt2_err *err)
{
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "%.*s/tmp", PATH_MAX - 8, store_dir(f->store));
    return access(path, F_OK) < 0 ? 0 : folder_each(path, temp_entry, f, err);
}

/* ---- all of it ---- */

/* In this order: what goes by rows comes after the rows.  Whatever else the state directory comes
 * to keep has a function here, or is a part of the layer that keeps it. */
static int (*const checks[])(struct fsck *f, struct pt2_err *err) = {
    fsck_database, fsck_references, fsck_temp, fsck_objects, fsck_uploads,
};

static int check_all(struct fsck *f, struct pt2_err *err)
{
    if (store_open_to_check(f->options->state_dir, !f->options->repair, &f->store, err) < 0 ||
        objects_look(f->options->state_dir, &f->objects, err) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(checks); i++)
        if (checks[i](f, err) < 0)
            return -1;
    for (size_t i = 0; i < f->options->n_parts; i++)
        if (f->options->parts[i](f, err) < 0)
            return -1;
    return 0;
}

int fsck_run(const struct fsck_options *options, struct fsck_result *ret_result,
             struct pt2_err *err)
{
    struct fsck f = {.options = options, .result = ret_result, .damaged = json_object()};
    int r;

    *ret_result = (struct fsck_result){0};
    if (!f.damaged)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a list of programs");
    r = check_all(&f, err);
    json_decref(f.damaged);
    objects_free(f.objects);
    store_free(f.store);
    return r;
}
