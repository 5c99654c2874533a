/* kern_avx2vnni.c - the kernels for x86-64 with AVX2 and dot products of bytes (AVX-VNNI). */
#if defined(__x86_64__)
#pragma GCC target("avx2,fma,f16c,avxvnni")
#include "native/kern_avx2.h"

#define KERN_NAME kernels_avx2vnni
#define KERN_TEXT "avx2vnni"
#include "native/kern_body.h"
#endif
