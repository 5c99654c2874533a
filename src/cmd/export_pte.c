#include "cmd/export_pte.h"

#include "export/request.h"

/* pt2_pte_progress has no stage. */
struct relay {
    pt2_export_progress *progress;
    void *ctx;
};

static void relay_progress(void *ctx, uint64_t done, uint64_t total)
{
    const struct relay *relay = ctx;

    relay->progress(relay->ctx, "pte", done, total);
}

int export_pte(struct export_pte *pte, int from, int fd, pt2_export_progress *progress,
               void *ctx, struct pt2_err *err)
{
    struct relay relay = {progress, ctx};
    struct pt2_archive *archive = NULL;
    struct pt2_pte *program = NULL;
    int r;

    if (pt2_archive_open_fd(from, "program.pt2", &archive, err) < 0)
        return -1;
    r = pt2_pte_new(archive, &pte->options, &program, err);
    if (r == 0) {
        pte->facts = pt2_pte_facts(program);
        r = pt2_pte_write(program, fd, relay_progress, &relay, pte->sha256, &pte->bytes, err);
    }
    pt2_pte_free(program);
    pt2_archive_free(archive);
    return r;
}

json_t *export_pte_to_json(const struct export_pte *pte)
{
    char hex[SHA256_HEX];

    sha256_to_hex(pte->sha256, hex);
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I}", "backend",
                     pt2_pte_backend_name(pte->options.backend), "sha256", hex, "bytes",
                     (json_int_t)pte->bytes, "instructions",
                     (json_int_t)pte->facts.n_instructions, "delegates",
                     (json_int_t)pte->facts.n_delegates, "arena_bytes",
                     (json_int_t)pte->facts.arena_bytes);
}

int export_pte_parse(const json_t *body, struct json_problems *problems,
                     struct export_pte *ret_pte, struct pt2_err *err)
{
    struct export_pte pte = {0};
    bool custom_ops = false;
    struct json_obj o;

    json_obj_begin(&o, body, "", problems);
    export_request_pte(&o, &pte.options, &custom_ops);
    json_obj_end(&o);
    if (json_problems_any(problems))
        return json_problems_to_err(problems, PT2_ERR_INVALID, err);
    *ret_pte = pte;
    return 0;
}
