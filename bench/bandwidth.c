/* bandwidth.c - how fast this machine reads memory.
 *
 * usage: bandwidth [THREADS [MIB [PASSES [FILE]]]]        2 threads, 1024 MiB, 12 passes
 *
 * Each thread reads its own part of one mapping from end to end, and adds up what it reads; a
 * pass is timed from when the first begins to when the last has ended.  The mapping is FILE, as
 * a program's weights lie in memory, or anonymous memory in huge pages, which is the most
 * that this machine gives.  Prints bytes a second in JSON, the best pass and the median: what
 * reads its weights once a token can't be faster than this over their bytes. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAX_THREADS 64
#define MAX_PASSES 1000
#define STEP 512 /* bytes that one turn of the loop reads */

typedef unsigned long words __attribute__((vector_size(64)));

struct part {
    const char *data;
    size_t size; /* a multiple of STEP */
    pthread_barrier_t *barrier;
    int passes;
    double begin[MAX_PASSES], end[MAX_PASSES];
    unsigned long sum; /* so that the reads are not left out */
};

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Eight sums, so that no addition waits for the one before. */
__attribute__((target_clones("avx512f", "avx2", "default"))) static unsigned long
read_all(const char *data, size_t size)
{
    words sums[STEP / sizeof(words)] = {0}, all = {0};
    unsigned long sum = 0;

    for (size_t at = 0; at < size; at += STEP)
        for (size_t i = 0; i < STEP / sizeof(words); i++)
            sums[i] += ((const words *)(data + at))[i];
    for (size_t i = 0; i < STEP / sizeof(words); i++)
        all ^= sums[i];
    for (size_t i = 0; i < sizeof(words) / sizeof(unsigned long); i++)
        sum ^= all[i];
    return sum;
}

static void *run(void *arg)
{
    struct part *p = arg;

    for (int i = 0; i < p->passes; i++) {
        pthread_barrier_wait(p->barrier);
        p->begin[i] = now();
        p->sum ^= read_all(p->data, p->size);
        p->end[i] = now();
    }
    return NULL;
}

static int less(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void *map_file(const char *path, size_t *size)
{
    struct stat st;
    int fd = open(path, O_RDONLY);
    void *data;

    if (fd < 0 || fstat(fd, &st) < 0)
        return MAP_FAILED;
    *size = (size_t)st.st_size < *size ? (size_t)st.st_size : *size;
    data = mmap(NULL, *size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
    close(fd);
    return data;
}

static void *map_memory(size_t size)
{
    void *data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (data != MAP_FAILED) {
        madvise(data, size, MADV_HUGEPAGE);
        memset(data, 1, size);
    }
    return data;
}

/* Seconds of each pass, sorted. */
static void measure(const char *data, size_t size, int n_threads, int passes, double *seconds)
{
    static struct part parts[MAX_THREADS];
    pthread_t threads[MAX_THREADS];
    pthread_barrier_t barrier;

    pthread_barrier_init(&barrier, NULL, (unsigned)n_threads);
    for (int i = 0; i < n_threads; i++) {
        parts[i] = (struct part){.data = data + (size_t)i * size,
                                 .size = size,
                                 .barrier = &barrier,
                                 .passes = passes};
        if (pthread_create(&threads[i], NULL, run, &parts[i]) != 0) {
            fprintf(stderr, "bandwidth: can't start a thread\n");
            exit(1);
        }
    }
    for (int i = 0; i < n_threads; i++)
        pthread_join(threads[i], NULL);
    for (int pass = 0; pass < passes; pass++) {
        double begin = parts[0].begin[pass], end = parts[0].end[pass];

        for (int i = 1; i < n_threads; i++) {
            begin = parts[i].begin[pass] < begin ? parts[i].begin[pass] : begin;
            end = parts[i].end[pass] > end ? parts[i].end[pass] : end;
        }
        seconds[pass] = end - begin;
    }
    qsort(seconds, (size_t)passes, sizeof(*seconds), less);
}

int main(int argc, char **argv)
{
    int n_threads = argc > 1 ? atoi(argv[1]) : 2, passes = argc > 3 ? atoi(argv[3]) : 12;
    size_t size = (size_t)(argc > 2 ? atoi(argv[2]) : 1024) << 20, part;
    double seconds[MAX_PASSES];
    char *data;

    if (n_threads < 1 || n_threads > MAX_THREADS || passes < 1 || passes > MAX_PASSES ||
        size == 0) {
        fprintf(stderr, "usage: bandwidth [THREADS [MIB [PASSES [FILE]]]]\n");
        return 2;
    }
    data = argc > 4 ? map_file(argv[4], &size) : map_memory(size);
    if (data == MAP_FAILED) {
        fprintf(stderr, "bandwidth: can't map %s: %s\n", argc > 4 ? argv[4] : "memory",
                strerror(errno));
        return 1;
    }
    part = size / (size_t)n_threads / STEP * STEP;
    measure(data, part, n_threads, passes, seconds);
    size = part * (size_t)n_threads;
    printf("{\"best\": %.0f, \"median\": %.0f, \"bytes\": %zu, \"threads\": %d}\n",
           (double)size / seconds[0], (double)size / seconds[passes / 2], size, n_threads);
    return 0;
}
