/* kern_neon.c - the kernels for aarch64, which has NEON and conversions of float16. */
#if defined(__aarch64__)
#include "native/kern_neon.h"

#define KERN_NAME kernels_neon
#define KERN_TEXT "neon"
#include "native/kern_body.h"
#endif
