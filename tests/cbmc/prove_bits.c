/*
 * prove_bits.c - csrc/core/bits: bits.c, bits.h, words.h and the portable expand: for every content
 * of a piece of memory, and every run of bits in it, at every byte address relative to a word.
 *
 * BYTES is the size of the memory and BYTE, the run's first byte in it, is a constant: each
 * alignment is proved for itself. With EXACT the memory holds just the run's bytes, so that no byte
 * beside them can be looked at; without it there is room on both sides, for bits that must not
 * change.
 */

#include "core/bits/bits.h"
#include "core/bits/kernels.h"
#include "core/bits/words.h"
#include "proof.h"

struct memory {
    uint8_t bytes[BYTES];
};

struct run {
    uint8_t byte; /* the first */
    uint8_t skip;
    uint8_t nbits;
};

static struct run any_run(void)
{
    struct run run;

    run.byte = BYTE;
    GIVEN(run.skip < 8 && run.nbits >= 1);
    GIVEN(8 * run.byte + run.skip + run.nbits <= 8 * BYTES);
#if EXACT
    GIVEN(run.byte + (run.skip + run.nbits + 7) / 8 == BYTES);
#endif
    return run;
}

static bool inside(const struct run *run, unsigned bit)
{
    const unsigned first = 8 * run->byte + run->skip;

    return first <= bit && bit < first + run->nbits;
}

/* Any bit of memory. */
static uint8_t any_bit(void)
{
    const uint8_t bit = nondet_u8();

    GIVEN(bit < 8 * BYTES);
    return bit;
}

void bits_set(void)
{
    struct memory memory, before = memory;
    const struct run run = any_run();
    const uint8_t bit = any_bit();

    iova_bits_set(memory.bytes + run.byte, run.skip, run.nbits);
    PROVE(bit_at(memory.bytes, bit) == (inside(&run, bit) || bit_at(before.bytes, bit)));
}

void bits_clear(void)
{
    struct memory memory, before = memory;
    const struct run run = any_run();
    const uint8_t bit = any_bit();

    iova_bits_clear(memory.bytes + run.byte, run.skip, run.nbits);
    PROVE(bit_at(memory.bytes, bit) == (!inside(&run, bit) && bit_at(before.bytes, bit)));
}

void bits_test_and_set(void)
{
    struct memory memory, before = memory;
    const struct run run = any_run();
    const uint8_t bit = any_bit();

    iova_bits_test_and_set(memory.bytes + run.byte, run.skip, run.nbits);
    PROVE(bit_at(memory.bytes, bit) == (inside(&run, bit) || bit_at(before.bytes, bit)));
}

/* What it counts, where any two bits of memory are clean, in the run or beside it, and all others
 * dirty. (Sums of many bits in different orders are more than a solver can compare.) */
void bits_newly(void)
{
    struct memory memory;
    const struct run run = any_run();
    const uint8_t a = any_bit();
    const uint8_t b = any_bit();
    for (unsigned i = 0; i < BYTES; i++) {
        memory.bytes[i] = 0xff & ~(a / 8 == i ? 1u << a % 8 : 0) & ~(b / 8 == i ? 1u << b % 8 : 0);
    }

    const uint64_t newly = iova_bits_test_and_set(memory.bytes + run.byte, run.skip, run.nbits);
    PROVE(newly == (uint64_t)inside(&run, a) + (a != b && inside(&run, b)));
}

/* The masks of a short run in one or two aligned words, marked or cleared, where others may write
 * or not. The bitmap's memory is any part of the memory that holds the run; with EXACT, it ends
 * there. A run is refused only if it is longer, or if its words are not all in that part. */
void bits_short_run(void)
{
    struct memory memory, before = memory;
    const struct run run = any_run();
    const uint8_t bit = any_bit();
    const uint8_t begin = nondet_u8();
    const uint8_t end = nondet_u8();
    const bool clear = nondet_bool();
    const bool exclusive = nondet_bool();
    struct iova_short_run words;
    GIVEN(begin <= run.byte && 8 * run.byte + run.skip + run.nbits <= 8 * end && end <= BYTES);

    const unsigned first = run.byte & ~7u; /* the memory starts at a word */
    const unsigned behind = ((8 * run.byte + run.skip + run.nbits - 1) / 64 + 1) * 8;
    const bool some = iova_bits_short_run(&words, memory.bytes + run.byte, run.skip, run.nbits,
                                          memory.bytes + begin, memory.bytes + end);
    PROVE(some == (run.nbits <= 64 && begin <= first && behind <= end));
    if (some) {
        PROVE(words.first == memory.bytes + first && words.last == memory.bytes + behind - 8);
        PROVE((words.in_last != 0) == (words.last != words.first));
        if (clear) {
            iova_bits_clear_word(words.first, words.in_first, exclusive);
            iova_bits_clear_word(words.last, words.in_last, exclusive);
        } else {
            iova_bits_mark_word(words.first, words.in_first, exclusive);
            iova_bits_mark_word(words.last, words.in_last, exclusive);
        }
        PROVE(bit_at(memory.bytes, bit) ==
              (inside(&run, bit) ? !clear : bit_at(before.bytes, bit)));
    }
}

/* A run of any length as a head, whole bytes and a tail: they are its bits, and nothing else. */
void bits_cut(void)
{
    const unsigned skip = nondet_unsigned();
    const uint64_t nbits = nondet_u64();
    const uint64_t at = nondet_u64(); /* any bit, counted from bit 0 of the first byte */
    GIVEN(skip < 8 && nbits >= 1);

    const struct iova_cut cut = iova_bits_cut(skip, nbits);
    const bool in_run = skip <= at && at < (wide)skip + nbits;
    const uint64_t before = cut.head != 0; /* bytes */
    bool found = false;
    PROVE((cut.head != 0) == (skip != 0));
    if (at >> 3 < before) {
        found = cut.head >> (at & 7) & 1;
    } else if ((at >> 3) - before < cut.whole) {
        found = true;
    } else if ((at >> 3) - before == cut.whole) {
        found = cut.tail >> (at & 7) & 1;
    }
    PROVE(found == in_run);
}

/* The portable loop, which defines all others: a byte for each bit of some words. */
void bits_expand(void)
{
    const struct memory memory;
    const uint8_t nwords = nondet_u8();
    uint8_t mask[8 * BYTES], before = nondet_u8();
    const uint8_t i = any_bit();
    GIVEN(BYTE + 8 * nwords <= BYTES);
    mask[i] = before;

    iova_kernels_portable.expand(memory.bytes + BYTE, nwords, mask);
    PROVE(mask[i] == (i < 64 * nwords ? bit_at(memory.bytes, 8 * BYTE + i) : before));
}

void bits_equal(void)
{
    const struct memory a, b;
    const struct run run = any_run();
    bool equal = true;
    GIVEN(run.skip == 0);
    for (unsigned bit = 0; bit < 8 * BYTES; bit++) {
        equal = equal && (!inside(&run, bit) || bit_at(a.bytes, bit) == bit_at(b.bytes, bit));
    }

    PROVE(iova_bits_equal(a.bytes + run.byte, b.bytes + run.byte, run.nbits) == equal);
}

void bits_copy(void)
{
    const struct memory from;
    struct memory to, before = to;
    const struct run run = any_run();
    const uint8_t bit = any_bit();
    GIVEN(run.skip == 0);

    iova_bits_copy(to.bytes + run.byte, from.bytes + run.byte, run.nbits);
    const bool touched = run.byte <= bit / 8 && bit / 8 <= run.byte + (run.nbits - 1) / 8;
    const bool want =
        touched ? inside(&run, bit) && bit_at(from.bytes, bit) : bit_at(before.bytes, bit);
    PROVE(bit_at(to.bytes, bit) == want);
}

/* A run as a head, whole words and a tail: they hold its bits, in order, and nothing else. */
void bits_words(void)
{
    struct memory memory;
    const struct run run = any_run();
    const uint8_t i = nondet_u8();
    GIVEN(i < run.nbits);

    const struct iova_words words = iova_words_of(memory.bytes + run.byte, run.skip, run.nbits);
    PROVE(words.head_bits <= 64 && words.tail_bits < 64);
    PROVE(words.head_bits + 64 * (uint64_t)words.nwords + words.tail_bits == run.nbits);
    PROVE(words.head_bits == 64 || words.head >> words.head_bits == 0);
    PROVE(words.tail >> words.tail_bits == 0);
    const bool want = bit_at(memory.bytes, 8 * run.byte + run.skip + i);
    if (i < words.head_bits) {
        PROVE(((words.head >> i) & 1) == want);
    } else if (i - words.head_bits < 64 * words.nwords) {
        const unsigned k = i - words.head_bits;
        PROVE(((iova_bits_load64(words.body + 8 * (k / 64)) >> k % 64) & 1) == want);
    } else {
        PROVE(((words.tail >> (i - words.head_bits - 64 * words.nwords)) & 1) == want);
    }
}

/* An edge is a bit that differs from the one before it. */
void bits_edges(void)
{
    const uint64_t word = nondet_u64();
    const uint8_t nbits = nondet_u8();
    const uint64_t before = nondet_bool();
    const uint8_t i = nondet_u8();
    uint64_t carry = before;
    GIVEN(nbits <= 64 && i < 64);

    const uint64_t found = iova_words_edges(word, nbits, &carry);
    const uint64_t previous = i == 0 ? before : (word >> (i - 1)) & 1;
    PROVE(((found >> i) & 1) == (i < nbits && ((word >> i) & 1) != previous));
    PROVE(carry == (nbits == 0 ? before : (word >> (nbits - 1)) & 1));
    PROVE(word == 0 || (word & ((uint64_t)2 << iova_lowest_bit(word)) - 1) ==
                           (uint64_t)1 << iova_lowest_bit(word));
    PROVE(word != 0 || iova_lowest_bit(word) == 63);
}
