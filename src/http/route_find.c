#include "http/routes.h"
#include "http/url.h"

/* How well a template fits a path, segment by segment. */
struct fit {
    bool fits;
    uint32_t literals; /* a bit for each segment that is literal, the first one highest */
};

static struct fit fit_path(const char *template, const char *path)
{
    struct fit fit = {0};
    uint32_t bit = UINT32_C(1) << 31;

    while (*template == '/' && *path == '/') {
        size_t n = strcspn(++template, "/"), m = strcspn(++path, "/");

        if (m == 0 && n != 0) /* empty segments are none, but for the root's */
            return fit;
        if (*template != '{') {
            if (n != m || memcmp(template, path, n) != 0)
                return fit;
            fit.literals |= bit;
        }
        bit >>= 1;
        template += n;
        path += m;
    }
    fit.fits = !*template && !*path;
    return fit;
}

/* Is every segment good, whatever the routes are? */
static bool path_is_good(const char *path, char *buf)
{
    const char *why;

    while (*path == '/') {
        size_t n = strcspn(++path, "/");

        if (!url_decode(path, n, false, buf, &why) || streq(buf, ".") || streq(buf, ".."))
            return false;
        path += n;
    }
    return *path == '\0';
}

static void take_params(const char *template, const char *path, char *buf,
                        const char *ret_params[HTTP_MAX_PARAMS])
{
    const char *why;
    size_t n_params = 0;

    while (*template == '/') {
        size_t n = strcspn(++template, "/"), m = strcspn(++path, "/");

        if (*template == '{' && n_params < HTTP_MAX_PARAMS &&
            url_decode(path, m, false, buf, &why)) {
            ret_params[n_params++] = buf;
            buf += strlen(buf) + 1;
        }
        template += n;
        path += m;
    }
    while (n_params < HTTP_MAX_PARAMS)
        ret_params[n_params++] = NULL;
}

static void add_allowed(char allow[ROUTE_ALLOW_SIZE], const char *method)
{
    size_t n = strlen(allow);

    snprintf(allow + n, ROUTE_ALLOW_SIZE - n, "%s%s", n ? ", " : "", method);
    if (streq(method, "GET"))
        add_allowed(allow, "HEAD");
}

enum route_match routes_find(const struct route_table *table, const char *method,
                             const char *path, char *buf, const struct route **ret_route,
                             const char *ret_params[HTTP_MAX_PARAMS],
                             char ret_allow[ROUTE_ALLOW_SIZE])
{
    const char *wanted = streq(method, "HEAD") ? "GET" : method;
    const struct route *found = NULL;
    uint32_t best = 0;
    bool any = false;

    ret_allow[0] = '\0';
    if (*path != '/' || !path_is_good(path, buf))
        return ROUTE_BAD_PATH;
    /* The template with the earliest literals wins, whatever its methods. */
    for (size_t i = 0; i < table->n; i++) {
        struct fit fit = fit_path(table->rows[i].path, path);

        if (fit.fits && (!any || fit.literals > best))
            best = fit.literals;
        any |= fit.fits;
    }
    for (size_t i = 0; any && i < table->n; i++) {
        struct fit fit = fit_path(table->rows[i].path, path);

        if (!fit.fits || fit.literals != best)
            continue;
        add_allowed(ret_allow, table->rows[i].method);
        if (streq(table->rows[i].method, wanted))
            found = &table->rows[i];
    }
    if (!found)
        return any ? ROUTE_NO_METHOD : ROUTE_NO_PATH;
    take_params(found->path, path, buf, ret_params);
    *ret_route = found;
    return ROUTE_FOUND;
}
