/* ctl_models.c - pt2ctl models */
#include "cmd/ctl.h"
#include "cmd/ctl_http.h"
#include "cmd/ctl_show.h"

static void print_model(const json_t *model)
{
    static const char *const members[] = {"id",
                                          "model_type",
                                          "architecture",
                                          "dtype",
                                          "parameters",
                                          "bytes",
                                          "max_position_embeddings",
                                          "vocab_size",
                                          "exportable",
                                          "reason"};

    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        show_member(model, members[i]);
}

static void print_models(const json_t *models)
{
    static const char *const titles[] = {"MODEL", "TYPE",      "DTYPE",     "PARAMETERS",
                                         "SIZE",  "POSITIONS", "EXPORTABLE"};
    AUTO(table) table = table_new(ARRAY_LEN(titles), titles);
    json_t *model;
    size_t i;

    json_array_foreach (models, i, model) {
        const json_t *reason = json_object_get(model, "reason");

        table_add_member(table, model, "id");
        table_add_member(table, model, "model_type");
        table_add_member(table, model, "dtype");
        table_add_member(table, model, "parameters");
        table_add_bytes(table, json_integer_value(json_object_get(model, "bytes")));
        table_add_member(table, model, "max_position_embeddings");
        if (json_is_string(reason))
            table_add(table, json_string_value(reason));
        else
            table_add_member(table, model, "exportable");
    }
    table_print(table, "no models");
}

int ctl_cmd_models(struct ctl *ctl, int argc, char **argv)
{
    static const struct ctl_usage usage = {
        .usage = "models [MODEL]",
        .about = "List the checkpoints that the daemon can export, or show one.",
        .max_args = 1};
    const char *args[1];
    AUTO_PTR char *path = NULL;
    json_auto_t *answer = NULL;
    int n;

    if (ctl_options(ctl, argc, argv, &usage, args, &n) < 0 || ctl->help)
        return ctl->help ? 0 : -1;
    path = n ? ctl_path("/v1/models/%s", args[0]) : strdup("/v1/models");
    if ((n ? ctl_json(ctl, "GET", path, NULL, &answer) : ctl_list(ctl, path, &answer)) <
        0)
        return -1;
    if (ctl->json)
        return show_json(ctl, answer);
    if (n)
        print_model(answer);
    else
        print_models(answer);
    return 0;
}
