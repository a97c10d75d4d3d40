/*
 * snapshot.c - finds changed pages by comparing them, at the speed of memory: memcmp() is as fast
 * as the C library can make it, and reads no further than the first difference.
 */
#include "core/sources/snapshot.h"

#include <string.h>

uint64_t iova_snapshot_diff(const uint8_t *memory, uint8_t *shadow, uint64_t size,
                            uint64_t page_size, uint8_t *changed)
{
    uint64_t count = 0;

    for (uint64_t at = 0; at < size; changed++) {
        uint64_t length = size - at < page_size ? size - at : page_size;
        *changed = memcmp(memory + at, shadow + at, (size_t)length) != 0;
        if (*changed) {
            /* What is written between the two calls is in the shadow, and the page is told now. */
            memcpy(shadow + at, memory + at, (size_t)length);
            count++;
        }
        at += length;
    }
    return count;
}
