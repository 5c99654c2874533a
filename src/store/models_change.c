#include "store/models_impl.h"

#include "base/folder.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

const char *models_dir(const struct models *models)
{
    return models->dirs[0];
}

/* ---- pins: the holder of mutex, where the name says locked ---- */

static struct model_pin *find_pin_locked(struct models *models, const char *path)
{
    for (size_t i = 0; i < models->n_pins; i++)
        if (streq(models->pins[i].path, path))
            return &models->pins[i];
    return NULL;
}

static int add_pin_locked(struct models *models, const char *path, struct pt2_err *err)
{
    struct model_pin *pin = find_pin_locked(models, path), *pins;
    char *copy;

    if (pin) {
        pin->n++;
        return 0;
    }
    pins = reallocarray(models->pins, models->n_pins + 1, sizeof(*pins));
    if (pins)
        models->pins = pins;
    copy = strdup(path);
    if (!pins || !copy) {
        free(copy);
        return pt2_err_set(err, PT2_ERR_NOMEM, "a model in use");
    }
    pins[models->n_pins++] = (struct model_pin){.path = copy, .n = 1};
    return 0;
}

int models_pin(struct models *models, const char *id, char ret_path[PATH_MAX],
               struct pt2_err *err)
{
    int r;

    pthread_mutex_lock(&models->change);
    r = models_path(models, id, ret_path, err);
    if (r == 0) {
        pthread_mutex_lock(&models->mutex);
        r = add_pin_locked(models, ret_path, err);
        pthread_mutex_unlock(&models->mutex);
    }
    pthread_mutex_unlock(&models->change);
    return r;
}

void models_unpin(struct models *models, const char *path)
{
    struct model_pin *pin;

    pthread_mutex_lock(&models->mutex);
    pin = find_pin_locked(models, path);
    ASSERT(pin);
    if (--pin->n == 0) {
        free(pin->path);
        *pin = models->pins[--models->n_pins];
    }
    pthread_mutex_unlock(&models->mutex);
}

static int check_not_pinned(struct models *models, const char *id, const char *path,
                            struct pt2_err *err)
{
    bool is_pinned;

    pthread_mutex_lock(&models->mutex);
    is_pinned = find_pin_locked(models, path) != NULL;
    pthread_mutex_unlock(&models->mutex);
    if (!is_pinned)
        return 0;
    return pt2_err_set(err, PT2_ERR_IN_USE, "an export reads model '%s'", id);
}

/* ---- names ---- */

/* DIR/ORG of an id ORG/NAME, DIR of an id NAME. */
static int parent_of(const struct models *models, const char *id, char ret[PATH_MAX],
                     struct pt2_err *err)
{
    const char *slash = strchr(id, '/');
    int n = snprintf(ret, PATH_MAX, "%s%s%.*s", models->dirs[0], slash ? "/" : "",
                     slash ? (int)(slash - id) : 0, id);

    return n < PATH_MAX - MODEL_ID_SIZE
               ? 0
               : pt2_err_set(err, PT2_ERR_IO, "%s: path too long", models->dirs[0]);
}

static int in_the_way(const char *path, const char *what, struct pt2_err *err)
{
    return pt2_err_set(err, PT2_ERR_CONFLICT, "%s is in the way: %s", path, what);
}

/* ORG may not be there; but it is no link, no file and no model. */
static int check_org(const char *id, const char *parent, struct pt2_err *err)
{
    struct stat st;
    bool is_model;

    if (!strchr(id, '/'))
        return 0;
    if (lstat(parent, &st) < 0)
        return errno == ENOENT ? 0 : pt2_err_errno(err, PT2_ERR_IO, "%s", parent);
    if (!S_ISDIR(st.st_mode))
        return in_the_way(parent, "it is no folder", err);
    if (models_is_model(parent, parent, "", &is_model, err) < 0)
        return -1;
    return is_model ? in_the_way(parent, "it is a model, and holds no others", err) : 0;
}

static int begin(struct models *models, const char *id, char ret_path[PATH_MAX],
                 bool *ret_is_there, struct pt2_err *err)
{
    char root[PATH_MAX], parent[PATH_MAX], path[PATH_MAX + MODEL_ID_SIZE];
    struct stat st;

    if (parent_of(models, id, parent, err) < 0 || check_org(id, parent, err) < 0)
        return -1;
    *ret_is_there = false;
    snprintf(path, sizeof(path), "%s/%s", models->dirs[0], id);
    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    if (!S_ISDIR(st.st_mode))
        return in_the_way(path, "it is no folder", err);
    if (!realpath(models->dirs[0], root) || !models_resolve(root, root, id, ret_path))
        return 0;
    if (models_is_model(root, ret_path, id, ret_is_there, err) < 0)
        return -1;
    /* An empty folder will do; models_change_place sees what it is. */
    return *ret_is_there ? check_not_pinned(models, id, ret_path, err) : 0;
}

int models_change_begin(struct models *models, const char *id, char ret_path[PATH_MAX],
                        bool *ret_is_there, struct pt2_err *err)
{
    int r;

    pthread_mutex_lock(&models->change);
    r = begin(models, id, ret_path, ret_is_there, err);
    if (r < 0)
        pthread_mutex_unlock(&models->change);
    return r;
}

void models_change_end(struct models *models)
{
    pthread_mutex_unlock(&models->change);
}

static int place(const char *folder, const char *path, bool is_there, struct pt2_err *err)
{
    if (is_there) {
        if (renameat2(AT_FDCWD, folder, AT_FDCWD, path, RENAME_EXCHANGE) == 0)
            return 0;
        if (errno == EINVAL || errno == ENOSYS)
            return pt2_err_set(err, PT2_ERR_CONFLICT,
                               "the models directory's file system can't replace a model "
                               "at once: delete it first");
        return pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    }
    if (rename(folder, path) == 0)
        return 0;
    if (errno == ENOTEMPTY || errno == EEXIST || errno == ENOTDIR)
        return in_the_way(path, "it is a folder with files, and no model", err);
    return pt2_err_errno(err, PT2_ERR_IO, "%s", path);
}

int models_change_place(struct models *models, const char *id, const char *folder,
                        bool is_there, struct pt2_err *err)
{
    char parent[PATH_MAX], path[PATH_MAX + MODEL_ID_SIZE];

    if (parent_of(models, id, parent, err) < 0)
        return -1;
    if (strchr(id, '/')) {
        if (mkdir(parent, 0755) < 0 && errno != EEXIST)
            return pt2_err_errno(err, PT2_ERR_IO, "%s", parent);
        if (folder_sync(models->dirs[0], err) < 0)
            return -1;
    }
    snprintf(path, sizeof(path), "%s/%s", models->dirs[0], id);
    if (place(folder, path, is_there, err) < 0)
        return -1;
    return folder_sync(parent, err);
}

/* ---- going ---- */

/* Does it lie in the models directory?  *ret_path with links resolved. */
static int find_own(struct models *models, const char *id, char ret_path[PATH_MAX],
                    bool *ret_found, struct pt2_err *err)
{
    char root[PATH_MAX];

    *ret_found = false;
    if (!model_id_is_valid(id) || !realpath(models->dirs[0], root) ||
        !models_resolve(root, root, id, ret_path))
        return 0;
    return models_is_model(root, ret_path, id, ret_found, err);
}

static int take_away(struct models *models, const char *id, const char *to,
                     struct pt2_err *err)
{
    char parent[PATH_MAX], found[PATH_MAX], path[PATH_MAX + MODEL_ID_SIZE];
    struct stat st;
    bool is_own;

    snprintf(path, sizeof(path), "%s/%s", models->dirs[0], id);
    if (find_own(models, id, found, &is_own, err) < 0)
        return -1;
    if (!is_own)
        return models_path(models, id, found, err) < 0
                   ? -1
                   : pt2_err_set(err, PT2_ERR_FORBIDDEN,
                                 "model '%s' comes with pt2d and stays: it does not lie "
                                 "in the models directory",
                                 id);
    if (parent_of(models, id, parent, err) < 0)
        return -1;
    if (lstat(path, &st) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    /* Of a link the target stays. */
    if (!S_ISLNK(st.st_mode) && check_not_pinned(models, id, found, err) < 0)
        return -1;
    if (rename(path, to) < 0)
        return errno == EACCES || errno == EROFS || errno == EPERM
                   ? pt2_err_errno(err, PT2_ERR_FORBIDDEN, "model '%s' can't be deleted",
                                   id)
                   : pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    if (folder_sync(parent, err) < 0)
        return -1;
    if (strchr(id, '/'))
        rmdir(parent); /* where that was the organisation's last one */
    return 0;
}

int models_take_away(struct models *models, const char *id, const char *to,
                     struct pt2_err *err)
{
    int r;

    pthread_mutex_lock(&models->change);
    r = take_away(models, id, to, err);
    pthread_mutex_unlock(&models->change);
    return r;
}
