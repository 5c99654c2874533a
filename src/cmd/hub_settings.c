#include "cmd/hub_settings.h"

#include <strings.h>

#define DEFAULT_ENDPOINT "https://huggingface.co"

/* The first of these variables that is set to something; names end in NULL. */
static const char *first_of(const char *const *names)
{
    for (; *names; names++) {
        const char *value = getenv(*names);

        if (value && *value)
            return value;
    }
    return NULL;
}
#define ENV(...) first_of((const char *const[]){__VA_ARGS__, NULL})

/* value where that is not NULL, otherwise parent/name. */
static void set_path(char to[PATH_MAX], const char *value, const char *parent,
                     const char *name)
{
    const char *home = getenv("HOME"), *below = value ? after_prefix(value, "~/") : NULL;

    if (below)
        snprintf(to, PATH_MAX, "%.*s/%.*s", PATH_MAX / 2, home ? home : "",
                 PATH_MAX / 2 - 8, below);
    else if (value)
        snprintf(to, PATH_MAX, "%s", value);
    else
        snprintf(to, PATH_MAX, "%.*s/%.20s", PATH_MAX - 32, parent, name);
}

static bool is_true(const char *value)
{
    static const char *const words[] = {"1", "on", "yes", "true"};

    for (size_t i = 0; value && i < ARRAY_LEN(words); i++)
        if (strcasecmp(value, words[i]) == 0)
            return true;
    return false;
}

static int set_endpoint(struct ctl *ctl, struct hub_settings *s)
{
    const char *value = ENV("HF_ENDPOINT");
    size_t n;

    if (!value)
        value = DEFAULT_ENDPOINT;
    n = strlen(value);
    while (n > 0 && value[n - 1] == '/')
        n--;
    if ((!after_prefix(value, "http://") && !after_prefix(value, "https://")) ||
        n >= sizeof(s->endpoint) || strpbrk(value, " \t\r\n?#"))
        return ctl_fail(ctl, CTL_USAGE,
                        "HF_ENDPOINT must be http://HOST or https://HOST, not '%.100s'",
                        value);
    snprintf(s->endpoint, sizeof(s->endpoint), "%.*s", (int)n, value);
    return 0;
}

/* White space around it is not part of it. */
static int set_token(struct ctl *ctl, struct hub_settings *s, const char *value,
                     const char *where)
{
    static const char space[] = " \t\r\n";
    size_t n;

    value += strspn(value, space);
    n = strlen(value);
    while (n > 0 && strchr(space, value[n - 1]))
        n--;
    if (n >= sizeof(s->token))
        return ctl_fail(ctl, CTL_USAGE, "the token in %s is too long", where);
    for (size_t i = 0; i < n; i++)
        if (value[i] <= ' ' || value[i] >= 0x7f)
            return ctl_fail(ctl, CTL_USAGE,
                            "the token in %s holds white space or what is not ASCII",
                            where);
    snprintf(s->token, sizeof(s->token), "%.*s", (int)n, value);
    return 0;
}

static int read_token(struct ctl *ctl, struct hub_settings *s, const char *home)
{
    const char *value = ENV("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN");
    char path[PATH_MAX], text[1024];
    AUTO_FILE FILE *file = NULL;

    if (value)
        return set_token(ctl, s, value, "HF_TOKEN");
    set_path(path, ENV("HF_TOKEN_PATH"), home, "token");
    file = fopen(path, "r");
    text[file ? fread(text, 1, sizeof(text) - 1, file) : 0] = '\0';
    return set_token(ctl, s, text, path);
}

int hub_settings_read(struct ctl *ctl, struct hub_settings *ret_settings)
{
    struct hub_settings s = {.is_offline =
                                 is_true(ENV("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))};
    char user[PATH_MAX], cache[PATH_MAX], home[PATH_MAX];

    set_path(user, ENV("HOME"), "", "");
    set_path(cache, ENV("XDG_CACHE_HOME"), user, ".cache");
    set_path(home, ENV("HF_HOME"), cache, "huggingface");
    set_path(s.cache, ENV("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"), home, "hub");
    set_path(s.work, NULL, cache, "pt2ctl");
    if (set_endpoint(ctl, &s) < 0 || read_token(ctl, &s, home) < 0)
        return -1;
    *ret_settings = s;
    return 0;
}
