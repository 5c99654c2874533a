#include "http/endpoints.h"
#include "http/exchange.h"
#include "http/reply.h"
#include "http/server.h"

#include "base/metrics.h"

#include <dirent.h>
#include <microhttpd.h>
#include <sys/resource.h>

/* GET /healthz: alive, whatever the state. */
void healthz_get(struct http_request *req)
{
    http_reply_json(req, 200, json_pack("{s:s}", "status", "ok"));
}

/* GET /readyz: will requests be served? */
void readyz_get(struct http_request *req)
{
    switch (http_server_state(exchange_of(req)->server)) {
    case HTTP_STARTING:
        http_reply_problem(req, PT2_ERR_STARTING, "the daemon is starting");
        break;
    case HTTP_DRAINING:
        http_reply_problem(req, PT2_ERR_DRAINING, "the daemon is stopping");
        break;
    case HTTP_READY:
        http_reply_json(req, 200, json_pack("{s:s}", "status", "ready"));
        break;
    }
}

void version_get(struct http_request *req)
{
    http_reply_json(req, 200,
                    json_pack("{s:s, s:s, s:s, s:{s:s, s:s}}", "name", PACKAGE_NAME,
                              "version", PACKAGE_VERSION, "api", "v1", "libraries",
                              "jansson", jansson_version_str(), "libmicrohttpd",
                              MHD_get_version()));
}

/* ---- GET /metrics ---- */

static double count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    double n = -3; /* ".", ".." and the directory's own */

    if (!dir)
        return 0;
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static double resident_bytes(void)
{
    AUTO_FILE FILE *file = fopen("/proc/self/statm", "re");
    unsigned long long total, resident;

    if (!file || fscanf(file, "%llu %llu", &total, &resident) != 2)
        return 0;
    return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

static void measure_process(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    metrics_set(METRIC_PROCESS_CPU,
                (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                    (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6,
                NULL);
    metrics_set(METRIC_PROCESS_MEMORY, resident_bytes(), NULL);
    metrics_set(METRIC_PROCESS_FDS, count_fds(), NULL);
}

void metrics_get_text(struct http_request *req)
{
    AUTO_BUF text = BUF_INIT(16 << 20);
    size_t len;

    measure_process();
    metrics_set(METRIC_BUILD_INFO, 1, METRICS_LABELS(PACKAGE_VERSION));
    metrics_print(&text);
    if (buf_failed(&text)) {
        http_reply_problem(req, PT2_ERR_NOMEM, "no memory for the metrics");
        return;
    }
    len = text.len;
    http_reply_bytes(req, 200, "text/plain; version=0.0.4; charset=utf-8",
                     buf_take(&text), len);
}
