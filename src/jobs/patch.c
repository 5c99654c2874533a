#include "jobs/patch.h"

#include "base/clock.h"

void patch_begin(struct patch *patch, enum job_state state)
{
    *patch = (struct patch){.state = state, .now_ms = clock_unix_ms()};
}

static void apply_numbers(const struct patch *patch, struct job_row *row)
{
    row->state = patch->state;
    row->attempts += patch->attempts;
    row->version++;
    row->cached = patch->cached;
    if (patch->state == JOB_QUEUED)
        row->started_ms = 0;
    else if (patch->state == JOB_RUNNING)
        row->started_ms = patch->now_ms;
    else
        row->finished_ms = patch->now_ms;
    if (patch->program)
        snprintf(row->program, sizeof(row->program), "%s", patch->program);
}

int patch_write(const struct patch *patch, struct store *store, const struct job_row *row,
                struct pt2_err *err)
{
    struct job_row changed = *row; /* borrows row's texts, and the patch's */
    AUTO_PTR char *deviations = NULL;
    AUTO_PTR char *error = NULL;
    AUTO_PTR char *verify = NULL;
    AUTO_PTR char *pte = NULL;

    apply_numbers(patch, &changed);
    if (patch->deviations)
        changed.deviations = deviations = strdup(patch->deviations);
    if (patch->error)
        changed.error = error = strdup(patch->error);
    if (patch->verify)
        changed.verify = verify = strdup(patch->verify);
    if (patch->pte)
        changed.pte = pte = strdup(patch->pte);
    if ((patch->deviations && !deviations) || (patch->error && !error) ||
        (patch->verify && !verify) || (patch->pte && !pte))
        return pt2_err_set(err, PT2_ERR_NOMEM, "a job's change");
    return jobs_db_update(store, &changed, err);
}

static int write_each(const struct patch *patch, struct store *store,
                      const struct run *run, struct pt2_err *err)
{
    for (const struct job *job = run->jobs; job; job = job->next)
        if (patch_write(patch, store, &job->row, err) < 0)
            return -1;
    return 0;
}

int patch_write_all(const struct patch *patch, struct store *store, const struct run *run,
                    struct pt2_err *err)
{
    if (store_begin(store, err) < 0)
        return -1;
    if (write_each(patch, store, run, err) < 0) {
        store_rollback(store);
        return -1;
    }
    return store_commit(store, err);
}

static void replace(char **text, const char *by)
{
    char *copy = by ? strdup(by) : NULL;

    if (!copy)
        return;
    free(*text);
    *text = copy;
}

void patch_apply(const struct patch *patch, struct job *job)
{
    apply_numbers(patch, &job->row);
    replace(&job->row.deviations, patch->deviations);
    replace(&job->row.error, patch->error);
    replace(&job->row.verify, patch->verify);
    replace(&job->row.pte, patch->pte);
    job->n_told = 0;
}
