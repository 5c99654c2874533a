/* made_pte.h - a tiny export, and the ExecuTorch file that is written of it. */
#ifndef TESTS_MADE_PTE_H
#define TESTS_MADE_PTE_H

#include <pt2/export.h>
#include <pt2/pte.h>

#include "tiny_model.h"

#include <fcntl.h>
#include <sys/stat.h>

struct made {
    struct tiny_model model;
    char pt2[100];
    struct pt2_archive *archive;
};

/* Of the model that was begun. */
static inline void export_begun(struct made *m, const struct pt2_export_options *options)
{
    struct pt2_checkpoint *checkpoint;
    struct pt2_export *exp;
    struct pt2_err err = {0};
    uint8_t digest[32];
    uint64_t bytes;
    int fd;

    tiny_end(&m->model);
    snprintf(m->pt2, sizeof(m->pt2), "%s/a.pt2", m->model.dir);
    ck_assert_msg(pt2_checkpoint_open(m->model.dir, &checkpoint, &err) == 0, "%s", err.text);
    ck_assert_msg(pt2_export_new(checkpoint, options, &exp, &err) == 0, "%s", err.text);
    fd = open(m->pt2, O_CREAT | O_RDWR, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pt2_export_write(exp, fd, NULL, NULL, digest, &bytes, &err), 0);
    close(fd);
    pt2_export_free(exp);
    pt2_checkpoint_free(checkpoint);
    ck_assert_msg(pt2_archive_open(m->pt2, &m->archive, &err) == 0, "%s", err.text);
}

static inline void export_as(struct made *m, const struct pt2_export_options *options)
{
    tiny_begin(&m->model, TINY_LLAMA);
    tiny_tensor(&m->model, "lm_head.weight", 10, 8);
    export_begun(m, options);
}

static inline void export_tiny(struct made *m, enum pt2_profile profile,
                               int64_t max_cache_len, bool dynamic)
{
    export_as(m, &(struct pt2_export_options){.profile = profile,
                                              .max_cache_len = max_cache_len,
                                              .dynamic_shapes = dynamic});
}

static inline void made_done(struct made *m)
{
    pt2_archive_free(m->archive);
    tiny_remove(&m->model);
}

/* Write the archive's program; how many bytes, and the first of them to `to`. */
static inline size_t write_pte(const struct made *m, enum pt2_pte_backend backend, uint8_t *to,
                        size_t size, uint8_t digest[32])
{
    struct pt2_pte_options options = {.backend = backend};
    struct pt2_err err = {0};
    struct pt2_pte *pte;
    char path[100];
    uint64_t bytes;
    ssize_t n;
    int fd;

    ck_assert_msg(pt2_pte_new(m->archive, &options, &pte, &err) == 0, "%s", err.text);
    snprintf(path, sizeof(path), "%s/a.pte", m->model.dir);
    fd = open(path, O_CREAT | O_TRUNC | O_RDWR, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pt2_pte_write(pte, fd, NULL, NULL, digest, &bytes, &err), 0);
    ck_assert_uint_eq(bytes, pt2_pte_facts(pte).file_bytes);
    n = pread(fd, to, size, 0);
    ck_assert_int_ge(n, 0);
    ck_assert_uint_eq((uint64_t)lseek(fd, 0, SEEK_END), bytes);
    close(fd);
    pt2_pte_free(pte);
    return (size_t)n;
}

#endif
