#include "http/alias_json.h"

#include "base/clock.h"
#include "store/programs.h"

json_t *alias_to_json(const struct alias *alias)
{
    char changed[CLOCK_TEXT_SIZE];

    clock_to_text(alias->changed_ms, changed);
    return json_pack("{s:s, s:s, s:s}", "name", alias->name, "program", alias->program,
                     "changed", changed);
}

void alias_read(const json_t *body, const char **ret_program,
                struct json_problems *problems)
{
    struct json_obj o;

    json_obj_begin(&o, body, "", problems);
    json_require(&o, "program");
    json_get_string(&o, "program", PROGRAM_NAME_MAX, ret_program);
    json_obj_end(&o);
}
