#include "http/session_json.h"

#include "base/clock.h"

json_t *session_json(const struct serve_info *info)
{
    char created[CLOCK_TEXT_SIZE], expires[CLOCK_TEXT_SIZE];
    enum pt2_dtype dtype = info->facts.cache_dtype;

    clock_to_text(info->created_ms, created);
    clock_to_text(info->expires_ms, expires);
    return json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:s?, s:I, s:I, s:s, s:s, s:I, s:b, s:O}",
                     "id", info->id, "program", info->facts.program, "engine",
                     pt2_engine_kind_name(info->engine), "batch_size",
                     (json_int_t)info->facts.batch_size, "max_cache_len",
                     (json_int_t)info->facts.max_cache_len, "vocab_size",
                     (json_int_t)info->facts.vocab_size, "cache_bytes",
                     (json_int_t)info->facts.cache_bytes, "cache_dtype",
                     dtype == PT2_DTYPE_NONE ? NULL : pt2_dtype_name(dtype), "position",
                     (json_int_t)info->position, "rewind_floor",
                     (json_int_t)info->rewind_floor, "created", created, "expires",
                     expires, "ttl", (json_int_t)info->ttl_s, "resident", info->is_resident,
                     "labels", info->labels);
}
