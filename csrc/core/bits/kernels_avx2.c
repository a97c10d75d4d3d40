/*
 * kernels_avx2.c - the inner loops with AVX2, BMI1 and POPCNT: Haswell, Zen and later.
 */
#include "core/bits/bits.h"
#include "core/bits/kernels.h"

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))

#include <immintrin.h>

#define TARGET __attribute__((target("avx2,bmi,bmi2,popcnt,lzcnt")))

TARGET static inline __m256i load4(const uint8_t *words)
{
    return _mm256_loadu_si256((const void *)words);
}

/* Ones of each word, by a table of the ones of four bits. */
TARGET static inline __m256i popcount4(__m256i words)
{
    const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1,
                                           2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    const __m256i low = _mm256_set1_epi8(0x0f);
    __m256i ones = _mm256_add_epi8(
        _mm256_shuffle_epi8(table, _mm256_and_si256(words, low)),
        _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(words, 4), low)));
    return _mm256_sad_epu8(ones, _mm256_setzero_si256());
}

TARGET static inline uint64_t sum4(__m256i sums)
{
    __m128i pair = _mm_add_epi64(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    return (uint64_t)_mm_cvtsi128_si64(pair) + (uint64_t)_mm_extract_epi64(pair, 1);
}

TARGET static uint64_t count(const uint8_t *words, size_t nwords)
{
    __m256i sum0 = _mm256_setzero_si256();
    __m256i sum1 = sum0;

    for (; nwords >= 8; nwords -= 8, words += 64) {
        sum0 = _mm256_add_epi64(sum0, popcount4(load4(words)));
        sum1 = _mm256_add_epi64(sum1, popcount4(load4(words + 32)));
    }
    return sum4(_mm256_add_epi64(sum0, sum1)) + iova_kernels_portable.count(words, nwords);
}

/* Edges of four words; `carry` is the bit before them and becomes their last. */
TARGET static inline __m256i edges_of(__m256i now, uint64_t *carry)
{
    __m256i last = _mm256_srli_epi64(now, 63);
    __m256i moved = _mm256_permute4x64_epi64(last, 0x90); /* lane i: the last bit of lane i - 1 */
    __m256i before = _mm256_blend_epi32(moved, _mm256_set1_epi64x((long long)*carry), 0x03);

    *carry = (uint64_t)_mm256_extract_epi64(last, 3);
    return _mm256_xor_si256(now, _mm256_or_si256(_mm256_slli_epi64(now, 1), before));
}

/* The positions of the ones of a word, which is not 0: eight at a time without a branch between,
 * so up to seven too many are written. */
TARGET static inline uint64_t *write_positions(uint64_t *out, uint64_t word, uint64_t position)
{
    uint64_t *end = out + (unsigned)_mm_popcnt_u64(word);
    do {
        for (unsigned k = 0; k < 8; k++) {
            out[k] = position + _tzcnt_u64(word);
            word = _blsr_u64(word);
        }
        out += 8;
    } while (out < end);
    return end;
}

/* The positions of the ones of four words. */
TARGET static inline uint64_t *write_four(uint64_t *out, __m256i words, uint64_t position)
{
    uint64_t found[4];

    if (_mm256_testz_si256(words, words)) {
        return out;
    }
    _mm256_storeu_si256((void *)found, words);
    for (unsigned k = 0; k < 4; k++) {
        if (found[k] != 0) {
            out = write_positions(out, found[k], position + 64 * k);
        }
    }
    return out;
}

TARGET static size_t edges(const uint8_t *words, size_t nwords, uint64_t position, uint64_t *carry,
                           uint64_t *out)
{
    const uint64_t *start = out;
    uint64_t last = *carry;

    for (; nwords >= 4; nwords -= 4, words += 32, position += 256) {
        out = write_four(out, edges_of(load4(words), &last), position);
    }
    *carry = last;
    out += iova_kernels_portable.edges(words, nwords, position, carry, out);
    return (size_t)(out - start);
}

TARGET static size_t ones(const uint8_t *words, size_t nwords, uint64_t position, uint64_t *out)
{
    const uint64_t *start = out;

    for (; nwords >= 4; nwords -= 4, words += 32, position += 256) {
        out = write_four(out, load4(words), position);
    }
    out += iova_kernels_portable.ones(words, nwords, position, out);
    return (size_t)(out - start);
}

TARGET static uint64_t count_edges(const uint8_t *words, size_t nwords, uint64_t *carry)
{
    __m256i sum = _mm256_setzero_si256();

    for (; nwords >= 4; nwords -= 4, words += 32) {
        sum = _mm256_add_epi64(sum, popcount4(edges_of(load4(words), carry)));
    }
    return sum4(sum) + iova_kernels_portable.count_edges(words, nwords, carry);
}

TARGET static void to_rows(uint64_t *pairs, size_t npairs, uint64_t base, unsigned pgshift)
{
    const __m256i bases = _mm256_setr_epi64x((long long)base, 0, (long long)base, 0);
    const __m128i shift = _mm_cvtsi32_si128((int)pgshift);
    size_t i = 0;

    for (; i + 2 <= npairs; i += 2) {
        __m256i pair = _mm256_loadu_si256((const void *)(pairs + 2 * i));
        __m256i start = _mm256_unpacklo_epi64(_mm256_setzero_si256(), pair); /* 0, start */
        __m256i row = _mm256_sll_epi64(_mm256_sub_epi64(pair, start), shift);
        _mm256_storeu_si256((void *)(pairs + 2 * i), _mm256_add_epi64(row, bases));
    }
    iova_kernels_portable.to_rows(pairs + 2 * i, npairs - i, base, pgshift);
}

TARGET static size_t uniform(const uint8_t *words, size_t nwords, uint64_t word)
{
    const __m256i same = _mm256_set1_epi64x((long long)word);
    size_t i = 0;

    for (; i + 8 <= nwords; i += 8) {
        __m256i differ = _mm256_or_si256(_mm256_xor_si256(load4(words + 8 * i), same),
                                         _mm256_xor_si256(load4(words + 8 * i + 32), same));
        if (!_mm256_testz_si256(differ, differ)) {
            break;
        }
    }
    return i + iova_kernels_portable.uniform(words + 8 * i, nwords - i, word);
}

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

/* The ones of a OP b, for each operation. */
#define COUNT(number, name, expression)                                                            \
    TARGET static uint64_t count_##name(const uint8_t *x, const uint8_t *y, size_t nwords)         \
    {                                                                                              \
        __m256i sum = _mm256_setzero_si256();                                                      \
        for (; nwords >= 4; nwords -= 4, x += 32, y += 32) {                                       \
            __m256i a = load4(x);                                                                  \
            __m256i b = load4(y);                                                                  \
            sum = _mm256_add_epi64(sum, popcount4(expression));                                    \
        }                                                                                          \
        return sum4(sum) + iova_kernels_portable.count_combined[number](x, y, nwords);             \
    }

COUNT(IOVA_BITMAP_AND, and, _mm256_and_si256(a, b))
COUNT(IOVA_BITMAP_OR, or, _mm256_or_si256(a, b))
COUNT(IOVA_BITMAP_XOR, xor, _mm256_xor_si256(a, b))
COUNT(IOVA_BITMAP_SUB, sub, _mm256_andnot_si256(b, a))

TARGET static void count_both(const uint8_t *a, const uint8_t *b, size_t nwords, uint64_t *counts)
{
    __m256i in_a = _mm256_setzero_si256();
    __m256i in_b = in_a;
    __m256i in_both = in_a;

    for (; nwords >= 4; nwords -= 4, a += 32, b += 32) {
        __m256i x = load4(a);
        __m256i y = load4(b);
        in_a = _mm256_add_epi64(in_a, popcount4(x));
        in_b = _mm256_add_epi64(in_b, popcount4(y));
        in_both = _mm256_add_epi64(in_both, popcount4(_mm256_and_si256(x, y)));
    }
    counts[0] += sum4(in_a);
    counts[1] += sum4(in_b);
    counts[2] += sum4(in_both);
    iova_kernels_portable.count_both(a, b, nwords, counts);
}

static const struct iova_kernels kernels = {
    .name = "avx2",
    .avx2 = true,
    .count = count,
    .edges = edges,
    .ones = ones,
    .count_edges = count_edges,
    .to_rows = to_rows,
    .uniform = uniform,
    .not_zero = iova_not_zero_portable,
    .expand = expand,
    .count_combined = {count_and, count_or, count_xor, count_sub},
    .count_both = count_both,
};

const struct iova_kernels *iova_kernels_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
                   __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt")
               ? &kernels
               : NULL;
}

#else

const struct iova_kernels *iova_kernels_avx2(void)
{
    return NULL;
}

#endif
