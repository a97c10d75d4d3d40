/*
 * kernels_portable.c - the inner loops in portable C: the definition that the others are tested
 * against.
 */
#include "core/bits/bits.h"
#include "core/bits/kernels.h"

static uint64_t count(const uint8_t *words, size_t nwords)
{
    uint64_t ones = 0;
    for (size_t i = 0; i < nwords; i++) {
        ones += iova_popcount64(iova_bits_load64(words + 8 * i));
    }
    return ones;
}

/* The positions of the ones of a word, which is not 0: eight at a time without a branch between, so
 * up to seven too many are written. */
static inline uint64_t *write_positions(uint64_t *out, uint64_t word, uint64_t position)
{
    uint64_t *end = out + iova_popcount64(word);
    do {
        for (unsigned k = 0; k < 8; k++) {
            out[k] = position + iova_lowest_bit(word);
            word &= word - 1;
        }
        out += 8;
    } while (out < end);
    return end;
}

static size_t edges(const uint8_t *words, size_t nwords, uint64_t position, uint64_t *carry,
                    uint64_t *out)
{
    const uint64_t *start = out;
    uint64_t last = *carry;

    for (size_t i = 0; i < nwords; i++) {
        uint64_t word = iova_bits_load64(words + 8 * i);
        uint64_t found = word ^ (word << 1 | last);
        last = word >> 63;
        if (found != 0) {
            out = write_positions(out, found, position + 64 * i);
        }
    }
    *carry = last;
    return (size_t)(out - start);
}

static size_t ones(const uint8_t *words, size_t nwords, uint64_t position, uint64_t *out)
{
    const uint64_t *start = out;

    for (size_t i = 0; i < nwords; i++) {
        uint64_t word = iova_bits_load64(words + 8 * i);
        if (word != 0) {
            out = write_positions(out, word, position + 64 * i);
        }
    }
    return (size_t)(out - start);
}

static uint64_t count_edges(const uint8_t *words, size_t nwords, uint64_t *carry)
{
    uint64_t last = *carry;
    uint64_t edges_found = 0;

    for (size_t i = 0; i < nwords; i++) {
        uint64_t word = iova_bits_load64(words + 8 * i);
        edges_found += iova_popcount64(word ^ (word << 1 | last));
        last = word >> 63;
    }
    *carry = last;
    return edges_found;
}

static void to_rows(uint64_t *pairs, size_t npairs, uint64_t base, unsigned pgshift)
{
    for (size_t i = 0; i < npairs; i++) {
        uint64_t start = pairs[2 * i];
        uint64_t end = pairs[2 * i + 1];
        pairs[2 * i] = base + (start << pgshift);
        pairs[2 * i + 1] = (end - start) << pgshift;
    }
}

static size_t uniform(const uint8_t *words, size_t nwords, uint64_t word)
{
    size_t i = 0;
    while (i < nwords && iova_bits_load64(words + 8 * i) == word) {
        i++;
    }
    return i;
}

size_t iova_not_zero_portable(const uint8_t *words, size_t nwords, uint16_t *list)
{
    size_t n = 0;

    for (size_t i = 0; i < nwords; i++) { /* without a branch, which could not be foretold */
        list[n] = (uint16_t)i;
        n += iova_bits_load64(words + 8 * i) != 0;
    }
    return n;
}

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

/* The ones of a OP b, for each operation. */
#define COUNT(name, expression)                                                                    \
    static uint64_t count_##name(const uint8_t *x, const uint8_t *y, size_t nwords)                \
    {                                                                                              \
        uint64_t ones = 0;                                                                         \
        for (size_t i = 0; i < nwords; i++) {                                                      \
            uint64_t a = iova_bits_load64(x + 8 * i);                                              \
            uint64_t b = iova_bits_load64(y + 8 * i);                                              \
            ones += iova_popcount64(expression);                                                   \
        }                                                                                          \
        return ones;                                                                               \
    }

COUNT(and, a &b)
COUNT(or, a | b)
COUNT(xor, a ^ b)
COUNT(sub, a & ~b)

static void count_both(const uint8_t *a, const uint8_t *b, size_t nwords, uint64_t *counts)
{
    for (size_t i = 0; i < nwords; i++) {
        uint64_t x = iova_bits_load64(a + 8 * i);
        uint64_t y = iova_bits_load64(b + 8 * i);
        counts[0] += iova_popcount64(x);
        counts[1] += iova_popcount64(y);
        counts[2] += iova_popcount64(x & y);
    }
}

/* All that NEON has a loop of its own for is the count. */
#define TABLE(called, counting)                                                                    \
    {                                                                                              \
        .name = called,                                                                            \
        .count = counting,                                                                         \
        .edges = edges,                                                                            \
        .ones = ones,                                                                              \
        .count_edges = count_edges,                                                                \
        .to_rows = to_rows,                                                                        \
        .uniform = uniform,                                                                        \
        .not_zero = iova_not_zero_portable,                                                        \
        .expand = expand,                                                                          \
        .count_combined = {count_and, count_or, count_xor, count_sub},                             \
        .count_both = count_both,                                                                  \
    }

const struct iova_kernels iova_kernels_portable = TABLE("portable", count);

#ifdef IOVA_NEON
const struct iova_kernels iova_kernels_with_neon = TABLE("neon", iova_count_neon);
#endif
