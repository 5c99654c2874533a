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
    const char *id;
    const struct output *output;
    char *part_path; /* owned; of a stream: its own path */
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
    if (d->output->is_stream && d->done > 0) {
        d->disk_failed = true; /* what went through a pipe can not be taken back */
        d->disk_errno = ESPIPE;
        return false;
    }
    if (fflush(d->part) != 0 || ftruncate(fileno(d->part), 0) < 0 ||
        fseeko(d->part, 0, SEEK_SET) < 0) {
        d->disk_failed = true;
        d->disk_errno = errno;
        return false;
    }
    d->done = d->resumed = 0;
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
    struct ctl_request request = {
        .method = "GET", .path = path, .accept = "*/*", .on_data = on_data, .ctx = d};
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
        return ctl_fail(d->ctl, CTL_FILE, "%s: %s", d->part_path,
                        strerror(d->disk_errno));
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
        return ctl_fail(d->ctl, CTL_FILE, "%s: %s", d->part_path,
                        strerror(d->disk_errno));
    while (d->done < d->total) {
        uint64_t before = d->done;
        struct timespec pause = {.tv_sec = 0, .tv_nsec = 200000000};

        if (fetch_rest(d) == 0 && d->done == d->total)
            break;
        if (d->ctl->exit != CTL_OK && d->ctl->exit != CTL_UNREACHABLE)
            return -1;
        idle = d->done > before ? 0 : idle + 1;
        ctl_forgive(d->ctl);
        if (idle >= TRIES)
            return ctl_fail(d->ctl, CTL_UNREACHABLE,
                            "the download stopped at %llu of %llu bytes",
                            (unsigned long long)d->done, (unsigned long long)d->total);
        pause.tv_nsec <<= idle; /* up to 3.2 s */
        pause.tv_sec = pause.tv_nsec / 1000000000;
        pause.tv_nsec %= 1000000000;
        nanosleep(&pause, NULL);
        if (ctl_interrupted)
            return ctl_fail(d->ctl, CTL_INTERRUPTED,
                            "interrupted at %llu of %llu bytes; the same command goes on",
                            (unsigned long long)d->done, (unsigned long long)d->total);
    }
    return 0;
}

static int open_stream(struct download *d)
{
    struct pt2_err err = {0};
    int fd;

    if (output_open_stream(d->output, /* wait= */ true, &fd, &err) < 0)
        return ctl_fail_err(d->ctl, CTL_FILE, &err);
    d->part = fdopen(fd, "wb");
    if (!d->part) {
        close(fd);
        return ctl_fail_nomem(d->ctl);
    }
    sha256_start(&d->hash);
    return 0;
}

/* Open the part file and hash what it holds. */
static int open_part(struct download *d)
{
    int fd = open(d->part_path,
                  O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0666);
    static char block[1 << 16];
    struct stat st;
    size_t n;

    if (fd < 0)
        return ctl_fail(d->ctl, CTL_FILE, "%s: %s", d->part_path, strerror(errno));
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return ctl_fail(d->ctl, CTL_FILE, "%s is in the way: it is no regular file",
                        d->part_path);
    }
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

static bool is_right(const struct download *d, char *ret_hex)
{
    struct sha256 hash = d->hash;
    uint8_t digest[SHA256_BYTES];

    sha256_finish(&hash, digest);
    sha256_to_hex(digest, ret_hex);
    return streq(ret_hex, d->id);
}

/* The file gets its name; its digest is right. */
static int keep(struct download *d)
{
    struct pt2_err err = {0};
    bool is_stream = d->output->is_stream;

    if (fflush(d->part) != 0 || (!is_stream && fsync(fileno(d->part)) < 0))
        return ctl_fail(d->ctl, CTL_FILE, "%s: %s", d->part_path, strerror(errno));
    if (!is_stream && output_rename(d->output, d->part_path, &err) < 0)
        return ctl_fail_err(d->ctl, CTL_FILE, &err);
    return 0;
}

/* All of it, and the digest must be the id. */
static int fetch_right(struct download *d)
{
    char hex[SHA256_HEX];

    if (fetch_all(d) < 0)
        return -1;
    if (d->resumed > 0 && !is_right(d, hex)) {
        /* What an earlier call left was damaged: all of it again. */
        if (!start_over(d))
            return ctl_fail(d->ctl, CTL_FILE, "%s: %s", d->part_path,
                            strerror(d->disk_errno));
        if (fetch_all(d) < 0)
            return -1;
    }
    if (is_right(d, hex))
        return 0;
    if (!d->output->is_stream)
        unlink(d->part_path);
    return ctl_fail(d->ctl, CTL_FILE,
                    "the bytes that came have the SHA-256 %s, the program has %s%s", hex,
                    d->id, d->output->is_stream ? "" : "; the part file is removed");
}

/* A file of that name and content is there already. */
static bool is_there(struct ctl *ctl, const char *id, const char *path,
                     uint64_t *ret_bytes)
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

int ctl_output(struct ctl *ctl, const char *path, struct output *ret_output)
{
    struct pt2_err err = {0};

    if (output_find(path, ret_output, &err) < 0 ||
        output_claim_stdout(ret_output, &err) < 0)
        return ctl_fail_err(ctl, CTL_FILE, &err);
    return 0;
}

static int run(struct download *d)
{
    int r;

    bar_start(&d->bar, d->ctl);
    r = d->output->is_stream ? open_stream(d) : open_part(d);
    if (r == 0)
        r = fetch_right(d);
    bar_end(&d->bar);
    if (r == 0)
        r = keep(d);
    if (d->part && fclose(d->part) != 0 && r == 0)
        r = ctl_fail(d->ctl, CTL_FILE, "%s: %s", d->part_path, strerror(errno));
    return r;
}

int ctl_download(struct ctl *ctl, const char *id, const struct output *output,
                 uint64_t *ret_bytes, uint64_t *ret_resumed)
{
    struct download d = {.ctl = ctl, .id = id, .output = output};
    uint64_t bytes;
    int r;

    if (strlen(id) != SHA256_HEX - 1)
        return ctl_fail(ctl, CTL_BROKEN, "'%s' is not a program's id", id);
    if (!output->is_stream && is_there(ctl, id, output->path, &bytes)) {
        *ret_bytes = bytes;
        if (ret_resumed)
            *ret_resumed = bytes;
        return 0;
    }
    if ((output->is_stream ? asprintf(&d.part_path, "%s", output->path)
                           : asprintf(&d.part_path, "%s.%.12s.part", output->path, id)) < 0)
        return ctl_fail_nomem(ctl);
    r = run(&d);
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
