/*
 * snapshot.h - which pages of memory differ from a copy that was made of it earlier.
 */
#ifndef IOVA_SNAPSHOT_H
#define IOVA_SNAPSHOT_H

#include <stdint.h>

/*
 * Compares `size` bytes of memory with their shadow, page by page, the last of which may be short.
 * changed[i] is 1 for each page that differs, which the shadow then holds as it is now, else 0.
 * `page_size` >= 1. Others may write the memory meanwhile: such a write is in this answer or left
 * for the next one. Returns the number of pages that differ.
 */
uint64_t iova_snapshot_diff(const uint8_t *memory, uint8_t *shadow, uint64_t size,
                            uint64_t page_size, uint8_t *changed);

#endif
