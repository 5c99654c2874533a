/* dtype.h - element types of tensors.  Pure functions; any thread. */
#ifndef PT2_DTYPE_H
#define PT2_DTYPE_H

#include <pt2/macros.h>

#include <stdbool.h>
#include <stddef.h>

enum pt2_dtype {
    PT2_DTYPE_NONE,
#define PT2_DTYPE(code, name, schema, st, bytes) PT2_##code,
#include <pt2/tbl_dtypes.h>
#undef PT2_DTYPE
    PT2_N_DTYPES
};

PT2_API const char *pt2_dtype_name(enum pt2_dtype dtype);        /* "float32" */
PT2_API const char *pt2_dtype_safetensors(enum pt2_dtype dtype); /* "F32", "" where none */
PT2_API size_t pt2_dtype_size(enum pt2_dtype dtype);             /* bytes an element */
PT2_API int pt2_dtype_schema(enum pt2_dtype dtype);              /* ScalarType of schema.py */
PT2_API bool pt2_dtype_is_float(enum pt2_dtype dtype);

/* PT2_DTYPE_NONE where there is no such type. */
PT2_API enum pt2_dtype pt2_dtype_from_name(const char *name); /* "float32" or "torch.float32" */
PT2_API enum pt2_dtype pt2_dtype_from_safetensors(const char *name);
PT2_API enum pt2_dtype pt2_dtype_from_schema(long code);

#endif
