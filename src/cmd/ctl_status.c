/* ctl_status.c - pt2ctl status: version, readiness, how much there is. */
#include "cmd/ctl.h"
#include "cmd/ctl_http.h"
#include "cmd/ctl_show.h"

static const char *const lists[] = {"models", "exports", "programs", "sessions"};

/* How many items a list has. */
static int count(struct ctl *ctl, const char *name, json_t *status)
{
    json_auto_t *data = NULL;
    char path[64];

    snprintf(path, sizeof(path), "/v1/%s", name);
    if (ctl_list(ctl, path, &data) < 0)
        return -1;
    json_object_set_new(status, name, json_integer((json_int_t)json_array_size(data)));
    return 0;
}

int ctl_cmd_status(struct ctl *ctl, int argc, char **argv)
{
    static const struct ctl_usage usage = {
        .usage = "status",
        .about =
            "Ask the daemon for its version, whether it is ready, and what it holds.\n"
            "Exits with 3 where none answers, with 4 where it is not ready."};
    json_auto_t *status = json_object(), *version = NULL;
    int n;

    if (ctl_options(ctl, argc, argv, &usage, NULL, &n) < 0)
        return -1;
    if (ctl->help)
        return 0;
    if (ctl_json(ctl, "GET", "/version", NULL, &version) < 0 ||
        ctl_json(ctl, "GET", "/readyz", NULL, NULL) < 0)
        return -1;
    json_object_update(status, version);
    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        if (count(ctl, lists[i], status) < 0)
            return -1;
    if (ctl->json)
        return show_json(ctl, status);
    show_line("daemon", "%s, ready", ctl_server(ctl));
    for (void *at = json_object_iter(status); at; at = json_object_iter_next(status, at))
        show_member(status, json_object_iter_key(at));
    return 0;
}
