/* fuzz_config.c - what an operator writes: an input that begins with '!' is a token file,
 * any other a pt2d.conf.  What is refused has a reason that names the file; what is taken is
 * printed, and what was printed says the same. */
#include "fuzz.h"

#include "base/util.h"

#include "http/config.h"
#include "http/params.h"
#include "http/token_file.h"

#include <sys/mman.h>
#include <sys/stat.h>

const char fuzz_name[] = "config";
const char *const fuzz_corpus[] = {"tests/data/conf-invalid", "etc/pt2d.conf", NULL};

/* A file of the bytes, under the path that opens it again. */
static int file_of(const void *data, size_t size, char ret_path[40])
{
    int fd = memfd_create("input", MFD_CLOEXEC);

    FUZZ_CHECK(fd >= 0 && fchmod(fd, 0600) == 0);
    FUZZ_CHECK(write(fd, data, size) == (ssize_t)size);
    snprintf(ret_path, 40, "/proc/self/fd/%d", fd);
    return fd;
}

static void check_values(const struct config *config)
{
    for (size_t i = 0; i < N_PARAMS; i++) {
        const struct param *p = &params[i];

        FUZZ_CHECK(config->values[i].text);
        if (p->type == PARAM_INT || p->type == PARAM_SIZE || p->type == PARAM_TIME)
            FUZZ_CHECK(config->values[i].number >= p->min &&
                       config->values[i].number <= p->max);
    }
}

/* What --dump-config prints is a file that says the same. */
static void check_printed(const struct config *config)
{
    struct config *again = NULL;
    struct buf text = BUF_INIT(1 << 20);
    struct pt2_err err = {0};
    char path[40];
    size_t i = 0;
    int fd;

    config_print(config, CONFIG_PRINT_VALUES, &text);
    FUZZ_CHECK(!buf_failed(&text));
    fd = file_of(text.data, text.len, path);
    FUZZ_CHECK(config_new(&again, NULL) == 0);
    if (config_load(again, path, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        FUZZ_CHECK(!"what was printed is taken");
    }
    FUZZ_CHECK(!config_next_difference(config, again, &i));
    close(fd);
    buf_done(&text);
    config_free(again);
}

static void read_conf(const char *path)
{
    struct config *config = NULL;
    struct pt2_err err = {0};

    FUZZ_CHECK(config_new(&config, NULL) == 0);
    if (config_load(config, path, &err) < 0) {
        FUZZ_CHECK(err.code == PT2_ERR_INVALID && strstr(err.text, path));
    } else {
        check_values(config);
        check_printed(config);
    }
    config_free(config);
}

static void read_tokens(const char *path)
{
    struct token *tokens = NULL;
    struct pt2_err err = {0};
    size_t n = 0;

    if (token_file_read(path, &tokens, &n, &err) < 0) {
        FUZZ_CHECK(err.code == PT2_ERR_INVALID && strstr(err.text, path) && !tokens);
        return;
    }
    FUZZ_CHECK(n > 0);
    for (size_t i = 0; i < n; i++) {
        size_t len = strnlen(tokens[i].name, OWNER_SIZE);

        FUZZ_CHECK(len > 0 && len < OWNER_SIZE && tokens[i].scopes);
        FUZZ_CHECK(!tokens[i].rate == !tokens[i].rate_ms);
        for (size_t j = 0; j < i; j++)
            FUZZ_CHECK(!token_is_same_proof(&tokens[i], &tokens[j]));
    }
    free(tokens);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool is_tokens = size > 0 && *data == '!';
    char path[40];
    int fd = file_of(data + is_tokens, size - is_tokens, path);

    if (is_tokens)
        read_tokens(path);
    else
        read_conf(path);
    close(fd);
    return 0;
}
