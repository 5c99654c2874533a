/* pt2-export.c - the exporter as a command, and as the worker of the daemon's export
 * jobs.
 *
 * As a worker (--job) it reads one JSON object from standard input and answers in JSON
 * lines: {"progress": {...}} any number of times, then {"result": {...}} and status 0, or
 * {"error": {a problem object}} and status 1.  What it wrote is verified by another such
 * process (--verify-job), since the first one may start no engine's worker; and a .pte is
 * made of it by another (--pte-job), since that maps the file.  Before a worker looks at
 * what it was given, it opens what it writes and enters its sandbox (doc/sandbox.md). */
#include "base/buf.h"
#include "base/json.h"
#include "base/sha256.h"
#include "cmd/export_file.h"
#include "cmd/export_flags.h"
#include "cmd/export_pte.h"
#include "cmd/export_sandbox.h"
#include "cmd/export_verify.h"
#include "export/request.h"

#include <errno.h>
#include <fcntl.h>
#include <pt2/checkpoint.h>
#include <pt2/export.h>
#include <time.h>

#define MAX_JOB_BYTES ((size_t)16 << 20) /* of the options on standard input */
#define PROGRESS_MS   100                /* at least, between two reports */

struct run {
    struct export_flags flags;
    bool is_tty;
    int64_t last_ms; /* of a report */
    struct json_problems problems;
    json_t *verified; /* how the verification went; NULL: there was none */
    struct export_pte pte;
    int output_fd; /* of a worker; borrowed */
};

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Print value (taken) as one line of JSON. */
static void print_json(json_t *value)
{
    char *text = value ? json_to_text(value, JSON_COMPACT) : NULL;

    puts(text ? text
              : "{\"error\":{\"type\":\"/problems/out-of-memory\",\"status\":503}}");
    fflush(stdout);
    free(text);
    json_decref(value);
}

/* ---- progress ---- */

static void show_progress(void *ctx, const char *stage, uint64_t done, uint64_t total)
{
    struct run *run = ctx;
    int64_t now = now_ms();

    if (now - run->last_ms < PROGRESS_MS && done < total)
        return;
    run->last_ms = now;
    if (run->flags.job)
        print_json(json_pack("{s:{s:s, s:I, s:I}}", "progress", "stage", stage, "done",
                             (json_int_t)done, "total", (json_int_t)total));
    else if (run->is_tty && !run->flags.quiet)
        fprintf(stderr, "\r%s: %3u%%", stage,
                (unsigned)(total ? done * 100 / total : 100));
}

static void end_progress(const struct run *run)
{
    if (run->is_tty && !run->flags.quiet && !run->flags.job)
        fputs("\r\033[K", stderr);
}

/* ---- the end ---- */

static json_t *problem_of(const struct run *run, const struct pt2_err *err)
{
    char type[80];
    json_t *problem;

    snprintf(type, sizeof(type), "/problems/%s", pt2_error_name(err->code));
    problem = json_pack("{s:s, s:s, s:i, s:o}", "type", type, "title",
                        pt2_error_title(err->code), "status", pt2_error_status(err->code),
                        "detail", json_string_lossy(err->text));
    if (problem && run->problems.errors)
        json_object_set(problem, "errors", run->problems.errors);
    return problem;
}

static void print_problems(const struct run *run)
{
    const json_t *item;
    size_t i;

    json_array_foreach (run->problems.errors, i, item) {
        const char *pointer = json_string_value(json_object_get(item, "pointer"));
        const char *detail = json_string_value(json_object_get(item, "detail"));

        fprintf(stderr, "pt2-export: %s: %s\n", export_flag_of(pointer ? pointer : ""),
                detail ? detail : "?");
    }
}

static int fail(const struct run *run, const struct pt2_err *err)
{
    export_file_drop();
    if (run->flags.job)
        print_json(json_pack("{s:o}", "error", problem_of(run, err)));
    else if (run->flags.json)
        print_json(problem_of(run, err));
    else if (run->problems.n > 0)
        print_problems(run);
    else
        fprintf(stderr, "pt2-export: %s\n", err->text);
    return 1;
}

static void print_verified(const json_t *verified)
{
    const json_t *most = json_object_get(verified, "largest_difference");
    long long n = json_integer_value(json_object_get(verified, "tokens"));

    if (json_is_null(most))
        printf("verified: %lld tokens, with nothing to compare them with\n", n);
    else
        printf("verified: %lld tokens; logits up to %g differ by %g at most\n", n,
               json_number_value(json_object_get(verified, "largest_logit")),
               json_number_value(most));
}

/* What is, or would be, in the .pte. */
static void print_pte(const struct pt2_export *exp)
{
    struct pt2_pte_facts pte = pt2_export_pte_facts(exp);

    printf("pte: %s, %u instructions, %u delegates, an arena of %llu bytes\n",
           pt2_pte_backend_name(pt2_export_resolved(exp)->pte.backend),
           pte.n_instructions, pte.n_delegates, (unsigned long long)pte.arena_bytes);
}

static uint64_t output_bytes(const struct pt2_export *exp)
{
    return pt2_export_resolved(exp)->format == PT2_FORMAT_PTE
               ? pt2_export_pte_facts(exp).file_bytes
               : pt2_export_program_bytes(exp);
}

/* For people. */
static void print_summary(const struct run *run, const struct pt2_export *exp,
                          const char *hex)
{
    const struct pt2_export_options *o = pt2_export_resolved(exp);
    int64_t n_tokens =
        o->dynamic_shapes ? pt2_program_range(pt2_export_program(exp), 0)->max : o->seq_len;

    for (size_t i = 0; i < pt2_export_n_deviations(exp); i++)
        fprintf(stderr, "pt2-export: note: %s\n", pt2_export_deviation(exp, i));
    printf("%s: %s, %llu parameters, %llu bytes\n",
           hex ? run->flags.output : run->flags.model_dir, pt2_dtype_name(o->dtype),
           (unsigned long long)pt2_export_n_parameters(exp),
           (unsigned long long)output_bytes(exp));
    printf("cache: batch %lld, %lld positions, %llu bytes; %s%lld token%s a call\n",
           (long long)o->batch_size, (long long)o->max_cache_len,
           (unsigned long long)pt2_export_cache_bytes(exp),
           o->dynamic_shapes ? "1 to " : "", (long long)n_tokens,
           n_tokens > 1 ? "s" : "");
    if (o->format == PT2_FORMAT_PTE)
        print_pte(exp);
    if (run->verified)
        print_verified(run->verified);
    if (hex)
        printf("sha256: %s\n", hex);
}

/* Of the file that there is now. */
static void set_file(const struct run *run, const struct pt2_export *exp, const char *hex,
                     uint64_t bytes, json_t *summary)
{
    if (pt2_export_resolved(exp)->format == PT2_FORMAT_PTE && !run->flags.job) {
        json_object_set_new(summary, "pte", export_pte_to_json(&run->pte));
        return;
    }
    json_object_set_new(summary, "sha256", json_string(hex));
    json_object_set_new(summary, "bytes", json_integer((json_int_t)bytes));
}

/* sha256 is NULL after a dry run. */
static void succeed(const struct run *run, const struct pt2_export *exp,
                    const uint8_t *sha256, uint64_t bytes)
{
    json_t *summary = NULL;
    char hex[SHA256_HEX];

    if (sha256)
        sha256_to_hex(sha256, hex);
    if (!run->flags.job && !run->flags.json) {
        print_summary(run, exp, sha256 ? hex : NULL);
        return;
    }
    summary = export_summary_to_json(exp);
    json_object_set_new(summary, "exporter", json_string(pt2_exporter_version()));
    if (sha256)
        set_file(run, exp, hex, bytes, summary);
    if (run->verified)
        json_object_set(summary, "verify", run->verified);
    print_json(run->flags.job && summary ? json_pack("{s:o}", "result", summary)
                                         : summary);
}

/* ---- the run ---- */

static int read_stdin(json_t **ret_body, struct pt2_err *err)
{
    AUTO_BUF b = BUF_INIT(MAX_JOB_BYTES);
    char chunk[8192];
    size_t n;

    while ((n = fread(chunk, 1, sizeof(chunk), stdin)) > 0)
        buf_add(&b, chunk, n);
    if (ferror(stdin))
        return pt2_err_errno(err, PT2_ERR_IO, "read the options");
    if (buf_failed(&b))
        return pt2_err_set(err, PT2_ERR_TOO_LARGE, "the options are beyond %zu bytes",
                           MAX_JOB_BYTES);
    return json_parse(b.data ? b.data : "", b.len, ret_body, err);
}

/* sha256 and *bytes are those of the file without its record, then with it. */
static int verify_file(struct run *run, const struct pt2_export_options *options,
                       uint8_t *sha256, uint64_t *bytes, struct pt2_err *err)
{
    struct export_verify verify = {.path = export_file_path(),
                                   .dtype = options->dtype,
                                   .n_tokens = options->verify,
                                   .progress = show_progress,
                                   .ctx = run};
    struct export_verified verified;

    memcpy(verify.program, sha256, SHA256_BYTES);
    if (export_verify(&verify, &verified, err) < 0)
        return -1;
    memcpy(sha256, verified.sha256, SHA256_BYTES);
    *bytes = verified.bytes;
    run->verified = verified.result;
    return 0;
}

/* The .pt2 is a file on the way, without a name and a digest. */
static int write_pte(struct run *run, struct pt2_export *exp, int fd, uint8_t *sha256,
                     uint64_t *ret_bytes, struct pt2_err *err)
{
    AUTO_FD int archive = -1;

    run->pte.options = pt2_export_resolved(exp)->pte;
    if (export_file_unnamed(run->flags.output, &archive, err) < 0 ||
        pt2_export_write(exp, archive, show_progress, run, /* ret_sha256= */ NULL, ret_bytes,
                         err) < 0 ||
        export_pte(&run->pte, archive, fd, show_progress, run, err) < 0)
        return -1;
    memcpy(sha256, run->pte.sha256, SHA256_BYTES);
    *ret_bytes = run->pte.bytes;
    return 0;
}

static int write_file(struct run *run, struct pt2_export *exp, uint8_t *sha256,
                      uint64_t *ret_bytes, struct pt2_err *err)
{
    const struct pt2_export_options *options = pt2_export_resolved(exp);
    int fd = run->output_fd, r = 0;

    if (!run->flags.job)
        r = export_file_begin(run->flags.output, &fd, err);
    if (r == 0 && options->format == PT2_FORMAT_PTE && !run->flags.job)
        r = write_pte(run, exp, fd, sha256, ret_bytes, err);
    else if (r == 0)
        r = pt2_export_write(exp, fd, show_progress, run, sha256, ret_bytes, err);
    if (r == 0 && options->verify > 0 && !run->flags.job)
        r = verify_file(run, options, sha256, ret_bytes, err);
    end_progress(run);
    return r < 0 ? -1 : export_file_finish(run->flags.sync || run->flags.job, err);
}

static int export_model(struct run *run, const struct pt2_checkpoint *checkpoint,
                        const struct export_request *request, struct pt2_err *err)
{
    struct pt2_export *exp = NULL;
    uint8_t sha256[SHA256_BYTES];
    uint64_t bytes = 0;
    int r = 0;

    if (pt2_export_new(checkpoint, &request->options, &exp, err) < 0)
        return -1;
    if (!request->dry_run)
        r = write_file(run, exp, sha256, &bytes, err);
    if (r == 0)
        succeed(run, exp, request->dry_run ? NULL : sha256, bytes);
    pt2_export_free(exp);
    return r;
}

static int run_verify_job(struct run *run, struct pt2_err *err)
{
    json_auto_t *from_stdin = NULL;
    struct export_verified verified;
    struct export_verify verify;
    char hex[SHA256_HEX];

    if (read_stdin(&from_stdin, err) < 0 ||
        export_verify_parse(from_stdin, &run->problems, &verify, err) < 0 ||
        export_sandbox_verify(run->flags.model_dir, err) < 0)
        return -1;
    verify.path = run->flags.model_dir;
    verify.progress = show_progress;
    verify.ctx = run;
    if (export_verify(&verify, &verified, err) < 0)
        return -1;
    sha256_to_hex(verified.sha256, hex);
    print_json(json_pack("{s:{s:s, s:I, s:o}}", "result", "sha256", hex, "bytes",
                         (json_int_t)verified.bytes, "verify", verified.result));
    return 0;
}

static int run_pte_job(struct run *run, struct pt2_err *err)
{
    AUTO_FD int from = open(run->flags.model_dir, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    json_auto_t *from_stdin = NULL;
    int fd;

    if (from < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "'%s'", run->flags.model_dir);
    if (read_stdin(&from_stdin, err) < 0 ||
        export_pte_parse(from_stdin, &run->problems, &run->pte, err) < 0 ||
        export_file_begin_in_place(run->flags.output, &fd, err) < 0 ||
        export_sandbox_open_files(err) < 0 ||
        export_pte(&run->pte, from, fd, show_progress, run, err) < 0 ||
        export_file_finish(/* sync= */ true, err) < 0)
        return -1;
    print_json(json_pack("{s:o}", "result", export_pte_to_json(&run->pte)));
    return 0;
}

/* Open what is written, and give up all else but the checkpoint. */
static int enter_sandbox(struct run *run, bool dry_run, struct pt2_err *err)
{
    if (!dry_run &&
        export_file_begin_in_place(run->flags.output, &run->output_fd, err) < 0)
        return -1;
    return export_sandbox_checkpoint(run->flags.model_dir, err);
}

/* Verifying runs the .pt2, and says so in it. */
static int check_verify(const struct run *run, const struct export_request *request,
                        struct pt2_err *err)
{
    const struct pt2_export_options *o = &request->options;

    if (run->flags.job || o->format != PT2_FORMAT_PTE || o->verify == 0)
        return 0;
    return pt2_err_set(err, PT2_ERR_INVALID,
                       "--verify runs a .pt2, and with --format pte none is kept: verify "
                       "an export of profile edge");
}

static int run_export(struct run *run, struct pt2_err *err)
{
    json_auto_t *from_stdin = NULL;
    struct pt2_checkpoint *checkpoint;
    struct export_request request;
    int r;

    if (run->flags.job && read_stdin(&from_stdin, err) < 0)
        return -1;
    if (export_request_parse(run->flags.job ? from_stdin : run->flags.body,
                             /* wants_model= */ false, &run->problems, &request, err) < 0)
        return -1;
    if (run->flags.seq_len > 0)
        request.options.seq_len = run->flags.seq_len;
    if (check_verify(run, &request, err) < 0)
        return -1;
    if (!run->flags.output && !request.dry_run)
        return pt2_err_set(err, PT2_ERR_INVALID, "no file to write was given");
    if (run->flags.job && enter_sandbox(run, request.dry_run, err) < 0)
        return -1;
    if (pt2_checkpoint_open(run->flags.model_dir, &checkpoint, err) < 0)
        return -1;
    r = export_model(run, checkpoint, &request, err);
    pt2_checkpoint_free(checkpoint);
    return r;
}

int main(int argc, char **argv)
{
    struct run run = {.is_tty = isatty(STDERR_FILENO)};
    struct pt2_err err = {0};
    int status = export_flags_parse(argc, argv, &run.flags);

    if (status >= 0)
        return status;
    if ((run.flags.verify_job ? run_verify_job
         : run.flags.pte_job  ? run_pte_job
                              : run_export)(&run, &err) < 0)
        status = fail(&run, &err);
    else
        status = 0;
    if (status == 0 && (fflush(stdout) != 0 || ferror(stdout)))
        status = 1;
    json_problems_done(&run.problems);
    json_decref(run.verified);
    if (run.flags.job)
        _exit(status); /* a leak check at exit opens files */
    export_flags_done(&run.flags);
    export_file_drop();
    return status;
}
