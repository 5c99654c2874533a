/* archive.c - open a .pt2: map it, check the container, list its records. */
#include "archive/archive.h"

#include <fcntl.h>
#include <sys/stat.h>

#define MAX_SMALL 64 /* bytes of archive_format and its like */

/* Map the whole file behind fd. */
static int map_file(int fd, struct pt2_archive *archive, struct pt2_err *err)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "stat");
    if (!S_ISREG(st.st_mode))
        return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE, "not a regular file");
    if (st.st_size == 0)
        return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE,
                           "not a zip archive: the file is empty");
    if (mapping_new(fd, &archive->mapping, err) < 0)
        return -1;
    archive->fd = mapping_fd(archive->mapping);
    archive->map = mapping_data(archive->mapping);
    archive->len = mapping_bytes(archive->mapping);
    return 0;
}

/* All records lie under one folder; cut its name off theirs. */
static int cut_root(struct pt2_archive *archive, struct pt2_err *err)
{
    const struct zip_dir *dir = &archive->dir;
    const char *first = dir->n_entries ? dir->entries[0].name : "";
    size_t n = strcspn(first, "/");

    if (first[n] != '/')
        return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE,
                           dir->n_entries ? "record '%s' lies under no folder"
                                          : "the archive holds no records%s",
                           first);
    archive->root = strndup(first, n);
    archive->records = calloc(dir->n_entries, sizeof(*archive->records));
    if (!archive->root || !archive->records)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory for %zu records",
                           dir->n_entries);
    for (size_t i = 0; i < dir->n_entries; i++) {
        const struct zip_entry *e = &dir->entries[i];

        if (strncmp(e->name, first, n + 1) != 0)
            return pt2_err_set(
                err, PT2_ERR_BAD_ARCHIVE,
                "record '%s' lies outside of the folder '%s' of the first one", e->name,
                archive->root);
        if (e->is_folder)
            continue;
        archive->records[archive->n_records++] =
            (struct pt2_record){.name = e->name + n + 1,
                                .offset = e->data,
                                .size = e->size,
                                .packed = e->packed,
                                .crc32 = e->crc32,
                                .is_stored = e->method == ZIP_STORED};
    }
    return 0;
}

static int compare_records(const void *a, const void *b)
{
    const struct pt2_record *const *x = a, *const *y = b;

    return strcmp((*x)->name, (*y)->name);
}

static int compare_name(const void *name, const void *record)
{
    const struct pt2_record *const *r = record;

    return strcmp(name, (*r)->name);
}

static int sort_names(struct pt2_archive *archive, struct pt2_err *err)
{
    const struct pt2_record **sorted = calloc(archive->n_records + 1, sizeof(*sorted));

    if (!sorted)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory for %zu records",
                           archive->n_records);
    archive->by_name = sorted;
    for (size_t i = 0; i < archive->n_records; i++)
        sorted[i] = &archive->records[i];
    qsort(sorted, archive->n_records, sizeof(*sorted), compare_records);
    for (size_t i = 1; i < archive->n_records; i++)
        if (streq(sorted[i - 1]->name, sorted[i]->name))
            return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE, "record '%s' is there twice",
                               sorted[i]->name);
    return 0;
}

/* A record whose whole text is known: what the layout's version says (torch 2.13,
 * torch/export/pt2_archive/_package.py). */
static int check_text(const struct pt2_archive *archive, const char *name,
                      const char *text, struct pt2_err *err)
{
    const struct pt2_record *record = pt2_archive_find(archive, name);
    AUTO_PTR void *data = NULL;
    size_t len, n;

    if (!record)
        return pt2_err_set(
            err, PT2_ERR_BAD_ARCHIVE,
            "record '%s' is missing; torch.export.save writes it since 2.8", name);
    if (pt2_archive_read(archive, record, MAX_SMALL, &data, &len, err) < 0)
        return -1;
    n = strlen(text);
    if (len < n || memcmp(data, text, n) != 0 ||
        strspn((char *)data + n, "\r\n") != len - n)
        return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE, "record '%s' is '%s'; must be '%s'",
                           name, (const char *)data, text);
    return 0;
}

static int check_layout(const struct pt2_archive *archive, struct pt2_err *err)
{
    if (check_text(archive, "archive_format", "pt2", err) < 0 ||
        check_text(archive, "archive_version", "0", err) < 0)
        return -1;
    if (pt2_archive_find(archive, "byteorder") &&
        check_text(archive, "byteorder", "little", err) < 0)
        return -1;
    if (!pt2_archive_find(archive, "models/model.json"))
        return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE,
                           "record 'models/model.json' is missing");
    return 0;
}

int pt2_archive_open_fd(int fd, const char *name, struct pt2_archive **ret_archive,
                        struct pt2_err *err)
{
    AUTO(pt2_archive) archive = calloc(1, sizeof(*archive));

    if (!archive)
        return pt2_err_set(err, PT2_ERR_NOMEM, "no memory for an archive");
    if (map_file(fd, archive, err) < 0 ||
        zip_read_dir(archive->map, archive->len, &archive->dir, err) < 0 ||
        cut_root(archive, err) < 0 || sort_names(archive, err) < 0 ||
        check_layout(archive, err) < 0 || archive_read_payloads(archive, err) < 0)
        return pt2_err_prefix(err, "archive '%s'", name);
    *ret_archive = TAKE(archive);
    return 0;
}

int pt2_archive_open(const char *path, struct pt2_archive **ret_archive,
                     struct pt2_err *err)
{
    const char *slash = strrchr(path, '/');
    /* A pipe must not make us wait for its other end. */
    AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "open '%s'", path);
    return pt2_archive_open_fd(fd, slash ? slash + 1 : path, ret_archive, err);
}

void pt2_archive_free(struct pt2_archive *archive)
{
    if (!archive)
        return;
    mapping_free(archive->mapping);
    free(archive->root);
    zip_dir_done(&archive->dir);
    free(archive->records);
    free(archive->by_name);
    free(archive->payloads);
    free(archive->by_fqn);
    for (size_t i = 0; i < ARRAY_LEN(archive->tables); i++)
        free(archive->tables[i]);
    free(archive);
}

const char *pt2_archive_root(const struct pt2_archive *archive)
{
    return archive->root;
}

size_t pt2_archive_n_records(const struct pt2_archive *archive)
{
    return archive->n_records;
}

const struct pt2_record *pt2_archive_record(const struct pt2_archive *archive, size_t i)
{
    return &archive->records[i];
}

const struct pt2_record *pt2_archive_find(const struct pt2_archive *archive,
                                          const char *name)
{
    const struct pt2_record *const *found =
        bsearch(name, archive->by_name, archive->n_records, sizeof(*archive->by_name),
                compare_name);

    return found ? *found : NULL;
}

bool pt2_archive_is_cut(const struct pt2_archive *archive)
{
    return mapping_is_cut(archive->mapping);
}

const void *pt2_archive_data(const struct pt2_archive *archive,
                             const struct pt2_record *record)
{
    return record->is_stored ? archive->map + record->offset : NULL;
}
