/*
 * geometry.c - the arithmetic between addresses and bits. Pure: no memory, no windows, no state.
 *
 * Ends are kept as last addresses and last bits, inclusive, so that a range that ends at 2**64
 * needs no wider number and nothing here can overflow.
 */
#include <errno.h>

#include "core/bitmap/bitmap.h"

static unsigned log2_of_power(uint64_t power)
{
    unsigned shift = 0;
    while (power >>= 1) {
        shift++;
    }
    return shift;
}

int iova_bitmap_geometry_init(struct iova_bitmap_geometry *geometry, uint64_t iova, uint64_t length,
                              uint64_t page_size)
{
    if (length == 0 || page_size == 0 || (page_size & (page_size - 1)) != 0) {
        return -EINVAL;
    }
    if (length - 1 > UINT64_MAX - iova) {
        return -EOVERFLOW;
    }
    geometry->iova = iova;
    geometry->length = length;
    geometry->last = iova + (length - 1);
    geometry->page_size = page_size;
    geometry->pgshift = log2_of_power(page_size);
    geometry->nbits = ((length - 1) >> geometry->pgshift) + 1;
    geometry->nbytes = iova_bitmap_nbytes(length, page_size);
    return 0;
}

uint64_t iova_bitmap_nbytes(uint64_t length, uint64_t page_size)
{
    if (length == 0) {
        return 0;
    }
    return ((length - 1) >> log2_of_power(page_size) >> 3) + 1;
}

uint64_t iova_geometry_last_address(const struct iova_bitmap_geometry *geometry, uint64_t bit)
{
    if (bit == geometry->nbits - 1) {
        return geometry->last;
    }
    return iova_geometry_address(geometry, bit) + (geometry->page_size - 1);
}

struct iova_span iova_geometry_pages(const struct iova_bitmap_geometry *geometry,
                                     uint64_t first_bit, uint64_t nbits)
{
    return (struct iova_span){
        .iova = iova_geometry_address(geometry, first_bit),
        .last = iova_geometry_last_address(geometry, first_bit + (nbits - 1)),
        .first_bit = first_bit,
        .last_bit = first_bit + (nbits - 1),
    };
}

struct iova_span iova_geometry_whole(const struct iova_bitmap_geometry *geometry)
{
    return iova_geometry_pages(geometry, 0, geometry->nbits);
}
