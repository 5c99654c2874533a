#include "http/token_file.h"

#include "http/private_file.h"

#define MAX_TOKENS 10000

static FILE *open_file(const char *path, struct pt2_err *err)
{
    FILE *file;
    int fd;

    if (private_file_open(path, &fd, err) < 0)
        return NULL;
    file = fdopen(fd, "r");
    if (!file) {
        pt2_err_errno(err, PT2_ERR_IO, "%s", path);
        close(fd);
    }
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
                               token_proof_name(token->proof));
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
