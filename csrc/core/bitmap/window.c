/*
 * window.c - taking, leaving and walking windows. Window arithmetic is here and nowhere else.
 *
 * A window ends at a byte of bitmap, never inside one. Moving gives the old pins back before it
 * takes the new, so that a limit on pinned memory is never exceeded by the move itself. Batch
 * operations on one bitmap may run at the same time: the statistics they share are atomic.
 */
#include "core/bitmap/window.h"

#include <errno.h>

#include "core/bits/atomic.h"
#include "core/pin/pin.h"

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
        iova_atomic_add64(&bitmap->stats.unpins, 1);
        iova_atomic_add64(&bitmap->stats.pinned_pages, 0 - npages);
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

void iova_cursor_open_present(struct iova_cursor *cursor, struct iova_bitmap *bitmap,
                              const struct iova_span *span)
{
    cursor->bitmap = bitmap;
    cursor->window = &bitmap->present;
    cursor->access = IOVA_BITMAP_WRITE;
    cursor->poll = iova_poll_of(bitmap);
    cursor->sparse = false;
    cursor->walked = 0;
    cursor->holes = NULL;
    iova_cursor_again(cursor, span->first_bit, span->last_bit, span->last_bit);
}

void iova_cursor_again(struct iova_cursor *cursor, uint64_t first_bit, uint64_t last_bit,
                       uint64_t reach)
{
    cursor->next_bit = first_bit;
    cursor->last_bit = last_bit;
    cursor->reach = (reach > last_bit ? reach : last_bit) >> 3;
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

/* Bytes of bitmap after which a walk is long. */
enum { LONG_WALK = 16 << 20 };

/* Bytes of bitmap that one search for a hole's end may cover: some milliseconds, where it is slow.
 */
static const uint64_t HOLE_SEARCH = (uint64_t)1 << 36;

/* From `bytes` on, where anything can be known. */
static void ask_for_holes(struct iova_cursor *cursor, const uint8_t *bytes)
{
    cursor->holes = iova_holes_open(bytes);
    cursor->extent = (struct iova_extent){0};
    cursor->sparse = cursor->holes != NULL;
}

/* Two threads may both ask; they are told the same. */
static bool is_shared(struct iova_bitmap *bitmap)
{
    uint8_t mapping = iova_atomic_load8(&bitmap->mapping);

    if (mapping == IOVA_MAPPING_UNKNOWN) {
        mapping = iova_holes_shared(bitmap->data) ? IOVA_MAPPING_SHARED : IOVA_MAPPING_PRIVATE;
        iova_atomic_store8(&bitmap->mapping, mapping);
    }
    return mapping == IOVA_MAPPING_SHARED;
}

void iova_cursor_open_sparse(struct iova_cursor *cursor, struct iova_bitmap *bitmap,
                             const struct iova_span *span, enum iova_bitmap_access access)
{
    uint64_t nbytes = (span->last_bit >> 3) - (span->first_bit >> 3) + 1;

    iova_cursor_open_own(cursor, bitmap, span, access);
    cursor->sparse = bitmap->pin == &iova_pin_none;
    if (!cursor->sparse || nbytes <= LONG_WALK) {
        return;
    }
    if (is_shared(bitmap)) { /* holes must not be read at all */
        ask_for_holes(cursor, bitmap->data + (span->first_bit >> 3));
    }
}

/* A long walk that has just seen zeros asks what is populated; one that has not, asks again later.
 */
static void look_for_holes(struct iova_cursor *cursor, const uint8_t *seen, uint64_t nbytes)
{
    cursor->walked += nbytes;
    if (cursor->walked <= LONG_WALK) {
        return;
    }
    cursor->walked = 0;
    if (seen[0] == 0 && seen[nbytes / 2] == 0 && seen[nbytes - 1] == 0) {
        ask_for_holes(cursor, seen + nbytes);
    }
}

/*
 * How many of the `wanted` bytes at `bytes` are alike: all of a hole (true), or maybe populated.
 */
static bool in_hole(struct iova_cursor *cursor, const uint8_t *bytes, uint64_t wanted,
                    uint64_t *alike)
{
    uintptr_t address = (uintptr_t)bytes;
    uintptr_t end = address + (uintptr_t)wanted;

    if (address >= cursor->extent.end &&
        !iova_holes_next(cursor->holes, address, end, &cursor->extent)) {
        cursor->extent = (struct iova_extent){end, end};
    }
    bool hole = address < cursor->extent.start;
    uintptr_t alike_to = hole ? cursor->extent.start : cursor->extent.end;
    *alike = (alike_to < end ? alike_to : end) - address;
    return hole;
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

/* Has the bytes from `byte` on in a window, and sets how many of them; or a negative errno. */
static int make_usable(struct iova_cursor *cursor, uint64_t byte, uint64_t needed, uint64_t *usable)
{
    struct iova_bitmap *bitmap = cursor->bitmap;
    struct iova_window *window = cursor->window;
    bool own = window == &cursor->own;
    uint64_t inside = byte - window->view.base_index; /* wraps where byte lies before it */

    if (window->view.npages != 0 && inside < window->nbytes) {
        *usable = window->nbytes - inside;
        if (!own) { /* taken by an earlier operation */
            int64_t rc = touch(bitmap, byte, min64(needed, *usable), cursor->access);
            if (rc < 0) {
                return (int)rc;
            }
            *usable = (uint64_t)rc;
        }
        return 0;
    }
    uint64_t wanted = (own ? cursor->reach + 1 : bitmap->geometry.nbytes) - byte;
    int rc = iova_window_take(bitmap, window, byte, wanted, cursor->access);
    *usable = window->nbytes;
    return rc;
}

int iova_cursor_next(struct iova_cursor *cursor, struct iova_chunk *chunk)
{
    if (cursor->done) {
        return 0;
    }
    uint64_t byte = cursor->next_bit >> 3;
    uint64_t needed = (cursor->last_bit >> 3) - byte + 1; /* bytes from `byte` to the end */
    uint8_t *bytes = cursor->bitmap->data + byte;
    int rc = iova_poll_before(&cursor->poll, IOVA_POLL_CHUNK);
    if (rc < 0) {
        return rc;
    }
    bool hole =
        cursor->holes != NULL && in_hole(cursor, bytes, min64(needed, HOLE_SEARCH), &needed);
    uint64_t usable = needed;

    if (!hole) {
        needed = min64(needed, IOVA_POLL_BYTES);
        rc = make_usable(cursor, byte, needed, &usable);
        if (rc < 0) {
            return rc;
        }
        usable = min64(needed, usable);
        cursor->poll.work += usable;
        if (cursor->sparse && cursor->holes == NULL) {
            look_for_holes(cursor, bytes, usable);
        }
    }
    uint64_t end_bit = min64((byte << 3) + ((usable << 3) - 1), cursor->last_bit);

    chunk->bytes = bytes;
    chunk->skip = (unsigned)(cursor->next_bit & 7);
    chunk->first_bit = cursor->next_bit;
    chunk->nbits = end_bit - cursor->next_bit + 1;
    chunk->last = end_bit == cursor->last_bit;
    chunk->hole = hole;
    cursor->done = chunk->last;
    cursor->next_bit = end_bit + 1;
    return 1;
}

bool iova_chunk_cut(struct iova_chunk *chunk, uint64_t nbits, struct iova_chunk *piece)
{
    if (chunk->nbits == 0) {
        return false;
    }
    *piece = *chunk;
    piece->nbits = min64(chunk->nbits, nbits - chunk->skip);
    chunk->bytes += (chunk->skip + piece->nbits) >> 3;
    chunk->first_bit += piece->nbits;
    chunk->nbits -= piece->nbits;
    chunk->skip = 0;
    return true;
}

void iova_cursor_close(struct iova_cursor *cursor)
{
    if (cursor->window == &cursor->own) {
        iova_window_release(cursor->bitmap, &cursor->own);
    }
    iova_holes_close(cursor->holes);
}

void iova_cursor_undone(const struct iova_cursor *cursor, const struct iova_span *span,
                        struct iova_bitmap_report *report)
{
    uint64_t start = iova_geometry_address(&cursor->bitmap->geometry, cursor->next_bit);

    report->iova = start > span->iova ? start : span->iova;
    report->length = span->last - report->iova + 1;
}
