/*
 * window.h - windows: the part of a bitmap that is pinned now. Only walk.c and for_each move them.
 */
#ifndef IOVA_WINDOW_H
#define IOVA_WINDOW_H

#include "core/bitmap/bitmap.h"

/*
 * Takes `window` from bitmap byte `byte` on, over at most `wanted` bytes (>= 1) and `pages` host
 * pages (>= 1), after it has given back what it held. 0, or the backend's negative errno, with
 * nothing held. A backend may call back into the bitmap: what a nested operation left in `window`
 * is given back too.
 */
int iova_window_take(struct iova_bitmap *bitmap, struct iova_window *window, uint64_t byte,
                     uint64_t wanted, uint64_t pages, enum iova_bitmap_access access);

/* Gives back what the window holds, if anything. */
void iova_window_release(struct iova_bitmap *bitmap, struct iova_window *window);

/*
 * Makes bitmap bytes from `byte` on usable in a window that was taken earlier, if the backend must
 * be asked again: 0 and *usable of the `wanted` bytes, or a negative errno.
 */
int iova_window_touch(struct iova_bitmap *bitmap, uint64_t byte, uint64_t wanted,
                      enum iova_bitmap_access access, uint64_t *usable);

/* The one test of whether bitmap bytes `first` to `last` lie in a window. */
static inline bool iova_window_holds(const struct iova_window *window, uint64_t first,
                                     uint64_t last)
{
    const uint64_t base = window->view.base_index; /* a byte before it wraps, to beyond the end */

    return first - base < window->nbytes && last - base < window->nbytes;
}

#endif
