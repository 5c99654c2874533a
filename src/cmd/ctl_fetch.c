#include "cmd/ctl_fetch.h"

#include "cmd/ctl_show.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#define TRIES 5 /* in a row that brought nothing */

struct download {
    struct ctl *ctl;
    const struct fetch_source *source;
    const struct output *output;
    char *part_path; /* owned; of a stream: its own path */
    FILE *part;
    struct blob_hash hash;
    uint64_t done;
    uint64_t resumed;
    bool is_too_long; /* more came than there should be */
    bool disk_failed;
    int disk_errno;
    struct bar bar;
    bool was_beyond; /* the source had no bytes behind those here */
    bool has_begun;  /* the answer under way has been looked at */
};

static void start_hash(struct download *d)
{
    blob_hash_start(&d->hash, d->source->kind, d->source->bytes);
}

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
    start_hash(d);
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
    d->is_too_long = len > d->source->bytes - MIN(d->done, d->source->bytes);
    if (d->is_too_long)
        return false;
    if (fwrite(data, 1, len, d->part) != len) {
        d->disk_failed = true;
        d->disk_errno = errno;
        return false;
    }
    blob_hash_add(&d->hash, data, len);
    d->done += len;
    bar_draw(&d->bar, d->source->label, d->done, MAX(d->source->bytes, d->done), true);
    return true;
}

/* One request for what is missing. */
static int fetch_rest(struct download *d)
{
    long status = 0;
    int r;

    d->has_begun = false;
    r = d->source->get(d->source->ctx, d->done, on_data, d, &status);
    if (d->disk_failed) {
        ctl_forgive(d->ctl);
        return ctl_fail(d->ctl, CTL_FILE, "%s: %s", d->part_path,
                        strerror(d->disk_errno));
    }
    if (d->is_too_long) {
        if (!d->output->is_stream)
            unlink(d->part_path);
        ctl_forgive(d->ctl);
        return ctl_fail(d->ctl, CTL_FILE, "more came than the %llu bytes of %s",
                        (unsigned long long)d->source->bytes, d->source->what);
    }
    if (r < 0 && status == 416 && d->done > 0) {
        if (d->was_beyond) {
            ctl_forgive(d->ctl);
            return ctl_fail(d->ctl, CTL_BROKEN,
                            "there are but %llu bytes of %s, %llu were announced",
                            (unsigned long long)d->done, d->source->what,
                            (unsigned long long)d->source->bytes);
        }
        d->was_beyond = true;
        ctl_forgive(d->ctl); /* more bytes than the whole has: they are not its */
        return start_over(d) ? 0 : ctl_fail(d->ctl, CTL_FILE, "%s", d->part_path);
    }
    return r;
}

static int fetch_all(struct download *d)
{
    unsigned idle = 0;

    if (d->done > d->source->bytes && !start_over(d))
        return ctl_fail(d->ctl, CTL_FILE, "%s: %s", d->part_path,
                        strerror(d->disk_errno));
    while (d->done < d->source->bytes) {
        uint64_t before = d->done;
        struct timespec pause = {.tv_sec = 0, .tv_nsec = 200000000};

        if (fetch_rest(d) == 0 && d->done == d->source->bytes)
            break;
        if (d->ctl->exit != CTL_OK && d->ctl->exit != CTL_UNREACHABLE)
            return -1;
        idle = d->done > before ? 0 : idle + 1;
        ctl_forgive(d->ctl);
        if (idle >= TRIES)
            return ctl_fail(d->ctl, CTL_UNREACHABLE,
                            "the download stopped at %llu of %llu bytes",
                            (unsigned long long)d->done, (unsigned long long)d->source->bytes);
        pause.tv_nsec <<= idle; /* up to 3.2 s */
        pause.tv_sec = pause.tv_nsec / 1000000000;
        pause.tv_nsec %= 1000000000;
        nanosleep(&pause, NULL);
        if (ctl_interrupted)
            return ctl_fail(d->ctl, CTL_INTERRUPTED,
                            "interrupted at %llu of %llu bytes; the same command goes on",
                            (unsigned long long)d->done, (unsigned long long)d->source->bytes);
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
    start_hash(d);
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
    start_hash(d);
    while ((n = fread(block, 1, sizeof(block), d->part)) > 0) {
        blob_hash_add(&d->hash, block, n);
        d->done += n;
    }
    if (ferror(d->part) || fseeko(d->part, (off_t)d->done, SEEK_SET) < 0)
        return ctl_fail(d->ctl, CTL_FILE, "%s: %s", d->part_path, strerror(errno));
    d->resumed = d->done;
    return 0;
}

static bool is_right(const struct download *d, char *ret_hex)
{
    blob_hash_hex(&d->hash, ret_hex);
    return streq(ret_hex, d->source->digest);
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
    char hex[BLOB_HASH_HEX];

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
                    "the bytes that came have the %s %s, %s has %s%s",
                    blob_hash_name(d->source->kind), hex, d->source->what,
                    d->source->digest,
                    d->output->is_stream ? "" : "; the part file is removed");
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

bool ctl_file_is(struct ctl *ctl, const char *path, const struct fetch_source *source)
{
    AUTO_FILE FILE *file = fopen(path, "rb");
    static char block[1 << 16];
    char hex[BLOB_HASH_HEX];
    struct blob_hash hash;
    struct stat st;
    size_t n;

    if (!file || fstat(fileno(file), &st) < 0 || !S_ISREG(st.st_mode) ||
        (uint64_t)st.st_size != source->bytes)
        return false;
    blob_hash_start(&hash, source->kind, source->bytes);
    while ((n = fread(block, 1, sizeof(block), file)) > 0) {
        blob_hash_add(&hash, block, n);
        if (ctl_interrupted)
            return false;
    }
    if (ferror(file))
        return false;
    blob_hash_hex(&hash, hex);
    return streq(hex, source->digest);
}

int ctl_fetch(struct ctl *ctl, const struct fetch_source *source,
              const struct output *output, uint64_t *ret_resumed)
{
    struct download d = {.ctl = ctl, .source = source, .output = output};
    int r;

    if (!output->is_stream && ctl_file_is(ctl, output->path, source)) {
        if (ret_resumed)
            *ret_resumed = source->bytes;
        return 0;
    }
    if ((output->is_stream
             ? asprintf(&d.part_path, "%s", output->path)
             : asprintf(&d.part_path, "%s.%.12s.part", output->path, source->digest)) < 0)
        return ctl_fail_nomem(ctl);
    r = run(&d);
    free(d.part_path);
    if (r < 0)
        return -1;
    if (ret_resumed)
        *ret_resumed = d.resumed;
    return 0;
}
