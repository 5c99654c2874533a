#include "checkpoint/gguf_parts.h"

#define SUFFIX     ".gguf"
#define PART_CHARS 20 /* "-00001-of-00003.gguf" */

/* Number and count of a part's name, 1 of 1 for any other name. */
static void part_of(const char *name, unsigned *ret_number, unsigned *ret_count)
{
    size_t len = strlen(name);
    unsigned number, count;
    int used = 0;

    *ret_number = *ret_count = 1;
    if (len > PART_CHARS &&
        sscanf(name + len - PART_CHARS, "-%5u-of-%5u" SUFFIX "%n", &number, &count,
               &used) == 2 &&
        used == PART_CHARS) {
        *ret_number = number;
        *ret_count = count;
    }
}

static int open_one(struct gguf *gguf, struct files *files, const char *name,
                    struct pt2_err *err)
{
    bool found;

    if (files_open(files, name, PT2_FILE_WEIGHTS, &found, err) < 0)
        return -1;
    if (!found)
        return pt2_err_set(err, PT2_ERR_BAD_CHECKPOINT, "'%s' is missing", name);
    return gguf_read(gguf, files, files->n_files - 1, err);
}

/* Does the first file say that it is one of as many as its name says? */
static int check_count(const struct gguf *gguf, const char *name, unsigned count,
                       struct pt2_err *err)
{
    int64_t n = 1;

    if (gguf_int(gguf_find(gguf, "split.count"), &n) && n > 0 && n != count)
        return pt2_err_set(err, PT2_ERR_BAD_CHECKPOINT,
                           "'%s' is one of %lld parts by its metadata, of %u by its name",
                           name, (long long)n, count);
    return 0;
}

int gguf_open_file(struct gguf *gguf, struct files *files, const char *name,
                   struct pt2_err *err)
{
    size_t stem = strlen(name) - MIN(strlen(name), (size_t)PART_CHARS);
    unsigned number, count;
    char part[300];

    part_of(name, &number, &count);
    if (number != 1 || count < 1 || count > FILES_MAX)
        return pt2_err_set(err, PT2_ERR_BAD_CHECKPOINT,
                           "'%s' is not the first of at most %d parts", name, FILES_MAX);
    if (open_one(gguf, files, name, err) < 0 || check_count(gguf, name, count, err) < 0)
        return -1;
    for (number = 2; number <= count; number++) {
        snprintf(part, sizeof(part), "%.*s-%05u-of-%05u" SUFFIX, (int)stem, name, number,
                 count);
        if (open_one(gguf, files, part, err) < 0)
            return -1;
    }
    return 0;
}

/* The names are sorted: a model's parts follow each other. */
static int open_first(struct gguf *gguf, struct files *files, char *const *names,
                      size_t n, struct pt2_err *err)
{
    unsigned number, count;

    part_of(names[0], &number, &count);
    if (n != count)
        return pt2_err_set(
            err, PT2_ERR_BAD_CHECKPOINT,
            "%zu files *.gguf, the first being '%.200s': a model is one, or "
            "all its parts",
            n, names[0]);
    return gguf_open_file(gguf, files, names[0], err);
}

int gguf_open_only(struct gguf *gguf, struct files *files, struct pt2_err *err)
{
    char **names = NULL;
    size_t n = 0;
    int r = 0;

    if (files_list(files, SUFFIX, &names, &n, err) < 0)
        return -1;
    if (n > 0)
        r = open_first(gguf, files, names, n, err);
    files_free_names(names, n);
    return r;
}
