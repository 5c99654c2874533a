/* ctl_inspect.c - pt2ctl inspect: a program of the daemon, or a .pt2 or .pte file here. */
#include "base/sha256.h"
#include "cmd/ctl.h"
#include "cmd/ctl_download.h"
#include "cmd/ctl_http.h"
#include "cmd/ctl_inspect_pte.h"
#include "cmd/ctl_program_show.h"
#include "cmd/ctl_show.h"
#include "native/plan.h"
#include "store/program_facts.h"

#include <errno.h>
#include <pt2/archive.h>
#include <pt2/program.h>
#include <sys/stat.h>

struct inspect {
    struct ctl *ctl;
    bool graph, plan, records;
};

/* ---- a file here: no daemon is asked ---- */

static json_t *record_json(const struct pt2_record *record)
{
    return json_pack("{s:s, s:I, s:I, s:b}", "name", record->name, "offset",
                     (json_int_t)record->offset, "bytes", (json_int_t)record->size,
                     "deflated", !record->is_stored);
}

static json_t *records_json(const struct pt2_archive *archive)
{
    json_t *list = json_array();

    for (size_t i = 0; i < pt2_archive_n_records(archive); i++)
        json_array_append_new(list, record_json(pt2_archive_record(archive, i)));
    return list;
}

static void print_records(const json_t *records)
{
    static const char *const titles[] = {"RECORD", "OFFSET", "BYTES"};
    AUTO(table) table = table_new(ARRAY_LEN(titles), titles);
    json_t *record;
    size_t i;

    json_array_foreach (records, i, record) {
        table_add_member(table, record, "name");
        table_add_member(table, record, "offset");
        table_add_member(table, record, "bytes");
    }
    table_print(table, NULL);
}

static int print_text(const struct inspect *in, const struct pt2_archive *archive,
                      const struct pt2_program *program)
{
    AUTO_PTR char *text = NULL;
    struct pt2_err err = {0};
    int r = in->graph ? pt2_program_print(program, &text, &err)
                      : plan_describe(archive, program, &text, &err);

    if (r < 0)
        return ctl_fail_err(in->ctl, CTL_FILE, &err);
    show_text(stdout, text, true);
    return 0;
}

/* What the open archive is, in the members of GET /v1/programs/{id}. */
static int print_facts(const struct inspect *in, FILE *file, const char *path,
                       const struct pt2_archive *archive,
                       const struct pt2_program *program)
{
    json_auto_t *facts = program_facts_json(archive, program);
    char hex[SHA256_HEX];
    uint64_t bytes;

    if (!facts)
        return ctl_fail_nomem(in->ctl);
    if (ctl_digest_file(in->ctl, file, path, hex, &bytes) < 0)
        return -1;
    json_object_set_new(facts, "id", json_string(hex));
    json_object_set_new(facts, "bytes", json_integer((json_int_t)bytes));
    if (in->records)
        json_object_set_new(facts, "records", records_json(archive));
    if (in->ctl->json)
        return show_json(in->ctl, facts);
    show_program(facts);
    if (in->records)
        print_records(json_object_get(facts, "records"));
    return 0;
}

static int inspect_file(const struct inspect *in, const char *path)
{
    AUTO_FILE FILE *file = fopen(path, "rb");
    struct pt2_archive *archive = NULL;
    struct pt2_program *program = NULL;
    struct pt2_err err = {0};
    int r = -1;

    if (!file)
        return ctl_fail(in->ctl, CTL_FILE, "%s: %s", path, strerror(errno));
    if (ctl_is_pte(file)) {
        if (in->graph || in->plan || in->records)
            return ctl_fail(in->ctl, CTL_USAGE,
                            "--graph, --plan and --records want a .pt2, %s is a .pte", path);
        return ctl_inspect_pte(in->ctl, file, path);
    }
    if (pt2_archive_open_fd(fileno(file), path, &archive, &err) < 0 ||
        pt2_program_read(archive, &program, &err) < 0)
        ctl_fail_err(in->ctl, CTL_FILE, &err);
    else if (in->graph || in->plan)
        r = print_text(in, archive, program);
    else
        r = print_facts(in, file, path, archive, program);
    pt2_program_free(program);
    pt2_archive_free(archive);
    return r;
}

/* ---- a program of the daemon ---- */

static bool print_lines(void *ctx, long status, const char *data, size_t len)
{
    struct buf *text = ctx;

    buf_clear(text);
    buf_add(text, data, len);
    if (!buf_failed(text))
        show_text(stdout, text->data, true);
    return !buf_failed(text);
}

static int inspect_program(const struct inspect *in, const char *name)
{
    AUTO_PTR char *path = ctl_path(in->graph  ? "/v1/programs/%s/graph"
                                   : in->plan ? "/v1/programs/%s/plan"
                                              : "/v1/programs/%s",
                                   name);
    AUTO_BUF text = BUF_INIT(1 << 24);
    struct ctl_request lines = {.method = "GET",
                                .path = path,
                                .accept = "text/plain",
                                .on_data = print_lines,
                                .ctx = &text};
    json_auto_t *program = NULL;
    AUTO_REPLY reply = {0};

    if (in->graph || in->plan)
        return ctl_http(in->ctl, &lines, &reply);
    if (in->records)
        return ctl_fail(in->ctl, CTL_USAGE, "--records wants a file that is here");
    if (ctl_json(in->ctl, "GET", path, NULL, &program) < 0)
        return -1;
    if (in->ctl->json)
        return show_json(in->ctl, program);
    show_program(program);
    return 0;
}

/* A name with a slash or a suffix, or of a file that is there. */
static bool is_file(const char *name)
{
    struct stat st;

    return strchr(name, '/') || ends_with(name, ".pt2") || ends_with(name, ".pte") ||
           (stat(name, &st) == 0 && S_ISREG(st.st_mode));
}

int ctl_cmd_inspect(struct ctl *ctl, int argc, char **argv)
{
    struct inspect in = {.ctl = ctl};
    const struct ctl_option options[] = {
        {'g', "graph", CTL_FLAG, &in.graph, NULL, "print the graph, a node a line", 0, 0},
        {'p', "plan", CTL_FLAG, &in.plan, NULL,
         "print what the native engine makes of it, a step a line", 0, 0},
        {0, "records", CTL_FLAG, &in.records, NULL,
         "list the archive's records (of a file)", 0, 0},
        {0}};
    const struct ctl_usage usage = {
        .usage = "inspect FILE.pt2 | FILE.pte | PROGRAM [options]",
        .about =
            "Say what is in a program.  A file that is here is read and checked here, "
            "without the daemon.",
        .options = options,
        .min_args = 1,
        .max_args = 1};
    const char *args[1];
    int n;

    if (ctl_options(ctl, argc, argv, &usage, args, &n) < 0)
        return -1;
    if (ctl->help)
        return 0;
    if (in.graph + in.plan + in.records > 1)
        return ctl_fail(ctl, CTL_USAGE, "one of --graph, --plan and --records");
    return is_file(args[0]) ? inspect_file(&in, args[0]) : inspect_program(&in, args[0]);
}
