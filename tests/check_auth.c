/* check_auth.c - the token file and its lines, who fits them, rates; the guard. */
#include "suite.h"

#include "http/auth.h"
#include "http/certificate.h"
#include "http/guard.h"
#include "http/token_file.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* printf %s one | sha256sum; of "two" likewise */
#define ONE "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
#define TWO "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3"

static char path[64];
static struct pt2_err err;

static void setup(void)
{
    int fd;

    strcpy(path, "/tmp/check_auth-XXXXXX");
    fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    close(fd);
    pt2_err_clear(&err);
}

static void teardown(void)
{
    unlink(path);
}

static void write_file(const char *text)
{
    FILE *file = fopen(path, "w");

    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    ck_assert_int_eq(fclose(file), 0);
}

static struct auth *load(const char *text)
{
    struct auth *auth = NULL;

    write_file(text);
    ck_assert_msg(auth_new(path, &auth, &err) == 0, "%s", err.text);
    return auth;
}

/* ---- lines ---- */

static int parse(const char *text, struct token *ret, bool *ret_is_token)
{
    char line[1024];

    pt2_err_clear(&err);
    snprintf(line, sizeof(line), "%s", text);
    return token_line_parse(line, ret, ret_is_token, &err);
}

START_TEST(test_token_line_says_who_may_do_what)
{
    struct token t;
    bool is_token;

    ck_assert_int_eq(parse(" ci\tsha256:" ONE " scopes=export,read sessions=3 exports=2 "
                           "rate=30/min # the farm\n",
                           &t, &is_token),
                     0);
    ck_assert(is_token);
    ck_assert_str_eq(t.name, "ci");
    ck_assert_int_eq(t.proof, TOKEN_SECRET);
    ck_assert_int_eq(t.digest[0], 0x76);
    ck_assert_int_eq(t.digest[31], 0xed);
    ck_assert_uint_eq(t.scopes, SCOPE_READ | SCOPE_EXPORT);
    ck_assert_uint_eq(t.max_sessions, 3);
    ck_assert_uint_eq(t.max_exports, 2);
    ck_assert_uint_eq(t.rate, 30);
    ck_assert_int_eq(t.rate_ms, 60000);

    ck_assert_int_eq(parse("edge uid:1000 scopes=step rate=5/s", &t, &is_token), 0);
    ck_assert_int_eq(t.proof, TOKEN_UID);
    ck_assert_uint_eq(t.id, 1000);
    ck_assert_uint_eq(t.max_sessions, 0);
    ck_assert_int_eq(t.rate_ms, 1000);
    ck_assert_int_eq(parse("ops gid:0 scopes=admin", &t, &is_token), 0);
    ck_assert_int_eq(t.proof, TOKEN_GID);
    ck_assert_uint_eq(t.scopes, SCOPE_ALL);
}
END_TEST

START_TEST(test_token_line_names_a_certificate)
{
    static const char *const same[] = {
        ONE, "7692C3AD3540BB803C020B3AEE66CD8887123234EA0C6E7143C0ADD73FF431ED",
        "76:92:C3:AD:35:40:BB:80:3C:02:0B:3A:EE:66:CD:88:87:12:32:34:EA:0C:6E:71:43:C0:"
        "AD:D7:3F:F4:31:ED"};
    struct token t, name;
    bool is_token;
    char line[200];

    for (size_t i = 0; i < ARRAY_LEN(same); i++) {
        snprintf(line, sizeof(line), "ci cert:sha256:%s scopes=read", same[i]);
        ck_assert_msg(parse(line, &t, &is_token) == 0, "%s", err.text);
        ck_assert_int_eq(t.proof, TOKEN_CERT);
        ck_assert_int_eq(t.digest[0], 0x76);
        ck_assert_int_eq(t.digest[31], 0xed);
    }
    ck_assert_int_eq(parse("ci cert:Edge.example scopes=read", &t, &is_token), 0);
    ck_assert_int_eq(t.proof, TOKEN_CERT_NAME);
    ck_assert_str_eq(t.cert_name, "Edge.example");
    ck_assert_int_eq(parse("ci cert:edge.example scopes=step", &name, &is_token), 0);
    ck_assert(token_is_same_proof(&t, &name));
    ck_assert_int_eq(parse("ci cert:other.example scopes=step", &name, &is_token), 0);
    ck_assert(!token_is_same_proof(&t, &name));
}
END_TEST

START_TEST(test_token_line_may_be_empty)
{
    static const char *const lines[] = {"", "\n", "   \t", "# NAME", "  # x uid:1\r\n"};
    struct token t;
    bool is_token = true;

    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        ck_assert_int_eq(parse(lines[i], &t, &is_token), 0);
        ck_assert(!is_token);
    }
}
END_TEST

static const struct {
    const char *line, *says;
} bad_lines[] = {
    {"ci 0123456789abcdef", "sha256:HEX"}, /* in the clear */
    {"ci", "sha256:HEX"},
    {"ci sha256: scopes=read", "64 lower-case"},
    {"ci sha256:" ONE "0 scopes=read", "64 lower-case"},
    {"ci sha256:"
     "ABCDc3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed scopes=read",
     "64 lower-case"},
    {"ci sha1:" ONE " scopes=read", "sha256:HEX"},
    {"ci uid: scopes=read", "uid:NUMBER"},
    {"ci uid:root scopes=read", "uid:NUMBER"},
    {"ci uid:-1 scopes=read", "uid:NUMBER"},
    {"ci uid:4294967295 scopes=read", "uid:NUMBER"},
    {"ci gid:1x scopes=read", "gid:NUMBER"},
    {"ci cert: scopes=read", "cert: of 'ci'"},
    {"ci cert:a/b scopes=read", "cert: of 'ci'"},
    {"ci cert:sha256: scopes=read", "64 hexadecimal"},
    {"ci cert:sha256:" ONE "0 scopes=read", "64 hexadecimal"},
    {"ci cert:sha256:76:92 scopes=read", "64 hexadecimal"},
    {"ci cert:sha256::76:92:C3:AD:35:40:BB:80:3C:02:0B:3A:EE:66:CD:88:87:12:32:34:EA:0C:6E:"
     "71:43:C0:AD:D7:3F:F4:31:E scopes=read",
     "64 hexadecimal"},
    {"c/i uid:1 scopes=read", "a name is"},
    {"ci uid:1", "no scopes="},
    {"ci uid:1 scopes=read upload=", "bytes a second"},
    {"ci uid:1 scopes=read upload=0", "bytes a second"},
    {"ci uid:1 scopes=read upload=M", "bytes a second"},
    {"ci uid:1 scopes=read upload=2T", "bytes a second"},
    {"ci uid:1 scopes=read download=-1", "bytes a second"},
    {"ci uid:1 scopes=read download=1 upload=2K upload=3", "twice"},
    {"ci uid:1 scopes=", "scopes are"},
    {"ci uid:1 scopes=read,", "scopes are"},
    {"ci uid:1 scopes=,read", "scopes are"},
    {"ci uid:1 scopes=Read", "scopes are"},
    {"ci uid:1 scopes=read,write", "scopes are"},
    {"ci uid:1 scopes=open", "scopes are"},
    {"ci uid:1 scopes=read scopes=step", "twice"},
    {"ci uid:1 scopes=read sessions=1 sessions=2", "twice"},
    {"ci uid:1 scopes=read sessions=0", "sessions= takes"},
    {"ci uid:1 scopes=read sessions=1000001", "sessions= takes"},
    {"ci uid:1 scopes=read exports=many", "exports= takes"},
    {"ci uid:1 scopes=read rate=5", "rate= takes"},
    {"ci uid:1 scopes=read rate=5/h", "rate= takes"},
    {"ci uid:1 scopes=read rate=0/s", "rate= takes"},
    {"ci uid:1 scopes=read rate=1.5/s", "rate= takes"},
    {"ci uid:1 scopes=read colour=red", "no 'colour='"},
    {"ci uid:1 scopes=read more", "KEY=VALUE"},
    {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa uid:1 "
     "scopes=read",
     "a name is"},
};

START_TEST(test_token_line_is_refused_with_the_reason)
{
    struct token t;
    bool is_token;

    ck_assert_msg(parse(bad_lines[_i].line, &t, &is_token) < 0, "%s", bad_lines[_i].line);
    ck_assert_int_eq(err.code, PT2_ERR_INVALID);
    ck_assert_msg(strstr(err.text, bad_lines[_i].says), "%s: %s", bad_lines[_i].line,
                  err.text);
    ck_assert_ptr_null(strstr(err.text, "0123456789abcdef")); /* may be a secret */
}
END_TEST

/* ---- the file ---- */

static void file_fails(enum pt2_error code, const char *says)
{
    struct token *tokens = NULL;
    size_t n;

    pt2_err_clear(&err);
    ck_assert_int_eq(token_file_read(path, &tokens, &n, &err), -1);
    ck_assert_int_eq(err.code, code);
    ck_assert_msg(strstr(err.text, says), "%s", err.text);
    ck_assert_ptr_null(tokens);
}

START_TEST(test_token_file_names_the_line)
{
    write_file("# tokens\n\na uid:1 scopes=read\nb uid:2 scopes=rd\n");
    file_fails(PT2_ERR_INVALID, ":4: scopes are");
    write_file("a uid:1 scopes=read\nb uid:1 scopes=read\n");
    file_fails(PT2_ERR_INVALID, "'a' and 'b' have one uid");
    write_file("a sha256:" ONE " scopes=read\na sha256:" ONE " scopes=step\n");
    file_fails(PT2_ERR_INVALID, "'a' and 'a' have one token");
    write_file("a cert:x.example scopes=read\nb cert:X.example scopes=read\n");
    file_fails(PT2_ERR_INVALID, "'a' and 'b' have one certificate");
    write_file("a cert:sha256:" ONE " scopes=read\na sha256:" ONE " scopes=read\n"
               "c cert:sha256:" ONE " scopes=read\n");
    file_fails(PT2_ERR_INVALID, "'a' and 'c' have one certificate");
    write_file("# nobody\n");
    file_fails(PT2_ERR_INVALID, "no token in it");
}
END_TEST

START_TEST(test_token_file_long_lines_are_refused)
{
    char text[3000];

    memset(text, ' ', sizeof(text));
    snprintf(text + 2000, sizeof(text) - 2000, "a uid:1 scopes=read\n");
    write_file(text);
    file_fails(PT2_ERR_INVALID, "too long");
}
END_TEST

START_TEST(test_token_file_is_closed_to_others)
{
    static const struct {
        mode_t mode;
        bool is_good;
    } modes[] = {{0600, true},  {0400, true},  {0640, true},  {0440, true},
                 {0644, false}, {0604, false}, {0660, false}, {0602, false}};
    struct token *tokens;
    size_t n;

    write_file("a uid:1 scopes=read\n");
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        ck_assert_int_eq(chmod(path, modes[i].mode), 0);
        if (!modes[i].is_good) {
            file_fails(PT2_ERR_INVALID, "chmod 640");
            continue;
        }
        pt2_err_clear(&err);
        ck_assert_msg(token_file_read(path, &tokens, &n, &err) == 0, "%s", err.text);
        ck_assert_uint_eq(n, 1);
        free(tokens);
    }
}
END_TEST

START_TEST(test_token_file_is_a_file)
{
    unlink(path);
    file_fails(PT2_ERR_NOT_FOUND, path);
    ck_assert_int_eq(mkfifo(path, 0600), 0); /* and nobody waits for a writer */
    file_fails(PT2_ERR_INVALID, "regular file");
    unlink(path);
    strcpy(path, "/tmp");
    file_fails(PT2_ERR_INVALID, "regular file");
}
END_TEST

/* ---- who it is ---- */

static const char file[] = "one sha256:" ONE " scopes=read sessions=4 exports=5\n"
                           "two sha256:" TWO " scopes=step,export\n";

START_TEST(test_auth_finds_the_token)
{
    struct auth *auth = load(file);
    struct auth_caller c;

    ck_assert_int_eq(auth_check(auth, "Bearer one", -1, NULL, &c, &err), 0);
    ck_assert_str_eq(c.owner, "one");
    ck_assert_uint_eq(c.scopes, SCOPE_READ);
    ck_assert_uint_eq(c.max_sessions, 4);
    ck_assert_uint_eq(c.max_exports, 5);
    ck_assert_int_eq(auth_check(auth, "bearer   two", -1, NULL, &c, &err), 0);
    ck_assert_str_eq(c.owner, "two");
    ck_assert_uint_eq(c.scopes, SCOPE_STEP | SCOPE_EXPORT);
    auth_free(auth);
}
END_TEST

START_TEST(test_auth_refuses_all_else)
{
    static const char *const headers[] = {
        "Bearer three", "Bearer",      "Bearer ",            "one",
        "Basic one",    "Bearer one ", "Bearer sha256:" ONE, "Bearer " ONE,
        NULL};
    struct auth *auth = load(file);
    struct auth_caller c;

    for (size_t i = 0; i < ARRAY_LEN(headers); i++) {
        pt2_err_clear(&err);
        ck_assert_int_eq(auth_check(auth, headers[i], -1, NULL, &c, &err), -1);
        ck_assert_int_eq(err.code, PT2_ERR_UNAUTHORIZED);
        ck_assert_uint_eq(c.scopes, 0);
    }
    auth_free(auth);
}
END_TEST

START_TEST(test_auth_without_a_file_lets_everybody_in)
{
    struct auth_caller c;
    struct auth *auth;

    ck_assert_int_eq(auth_new("", &auth, &err), 0);
    ck_assert(!auth_is_needed(auth));
    ck_assert_int_eq(auth_check(auth, NULL, -1, NULL, &c, &err), 0);
    ck_assert_str_eq(c.owner, "");
    ck_assert_uint_eq(c.scopes, SCOPE_ALL);
    ck_assert_int_eq(auth_reload(auth, &err), 0);
    auth_free(auth);
}
END_TEST

START_TEST(test_auth_reload_keeps_the_old_where_the_new_is_bad)
{
    struct auth *auth = load(file);
    struct auth_caller c;

    write_file("one sha256:" ONE " scopes=rea\n");
    ck_assert_int_eq(auth_reload(auth, &err), -1);
    pt2_err_clear(&err);
    ck_assert_int_eq(auth_check(auth, "Bearer two", -1, NULL, &c, &err), 0);
    write_file("one sha256:" ONE " scopes=admin\n");
    ck_assert_int_eq(auth_reload(auth, &err), 0);
    ck_assert_int_eq(auth_check(auth, "Bearer one", -1, NULL, &c, &err), 0);
    ck_assert_uint_eq(c.scopes, SCOPE_ALL);
    ck_assert_int_eq(auth_check(auth, "Bearer two", -1, NULL, &c, &err), -1);
    auth_free(auth);
}
END_TEST

START_TEST(test_auth_rate_is_a_bucket_that_a_reload_leaves)
{
    struct auth *auth = load("one sha256:" ONE " scopes=read rate=3/min\n"
                             "two sha256:" TWO " scopes=read rate=20/s\n");
    struct auth_caller c;

    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(auth_check(auth, "Bearer one", -1, NULL, &c, &err), 0);
    for (int i = 0; i < 2; i++) {
        pt2_err_clear(&err);
        ck_assert_int_eq(auth_check(auth, "Bearer one", -1, NULL, &c, &err), -1);
        ck_assert_int_eq(err.code, PT2_ERR_RATE_LIMITED);
        ck_assert_ptr_nonnull(strstr(err.text, "3 requests a minute"));
        ck_assert_uint_ge(c.retry_s, 15); /* one in 20 s */
        ck_assert_uint_le(c.retry_s, 21);
        ck_assert_int_eq(auth_reload(auth, NULL), 0);
    }
    pt2_err_clear(&err); /* others' are others' */
    for (int i = 0; i < 20; i++)
        ck_assert_int_eq(auth_check(auth, "Bearer two", -1, NULL, &c, &err), 0);
    poll(NULL, 0, 120); /* two more in 0.1 s */
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(auth_check(auth, "Bearer two", -1, NULL, &c, &err), 0);
    auth_free(auth);
}
END_TEST

/* ---- peers of unix sockets ---- */

START_TEST(test_auth_knows_the_peer)
{
    char text[200];
    struct auth_caller c;
    struct auth *auth;
    int pair[2], tcp = socket(AF_INET, SOCK_STREAM, 0);

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    snprintf(text, sizeof(text),
             "other uid:%u scopes=admin\ngroup gid:%u scopes=read\n"
             "me uid:%u scopes=step\n",
             getuid() + 1, getgid(), getuid());
    auth = load(text);
    ck_assert_int_eq(auth_check(auth, NULL, pair[0], NULL, &c, &err), 0);
    ck_assert_str_eq(c.owner, "me"); /* before the group */
    ck_assert_uint_eq(c.scopes, SCOPE_STEP);
    /* a token that is sent has to be right */
    ck_assert_int_eq(auth_check(auth, "Bearer x", pair[0], NULL, &c, &err), -1);
    pt2_err_clear(&err);
    ck_assert_int_eq(auth_check(auth, NULL, tcp, NULL, &c, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_UNAUTHORIZED);

    snprintf(text, sizeof(text), "other uid:%u scopes=admin\ngroup gid:%u scopes=read\n",
             getuid() + 1, getgid());
    write_file(text);
    ck_assert_int_eq(auth_reload(auth, NULL), 0);
    pt2_err_clear(&err);
    ck_assert_int_eq(auth_check(auth, NULL, pair[0], NULL, &c, &err), 0);
    ck_assert_str_eq(c.owner, "group");

    snprintf(text, sizeof(text), "other uid:%u scopes=admin\n", getuid() + 1);
    write_file(text);
    ck_assert_int_eq(auth_reload(auth, NULL), 0);
    ck_assert_int_eq(auth_check(auth, NULL, pair[0], NULL, &c, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_UNAUTHORIZED);
    close(pair[0]);
    close(pair[1]);
    close(tcp);
    auth_free(auth);
}
END_TEST

/* ---- clients' certificates ---- */

START_TEST(test_auth_knows_the_certificate)
{
    struct certificate c = {
        .names = {(char *)"edge.example", (char *)"x.example"}, .n_names = 2};
    struct auth *auth = load("name cert:X.Example scopes=read\n"
                             "later cert:edge.example scopes=read\n"
                             "exact cert:sha256:" ONE " scopes=step\n"
                             "one sha256:" ONE " scopes=export\n");
    struct auth_caller caller;

    ck_assert(sha256_from_hex(ONE, c.fingerprint));
    ck_assert_int_eq(auth_check(auth, NULL, -1, &c, &caller, &err), 0);
    ck_assert_str_eq(caller.owner, "exact"); /* before a name */
    c.fingerprint[0]++;
    ck_assert_int_eq(auth_check(auth, NULL, -1, &c, &caller, &err), 0);
    ck_assert_str_eq(caller.owner, "name");
    ck_assert_int_eq(auth_check(auth, "Bearer one", -1, &c, &caller, &err), 0);
    ck_assert_str_eq(caller.owner, "one");
    ck_assert_int_eq(auth_check(auth, "Bearer x", -1, &c, &caller, &err), -1);
    pt2_err_clear(&err);
    c.n_names = 0;
    ck_assert_int_eq(auth_check(auth, NULL, -1, &c, &caller, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_UNAUTHORIZED);
    ck_assert_uint_eq(caller.scopes, 0);
    auth_free(auth);
}
END_TEST

/* ---- the guard ---- */

/* A socket bound to that address, as a connection to it is. */
static int bound(int family, const char *address)
{
    struct sockaddr_in6 six = {.sin6_family = AF_INET6};
    struct sockaddr_in four = {.sin_family = AF_INET};
    int fd = socket(family, SOCK_STREAM, 0);

    inet_pton(family, address,
              family == AF_INET ? (void *)&four.sin_addr : (void *)&six.sin6_addr);
    ck_assert_int_eq(family == AF_INET
                         ? bind(fd, (struct sockaddr *)&four, sizeof(four))
                         : bind(fd, (struct sockaddr *)&six, sizeof(six)),
                     0);
    return fd;
}

START_TEST(test_guard_hosts)
{
    static const char *const good[] = {
        "localhost",        "LocalHost:8250", "localhost.", "a.b.localhost:1",
        "127.0.0.1:80",     "127.3.2.1",      "[::1]",      "[::1]:8250",
        "PT2D.Example:443", "pt2d.example.",  "farm",       "pt2d.example"};
    static const char *const bad[] = {
        "",       "evil.example", "evil.localhost.example", "xlocalhost",  "farmer",
        "farm.x", "128.0.0.1",    "10.0.0.1",               "[::2]",       "[::1",
        "::1",    "localhost:x",  "localhost:80@evil",      "localhost/x", "pt2d.exampl",
        "arm",    ".localhost",   "127.0.0.1.evil.example", "2130706433",  "0.0.0.0"};
    int fd = bound(AF_INET, "127.0.0.1"), pair[2];

    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        ck_assert_msg(guard_host_is_ours(good[i], " pt2d.example  farm ", fd), "%s",
                      good[i]);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ck_assert_msg(!guard_host_is_ours(bad[i], "pt2d.example farm", fd), "%s", bad[i]);
    close(fd);
    /* the address it came to, and no other; here any address */
    fd = bound(AF_INET, "0.0.0.0");
    ck_assert(guard_host_is_ours("0.0.0.0:8250", "", fd));
    ck_assert(!guard_host_is_ours("10.0.0.1:8250", "", fd));
    close(fd);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    ck_assert(guard_host_is_ours("evil.example", "", pair[0]));
    close(pair[0]);
    close(pair[1]);
}
END_TEST

START_TEST(test_guard_config)
{
    static const char *const bad_hosts[] = {"http://x/", "x y:80", "a/b", "[::1]", "x,y"};
    static const char *const bad_origins[] = {"x", "https://", "http://x/", "https://x/page",
                                              "://x", "https://x:y", "http//x"};

    ck_assert_int_eq(guard_check_config(" pt2d.example  farm_1 10.0.0.1 ::1 ",
                                        "https://tools.example http://[::1]:80 null "
                                        "chrome-extension://abc",
                                        &err),
                     0);
    ck_assert_int_eq(guard_check_config("", "", &err), 0);
    for (size_t i = 0; i < ARRAY_LEN(bad_hosts); i++)
        ck_assert_msg(guard_check_config(bad_hosts[i], "", NULL) < 0, "%s", bad_hosts[i]);
    for (size_t i = 0; i < ARRAY_LEN(bad_origins); i++)
        ck_assert_msg(guard_check_config("", bad_origins[i], NULL) < 0, "%s",
                      bad_origins[i]);
}
END_TEST

START_TEST(test_guard_origins)
{
    static const char *const good[] = {"http://localhost:8250", "https://LOCALHOST:8250",
                                       "https://tools.example", "null"};
    static const char *const bad[] = {"http://localhost",    "http://localhost:3000",
                                      "http://evil.example", "https://tools.example.evil",
                                      "http://tools.example", "localhost:8250",
                                      "file://",             ""};

    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        ck_assert_msg(guard_origin_is_ours(good[i], "https://tools.example null",
                                           "localhost:8250", false),
                      "%s", good[i]);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ck_assert_msg(
            !guard_origin_is_ours(bad[i], "https://tools.example", "localhost:8250",
                                  false),
            "%s", bad[i]);
    ck_assert(guard_origin_is_ours("HTTPS://localhost:1", "", "localhost:1", true));
    ck_assert(guard_origin_is_ours("http://x", "http://x", "localhost:1", true));
    ck_assert(!guard_origin_is_ours("http://localhost:1", "", "localhost:1", true));
    ck_assert(!guard_origin_is_ours("null", "", "localhost:8250", false));
    ck_assert(!guard_origin_is_ours("file://", "", "", false));
    ck_assert(!guard_origin_is_ours("http://x", "", NULL, false));
}
END_TEST

START_TEST(test_guard_says_which)
{
    int fd = bound(AF_INET, "127.0.0.1");
    const char *reason;

    ck_assert_int_eq(guard_check(NULL, NULL, "", "", fd, false, &reason, &err), 0);
    ck_assert_int_eq(guard_check("localhost", NULL, "", "", fd, false, &reason, &err), 0);
    ck_assert_int_eq(guard_check("evil", NULL, "", "", fd, false, &reason, &err), -1);
    ck_assert_int_eq(err.code, PT2_ERR_FORBIDDEN);
    ck_assert_str_eq(reason, "host");
    ck_assert_ptr_nonnull(strstr(err.text, "http.hosts"));
    pt2_err_clear(&err);
    ck_assert_int_eq(guard_check("localhost", "http://evil", "", "", fd, false, &reason, &err),
                     -1);
    ck_assert_str_eq(reason, "origin");
    ck_assert_ptr_nonnull(strstr(err.text, "http.origins"));
    close(fd);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("auth");
    TCase *core = tcase_create("core"), *limits = tcase_create("limits"),
          *errors = tcase_create("errors");

    tcase_add_checked_fixture(core, setup, teardown);
    tcase_add_test(core, test_token_line_says_who_may_do_what);
    tcase_add_test(core, test_token_line_names_a_certificate);
    tcase_add_test(core, test_token_line_may_be_empty);
    tcase_add_test(core, test_auth_finds_the_token);
    tcase_add_test(core, test_auth_without_a_file_lets_everybody_in);
    tcase_add_test(core, test_auth_knows_the_peer);
    tcase_add_test(core, test_auth_knows_the_certificate);
    tcase_add_test(core, test_guard_hosts);
    tcase_add_test(core, test_guard_config);
    tcase_add_test(core, test_guard_origins);
    tcase_add_checked_fixture(limits, setup, teardown);
    tcase_add_test(limits, test_auth_rate_is_a_bucket_that_a_reload_leaves);
    tcase_add_test(limits, test_token_file_long_lines_are_refused);
    tcase_add_checked_fixture(errors, setup, teardown);
    tcase_add_loop_test(errors, test_token_line_is_refused_with_the_reason, 0,
                        ARRAY_LEN(bad_lines));
    tcase_add_test(errors, test_token_file_names_the_line);
    tcase_add_test(errors, test_token_file_is_closed_to_others);
    tcase_add_test(errors, test_token_file_is_a_file);
    tcase_add_test(errors, test_auth_refuses_all_else);
    tcase_add_test(errors, test_auth_reload_keeps_the_old_where_the_new_is_bad);
    tcase_add_test(errors, test_guard_says_which);
    suite_add_tcase(suite, core);
    suite_add_tcase(suite, limits);
    suite_add_tcase(suite, errors);
    return suite_run(suite);
}
