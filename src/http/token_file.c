#include "http/token_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define MAX_TOKENS 10000

static FILE *open_file(const char *path, struct pt2_err *err)
{
    /* O_NONBLOCK: a pipe must not hold the daemon up. */
    AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    FILE *file;

    if (fd < 0 || fstat(fd, &st) < 0) {
        pt2_err_errno(err, errno == ENOENT ? PT2_ERR_NOT_FOUND : PT2_ERR_IO, "%s", path);
        return NULL;
    }
    if (!S_ISREG(st.st_mode)) {
        pt2_err_set(err, PT2_ERR_INVALID, "%s is not a regular file", path);
        return NULL;
    }
    if (st.st_mode & (S_IWGRP | S_IRWXO)) {
        pt2_err_set(err, PT2_ERR_INVALID,
                    "%s has mode %04o: others may not get at it; chmod 640 (or 600)",
                    path, (unsigned)st.st_mode & 07777);
        return NULL;
    }
    file = fdopen(fd, "r");
    if (file)
        (void)TAKE_FD(fd);
    else
        pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    return file;
}

static int add(struct token **tokens, size_t *n, const struct token *token,
               struct pt2_err *err)
{
    struct token *grown;

    if (*n == MAX_TOKENS)
        return pt2_err_set(err, PT2_ERR_INVALID, "more than %d tokens", MAX_TOKENS);
    for (size_t i = 0; i < *n; i++)
        if (token_is_same_proof(&(*tokens)[i], token))
            return pt2_err_set(err, PT2_ERR_INVALID, "'%s' and '%s' have one %s",
                               (*tokens)[i].name, token->name,
                               token->proof == TOKEN_SECRET ? "token"
                               : token->proof == TOKEN_UID  ? "uid"
                                                            : "gid");
    grown = realloc(*tokens, (*n + 1) * sizeof(*grown));
    if (!grown)
        return pt2_err_set(err, PT2_ERR_NOMEM, "tokens");
    grown[*n] = *token;
    *tokens = grown;
    ++*n;
    return 0;
}

static int read_line(char *line, struct token **tokens, size_t *n, struct pt2_err *err)
{
    struct token token = {0};
    bool is_token;

    if (!strchr(line, '\n') && strlen(line) > 1000)
        return pt2_err_set(err, PT2_ERR_INVALID, "the line is too long");
    if (token_line_parse(line, &token, &is_token, err) < 0)
        return -1;
    return is_token ? add(tokens, n, &token, err) : 0;
}

int token_file_read(const char *path, struct token **ret_tokens, size_t *ret_n,
                    struct pt2_err *err)
{
    AUTO_FILE FILE *file = open_file(path, err);
    AUTO_PTR struct token *tokens = NULL;
    char line[1024];
    size_t n = 0;

    if (!file)
        return -1;
    for (int number = 1; fgets(line, sizeof(line), file); number++)
        if (read_line(line, &tokens, &n, err) < 0)
            return pt2_err_prefix(err, "%s:%d", path, number);
    if (ferror(file))
        return pt2_err_errno(err, PT2_ERR_IO, "%s", path);
    if (n == 0)
        return pt2_err_set(err, PT2_ERR_INVALID, "%s: no token in it", path);
    *ret_tokens = TAKE(tokens);
    *ret_n = n;
    return 0;
}
