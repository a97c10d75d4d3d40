/*
 * side.h - a bitmap over memory with random content that is accessible while it is pinned only
 * (fake_pin.h), and that content as an array of booleans: what tests of large questions ask.
 *
 * A program sets `host` first.
 */
#ifndef SIDE_H
#define SIDE_H

#include "fake_pin.h"

enum { NPAGES = 6, OFFSET = 4081, MOST_BITS = NPAGES * 4096 * 8 };

static uint64_t state = 7;
static uint64_t host;

/* A bitmap of pages of `page_size` addresses from `base` on, over memory with random content. */
struct side {
    struct fake_pin fake;
    struct iova_bitmap *bitmap;
    uint64_t base, page_size, nbits;
    bool before[MOST_BITS];
    bool after[MOST_BITS];
    uint8_t edges[2]; /* the bytes before and behind */
    uint8_t unused;   /* bits of the last byte that stand for no page */
};

static inline uint64_t below(uint64_t limit)
{
    return (check_random(&state) >> 11) % limit;
}

static inline void look(const struct side *side, bool *bits)
{
    const uint8_t *bytes = fake_open(&side->fake) + OFFSET;

    for (uint64_t n = 0; n < side->nbits; n++) {
        bits[n] = bytes[n / 8] >> n % 8 & 1;
    }
    fake_shut(&side->fake);
}

static inline void neighbours(const struct side *side, uint8_t edges[2], uint8_t *unused)
{
    const uint8_t *bytes = fake_open(&side->fake) + OFFSET;

    edges[0] = bytes[-1];
    const uint64_t end = OFFSET + (side->nbits + 7) / 8;
    edges[1] = end < side->fake.area.size ? bytes[end - OFFSET] : 0;
    *unused = 0;
    if (side->nbits % 8 != 0) {
        *unused = (uint8_t)(bytes[side->nbits / 8] >> side->nbits % 8);
    }
    fake_shut(&side->fake);
}

static inline void make(struct side *side, uint64_t base, uint64_t length, uint64_t page_size)
{
    side->fake = fake_make(NPAGES);
    side->base = base;
    side->page_size = page_size;
    side->nbits = (length + page_size - 1) / page_size;
    side->bitmap =
        fake_bitmap(&side->fake, &fake_ops, base, length, page_size, OFFSET, 1 + below(3));
    uint8_t *bytes = fake_open(&side->fake);
    const uint64_t kind = below(3);
    for (uint64_t i = 0; i < side->fake.area.size; i++) {
        const uint64_t word = check_random(&state) >> 9;
        const uint64_t one = kind == 1 ? (uint64_t)1 << word % 8 : word % 300 == 0;
        bytes[i] = (uint8_t)(kind == 0 ? word : one);
    }
    fake_shut(&side->fake);
    neighbours(side, side->edges, &side->unused);
    look(side, side->before);
}

static inline void finish(struct side *side)
{
    uint8_t edges[2];
    uint8_t unused;

    neighbours(side, edges, &unused);
    CHECK_EQ(edges[0], side->edges[0]);
    CHECK_EQ(edges[1], side->edges[1]);
    CHECK_EQ(unused, side->unused);
    CHECK_EQ(side->fake.live_count, 0);
    fake_check_stats(&side->fake, side->bitmap);
    fake_free(&side->fake, side->bitmap);
}

/* A part of a side's range in addresses, and the pages [first, stop) that it touches. */
static inline struct iova_bitmap_range part(const struct side *side, uint64_t *first,
                                            uint64_t *stop)
{
    const struct iova_bitmap_geometry *geometry = iova_bitmap_geometry(side->bitmap);
    struct iova_bitmap_range range = {geometry->iova, geometry->length};

    if (below(2)) {
        range.iova += below(range.length);
        range.length = 1 + below(geometry->last - range.iova + 1);
    }
    *first = (range.iova - side->base) / side->page_size;
    *stop = (range.iova + range.length - 1 - side->base) / side->page_size + 1;
    return range;
}

#endif
