/* ctl_pull.c - pt2ctl pull: a model of a Hugging Face hub becomes one of the daemon's, or a
 * directory here. */
#include "base/folder.h"
#include "checkpoint/file_names.h"
#include "checkpoint/index.h"
#include "cmd/ctl_download.h"
#include "cmd/ctl_push_files.h"
#include "cmd/ctl_show.h"
#include "cmd/hub.h"


struct pull {
    struct ctl *ctl;
    struct hub hub;
    const char *id, *output, *only; /* output and only may be NULL */
    struct hub_list list;
    char place[PATH_MAX];    /* where files are brought: output, or a folder of ours */
    char snapshot[PATH_MAX]; /* in the hub's cache; need not be there */
    struct push_files files;
};

/* ---- places ---- */

/* What a broken pull leaves is found again by the next one of the same commit. */
static int choose_place(struct pull *p, const char *commit)
{
    struct pt2_err err = {0};

    hub_snapshot(&p->hub, commit, p->snapshot);
    if (p->output)
        snprintf(p->place, sizeof(p->place), "%s", p->output);
    else
        snprintf(p->place, sizeof(p->place), "%.*s/%s/%s", PATH_MAX - 400,
                 p->hub.settings.work, p->hub.repo, commit);
    if (folder_make(p->place, 0777, &err) < 0)
        return ctl_fail(p->ctl, CTL_FILE, "%s", err.text);
    return 0;
}

/* All of it was sent.  What can't be removed the next pull goes on with; the folders above
 * may be in use. */
static void remove_place(struct pull *p)
{
    char *slash;

    (void)!folder_remove(p->place, NULL);
    while ((slash = strrchr(p->place, '/')) &&
           strlen(p->place) > strlen(p->hub.settings.work)) {
        *slash = '\0';
        if (rmdir(p->place) < 0)
            break;
    }
}

static char *join(const char *folder, const char *name)
{
    char *path = NULL;

    return asprintf(&path, "%s/%s", folder, name) < 0 ? NULL : path;
}

/* ---- files ---- */

/* The hub's cache has it, and it is right: its path, new; otherwise NULL. */
static char *find_cached(struct pull *p, const struct hub_file *file)
{
    AUTO_PTR char *path = join(p->snapshot, file->name);
    struct hub_source source;

    hub_source_init(&source, &p->hub, p->list.commit, file, NULL);
    return path && ctl_file_is(p->ctl, path, &source.fetch) ? TAKE(path) : NULL;
}

/* Into p->place: *ret_path is new. */
static int fetch(struct pull *p, const struct hub_file *file, const char *cached,
                 char **ret_path)
{
    AUTO_PTR char *path = join(p->place, file->name);
    struct output output = {0};
    struct hub_source source;
    int r;

    if (!path)
        return ctl_fail_nomem(p->ctl);
    hub_source_init(&source, &p->hub, p->list.commit, file, cached);
    if (ctl_output(p->ctl, path, &output) < 0)
        return -1;
    r = ctl_fetch(p->ctl, &source.fetch, &output, NULL);
    output_done(&output);
    if (r == 0)
        *ret_path = TAKE(path);
    return r;
}

/* Where it may lie: the hub's cache will do unless it is to be in the output. */
static int bring(struct pull *p, const struct hub_file *file, char **ret_path)
{
    AUTO_PTR char *cached = find_cached(p, file);

    if (cached && !p->output) {
        *ret_path = TAKE(cached);
        return 0;
    }
    return fetch(p, file, cached, ret_path);
}

/* ---- which files ---- */

/* Mark the shards that the index names. */
static int want_shards(struct pull *p, const struct shard_index *index)
{
    for (size_t i = 0; i < index->n; i++) {
        struct hub_file *shard = hub_list_find(&p->list, index->entries[i].shard);

        if (!shard)
            return ctl_fail(p->ctl, CTL_BROKEN,
                            "'%s', which the index names, is not on the hub",
                            index->entries[i].shard);
        shard->is_wanted = true;
    }
    return 0;
}

static int read_index(struct pull *p)
{
    struct files files = FILES_INIT;
    struct shard_index index = {0};
    AUTO_PTR char *path = NULL;
    struct pt2_err err = {0};
    bool found = false;
    int r;

    if (bring(p, hub_list_find(&p->list, INDEX_NAME), &path) < 0)
        return -1;
    *strrchr(path, '/') = '\0';
    r = files_open_dir(&files, path, &err);
    if (r == 0)
        r = files_open(&files, INDEX_NAME, PT2_FILE_INDEX, &found, &err);
    if (r == 0 && found)
        r = index_read(&files, 0, &index, &err);
    r = r < 0 ? ctl_fail_err(p->ctl, CTL_BROKEN, &err) : want_shards(p, &index);
    index_done(&index);
    files_done(&files);
    return r;
}

static int choose(struct pull *p)
{
    struct pt2_err err = {0};
    bool has_index;

    if (hub_list_choose(&p->list, p->only, &has_index, &err) < 0)
        return ctl_fail(p->ctl, CTL_MISSING, "model '%s': %s", p->hub.repo, err.text);
    return has_index ? read_index(p) : 0;
}

/* ---- to a directory ---- */

static int show_output(struct pull *p, const char *commit, size_t n, uint64_t bytes)
{
    char size[SHOW_SIZE_CHARS];

    if (p->ctl->json) {
        json_auto_t *json =
            json_pack("{s:s, s:s, s:s, s:I, s:I}", "model", p->hub.repo, "commit", commit,
                      "directory", p->output, "files", (json_int_t)n, "bytes",
                      (json_int_t)bytes);

        return show_json(p->ctl, json);
    }
    show_line("model", "%s", p->hub.repo);
    show_line("commit", "%s", commit);
    show_line("directory", "%s", p->output);
    show_line("files", "%zu, %s", n, show_bytes(bytes, size));
    return 0;
}

static int to_output(struct pull *p)
{
    uint64_t bytes = 0;
    size_t n = 0;

    for (size_t i = 0; i < p->list.n; i++) {
        const struct hub_file *file = &p->list.files[i];
        AUTO_PTR char *path = NULL;

        if (!file->is_wanted)
            continue;
        if (bring(p, file, &path) < 0)
            return -1;
        n++;
        bytes += file->bytes;
    }
    return show_output(p, p->list.commit, n, bytes);
}

/* ---- to the daemon ---- */

/* Weights whose SHA-256 the hub says are not brought before the daemon asks for them. */
static int add_file(struct pull *p, const struct hub_file *file)
{
    AUTO_PTR char *path = NULL;
    struct push_file *added;

    if (file->kind != BLOB_SHA256 && bring(p, file, &path) < 0)
        return -1;
    if (push_files_add(p->ctl, &p->files, file->name, path, file->bytes, &added) < 0)
        return -1;
    if (file->kind == BLOB_SHA256)
        memcpy(added->sha256, file->digest, SHA256_HEX);
    return push_file_digest(p->ctl, added);
}

/* What was fetched for it is not needed any more. */
static int send_missing(struct pull *p, struct push_file *file)
{
    const struct hub_file *on_hub = hub_list_find(&p->list, file->name);
    AUTO_PTR char *ours = join(p->place, file->name);

    if (!file->path && bring(p, on_hub, &file->path) < 0)
        return -1;
    if (push_file_send(p->ctl, p->id, &p->files, file) < 0)
        return -1;
    if (ours)
        unlink(ours);
    return 0;
}

static int publish(struct pull *p)
{
    json_auto_t *model = NULL;

    if (push_files_publish(p->ctl, p->id, &p->files, &model) < 0)
        return -1;
    for (size_t i = 0; !model && i < p->files.n; i++)
        if (p->files.files[i].is_missing && send_missing(p, &p->files.files[i]) < 0)
            return -1;
    if (!model && push_files_publish(p->ctl, p->id, &p->files, &model) < 0)
        return -1;
    if (!model)
        return ctl_fail(p->ctl, CTL_REFUSED,
                        "what was sent for model '%s' is gone again: somebody else "
                        "publishes or deletes it",
                        p->id);
    return push_files_show(p->ctl, &p->files, model);
}

static int to_daemon(struct pull *p)
{
    for (size_t i = 0; i < p->list.n; i++)
        if (p->list.files[i].is_wanted && add_file(p, &p->list.files[i]) < 0)
            return -1;
    if (publish(p) < 0)
        return -1;
    remove_place(p);
    return 0;
}

/* ---- without the hub ---- */

/* The cache's snapshot as it is: its digests are what they are. */
static int from_cache(struct pull *p)
{
    char commit[HUB_COMMIT_SIZE];
    struct hub_file file = {.kind = BLOB_SHA256};

    if (hub_cached_commit(&p->hub, commit) < 0 || choose_place(p, commit) < 0 ||
        push_files_of_checkpoint(p->ctl, p->snapshot, &p->files) < 0)
        return -1;
    for (size_t i = 0; i < p->files.n; i++) {
        struct push_file *here = &p->files.files[i];
        AUTO_PTR char *path = NULL;

        if (push_file_digest(p->ctl, here) < 0)
            return -1;
        file.name = here->name;
        file.bytes = here->bytes;
        memcpy(file.digest, here->sha256, SHA256_HEX);
        if (p->output && fetch(p, &file, here->path, &path) < 0)
            return -1;
    }
    if (p->output)
        return show_output(p, commit, p->files.n, p->files.bytes);
    if (publish(p) < 0)
        return -1;
    remove_place(p);
    return 0;
}

/* ---- the command ---- */

/* A hub that can't be reached is no failure where the cache has the model. */
static int fall_back(struct pull *p)
{
    char why[sizeof(p->ctl->text)], commit[HUB_COMMIT_SIZE];

    snprintf(why, sizeof(why), "%s", p->ctl->text);
    ctl_forgive(p->ctl);
    if (p->only || hub_cached_commit(&p->hub, commit) < 0) {
        ctl_forgive(p->ctl);
        return ctl_fail(p->ctl, CTL_UNREACHABLE, "%s", why);
    }
    if (!p->ctl->quiet)
        fprintf(stderr, "%s; using the hub's cache\n", why);
    return from_cache(p);
}

static int pull(struct pull *p)
{
    if (p->hub.settings.is_offline)
        return p->only ? ctl_fail(p->ctl, CTL_USAGE, "--file can't be had offline")
                       : from_cache(p);
    if (hub_get_list(&p->hub, &p->list) < 0)
        return p->ctl->exit == CTL_UNREACHABLE ? fall_back(p) : -1;
    if (choose_place(p, p->list.commit) < 0 || choose(p) < 0)
        return -1;
    return p->output ? to_output(p) : to_daemon(p);
}

int ctl_cmd_pull(struct ctl *ctl, int argc, char **argv)
{
    const char *revision = "main";
    struct pull p = {.ctl = ctl};
    const struct ctl_option options[] = {
        {'r', "revision", CTL_STRING, &revision, "REV",
         "a branch, tag or commit; otherwise main", 0, 0},
        {0, "as", CTL_STRING, &p.id, "ID",
         "the model's id at the daemon; otherwise the hub's name", 0, 0},
        {'f', "file", CTL_STRING, &p.only, "NAME",
         "of several weights (*.gguf) those of that name", 0, 0},
        {'o', "output", CTL_STRING, &p.output, "DIR",
         "into this directory; the daemon has no part in it", 0, 0},
        {0}};
    const struct ctl_usage usage = {
        .usage = "pull ORG/NAME [--revision REV] [--as ID | -o DIR]",
        .about =
            "Bring a model from a Hugging Face hub (HF_ENDPOINT) to the daemon and publish "
            "it, or into a\ndirectory.  What the daemon or the hub's cache on this machine "
            "has already is not downloaded; a\nbroken pull goes on with the same command.",
        .options = options,
        .min_args = 1,
        .max_args = 1};
    const char *args[1];
    int n, r;

    if (ctl_options(ctl, argc, argv, &usage, args, &n) < 0 || ctl->help)
        return ctl->help ? 0 : -1;
    if (p.id && p.output)
        return ctl_fail(ctl, CTL_USAGE, "--as is for the daemon, which -o leaves out");
    if (!p.id)
        p.id = args[0];
    if (hub_init(&p.hub, ctl, args[0], revision) < 0)
        return -1;
    r = pull(&p);
    hub_list_done(&p.list);
    push_files_done(&p.files);
    return r;
}
