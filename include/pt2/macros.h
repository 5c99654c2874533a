/* macros.h - words that every header of libpt2 uses. */
#ifndef PT2_MACROS_H
#define PT2_MACROS_H

#if defined(__GNUC__)
#define PT2_API         __attribute__((visibility("default")))
#define PT2_MUST_USE    __attribute__((warn_unused_result))
#define PT2_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define PT2_API
#define PT2_MUST_USE
#define PT2_PRINTF(f, a)
#endif

#endif
