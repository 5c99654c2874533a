/* ctl_token.c - pt2ctl token: a token at random, and its line of the token file */
#include "base/buf.h"
#include "cmd/ctl.h"
#include "cmd/ctl_show.h"
#include "http/token_line.h"

#include <nettle/base64.h>
#include <sys/random.h>

#define SECRET_BYTES 32 /* more than anybody can try */
#define PREFIX       "pt2_" /* so that a token is known as one where it leaks */
#define TOKEN_SIZE   (sizeof(PREFIX) + BASE64_ENCODE_RAW_LENGTH(SECRET_BYTES))

struct wish {
    const char *name, *scopes, *rate, *upload, *download;
    int64_t sessions, exports; /* 0: none said */
};

static int make_token(struct ctl *ctl, char ret_token[TOKEN_SIZE])
{
    uint8_t secret[SECRET_BYTES];
    char *at = ret_token + strlen(PREFIX);

    if (getrandom(secret, sizeof(secret), 0) != sizeof(secret))
        return ctl_fail(ctl, CTL_BROKEN, "no random bytes from the system");
    memcpy(ret_token, PREFIX, strlen(PREFIX));
    base64_encode_raw(at, sizeof(secret), secret);
    at[BASE64_ENCODE_RAW_LENGTH(SECRET_BYTES)] = '\0';
    for (; *at; at++) /* RFC 4648, section 5: nothing that a shell or a URL minds */
        *at = *at == '+' ? '-' : *at == '/' ? '_' : *at;
    at[-1] = '\0'; /* the one '=' at the end says nothing */
    return 0;
}

static void add_line(const struct wish *wish, const char *token, struct buf *to)
{
    uint8_t digest[SHA256_BYTES];
    char hex[SHA256_HEX];

    sha256_of(token, strlen(token), digest);
    sha256_to_hex(digest, hex);
    buf_printf(to, "%s sha256:%s scopes=%s", wish->name, hex, wish->scopes);
    if (wish->sessions)
        buf_printf(to, " sessions=%lld", (long long)wish->sessions);
    if (wish->exports)
        buf_printf(to, " exports=%lld", (long long)wish->exports);
    if (wish->rate)
        buf_printf(to, " rate=%s", wish->rate);
    if (wish->upload)
        buf_printf(to, " upload=%s", wish->upload);
    if (wish->download)
        buf_printf(to, " download=%s", wish->download);
}

static bool is_word(const char *text)
{
    return !text || !strpbrk(text, " \t\r\n#");
}

/* Would the daemon take it, as the one line that it is? */
static int check_line(struct ctl *ctl, const struct wish *wish, const char *line)
{
    AUTO_PTR char *copy = strdup(line);
    struct pt2_err err = {0};
    struct token token;
    bool is_token;

    if (!copy)
        return ctl_fail_nomem(ctl);
    if (!*wish->name || !is_word(wish->name) || !is_word(wish->scopes) ||
        !is_word(wish->rate) || !is_word(wish->upload) || !is_word(wish->download))
        return ctl_fail(ctl, CTL_USAGE,
                        "the name, the scopes and the rates must be a word each");
    if (token_line_parse(copy, &token, &is_token, &err) < 0)
        return ctl_fail(ctl, CTL_USAGE, "%s", err.text);
    return 0;
}

static int print(struct ctl *ctl, const char *token, const char *line)
{
    json_auto_t *json = NULL;

    if (!ctl->json) {
        show_line("token", "%s", token);
        show_line("line", "%s", line);
        return 0;
    }
    json = json_pack("{s:s, s:s}", "token", token, "line", line);
    return json ? show_json(ctl, json) : ctl_fail_nomem(ctl);
}

int ctl_cmd_token(struct ctl *ctl, int argc, char **argv)
{
    struct wish wish = {0};
    const struct ctl_option options[] = {
        {0, "scopes", CTL_STRING, &wish.scopes, "SCOPES",
         "what it allows: read, step, export, admin, with commas between", 0, 0},
        {0, "sessions", CTL_INT, &wish.sessions, "N", "sessions at once", 1, 1000000},
        {0, "exports", CTL_INT, &wish.exports, "N", "unfinished exports at once", 1,
         1000000},
        {0, "rate", CTL_STRING, &wish.rate, "N/s", "requests a second, or N/min", 0, 0},
        {0, "upload", CTL_STRING, &wish.upload, "2M", "bytes a second that it may send", 0, 0},
        {0, "download", CTL_STRING, &wish.download, "500K",
         "bytes a second that it may be sent", 0, 0},
        {0}};
    const struct ctl_usage usage = {
        .usage = "token NAME --scopes SCOPES [options]",
        .about = "Make a token at random: print it, for its holder, and the line for the "
                 "daemon's token file,\nwhich does not tell it.  No daemon is asked.",
        .options = options,
        .min_args = 1,
        .max_args = 1};
    AUTO_BUF line = BUF_INIT(4096);
    char token[TOKEN_SIZE];
    int n;

    if (ctl_options(ctl, argc, argv, &usage, &wish.name, &n) < 0)
        return -1;
    if (ctl->help)
        return 0;
    if (!wish.scopes)
        return ctl_fail(ctl, CTL_USAGE, "--scopes is needed; usage: pt2ctl %s",
                        usage.usage);
    if (make_token(ctl, token) < 0)
        return -1;
    add_line(&wish, token, &line);
    if (buf_failed(&line))
        return ctl_fail(ctl, CTL_USAGE, "the line would be too long");
    if (check_line(ctl, &wish, line.data) < 0)
        return -1;
    return print(ctl, token, line.data);
}
