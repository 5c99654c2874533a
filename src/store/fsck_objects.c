/* fsck_objects.c - objects against their digests and rows, and rows against objects. */
#include "store/fsck_impl.h"

#include "base/folder.h"
#include "store/programs_db.h"
#include "store/sql.h"

#include <errno.h>
#include <sys/stat.h>

/* ---- a file with a row ---- */

/* is_there: it has another digest. */
static int damaged(struct fsck *f, const char *sha256, const char *what, bool is_there,
                   struct pt2_err *err)
{
    const char *why = is_there ? "its file has another digest" : "its file is not there";
    char text[160], done[200];
    bool is_program = streq(what, "program");

    if (json_object_set_new(f->damaged, sha256, json_true()) < 0)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a list of programs");
    if (!f->options->repair) {
        fsck_found(f, FSCK_PROBLEM, NULL, "%s %s: %s", what, sha256, why);
        return 0;
    }
    /* The rows first: killed in between, a start removes what no row names. */
    if ((is_program ? fsck_forget_program(f, sha256, text, sizeof(text), err)
                    : fsck_forget_pte(f, sha256, text, sizeof(text), err)) < 0 ||
        (is_there ? objects_put_aside(f->objects, sha256, err)
                  : objects_remove(f->objects, sha256, err)) < 0)
        return -1;
    snprintf(done, sizeof(done), "%s%s", is_there ? "moved to " OBJECTS_LOST ", " : "", text);
    fsck_found(f, FSCK_PROBLEM, done, "%s %s: %s", what, sha256, why);
    return 0;
}

static int check_whole(struct fsck *f, const char *sha256, const char *what,
                       struct pt2_err *err)
{
    bool is_whole = false;

    if (objects_check(f->objects, sha256, NULL, &is_whole, err) < 0)
        return -1;
    if (!is_whole)
        return damaged(f, sha256, what, /* is_there= */ true, err);
    if (f->options->repair && streq(what, "program"))
        return programs_db_set_whole(f->store, sha256, WHOLE, err);
    return 0;
}

static int wrong_size(struct fsck *f, const char *sha256, int64_t row_bytes, int64_t bytes,
                      struct pt2_err *err)
{
    struct sql q;

    if (f->options->repair) {
        sql_open(&q, f->store, "UPDATE programs SET bytes = ? WHERE id = ?", err);
        sql_put_int(&q, bytes);
        sql_put_text(&q, sha256);
        if (sql_run(&q) < 0)
            return -1;
    }
    fsck_found(f, FSCK_PROBLEM, f->options->repair ? "row put right" : NULL,
               "program %s: its row says %lld bytes, its file has %lld", sha256,
               (long long)row_bytes, (long long)bytes);
    return 0;
}

/* The digest says first whether it is the file. */
static int check_object(struct fsck *f, const char *folder, const char *sha256,
                        const struct stat *st, struct pt2_err *err)
{
    const char *what = NULL;
    size_t n_problems = f->result->n_problems;
    int64_t bytes = -1;

    if (fsck_find_row(f, sha256, &what, &bytes, err) < 0)
        return -1;
    if (!what) {
        fsck_leftover(f, folder, sha256, "no row names it");
        return 0;
    }
    fsck_count_file(f, (uint64_t)st->st_size);
    if (check_whole(f, sha256, what, err) < 0)
        return -1;
    if (bytes >= 0 && bytes != st->st_size && f->result->n_problems == n_problems)
        return wrong_size(f, sha256, bytes, st->st_size, err);
    return 0;
}

/* ---- what lies in the folders ---- */

/* <digest>.packed of an object that is there: whoever opens it compares its sums, and writes it
 * anew where they differ.  Anything else that begins so is left over. */
static void check_packed(struct fsck *f, const char *folder, const char *name)
{
    char hex[SHA256_HEX], path[PATH_MAX], packed[PATH_MAX];

    snprintf(hex, sizeof(hex), "%.64s", name);
    objects_path(f->objects, hex, path);
    objects_packed_path(f->objects, hex, packed);
    if (!streq(strrchr(packed, '/') + 1, name))
        fsck_leftover(f, folder, name, "was under way");
    else if (access(path, F_OK) < 0)
        fsck_leftover(f, folder, name, "its program is not there");
}

static bool is_packed(const char *name)
{
    uint8_t digest[SHA256_BYTES];
    char hex[SHA256_HEX];

    snprintf(hex, sizeof(hex), "%.64s", name);
    return sha256_from_hex(hex, digest) && after_prefix(name + strlen(hex), ".packed");
}

static int object_entry(void *ctx, const char *folder, const char *name, struct pt2_err *err)
{
    struct fsck *f = ctx;
    char path[PATH_MAX + NAME_MAX + 2], due[PATH_MAX];
    uint8_t digest[SHA256_BYTES];
    struct stat st;

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    if (is_packed(name)) {
        check_packed(f, folder, name);
        return 0;
    }
    if (sha256_from_hex(name, digest)) {
        objects_path(f->objects, name, due);
        if (lstat(path, &st) == 0 && S_ISREG(st.st_mode) && ends_with(path, strrchr(due, '/')))
            return check_object(f, folder, name, &st, err);
    }
    fsck_found(f, FSCK_PROBLEM, NULL, "%s: is none of pt2d's files", path);
    return 0;
}

static int folder_entry(void *ctx, const char *folder, const char *name, struct pt2_err *err)
{
    char path[PATH_MAX + NAME_MAX + 2];
    struct stat st;

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    if (strlen(name) == 2 && lstat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return folder_each(path, object_entry, ctx, err);
    fsck_found(ctx, FSCK_PROBLEM, NULL, "%s: is none of pt2d's folders", path);
    return 0;
}

/* ---- rows without a file ---- */

static int check_rows(struct fsck *f, struct pt2_err *err)
{
    json_auto_t *list = NULL;
    const json_t *item;
    size_t i;

    if (fsck_list_rows(f, &list, err) < 0)
        return -1;
    json_array_foreach (list, i, item) {
        const char *sha256 = json_string_value(item), *what = NULL;
        char path[PATH_MAX];
        int64_t bytes;

        objects_path(f->objects, sha256, path);
        if (access(path, F_OK) == 0)
            continue;
        /* a .pte may have gone with its program */
        if (fsck_find_row(f, sha256, &what, &bytes, err) < 0 ||
            (what && damaged(f, sha256, what, /* is_there= */ false, err) < 0))
            return -1;
    }
    return 0;
}

/* Everything that has a row has been read now: the next start need not. */
static int note_end(struct fsck *f, struct pt2_err *err)
{
    struct sql q;

    if (!f->options->repair)
        return 0;
    sql_open(&q, f->store, "DELETE FROM running", err);
    return sql_run(&q) < 0 ? -1 : 0;
}

int fsck_objects(struct fsck *f, struct pt2_err *err)
{
    char path[PATH_MAX];

    if (f->is_unreadable)
        return 0;
    snprintf(path, sizeof(path), "%.*s/objects", PATH_MAX - 16, store_dir(f->store));
    if (access(path, F_OK) == 0 && folder_each(path, folder_entry, f, err) < 0)
        return -1;
    return check_rows(f, err) < 0 ? -1 : note_end(f, err);
}
