/* check_routes.c - finding a row for a method and a path; the daemon's own table. */
#include "suite.h"

#include "http/routes.h"
#include "http/url.h"

static void nothing(struct http_request *req)
{
    (void)req;
}

static const struct route rows[] = {
    {.method = "GET", .path = "/", .handler = nothing},
    {.method = "GET", .path = "/v1/things", .handler = nothing},
    {.method = "POST", .path = "/v1/things", .handler = nothing},
    {.method = "GET", .path = "/v1/things/{id}", .handler = nothing},
    {.method = "PUT", .path = "/v1/things/{sha}", .handler = nothing},
    {.method = "DELETE", .path = "/v1/things/all", .handler = nothing},
    {.method = "GET", .path = "/v1/things/{id}/parts/{part}", .handler = nothing},
    {.method = "GET", .path = "/v1/{kind}/all/parts/{part}", .handler = nothing},
};
static const struct route_table table = {rows, ARRAY_LEN(rows)};

static const struct route *route;
static const char *found[HTTP_MAX_PARAMS];
static char allow[ROUTE_ALLOW_SIZE];
static char room[8192];

static enum route_match find(const char *method, const char *path)
{
    route = NULL;
    return routes_find(&table, method, path, room, &route, found, allow);
}

/* ---- core ---- */

START_TEST(test_routes_are_found_by_method_and_path)
{
    ck_assert_int_eq(find("GET", "/v1/things"), ROUTE_FOUND);
    ck_assert_ptr_eq(route, &rows[1]);
    ck_assert_int_eq(find("POST", "/v1/things"), ROUTE_FOUND);
    ck_assert_ptr_eq(route, &rows[2]);
    ck_assert_int_eq(find("HEAD", "/v1/things"), ROUTE_FOUND);
    ck_assert_ptr_eq(route, &rows[1]);
    ck_assert_int_eq(find("get", "/v1/things"), ROUTE_NO_METHOD);
}
END_TEST

START_TEST(test_routes_params_are_decoded_in_order)
{
    ck_assert_int_eq(find("GET", "/v1/things/a%2Fb%20%c3%a4/parts/+"), ROUTE_FOUND);
    ck_assert_ptr_eq(route, &rows[6]);
    ck_assert_str_eq(found[0], "a/b \xc3\xa4");
    ck_assert_str_eq(found[1], "+");
    ck_assert_ptr_null(found[2]);
    ck_assert_int_eq(find("PUT", "/v1/things/x"), ROUTE_FOUND);
    ck_assert_ptr_eq(route, &rows[4]);
    ck_assert_str_eq(found[0], "x");
}
END_TEST

/* The earliest literal wins, whatever its methods. */
START_TEST(test_routes_literals_win)
{
    ck_assert_int_eq(find("DELETE", "/v1/things/all"), ROUTE_FOUND);
    ck_assert_ptr_eq(route, &rows[5]);
    ck_assert_int_eq(find("GET", "/v1/things/all"), ROUTE_NO_METHOD);
    ck_assert_str_eq(allow, "DELETE");
    ck_assert_int_eq(find("GET", "/v1/things/al%6c"), ROUTE_FOUND);
    ck_assert_str_eq(found[0], "all");
    ck_assert_int_eq(find("GET", "/v1/things/all/parts/1"), ROUTE_FOUND);
    ck_assert_ptr_eq(route, &rows[6]);
    ck_assert_int_eq(find("GET", "/v1/others/all/parts/1"), ROUTE_FOUND);
    ck_assert_ptr_eq(route, &rows[7]);
    ck_assert_str_eq(found[0], "others");
    ck_assert_str_eq(found[1], "1");
}
END_TEST

START_TEST(test_routes_say_what_is_allowed)
{
    ck_assert_int_eq(find("PATCH", "/v1/things"), ROUTE_NO_METHOD);
    ck_assert_str_eq(allow, "GET, HEAD, POST");
    ck_assert_int_eq(find("DELETE", "/v1/things/x"), ROUTE_NO_METHOD);
    ck_assert_str_eq(allow, "GET, HEAD, PUT");
    ck_assert_int_eq(find("HEAD", "/v1/things/all"), ROUTE_NO_METHOD);
    ck_assert_str_eq(allow, "DELETE");
}
END_TEST

/* ---- errors ---- */

static const char *const nowhere[] = {
    "/v1",         "/v1/",         "/v1/things/",           "//v1/things",
    "/v1//things", "/V1/things",   "/v1/things/x/parts",    "/v1/things/x/parts/",
    "/v2/things",  "/v1%2Fthings", "/v1/things//parts/x",   "/v1/thing",
    "/v1/thingss", "/v1/...",      "/v1/{kind}",
};
static const char *const bad[] = {
    "",           "v1/things",   "*",           "/v1/%00",     "/v1/things/a%00b",
    "/v1/./x",    "/v1/../x",    "/.",          "/..",         "/v1/%2e",
    "/v1/.%2E",   "/%",          "/%4",         "/%4g",
    "/%g4",       "/\xff",       "/%ff",        "/%c3",        "/%ed%a0%80",
    "/%c0%af",    "/a\x01",      "/a\x7f",      "/a b",        "/things/%2e%2e/x",
    "/%f5%80%80%80",
};

START_TEST(test_routes_other_paths_are_nowhere)
{
    ck_assert_msg(find("GET", nowhere[_i]) == ROUTE_NO_PATH, "%s", nowhere[_i]);
}
END_TEST

START_TEST(test_routes_bad_paths_are_told)
{
    ck_assert_msg(find("GET", bad[_i]) == ROUTE_BAD_PATH, "%s", bad[_i]);
}
END_TEST

START_TEST(test_routes_long_paths_are_nowhere)
{
    char path[4000];
    size_t n = 0;

    for (int i = 0; i < 900; i++)
        n += (size_t)snprintf(path + n, sizeof(path) - n, "/v%d", i % 10);
    ck_assert_int_eq(find("GET", path), ROUTE_NO_PATH);
    memset(path, 'a', sizeof(path) - 1);
    memcpy(path, "/v1/things/", 11);
    path[sizeof(path) - 1] = '\0';
    ck_assert_int_eq(find("GET", path), ROUTE_FOUND);
    ck_assert_uint_eq(strlen(found[0]), sizeof(path) - 12);
}
END_TEST

/* ---- the daemon's table ---- */

/* The template with a value in place of each {name}. */
static void fill(const char *template, char *path)
{
    for (; *template; template++) {
        if (*template == '{') {
            path += sprintf(path, "%s", "x%2F1");
            template = strchr(template, '}');
        } else {
            *path++ = *template;
        }
    }
    *path = '\0';
}

START_TEST(test_routes_each_row_is_found)
{
    const struct route_table *ours = routes_table();

    ck_assert_uint_gt(ours->n, 30);
    for (size_t i = 0; i < ours->n; i++) {
        const struct route *row = &ours->rows[i];
        size_t n_params = 0;
        char path[400];

        fill(row->path, path);
        ck_assert_msg(routes_find(ours, row->method, path, room, &route, found, allow) ==
                              ROUTE_FOUND &&
                          route == row,
                      "%s %s", row->method, row->path);
        for (const char *s = row->path; (s = strchr(s, '{')) != NULL; s++)
            ck_assert_str_eq(found[n_params++], "x/1");
        /* Its path has all methods in Allow, which must not be cut. */
        ck_assert_int_eq(
            routes_find(ours, "BREW", path, room, &route, found, allow), ROUTE_NO_METHOD);
        ck_assert_ptr_nonnull(strstr(allow, row->method));
        ck_assert_uint_lt(strlen(allow), sizeof(allow) - 8);
    }
}
END_TEST

/* What intake.c and openapi.c take for granted. */
START_TEST(test_routes_rows_are_whole)
{
    const struct route_table *ours = routes_table();

    for (size_t i = 0; i < ours->n; i++) {
        const struct route *r = &ours->rows[i];
        bool has_json = r->body == HTTP_BODY_JSON;

        ck_assert_msg(r->handler && r->summary && r->statuses, "%s", r->path);
        ck_assert_msg(r->statuses[0] == '2', "%s: 2xx first", r->path);
        ck_assert_msg(has_json == (r->takes != NULL), "%s: takes", r->path);
        ck_assert_msg((r->body == HTTP_BODY_STREAM) == (r->receive != NULL), "%s",
                      r->path);
        ck_assert_msg(!(streq(r->method, "GET") && r->body), "%s: GET with a body",
                      r->path);
        /* One that names no scope is open to nobody. */
        ck_assert_msg(r->scope == SCOPE_READ || r->scope == SCOPE_STEP ||
                          r->scope == SCOPE_EXPORT || r->scope == SCOPE_ADMIN ||
                          r->scope == SCOPE_OPEN,
                      "%s %s: scope", r->method, r->path);
        ck_assert_msg(!streq(r->method, "GET") || r->scope == SCOPE_READ ||
                          r->scope == SCOPE_OPEN,
                      "%s: who may read may GET", r->path);
        /* Only a reply in JSON has a schema. */
        ck_assert_msg(!r->gives || !r->produces || strstr(r->produces, "json"), "%s",
                      r->path);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("routes");
    TCase *core = tcase_create("core"), *errors = tcase_create("errors"),
          *ours = tcase_create("table");

    tcase_add_test(core, test_routes_are_found_by_method_and_path);
    tcase_add_test(core, test_routes_params_are_decoded_in_order);
    tcase_add_test(core, test_routes_literals_win);
    tcase_add_test(core, test_routes_say_what_is_allowed);
    suite_add_tcase(suite, core);
    tcase_add_loop_test(errors, test_routes_other_paths_are_nowhere, 0,
                        (int)ARRAY_LEN(nowhere));
    tcase_add_loop_test(errors, test_routes_bad_paths_are_told, 0, (int)ARRAY_LEN(bad));
    tcase_add_test(errors, test_routes_long_paths_are_nowhere);
    suite_add_tcase(suite, errors);
    tcase_add_test(ours, test_routes_each_row_is_found);
    tcase_add_test(ours, test_routes_rows_are_whole);
    suite_add_tcase(suite, ours);
    return suite_run(suite);
}
