#include "verify/record.h"

#include "base/json.h"
#include "base/log.h"

#include <stdarg.h>

uint32_t verify_seed(const uint8_t program[SHA256_BYTES])
{
    return (uint32_t)program[0] << 24 | (uint32_t)program[1] << 16 |
           (uint32_t)program[2] << 8 | program[3];
}

/* ---- a job's ---- */

static json_t *run_json(const struct verify_result *result, enum verify_run run)
{
    const struct verify_limits *limits = &result->runs[run].limits;
    const struct comparison *c = &result->runs[run].comparison;

    if (!result->runs[run].is_made)
        return json_pack("{s:i, s:n, s:n, s:n, s:n, s:o}", "rows", 0, "largest_difference",
                         "largest_logit", "rms", "limits", "reason",
                         json_string_lossy(result->runs[run].reason));
    return json_pack("{s:I, s:f, s:f, s:f, s:{s:f, s:f}, s:n}", "rows",
                     (json_int_t)c->n_rows, "largest_difference", c->difference,
                     "largest_logit", c->logit, "rms", comparison_rms(c), "limits",
                     "largest", limits->largest, "rms", limits->rms, "reason");
}

/* The comparison that is furthest off; NULL where there is none. */
static const struct comparison *worst(const struct verify_result *result)
{
    const struct comparison *most = NULL;

    for (size_t i = 0; i < VERIFY_N_RUNS; i++) {
        const struct comparison *c = &result->runs[i].comparison;

        if (c->n_rows > 0 && (!most || comparison_ratio(c) > comparison_ratio(most)))
            most = c;
    }
    return most;
}

json_t *verify_result_json(const struct verify_result *result, double seconds)
{
    const struct comparison *most = worst(result);
    const size_t shortages = json_shortages();
    json_t *runs = json_object(), *json;

    for (size_t i = 0; i < VERIFY_N_RUNS; i++)
        if (i != result->reference)
            json_object_set_new(runs, verify_run_name(i), run_json(result, i));
    json = json_pack("{s:I, s:I, s:I, s:s, s:s, s:o, s:o, s:o, s:f}", "tokens",
                     (json_int_t)result->n_tokens, "batch_size",
                     (json_int_t)result->batch_size, "seed", (json_int_t)result->seed,
                     "dtype", pt2_dtype_name(result->dtype), "reference",
                     verify_run_name(result->reference), "largest_difference",
                     most ? json_real(most->difference) : json_null(), "largest_logit",
                     most ? json_real(most->logit) : json_null(), "runs", runs, "seconds",
                     seconds);
    return json_if_whole(json, shortages);
}

/* ---- the archive's ---- */

struct text {
    char *at;
    size_t len;
};

static void add(struct text *text, const char *fmt, ...) PT2_PRINTF(2, 3);
static void add(struct text *text, const char *fmt, ...)
{
    size_t room = PT2_VERIFY_RECORD_BYTES - text->len;
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(text->at + text->len, room, fmt, ap);
    va_end(ap);
    ASSERT(n >= 0 && (size_t)n < room);
    text->len += (size_t)n;
}

void verify_record_text(const struct verify_result *result,
                        const uint8_t program[SHA256_BYTES],
                        char ret_text[PT2_VERIFY_RECORD_BYTES])
{
    struct text text = {.at = ret_text};
    const char *comma = "";
    char hex[SHA256_HEX];

    sha256_to_hex(program, hex);
    add(&text,
        "{\n  \"program\": \"%s\",\n  \"tokens\": %lld,\n  \"batch_size\": %lld,\n"
        "  \"seed\": %lu,\n  \"dtype\": \"%s\",\n  \"reference\": \"%s\",\n  \"runs\": {",
        hex, (long long)result->n_tokens, (long long)result->batch_size,
        (unsigned long)result->seed, pt2_dtype_name(result->dtype),
        verify_run_name(result->reference));
    for (size_t i = 0; i < VERIFY_N_RUNS; i++) {
        const struct comparison *c = &result->runs[i].comparison;

        if (i == result->reference)
            continue;
        add(&text, "%s\n    \"%s\": ", comma, verify_run_name(i));
        comma = ",";
        if (result->runs[i].is_made)
            add(&text,
                "{\"rows\": %lld, \"largest_within\": %.1g, \"rms_within\": %.1g}",
                (long long)c->n_rows, ratio_round_up(comparison_ratio(c)),
                ratio_round_up(comparison_rms(c)));
        else
            add(&text, "null");
    }
    add(&text, "\n  }\n}");
    memset(ret_text + text.len, ' ', PT2_VERIFY_RECORD_BYTES - text.len);
    ret_text[PT2_VERIFY_RECORD_BYTES - 1] = '\n';
}
