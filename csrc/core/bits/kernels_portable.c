/*
 * kernels_portable.c - the inner loops in portable C: a vector is one word.
 */
#include <stdint.h>

typedef uint64_t vector;

#define TARGET
#define load(bytes) iova_bits_load64(bytes)
#define ones_of(word) iova_popcount64(word)
#define edges_of(now, before) ((now) ^ ((now) << 1 | (before) >> 63))
#define any(word) ((word) != 0)
#define lowest_bit(word) iova_lowest_bit(word)

#include "core/bits/kernels_loops.h"

/* Eight bits at a time: a copy of the byte in each of eight bytes, of which each keeps its bit. */
static void expand(const uint8_t *words, size_t nwords, uint8_t *mask)
{
    for (size_t i = 0; i < 8 * nwords; i++) {
        uint64_t bits = words[i] * 0x0101010101010101u & 0x8040201008040201u;
        uint64_t ones =
            iova_bits_in_memory((bits + 0x7f7f7f7f7f7f7f7fu) >> 7 & 0x0101010101010101u);
        memcpy(mask + 8 * i, &ones, 8);
    }
}

/* All that NEON has a loop of its own for is the count. */
#define TABLE(called, counting)                                                                    \
    {                                                                                              \
        .name = called,                                                                            \
        .count = counting,                                                                         \
        .positions = plain_positions,                                                              \
        .count_edges = count_edges,                                                                \
        .to_rows = to_rows,                                                                        \
        .uniform = uniform,                                                                        \
        .not_zero = plain_not_zero,                                                                \
        .expand = expand,                                                                          \
        .combine = combine,                                                                        \
        .count_combined = count_combined,                                                          \
        .count_both = count_both,                                                                  \
    }

const struct iova_kernels iova_kernels_portable = TABLE("portable", count);

#ifdef IOVA_NEON
const struct iova_kernels iova_kernels_neon = TABLE("neon", iova_count_neon);
#endif
