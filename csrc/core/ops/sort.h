/*
 * sort.h - rows of a batch in ascending order.
 */
#ifndef IOVA_SORT_H
#define IOVA_SORT_H

#include "core/bitmap/poll.h"

/* The bits of a row, inclusive. */
struct iova_bits {
    uint64_t first;
    uint64_t last;
};

/* Sorts *rows, which malloc made, by their first bits, of which none is above `most`; they may come
 * to lie elsewhere. 0, -ENOMEM or -EINTR. */
int iova_bits_sort(struct iova_poll *poll, struct iova_bits **rows, size_t count, uint64_t most);

#endif
