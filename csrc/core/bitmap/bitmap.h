/*
 * bitmap.h - what the engine's files share and its users do not see: the bitmap itself, and the
 * one definition of what is inside its range.
 */
#ifndef IOVA_BITMAP_INSIDE_H
#define IOVA_BITMAP_INSIDE_H

#include <errno.h>
#include <stddef.h>

#include "iova_bitmap.h"

static inline uint64_t min64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t max64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* A window as the engine holds it: what users see, the bytes it covers, and what was pinned. */
struct iova_window {
    struct iova_bitmap_window view;
    uint64_t nbytes;   /* bytes of bitmap from view.base_index on */
    uintptr_t address; /* first host page, multiple of the host's page size */
};

enum iova_mapping { IOVA_MAPPING_UNKNOWN, IOVA_MAPPING_PRIVATE, IOVA_MAPPING_SHARED };

/* The geometry and the pin backend never change. `present` is one operation's at a time; `stats`
 * and `mapping` are all's, and atomic. */
struct iova_bitmap {
    struct iova_bitmap_geometry geometry;
    uint8_t *data;
    uint64_t size; /* bytes at data, at least the geometry's nbytes */
    uint64_t window_pages;
    const struct iova_bitmap_pin_ops *pin;
    void *pin_context;
    int (*poll)(void *context);
    void *poll_context;
    uint64_t host_page_size;

    uint8_t mapping; /* of the memory: enum iova_mapping; found out once, atomically */

    struct iova_window present;
    struct iova_bitmap_stats stats;
};

/* The part of a bitmap that a range of addresses stands for. */
struct iova_span {
    uint64_t iova;      /* first address, inside the bitmap */
    uint64_t last;      /* last address, inside the bitmap */
    uint64_t first_bit; /* first page that the range touches */
    uint64_t last_bit;  /* last page that the range touches, inclusive */
};

/* The range of nbits (>= 1) pages, and that of all pages. */
struct iova_span iova_geometry_pages(const struct iova_bitmap_geometry *geometry,
                                     uint64_t first_bit, uint64_t nbits);
struct iova_span iova_geometry_whole(const struct iova_bitmap_geometry *geometry);

/* The one definition of the bit of an address, which is inside. */
static inline uint64_t iova_geometry_bit(const struct iova_bitmap_geometry *geometry, uint64_t iova)
{
    return (iova - geometry->iova) >> geometry->pgshift;
}

/*
 * The one definition of what is inside: 1 and *span where the range has a part to work on, 0 where
 * it has none (length 0, or nothing left after clipping), -EOVERFLOW where it wraps 2**64, -ERANGE
 * where it is not all inside and IOVA_BITMAP_CLIP is not in flags.
 */
static inline int iova_geometry_resolve(const struct iova_bitmap_geometry *geometry, uint64_t iova,
                                        uint64_t length, unsigned flags, struct iova_span *span)
{
    if (length == 0) {
        return 0;
    }
    if (length - 1 > UINT64_MAX - iova) {
        return -EOVERFLOW;
    }
    uint64_t last = iova + (length - 1);
    if (iova < geometry->iova || last > geometry->last) {
        if (!(flags & IOVA_BITMAP_CLIP)) {
            return -ERANGE;
        }
        if (last < geometry->iova || iova > geometry->last) {
            return 0;
        }
        iova = iova < geometry->iova ? geometry->iova : iova;
        last = last > geometry->last ? geometry->last : last;
    }
    span->iova = iova;
    span->last = last;
    span->first_bit = iova_geometry_bit(geometry, iova);
    span->last_bit = iova_geometry_bit(geometry, last);
    return 1;
}

/* First address of a page. `bit` is less than nbits. */
static inline uint64_t iova_geometry_address(const struct iova_bitmap_geometry *geometry,
                                             uint64_t bit)
{
    return geometry->iova + (bit << geometry->pgshift);
}

/* Last address of a page, cut at the end of the range. */
uint64_t iova_geometry_last_address(const struct iova_bitmap_geometry *geometry, uint64_t bit);

#endif
