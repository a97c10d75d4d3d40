/*
 * rows.h - where rows of an answer go: memory that grows as they come and is exactly sized in the
 * end, or a caller's array that must do.
 *
 * For a large answer, page faults cost more than finding it: growing memory is mapped in huge pages
 * where the system has them, and address space for all that may come is reserved at once.
 */
#ifndef IOVA_ROWS_H
#define IOVA_ROWS_H

#include <stdbool.h>
#include <stddef.h>

#include "iova_bitmap.h"

struct iova_rows {
    uint64_t *items;
    size_t count;    /* items in use */
    size_t capacity; /* items there is room for */
    uint64_t most;   /* items that may come at all, as far as is known; else 0 */
    bool fixed;      /* a caller's array: cannot grow */
};

/* Room for `more` items after those in use; false if there is no memory, or it is fixed. */
bool iova_rows_reserve(struct iova_rows *rows, size_t more);

/* Gives back the room that is not in use. */
void iova_rows_trim(struct iova_rows *rows);

/* The caller's array, or memory to be allocated if it gave none. */
struct iova_rows iova_rows_of(const struct iova_bitmap_ranges *ranges);

/* Hands allocated rows over after success, and frees them after an error; a caller's array stays as
 * it is. Returns rc. */
int iova_rows_give(struct iova_rows *rows, int rc, struct iova_bitmap_ranges *ranges);

/* Frees what reserve made; NULL is allowed. One mapping is kept for the next rows. */
void iova_rows_free(uint64_t *items);

/* Gives that one back too. */
void iova_rows_drop_spare(void);

#endif
