#include "store/jobs_db.h"

#include "base/buf.h"
#include "store/sql.h"

#define COLUMNS                                                                          \
    "seq, id, state, model, options, labels, attempts, version, cached, program, "       \
    "deviations, error, created, started, finished, verify, pte, owner"

const char *job_state_name(enum job_state state)
{
    static const char *const names[JOB_N_STATES] = {"queued", "running", "succeeded",
                                                    "failed", "cancelled"};

    return names[state];
}

void job_row_done(struct job_row *row)
{
    free(row->model);
    free(row->options);
    free(row->labels);
    free(row->deviations);
    free(row->error);
    free(row->verify);
    free(row->pte);
    *row = (struct job_row){0};
}

static int copy(struct sql *q, int column, char **ret, struct pt2_err *err)
{
    const char *text = sql_text(q, column);

    *ret = text ? strdup(text) : NULL;
    return text && !*ret ? pt2_err_set(err, PT2_ERR_NOMEM, "a job's row") : 0;
}

static int read_row(struct sql *q, struct job_row *row, struct pt2_err *err)
{
    const char *program = sql_text(q, 9);

    row->seq = sql_int(q, 0);
    snprintf(row->id, sizeof(row->id), "%s", sql_text(q, 1));
    row->state = (enum job_state)sql_int(q, 2);
    row->attempts = sql_int(q, 6);
    row->version = sql_int(q, 7);
    row->cached = sql_int(q, 8) != 0;
    snprintf(row->program, sizeof(row->program), "%s", program ? program : "");
    row->created_ms = sql_int(q, 12);
    row->started_ms = sql_int(q, 13);
    row->finished_ms = sql_int(q, 14);
    snprintf(row->owner, sizeof(row->owner), "%s", sql_text(q, 17));
    if (copy(q, 3, &row->model, err) < 0 || copy(q, 4, &row->options, err) < 0 ||
        copy(q, 5, &row->labels, err) < 0 || copy(q, 10, &row->deviations, err) < 0 ||
        copy(q, 11, &row->error, err) < 0 || copy(q, 15, &row->verify, err) < 0 ||
        copy(q, 16, &row->pte, err) < 0)
        return -1;
    return 0;
}

static void put_time(struct sql *q, int64_t ms)
{
    if (ms)
        sql_put_int(q, ms);
    else
        sql_put_text(q, NULL);
}

/* The columns that can change, in the order of both statements below. */
static void put_changing(struct sql *q, const struct job_row *row)
{
    sql_put_int(q, row->state);
    sql_put_int(q, row->attempts);
    sql_put_int(q, row->version);
    sql_put_int(q, row->cached);
    sql_put_text(q, row->program[0] ? row->program : NULL);
    sql_put_text(q, row->deviations);
    sql_put_text(q, row->error);
    sql_put_text(q, row->verify);
    sql_put_text(q, row->pte);
    put_time(q, row->started_ms);
    put_time(q, row->finished_ms);
    sql_put_text(q, row->id);
}

int jobs_db_insert(struct store *store, const struct job_row *row, int64_t *ret_seq,
                   struct pt2_err *err)
{
    struct sql q;
    int r;

    if (store_begin(store, err) < 0)
        return -1;
    sql_open(&q, store,
             "INSERT INTO jobs (state, attempts, version, cached, program, deviations,"
             " error, verify, pte, started, finished, id, model, options, labels,"
             " created, owner) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
             err);
    put_changing(&q, row);
    sql_put_text(&q, row->model);
    sql_put_text(&q, row->options);
    sql_put_text(&q, row->labels);
    sql_put_int(&q, row->created_ms);
    sql_put_text(&q, row->owner);
    r = sql_run(&q);
    if (r < 0) {
        store_rollback(store);
        return -1;
    }
    *ret_seq = sql_last_id(&q);
    return store_commit(store, err);
}

int jobs_db_update(struct store *store, const struct job_row *row, struct pt2_err *err)
{
    struct sql q;

    sql_open(&q, store,
             "UPDATE jobs SET state = ?, attempts = ?, version = ?, cached = ?,"
             " program = ?, deviations = ?, error = ?, verify = ?, pte = ?, started = ?,"
             " finished = ?"
             " WHERE id = ?",
             err);
    put_changing(&q, row);
    return sql_run(&q) < 0 ? -1 : 0;
}

int jobs_db_find(struct store *store, const char *id, bool *ret_found,
                 struct job_row *ret_row, struct pt2_err *err)
{
    struct sql q;
    int r;

    sql_open(&q, store, "SELECT " COLUMNS " FROM jobs WHERE id = ?", err);
    sql_put_text(&q, id);
    r = sql_next(&q);
    *ret_found = r > 0;
    if (r > 0)
        r = read_row(&q, ret_row, err);
    sql_done(&q);
    return r < 0 ? -1 : 0;
}

int jobs_db_delete(struct store *store, const char *id, struct pt2_err *err)
{
    struct sql q;

    sql_open(&q, store, "DELETE FROM jobs WHERE id = ?", err);
    sql_put_text(&q, id);
    return sql_run(&q) < 0 ? -1 : 0;
}

int jobs_db_prune(struct store *store, int64_t before_ms, int64_t max_kept,
                  struct pt2_err *err)
{
    struct sql q;

    sql_open(&q, store, "DELETE FROM jobs WHERE finished < ?", err);
    sql_put_int(&q, before_ms);
    if (sql_run(&q) < 0)
        return -1;
    sql_open(&q, store,
             "DELETE FROM jobs WHERE seq <= (SELECT max(seq) FROM jobs) - ?"
             " AND +finished IS NOT NULL", /* +: by seq, not by the index of times */
             err);
    sql_put_int(&q, max_kept);
    return sql_run(&q) < 0 ? -1 : 0;
}

static int each_row(struct sql *q, jobs_db_each *each, void *ctx, struct pt2_err *err)
{
    int r;

    while ((r = sql_next(q)) > 0) {
        AUTO_JOB_ROW row = {0};

        if (read_row(q, &row, err) < 0 || each(ctx, &row, err) < 0)
            return -1;
    }
    return r;
}

int jobs_db_list(struct store *store, const struct jobs_filter *filter, int64_t before,
                 int64_t limit, jobs_db_each *each, void *ctx, struct pt2_err *err)
{
    AUTO_BUF text = BUF_INIT(64 << 10);
    struct sql q;
    int r;

    buf_str(&text, "SELECT " COLUMNS " FROM jobs WHERE seq < ?");
    if (filter->who)
        buf_str(&text, " AND owner = ?");
    if (filter->state >= 0)
        buf_str(&text, " AND state = ?");
    if (filter->model)
        buf_str(&text, " AND model = ?");
    for (size_t i = 0; i < filter->n_labels; i++)
        buf_str(&text, " AND EXISTS (SELECT 1 FROM json_each(jobs.labels) AS l"
                       " WHERE l.key = ? AND l.value = ?)");
    buf_str(&text, " ORDER BY seq DESC LIMIT ?");
    if (buf_failed(&text))
        return pt2_err_set(err, PT2_ERR_NOMEM, "a list of jobs");
    sql_open(&q, store, text.data, err);
    sql_put_int(&q, before > 0 ? before : INT64_MAX);
    if (filter->who)
        sql_put_text(&q, filter->who);
    if (filter->state >= 0)
        sql_put_int(&q, filter->state);
    if (filter->model)
        sql_put_text(&q, filter->model);
    for (size_t i = 0; i < filter->n_labels; i++) {
        sql_put_text(&q, filter->labels[i].name);
        sql_put_text(&q, filter->labels[i].value);
    }
    sql_put_int(&q, limit);
    r = each_row(&q, each, ctx, err);
    sql_done(&q);
    return r;
}

int jobs_db_count(struct store *store, int64_t ret_n[JOB_N_STATES], struct pt2_err *err)
{
    struct sql q;
    int r;

    memset(ret_n, 0, JOB_N_STATES * sizeof(*ret_n));
    sql_open(&q, store, "SELECT state, count(*) FROM jobs GROUP BY state", err);
    while ((r = sql_next(&q)) > 0) {
        int64_t state = sql_int(&q, 0);

        if (state >= 0 && state < JOB_N_STATES)
            ret_n[state] = sql_int(&q, 1);
    }
    sql_done(&q);
    return r;
}

int jobs_db_unfinished(struct store *store, jobs_db_each *each, void *ctx,
                       struct pt2_err *err)
{
    struct sql q;
    int r;

    sql_open(&q, store, "SELECT " COLUMNS " FROM jobs WHERE state IN (?, ?) ORDER BY seq",
             err);
    sql_put_int(&q, JOB_QUEUED);
    sql_put_int(&q, JOB_RUNNING);
    r = each_row(&q, each, ctx, err);
    sql_done(&q);
    return r;
}
