/*
 * kernels_avx512.c - the inner loops with AVX-512 (F, BW, VL, VPOPCNTDQ, VBMI, VBMI2): Ice Lake,
 * Zen 4 and later. The compiler needs no option for it; the CPU is asked before any of this runs.
 */
#include "core/bits/kernels.h"

#ifdef IOVA_X86

#include <immintrin.h>

#define TARGET                                                                                     \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512vpopcntdq,avx512vbmi,avx512vbmi2,bmi,"  \
                          "bmi2,popcnt")))

/* Reading is as fast as 32 bytes a load can be where the cache is far, faster than by 64. */
typedef uint64_t vector __attribute__((vector_size(32), aligned(8), may_alias));

TARGET IOVA_INLINED vector load(const uint8_t *bytes)
{
    return (vector)_mm256_loadu_si256((const void *)bytes);
}

TARGET IOVA_INLINED vector ones_of(vector words)
{
    return (vector)_mm256_popcnt_epi64((__m256i)words);
}

TARGET IOVA_INLINED vector edges_of(vector now, vector before)
{
    __m256i previous = _mm256_alignr_epi64((__m256i)now, (__m256i)before, 3);

    return now ^ (vector)_mm256_shldi_epi64((__m256i)now, previous, 1);
}

TARGET IOVA_INLINED bool any(vector words)
{
    return _mm256_test_epi64_mask((__m256i)words, (__m256i)words) != 0;
}

#define lowest_bit(word) _tzcnt_u64(word)

#include "core/bits/kernels_loops.h"

/* The positions of the ones of a word, which is not 0, at `out`; eight too many may be written.
 * The byte compress turns all 64 positions at once into a list. */
TARGET static inline uint64_t *write_word(uint64_t *out, uint64_t word, uint64_t position,
                                          __m512i identity)
{
    unsigned n = (unsigned)_mm_popcnt_u64(word);
    __m512i list = _mm512_maskz_compress_epi8((__mmask64)word, identity);
    __m512i base = _mm512_set1_epi64((long long)position);
    __m128i part = _mm512_castsi512_si128(list);

    _mm512_storeu_si512(out, _mm512_add_epi64(base, _mm512_cvtepu8_epi64(part)));
    if (n > 8) {
        _mm512_storeu_si512(out + 8,
                            _mm512_add_epi64(base, _mm512_cvtepu8_epi64(_mm_srli_si128(part, 8))));
        for (unsigned done = 16; done < n; done += 16) {
            list = _mm512_alignr_epi64(list, list, 2);
            part = _mm512_castsi512_si128(list);
            _mm512_storeu_si512(out + done, _mm512_add_epi64(base, _mm512_cvtepu8_epi64(part)));
            _mm512_storeu_si512(
                out + done + 8,
                _mm512_add_epi64(base, _mm512_cvtepu8_epi64(_mm_srli_si128(part, 8))));
        }
    }
    return out + n;
}

/* Words whose edges are listed before any is decoded: the lists fit the L1 cache. */
enum { BLOCK = 512 };

/* Writes the numbers of those of 32 words from `first` on that are in `some`; returns how many.
 * Where there are none too: a branch could not be foretold. */
TARGET static inline size_t list_some(uint16_t *list, __mmask32 some, size_t first)
{
    const __m512i lanes =
        _mm512_set_epi16(31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13,
                         12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    __m512i at = _mm512_add_epi16(lanes, _mm512_set1_epi16((short)first));

    _mm512_storeu_si512(list, _mm512_maskz_compress_epi16(some, at));
    return (size_t)_mm_popcnt_u32(some);
}

/* Lists those of nwords (1 to 32) words that have edges behind *before, whose last lane is the word
 * before them and becomes their last one; or if `before` is NULL, those that are not 0. The edges,
 * or the words, are stored at `found` unless that is NULL. */
INLINED size_t list_group(const uint8_t *words, size_t nwords, __m512i *before, uint64_t *found,
                          uint16_t *list, size_t first)
{
    __mmask32 some = 0;

    for (unsigned k = 0; 8 * k < nwords; k++) {
        const size_t left = nwords - 8 * k;
        const __mmask8 there = (__mmask8)_bzhi_u32(0xff, (unsigned)left);
        const __m512i now = _mm512_maskz_loadu_epi64(there, (const void *)(words + 64 * k));
        __m512i wanted = now;
        if (before != NULL) {
            __m512i previous = _mm512_alignr_epi64(now, *before, 7);
            wanted = _mm512_xor_si512(now, _mm512_shldi_epi64(now, previous, 1));
            *before = left < 8
                          ? _mm512_permutexvar_epi64(_mm512_set1_epi64((long long)(left - 1)), now)
                          : now;
        }
        if (found != NULL) {
            _mm512_store_si512(found + 8 * k, wanted);
        }
        some |= (__mmask32)_mm512_mask_test_epi64_mask(there, wanted, wanted) << (8 * k);
    }
    return list_some(list, some, first);
}

INLINED size_t list_words(const uint8_t *words, size_t nwords, __m512i *before, uint64_t *found,
                          uint16_t *list)
{
    size_t count = 0;
    size_t i = 0;

    for (; i + 32 <= nwords; i += 32) {
        count += list_group(words + 8 * i, 32, before, found != NULL ? found + i : NULL,
                            list + count, i);
    }
    if (i < nwords) {
        count += list_group(words + 8 * i, nwords - i, before, found != NULL ? found + i : NULL,
                            list + count, i);
    }
    return count;
}

TARGET static size_t positions(const uint8_t *words, size_t nwords, uint64_t position,
                               uint64_t *carry, uint64_t *out)
{
    _Alignas(64) uint64_t found[BLOCK];
    uint16_t list[BLOCK + IOVA_LIST_SLACK];
    uint8_t bytes[64];
    const uint64_t *start = out;
    __m512i before = _mm512_set1_epi64(carry != NULL ? (long long)(*carry << 63) : 0);

    for (unsigned i = 0; i < 64; i++) {
        bytes[i] = (uint8_t)i;
    }
    const __m512i identity = _mm512_loadu_si512(bytes);
    while (nwords > 0) {
        const size_t block = nwords < BLOCK ? nwords : BLOCK;
        const size_t count = carry != NULL ? list_words(words, block, &before, found, list)
                                           : list_words(words, block, NULL, found, list);
        for (size_t k = 0; k < count; k++) {
            const size_t i = list[k];
            out = write_word(out, found[i], position + 64 * i, identity);
        }
        words += 8 * block;
        position += 64 * block;
        nwords -= block;
    }
    if (carry != NULL) {
        *carry = carry_out((vector)_mm512_extracti64x4_epi64(before, 1));
    }
    return (size_t)(out - start);
}

TARGET static size_t not_zero(const uint8_t *words, size_t nwords, uint16_t *list)
{
    return list_words(words, nwords, NULL, NULL, list);
}

TARGET static void expand(const uint8_t *words, size_t nwords, uint8_t *mask)
{
    for (size_t i = 0; i < nwords; i++) {
        uint64_t word;
        memcpy(&word, words + 8 * i, 8);
        _mm512_storeu_si512((void *)(mask + 64 * i), _mm512_maskz_set1_epi8(word, 1));
    }
}

static const struct iova_kernels kernels = {
    .name = "avx512",
    .avx2 = true,
    .count = count,
    .positions = positions,
    .count_edges = count_edges,
    .to_rows = to_rows,
    .uniform = uniform,
    .not_zero = not_zero,
    .expand = expand,
    .combine = combine,
    .count_combined = count_combined,
    .count_both = count_both,
};

const struct iova_kernels *iova_kernels_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512vl") &&
                   __builtin_cpu_supports("avx512vpopcntdq") &&
                   __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2") &&
                   __builtin_cpu_supports("bmi2")
               ? &kernels
               : NULL;
}

#endif
