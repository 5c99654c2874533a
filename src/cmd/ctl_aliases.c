/* ctl_aliases.c - pt2ctl aliases */
#include "cmd/ctl.h"
#include "cmd/ctl_http.h"
#include "cmd/ctl_show.h"

static void print_aliases(const json_t *aliases)
{
    static const char *const titles[] = {"ALIAS", "PROGRAM"};
    AUTO(table) table = table_new(ARRAY_LEN(titles), titles);
    json_t *alias;
    size_t i;

    json_array_foreach (aliases, i, alias) {
        table_add_member(table, alias, "name");
        table_add_member(table, alias, "program");
    }
    table_print(table, "no aliases");
}

static int list(struct ctl *ctl)
{
    json_auto_t *aliases = NULL;

    if (ctl_list(ctl, "/v1/aliases", &aliases) < 0)
        return -1;
    if (ctl->json)
        return show_json(ctl, aliases);
    print_aliases(aliases);
    return 0;
}

static int point(struct ctl *ctl, const char *name, const char *program)
{
    AUTO_PTR char *path = ctl_path("/v1/aliases/%s", name);
    json_auto_t *alias = NULL;

    if (ctl_json(ctl, "PUT", path, json_pack("{s:s}", "program", program), &alias) < 0)
        return -1;
    if (ctl->json && alias)
        return show_json(ctl, alias);
    show_line(name, "%s", json_string_value(json_object_get(alias, "program")));
    return 0;
}

int ctl_cmd_aliases(struct ctl *ctl, int argc, char **argv)
{
    bool is_delete = false;
    const struct ctl_option options[] = {
        {0, "delete", CTL_FLAG, &is_delete, NULL, "forget the name", 0, 0}, {0}};
    const struct ctl_usage usage = {
        .usage = "aliases [NAME PROGRAM | NAME --delete]",
        .about =
            "List the names for programs, let one point to a program, or forget one.",
        .options = options,
        .max_args = 2};
    const char *args[2];
    AUTO_PTR char *path = NULL;
    int n;

    if (ctl_options(ctl, argc, argv, &usage, args, &n) < 0)
        return -1;
    if (ctl->help)
        return 0;
    if (n == 0 && !is_delete)
        return list(ctl);
    if (n == 2 && !is_delete)
        return point(ctl, args[0], args[1]);
    if (n != 1 || !is_delete)
        return ctl_fail(ctl, CTL_USAGE, "usage: pt2ctl %s", usage.usage);
    path = ctl_path("/v1/aliases/%s", args[0]);
    return ctl_json(ctl, "DELETE", path, NULL, NULL);
}
