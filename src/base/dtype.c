#include <pt2/dtype.h>

#include "base/util.h"

static const struct {
    const char *name, *safetensors;
    int schema;
    size_t size;
} table[] = {
    {"none", "", 0, 0},
#define PT2_DTYPE(code, name, schema, st, bytes) {name, st, schema, bytes},
#include <pt2/tbl_dtypes.h>
#undef PT2_DTYPE
};

const char *pt2_dtype_name(enum pt2_dtype dtype)
{
    return table[dtype].name;
}

const char *pt2_dtype_safetensors(enum pt2_dtype dtype)
{
    return table[dtype].safetensors;
}

size_t pt2_dtype_size(enum pt2_dtype dtype)
{
    return table[dtype].size;
}

int pt2_dtype_schema(enum pt2_dtype dtype)
{
    return table[dtype].schema;
}

bool pt2_dtype_is_float(enum pt2_dtype dtype)
{
    return dtype == PT2_FLOAT16 || dtype == PT2_FLOAT32 || dtype == PT2_FLOAT64 ||
           dtype == PT2_BFLOAT16;
}

enum pt2_dtype pt2_dtype_from_name(const char *name)
{
    const char *rest = after_prefix(name, "torch.");

    if (rest)
        name = rest;
    for (unsigned i = 1; i < PT2_N_DTYPES; i++)
        if (streq(table[i].name, name))
            return (enum pt2_dtype)i;
    return PT2_DTYPE_NONE;
}

enum pt2_dtype pt2_dtype_from_safetensors(const char *name)
{
    for (unsigned i = 1; i < PT2_N_DTYPES; i++)
        if (*table[i].safetensors && streq(table[i].safetensors, name))
            return (enum pt2_dtype)i;
    return PT2_DTYPE_NONE;
}

enum pt2_dtype pt2_dtype_from_schema(long code)
{
    for (unsigned i = 1; i < PT2_N_DTYPES; i++)
        if (table[i].schema == code)
            return (enum pt2_dtype)i;
    return PT2_DTYPE_NONE;
}
