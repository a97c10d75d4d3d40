/*
 * mark.c - marking one range dirty or clean: the verbs of a device that writes memory.
 */
#include <errno.h>

#include "core/bitmap/walk.h"
#include "core/bits/bits.h"
#include "core/pin/pin.h"

/* Marks a short span inside the present window at once, if its memory need not be made present
 * again: the common case. False if it is another one, and nothing was done. */
static bool mark_here(struct iova_bitmap *bitmap, const struct iova_span *span, unsigned flags,
                      uint64_t *newly)
{
    const bool exclusive = (flags & IOVA_BITMAP_EXCLUSIVE) != 0;
    uint8_t *bytes = bitmap->data + (span->first_bit >> 3);
    struct iova_short_run run;

    if (bitmap->pin->touch != NULL ||
        !iova_window_holds(&bitmap->present, span->first_bit >> 3, span->last_bit >> 3) ||
        !iova_bits_short_run(&run, bytes, (unsigned)(span->first_bit & 7),
                             span->last_bit - span->first_bit + 1, bitmap->data,
                             bitmap->data + bitmap->geometry.nbytes)) {
        return false;
    }
    if ((flags & IOVA_BITMAP_COUNT) != 0) {
        *newly = iova_bits_test_and_mark_word(run.first, run.in_first) +
                 iova_bits_test_and_mark_word(run.last, run.in_last);
    } else {
        iova_bits_mark_word(run.first, run.in_first, exclusive);
        if (run.in_last != 0) { /* a load would wait for the locked instruction */
            iova_bits_mark_word(run.last, run.in_last, exclusive);
        }
    }
    return true;
}

int iova_bitmap_set(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length, unsigned flags,
                    struct iova_bitmap_report *report)
{
    enum { TAKES = IOVA_BITMAP_CLIP | IOVA_BITMAP_COUNT | IOVA_BITMAP_EXCLUSIVE };
    const struct iova_request request = {iova, length, flags, TAKES};
    const bool counts = (flags & IOVA_BITMAP_COUNT) != 0;
    struct iova_walk walk;
    struct iova_span span;
    uint64_t newly = 0;

    if ((flags & ~(unsigned)TAKES) == 0 &&
        iova_geometry_resolve(&bitmap->geometry, iova, length, flags, &span) > 0 &&
        mark_here(bitmap, &span, flags, &newly)) {
        if (report != NULL) {
            *report = (struct iova_bitmap_report){.pages = newly};
        }
        return 0;
    }
    iova_walk_begin(&walk, bitmap, IOVA_WALK_PRESENT, &request, report);
    while (iova_walk_next(&walk)) {
        const struct iova_chunk *chunk = &walk.chunk;
        /* What was marked must be known too if a later chunk can fail. */
        if (counts || (bitmap->pin != &iova_pin_none && !chunk->last)) {
            walk.report->pages += iova_bits_test_and_set(chunk->bytes, chunk->skip, chunk->nbits);
        } else {
            iova_bits_set(chunk->bytes, chunk->skip, chunk->nbits);
        }
    }
    return iova_walk_end(&walk);
}

/* Clears each chunk, and ends the walk. */
static int clear_all(struct iova_walk *walk)
{
    while (iova_walk_next(walk)) {
        const struct iova_chunk *chunk = &walk->chunk;
        if (!chunk->hole) {
            iova_bits_clear(chunk->bytes, chunk->skip, chunk->nbits);
        }
    }
    return iova_walk_end(walk);
}

int iova_bitmap_clear(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length, unsigned flags,
                      struct iova_bitmap_report *report)
{
    const struct iova_request request = {iova, length, flags,
                                         IOVA_BITMAP_CLIP | IOVA_BITMAP_EXCLUSIVE};
    struct iova_walk walk;

    iova_walk_begin(&walk, bitmap, IOVA_WALK_PRESENT, &request, report);
    return clear_all(&walk);
}

int iova_bitmap_reset(struct iova_bitmap *bitmap, struct iova_bitmap_report *report)
{
    struct iova_walk walk;

    iova_walk_begin(&walk, bitmap, IOVA_WALK_WRITE, NULL, report);
    return clear_all(&walk);
}
