/* kern_avx512vnni.c - the kernels for x86-64 with AVX-512 and its dot products of bytes. */
#if defined(__x86_64__)
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512vnni,fma,f16c")
#include "native/kern_avx512.h"

#define KERN_NAME kernels_avx512vnni
#define KERN_TEXT "avx512vnni"
#include "native/kern_body.h"
#endif
