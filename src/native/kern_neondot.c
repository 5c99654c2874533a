/* kern_neondot.c - the kernels for aarch64 with dot products of bytes (ARMv8.2 dotprod). */
#if defined(__aarch64__)
#pragma GCC target("arch=armv8.2-a+dotprod")
#include "native/kern_neon.h"

#define KERN_NAME kernels_neondot
#define KERN_TEXT "neondot"
#include "native/kern_body.h"
#endif
