/*
 * bits.h - operations on runs of bits in byte-addressed memory.
 *
 * A run is `nbits` bits, nbits >= 1, of which the first is bit `skip` (0..7, LSB first) of *bytes.
 * `bytes` is any byte address. No function reads or writes a byte that holds none of the run's
 * bits, and none changes a bit outside of the run. The layout is the same on every host.
 */
#ifndef IOVA_BITS_H
#define IOVA_BITS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "core/bits/atomic.h"

/* Sets all; a bit that another thread or process sets meanwhile stays set. */
void iova_bits_set(uint8_t *bytes, unsigned skip, uint64_t nbits);

/* The same, and the number of bits that this call turned from 0 to 1: of any two callers that set
 * the same bit, one counts it. */
uint64_t iova_bits_test_and_set(uint8_t *bytes, unsigned skip, uint64_t nbits);

/* Clears all. Bits beside the run that are set meanwhile stay set. */
void iova_bits_clear(uint8_t *bytes, unsigned skip, uint64_t nbits);

/* True if both runs, which start at a byte, are equal. */
bool iova_bits_equal(const uint8_t *a, const uint8_t *b, uint64_t nbits);

/* Copies whole bytes of a run that starts at one; what the last one holds beside it becomes 0. */
void iova_bits_copy(uint8_t *to, const uint8_t *from, uint64_t nbits);

/* A mask of which bit n is bit n of the run, as it lies in memory, and back. */
static inline uint64_t iova_bits_in_memory(uint64_t mask)
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    mask = __builtin_bswap64(mask);
#endif
    return mask;
}

/* 8 bytes as a word whose bit n is bit n of the run, on any host and at any address. Loaded once,
 * but not atomic: at any byte address nothing is. While others mark it is the word of some moment.
 */
static inline uint64_t iova_bits_load64(const uint8_t *bytes)
{
    uint64_t word;
    IOVA_RACY_READ_BEGIN();
    memcpy(&word, bytes, sizeof(word));
    IOVA_RACY_READ_END();
    return iova_bits_in_memory(word);
}

static inline unsigned iova_popcount64(uint64_t word)
{
    return (unsigned)__builtin_popcountll(word);
}

/*
 * The bits of a mask in an aligned word. If nobody else writes the word concurrently, it is
 * `exclusive` and plain stores suffice; else the word is tested first, since a bit that is already
 * right needs no locked instruction.
 */
static inline void iova_bits_mark_word(uint8_t *bytes, uint64_t mask, bool exclusive)
{
    iova_word *word = (iova_word *)(void *)bytes;

    mask = iova_bits_in_memory(mask);
    if (exclusive) {
        *word |= mask;
    } else if ((iova_atomic_load64(word) & mask) != mask) {
        iova_atomic_or64(word, mask);
    }
}

static inline void iova_bits_clear_word(uint8_t *bytes, uint64_t mask, bool exclusive)
{
    iova_word *word = (iova_word *)(void *)bytes;

    mask = iova_bits_in_memory(mask);
    if (exclusive) {
        *word &= ~mask;
    } else if ((iova_atomic_load64(word) & mask) != 0) {
        iova_atomic_and64(word, ~mask);
    }
}

/* Marks, and returns the number of bits that this call turned on. */
static inline uint64_t iova_bits_test_and_mark_word(uint8_t *bytes, uint64_t mask)
{
    iova_word *word = (iova_word *)(void *)bytes;

    mask = iova_bits_in_memory(mask);
    if ((iova_atomic_load64(word) & mask) == mask) {
        return 0;
    }
    return iova_popcount64(mask & ~iova_atomic_or64(word, mask));
}

/* A run of at most 64 bits as masks of one or two aligned words. */
struct iova_short_run {
    uint8_t *first;
    uint8_t *last; /* the first one again if the run lies in it */
    uint64_t in_first;
    uint64_t in_last; /* 0 if the run lies in the first */
};

/* False if the run is longer, or its words are not all memory of the bitmap, which is that from
 * `begin` to `end`. Whether it lies in one word or in two is no branch, which runs in any order
 * would make unpredictable. */
static inline bool iova_bits_short_run(struct iova_short_run *run, uint8_t *bytes, unsigned skip,
                                       uint64_t nbits, const uint8_t *begin, const uint8_t *end)
{
    unsigned offset = (unsigned)((uintptr_t)bytes & 7);
    unsigned bit = 8 * offset + skip; /* of the first word */

    run->first = bytes - offset;
    run->last = run->first + (bit + nbits > 64 ? 8 : 0);
    if (nbits > 64 || (uintptr_t)begin > (uintptr_t)run->first ||
        (uintptr_t)end - (uintptr_t)run->last < 8) {
        return false;
    }
    uint64_t mask = UINT64_MAX >> (64 - nbits);
    run->in_first = mask << bit;
    run->in_last = mask >> 1 >> (63 - bit);
    return true;
}

/* The line of memory at `address` will be written soon. */
static inline void iova_prefetch_write(const void *address)
{
#if defined(__x86_64__)
    __asm__ volatile("prefetchw %0" : : "m"(*(const char *)address)); /* a no-op where not known */
#else
    __builtin_prefetch(address, 1);
#endif
}

/* Mask of the bits of a byte from bit `skip` (0..7) on. */
static inline uint8_t iova_bits_from(unsigned skip)
{
    return (uint8_t)(0xffu << skip);
}

/* Mask of the bits of a byte up to bit `last` (0..7), inclusive. */
static inline uint8_t iova_bits_upto(unsigned last)
{
    return (uint8_t)(0xffu >> (7 - last));
}

/*
 * A run cut into a first byte that it shares with others, whole bytes of its own, and a last byte
 * that it shares. A mask of 0 is no such byte; a run inside one byte has a head only.
 */
struct iova_cut {
    uint8_t head;
    uint8_t tail;
    uint64_t whole; /* bytes; the first of them is at offset (head != 0) */
};

static inline struct iova_cut iova_bits_cut(unsigned skip, uint64_t nbits)
{
    struct iova_cut cut = {0};

    if (skip != 0) {
        unsigned room = 8 - skip;
        if (nbits <= room) {
            cut.head = (uint8_t)(iova_bits_from(skip) & iova_bits_upto(skip + (unsigned)nbits - 1));
            return cut;
        }
        cut.head = iova_bits_from(skip);
        nbits -= room;
    }
    cut.whole = nbits >> 3;
    if (nbits & 7) {
        cut.tail = iova_bits_upto((unsigned)(nbits & 7) - 1);
    }
    return cut;
}

/* Bytes before the first aligned word of `n` bytes; all of them if there is none. */
static inline uint64_t iova_bits_to_word(const uint8_t *bytes, uint64_t n)
{
    uint64_t before = -(uintptr_t)bytes & 7;

    return before < n ? before : n;
}

/* Index of the lowest one; 63 for a word of zeros. */
static inline unsigned iova_lowest_bit(uint64_t word)
{
    return (unsigned)__builtin_ctzll(word | (uint64_t)1 << 63);
}

#endif
