/*
 * kernels_neon.c - the inner loops with NEON, which every 64-bit ARM has: only the count of ones.
 * The others are as fast in portable C, which the compiler turns into NEON; so the table is in
 * kernels_portable.c, a constant like all tables: threads that choose at once find it complete.
 */
#include "core/bits/kernels.h"

#ifdef IOVA_NEON

#include <arm_neon.h>

uint64_t iova_count_neon(const uint8_t *words, size_t nwords)
{
    uint64x2_t sum = vdupq_n_u64(0);

    for (; nwords >= 2; nwords -= 2, words += 16) {
        sum = vpadalq_u32(sum, vpaddlq_u16(vpaddlq_u8(vcntq_u8(vld1q_u8(words)))));
    }
    return vaddvq_u64(sum) + iova_kernels_portable.count(words, nwords);
}

#endif
