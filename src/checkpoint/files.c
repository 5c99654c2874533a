#include "checkpoint/files.h"

#include "base/sha256.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define DIGEST_SLICE ((size_t)1 << 20) /* bytes */

int files_open_dir(struct files *files, const char *dir, struct pt2_err *err)
{
    files->dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (files->dir_fd >= 0)
        return 0;
    if (errno == ENOENT || errno == ENOTDIR)
        return pt2_err_set(err, PT2_ERR_NOT_FOUND, "'%s' is no directory", dir);
    return pt2_err_errno(err, PT2_ERR_IO, "open '%s'", dir);
}

void files_done(struct files *files)
{
    for (size_t i = 0; i < files->n_files; i++) {
        close(files->files[i].fd);
        free((char *)(uintptr_t)files->files[i].info.name);
    }
    free(files->files);
    if (files->dir_fd >= 0)
        close(files->dir_fd);
    *files = (struct files)FILES_INIT;
}

static int64_t ns(const struct timespec *t)
{
    return t->tv_sec * INT64_C(1000000000) + t->tv_nsec;
}

static void set_info(struct pt2_checkpoint_file *info, const struct stat *st)
{
    info->bytes = (uint64_t)st->st_size;
    info->dev = st->st_dev;
    info->inode = st->st_ino;
    info->mtime_ns = ns(&st->st_mtim);
    info->ctime_ns = ns(&st->st_ctim);
}

static int add(struct files *files, const char *name, enum pt2_checkpoint_file_kind kind,
               int *fd, const struct stat *st, struct pt2_err *err)
{
    AUTO_PTR char *copy = strdup(name);
    struct open_file *grown;

    if (files->n_files == FILES_MAX)
        return pt2_err_set(err, PT2_ERR_BAD_CHECKPOINT, "more than %d files", FILES_MAX);
    grown = reallocarray(files->files, files->n_files + 1, sizeof(*grown));
    if (grown)
        files->files = grown;
    if (!grown || !copy)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory for file '%s'", name);
    grown += files->n_files++;
    *grown = (struct open_file){.info = {.name = TAKE(copy), .kind = kind},
                                .fd = TAKE_FD(*fd)};
    set_info(&grown->info, st);
    return 0;
}

int files_open(struct files *files, const char *name, enum pt2_checkpoint_file_kind kind,
               bool *ret_found, struct pt2_err *err)
{
    /* A pipe must not make us wait for its other end. */
    AUTO_FD int fd = openat(files->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;

    *ret_found = false;
    if (fd < 0 && errno == ENOENT)
        return 0;
    if (fd < 0 || fstat(fd, &st) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "open '%s'", name);
    if (!S_ISREG(st.st_mode))
        return pt2_err_set(err, PT2_ERR_BAD_CHECKPOINT, "'%s' is not a regular file",
                           name);
    if (kind == PT2_FILE_WEIGHTS)
        posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL); /* a hint: may fail */
    if (add(files, name, kind, &fd, &st, err) < 0)
        return -1;
    *ret_found = true;
    return 0;
}

int files_read(const struct files *files, size_t i, uint64_t offset, void *buf,
               size_t len, struct pt2_err *err)
{
    const struct open_file *f = &files->files[i];
    char *to = buf;

    while (len > 0) {
        ssize_t n = pread(f->fd, to, len, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return pt2_err_errno(err, PT2_ERR_IO, "read '%s'", f->info.name);
        if (n == 0)
            return pt2_err_set(err, PT2_ERR_CHECKPOINT_CHANGED,
                               "'%s' ends at byte %llu; it had %llu when it was opened",
                               f->info.name, (unsigned long long)offset,
                               (unsigned long long)f->info.bytes);
        to += n;
        offset += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

int files_read_all(const struct files *files, size_t i, size_t max, char **ret_text,
                   size_t *ret_len, struct pt2_err *err)
{
    const struct pt2_checkpoint_file *info = &files->files[i].info;
    AUTO_PTR char *text = NULL;

    if (info->bytes > max)
        return pt2_err_set(err, PT2_ERR_LIMIT,
                           "'%s' has %llu bytes, at most %zu are read", info->name,
                           (unsigned long long)info->bytes, max);
    text = malloc(info->bytes + 1);
    if (!text)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory for the %llu bytes of '%s'",
                           (unsigned long long)info->bytes, info->name);
    if (files_read(files, i, 0, text, info->bytes, err) < 0)
        return -1;
    text[info->bytes] = '\0';
    *ret_len = info->bytes;
    *ret_text = TAKE(text);
    return 0;
}

static bool is_same(const struct pt2_checkpoint_file *info, const struct stat *st)
{
    struct pt2_checkpoint_file now;

    set_info(&now, st);
    return now.bytes == info->bytes && now.dev == info->dev && now.inode == info->inode &&
           now.mtime_ns == info->mtime_ns && now.ctime_ns == info->ctime_ns;
}

int files_check_unchanged(const struct files *files, struct pt2_err *err)
{
    for (size_t i = 0; i < files->n_files; i++) {
        const struct open_file *f = &files->files[i];
        struct stat open_one, named_one;

        if (fstat(f->fd, &open_one) < 0)
            return pt2_err_errno(err, PT2_ERR_IO, "stat '%s'", f->info.name);
        /* Both: written to, or replaced by another. */
        if (!is_same(&f->info, &open_one) ||
            fstatat(files->dir_fd, f->info.name, &named_one, 0) < 0 ||
            !is_same(&f->info, &named_one))
            return pt2_err_set(err, PT2_ERR_CHECKPOINT_CHANGED,
                               "'%s' was written or replaced meanwhile", f->info.name);
    }
    return 0;
}

int files_digest(const struct files *files, size_t i, uint8_t ret_sha256[32],
                 struct pt2_err *err)
{
    uint64_t left = files->files[i].info.bytes, at = 0;
    AUTO_PTR uint8_t *slice = malloc(DIGEST_SLICE);
    struct sha256 h;

    if (!slice)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory to hash a file");
    sha256_start(&h);
    while (left > 0) {
        size_t n = MIN(left, DIGEST_SLICE);

        if (files_read(files, i, at, slice, n, err) < 0)
            return -1;
        sha256_add(&h, slice, n);
        at += n;
        left -= n;
    }
    sha256_finish(&h, ret_sha256);
    return 0;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Append the names that end in suffix; what there are so far is the caller's to free. */
static int list_dir(DIR *dir, const char *suffix, char ***names, size_t *n,
                    struct pt2_err *err)
{
    struct dirent *d;
    char **grown;

    while (errno = 0, (d = readdir(dir)) != NULL) {
        if (d->d_name[0] == '.' || !ends_with(d->d_name, suffix))
            continue;
        grown = reallocarray(*names, *n + 1, sizeof(*grown));
        if (grown)
            *names = grown;
        if (!grown || !(grown[*n] = strdup(d->d_name)))
            return pt2_err_set(err, PT2_ERR_NOMEM, "no memory for file names");
        (*n)++;
    }
    return errno ? pt2_err_errno(err, PT2_ERR_IO, "read the directory") : 0;
}

int files_list(const struct files *files, const char *suffix, char ***ret_names,
               size_t *ret_n, struct pt2_err *err)
{
    AUTO_FD int fd = openat(files->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    char **names = NULL;
    size_t n = 0;
    int r;

    if (!dir)
        return pt2_err_errno(err, PT2_ERR_IO, "read the directory");
    (void)TAKE_FD(fd); /* dir's now */
    r = list_dir(dir, suffix, &names, &n, err);
    closedir(dir);
    if (r < 0) {
        files_free_names(names, n);
        return -1;
    }
    if (n > 0)
        qsort(names, n, sizeof(*names), compare_names);
    *ret_names = names;
    *ret_n = n;
    return 0;
}

void files_free_names(char **names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(names[i]);
    free(names);
}
