/*
 * window.c - taking, leaving and walking windows. Window arithmetic is here and nowhere else.
 *
 * A window ends at a byte of bitmap, never inside one. Moving gives the old pins back before it
 * takes the new, so that a limit on pinned memory is never exceeded by the move itself.
 */
#include "window.h"

#include <errno.h>

static uint64_t min64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

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
        bitmap->stats.unpins++;
        bitmap->stats.pinned_pages -= npages;
        bitmap->pin->unpin(bitmap->pin_context, address, npages);
    }
}

int iova_window_take(struct iova_bitmap *bitmap, struct iova_window *window, uint64_t byte,
                     uint64_t wanted, enum iova_bitmap_access access)
{
    struct iova_window next;
    struct iova_bitmap_stats *stats = &bitmap->stats;

    iova_window_release(bitmap, window);
    describe(bitmap, &next, byte, wanted, bitmap->window_pages);

    uint64_t asked = next.view.npages;
    int64_t got = bitmap->pin->pin(bitmap->pin_context, next.address, asked, access);
    if (got < 0) {
        return (int)got;
    }
    if (got == 0 || (uint64_t)got > asked) {
        return -EFAULT;
    }
    stats->pins++;
    stats->pinned_pages += (uint64_t)got;
    if (stats->pinned_pages > stats->peak_pinned_pages) {
        stats->peak_pinned_pages = stats->pinned_pages;
    }
    if ((uint64_t)got < asked) {
        describe(bitmap, &next, byte, wanted, (uint64_t)got);
    }
    iova_window_release(bitmap, window); /* what a nested operation took during the pin */
    *window = next;
    if (window == &bitmap->present) {
        stats->moves++;
    }
    return 0;
}

void iova_cursor_open_present(struct iova_cursor *cursor, struct iova_bitmap *bitmap,
                              const struct iova_span *span)
{
    cursor->bitmap = bitmap;
    cursor->window = &bitmap->present;
    cursor->access = IOVA_BITMAP_WRITE;
    cursor->next_bit = span->first_bit;
    cursor->last_bit = span->last_bit;
    cursor->done = false;
}

void iova_cursor_open_own(struct iova_cursor *cursor, struct iova_bitmap *bitmap,
                          const struct iova_span *span, enum iova_bitmap_access access)
{
    iova_cursor_open_present(cursor, bitmap, span);
    cursor->own = (struct iova_window){0};
    cursor->window = &cursor->own;
    cursor->access = access;
}

/*
 * Makes bitmap bytes from `byte` on usable in a window that was taken earlier, where the backend
 * must be asked again. The number of usable bytes of the `wanted` ones, or a negative errno.
 */
static int64_t touch(struct iova_bitmap *bitmap, uint64_t byte, uint64_t wanted,
                     enum iova_bitmap_access access)
{
    if (bitmap->pin->touch == NULL) {
        return (int64_t)wanted;
    }
    struct iova_window part;
    describe(bitmap, &part, byte, wanted, UINT64_MAX);
    int64_t got = bitmap->pin->touch(bitmap->pin_context, part.address, part.view.npages, access);
    if (got < 0) {
        return got;
    }
    if (got == 0 || (uint64_t)got > part.view.npages) {
        return -EFAULT;
    }
    return (int64_t)min64(wanted, (uint64_t)got * bitmap->host_page_size - part.view.pgoff);
}

int iova_cursor_next(struct iova_cursor *cursor, struct iova_chunk *chunk)
{
    if (cursor->done) {
        return 0;
    }
    struct iova_bitmap *bitmap = cursor->bitmap;
    struct iova_window *window = cursor->window;
    bool own = window == &cursor->own;
    uint64_t byte = cursor->next_bit >> 3;
    uint64_t needed = (cursor->last_bit >> 3) - byte + 1; /* bytes from `byte` to the end */
    uint64_t inside = byte - window->view.base_index;     /* wraps where byte lies before it */
    uint64_t usable;

    if (window->view.npages != 0 && inside < window->nbytes) {
        int64_t rc = touch(bitmap, byte, min64(needed, window->nbytes - inside), cursor->access);
        if (rc < 0) {
            return (int)rc;
        }
        usable = (uint64_t)rc;
    } else {
        uint64_t wanted = own ? needed : bitmap->geometry.nbytes - byte;
        int rc = iova_window_take(bitmap, window, byte, wanted, cursor->access);
        if (rc < 0) {
            return rc;
        }
        usable = window->nbytes;
    }
    uint64_t end_bit = (byte << 3) + ((min64(needed, usable) << 3) - 1);

    end_bit = min64(end_bit, cursor->last_bit);
    chunk->bytes = bitmap->data + byte;
    chunk->skip = (unsigned)(cursor->next_bit & 7);
    chunk->first_bit = cursor->next_bit;
    chunk->nbits = end_bit - cursor->next_bit + 1;
    chunk->last = end_bit == cursor->last_bit;
    cursor->done = chunk->last;
    cursor->next_bit = end_bit + 1;
    return 1;
}

void iova_cursor_close(struct iova_cursor *cursor)
{
    if (cursor->window == &cursor->own) {
        iova_window_release(cursor->bitmap, &cursor->own);
    }
}

void iova_cursor_undone(const struct iova_cursor *cursor, const struct iova_span *span,
                        struct iova_bitmap_report *report)
{
    uint64_t start = iova_geometry_address(&cursor->bitmap->geometry, cursor->next_bit);

    report->iova = start > span->iova ? start : span->iova;
    report->length = span->last - report->iova + 1;
}
