/*
 * kernels_loops.h - the inner loops that are the same for vectors of any sort. Each file of kernels
 * includes it once, after it has defined
 *
 *   TARGET                  the attribute of functions for its CPU
 *   vector                  one or more words in a row; C's operators work on each of them
 *   load(bytes)             as many words as a vector holds
 *   ones_of(words)          the ones of each word
 *   edges_of(now, before)   the edges of `now`, behind the vector `before`
 *   any(words)              whether one of them is not 0
 *   lowest_bit(word)        the index of its lowest one; of 0 any number
 *
 * Several sums are made at once, so that none waits for the addition before it.
 */
#ifndef IOVA_KERNELS_LOOPS_H
#define IOVA_KERNELS_LOOPS_H

#include "core/bits/bits.h"
#include "core/bits/kernels.h"

#define INLINED TARGET IOVA_INLINED

enum { STEP = sizeof(vector), LANES = STEP / 8, SUMS = 4 };

/* As words in memory. */
INLINED void store(uint64_t lanes[LANES], vector words)
{
    *(vector *)(void *)lanes = words;
}

INLINED uint64_t sum_of(vector words)
{
    uint64_t lanes[LANES];
    uint64_t sum = 0;

    store(lanes, words);
    for (unsigned k = 0; k < LANES; k++) {
        sum += lanes[k];
    }
    return sum;
}

/* a OP b, of words or of vectors. */
#define OPERATE(operation, a, b)                                                                   \
    ((operation) == IOVA_BITMAP_AND   ? (a) & (b)                                                  \
     : (operation) == IOVA_BITMAP_OR  ? (a) | (b)                                                  \
     : (operation) == IOVA_BITMAP_XOR ? (a) ^ (b)                                                  \
                                      : (a) & ~(b))

/* Calls a function that is inlined, once for each operation, which it knows then. */
#define KNOWN(function, operation, ...)                                                            \
    ((operation) == IOVA_BITMAP_AND   ? function(IOVA_BITMAP_AND, __VA_ARGS__)                     \
     : (operation) == IOVA_BITMAP_OR  ? function(IOVA_BITMAP_OR, __VA_ARGS__)                      \
     : (operation) == IOVA_BITMAP_XOR ? function(IOVA_BITMAP_XOR, __VA_ARGS__)                     \
                                      : function(IOVA_BITMAP_SUB, __VA_ARGS__))

/* The compiler makes SIMD of it, which is as fast as memory is. */
INLINED void combine_by(enum iova_bitmap_operation operation, uint8_t *to, const uint8_t *from,
                        size_t nwords)
{
    for (size_t i = 0; i < 8 * nwords; i += 8) {
        uint64_t a, b;
        memcpy(&a, to + i, 8);
        memcpy(&b, from + i, 8);
        a = OPERATE(operation, a, b);
        memcpy(to + i, &a, 8);
    }
}

TARGET static void combine(enum iova_bitmap_operation operation, uint8_t *to, const uint8_t *from,
                           size_t nwords)
{
    KNOWN(combine_by, operation, to, from, nwords);
}

INLINED uint64_t count_by(enum iova_bitmap_operation operation, const uint8_t *a, const uint8_t *b,
                          size_t nwords)
{
    vector sums[SUMS] = {0};
    uint64_t ones = 0;

    for (; nwords >= SUMS * LANES; nwords -= SUMS * LANES, a += SUMS * STEP, b += SUMS * STEP) {
        for (unsigned k = 0; k < SUMS; k++) {
            sums[k] += ones_of(OPERATE(operation, load(a + STEP * k), load(b + STEP * k)));
        }
    }
    for (; nwords > 0; nwords--, a += 8, b += 8) {
        ones += iova_popcount64(OPERATE(operation, iova_bits_load64(a), iova_bits_load64(b)));
    }
    return ones + sum_of((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

TARGET static uint64_t count(const uint8_t *words, size_t nwords)
{
    return count_by(IOVA_BITMAP_OR, words, words, nwords);
}

TARGET static uint64_t count_combined(enum iova_bitmap_operation operation, const uint8_t *a,
                                      const uint8_t *b, size_t nwords)
{
    return KNOWN(count_by, operation, a, b, nwords);
}

TARGET static void count_both(const uint8_t *a, const uint8_t *b, size_t nwords, uint64_t *counts)
{
    vector in_a[2] = {0};
    vector in_b[2] = {0};
    vector in_both[2] = {0};

    for (; nwords >= 2 * LANES; nwords -= 2 * LANES, a += 2 * STEP, b += 2 * STEP) {
        for (unsigned k = 0; k < 2; k++) {
            const vector x = load(a + STEP * k);
            const vector y = load(b + STEP * k);
            in_a[k] += ones_of(x);
            in_b[k] += ones_of(y);
            in_both[k] += ones_of(x & y);
        }
    }
    counts[0] += sum_of(in_a[0] + in_a[1]);
    counts[1] += sum_of(in_b[0] + in_b[1]);
    counts[2] += sum_of(in_both[0] + in_both[1]);
    for (; nwords > 0; nwords--, a += 8, b += 8) {
        const uint64_t x = iova_bits_load64(a);
        const uint64_t y = iova_bits_load64(b);
        counts[0] += iova_popcount64(x);
        counts[1] += iova_popcount64(y);
        counts[2] += iova_popcount64(x & y);
    }
}

/* A vector that ends with the carry as its last bit, and back. */
INLINED vector carry_in(uint64_t carry)
{
    return (vector){0} + (carry << 63);
}

INLINED uint64_t carry_out(vector before)
{
    uint64_t lanes[LANES];

    store(lanes, before);
    return lanes[LANES - 1] >> 63;
}

INLINED uint64_t edges_of_word(const uint8_t *bytes, uint64_t *carry)
{
    const uint64_t word = iova_bits_load64(bytes);
    const uint64_t edges = word ^ (word << 1 | *carry);

    *carry = word >> 63;
    return edges;
}

TARGET static uint64_t count_edges(const uint8_t *words, size_t nwords, uint64_t *carry)
{
    vector sums[SUMS] = {0};
    vector before = carry_in(*carry);
    uint64_t edges = 0;

    for (; nwords >= SUMS * LANES; nwords -= SUMS * LANES, words += SUMS * STEP) {
        for (unsigned k = 0; k < SUMS; k++) {
            const vector now = load(words + STEP * k);
            sums[k] += ones_of(edges_of(now, before));
            before = now;
        }
    }
    *carry = carry_out(before);
    for (; nwords > 0; nwords--, words += 8) {
        edges += iova_popcount64(edges_of_word(words, carry));
    }
    return edges + sum_of((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

TARGET static size_t uniform(const uint8_t *words, size_t nwords, uint64_t word)
{
    const vector same = (vector){0} + word;
    size_t i = 0;

    for (; i + SUMS * LANES <= nwords; i += SUMS * LANES) {
        vector differ[SUMS];
        for (unsigned k = 0; k < SUMS; k++) {
            differ[k] = load(words + 8 * i + STEP * k) ^ same;
        }
        if (any((differ[0] | differ[1]) | (differ[2] | differ[3]))) {
            break;
        }
    }
    while (i < nwords && iova_bits_load64(words + 8 * i) == word) {
        i++;
    }
    return i;
}

TARGET static void to_rows(uint64_t *pairs, size_t npairs, uint64_t base, unsigned pgshift)
{
    for (size_t i = 0; i < npairs; i++) {
        uint64_t start = pairs[2 * i];
        uint64_t end = pairs[2 * i + 1];
        pairs[2 * i] = base + (start << pgshift);
        pairs[2 * i + 1] = (end - start) << pgshift;
    }
}

/* The positions of the ones of a word, which is not 0: eight at a time without a branch between, so
 * up to seven too many are written. */
INLINED uint64_t *write_positions(uint64_t *out, uint64_t word, uint64_t position)
{
    uint64_t *end = out + iova_popcount64(word);
    do {
        for (unsigned k = 0; k < 8; k++) {
            out[k] = position + lowest_bit(word);
            word &= word - 1;
        }
        out += 8;
    } while (out < end);
    return end;
}

/* The same of a vector. */
INLINED uint64_t *write_all(uint64_t *out, vector words, uint64_t position)
{
    uint64_t lanes[LANES];

    if (any(words)) {
        store(lanes, words);
        for (unsigned k = 0; k < LANES; k++) {
            if (lanes[k] != 0) {
                out = write_positions(out, lanes[k], position + 64 * k);
            }
        }
    }
    return out;
}

/* Whether edges are wanted is known where this is inlined. */
INLINED size_t write_list(const uint8_t *words, size_t nwords, uint64_t position, bool edges,
                          uint64_t *carry, uint64_t *out)
{
    const uint64_t *start = out;
    vector before = carry_in(*carry);

    for (; LANES > 1 && nwords >= LANES; nwords -= LANES, words += STEP, position += 64 * LANES) {
        const vector now = load(words);
        out = write_all(out, edges ? edges_of(now, before) : now, position);
        before = now;
    }
    uint64_t last = carry_out(before);
    for (; nwords > 0; nwords--, words += 8, position += 64) {
        uint64_t found = edges ? edges_of_word(words, &last) : iova_bits_load64(words);
        if (found != 0) {
            out = write_positions(out, found, position);
        }
    }
    *carry = last;
    return (size_t)(out - start);
}

/* ---- two that AVX-512 does better ---- */

TARGET static inline size_t plain_positions(const uint8_t *words, size_t nwords, uint64_t position,
                                            uint64_t *carry, uint64_t *out)
{
    uint64_t none = 0;

    return carry != NULL ? write_list(words, nwords, position, true, carry, out)
                         : write_list(words, nwords, position, false, &none, out);
}

TARGET static inline size_t plain_not_zero(const uint8_t *words, size_t nwords, uint16_t *list)
{
    size_t n = 0;

    for (size_t i = 0; i < nwords; i++) { /* without a branch, which could not be foretold */
        list[n] = (uint16_t)i;
        n += iova_bits_load64(words + 8 * i) != 0;
    }
    return n;
}

#endif
