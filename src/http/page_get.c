/* GET /, /page.js, /style.css: the page for people, as it lies in src/http/page. */
#include "http/endpoints.h"
#include "http/reply.h"
#include "http/routes.h"

#include "base/log.h"

/* page.inc is made by make. */
static const struct {
    const char *name, *text;
} files[] = {
#include "http/page.inc"
};

static const struct {
    const char *path, *file, *type;
} served[] = {
    {"/", "src/http/page/index.html", "text/html; charset=utf-8"},
    {"/page.js", "src/http/page/page.js", "text/javascript; charset=utf-8"},
    {"/style.css", "src/http/page/style.css", "text/css; charset=utf-8"},
};

static const char *text_of(const char *file)
{
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        if (streq(files[i].name, file))
            return files[i].text;
    return NULL;
}

/* No token: there is nothing of the daemon's in it. */
void page_get(struct http_request *req)
{
    size_t i = 0;

    while (i < ARRAY_LEN(served) && !streq(served[i].path, req->route->path))
        i++;
    ASSERT(i < ARRAY_LEN(served) && text_of(served[i].file));
    /* Nothing but these files and this daemon's API, and in nobody's frame. */
    http_reply_header(req, "Content-Security-Policy",
                      "default-src 'none'; script-src 'self'; style-src 'self'; "
                      "connect-src 'self'; base-uri 'none'; form-action 'none'; "
                      "frame-ancestors 'none'");
    http_reply_header(req, "X-Content-Type-Options", "nosniff");
    http_reply_header(req, "Referrer-Policy", "no-referrer");
    http_reply_header(req, "Cache-Control", "no-cache");
    http_reply_text(req, 200, served[i].type, text_of(served[i].file));
}
