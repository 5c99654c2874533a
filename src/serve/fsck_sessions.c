#include "serve/fsck_sessions.h"

#include "base/folder.h"
#include "serve/impl.h"
#include "store/fsck_part.h"

#include <sys/stat.h>

/* What keeps its cache from being taken back; NULL: nothing. */
static int find_fault(struct fsck *f, const struct session *s, const uint8_t *first,
                      const char **ret_why, struct pt2_err *err)
{
    bool is_there = false;

    *ret_why = NULL;
    if (fsck_has_program(f, s->facts.program, &is_there, err) < 0)
        return -1;
    if (!is_there)
        *ret_why = "its program is damaged or not there";
    if (!pt2_image_is_known(s->engine, first))
        *ret_why = "its cache was written by another version of pt2d";
    return 0;
}

/* "PATH is cut short" as "is cut short": the line begins with it. */
static const char *without_path(const char *text, const char *path)
{
    const char *rest = after_prefix(text, path);

    return rest ? rest + strspn(rest, " :") : text;
}

static int saved_entry(struct fsck *f, const char *folder, const char *name, const char *id,
                       struct pt2_err *err)
{
    char path[PATH_MAX + NAME_MAX + 2];
    uint8_t first[PT2_IMAGE_FIRST_BYTES];
    json_auto_t *facts = NULL;
    AUTO(session) s = NULL;
    struct pt2_err why = {0};
    const char *fault = NULL;
    uint64_t bytes = 0;
    int64_t expires_ms = 0;

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    if (saved_check(path, id, first, &bytes, &facts, &why) < 0 ||
        keep_read_facts(facts, id, /* node= */ "", &s, &expires_ms, &why) < 0) {
        if (why.code == PT2_ERR_NOMEM)
            return pt2_err_set(err, why.code, "%s", why.text);
        return fsck_put_aside(f, folder, name, without_path(why.text, path), err);
    }
    fsck_count_file(f, bytes);
    if (find_fault(f, s, first, &fault, err) < 0)
        return -1;
    if (expires_ms <= clock_unix_ms())
        fsck_leftover(f, folder, name, "its session has expired");
    else if (fault)
        return fsck_put_aside(f, folder, name, fault, err);
    return 0;
}

static int entry(void *context, const char *folder, const char *name, struct pt2_err *err)
{
    struct fsck *f = context;
    char path[PATH_MAX + NAME_MAX + 2], id[NAME_MAX + 1];
    struct stat st;

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode))
        fsck_found(f, FSCK_PROBLEM, NULL, "%s: is none of pt2d's folders", path);
    else if (saved_id_of(name, id, sizeof(id)))
        return saved_entry(f, folder, name, id, err);
    else if (ends_with(name, ".spill"))
        fsck_leftover(f, folder, name, "is a cache of a process that has ended");
    else
        fsck_leftover(f, folder, name, "is no session's file");
    return 0;
}

int fsck_sessions(struct fsck *f, struct pt2_err *err)
{
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "%.*s/sessions", PATH_MAX - 16, fsck_state_dir(f));
    return access(path, F_OK) < 0 ? 0 : folder_each(path, entry, f, err);
}
