/* kern_portable.c - the kernels in plain C: what any processor runs, and what the others are
 * tested against. */

/* vectors that the processor may lack pass between inline functions alone */
#pragma GCC diagnostic ignored "-Wpsabi"

#define KERN_NAME kernels_portable
#define KERN_TEXT "portable"
#define LANES     8
#define ROWS      2
#define OUTS      2
#define WIDE_OUTS 4
#include "native/kern_body.h"
