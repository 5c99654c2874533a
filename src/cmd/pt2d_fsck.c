#include "cmd/pt2d_fsck.h"

#include "serve/fsck_sessions.h"
#include "store/fsck.h"

enum { CHANGED = 1, LEFT = 4, FAILED = 8 }; /* fsck(8) */

static fsck_part *const parts[] = {fsck_sessions};

static void say(void *ctx, const char *line)
{
    (void)ctx;
    puts(line);
}

static void print_summary(const struct fsck_result *r, bool is_check)
{
    printf("%zu files, %llu bytes: ", r->n_files, (unsigned long long)r->bytes);
    if (r->n_problems == 0 && r->n_leftovers == 0)
        printf("clean\n");
    else if (is_check)
        printf("%zu problems, %zu leftovers that a start clears away\n", r->n_problems,
               r->n_leftovers);
    else
        printf("%zu problems, %zu leftovers; %zu repaired or removed, %zu left\n",
               r->n_problems, r->n_leftovers, r->n_repaired, r->n_left);
}

int pt2d_fsck(const struct config *config, enum pt2d_fsck how)
{
    const struct fsck_options options = {
        .state_dir = config_get_text(config, "daemon.state_dir"),
        .models_dir = config_get_text(config, "daemon.models_dir"),
        .repair = how == PT2D_FSCK_REPAIR,
        .say = say,
        .parts = parts,
        .n_parts = ARRAY_LEN(parts),
    };
    struct fsck_result result;
    struct pt2_err err = {0};

    if (fsck_run(&options, &result, &err) < 0) {
        fflush(stdout);
        fprintf(stderr, "pt2d: %s\n", err.text);
        return FAILED;
    }
    print_summary(&result, !options.repair);
    if (fflush(stdout) != 0)
        return FAILED;
    return (result.n_repaired ? CHANGED : 0) | (result.n_left ? LEFT : 0);
}
