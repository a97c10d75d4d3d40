/*
 * bits.c - operations on runs of bits.
 *
 * Every run is cut into a first byte, whole bytes and a last byte (iova_bits_cut). Marking writes
 * the first and the last with an atomic OR, after a test whether that is needed, because a
 * neighbour's bits live there; the whole bytes between belong to the run alone.
 */
#include "core/bits/bits.h"

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
    uint64_t i = 0;

    for (uint64_t before = iova_bits_to_word(bytes, n); i < before; i++) {
        newly += iova_popcount64(mark_byte(bytes + i, 0xff));
    }
    for (; n - i >= 8; i += 8) {
        iova_word *word = (iova_word *)(void *)(bytes + i);
        if (iova_atomic_load64(word) != UINT64_MAX) {
            newly += iova_popcount64(~iova_atomic_exchange64(word, UINT64_MAX));
        }
    }
    for (; i < n; i++) {
        newly += iova_popcount64(mark_byte(bytes + i, 0xff));
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
    const struct iova_cut cut = iova_bits_cut(skip, nbits);
    if (cut.head) {
        mark_byte(bytes++, cut.head);
    }
    if (cut.whole) {
        fill(bytes, 0xff, cut.whole);
        bytes += cut.whole;
    }
    if (cut.tail) {
        mark_byte(bytes, cut.tail);
    }
}

uint64_t iova_bits_test_and_set(uint8_t *bytes, unsigned skip, uint64_t nbits)
{
    const struct iova_cut cut = iova_bits_cut(skip, nbits);
    uint64_t newly = 0;
    if (cut.head) {
        newly += iova_popcount64(mark_byte(bytes++, cut.head));
    }
    newly += mark_bytes(bytes, cut.whole);
    if (cut.tail) {
        newly += iova_popcount64(mark_byte(bytes + cut.whole, cut.tail));
    }
    return newly;
}

void iova_bits_clear(uint8_t *bytes, unsigned skip, uint64_t nbits)
{
    const struct iova_cut cut = iova_bits_cut(skip, nbits);
    if (cut.head) {
        clear_byte(bytes++, cut.head);
    }
    if (cut.whole) {
        fill(bytes, 0, cut.whole);
        bytes += cut.whole;
    }
    if (cut.tail) {
        clear_byte(bytes, cut.tail);
    }
}

bool iova_bits_equal(const uint8_t *a, const uint8_t *b, uint64_t nbits)
{
    const struct iova_cut cut = iova_bits_cut(0, nbits);

    IOVA_RACY_READ_BEGIN(); /* as in iova_bits_load64 */
    const bool equal = memcmp(a, b, (size_t)cut.whole) == 0 &&
                       (cut.tail == 0 || ((a[cut.whole] ^ b[cut.whole]) & cut.tail) == 0);
    IOVA_RACY_READ_END();
    return equal;
}

void iova_bits_copy(uint8_t *to, const uint8_t *from, uint64_t nbits)
{
    const struct iova_cut cut = iova_bits_cut(0, nbits);

    IOVA_RACY_READ_BEGIN();
    memcpy(to, from, (size_t)cut.whole);
    if (cut.tail) {
        to[cut.whole] = from[cut.whole] & cut.tail;
    }
    IOVA_RACY_READ_END();
}
