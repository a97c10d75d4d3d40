/*
 * area.h - host pages for a bitmap, between two inaccessible ones: a test that reads or writes one
 * byte outside of them ends by a signal, without any sanitizer.
 */
#ifndef AREA_H
#define AREA_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "check.h"
#include "iova_bitmap.h"

struct area {
    uint8_t *bytes; /* the first page that may be used */
    uint64_t npages;
    uint64_t size; /* of the pages, in bytes */
};

static inline void area_protect(const struct area *area, uint64_t first, uint64_t npages, int how)
{
    const uint64_t page = iova_bitmap_host_page_size();

    if (mprotect(area->bytes + first * page, npages * page, how) != 0) {
        perror("mprotect");
        abort();
    }
}

/* Zeroed pages that can be written. */
static inline struct area area_map(uint64_t npages)
{
    const uint64_t page = iova_bitmap_host_page_size();
    uint8_t *all = mmap(NULL, (npages + 2) * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (all == MAP_FAILED) {
        check_skip("no memory");
    }
    struct area area = {.bytes = all + page, .npages = npages, .size = npages * page};
    area_protect(&area, 0, npages, PROT_READ | PROT_WRITE);
    return area;
}

static inline void area_unmap(struct area *area)
{
    const uint64_t page = iova_bitmap_host_page_size();

    munmap(area->bytes - page, area->size + 2 * page);
    area->bytes = NULL;
}

#endif
