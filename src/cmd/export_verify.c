#include "cmd/export_verify.h"

#include "base/clock.h"
#include "verify/record.h"
#include "verify/verify.h"

#include <fcntl.h>
#include <pt2/archive.h>
#include <pt2/export.h>

/* ---- what the daemon asks for ---- */

static void get_program(struct json_obj *o, struct export_verify *v)
{
    const char *hex;

    json_require(o, "program");
    if (json_get_string(o, "program", SHA256_HEX - 1, &hex) &&
        !sha256_from_hex(hex, v->program))
        json_problem(o->problems, "/program", "must be 64 lower-case hex digits");
}

static void get_dtype(struct json_obj *o, struct export_verify *v)
{
    const char *name;

    json_require(o, "dtype");
    if (!json_get_string(o, "dtype", 32, &name))
        return;
    v->dtype = pt2_dtype_from_name(name);
    if (v->dtype == PT2_DTYPE_NONE)
        json_problem(o->problems, "/dtype", "is no dtype");
}

int export_verify_parse(const json_t *body, struct json_problems *problems,
                        struct export_verify *ret_verify, struct pt2_err *err)
{
    int64_t threads = 0, step_bytes = 0, timeout = 0;
    struct export_verify v = {0};
    struct json_obj o;

    json_obj_begin(&o, body, "", problems);
    get_program(&o, &v);
    get_dtype(&o, &v);
    json_require(&o, "verify");
    json_get_int(&o, "verify", 1, PT2_EXPORT_MAX_VERIFY, &v.n_tokens);
    json_get_int(&o, "threads", 0, INT32_MAX, &threads);
    json_get_int(&o, "max_step_bytes", 0, INT64_MAX, &step_bytes);
    json_get_int(&o, "step_timeout_s", 0, INT32_MAX, &timeout);
    json_obj_end(&o);
    if (json_problems_any(problems))
        return json_problems_to_err(problems, PT2_ERR_INVALID, err);
    v.engine.n_threads = (unsigned)threads;
    v.engine.max_step_bytes = (uint64_t)step_bytes;
    v.engine.step_timeout_s = (unsigned)timeout;
    *ret_verify = v;
    return 0;
}

/* ---- the work ---- */

/* Behind the last record, in a file that is still the one that was verified. */
static int add_record(struct pt2_writer *writer, const struct export_verify *v,
                      const uint8_t was[SHA256_BYTES],
                      const struct verify_result *result,
                      struct export_verified *verified, struct pt2_err *err)
{
    char text[PT2_VERIFY_RECORD_BYTES];

    if (memcmp(was, v->program, SHA256_BYTES) != 0)
        return pt2_err_set(err, PT2_ERR_BAD_ARCHIVE,
                           "'%s' does not hold the bytes that were written", v->path);
    verify_record_text(result, v->program, text);
    if (pt2_writer_record(writer, PT2_VERIFY_RECORD, text, sizeof(text), 1, err) < 0)
        return -1;
    return pt2_writer_finish(writer, verified->sha256, &verified->bytes, err);
}

static int record_result(const struct export_verify *v, const struct verify_result *result,
                         struct export_verified *verified, struct pt2_err *err)
{
    AUTO_FD int fd = open(v->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    struct pt2_writer *writer = NULL;
    uint8_t was[SHA256_BYTES];
    int r;

    if (fd < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "'%s'", v->path);
    if (pt2_writer_reopen(fd, &writer, was, err) < 0)
        return -1;
    r = add_record(writer, v, was, result, verified, err);
    pt2_writer_free(writer);
    if (r == 0 && fsync(fd) < 0)
        return pt2_err_errno(err, PT2_ERR_IO, "sync '%s'", v->path);
    return r;
}

static void show_progress(void *ctx, int64_t done, int64_t total)
{
    const struct export_verify *v = ctx;

    if (v->progress)
        v->progress(v->ctx, "verifying", (uint64_t)done, (uint64_t)total);
}

int export_verify(const struct export_verify *v, struct export_verified *ret_verified,
                  struct pt2_err *err)
{
    const struct verify_task task = {.path = v->path,
                                     .dtype = v->dtype,
                                     .n_tokens = v->n_tokens,
                                     .seed = verify_seed(v->program),
                                     .engine = v->engine,
                                     .progress = show_progress,
                                     .ctx = (void *)v};
    int64_t begin_ms = clock_mono_ms();
    struct export_verified verified = {0};
    struct verify_result result;

    show_progress((void *)v, 0, v->n_tokens); /* engines take their time to begin */
    if (verify_program(&task, &result, err) < 0 ||
        record_result(v, &result, &verified, err) < 0)
        return -1;
    verified.result =
        verify_result_json(&result, (double)(clock_mono_ms() - begin_ms) / 1000);
    if (!verified.result)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a verification's result");
    *ret_verified = verified;
    return 0;
}
