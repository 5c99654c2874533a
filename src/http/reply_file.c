/* reply_file.c - a file as the answer, by sendfile where there is no TLS. */
#include "http/conditions.h"
#include "http/exchange.h"
#include "http/link.h"

#include "base/sha256.h"

#include <nettle/base64.h>

/* ---- headers ---- */

static void add_disposition(struct http_request *req, const char *filename)
{
    AUTO_BUF encoded = BUF_INIT(4096);
    bool is_plain = true;

    for (const char *s = filename; *s; s++) {
        unsigned char c = (unsigned char)*s;

        if (strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-",
                   c)) {
            buf_add(&encoded, s, 1);
        } else {
            buf_printf(&encoded, "%%%02X", c);
            is_plain = false;
        }
    }
    if (buf_failed(&encoded) || !encoded.data)
        return;
    if (is_plain)
        http_reply_header(req, "Content-Disposition", "attachment; filename=\"%s\"",
                          filename);
    else /* RFC 8187 */
        http_reply_header(req, "Content-Disposition", "attachment; filename*=UTF-8''%s",
                          encoded.data);
}

static void add_file_headers(struct http_request *req, const struct http_file *file)
{
    char digest[BASE64_ENCODE_RAW_LENGTH(SHA256_BYTES) + 1] = "";

    if (file->etag)
        http_reply_header(req, "ETag", "\"%s\"", file->etag);
    http_reply_header(req, "Accept-Ranges", "bytes");
    if (file->filename)
        add_disposition(req, file->filename);
    if (file->sha256) {
        /* Of the whole representation, also with a range (RFC 9530). */
        base64_encode_raw(digest, SHA256_BYTES, file->sha256);
        http_reply_header(req, "Repr-Digest", "sha-256=:%s:", digest);
    }
}

/* ---- the reply ---- */

/* Takes fd. */
static void reply_part(struct http_request *req, unsigned status,
                       const struct http_file *file, uint64_t first, uint64_t len)
{
    struct http_exchange *x = exchange_of(req);
    struct MHD_Response *response;

    if (len == 0) {
        close(file->fd);
        http_reply_bytes(req, status, file->content_type, NULL, 0);
        return;
    }
    if (x->is_tls || pace_is_needed(x)) {
        /* Over TLS libmicrohttpd 0.9.75 would read 4 KiB at a time, each a record of its own. */
        response = pace_response_of_file(x, file->fd, first, len);
    } else {
        response = MHD_create_response_from_fd_at_offset64(len, file->fd, first);
        if (!response)
            close(file->fd);
    }
    if (response && !response_add_headers(x, response, file->content_type)) {
        MHD_destroy_response(response);
        response = NULL;
    }
    exchange_reply(x, status, response, NULL);
}

void http_reply_file(struct http_request *req, const struct http_file *file)
{
    const char *match = http_header(req, "If-Match");
    const char *none_match = http_header(req, "If-None-Match");
    const char *range = http_header(req, "Range");
    uint64_t first = 0, last = 0;
    enum range kind = RANGE_NONE;

    if (match && !etag_matches(match, file->etag)) {
        close(file->fd);
        http_reply_problem(req, PT2_ERR_PRECONDITION,
                           "the file's tag is \"%s\", If-Match: %.200s leaves it out",
                           file->etag ? file->etag : "", match);
        return;
    }
    if (none_match && file->etag && etag_is_listed(none_match, file->etag)) {
        /* With the length of what a 200 would have (RFC 9110, section 8.6). */
        http_reply_header(req, "ETag", "\"%s\"", file->etag);
        reply_part(req, 304, file, 0, file->bytes);
        return;
    }
    /* Range is defined for GET alone. */
    if (range && !req->is_head && if_range_holds(http_header(req, "If-Range"), file->etag))
        kind = range_parse(range, file->bytes, &first, &last);
    if (kind == RANGE_BAD) {
        close(file->fd);
        http_reply_header(req, "Content-Range", "bytes */%llu",
                          (unsigned long long)file->bytes);
        http_reply_problem(req, PT2_ERR_RANGE, "the file has %llu bytes, not '%s'",
                           (unsigned long long)file->bytes, range);
        return;
    }
    add_file_headers(req, file);
    if (kind == RANGE_GOOD) {
        http_reply_header(req, "Content-Range", "bytes %llu-%llu/%llu",
                          (unsigned long long)first, (unsigned long long)last,
                          (unsigned long long)file->bytes);
        reply_part(req, 206, file, first, last - first + 1);
    } else {
        reply_part(req, 200, file, 0, file->bytes);
    }
}
