#include "http/endpoints.h"
#include "http/list_page.h"
#include "http/reply.h"
#include "jobs/jobs.h"

static bool read_state(struct http_request *req, struct jobs_filter *filter)
{
    const char *name = http_query(req, "state");

    filter->state = -1;
    if (!name)
        return true;
    for (int i = 0; i < JOB_N_STATES; i++)
        if (streq(name, job_state_name((enum job_state)i)))
            filter->state = i;
    if (filter->state < 0)
        http_reply_problem(req, PT2_ERR_INVALID,
                           "state=%.40s: one of queued, running, succeeded, failed, "
                           "cancelled is meant",
                           name);
    return filter->state >= 0;
}

static bool read_labels(struct http_request *req, struct jobs_filter *filter)
{
    const char *name, *value, *label;

    for (size_t i = 0; http_query_each(req, i, &name, &value); i++) {
        label = after_prefix(name, "label.");
        if (!label)
            continue;
        if (!*label || filter->n_labels == JOB_MAX_LABELS) {
            http_reply_problem(req, PT2_ERR_INVALID,
                               "label.NAME=VALUE is meant, at most %d of them",
                               JOB_MAX_LABELS);
            return false;
        }
        filter->labels[filter->n_labels].name = label;
        filter->labels[filter->n_labels++].value = value;
    }
    return true;
}

void exports_list_get(struct http_request *req)
{
    struct jobs_filter filter = {.who = http_who(req), .model = http_query(req, "model")};
    struct pt2_err err = {0};
    struct list_page page;
    json_t *data = NULL;
    int64_t next = 0;

    if (list_page(req, &page) < 0 || !read_state(req, &filter) ||
        !read_labels(req, &filter))
        return;
    if (jobs_list(req->app->jobs, &filter, page.limit, page.after, &data, &next, &err) <
        0)
        http_reply_err(req, &err);
    else
        list_reply(req, data, next);
}
