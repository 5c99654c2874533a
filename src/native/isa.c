#include "native/kernels.h"

extern const struct kernels kernels_portable;
#if defined(__x86_64__)
extern const struct kernels kernels_avx2, kernels_avx2vnni, kernels_avx512,
    kernels_avx512vnni, kernels_avx512bf16;

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("f16c");
}

static bool has_avx2vnni(void)
{
    return has_avx2() && __builtin_cpu_supports("avxvnni");
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}

static bool has_avx512vnni(void)
{
    return has_avx512() && __builtin_cpu_supports("avx512vnni");
}

static bool has_avx512bf16(void)
{
    return has_avx512vnni() && __builtin_cpu_supports("avx512bf16");
}
#elif defined(__aarch64__)
#include <sys/auxv.h>

extern const struct kernels kernels_neon, kernels_neondot;

static bool has_neondot(void)
{
    return getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
}
#endif

static bool has_any(void)
{
    return true;
}

static const struct {
    const struct kernels *kernels;
    bool (*is_there)(void);
} all[] = {
#if defined(__x86_64__)
    {&kernels_avx512bf16, has_avx512bf16},
    {&kernels_avx512vnni, has_avx512vnni},
    {&kernels_avx512, has_avx512},
    {&kernels_avx2vnni, has_avx2vnni},
    {&kernels_avx2, has_avx2},
#elif defined(__aarch64__)
    {&kernels_neondot, has_neondot},
    {&kernels_neon, has_any},
#endif
    {&kernels_portable, has_any},
};

const struct kernels *kernels_at(size_t i)
{
    for (size_t j = 0; j < ARRAY_LEN(all); j++)
        if (all[j].is_there() && i-- == 0)
            return all[j].kernels;
    return NULL;
}

int kernels_choose(const struct kernels **ret_kernels, struct pt2_err *err)
{
    const char *name = getenv("PT2_ISA");
    const struct kernels *k;
    char names[128] = "";

    if (!name || !*name) {
        *ret_kernels = kernels_at(0);
        return 0;
    }
    for (size_t i = 0; (k = kernels_at(i)); i++) {
        size_t n = strlen(names);

        if (streq(k->name, name)) {
            *ret_kernels = k;
            return 0;
        }
        snprintf(names + n, sizeof(names) - n, " %s", k->name);
    }
    return pt2_err_set(err, PT2_ERR_UNSUPPORTED,
                       "PT2_ISA is '%s'; this processor has:%s", name, names);
}
