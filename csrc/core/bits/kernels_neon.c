/*
 * kernels_neon.c - the inner loops with NEON, which every 64-bit ARM has: where the count of ones
 * is part of the loop. The others are as fast in portable C, which the compiler turns into NEON.
 */
#include "core/bits/kernels.h"

#if defined(__aarch64__) && defined(__ARM_NEON) && !defined(__ARM_BIG_ENDIAN)

#include <arm_neon.h>

static uint64_t count(const uint8_t *words, size_t nwords)
{
    uint64x2_t sum = vdupq_n_u64(0);

    for (; nwords >= 2; nwords -= 2, words += 16) {
        sum = vpadalq_u32(sum, vpaddlq_u16(vpaddlq_u8(vcntq_u8(vld1q_u8(words)))));
    }
    return vaddvq_u64(sum) + iova_kernels_portable.count(words, nwords);
}

const struct iova_kernels *iova_kernels_neon(void)
{
    static struct iova_kernels kernels;

    if (kernels.name == NULL) {
        kernels = iova_kernels_portable;
        kernels.count = count;
        kernels.name = "neon";
    }
    return &kernels;
}

#else

const struct iova_kernels *iova_kernels_neon(void)
{
    return NULL;
}

#endif
