/*
 * kernels_avx512.c - the inner loops with AVX-512 (F, BW, VL, VPOPCNTDQ, VBMI, VBMI2): Ice Lake,
 * Zen 4 and later. The compiler needs no option for it; the CPU is asked before any of this runs.
 */
#include "core/bits/kernels.h"

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))

#include <immintrin.h>
#include <stdbool.h>
#include <string.h>

#define TARGET                                                                                     \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512vpopcntdq,avx512vbmi,avx512vbmi2,bmi,"  \
                          "bmi2,popcnt")))

TARGET static inline __m512i load8(const uint8_t *words)
{
    return _mm512_loadu_si512((const void *)words);
}

/* Words beyond the last whole vector: a mask of those there are. */
TARGET static inline __mmask8 rest(size_t nwords)
{
    return (__mmask8)((1u << nwords) - 1);
}

/* Reading is as fast as 32 bytes a load can be where the cache is far, faster than by 64. */
TARGET static inline __m256i load4(const uint8_t *words)
{
    return _mm256_loadu_si256((const void *)words);
}

TARGET static uint64_t count(const uint8_t *words, size_t nwords)
{
    __m256i sums[8] = {0};

    for (; nwords >= 64; nwords -= 64, words += 512) {
        for (unsigned k = 0; k < 16; k++) {
            sums[k & 7] = _mm256_add_epi64(sums[k & 7], _mm256_popcnt_epi64(load4(words + 32 * k)));
        }
    }
    for (; nwords >= 4; nwords -= 4, words += 32) {
        sums[0] = _mm256_add_epi64(sums[0], _mm256_popcnt_epi64(load4(words)));
    }
    sums[1] = _mm256_add_epi64(
        sums[1], _mm256_popcnt_epi64(_mm256_maskz_loadu_epi64(rest(nwords), (const void *)words)));
    for (unsigned k = 1; k < 8; k++) {
        sums[0] = _mm256_add_epi64(sums[0], sums[k]);
    }
    return (uint64_t)_mm512_reduce_add_epi64(_mm512_zextsi256_si512(sums[0]));
}

/* Edges of eight words; `before` holds the word before them in its last lane. */
TARGET static inline __m512i edges_of(__m512i now, __m512i before)
{
    __m512i previous = _mm512_alignr_epi64(now, before, 7); /* lane i: the word before word i */

    return _mm512_xor_si512(now, _mm512_shldi_epi64(now, previous, 1));
}

TARGET static inline __m512i carry_in(uint64_t carry)
{
    return _mm512_set1_epi64((long long)(carry << 63));
}

/* The positions of the ones of a word, which is not 0, at `out`; eight too many may be written.
 * The byte compress turns all 64 positions at once into a list. */
TARGET static inline uint64_t *write_positions(uint64_t *out, uint64_t word, uint64_t position,
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

/* The edges of a block of words, and which of the words have any. */
struct list {
    _Alignas(64) uint64_t words[BLOCK];
    uint16_t at[BLOCK + IOVA_LIST_SLACK];
    size_t count;
};

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

/* Lists the edges (or, where not `edges`, the words themselves) of a block of up to BLOCK words;
 * returns the vector whose last lane is the last word. */
TARGET static inline __m512i list_block(struct list *list, const uint8_t *words, size_t nwords,
                                        __m512i before, bool edges)
{
    size_t i = 0;

    list->count = 0;
    for (; i + 32 <= nwords; i += 32) {
        __mmask32 some = 0;
        for (unsigned k = 0; k < 4; k++) {
            __m512i now = load8(words + 8 * i + 64 * k);
            __m512i edge = edges ? edges_of(now, before) : now;
            _mm512_store_si512(list->words + i + 8 * k, edge);
            some |= (__mmask32)_mm512_test_epi64_mask(edge, edge) << (8 * k);
            before = now;
        }
        list->count += list_some(list->at + list->count, some, i);
    }
    for (; i < nwords; i += 8) {
        size_t n = nwords - i < 8 ? nwords - i : 8;
        __mmask8 there = rest(n);
        __m512i now = _mm512_maskz_loadu_epi64(there, (const void *)(words + 8 * i));
        __m512i edge = edges ? edges_of(now, before) : now;
        _mm512_store_si512(list->words + i, edge);
        list->count +=
            list_some(list->at + list->count, _mm512_mask_test_epi64_mask(there, edge, edge), i);
        before = _mm512_permutexvar_epi64(_mm512_set1_epi64((long long)(n - 1)), now);
    }
    return before;
}

TARGET static inline uint64_t carry_out(__m512i before)
{
    __m512i last = _mm512_alignr_epi64(before, before, 7);
    return (uint64_t)_mm_cvtsi128_si64(_mm512_castsi512_si128(last)) >> 63;
}

/* Decodes what is listed. */
TARGET static inline uint64_t *decode(const struct list *list, uint64_t position, __m512i identity,
                                      uint64_t *out)
{
    for (size_t k = 0; k < list->count; k++) {
        size_t i = list->at[k];
        out = write_positions(out, list->words[i], position + 64 * i, identity);
    }
    return out;
}

TARGET static inline size_t positions(const uint8_t *words, size_t nwords, uint64_t position,
                                      __m512i *before, bool edges, uint64_t *out)
{
    struct list list;
    uint8_t bytes[64];
    const uint64_t *start = out;

    for (unsigned i = 0; i < 64; i++) {
        bytes[i] = (uint8_t)i;
    }
    const __m512i identity = _mm512_loadu_si512(bytes);
    while (nwords > 0) {
        size_t block = nwords < BLOCK ? nwords : BLOCK;
        *before = list_block(&list, words, block, *before, edges);
        out = decode(&list, position, identity, out);
        words += 8 * block;
        position += 64 * block;
        nwords -= block;
    }
    return (size_t)(out - start);
}

TARGET static size_t edges(const uint8_t *words, size_t nwords, uint64_t position, uint64_t *carry,
                           uint64_t *out)
{
    __m512i before = carry_in(*carry);
    size_t n = positions(words, nwords, position, &before, true, out);

    *carry = carry_out(before);
    return n;
}

TARGET static size_t ones(const uint8_t *words, size_t nwords, uint64_t position, uint64_t *out)
{
    __m512i before = carry_in(0);

    return positions(words, nwords, position, &before, false, out);
}

TARGET static uint64_t count_edges(const uint8_t *words, size_t nwords, uint64_t *carry)
{
    __m512i before = carry_in(*carry);
    __m512i sum0 = _mm512_setzero_si512();
    __m512i sum1 = sum0;

    for (; nwords >= 16; nwords -= 16, words += 128) {
        __m512i first = load8(words);
        __m512i second = load8(words + 64);
        sum0 = _mm512_add_epi64(sum0, _mm512_popcnt_epi64(edges_of(first, before)));
        sum1 = _mm512_add_epi64(sum1, _mm512_popcnt_epi64(edges_of(second, first)));
        before = second;
    }
    while (nwords > 0) {
        size_t n = nwords < 8 ? nwords : 8;
        __mmask8 there = rest(n);
        __m512i now = _mm512_maskz_loadu_epi64(there, (const void *)words);
        sum0 = _mm512_add_epi64(sum0, _mm512_maskz_popcnt_epi64(there, edges_of(now, before)));
        before = _mm512_permutexvar_epi64(_mm512_set1_epi64((long long)(n - 1)), now);
        words += 8 * n;
        nwords -= n;
    }
    *carry = carry_out(before);
    return (uint64_t)_mm512_reduce_add_epi64(_mm512_add_epi64(sum0, sum1));
}

TARGET static void to_rows(uint64_t *pairs, size_t npairs, uint64_t base, unsigned pgshift)
{
    const __m512i bases = _mm512_set1_epi64((long long)base);
    const __m128i shift = _mm_cvtsi32_si128((int)pgshift);
    size_t i = 0;

    for (; i + 4 <= npairs; i += 4) {
        __m512i pair = _mm512_loadu_si512(pairs + 2 * i);
        __m512i start = _mm512_shuffle_epi32(pair, (_MM_PERM_ENUM)0x44); /* start, start */
        __m512i left = _mm512_mask_sub_epi64(pair, 0xaa, pair, start);   /* start, end - start */
        __m512i row = _mm512_sll_epi64(left, shift);
        _mm512_storeu_si512(pairs + 2 * i, _mm512_mask_add_epi64(row, 0x55, row, bases));
    }
    iova_kernels_portable.to_rows(pairs + 2 * i, npairs - i, base, pgshift);
}

TARGET static size_t uniform(const uint8_t *words, size_t nwords, uint64_t word)
{
    const __m256i same = _mm256_set1_epi64x((long long)word);
    size_t i = 0;

    for (; i + 64 <= nwords; i += 64) {
        __m256i differ[4] = {0};
        for (unsigned k = 0; k < 16; k++) { /* differ | (loaded ^ same) */
            differ[k & 3] =
                _mm256_ternarylogic_epi64(differ[k & 3], load4(words + 8 * i + 32 * k), same, 0xf6);
        }
        differ[0] = _mm256_or_si256(_mm256_or_si256(differ[0], differ[1]),
                                    _mm256_or_si256(differ[2], differ[3]));
        if (_mm256_test_epi64_mask(differ[0], differ[0]) != 0) {
            break;
        }
    }
    return i + iova_kernels_portable.uniform(words + 8 * i, nwords - i, word);
}

TARGET static size_t not_zero(const uint8_t *words, size_t nwords, uint16_t *list)
{
    size_t count = 0;
    size_t i = 0;

    for (; i + 32 <= nwords; i += 32) {
        __mmask32 some = 0;
        for (unsigned k = 0; k < 4; k++) {
            __m512i now = load8(words + 8 * i + 64 * k);
            some |= (__mmask32)_mm512_test_epi64_mask(now, now) << (8 * k);
        }
        count += list_some(list + count, some, i);
    }
    for (; i < nwords; i += 8) {
        __mmask8 there = nwords - i < 8 ? rest(nwords - i) : 0xff;
        __m512i now = _mm512_maskz_loadu_epi64(there, (const void *)(words + 8 * i));
        count += list_some(list + count, _mm512_test_epi64_mask(now, now), i);
    }
    return count;
}

TARGET static void expand(const uint8_t *words, size_t nwords, uint8_t *mask)
{
    for (size_t i = 0; i < nwords; i++) {
        uint64_t word;
        memcpy(&word, words + 8 * i, 8);
        _mm512_storeu_si512((void *)(mask + 64 * i), _mm512_maskz_set1_epi8(word, 1));
    }
}

/* The ones of a OP b, for each operation. */
#define COUNT(name, expression)                                                                    \
    TARGET static uint64_t count_##name(const uint8_t *x, const uint8_t *y, size_t nwords)         \
    {                                                                                              \
        __m512i sums[4] = {0};                                                                     \
        for (; nwords >= 32; nwords -= 32, x += 256, y += 256) {                                   \
            for (unsigned k = 0; k < 4; k++) {                                                     \
                __m512i a = load8(x + 64 * k);                                                     \
                __m512i b = load8(y + 64 * k);                                                     \
                sums[k] = _mm512_add_epi64(sums[k], _mm512_popcnt_epi64(expression));              \
            }                                                                                      \
        }                                                                                          \
        while (nwords > 0) {                                                                       \
            size_t n = nwords < 8 ? nwords : 8;                                                    \
            __m512i a = _mm512_maskz_loadu_epi64(rest(n), (const void *)x);                        \
            __m512i b = _mm512_maskz_loadu_epi64(rest(n), (const void *)y);                        \
            sums[0] = _mm512_add_epi64(sums[0], _mm512_popcnt_epi64(expression));                  \
            x += 8 * n;                                                                            \
            y += 8 * n;                                                                            \
            nwords -= n;                                                                           \
        }                                                                                          \
        return (uint64_t)_mm512_reduce_add_epi64(_mm512_add_epi64(                                 \
            _mm512_add_epi64(sums[0], sums[1]), _mm512_add_epi64(sums[2], sums[3])));              \
    }

COUNT(and, _mm512_and_si512(a, b))
COUNT(or, _mm512_or_si512(a, b))
COUNT(xor, _mm512_xor_si512(a, b))
COUNT(sub, _mm512_andnot_si512(b, a))

/* Adds the ones of x, y and both to three sums. */
TARGET static inline void add_both(__m512i *sums, __m512i x, __m512i y)
{
    sums[0] = _mm512_add_epi64(sums[0], _mm512_popcnt_epi64(x));
    sums[1] = _mm512_add_epi64(sums[1], _mm512_popcnt_epi64(y));
    sums[2] = _mm512_add_epi64(sums[2], _mm512_popcnt_epi64(_mm512_and_si512(x, y)));
}

TARGET static void count_both(const uint8_t *a, const uint8_t *b, size_t nwords, uint64_t *counts)
{
    __m512i even[3] = {0};
    __m512i odd[3] = {0};

    for (; nwords >= 32; nwords -= 32, a += 256, b += 256) {
        for (unsigned k = 0; k < 256; k += 128) {
            add_both(even, load8(a + k), load8(b + k));
            add_both(odd, load8(a + k + 64), load8(b + k + 64));
        }
    }
    while (nwords > 0) {
        size_t n = nwords < 8 ? nwords : 8;
        add_both(even, _mm512_maskz_loadu_epi64(rest(n), (const void *)a),
                 _mm512_maskz_loadu_epi64(rest(n), (const void *)b));
        a += 8 * n;
        b += 8 * n;
        nwords -= n;
    }
    for (unsigned k = 0; k < 3; k++) {
        counts[k] += (uint64_t)_mm512_reduce_add_epi64(_mm512_add_epi64(even[k], odd[k]));
    }
}

static const struct iova_kernels kernels = {
    .name = "avx512",
    .avx2 = true,
    .count = count,
    .edges = edges,
    .ones = ones,
    .count_edges = count_edges,
    .to_rows = to_rows,
    .uniform = uniform,
    .not_zero = not_zero,
    .expand = expand,
    .count_combined = {count_and, count_or, count_xor, count_sub},
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

#else

const struct iova_kernels *iova_kernels_avx512(void)
{
    return NULL;
}

#endif
