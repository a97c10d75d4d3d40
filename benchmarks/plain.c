/*
 * plain.c - what one would write in C for each question: simple loops over 64-bit words.
 *
 * Not tuned beyond choosing a sensible algorithm, not atomic except where a question asks for it,
 * and without bounds checks. `make bench` builds this at -O2 and at -O3, calls it by ctypes, and
 * takes the better one. Bit n of the bitmap is bit n % 64 of word n / 64: little-endian hosts only.
 */
#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__)
/* Without it, __builtin_popcountll is a call of a table look-up. */
#define WITH_POPCOUNT __attribute__((target("popcnt")))
#else
#define WITH_POPCOUNT
#endif

void bitmap_set(uint64_t *map, uint64_t start, uint64_t length)
{
    uint64_t last = start + length - 1;
    uint64_t *word = map + start / 64;
    uint64_t *end = map + last / 64;
    uint64_t head = UINT64_MAX << (start % 64);
    uint64_t tail = UINT64_MAX >> (63 - last % 64);

    if (word == end) {
        *word |= head & tail;
        return;
    }
    *word++ |= head;
    while (word < end) {
        *word++ = UINT64_MAX;
    }
    *word |= tail;
}

void bitmap_clear(uint64_t *map, uint64_t start, uint64_t length)
{
    uint64_t last = start + length - 1;
    uint64_t *word = map + start / 64;
    uint64_t *end = map + last / 64;
    uint64_t head = UINT64_MAX << (start % 64);
    uint64_t tail = UINT64_MAX >> (63 - last % 64);

    if (word == end) {
        *word &= ~(head & tail);
        return;
    }
    *word++ &= ~head;
    while (word < end) {
        *word++ = 0;
    }
    *word &= ~tail;
}

/* Rows (iova, length) in bytes. */
void set_ranges(uint64_t *map, const uint64_t *rows, size_t nrows, uint64_t base, unsigned pgshift)
{
    for (size_t i = 0; i < nrows; i++) {
        uint64_t first = (rows[2 * i] - base) >> pgshift;
        uint64_t last = (rows[2 * i] + rows[2 * i + 1] - 1 - base) >> pgshift;
        bitmap_set(map, first, last - first + 1);
    }
}

void clear_ranges(uint64_t *map, const uint64_t *rows, size_t nrows, uint64_t base,
                  unsigned pgshift)
{
    for (size_t i = 0; i < nrows; i++) {
        uint64_t first = (rows[2 * i] - base) >> pgshift;
        uint64_t last = (rows[2 * i] + rows[2 * i + 1] - 1 - base) >> pgshift;
        bitmap_clear(map, first, last - first + 1);
    }
}

void set_pages(uint64_t *map, const uint64_t *iovas, size_t n, uint64_t base, unsigned pgshift)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t bit = (iovas[i] - base) >> pgshift;
        map[bit / 64] |= (uint64_t)1 << (bit % 64);
    }
}

WITH_POPCOUNT uint64_t count(const uint64_t *map, size_t nwords)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < nwords; i++) {
        sum += (uint64_t)__builtin_popcountll(map[i]);
    }
    return sum;
}

/* Ranges by the edges of each word: the bits that differ from the bit before. */
size_t ranges_by_edges(const uint64_t *map, size_t nwords, uint64_t base, unsigned pgshift,
                       uint64_t *rows)
{
    uint64_t carry = 0;
    uint64_t start = 0;
    uint64_t inside = 0;
    size_t n = 0;

    for (size_t i = 0; i < nwords; i++) {
        uint64_t word = map[i];
        uint64_t edges = word ^ (word << 1 | carry);

        carry = word >> 63;
        while (edges != 0) {
            uint64_t at = i * 64 + (uint64_t)__builtin_ctzll(edges);
            edges &= edges - 1;
            if (inside) {
                rows[2 * n] = base + (start << pgshift);
                rows[2 * n + 1] = (at - start) << pgshift;
                n++;
            } else {
                start = at;
            }
            inside ^= 1;
        }
    }
    if (inside) {
        rows[2 * n] = base + (start << pgshift);
        rows[2 * n + 1] = (nwords * 64 - start) << pgshift;
        n++;
    }
    return n;
}

/* The first bit from `at` on that is `value` (0 or 1), or nbits. */
static inline uint64_t find_next(const uint64_t *map, uint64_t nbits, uint64_t at, int value)
{
    uint64_t flip = value ? 0 : UINT64_MAX;

    if (at >= nbits) {
        return nbits;
    }
    size_t i = at / 64;
    uint64_t word = (map[i] ^ flip) & UINT64_MAX << (at % 64);
    while (word == 0) {
        if (++i >= nbits / 64) {
            return nbits;
        }
        word = map[i] ^ flip;
    }
    return i * 64 + (uint64_t)__builtin_ctzll(word);
}

/* Ranges by finding the next one, then the next zero, by turns. */
size_t ranges_by_find(const uint64_t *map, size_t nwords, uint64_t base, unsigned pgshift,
                      uint64_t *rows)
{
    uint64_t nbits = (uint64_t)nwords * 64;
    uint64_t start = find_next(map, nbits, 0, 1);
    size_t n = 0;

    while (start < nbits) {
        uint64_t end = find_next(map, nbits, start + 1, 0);
        rows[2 * n] = base + (start << pgshift);
        rows[2 * n + 1] = (end - start) << pgshift;
        n++;
        start = find_next(map, nbits, end + 1, 1);
    }
    return n;
}

size_t pages(const uint64_t *map, size_t nwords, uint64_t base, unsigned pgshift, uint64_t *iovas)
{
    size_t n = 0;

    for (size_t i = 0; i < nwords; i++) {
        for (uint64_t word = map[i]; word != 0; word &= word - 1) {
            iovas[n++] = base + ((i * 64 + (uint64_t)__builtin_ctzll(word)) << pgshift);
        }
    }
    return n;
}

/* Takes each word that is not zero, as a harvest must while others mark. */
uint64_t exchange(uint64_t *map, size_t nwords)
{
    uint64_t all = 0;

    for (size_t i = 0; i < nwords; i++) {
        if (__atomic_load_n(&map[i], __ATOMIC_RELAXED) != 0) {
            all |= __atomic_exchange_n(&map[i], 0, __ATOMIC_ACQ_REL);
        }
    }
    return all;
}

void or_into(uint64_t *to, const uint64_t *from, size_t nwords)
{
    for (size_t i = 0; i < nwords; i++) {
        to[i] |= from[i];
    }
}

WITH_POPCOUNT uint64_t count_and(const uint64_t *a, const uint64_t *b, size_t nwords)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < nwords; i++) {
        sum += (uint64_t)__builtin_popcountll(a[i] & b[i]);
    }
    return sum;
}

/* Ones of new only, of old only, of both. */
WITH_POPCOUNT void diff(const uint64_t *new, const uint64_t *old, size_t nwords, uint64_t counts[3])
{
    uint64_t appeared = 0;
    uint64_t disappeared = 0;
    uint64_t common = 0;

    for (size_t i = 0; i < nwords; i++) {
        appeared += (uint64_t)__builtin_popcountll(new[i] & ~old[i]);
        disappeared += (uint64_t)__builtin_popcountll(old[i] & ~new[i]);
        common += (uint64_t)__builtin_popcountll(new[i] & old[i]);
    }
    counts[0] = appeared;
    counts[1] = disappeared;
    counts[2] = common;
}

/* Ones of each bin, where all bins have the same number of words. */
WITH_POPCOUNT void histogram(const uint64_t *map, size_t nwords, size_t bins, int64_t *counts)
{
    size_t words = nwords / bins;

    for (size_t bin = 0; bin < bins; bin++) {
        counts[bin] = (int64_t)count(map + bin * words, words);
    }
}

/* A byte 0 or 1 for each bit: 8 bits spread over 8 bytes by one multiplication. */
void mask(const uint64_t *map, size_t nwords, uint64_t *bytes)
{
    for (size_t i = 0; i < nwords; i++) {
        for (unsigned j = 0; j < 8; j++) {
            uint64_t eight = map[i] >> (8 * j) & 0xff;
            uint64_t low = (eight & 0x7f) * 0x0000040810204081 & 0x0001010101010101;
            bytes[8 * i + j] = low | (eight >> 7) << 56;
        }
    }
}
