#include "cmd/export_sandbox.h"

#include "base/folder.h"
#include "base/landlock.h"
#include "base/sandbox.h"
#include "base/spawn.h"

#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

/* The threads that come need no program, and nothing beyond tbl_work_calls.h. */
#define WORKS \
    (SANDBOX_NO_NETWORK | SANDBOX_NO_EXEC | SANDBOX_NO_CHANGE | SANDBOX_WORK_ONLY)

static int enter(struct landlock *rules, int r, unsigned deny, struct pt2_err *err)
{
    if (r == 0)
        r = landlock_enter(rules, err);
    landlock_done(rules);
    if (r == 0 && deny)
        r = sandbox_enter(deny, err);
    return r;
}

/* A download's files may be links into a store of blobs.  Only files' targets: a folder's
 * would bring more than the checkpoint. */
static int allow_target(void *ctx, const char *folder, const char *name,
                        struct pt2_err *err)
{
    char path[PATH_MAX];
    struct stat st;

    if ((size_t)snprintf(path, sizeof(path), "%s/%s", folder, name) >= sizeof(path) ||
        lstat(path, &st) < 0 || !S_ISLNK(st.st_mode) || stat(path, &st) < 0 ||
        !S_ISREG(st.st_mode))
        return 0;
    return landlock_allow(ctx, path, LANDLOCK_READ, err);
}

static int allow_checkpoint(struct landlock *rules, const char *path, struct pt2_err *err)
{
    struct stat st;

    if (stat(path, &st) < 0)
        return 0; /* whoever opens it will say */
    if (landlock_allow(rules, path, LANDLOCK_READ | LANDLOCK_LIST, err) < 0)
        return -1;
    return S_ISDIR(st.st_mode) ? folder_each(path, allow_target, rules, err) : 0;
}

int export_sandbox_checkpoint(const char *path, struct pt2_err *err)
{
    struct landlock rules;

    if (landlock_begin(&rules, err) < 0)
        return -1;
    return enter(&rules, allow_checkpoint(&rules, path, err), WORKS, err);
}

int export_sandbox_open_files(struct pt2_err *err)
{
    struct landlock rules;

    if (landlock_begin(&rules, err) < 0)
        return -1;
    return enter(&rules, 0, WORKS | SANDBOX_NO_OPEN, err);
}

/* It may be a link to elsewhere; where there is none, whoever starts it will say. */
static int allow_engine(struct landlock *rules, struct pt2_err *err)
{
    char path[PATH_MAX];

    if (spawn_find("pt2-aten", PT2_LIBEXECDIR, path, sizeof(path), NULL) < 0)
        return 0;
    return landlock_allow(rules, path, LANDLOCK_READ | LANDLOCK_RUN, err);
}

int export_sandbox_verify(const char *path, struct pt2_err *err)
{
    struct landlock rules;
    int r;

    if (landlock_begin(&rules, err) < 0)
        return -1;
    r = landlock_allow(&rules, path, LANDLOCK_READ | LANDLOCK_WRITE, err);
    if (r == 0)
        r = landlock_allow_libraries(&rules, err);
    if (r == 0)
        r = allow_engine(&rules, err);
    return enter(&rules, r,
                 SANDBOX_NO_NETWORK | SANDBOX_HAS_CHILDREN | SANDBOX_NO_CHANGE, err);
}
