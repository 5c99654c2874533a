#include "serve/saved.h"

#include "base/folder.h"
#include "base/json.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <zlib.h>

#define SAVED_MAGIC     "pt2saved"
#define MAX_FACTS_BYTES ((uint64_t)1 << 20)

struct trailer {
    uint64_t image_bytes, facts_bytes;
    uint32_t image_crc, facts_crc; /* the latter of the JSON and all before it in here */
    char magic[8];
};

static void path_of(const struct saved_folder *folder, const char *id, const char *ending,
                    char ret_path[PATH_MAX])
{
    snprintf(ret_path, PATH_MAX, "%.*s/%s%s", PATH_MAX - 160, folder->path, id, ending);
}

int saved_init(struct saved_folder *folder, const char *path, struct temp_folder *temp,
               struct pt2_err *err)
{
    folder->temp = temp;
    if (strlen(path) > PATH_MAX - 160)
        return pt2_err_set(err, PT2_ERR_IO, "'%.60s…': path too long", path);
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    snprintf(folder->path, sizeof(folder->path), "%s", path);
    return 0;
}

static uint32_t crc_add(uint32_t crc, const void *data, size_t size)
{
    return (uint32_t)crc32_z(crc, data, size);
}

static uint32_t crc_begin(const char *id)
{
    return crc_add(0, id, strlen(id));
}

/* ---- writing ---- */

struct writer {
    struct temp_file file;
    struct saved_image image;
    const atomic_bool *stop;
};

static int write_piece(void *context, void *data, size_t size, struct pt2_err *err)
{
    struct writer *w = context;

    if (w->stop && atomic_load(w->stop))
        return pt2_err_set(err, PT2_ERR_DRAINING, "the daemon stops, and its time is over");
    if (temp_file_write(&w->file, data, size, err) < 0)
        return -1;
    w->image.crc = crc_add(w->image.crc, data, size);
    w->image.bytes += size;
    return 0;
}

static int rename_temp(struct temp_file *file, const char *path, struct pt2_err *err)
{
    if (rename(file->path, path) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    file->path[0] = '\0';
    return 0;
}

int saved_spill(const struct saved_folder *folder, const char *id,
                const struct pt2_cache *cache, int64_t position, const atomic_bool *stop,
                struct saved_image *ret_image, struct pt2_err *err)
{
    struct writer w = {.file = TEMP_NO_FILE, .image.crc = crc_begin(id), .stop = stop};
    char path[PATH_MAX];
    int ret;

    path_of(folder, id, ".spill", path);
    if (temp_file_make(folder->temp, pt2_cache_image_bytes(cache, position), &w.file, err) <
        0)
        return -1;
    ret = pt2_cache_put_away(cache, position, write_piece, &w, err);
    if (ret == 0)
        ret = rename_temp(&w.file, path, err);
    temp_file_drop(&w.file);
    if (ret == 0)
        *ret_image = w.image;
    return ret;
}

/* ---- kept ---- */

static int write_at(int fd, uint64_t at, const void *data, size_t size)
{
    const char *p = data;

    while (size > 0) {
        ssize_t n = pwrite(fd, p, size, (off_t)at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        p += n;
        at += (uint64_t)n;
        size -= (size_t)n;
    }
    return 0;
}

static uint32_t facts_crc(const char *facts, const struct trailer *trailer)
{
    return crc_add(crc_add(0, facts, trailer->facts_bytes), trailer,
                   offsetof(struct trailer, facts_crc));
}

int saved_keep(const struct saved_folder *folder, const char *id,
               const struct saved_image *image, const json_t *facts, struct pt2_err *err)
{
    AUTO_PTR char *text = json_to_text(facts, JSON_COMPACT);
    struct trailer trailer = {
        .image_bytes = image->bytes, .image_crc = image->crc, .magic = SAVED_MAGIC};
    char from[PATH_MAX], to[PATH_MAX];
    AUTO_FD int fd = -1;

    if (!text)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory to describe a session");
    trailer.facts_bytes = strlen(text);
    trailer.facts_crc = facts_crc(text, &trailer);
    path_of(folder, id, ".spill", from);
    path_of(folder, id, ".saved", to);
    fd = open(from, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || ftruncate(fd, (off_t)image->bytes) < 0 ||
        write_at(fd, image->bytes, text, trailer.facts_bytes) < 0 ||
        write_at(fd, image->bytes + trailer.facts_bytes, &trailer, sizeof(trailer)) < 0 ||
        fsync(fd) < 0 || rename(from, to) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", from);
    return 0;
}

int saved_sync(const struct saved_folder *folder, struct pt2_err *err)
{
    return folder_sync(folder->path, err);
}

int saved_unkeep(const struct saved_folder *folder, const char *id, struct pt2_err *err)
{
    char from[PATH_MAX], to[PATH_MAX];

    path_of(folder, id, ".saved", from);
    path_of(folder, id, ".spill", to);
    /* It may have lost its name before, by a call that failed then. */
    if (rename(from, to) < 0 && (errno != ENOENT || access(to, F_OK) < 0))
        return pt2_err_errno(err, PT2_ERR_IO, "%s", from);
    if (saved_sync(folder, err) == 0)
        return 0;
    (void)!rename(to, from);
    return -1;
}

bool saved_is_kept(const struct saved_folder *folder, const char *id)
{
    char path[PATH_MAX];

    path_of(folder, id, ".saved", path);
    return access(path, F_OK) == 0;
}

/* ---- reading ---- */

struct reader {
    int fd;
    const char *path;
    uint64_t left;
    uint32_t crc;
};

static int read_all(int fd, const char *path, void *data, size_t size, struct pt2_err *err)
{
    char *p = data;

    while (size > 0) {
        ssize_t n = read(fd, p, size);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return pt2_err_errno(err, PT2_ERR_IO, "%s", path);
        if (n == 0)
            return pt2_err_set(err, PT2_ERR_INVALID, "%s is cut short", path);
        p += n;
        size -= (size_t)n;
    }
    return 0;
}

static int read_piece(void *context, void *data, size_t size, struct pt2_err *err)
{
    struct reader *r = context;

    if (size > r->left)
        return pt2_err_set(err, PT2_ERR_INVALID, "%s ends too early", r->path);
    if (read_all(r->fd, r->path, data, size, err) < 0)
        return -1;
    r->crc = crc_add(r->crc, data, size);
    r->left -= size;
    return 0;
}

static int read_image(const char *path, const char *id, const struct saved_image *image,
                      struct pt2_cache *cache, struct pt2_err *err)
{
    AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct reader r = {fd, path, image->bytes, crc_begin(id)};

    if (fd < 0 && errno == ENOENT)
        return pt2_err_set(err, PT2_ERR_INVALID, "%s is gone", path);
    if (fd < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    if (pt2_cache_take_back(cache, read_piece, &r, err) < 0)
        return -1;
    if (r.left > 0 || r.crc != image->crc)
        return pt2_err_set(err, PT2_ERR_INVALID, "%s is damaged: its checksum is wrong",
                           path);
    return 0;
}

int saved_read(const struct saved_folder *folder, const char *id, bool is_kept,
               const struct saved_image *image, struct pt2_cache *cache,
               struct pt2_err *err)
{
    struct pt2_err why = {0};
    char path[PATH_MAX];

    path_of(folder, id, is_kept && saved_is_kept(folder, id) ? ".saved" : ".spill", path);
    if (read_image(path, id, image, cache, &why) == 0)
        return 0;
    return pt2_err_set(err,
                       why.code == PT2_ERR_INVALID ? PT2_ERR_SESSION_LOST : why.code,
                       "%s", why.text);
}

int saved_remove(const struct saved_folder *folder, const char *id, struct pt2_err *err)
{
    char path[PATH_MAX];

    path_of(folder, id, ".saved", path);
    if (unlink(path) == 0 ? saved_sync(folder, err) < 0 : errno != ENOENT)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    path_of(folder, id, ".spill", path);
    if (unlink(path) < 0 && errno != ENOENT)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    return 0;
}

/* ---- all of them ---- */

/* Where the trailer lies, and whether all adds up. */
static int read_trailer(int fd, const char *path, struct trailer *ret_trailer,
                        struct pt2_err *err)
{
    struct stat st;
    uint64_t size;

    if (fstat(fd, &st) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    size = (uint64_t)st.st_size;
    if (size < sizeof(*ret_trailer))
        return pt2_err_set(err, PT2_ERR_INVALID, "%s is cut short", path);
    size -= sizeof(*ret_trailer);
    if (lseek(fd, (off_t)size, SEEK_SET) < 0 ||
        read_all(fd, path, ret_trailer, sizeof(*ret_trailer), err) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    if (memcmp(ret_trailer->magic, SAVED_MAGIC, sizeof(ret_trailer->magic)) != 0 ||
        ret_trailer->facts_bytes > MAX_FACTS_BYTES || ret_trailer->facts_bytes > size ||
        ret_trailer->image_bytes != size - ret_trailer->facts_bytes)
        return pt2_err_set(err, PT2_ERR_INVALID, "%s has no end that fits it", path);
    return 0;
}

static int read_facts(const char *path, struct saved_image *ret_image, json_t **ret_facts,
                      struct pt2_err *err)
{
    AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    AUTO_PTR char *text = NULL;
    struct trailer trailer;

    if (fd < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    if (read_trailer(fd, path, &trailer, err) < 0)
        return -1;
    text = malloc(trailer.facts_bytes + 1);
    if (!text)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory to read of a session");
    if (lseek(fd, (off_t)trailer.image_bytes, SEEK_SET) < 0 ||
        read_all(fd, path, text, trailer.facts_bytes, err) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    if (facts_crc(text, &trailer) != trailer.facts_crc)
        return pt2_err_set(err, PT2_ERR_INVALID, "%s is damaged: its checksum is wrong",
                           path);
    *ret_image = (struct saved_image){trailer.image_bytes, trailer.image_crc};
    return json_parse(text, trailer.facts_bytes, ret_facts, err);
}

bool saved_id_of(const char *name, char *ret_id, size_t size)
{
    size_t n = strlen(name), tail = strlen(".saved");

    if (n <= tail || n - tail >= size || !streq(name + n - tail, ".saved"))
        return false;
    memcpy(ret_id, name, n - tail);
    ret_id[n - tail] = '\0';
    return true;
}

static int visit(void *context, const char *path, const char *name, struct pt2_err *err)
{
    const struct saved_visitor *visitor = context;
    char full[PATH_MAX + NAME_MAX + 2], id[NAME_MAX + 1];
    json_auto_t *facts = NULL;
    struct saved_image image;
    struct pt2_err why = {0};

    snprintf(full, sizeof(full), "%s/%s", path, name);
    if (saved_id_of(name, id, sizeof(id))) {
        if (read_facts(full, &image, &facts, &why) < 0)
            visitor->damaged(visitor->context, id, why.text);
        else if (visitor->whole(visitor->context, id, &image, facts))
            return 0;
    }
    if (unlink(full) < 0 && errno != ENOENT && errno != EISDIR)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", full);
    return 0;
}

int saved_each(const struct saved_folder *folder, const struct saved_visitor *visitor,
               struct pt2_err *err)
{
    return folder_each(folder->path, visit, (void *)visitor, err);
}

/* ---- one of them, to the last byte ---- */

static int check_image(int fd, const char *path, const char *id,
                       const struct saved_image *image, uint8_t *ret_first,
                       struct pt2_err *err)
{
    struct reader r = {fd, path, image->bytes, crc_begin(id)};
    char piece[16384];

    if (image->bytes < PT2_IMAGE_FIRST_BYTES)
        return pt2_err_set(err, PT2_ERR_INVALID, "%s holds no cache", path);
    if (read_piece(&r, ret_first, PT2_IMAGE_FIRST_BYTES, err) < 0)
        return -1;
    while (r.left > 0)
        if (read_piece(&r, piece, MIN(r.left, sizeof(piece)), err) < 0)
            return -1;
    if (r.crc != image->crc)
        return pt2_err_set(err, PT2_ERR_INVALID, "%s is damaged: its cache's checksum is wrong",
                           path);
    return 0;
}

int saved_check(const char *path, const char *id, uint8_t ret_first[PT2_IMAGE_FIRST_BYTES],
                uint64_t *ret_bytes, json_t **ret_facts, struct pt2_err *err)
{
    json_auto_t *facts = NULL;
    struct saved_image image;
    AUTO_FD int fd = -1;

    if (read_facts(path, &image, &facts, err) < 0)
        return -1;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    if (check_image(fd, path, id, &image, ret_first, err) < 0)
        return -1;
    *ret_bytes = image.bytes;
    *ret_facts = json_incref(facts);
    return 0;
}
