/*
 * batch.h - many rows, and the loops over those of them that are simple.
 */
#ifndef IOVA_BATCH_H
#define IOVA_BATCH_H

#include "core/bitmap/walk.h"
#include "core/bits/atomic.h"

struct iova_batch {
    struct iova_bitmap *bitmap;
    const uint64_t *items;
    uint64_t count;
    bool pages; /* items are addresses, of one page each; else pairs (iova, length) */
    bool clear;
    unsigned flags;
};

/* One number of the array. It is loaded once, so that what was checked is what is used: another
 * thread may change it concurrently. */
static inline uint64_t iova_batch_item(const uint64_t *items, uint64_t i)
{
    return iova_atomic_load64((const iova_word *)(const void *)(items + i));
}

struct iova_batch_loops {
    /* Whether none of the rows from `from` to before `to` is empty or reaches outside. False also
     * if that is not known. */
    bool (*all_inside)(const struct iova_batch *batch, uint64_t from, uint64_t to);

    /* Marks or clears rows, over memory that needs no pins: the first of them that was not done,
     * because it is longer than 64 pages, not all inside, or at an edge of the memory; else `to`.
     */
    uint64_t (*mark)(const struct iova_batch *batch, uint64_t from, uint64_t to);
};

/* Those for this CPU. */
const struct iova_batch_loops *iova_batch_loops(void);

#endif
