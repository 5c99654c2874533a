#include "http/pool.h"

#include "base/metrics.h"

#include <errno.h>
#include <pthread.h>
#include <sys/resource.h>

struct job {
    struct job *next;
    pool_fn *fn;
    void *arg;
};

struct pool {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct job *first, **last;
    struct pool_options options;
    size_t n_queued;
    bool is_stopping;
    pthread_t *threads;
    unsigned n_threads;
};

static struct job *next_locked(struct pool *pool)
{
    struct job *job = pool->first;

    if (!job)
        return NULL;
    pool->first = job->next;
    if (!pool->first)
        pool->last = &pool->first;
    pool->n_queued--;
    metrics_add(METRIC_HTTP_POOL_QUEUE, -1, NULL);
    return job;
}

static void *work(void *arg)
{
    struct pool *pool = arg;

    pthread_setname_np(pthread_self(), pool->options.name);
    if (pool->options.nice) /* on Linux a thread's own; one that can't be nice works too */
        (void)!setpriority(PRIO_PROCESS, 0,
                           getpriority(PRIO_PROCESS, 0) + pool->options.nice);
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        struct job *job = next_locked(pool);
        bool is_stopping = pool->is_stopping;

        if (!job && is_stopping)
            break;
        if (!job) {
            pthread_cond_wait(&pool->wake, &pool->lock);
            continue;
        }
        pthread_mutex_unlock(&pool->lock);
        job->fn(job->arg, is_stopping);
        free(job);
        pthread_mutex_lock(&pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

int pool_new(const struct pool_options *options, struct pool **ret_pool,
             struct pt2_err *err)
{
    struct pool *pool = calloc(1, sizeof(*pool));

    if (!pool)
        return pt2_err_set(err, PT2_ERR_NOMEM, "thread pool");
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pool->last = &pool->first;
    pool->options = *options;
    pool->threads = calloc(options->n_threads, sizeof(*pool->threads));
    if (!pool->threads) {
        pool_free(pool);
        return pt2_err_set(err, PT2_ERR_NOMEM, "thread pool");
    }
    while (pool->n_threads < options->n_threads) {
        errno = pthread_create(&pool->threads[pool->n_threads], NULL, work, pool);
        if (errno) {
            pt2_err_errno(err, PT2_ERR_IO, "thread pool");
            pool_free(pool);
            return -1;
        }
        pool->n_threads++;
    }
    *ret_pool = pool;
    return 0;
}

void pool_stop(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->is_stopping = true;
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->n_threads; i++)
        pthread_join(pool->threads[i], NULL);
    pool->n_threads = 0;
}

void pool_free(struct pool *pool)
{
    if (!pool)
        return;
    pool_stop(pool);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    free(pool->threads);
    free(pool);
}

int pool_push(struct pool *pool, pool_fn *fn, void *arg, bool must_fit,
              struct pt2_err *err)
{
    struct job *job = malloc(sizeof(*job));
    int r = 0;

    if (!job)
        return pt2_err_set(err, PT2_ERR_NOMEM, "request queue");
    *job = (struct job){.fn = fn, .arg = arg};
    pthread_mutex_lock(&pool->lock);
    if (pool->is_stopping) {
        r = pt2_err_set(err, PT2_ERR_DRAINING, "the daemon is stopping");
    } else if (!must_fit && pool->n_queued >= pool->options.max_queue) {
        r = pt2_err_set(err, PT2_ERR_QUEUE_FULL, "%zu of %zu requests wait already",
                        pool->n_queued, pool->options.max_queue);
        metrics_add(METRIC_HTTP_POOL_REFUSED, 1, NULL);
    } else {
        *pool->last = job;
        pool->last = &job->next;
        pool->n_queued++;
        metrics_add(METRIC_HTTP_POOL_QUEUE, 1, NULL);
        pthread_cond_signal(&pool->wake);
    }
    pthread_mutex_unlock(&pool->lock);
    if (r < 0)
        free(job);
    return r;
}
