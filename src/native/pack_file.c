#include "native/pack_file.h"

#include "base/folder.h"
#include "base/mapping.h"
#include "native/pack.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <sys/stat.h>

#define MAGIC       "pt2-pack"
#define FILE_MODE   0400
#define FIRST_ALIGN 4096
#define CHUNK       ((size_t)1 << 20) /* that is summed by one thread */
#define JOB_CHUNKS  64

/* All in the machine's byte order; a file from another one has another version. */
struct header {
    char magic[8];
    uint32_t version, n;
    uint64_t bytes;    /* of the file */
    uint64_t archive;  /* a sum of the archive's records */
    uint64_t contents; /* of all that is behind this */
};

struct entry {
    uint32_t n_out, k, group, bits;
    uint64_t offset, bytes;
};

/* ---- sums ---- */

static uint64_t turn(uint64_t sum, uint64_t word)
{
    sum = (sum ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    return sum ^ sum >> 29;
}

/* Eight words side by side, so that it runs as fast as memory is read. */
static uint64_t sum_of(uint64_t seed, const uint8_t *data, size_t n)
{
    uint64_t lanes[8], word, sum = turn(seed, n);

    for (int i = 0; i < 8; i++)
        lanes[i] = turn(seed, (uint64_t)i);
    for (; n >= 64; n -= 64, data += 64)
        for (int i = 0; i < 8; i++) {
            memcpy(&word, data + i * 8, 8);
            lanes[i] = turn(lanes[i], word);
        }
    for (int i = 0; i < 8; i++)
        sum = turn(sum, lanes[i]);
    for (; n > 0; n--)
        sum = turn(sum, *data++);
    return sum;
}

struct summing {
    const uint8_t *data;
    uint64_t n;
    size_t end;
    _Atomic size_t next;
    _Atomic uint64_t sum; /* of the chunks', each with its number as seed */
};

static void sum_job(void *context, unsigned part)
{
    struct summing *s = context;
    size_t chunk;

    (void)part;
    while ((chunk = atomic_fetch_add(&s->next, 1)) < s->end) {
        uint64_t at = (uint64_t)chunk * CHUNK;

        atomic_fetch_add(&s->sum, sum_of(chunk, s->data + at, MIN(CHUNK, s->n - at)));
    }
}

static uint64_t sum_by_all(struct team *team, uint64_t seed, const uint8_t *data, uint64_t n)
{
    struct summing s = {.data = data, .n = n, .sum = seed};
    size_t n_chunks = (size_t)((n + CHUNK - 1) / CHUNK);

    for (size_t at = 0; at < n_chunks; at = s.end) {
        s.end = MIN(at + JOB_CHUNKS, n_chunks);
        s.next = at;
        team_run(team, sum_job, &s);
    }
    return s.sum;
}

/* Names, places and CRC-32 of its records: so of their contents, too. */
static uint64_t sum_of_archive(const struct pt2_archive *archive)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < pt2_archive_n_records(archive); i++) {
        const struct pt2_record *r = pt2_archive_record(archive, i);

        sum = sum_of(sum, (const uint8_t *)r->name, strlen(r->name));
        sum = turn(turn(turn(sum, r->offset), r->size), r->crc32);
    }
    return sum;
}

/* ---- what a file of the plan begins with ---- */

/* Header and entries, with zeros up to where the first matrix lies. */
struct beginning {
    uint8_t *at;
    size_t bytes;
};

static struct entry *entries_of(const struct beginning *b)
{
    return (struct entry *)(b->at + sizeof(struct header));
}

static int beginning_new(const struct plan *plan, const struct pt2_archive *archive,
                         struct beginning *ret, struct pt2_err *err)
{
    struct header header = {.magic = MAGIC, .version = PACK_VERSION};
    struct beginning b;
    uint64_t at;

    for (size_t i = 0; i < plan->n_quants; i++)
        header.n += plan->quants[i].is_linear;
    b.bytes = (sizeof(header) + header.n * sizeof(struct entry) + FIRST_ALIGN - 1) /
              FIRST_ALIGN * FIRST_ALIGN;
    b.at = calloc(1, b.bytes);
    if (!b.at)
        return pt2_err_set(err, PT2_ERR_NOMEM, "packed weights");
    at = b.bytes;
    for (size_t i = 0, n = 0; i < plan->n_quants; i++) {
        const struct plan_quant *q = &plan->quants[i];
        uint64_t bytes = quant_packed_bytes(&q->shape);

        if (!q->is_linear)
            continue;
        entries_of(&b)[n++] = (struct entry){q->shape.n_out, q->shape.k, q->shape.group,
                                             q->shape.bits, at, bytes};
        at += bytes;
    }
    header.bytes = at;
    header.archive = sum_of_archive(archive);
    memcpy(b.at, &header, sizeof(header));
    *ret = b;
    return 0;
}

/* ---- reading ---- */

void pack_map_done(struct pack_map *map)
{
    mapping_free(map->mapping);
    *map = (struct pack_map){0};
}

static bool map_file(const char *path, struct pack_map *ret)
{
    AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct mapping *m;
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
        (uint64_t)st.st_size < sizeof(struct header) || mapping_new(fd, &m, NULL) < 0)
        return false;
    *ret = (struct pack_map){m, mapping_data(m), mapping_bytes(m)};
    return true;
}

/* Matrices of 4 bits may have turned out to have 8: the file knows. */
static bool take_bits(struct plan *plan, const struct pack_map *map)
{
    const struct entry *entries = (const struct entry *)(map->at + sizeof(struct header));
    struct header header;
    size_t n = 0;

    memcpy(&header, map->at, sizeof(header));
    if (memcmp(header.magic, MAGIC, sizeof(header.magic)) != 0 ||
        header.version != PACK_VERSION || header.bytes != map->bytes ||
        header.n > (map->bytes - sizeof(header)) / sizeof(*entries))
        return false;
    for (size_t i = 0; i < plan->n_quants; i++)
        n += plan->quants[i].is_linear;
    if (n != header.n)
        return false;
    n = 0;
    for (size_t i = 0; i < plan->n_quants; i++) {
        struct quant_shape *shape = &plan->quants[i].shape;

        if (!plan->quants[i].is_linear)
            continue;
        if (shape->bits == 4 && entries[n].bits == 8)
            shape->bits = 8;
        n++;
    }
    return true;
}

static bool is_whole(const struct pack_map *map, const struct plan *plan,
                     const struct pt2_archive *archive, struct team *team, uint64_t *ret_first)
{
    struct beginning b = {0};
    struct header header, expected;
    bool is;

    if (beginning_new(plan, archive, &b, NULL) < 0)
        return false;
    memcpy(&header, map->at, sizeof(header));
    memcpy(&expected, b.at, sizeof(expected));
    expected.contents = header.contents;
    is = map->bytes >= b.bytes && memcmp(&header, &expected, sizeof(header)) == 0 &&
         memcmp(map->at + sizeof(header), b.at + sizeof(header), b.bytes - sizeof(header)) == 0 &&
         sum_by_all(team, sum_of(0, b.at + sizeof(header), b.bytes - sizeof(header)),
                    map->at + b.bytes, map->bytes - b.bytes) == header.contents;
    *ret_first = b.bytes;
    free(b.at);
    return is;
}

bool pack_file_map(const char *path, struct plan *plan, const struct pt2_archive *archive,
                   struct team *team, struct pack_map *ret_map, uint64_t *ret_first)
{
    AUTO_PTR unsigned *bits = calloc(plan->n_quants + 1, sizeof(*bits));
    struct pack_map map = {0};

    for (size_t i = 0; bits && i < plan->n_quants; i++)
        bits[i] = plan->quants[i].shape.bits;
    if (bits && map_file(path, &map) && take_bits(plan, &map) &&
        is_whole(&map, plan, archive, team, ret_first)) {
        *ret_map = map;
        return true;
    }
    for (size_t i = 0; bits && i < plan->n_quants; i++)
        plan->quants[i].shape.bits = bits[i];
    pack_map_done(&map);
    return false;
}

/* ---- writing ---- */

static int write_all(int fd, const uint8_t *data, uint64_t n)
{
    while (n > 0) {
        ssize_t done = write(fd, data, (size_t)MIN(n, (uint64_t)1 << 30));

        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return -1;
        data += done;
        n -= (uint64_t)done;
    }
    return 0;
}

static int write_file(const char *temp, int fd, const char *path, const struct beginning *b,
                      const uint8_t *packed, uint64_t bytes, struct pt2_err *err)
{
    char folder[PATH_MAX];
    char *slash;

    if (write_all(fd, b->at, b->bytes) < 0 || write_all(fd, packed, bytes) < 0 ||
        fchmod(fd, FILE_MODE) < 0 || fsync(fd) < 0)
        return pt2_err_errno(err, errno == ENOSPC || errno == EDQUOT ? PT2_ERR_NO_SPACE
                                                                     : PT2_ERR_IO,
                             "'%s'", path);
    if (rename(temp, path) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "'%s'", path);
    snprintf(folder, sizeof(folder), "%s", path);
    slash = strrchr(folder, '/');
    if (slash)
        *slash = '\0';
    return folder_sync(slash == folder ? "/" : slash ? folder : ".", err);
}

int pack_file_write(const char *path, const struct plan *plan, const struct pt2_archive *archive,
                    struct team *team, const uint8_t *packed, uint64_t bytes,
                    struct pack_map *ret_map, uint64_t *ret_first, struct pt2_err *err)
{
    struct beginning b = {0};
    struct header *header;
    char temp[PATH_MAX];
    AUTO_FD int fd = -1;
    int r;

    if ((size_t)snprintf(temp, sizeof(temp), "%s.XXXXXX", path) >= sizeof(temp))
        return pt2_err_set(err, PT2_ERR_IO, "'%s': path too long", path);
    if (beginning_new(plan, archive, &b, err) < 0)
        return -1;
    header = (struct header *)b.at;
    header->contents = sum_by_all(
        team, sum_of(0, b.at + sizeof(*header), b.bytes - sizeof(*header)), packed, bytes);
    fd = mkostemp(temp, O_CLOEXEC);
    r = fd < 0 ? pt2_err_errno(err, PT2_ERR_IO, "'%s'", path)
               : write_file(temp, fd, path, &b, packed, bytes, err);
    if (r < 0 && fd >= 0)
        unlink(temp); /* nothing where it was renamed */
    if (r == 0 && (!map_file(path, ret_map) || ret_map->bytes != b.bytes + bytes)) {
        pack_map_done(ret_map);
        r = pt2_err_set(err, PT2_ERR_IO, "'%s' can't be mapped", path);
    }
    *ret_first = b.bytes;
    free(b.at);
    return r;
}
