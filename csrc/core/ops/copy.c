/*
 * copy.c - copying the whole content out, as bits or as a mask.
 */
#include "core/bitmap/walk.h"
#include "core/bits/words.h"

int iova_bitmap_read(struct iova_bitmap *bitmap, uint8_t *bytes, struct iova_bitmap_report *report)
{
    struct iova_walk walk;

    iova_walk_begin(&walk, bitmap, IOVA_WALK_READ, NULL, report);
    while (iova_walk_next(&walk)) {
        const struct iova_chunk *chunk = &walk.chunk;
        uint8_t *to = bytes + (chunk->first_bit >> 3); /* each chunk starts at a byte */
        if (chunk->hole) {
            memset(to, 0, (size_t)((chunk->nbits + 7) >> 3));
        } else {
            iova_bits_copy(to, chunk->bytes, chunk->nbits);
        }
    }
    return iova_walk_end(&walk);
}

/* One byte for each of the first nbits bits of a word. */
static void expand_part(uint64_t word, unsigned nbits, uint8_t *mask)
{
    for (unsigned i = 0; i < nbits; i++) {
        mask[i] = (word >> i) & 1;
    }
}

int iova_bitmap_to_mask(struct iova_bitmap *bitmap, uint8_t *mask,
                        struct iova_bitmap_report *report)
{
    struct iova_walk walk;

    iova_walk_begin(&walk, bitmap, IOVA_WALK_READ, NULL, report);
    while (iova_walk_next(&walk)) {
        const struct iova_chunk *chunk = &walk.chunk;
        uint8_t *to = mask + chunk->first_bit;
        if (chunk->hole) {
            memset(to, 0, (size_t)chunk->nbits);
        } else {
            const struct iova_words words = iova_words_of(chunk->bytes, 0, chunk->nbits);
            iova_kernels()->expand(words.body, words.nwords, to);
            expand_part(words.tail, words.tail_bits, to + 64 * words.nwords);
        }
    }
    return iova_walk_end(&walk);
}
