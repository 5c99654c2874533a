#include "http/session_body.h"

#include "store/programs.h"

void session_body_open(const json_t *body, int64_t ttl_s, int64_t max_ttl_s,
                       struct serve_call *call, const char **ret_program,
                       struct json_problems *problems)
{
    static const char *const engines[] = {"auto", "native", "aten"};
    static const enum pt2_engine_kind kinds[] = {PT2_ENGINE_AUTO, PT2_ENGINE_NATIVE,
                                                 PT2_ENGINE_ATEN};
    static const char *const dtypes[] = {"program", "int8"};
    size_t engine = 0, dtype = 0;
    struct json_obj o;

    call->open.ttl_s = ttl_s;
    json_obj_begin(&o, body, "", problems);
    json_require(&o, "program");
    json_get_string(&o, "program", PROGRAM_NAME_MAX, ret_program);
    json_get_choice(&o, "engine", engines, ARRAY_LEN(engines), &engine);
    json_get_choice(&o, "cache_dtype", dtypes, ARRAY_LEN(dtypes), &dtype);
    json_get_int(&o, "ttl", 1, max_ttl_s, &call->open.ttl_s);
    json_get_labels(&o, "labels", &call->open.labels);
    json_obj_end(&o);
    call->open.kind = kinds[engine];
    if (dtype == 1) { /* what native refuses has none: no use to ask for the other engine */
        if (kinds[engine] == PT2_ENGINE_ATEN)
            json_problem(problems, "/cache_dtype",
                         "must be program on the engine aten, whose ops compute with the "
                         "program's dtype");
        call->open.kind = PT2_ENGINE_NATIVE;
        call->open.cache_dtype = PT2_INT8;
    }
}

void session_body_fork(const json_t *body, int64_t max_cache_len, int64_t max_ttl_s,
                       struct serve_call *call, struct json_problems *problems)
{
    struct json_obj o;

    call->fork.position = call->fork.ttl_s = -1;
    json_obj_begin(&o, body, "", problems);
    json_get_int(&o, "position", 0, max_cache_len, &call->fork.position);
    json_get_int(&o, "ttl", 1, max_ttl_s, &call->fork.ttl_s);
    json_obj_end(&o);
}

void session_body_rewind(const json_t *body, int64_t max_cache_len, struct serve_call *call,
                         struct json_problems *problems)
{
    struct json_obj o;

    json_obj_begin(&o, body, "", problems);
    json_require(&o, "position");
    json_get_int(&o, "position", 0, max_cache_len, &call->rewind.position);
    json_obj_end(&o);
}
