/*
 * decode.c - a bitmap as rows: the fastest loops in C that we found, the limit of ranges(out=).
 *
 * All find the edges of a word, the bits that differ from the bit before, and write the address of
 * each, eight at once without asking how many there are: a branch that depends on random bits costs
 * more than what is written in vain. Edges are collected in a block that stays in the first cache;
 * starts and ends become starts and lengths on the way out. `rows` has room for eight edges more
 * than there are. Little-endian hosts only; `make bench` tries all that the CPU has.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { BLOCK = 2048, MOST = 64 + 8 }; /* edges; those of one word, and what is written in vain */

struct edges {
    uint64_t at[BLOCK + MOST];
    size_t n;
    uint64_t *out;
};

/* All whole rows leave; a start without an end stays. */
static inline void leave(struct edges *edges)
{
    size_t whole = edges->n & ~(size_t)1;

    for (size_t i = 0; i < whole; i += 2) {
        edges->out[i] = edges->at[i];
        edges->out[i + 1] = edges->at[i + 1] - edges->at[i];
    }
    edges->out += whole;
    edges->at[0] = edges->at[whole];
    edges->n -= whole;
}

/* The number of rows. A run that lasts to the end has its end there. */
#define FINISH(edges, leave, rows, end)                                                            \
    if ((edges).n & 1) {                                                                           \
        (edges).at[(edges).n++] = (end);                                                           \
    }                                                                                              \
    leave(&(edges));                                                                               \
    return (size_t)((edges).out - (rows)) / 2

#define BY_WORDS(name, attribute)                                                                  \
    attribute size_t ranges_##name(const uint64_t *map, size_t nwords, uint64_t base,              \
                                   unsigned pgshift, uint64_t *rows)                               \
    {                                                                                              \
        struct edges edges = {.out = rows};                                                        \
        uint64_t carry = 0;                                                                        \
        for (size_t i = 0; i < nwords; i++) {                                                      \
            uint64_t word = map[i];                                                                \
            uint64_t bits = word ^ (word << 1 | carry);                                            \
            carry = word >> 63;                                                                    \
            if (bits == 0) {                                                                       \
                continue;                                                                          \
            }                                                                                      \
            uint64_t *at = edges.at + edges.n;                                                     \
            uint64_t first = base + ((uint64_t)i * 64 << pgshift);                                 \
            edges.n += (size_t)__builtin_popcountll(bits);                                         \
            do {                                                                                   \
                for (int j = 0; j < 8; j++) {                                                      \
                    uint64_t bit = bits != 0 ? (uint64_t)__builtin_ctzll(bits) : 64;               \
                    at[j] = first + (bit << pgshift);                                              \
                    bits &= bits - 1;                                                              \
                }                                                                                  \
                at += 8;                                                                           \
            } while (bits != 0);                                                                   \
            if (edges.n >= BLOCK) {                                                                \
                leave(&edges);                                                                     \
            }                                                                                      \
        }                                                                                          \
        FINISH(edges, leave, rows, base + ((uint64_t)nwords * 64 << pgshift));                     \
    }

BY_WORDS(words, )

#if defined(__x86_64__)
#include <immintrin.h>

BY_WORDS(words_bmi, __attribute__((target("bmi,bmi2,popcnt"))))

#define WIDE __attribute__((target("avx512f,avx512bw,avx512vbmi,avx512vbmi2,bmi,bmi2,popcnt")))

/* Four rows at once; a lane that holds (start, end) becomes (start, end - start). */
#define LEAVE(name, store)                                                                         \
    WIDE static inline void leave_##name(struct edges *edges)                                      \
    {                                                                                              \
        size_t whole = edges->n & ~(size_t)7;                                                      \
        for (size_t i = 0; i < whole; i += 8) {                                                    \
            __m512i pairs = _mm512_loadu_si512(edges->at + i);                                     \
            store((void *)(edges->out + i),                                                        \
                  _mm512_sub_epi64(pairs, _mm512_bslli_epi128(pairs, 8)));                         \
        }                                                                                          \
        edges->out += whole;                                                                       \
        memmove(edges->at, edges->at + whole, 8 * sizeof(edges->at[0]));                           \
        edges->n -= whole;                                                                         \
    }

LEAVE(cached, _mm512_storeu_si512)
LEAVE(streamed, _mm512_stream_si512)

/* Words of a part that have edges, close together: which ones these are is known without a branch.
 */
enum { PART = 512 };

struct part {
    uint64_t bits[PART + 8];
    uint64_t first[PART + 8]; /* address of the word's first page */
};

WIDE static inline size_t gather(struct part *part, const uint64_t *map, size_t nwords,
                                 uint64_t base, unsigned pgshift, uint64_t *carry)
{
    const __m128i by = _mm_cvtsi32_si128((int)pgshift + 6);
    const __m512i eight_words = _mm512_sll_epi64(_mm512_set1_epi64(8), by);
    __m512i first =
        _mm512_add_epi64(_mm512_set1_epi64((long long)base),
                         _mm512_sll_epi64(_mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0), by));
    __m512i last = _mm512_set1_epi64((long long)*carry);
    size_t n = 0;

    for (size_t i = 0; i + 8 <= nwords; i += 8) {
        __m512i words = _mm512_loadu_si512(map + i);
        __m512i before = _mm512_alignr_epi64(words, last, 7);
        __m512i bits = _mm512_xor_si512(
            words, _mm512_or_si512(_mm512_slli_epi64(words, 1), _mm512_srli_epi64(before, 63)));
        __mmask8 holding = _mm512_test_epi64_mask(bits, bits);
        _mm512_storeu_si512(part->bits + n, _mm512_maskz_compress_epi64(holding, bits));
        _mm512_storeu_si512(part->first + n, _mm512_maskz_compress_epi64(holding, first));
        n += (size_t)__builtin_popcount(holding);
        first = _mm512_add_epi64(first, eight_words);
        last = words;
    }
    *carry = map[nwords - 1];
    return n;
}

WIDE static inline void expand(struct edges *edges, uint64_t bits, uint64_t first, unsigned pgshift)
{
    const __m512i numbers = _mm512_set_epi64(
        0x3f3e3d3c3b3a3938, 0x3736353433323130, 0x2f2e2d2c2b2a2928, 0x2726252423222120,
        0x1f1e1d1c1b1a1918, 0x1716151413121110, 0x0f0e0d0c0b0a0908, 0x0706050403020100);
    const __m128i by = _mm_cvtsi32_si128((int)pgshift);
    __m512i found = _mm512_maskz_compress_epi8(bits, numbers);
    __m512i from = _mm512_set1_epi64((long long)first);
    __m128i few = _mm512_castsi512_si128(found);
    size_t n = (size_t)__builtin_popcountll(bits);
    uint64_t *at = edges->at + edges->n;
    uint64_t places[8];

    edges->n += n;
    _mm512_storeu_si512(at,
                        _mm512_add_epi64(_mm512_sll_epi64(_mm512_cvtepu8_epi64(few), by), from));
    if (n <= 8) {
        return;
    }
    _mm512_storeu_si512(places, found);
    for (size_t k = 8; k < n; k += 8) {
        few = _mm_cvtsi64_si128((long long)places[k / 8]);
        _mm512_storeu_si512(
            at + k, _mm512_add_epi64(_mm512_sll_epi64(_mm512_cvtepu8_epi64(few), by), from));
    }
}

#define WIDELY(name)                                                                               \
    WIDE size_t ranges_wide_##name(const uint64_t *map, size_t nwords, uint64_t base,              \
                                   unsigned pgshift, uint64_t *rows)                               \
    {                                                                                              \
        struct edges edges = {.out = rows};                                                        \
        struct part part;                                                                          \
        uint64_t carry = 0;                                                                        \
        for (size_t i = 0; i < nwords; i += PART) {                                                \
            size_t size = nwords - i < PART ? nwords - i : PART;                                   \
            uint64_t from = base + ((uint64_t)i * 64 << pgshift);                                  \
            size_t n = gather(&part, map + i, size, from, pgshift, &carry);                        \
            for (size_t k = 0; k < n; k++) {                                                       \
                expand(&edges, part.bits[k], part.first[k], pgshift);                              \
                if (edges.n >= BLOCK) {                                                            \
                    leave_##name(&edges);                                                          \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
        FINISH(edges, leave, rows, base + ((uint64_t)nwords * 64 << pgshift));                     \
    }

WIDELY(cached)
WIDELY(streamed)
#endif

/* How many of words, words_bmi, wide_cached and wide_streamed this CPU has. */
int decoders(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("avx512bw")) {
        return 4;
    }
    return __builtin_cpu_supports("bmi2") ? 2 : 1;
#else
    return 1;
#endif
}
