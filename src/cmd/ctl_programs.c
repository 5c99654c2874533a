/* ctl_programs.c - pt2ctl programs */
#include "base/sha256.h"
#include "cmd/ctl.h"
#include "cmd/ctl_download.h"
#include "cmd/ctl_http.h"
#include "cmd/ctl_program_show.h"
#include "cmd/ctl_show.h"

#include <errno.h>
#include <sys/stat.h>

static void print_programs(const json_t *programs)
{
    static const char *const titles[] = {"PROGRAM",   "SIZE",       "ORIGIN", "MODEL",
                                         "POSITIONS", "VOCABULARY", "CREATED"};
    AUTO(table) table = table_new(ARRAY_LEN(titles), titles);
    json_t *program;
    size_t i;

    json_array_foreach (programs, i, program) {
        const char *id = json_string_value(json_object_get(program, "id"));
        char prefix[13];

        snprintf(prefix, sizeof(prefix), "%s", id ? id : "?");
        table_add(table, prefix);
        table_add_bytes(table, json_integer_value(json_object_get(program, "bytes")));
        table_add_member(table, program, "origin");
        table_add_member(table, program, "model");
        table_add_member(table, json_object_get(program, "cache"), "max_cache_len");
        table_add_member(table, program, "vocab_size");
        table_add_member(table, program, "created");
    }
    table_print(table, "no programs");
}

static int list(struct ctl *ctl)
{
    json_auto_t *programs = NULL;

    if (ctl_list(ctl, "/v1/programs", &programs) < 0)
        return -1;
    if (ctl->json)
        return show_json(ctl, programs);
    print_programs(programs);
    return 0;
}

static int answer(struct ctl *ctl, const json_t *program)
{
    if (ctl->json)
        return show_json(ctl, program);
    show_program(program);
    return 0;
}

/* ---- upload ---- */

static void draw_sent(void *ctx, uint64_t done, uint64_t total)
{
    bar_draw(ctx, "upload", done, total, true);
}

/* The digest is said first, so that a program that is there already costs no bytes and
 * one that changed on the way is refused. */
static int send_file(struct ctl *ctl, FILE *file, const char *hex, uint64_t bytes)
{
    AUTO_PTR char *path = ctl_path("/v1/programs/%s", hex);
    json_auto_t *program = NULL;
    struct bar bar;
    struct ctl_request request = {.method = "PUT",
                                  .path = path,
                                  .file = file,
                                  .file_bytes = bytes,
                                  .on_sent = draw_sent,
                                  .ctx = &bar};
    AUTO_REPLY reply;
    int r;

    rewind(file);
    bar_start(&bar, ctl);
    r = ctl_http(ctl, &request, &reply);
    bar_end(&bar);
    if (r < 0)
        return -1;
    program =
        reply.body.len ? json_loadb(reply.body.data, reply.body.len, 0, NULL) : NULL;
    return program ? answer(ctl, program)
                   : ctl_fail(ctl, CTL_BROKEN, "the answer to the upload is not JSON");
}

static int upload(struct ctl *ctl, const char *path)
{
    AUTO_FILE FILE *file = fopen(path, "rb");
    char hex[SHA256_HEX];
    struct stat st;
    uint64_t bytes;

    if (!file)
        return ctl_fail(ctl, CTL_FILE, "%s: %s", path, strerror(errno));
    if (fstat(fileno(file), &st) < 0 || !S_ISREG(st.st_mode))
        return ctl_fail(ctl, CTL_FILE, "%s: not a regular file", path);
    if (ctl_digest_file(ctl, file, path, hex, &bytes) < 0)
        return -1;
    return send_file(ctl, file, hex, bytes);
}

/* ---- one program ---- */

static int download(struct ctl *ctl, const char *name, const char *path)
{
    AUTO_PTR char *url = ctl_path("/v1/programs/%s", name);
    json_auto_t *program = NULL;
    struct output output = {0};
    char size[SHOW_SIZE_CHARS];
    const char *id;
    uint64_t bytes;
    int r;

    if (ctl_output(ctl, path, &output) < 0)
        return -1;
    r = ctl_json(ctl, "GET", url, NULL, &program);
    id = json_string_value(json_object_get(program, "id"));
    if (r == 0)
        r = ctl_download(ctl, id ? id : "", &output, &bytes, NULL);
    output_done(&output);
    if (r < 0)
        return -1;
    if (ctl->json)
        return show_json(ctl, program);
    show_line("program", "%s", id);
    show_line("file", "%s, %s", path, show_bytes(bytes, size));
    return 0;
}

/* DELETE takes the full id alone; a name or prefix is looked up first. */
static int forget(struct ctl *ctl, const char *name)
{
    AUTO_PTR char *url = ctl_path("/v1/programs/%s", name), *full = NULL;
    json_auto_t *program = NULL;

    if (ctl_json(ctl, "GET", url, NULL, &program) < 0)
        return -1;
    full = ctl_path("/v1/programs/%s", json_string_value(json_object_get(program, "id")));
    return ctl_json(ctl, "DELETE", full, NULL, NULL);
}

static int pin(struct ctl *ctl, const char *name, bool is_pinned)
{
    AUTO_PTR char *url = ctl_path("/v1/programs/%s/pin", name);

    return ctl_json(ctl, is_pinned ? "PUT" : "DELETE", url, NULL, NULL);
}

static int show(struct ctl *ctl, const char *name)
{
    AUTO_PTR char *url = ctl_path("/v1/programs/%s", name);
    json_auto_t *program = NULL;

    return ctl_json(ctl, "GET", url, NULL, &program) < 0 ? -1 : answer(ctl, program);
}

int ctl_cmd_programs(struct ctl *ctl, int argc, char **argv)
{
    const char *output = NULL, *file = NULL;
    bool is_delete = false, is_pin = false, is_unpin = false;
    const struct ctl_option options[] = {
        {'o', "output", CTL_STRING, &output, "FILE", "download the one named", 0, 0},
        {'u', "upload", CTL_STRING, &file, "FILE",
         "send a .pt2, also one that torch.export.save wrote", 0, 0},
        {0, "delete", CTL_FLAG, &is_delete, NULL, "forget the one named", 0, 0},
        {0, "pin", CTL_FLAG, &is_pin, NULL, "let the one named not go to make room", 0, 0},
        {0, "unpin", CTL_FLAG, &is_unpin, NULL, "let it go again", 0, 0},
        {0}};
    const struct ctl_usage usage = {
        .usage = "programs [PROGRAM] [options]",
        .about =
            "List the programs, or show, download, upload or forget one.  A program is "
            "named by its\nid (the SHA-256 of its file), 8 or more of its first digits, "
            "an alias or an export's id.",
        .options = options,
        .max_args = 1};
    const char *args[1];
    int n, n_actions;

    if (ctl_options(ctl, argc, argv, &usage, args, &n) < 0)
        return -1;
    if (ctl->help)
        return 0;
    n_actions = (output != NULL) + is_delete + is_pin + is_unpin;
    if (file)
        return n || n_actions
                   ? ctl_fail(ctl, CTL_USAGE,
                              "--upload goes with no other option or name")
                   : upload(ctl, file);
    if (n == 0)
        return n_actions
                   ? ctl_fail(ctl, CTL_USAGE,
                              "--output, --delete, --pin and --unpin want a program")
                   : list(ctl);
    if (n_actions > 1)
        return ctl_fail(ctl, CTL_USAGE, "--output, --delete, --pin, --unpin: one of them");
    if (output)
        return download(ctl, args[0], output);
    if (is_pin || is_unpin)
        return pin(ctl, args[0], is_pin);
    return is_delete ? forget(ctl, args[0]) : show(ctl, args[0]);
}
