/* tbl_dtypes.h - the element types of tensors, written once.
 *
 * PT2_DTYPE(code, name, schema code, safetensors name, bytes).  The name is PyTorch's
 * (`torch.float32`), the schema code that of torch/_export/serde/schema.py (ScalarType),
 * the safetensors name "" where that format has none. */
PT2_DTYPE(UINT8, "uint8", 1, "U8", 1)
PT2_DTYPE(INT8, "int8", 2, "I8", 1)
PT2_DTYPE(INT16, "int16", 3, "I16", 2)
PT2_DTYPE(INT32, "int32", 4, "I32", 4)
PT2_DTYPE(INT64, "int64", 5, "I64", 8)
PT2_DTYPE(FLOAT16, "float16", 6, "F16", 2)
PT2_DTYPE(FLOAT32, "float32", 7, "F32", 4)
PT2_DTYPE(FLOAT64, "float64", 8, "F64", 8)
PT2_DTYPE(BOOL, "bool", 12, "BOOL", 1)
PT2_DTYPE(BFLOAT16, "bfloat16", 13, "BF16", 2)
