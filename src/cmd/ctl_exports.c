/* ctl_exports.c - pt2ctl exports */
#include "cmd/ctl.h"
#include "cmd/ctl_http.h"
#include "cmd/ctl_show.h"

static void print_jobs(const json_t *jobs)
{
    static const char *const titles[] = {"EXPORT", "STATE", "MODEL", "CREATED",
                                         "PROGRAM"};
    AUTO(table) table = table_new(ARRAY_LEN(titles), titles);
    json_t *job;
    size_t i;

    json_array_foreach (jobs, i, job) {
        table_add_member(table, job, "id");
        table_add_member(table, job, "state");
        table_add_member(table, job, "model");
        table_add_member(table, job, "created");
        table_add_member(table, job, "program");
    }
    table_print(table, "no exports");
}

static void print_job(const json_t *job)
{
    static const char *const members[] = {
        "id",       "state",    "model",      "program", "cached", "created", "started",
        "finished", "progress", "deviations", "verify", "error", "labels", "options"};

    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        show_member(job, members[i]);
}

/* "/v1/exports?state=running&label.build=42", new */
static char *list_path(const char *state, const char *model,
                       const struct ctl_list *labels)
{
    AUTO_BUF b = BUF_INIT(1 << 16);
    AUTO_PTR char *s = ctl_path("%s", state), *m = ctl_path("%s", model);

    buf_str(&b, "/v1/exports");
    if (state && s)
        buf_printf(&b, "?state=%s", s);
    if (model && m)
        buf_printf(&b, "%cmodel=%s", strchr(b.data, '?') ? '&' : '?', m);
    for (size_t i = 0; i < labels->n; i++) {
        const char *equals = strchr(labels->items[i], '=');
        AUTO_PTR char *name = NULL, *value = NULL;

        name =
            strndup(labels->items[i], equals ? (size_t)(equals - labels->items[i]) : 64);
        value = ctl_path("label.%s=%s", name, equals ? equals + 1 : "");
        if (name && value)
            buf_printf(&b, "%c%s", strchr(b.data, '?') ? '&' : '?', value);
    }
    return buf_failed(&b) ? NULL : buf_take(&b);
}

/* One job: show it, cancel it or forget it. */
static int one(struct ctl *ctl, const char *id, bool cancel, bool forget)
{
    AUTO_PTR char *path =
        ctl_path(cancel ? "/v1/exports/%s/cancel" : "/v1/exports/%s", id);
    json_auto_t *job = NULL;

    if (ctl_json(ctl, cancel ? "POST" : forget ? "DELETE" : "GET", path, NULL, &job) < 0)
        return -1;
    if (!job)
        return 0;
    if (ctl->json)
        return show_json(ctl, job);
    print_job(job);
    return 0;
}

int ctl_cmd_exports(struct ctl *ctl, int argc, char **argv)
{
    const char *state = NULL, *model = NULL;
    struct ctl_list labels = {.n = 0};
    bool cancel = false, forget = false;
    const struct ctl_option options[] = {
        {0, "state", CTL_STRING, &state, "STATE",
         "only those: queued, running, succeeded, failed, cancelled", 0, 0},
        {0, "model", CTL_STRING, &model, "MODEL", "only those of this model", 0, 0},
        {'l', "label", CTL_LIST, &labels, "NAME=VALUE", "only those with this label", 0,
         0},
        {0, "cancel", CTL_FLAG, &cancel, NULL, "stop the one named", 0, 0},
        {0, "delete", CTL_FLAG, &forget, NULL, "forget the one named, which is finished",
         0, 0},
        {0}};
    const struct ctl_usage usage = {
        .usage = "exports [EXPORT] [options]",
        .about = "List the export jobs, newest first, or show, cancel or forget one.",
        .options = options,
        .max_args = 1};
    AUTO_PTR char *path = NULL;
    json_auto_t *jobs = NULL;
    const char *args[1];
    int n;

    if (ctl_options(ctl, argc, argv, &usage, args, &n) < 0)
        return -1;
    if (ctl->help)
        return 0;
    if (n)
        return one(ctl, args[0], cancel, forget);
    if (cancel || forget)
        return ctl_fail(ctl, CTL_USAGE, "--cancel and --delete want an export");
    path = list_path(state, model, &labels);
    if (ctl_list(ctl, path, &jobs) < 0)
        return -1;
    if (ctl->json)
        return show_json(ctl, jobs);
    print_jobs(jobs);
    return 0;
}
