#include "http/endpoints.h"
#include "http/measure.h"
#include "http/reply.h"

#include "base/metrics.h"

/* GET /metrics: on the HTTP thread, so that it is answered where the pool is full. */
void metrics_get_text(struct http_request *req)
{
    AUTO_BUF text = BUF_INIT(16 << 20);
    size_t len;

    measure_process();
    measure_parts(req->app);
    metrics_print(&text);
    if (buf_failed(&text)) {
        http_reply_problem(req, PT2_ERR_NOMEM, "no memory for the metrics");
        return;
    }
    len = text.len;
    http_reply_bytes(req, 200, "text/plain; version=0.0.4; charset=utf-8",
                     buf_take(&text), len);
}
