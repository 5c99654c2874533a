#include "base/clock.h"
#include "base/json.h"
#include "jobs/impl.h"

static json_t *time_json(int64_t ms)
{
    char text[CLOCK_TEXT_SIZE];

    if (!ms)
        return json_null();
    clock_to_text(ms, text);
    return json_string(text);
}

static json_t *parsed(const char *text)
{
    return text ? json_of_text(text) : json_null();
}

static json_t *progress_json(const struct job_row *row, const struct run *run)
{
    const char *stage = "queued";
    int64_t done = 0, total = 0;

    if (job_is_finished(row->state)) {
        stage = "finished";
        done = total = 1;
    } else if (row->state == JOB_RUNNING && run) {
        stage = run->stage;
        done = run->done;
        total = run->total;
    }
    return json_pack("{s:s, s:I, s:I}", "stage", stage, "done", (json_int_t)done, "total",
                     (json_int_t)total);
}

json_t *job_to_json(const struct job_row *row, const struct run *run)
{
    return json_pack(
        "{s:s, s:s, s:s, s:o, s:o, s:b, s:s?, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
        "id",
        row->id, "state", job_state_name(row->state), "model", row->model, "options",
        parsed(row->options), "progress", progress_json(row, run), "cached",
        (int)row->cached, "program", row->program[0] ? row->program : NULL, "deviations",
        parsed(row->deviations), "verify", parsed(row->verify), "pte", parsed(row->pte),
        "error", parsed(row->error), "created",
        time_json(row->created_ms), "started", time_json(row->started_ms), "finished",
        time_json(row->finished_ms), "labels", parsed(row->labels));
}
