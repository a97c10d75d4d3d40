/*
 * words.h - a run of bits as words: a part of one before, whole ones, a part of one after them.
 *
 * Reading functions work on the three parts, so that the whole words can go to a kernel (kernels.h)
 * and no byte outside of the run is read. The whole words start at any byte address.
 */
#ifndef IOVA_WORDS_H
#define IOVA_WORDS_H

#include "core/bits/bits.h"
#include "core/bits/kernels.h"

struct iova_words {
    uint64_t head; /* its first head_bits bits are the run's first */
    unsigned head_bits;
    const uint8_t *body;
    size_t nwords;
    uint64_t tail; /* its first tail_bits bits are the run's last */
    unsigned tail_bits;
};

/* The bits from bit 0 of `bytes` on as a word; no more bytes are read than hold nbits (0..64). */
static inline uint64_t iova_words_partial(const uint8_t *bytes, unsigned nbits)
{
    uint64_t word = 0;
    IOVA_RACY_READ_BEGIN(); /* as in iova_bits_load64 */
    for (unsigned i = 0; i < (nbits + 7) / 8; i++) {
        word |= (uint64_t)bytes[i] << (8 * i);
    }
    IOVA_RACY_READ_END();
    return nbits < 64 ? word & (((uint64_t)1 << nbits) - 1) : word;
}

static inline struct iova_words iova_words_of(const uint8_t *bytes, unsigned skip, uint64_t nbits)
{
    const struct iova_cut cut = iova_bits_cut(skip, nbits);
    struct iova_words words = {.body = bytes, .nwords = (size_t)(cut.whole >> 3)};

    if (cut.head != 0) {
        words.head = iova_words_partial(bytes, 8) >> skip;
        words.head_bits = iova_popcount64(cut.head);
        words.head &= UINT64_MAX >> (64 - words.head_bits);
        words.body++;
    }
    words.tail_bits = 8 * (unsigned)(cut.whole & 7) + iova_popcount64(cut.tail);
    words.tail = iova_words_partial(words.body + 8 * words.nwords, words.tail_bits);
    return words;
}

/* The edges (kernels.h) of the first nbits (0..64) bits of a word. */
static inline uint64_t iova_words_edges(uint64_t word, unsigned nbits, uint64_t *carry)
{
    if (nbits == 0) {
        return 0;
    }
    uint64_t valid = UINT64_MAX >> (64 - nbits);
    uint64_t found = (word ^ (word << 1 | *carry)) & valid;
    *carry = (word >> (nbits - 1)) & 1;
    return found;
}

#endif
