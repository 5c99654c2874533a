#include "jobs/produce.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/sandbox.h"

#include <jansson.h>

/* Sessions' steps come first, and exports before what runs a program as steps do. */
#define EXPORT_NICE 10
#define VERIFY_NICE 19

static struct child_task child_of(const struct produce_task *task, const char *what,
                                  const char *const *argv, const char *input,
                                  int64_t begun_ms)
{
    return (struct child_task){.what = what,
                               .path = task->export_path,
                               .argv = argv,
                               .input = input,
                               .begun_ms = begun_ms,
                               .timeout_ms = task->timeout_ms,
                               .nice = EXPORT_NICE,
                               .stop_fd = task->stop_fd,
                               .progress = task->progress,
                               .ctx = task->ctx};
}

static int export_it(const struct produce_task *task, int64_t begun_ms,
                     struct child_end *ret_end, struct pt2_err *err)
{
    const char *argv[] = {"pt2-export", "--job",      task->model_dir,
                          "-o",         task->output, NULL};
    struct child_task child =
        child_of(task, "the export worker", argv, task->options, begun_ms);

    child.max_address_bytes = task->max_memory_bytes;
    child.deny = SANDBOX_NO_NETWORK;
    return child_run(&child, ret_end, err);
}

/* The file is mapped as a whole, beside what the limit was made for. */
static uint64_t pte_address_bytes(const struct produce_task *task, const json_t *result)
{
    json_int_t bytes = json_integer_value(json_object_get(result, "bytes"));
    uint64_t most;

    if (task->max_memory_bytes == 0 || bytes < 0 ||
        !size_add(task->max_memory_bytes, (uint64_t)bytes, &most))
        return 0;
    return most;
}

static void not_a_result(struct child_end *end, const char *what)
{
    end->outcome = CHILD_DIED;
    snprintf(end->text, sizeof(end->text), "%s sent a result that is none", what);
}

/* *end holds what the first child said, and then that with its "pte". */
static int make_pte(const struct produce_task *task, const json_t *options,
                    int64_t begun_ms, struct child_end *end, struct pt2_err *err)
{
    const char *argv[] = {"pt2-export", "--pte-job",      task->output,
                          "-o",         task->pte_output, NULL};
    AUTO_PTR char *input = json_to_text(json_object_get(options, "pte"), JSON_COMPACT);
    json_auto_t *exported = TAKE(end->result);
    struct child_task child =
        child_of(task, "the worker that makes the .pte", argv, input, begun_ms);
    int r;

    child.max_address_bytes = pte_address_bytes(task, exported);
    child.deny = SANDBOX_NO_NETWORK;
    r = input ? child_run(&child, end, err)
              : pt2_err_set(err, PT2_ERR_NOMEM, "an ExecuTorch program's options");
    if (r < 0 || end->outcome != CHILD_DONE)
        return r;
    if (!json_is_string(json_object_get(end->result, "sha256")) ||
        !json_is_integer(json_object_get(end->result, "bytes"))) {
        not_a_result(end, child.what);
        return 0;
    }
    if (json_object_set(exported, "pte", end->result) < 0)
        return pt2_err_set(err, PT2_ERR_NOMEM, "an ExecuTorch program's facts");
    json_decref(end->result);
    end->result = TAKE(exported);
    return 0;
}

/* What --verify-job reads; NULL: out of memory, or result is none. */
static char *verify_input(const struct produce_task *task, json_int_t n_tokens,
                          const json_t *result)
{
    const json_t *options = json_object_get(result, "options");
    json_auto_t *input = json_pack(
        "{s:O?, s:O?, s:I, s:I, s:I, s:I}", "program", json_object_get(result, "sha256"),
        "dtype", json_object_get(options, "dtype"), "verify", n_tokens, "threads",
        (json_int_t)task->engine.n_threads, "max_step_bytes",
        (json_int_t)MIN(task->engine.max_step_bytes, (uint64_t)INT64_MAX),
        "step_timeout_s", (json_int_t)task->engine.step_timeout_s);

    return input ? json_to_text(input, JSON_COMPACT) : NULL;
}

/* *end holds what the first child said, and then what both did. */
static int verify_it(const struct produce_task *task, json_int_t n_tokens,
                     int64_t begun_ms, struct child_end *end, struct pt2_err *err)
{
    const char *argv[] = {"pt2-export", "--verify-job", task->output, NULL};
    AUTO_PTR char *input = verify_input(task, n_tokens, end->result);
    json_auto_t *exported = TAKE(end->result);
    struct child_task child =
        child_of(task, "the worker that verifies", argv, input, begun_ms);
    int r;

    child.deny = SANDBOX_NO_NETWORK | SANDBOX_HAS_CHILDREN;
    child.nice = VERIFY_NICE;
    r = input ? child_run(&child, end, err)
              : pt2_err_set(err, PT2_ERR_NOMEM, "a verification's input");
    if (r < 0 || end->outcome != CHILD_DONE)
        return r;
    if (!json_is_string(json_object_get(end->result, "sha256")) ||
        !json_is_integer(json_object_get(end->result, "bytes")) ||
        !json_is_object(json_object_get(end->result, "verify"))) {
        not_a_result(end, child.what);
        return 0;
    }
    if (json_object_update(exported, end->result) < 0)
        return pt2_err_set(err, PT2_ERR_NOMEM, "a verification's result");
    json_decref(end->result);
    end->result = TAKE(exported);
    return 0;
}

int produce(const struct produce_task *task, struct child_end *ret_end,
            struct pt2_err *err)
{
    json_auto_t *options = json_of_text(task->options);
    json_int_t n_tokens = json_integer_value(json_object_get(options, "verify"));
    int64_t begun_ms = clock_mono_ms();
    struct child_end end = {0};

    if (!options)
        return pt2_err_set(err, PT2_ERR_NOMEM, "an export's options");
    if (export_it(task, begun_ms, &end, err) < 0)
        return -1;
    if (task->pte_output && end.outcome == CHILD_DONE &&
        make_pte(task, options, begun_ms, &end, err) < 0) {
        child_end_done(&end);
        return -1;
    }
    if (n_tokens > 0 && end.outcome == CHILD_DONE &&
        verify_it(task, n_tokens, begun_ms, &end, err) < 0) {
        child_end_done(&end);
        return -1;
    }
    *ret_end = end;
    return 0;
}
