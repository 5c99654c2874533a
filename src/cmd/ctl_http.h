/* ctl_http.h - requests to the daemon, and to where it is said, by libcurl.
 *
 * One connection, kept between requests.  An answer other than 2xx is a failure whose
 * text is the problem's detail (and the pointers of its errors). */
#ifndef CMD_CTL_HTTP_H
#define CMD_CTL_HTTP_H

#include "base/buf.h"
#include "cmd/ctl.h"

struct ctl_request {
    const char *method; /* "GET" */
    const char *path;   /* encoded, with its query: "/v1/models?limit=10" */
    /* Or somewhere else than the daemon, "https://host/path": the daemon's token is not
     * sent, nothing is followed, and any answer is as good as 2xx. */
    const char *url;
    json_t *json;       /* body, borrowed; NULL: none */
    FILE *file;         /* or a body of file_bytes bytes from here */
    uint64_t file_bytes;
    const char *content_type; /* of file; NULL: application/octet-stream */
    const char *accept;       /* NULL: application/json */
    const char *headers[3];   /* more header lines */
    long timeout_s;           /* without a byte moving; 0: 120 */
    /* Where set, the bytes of a 2xx answer go here as they come; false stops. */
    bool (*on_data)(void *ctx, long status, const char *data, size_t len);
    /* Where set, called now and then while bytes go up. */
    void (*on_sent)(void *ctx, uint64_t done, uint64_t total);
    void *ctx;
};

struct ctl_reply {
    long status;
    struct buf body; /* unless on_data took it */
    bool is_cut;     /* the connection broke after the answer had begun */
    char etag[160];
    char content_type[96];
    char content_range[96];
    char location[4096];   /* of storages, with a signature of a kilobyte */
    char error_code[64];   /* X-Error-Code, a hub's */
    char retry_after[32];
};

/* The daemon's address as it was given, or the default. */
const char *ctl_server(const struct ctl *ctl);

/* Do it.  0 where the answer is 2xx; *ret_reply is always to be released by
 * ctl_reply_done. */
MUST_USE int ctl_http(struct ctl *ctl, const struct ctl_request *request,
                      struct ctl_reply *ret_reply);
void ctl_reply_done(struct ctl_reply *reply);
#define AUTO_REPLY __attribute__((cleanup(ctl_reply_done))) struct ctl_reply

/* The same for JSON in, JSON out.  body is taken (may be NULL); *ret_json is new, and may
 * be NULL for an answer with no body; ret_json may be NULL. */
MUST_USE int ctl_json(struct ctl *ctl, const char *method, const char *path, json_t *body,
                      json_t **ret_json);
/* A list with all its pages: the data of path as one array, new. */
MUST_USE int ctl_list(struct ctl *ctl, const char *path, json_t **ret_data);

/* A path with each %s percent-encoded, new; "" for NULL. */
char *ctl_path(const char *fmt, ...);

/* Release the connection and the library. */
void ctl_http_done(struct ctl *ctl);

#endif
