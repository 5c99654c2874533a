/* fsck_models.c - models that were published (uploads.h), as far as the store knows them.
 *
 * Of a published model's files the digests are remembered by what stat says of them (files_db.h),
 * and their names nowhere.  So a file whose bytes the disk changed is found by reading it; one
 * that was cut, or is missing, because its checkpoint can't be opened any more, which it could
 * when it was published. */
#include "store/fsck_impl.h"

#include "base/folder.h"
#include "store/files_db.h"
#include "store/uploads_impl.h"

#include <fcntl.h>
#include <sys/stat.h>

#define ADVICE "; delete the model, and publish it again"

struct model {
    struct fsck *f;
    bool is_published; /* some file of it is as uploads make them */
};

static bool is_published_file(const struct stat *st)
{
    return S_ISREG(st->st_mode) && (st->st_mode & 07777) == UPLOADS_FILE_MODE;
}

static int check_digest(struct fsck *f, const char *path, int fd, const struct stat *st,
                        struct pt2_err *err)
{
    const struct pt2_checkpoint_file facts = uploads_file_facts(st);
    uint8_t due[SHA256_BYTES], digest[SHA256_BYTES];
    struct pt2_err why = {0};
    bool is_known = false;

    if (f->is_unreadable)
        return 0;
    if (files_db_find(f->store, &facts, due, &is_known, err) < 0)
        return -1;
    if (!is_known)
        return 0;
    fsck_count_file(f, (uint64_t)st->st_size);
    if (sha256_of_file(fd, path, NULL, digest, &why) < 0)
        fsck_found(f, FSCK_PROBLEM, NULL, "%s: can't be read: %s", path, why.text);
    else if (memcmp(due, digest, sizeof(due)) != 0)
        fsck_found(f, FSCK_PROBLEM, NULL,
                   "%s: has another digest than when it was published" ADVICE, path);
    return 0;
}

static int model_file(void *ctx, const char *folder, const char *name, struct pt2_err *err)
{
    struct model *model = ctx;
    char path[PATH_MAX + NAME_MAX + 2];
    struct stat st;
    AUTO_FD int fd = -1;

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    if (lstat(path, &st) < 0 || !is_published_file(&st))
        return 0;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) < 0 || !is_published_file(&st))
        return 0;
    model->is_published = true;
    return check_digest(model->f, path, fd, &st, err);
}

/* Published ones could be opened, but for those of a kind that is not exported. */
static int check_opens(struct fsck *f, const char *folder, struct pt2_err *err)
{
    struct pt2_checkpoint *checkpoint = NULL;
    struct pt2_err why = {0};

    if (pt2_checkpoint_open(folder, &checkpoint, &why) == 0) {
        pt2_checkpoint_free(checkpoint);
        return 0;
    }
    if (why.code == PT2_ERR_NOMEM)
        return pt2_err_set(err, why.code, "%s", why.text);
    if (why.code != PT2_ERR_NOT_EXPORTABLE)
        fsck_found(f, FSCK_PROBLEM, NULL,
                   "%s: was published, and can't be opened any more: %s" ADVICE, folder,
                   why.text);
    return 0;
}

static int check_model(struct fsck *f, const char *folder, struct pt2_err *err)
{
    struct model model = {.f = f};

    if (folder_each(folder, model_file, &model, err) < 0)
        return -1;
    return model.is_published ? check_opens(f, folder, err) : 0;
}

/* One that the daemon can't read it has not made. */
static bool is_folder(const char *path, const char *name)
{
    struct stat st;

    return *name != '.' && lstat(path, &st) == 0 && S_ISDIR(st.st_mode) &&
           access(path, R_OK | X_OK) == 0;
}

/* ORG/NAME */
static int inner_entry(void *ctx, const char *folder, const char *name, struct pt2_err *err)
{
    char path[PATH_MAX + NAME_MAX + 2];

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return is_folder(path, name) ? check_model(ctx, path, err) : 0;
}

/* NAME, or ORG */
static int outer_entry(void *ctx, const char *folder, const char *name, struct pt2_err *err)
{
    char path[PATH_MAX + NAME_MAX + 2];

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    if (!is_folder(path, name))
        return 0;
    return check_model(ctx, path, err) < 0 ? -1 : folder_each(path, inner_entry, ctx, err);
}

int fsck_models(struct fsck *f, const char *dir, struct pt2_err *err)
{
    return folder_each(dir, outer_entry, f, err);
}
