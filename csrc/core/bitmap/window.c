/*
 * window.c - taking and leaving windows. Window arithmetic is here and nowhere else.
 *
 * A window ends at a byte of bitmap, never inside one. Moving gives the old pins back before it
 * takes the new, so that a limit on pinned memory is never exceeded by the move itself. Batch
 * operations on one bitmap may run at the same time: the statistics they share are atomic.
 */
#include "core/bitmap/window.h"

#include <errno.h>

#include "core/bits/atomic.h"
#include "core/pin/pin.h"

/* Fills in a window of npages host pages from `byte` on, over at most `wanted` bytes. */
static void describe(const struct iova_bitmap *bitmap, struct iova_window *window, uint64_t byte,
                     uint64_t wanted, uint64_t npages)
{
    const struct iova_bitmap_geometry *geometry = &bitmap->geometry;
    uintptr_t address = (uintptr_t)bitmap->data + (uintptr_t)byte;
    uint64_t pgoff = address & (bitmap->host_page_size - 1);
    uint64_t span = (pgoff + wanted - 1) / bitmap->host_page_size + 1;

    window->address = address - (uintptr_t)pgoff;
    if (npages >= span) { /* also where npages * host page would overflow */
        npages = span;
        window->nbytes = wanted;
    } else {
        window->nbytes = npages * bitmap->host_page_size - pgoff;
    }
    uint64_t first_bit = byte << 3;
    uint64_t last_bit = min64(first_bit + ((window->nbytes << 3) - 1), geometry->nbits - 1);
    window->view.iova = iova_geometry_address(geometry, first_bit);
    window->view.length = iova_geometry_last_address(geometry, last_bit) - window->view.iova + 1;
    window->view.base_index = byte;
    window->view.pgoff = pgoff;
    window->view.npages = npages;
}

void iova_bitmap_window_at(const struct iova_bitmap *bitmap, uint64_t base_index,
                           struct iova_bitmap_window *window)
{
    struct iova_window full;
    describe(bitmap, &full, base_index, bitmap->geometry.nbytes - base_index, bitmap->window_pages);
    *window = full.view;
}

uint64_t iova_bitmap_window_nbytes(const struct iova_bitmap *bitmap,
                                   const struct iova_bitmap_window *window)
{
    return min64(bitmap->geometry.nbytes - window->base_index,
                 window->npages * bitmap->host_page_size - window->pgoff);
}

void iova_window_release(struct iova_bitmap *bitmap, struct iova_window *window)
{
    while (window->view.npages != 0) { /* again where unpin called back and took another */
        uint64_t npages = window->view.npages;
        uintptr_t address = window->address;

        window->view = (struct iova_bitmap_window){0};
        window->nbytes = 0;
        iova_atomic_add64(&bitmap->stats.unpins, 1);
        iova_atomic_add64(&bitmap->stats.pinned_pages, 0 - npages);
        bitmap->pin->unpin(bitmap->pin_context, address, npages);
    }
}

int iova_window_take(struct iova_bitmap *bitmap, struct iova_window *window, uint64_t byte,
                     uint64_t wanted, uint64_t pages, enum iova_bitmap_access access)
{
    struct iova_window next;
    struct iova_bitmap_stats *stats = &bitmap->stats;

    iova_window_release(bitmap, window);
    describe(bitmap, &next, byte, wanted, pages);

    uint64_t asked = next.view.npages;
    int64_t got = bitmap->pin->pin(bitmap->pin_context, next.address, asked, access);
    if (got < 0) {
        return (int)got;
    }
    if (got == 0 || (uint64_t)got > asked) {
        return -EFAULT;
    }
    iova_atomic_add64(&stats->pins, 1);
    iova_atomic_max64(&stats->peak_pinned_pages,
                      iova_atomic_add64(&stats->pinned_pages, (uint64_t)got));
    if ((uint64_t)got < asked) {
        describe(bitmap, &next, byte, wanted, (uint64_t)got);
    }
    iova_window_release(bitmap, window); /* what a nested operation took during the pin */
    *window = next;
    if (window == &bitmap->present) {
        iova_atomic_add64(&stats->moves, 1);
    }
    return 0;
}

int iova_window_touch(struct iova_bitmap *bitmap, uint64_t byte, uint64_t wanted,
                      enum iova_bitmap_access access, uint64_t *usable)
{
    struct iova_window part;

    *usable = wanted;
    if (bitmap->pin->touch == NULL) {
        return 0;
    }
    describe(bitmap, &part, byte, wanted, UINT64_MAX);
    int64_t got = bitmap->pin->touch(bitmap->pin_context, part.address, part.view.npages, access);
    if (got < 0) {
        return (int)got;
    }
    if (got == 0 || (uint64_t)got > part.view.npages) {
        return -EFAULT;
    }
    *usable = min64(wanted, (uint64_t)got * bitmap->host_page_size - part.view.pgoff);
    return 0;
}
