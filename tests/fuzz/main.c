/* main.c - the driver of a fuzz target without libFuzzer: see fuzz.h. */
#include "fuzz.h"

#include "base/util.h"
#include "seed.h"

#ifndef FUZZ_LIBFUZZER

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>

#define MAX_SEED_BYTES  (192 << 10) /* larger files of a corpus are left out */
#define MAX_INPUT_BYTES (256 << 10)
#define MAX_SEEDS       4096
#define BUSY_SECONDS    60  /* of computing: an input that loops, on a slow machine too */
#define HANG_SECONDS    900 /* of waiting for anything */

static struct {
    char *name;
    uint8_t *data;
    size_t size;
} seeds[MAX_SEEDS];
static size_t n_seeds;

/* ---- the input under way, for whoever has to find it again ---- */

static const uint8_t *volatile now_data;
static volatile size_t now_size;
static char now_name[400];

/* A target's own mutations, as libFuzzer calls them. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
                               unsigned seed) __attribute__((weak));
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static void keep_input(void)
{
    char path[100];
    int fd;

    snprintf(path, sizeof(path), "crash-%s", fuzz_name);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || write(fd, now_data, now_size) != (ssize_t)now_size)
        return;
    close(fd);
    dprintf(2, "%s: %s; the input is in %s\n", fuzz_name, now_name, path);
}

static void on_signal(int number)
{
    signal(number, SIG_DFL);
    keep_input();
    raise(number);
}

static void run(const uint8_t *data, size_t size)
{
    /* Exactly so many bytes, so that a read beyond them is seen. */
    uint8_t *copy = malloc(size ? size : 1);
    struct itimerval busy = {.it_value.tv_sec = BUSY_SECONDS}, none = {0};

    if (!copy)
        abort();
    memcpy(copy, data, size);
    now_data = copy;
    now_size = size;
    setitimer(ITIMER_PROF, &busy, NULL);
    alarm(HANG_SECONDS);
    LLVMFuzzerTestOneInput(copy, size);
    alarm(0);
    setitimer(ITIMER_PROF, &none, NULL);
    free(copy);
}

/* ---- the corpus ---- */

static void take_file(const char *path, uint64_t size)
{
    FILE *f = fopen(path, "rb");

    if (!f || n_seeds == MAX_SEEDS)
        abort();
    seeds[n_seeds].name = strdup(path);
    seeds[n_seeds].data = malloc(size + 1);
    seeds[n_seeds].size = fread(seeds[n_seeds].data, 1, size, f);
    fclose(f);
    n_seeds++;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* A file, or all files below a folder in the order of their names. */
static void take_path(const char *path)
{
    char *names[1000], below[1400];
    struct dirent *d;
    struct stat st;
    size_t n = 0;
    DIR *dir;

    if (stat(path, &st) < 0)
        return;
    if (S_ISREG(st.st_mode)) {
        if (st.st_size <= MAX_SEED_BYTES && !ends_with(path, "/error") &&
            !ends_with(path, ".py"))
            take_file(path, (uint64_t)st.st_size);
        return;
    }
    dir = opendir(path);
    while (dir && (d = readdir(dir)) != NULL && n < ARRAY_LEN(names))
        if (*d->d_name != '.')
            names[n++] = strdup(d->d_name);
    if (dir)
        closedir(dir);
    qsort(names, n, sizeof(*names), compare_names);
    for (size_t i = 0; i < n; i++) {
        snprintf(below, sizeof(below), "%s/%s", path, names[i]);
        take_path(below);
        free(names[i]);
    }
}

static void take_corpus(void)
{
    const char *top = getenv("srcdir");
    char path[1000];

    for (size_t i = 0; fuzz_corpus[i]; i++) {
        snprintf(path, sizeof(path), "%s/%s", top ? top : "..", fuzz_corpus[i]);
        take_path(path);
    }
    snprintf(path, sizeof(path), "%s/tests/data/fuzz/%s", top ? top : "..", fuzz_name);
    take_path(path);
}

static int write_corpus(const char *folder)
{
    char path[600];
    FILE *f;

    for (size_t i = 0; i < n_seeds; i++) {
        snprintf(path, sizeof(path), "%s/seed-%04zu", folder, i);
        f = fopen(path, "wb");
        if (!f || fwrite(seeds[i].data, 1, seeds[i].size, f) != seeds[i].size ||
            fclose(f) != 0)
            return 1;
    }
    return 0;
}

/* ---- mutations ---- */

static uint64_t rng_state;

static uint64_t random_u64(void) /* splitmix64 */
{
    uint64_t z = (rng_state += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static size_t below(size_t n)
{
    return n ? (size_t)(random_u64() % n) : 0;
}

struct input {
    uint8_t data[MAX_INPUT_BYTES];
    size_t size;
};

/* Put n bytes in the place of those from `at` to `end`. */
static void replace(struct input *in, size_t at, size_t end, const void *bytes, size_t n)
{
    if (in->size - (end - at) + n > sizeof(in->data))
        return;
    memmove(in->data + at + n, in->data + end, in->size - end);
    memcpy(in->data + at, bytes, n);
    in->size = in->size - (end - at) + n;
}

static void insert_text(struct input *in)
{
    static const char *const texts[] = {
        "null", "true",   "{}",   "[]", "\"\"", "-1",         "0",       "1e308",
        "NaN",  "\\u0000", "\xff", ",",  ":",    "{\"a\":",    "[[[[[[[[", "]",
        "}",    "\"",      "\\",   "%",  "..",   "bytes=0-0,", ";q=0.5",  "-0.0",
    };
    const char *text = texts[below(ARRAY_LEN(texts))];
    size_t at = below(in->size + 1);

    replace(in, at, at, text, strlen(text));
}

/* Another number in the place of one written in digits. */
static void change_number(struct input *in)
{
    static const char *const numbers[] = {
        "0",          "1",           "-1",         "2",          "7",
        "64",         "255",         "65536",      "2147483647", "2147483648",
        "4294967296", "-2147483649", "1e400",      "0.5",        "9007199254740993",
        "9223372036854775807", "-9223372036854775808", "18446744073709551615",
        "99999999999999999999",
    };
    const char *number = numbers[below(ARRAY_LEN(numbers))];
    size_t at = below(in->size), end;

    for (size_t i = 0; i < in->size && (in->data[at] < '0' || in->data[at] > '9'); i++)
        at = (at + 1) % in->size;
    for (end = at; end < in->size && in->data[end] >= '0' && in->data[end] <= '9'; end++)
        ;
    replace(in, at, end, number, strlen(number));
}

static void change_binary(struct input *in)
{
    static const uint64_t values[] = {0,          1,          0x7f,       0x80,
                                      0xff,       0x7fff,     0xffff,     0x7fffffff,
                                      0x80000000, 0xffffffff, 1ull << 32, INT64_MAX,
                                      UINT64_MAX, 1ull << 63};
    static const size_t widths[] = {1, 2, 4, 8};
    uint64_t value = values[below(ARRAY_LEN(values))];
    size_t width = widths[below(ARRAY_LEN(widths))], at = below(in->size);

    if (below(2))
        value += below(5) - 2;
    memcpy(in->data + at, &value, MIN(width, in->size - at));
}

static void move_piece(struct input *in, const uint8_t *from, size_t from_size)
{
    uint8_t piece[512];
    size_t n = 1 + below(below(2) ? 16 : sizeof(piece)), at = below(in->size + 1);
    size_t first = below(from_size), end;

    n = MIN(n, from_size - first);
    memcpy(piece, from + first, n);
    end = below(2) ? at : MIN(at + n, in->size);
    replace(in, at, end, piece, n);
}

static void mutate(struct input *in)
{
    size_t other = below(n_seeds), at = below(in->size), n = 1 + below(64);

    switch (in->size ? below(9) : 0) {
    case 0:
        insert_text(in);
        break;
    case 1:
        in->data[at] ^= (uint8_t)(1u << below(8));
        break;
    case 2:
        in->data[at] = (uint8_t)random_u64();
        break;
    case 3:
        change_binary(in);
        break;
    case 4:
    case 5:
        change_number(in);
        break;
    case 6:
        replace(in, at, MIN(in->size, at + n), "", 0);
        break;
    case 7:
        move_piece(in, in->data, in->size);
        break;
    default:
        if (below(20) == 0)
            in->size = at;
        else if (seeds[other].size)
            move_piece(in, seeds[other].data, seeds[other].size);
    }
}

/* ---- main ---- */

static uint64_t setting(const char *name, uint64_t preset)
{
    const char *text = getenv(name);

    return text ? strtoull(text, NULL, 10) : preset;
}

static void run_mutations(uint64_t seed)
{
    static struct input in;
    uint64_t n = setting("PT2_RUNS", 4000), i;
    time_t end = time(NULL) + (time_t)setting("PT2_SECONDS", 4);

    for (i = 0; i < n && time(NULL) <= end; i++) {
        size_t start, rounds;

        rng_state = seed * 1000003u + i;
        start = below(n_seeds);
        rounds = 1 + below(below(2) ? 3 : 12);
        snprintf(now_name, sizeof(now_name), "seed %" PRIu64 ", input %" PRIu64 " of '%s'",
                 seed, i, seeds[start].name);
        in.size = seeds[start].size;
        memcpy(in.data, seeds[start].data, in.size);
        if (LLVMFuzzerCustomMutator)
            in.size = LLVMFuzzerCustomMutator(in.data, in.size, sizeof(in.data),
                                              (unsigned)random_u64());
        else
            while (rounds-- > 0)
                mutate(&in);
        run(in.data, in.size);
    }
    printf("%s: %zu files and %" PRIu64 " mutations of seed %" PRIu64 "\n", fuzz_name,
           n_seeds, i, seed);
}

int main(int argc, char **argv)
{
    static const int fatal[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE,
                                SIGALRM, SIGPROF, SIGILL};
    bool only_files = argc > 1 && !streq(argv[1], "-o");

    if (__sanitizer_set_death_callback)
        __sanitizer_set_death_callback(keep_input);
    for (size_t i = 0; i < ARRAY_LEN(fatal); i++)
        if (!__sanitizer_set_death_callback || fatal[i] == SIGALRM || fatal[i] == SIGPROF ||
            fatal[i] == SIGABRT)
            signal(fatal[i], on_signal);
    if (only_files)
        for (int i = 1; i < argc; i++)
            take_path(argv[i]);
    else
        take_corpus();
    if (argc == 3 && !only_files)
        return write_corpus(argv[2]);
    if (n_seeds == 0) {
        fprintf(stderr, "%s: no corpus\n", fuzz_name);
        return 1;
    }
    for (size_t i = 0; i < n_seeds; i++) {
        snprintf(now_name, sizeof(now_name), "'%s'", seeds[i].name);
        run(seeds[i].data, seeds[i].size);
    }
    if (!only_files)
        run_mutations(test_seed());
    for (size_t i = 0; i < n_seeds; i++) {
        free(seeds[i].name);
        free(seeds[i].data);
    }
    return 0;
}

#endif
