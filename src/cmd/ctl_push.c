/* ctl_push.c - pt2ctl push: a checkpoint directory becomes a model of the daemon. */
#include "cmd/ctl_http.h"
#include "cmd/ctl_push_files.h"
#include "cmd/ctl_show.h"

#include <errno.h>
#include <limits.h>

static int digest_all(struct ctl *ctl, struct push_files *files)
{
    uint64_t done = 0;
    struct bar bar;
    int r = 0;

    bar_start(&bar, ctl);
    for (size_t i = 0; i < files->n && r == 0; i++) {
        bar_draw(&bar, "digests", done, files->bytes, true);
        r = push_file_digest(ctl, &files->files[i]);
        done += files->files[i].bytes;
    }
    bar_end(&bar);
    return r;
}

static int send_missing(struct ctl *ctl, const char *id, struct push_files *files)
{
    for (size_t i = 0; i < files->n; i++)
        if (files->files[i].is_missing &&
            push_file_send(ctl, id, files, &files->files[i]) < 0)
            return -1;
    return 0;
}

static int push(struct ctl *ctl, const char *dir, const char *id,
                struct push_files *files)
{
    json_auto_t *model = NULL;

    if (push_files_of_checkpoint(ctl, dir, files) < 0 || digest_all(ctl, files) < 0 ||
        push_files_publish(ctl, id, files, &model) < 0)
        return -1;
    if (!model && (send_missing(ctl, id, files) < 0 ||
                   push_files_publish(ctl, id, files, &model) < 0))
        return -1;
    if (!model)
        return ctl_fail(ctl, CTL_REFUSED,
                        "what was sent for model '%s' is gone again: somebody else "
                        "publishes or deletes it",
                        id);
    return push_files_show(ctl, files, model);
}

int ctl_cmd_push(struct ctl *ctl, int argc, char **argv)
{
    const char *id = NULL;
    const struct ctl_option options[] = {
        {0, "as", CTL_STRING, &id, "ID",
         "the model's id, NAME or ORG/NAME; otherwise the directory's name", 0, 0},
        {0}};
    const struct ctl_usage usage = {
        .usage = "push DIR [--as ID]",
        .about =
            "Send a checkpoint directory (config.json, *.safetensors, the tokenizer) and "
            "publish it as a\nmodel.  Files that the daemon has already are not sent "
            "again, so an interrupted push goes on\nwith the same command.",
        .options = options,
        .min_args = 1,
        .max_args = 1};
    struct push_files files = {0};
    char path[PATH_MAX];
    const char *args[1];
    int n, r;

    if (ctl_options(ctl, argc, argv, &usage, args, &n) < 0 || ctl->help)
        return ctl->help ? 0 : -1;
    if (!realpath(args[0], path))
        return ctl_fail(ctl, CTL_FILE, "%s: %s", args[0], strerror(errno));
    r = push(ctl, path, id ? id : strrchr(path, '/') + 1, &files);
    push_files_done(&files);
    return r;
}
