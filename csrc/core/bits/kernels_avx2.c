/*
 * kernels_avx2.c - the inner loops with AVX2, BMI1 and POPCNT: Haswell, Zen and later.
 */
#include "core/bits/kernels.h"

#ifdef IOVA_X86

#include <immintrin.h>

#define TARGET __attribute__((target("avx2,bmi,bmi2,popcnt,lzcnt")))

typedef uint64_t vector __attribute__((vector_size(32), aligned(8), may_alias));

TARGET IOVA_INLINED vector load(const uint8_t *bytes)
{
    return (vector)_mm256_loadu_si256((const void *)bytes);
}

/* By a table of the ones of four bits. */
TARGET IOVA_INLINED vector ones_of(vector words)
{
    const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1,
                                           2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    const __m256i low = _mm256_set1_epi8(0x0f);
    __m256i ones =
        _mm256_add_epi8(_mm256_shuffle_epi8(table, _mm256_and_si256((__m256i)words, low)),
                        _mm256_shuffle_epi8(table, _mm256_and_si256((__m256i)(words >> 4), low)));
    return (vector)_mm256_sad_epu8(ones, _mm256_setzero_si256());
}

TARGET IOVA_INLINED vector edges_of(vector now, vector before)
{
    __m256i middle = _mm256_permute2x128_si256((__m256i)before, (__m256i)now, 0x21);
    vector previous = (vector)_mm256_alignr_epi8((__m256i)now, middle, 8);

    return now ^ (now << 1 | previous >> 63);
}

TARGET IOVA_INLINED bool any(vector words)
{
    return !_mm256_testz_si256((__m256i)words, (__m256i)words);
}

#define lowest_bit(word) _tzcnt_u64(word)

#include "core/bits/kernels_loops.h"

/* Each byte of 32 holds the byte with its bit, and keeps that bit alone. */
TARGET static void expand(const uint8_t *words, size_t nwords, uint8_t *mask)
{
    const __m256i byte_of =
        _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit_of = _mm256_set1_epi64x((long long)0x8040201008040201u);
    const __m256i one = _mm256_set1_epi8(1);

    for (size_t i = 0; i < 2 * nwords; i++) {
        int bits;
        memcpy(&bits, words + 4 * i, 4);
        __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(bits), byte_of);
        __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit_of), bit_of);
        _mm256_storeu_si256((void *)(mask + 32 * i), _mm256_and_si256(set, one));
    }
}

static const struct iova_kernels kernels = {
    .name = "avx2",
    .avx2 = true,
    .count = count,
    .positions = plain_positions,
    .count_edges = count_edges,
    .to_rows = to_rows,
    .uniform = uniform,
    .not_zero = plain_not_zero,
    .expand = expand,
    .combine = combine,
    .count_combined = count_combined,
    .count_both = count_both,
};

const struct iova_kernels *iova_kernels_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
                   __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt")
               ? &kernels
               : NULL;
}

#endif
