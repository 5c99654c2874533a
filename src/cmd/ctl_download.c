#include "cmd/ctl_download.h"

#include "base/sha256.h"
#include "cmd/ctl_http.h"
#include "cmd/ctl_show.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#define TRIES 5 /* in a row that brought nothing */

struct download {
    struct ctl *ctl;
    const char *id, *path;
    char *part_path;
    FILE *part;
    struct sha256 hash;
    uint64_t done, total; /* total 0: not known yet */
    uint64_t resumed;
    bool disk_failed;
    int disk_errno;
    struct bar bar;
    bool has_begun; /* the answer under way has been looked at */
};

/* Throw away what is there, for an answer that starts at byte 0. */
static bool start_over(struct download *d)
{
    if (fflush(d->part) != 0 || ftruncate(fileno(d->part), 0) < 0 ||
        fseeko(d->part, 0, SEEK_SET) < 0) {
        d->disk_failed = true;
        d->disk_errno = errno;
        return false;
    }
    d->done = 0;
    sha256_start(&d->hash);
    return true;
}

static bool on_data(void *ctx, long status, const char *data, size_t len)
{
    struct download *d = ctx;

    if (!d->has_begun) {
        if (status == 200 && d->done > 0 && !start_over(d))
            return false;
        d->has_begun = true;
    }
    if (fwrite(data, 1, len, d->part) != len) {
        d->disk_failed = true;
        d->disk_errno = errno;
        return false;
    }
    sha256_add(&d->hash, data, len);
    d->done += len;
    bar_draw(&d->bar, "download", d->done, MAX(d->total, d->done), true);
    return true;
}

/* How long the whole file is. */
static int ask_total(struct download *d)
{
    AUTO_PTR char *path = ctl_path("/v1/programs/%s", d->id);
    json_auto_t *facts = NULL;
    json_int_t bytes;

    if (ctl_json(d->ctl, "GET", path, NULL, &facts) < 0)
        return -1;
    bytes = json_integer_value(json_object_get(facts, "bytes"));
    if (bytes <= 0)
        return ctl_fail(d->ctl, CTL_BROKEN, "program '%s' has no size", d->id);
    d->total = (uint64_t)bytes;
    return 0;
}

/* One request for what is missing. */
static int fetch_rest(struct download *d)
{
    AUTO_PTR char *path = ctl_path("/v1/programs/%s/file", d->id);
    char range[64], if_range[SHA256_HEX + 16];
    struct ctl_request request = {.method = "GET",
                                  .path = path,
                                  .accept = "*/*",
                                  .on_data = on_data,
                                  .ctx = d};
    AUTO_REPLY reply;
    int r;

    if (d->done > 0) {
        snprintf(range, sizeof(range), "Range: bytes=%llu-", (unsigned long long)d->done);
        snprintf(if_range, sizeof(if_range), "If-Range: \"%s\"", d->id);
        request.headers[0] = range;
        request.headers[1] = if_range;
    }
    d->has_begun = false;
    r = ctl_http(d->ctl, &request, &reply);
    if (d->disk_failed) {
        ctl_forgive(d->ctl);
        return ctl_fail(d->ctl, CTL_FILE, "%s: %s", d->part_path, strerror(d->disk_errno));
    }
    if (r < 0 && reply.status == 416 && d->done > 0) {
        ctl_forgive(d->ctl); /* more bytes than the program has: they are not its */
        return start_over(d) ? 0 : ctl_fail(d->ctl, CTL_FILE, "%s", d->part_path);
    }
    return r;
}

static int fetch_all(struct download *d)
{
    unsigned idle = 0;

    if (ask_total(d) < 0)
        return -1;
    if (d->done > d->total && !start_over(d))
        return ctl_fail(d->ctl, CTL_FILE, "%s: %s", d->part_path, strerror(d->disk_errno));
    while (d->done < d->total) {
        uint64_t before = d->done;
        struct timespec pause = {.tv_sec = 0, .tv_nsec = 200000000};

        if (fetch_rest(d) == 0 && d->done == d->total)
            break;
        if (d->ctl->exit != CTL_OK && d->ctl->exit != CTL_UNREACHABLE)
            return -1;
        idle = d->done > before ? 0 : idle + 1;
        if (idle >= TRIES)
            return ctl_fail(d->ctl, CTL_UNREACHABLE,
                            "the download stopped at %llu of %llu bytes",
                            (unsigned long long)d->done, (unsigned long long)d->total);
        ctl_forgive(d->ctl);
        pause.tv_sec = idle;
        nanosleep(&pause, NULL);
        if (ctl_interrupted)
            return ctl_fail(d->ctl, CTL_INTERRUPTED,
                            "interrupted at %llu of %llu bytes; the same command goes on",
                            (unsigned long long)d->done, (unsigned long long)d->total);
    }
    return 0;
}

/* Open the part file and hash what it holds. */
static int open_part(struct download *d)
{
    int fd = open(d->part_path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    static char block[1 << 16];
    size_t n;

    if (fd < 0)
        return ctl_fail(d->ctl, CTL_FILE, "%s: %s", d->part_path, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        close(fd);
        return ctl_fail(d->ctl, CTL_FILE, "%s: another download writes it", d->part_path);
    }
    d->part = fdopen(fd, "r+b");
    if (!d->part) {
        close(fd);
        return ctl_fail_nomem(d->ctl);
    }
    sha256_start(&d->hash);
    while ((n = fread(block, 1, sizeof(block), d->part)) > 0) {
        sha256_add(&d->hash, block, n);
        d->done += n;
    }
    if (ferror(d->part) || fseeko(d->part, (off_t)d->done, SEEK_SET) < 0)
        return ctl_fail(d->ctl, CTL_FILE, "%s: %s", d->part_path, strerror(errno));
    d->resumed = d->done;
    return 0;
}

/* The digest must be the id; then the file gets its name. */
static int keep(struct download *d)
{
    uint8_t digest[SHA256_BYTES];
    char hex[SHA256_HEX];

    sha256_finish(&d->hash, digest);
    sha256_to_hex(digest, hex);
    if (!streq(hex, d->id)) {
        unlink(d->part_path);
        return ctl_fail(d->ctl, CTL_FILE,
                        "the bytes that came have the SHA-256 %s, the program has %s; the "
                        "part file is removed",
                        hex, d->id);
    }
    if (fflush(d->part) != 0 || fsync(fileno(d->part)) < 0)
        return ctl_fail(d->ctl, CTL_FILE, "%s: %s", d->part_path, strerror(errno));
    if (rename(d->part_path, d->path) < 0)
        return ctl_fail(d->ctl, CTL_FILE, "%s: %s", d->path, strerror(errno));
    return 0;
}

/* A file of that name and content is there already. */
static bool is_there(struct ctl *ctl, const char *id, const char *path, uint64_t *ret_bytes)
{
    AUTO_FILE FILE *file = fopen(path, "rb");
    char hex[SHA256_HEX];

    if (!file)
        return false;
    if (ctl_digest_file(ctl, file, path, hex, ret_bytes) < 0) {
        ctl_forgive(ctl);
        return false;
    }
    return streq(hex, id);
}

int ctl_download(struct ctl *ctl, const char *id, const char *path, uint64_t *ret_bytes,
                 uint64_t *ret_resumed)
{
    struct download d = {.ctl = ctl, .id = id, .path = path};
    uint64_t bytes;
    int r;

    if (strlen(id) != SHA256_HEX - 1)
        return ctl_fail(ctl, CTL_BROKEN, "'%s' is not a program's id", id);
    if (is_there(ctl, id, path, &bytes)) {
        *ret_bytes = bytes;
        if (ret_resumed)
            *ret_resumed = bytes;
        return 0;
    }
    if (asprintf(&d.part_path, "%s.%.12s.part", path, id) < 0)
        return ctl_fail_nomem(ctl);
    bar_start(&d.bar, ctl);
    r = open_part(&d);
    if (r == 0)
        r = fetch_all(&d);
    bar_end(&d.bar);
    if (r == 0)
        r = keep(&d);
    if (d.part)
        fclose(d.part);
    free(d.part_path);
    if (r < 0)
        return -1;
    *ret_bytes = d.total;
    if (ret_resumed)
        *ret_resumed = d.resumed;
    return 0;
}

int ctl_digest_file(struct ctl *ctl, FILE *file, const char *path, char *ret_hex,
                    uint64_t *ret_bytes)
{
    static char block[1 << 16];
    uint8_t digest[SHA256_BYTES];
    struct sha256 hash;
    uint64_t bytes = 0;
    size_t n;

    sha256_start(&hash);
    while ((n = fread(block, 1, sizeof(block), file)) > 0) {
        sha256_add(&hash, block, n);
        bytes += n;
        if (ctl_interrupted)
            return ctl_fail(ctl, CTL_INTERRUPTED, "interrupted");
    }
    if (ferror(file))
        return ctl_fail(ctl, CTL_FILE, "%s: %s", path, strerror(errno));
    sha256_finish(&hash, digest);
    sha256_to_hex(digest, ret_hex);
    *ret_bytes = bytes;
    return 0;
}
