/*
 * bits.c - operations on runs of bits: the only file that writes a caller's bitmap bytes.
 *
 * Every run is cut into a first byte, whole bytes and a last byte (split). Marking touches the
 * first and the last with an atomic OR, after a look whether it is needed, because a neighbour's
 * bits live there; the whole bytes between belong to the run alone.
 */
#include "core/bits/bits.h"

/* A run as its edge bytes and the whole bytes between. An edge mask of 0 is no edge. */
struct pieces {
    uint8_t head;    /* bits of the first byte that are in the run, where not all are */
    uint8_t tail;    /* bits of the last byte that are in the run, where not all are */
    uint64_t middle; /* whole bytes; the first is at offset (head != 0) */
};

static struct pieces split(unsigned skip, uint64_t nbits)
{
    struct pieces run = {0};
    if (skip != 0) {
        unsigned room = 8 - skip;
        if (nbits <= room) {
            run.head = (uint8_t)(iova_bits_from(skip) & iova_bits_upto(skip + (unsigned)nbits - 1));
            return run;
        }
        run.head = iova_bits_from(skip);
        nbits -= room;
    }
    run.middle = nbits >> 3;
    if (nbits & 7) {
        run.tail = iova_bits_upto((unsigned)(nbits & 7) - 1);
    }
    return run;
}

/* Sets the bits of mask; returns those that this call turned on. */
static uint8_t mark_byte(uint8_t *byte, uint8_t mask)
{
    if ((iova_atomic_load8(byte) & mask) == mask) {
        return 0;
    }
    return mask & (uint8_t)~iova_atomic_or8(byte, mask);
}

static void clear_byte(uint8_t *byte, uint8_t mask)
{
    if ((iova_atomic_load8(byte) & mask) != 0) {
        iova_atomic_and8(byte, (uint8_t)~mask);
    }
}

/* Turns whole bytes to ones and counts the bits that were zero, each word in one exchange. */
static uint64_t mark_bytes(uint8_t *bytes, uint64_t n)
{
    uint64_t newly = 0;
    while (n > 0 && ((uintptr_t)bytes & 7) != 0) {
        newly += iova_popcount64(mark_byte(bytes, 0xff));
        bytes++;
        n--;
    }
    for (; n >= 8; n -= 8, bytes += 8) {
        iova_word *word = (iova_word *)(void *)bytes;
        if (iova_atomic_load64(word) != UINT64_MAX) {
            newly += iova_popcount64(~iova_atomic_exchange64(word, UINT64_MAX));
        }
    }
    for (; n > 0; n--, bytes++) {
        newly += iova_popcount64(mark_byte(bytes, 0xff));
    }
    return newly;
}

/* Whole bytes of a run, which are its alone. Plain stores: beside an atomic OR or exchange of the
 * same byte, in any order, no mark of another is lost. */
static void fill(uint8_t *bytes, uint8_t value, uint64_t n)
{
    IOVA_RACY_WRITE_BEGIN();
    memset(bytes, value, (size_t)n);
    IOVA_RACY_WRITE_END();
}

void iova_bits_set(uint8_t *bytes, unsigned skip, uint64_t nbits)
{
    struct pieces run = split(skip, nbits);
    if (run.head) {
        mark_byte(bytes++, run.head);
    }
    if (run.middle) {
        fill(bytes, 0xff, run.middle);
        bytes += run.middle;
    }
    if (run.tail) {
        mark_byte(bytes, run.tail);
    }
}

uint64_t iova_bits_test_and_set(uint8_t *bytes, unsigned skip, uint64_t nbits)
{
    struct pieces run = split(skip, nbits);
    uint64_t newly = 0;
    if (run.head) {
        newly += iova_popcount64(mark_byte(bytes++, run.head));
    }
    newly += mark_bytes(bytes, run.middle);
    if (run.tail) {
        newly += iova_popcount64(mark_byte(bytes + run.middle, run.tail));
    }
    return newly;
}

void iova_bits_clear(uint8_t *bytes, unsigned skip, uint64_t nbits)
{
    struct pieces run = split(skip, nbits);
    if (run.head) {
        clear_byte(bytes++, run.head);
    }
    if (run.middle) {
        fill(bytes, 0, run.middle);
        bytes += run.middle;
    }
    if (run.tail) {
        clear_byte(bytes, run.tail);
    }
}

void iova_bits_expand(const uint8_t *bytes, unsigned skip, uint64_t nbits, uint8_t *mask)
{
    uint64_t bit = skip;
    for (uint64_t i = 0; i < nbits; i++, bit++) {
        mask[i] = (bytes[bit >> 3] >> (bit & 7)) & 1;
    }
}

bool iova_bits_equal(const uint8_t *a, const uint8_t *b, unsigned skip, uint64_t nbits)
{
    struct pieces run = split(skip, nbits);
    if (run.head && ((*a++ ^ *b++) & run.head) != 0) {
        return false;
    }
    if (run.middle && memcmp(a, b, (size_t)run.middle) != 0) {
        return false;
    }
    return run.tail == 0 || ((a[run.middle] ^ b[run.middle]) & run.tail) == 0;
}

void iova_bits_copy(uint8_t *to, const uint8_t *from, unsigned skip, uint64_t nbits)
{
    struct pieces run = split(skip, nbits);
    if (run.head) {
        *to++ = *from++ & run.head;
    }
    if (run.middle) {
        memcpy(to, from, (size_t)run.middle);
    }
    if (run.tail) {
        to[run.middle] = from[run.middle] & run.tail;
    }
}
