/*
 * merge.c - marking in one bitmap what is dirty in another of any geometry.
 */
#include <errno.h>

#include "core/bits/bits.h"
#include "core/ops/marker.h"
#include "core/ops/runs.h"

int iova_mark_rows(struct iova_walk *walk, const uint64_t *items, size_t count)
{
    const struct iova_bitmap_geometry *geometry = &walk->bitmap->geometry;

    for (size_t i = 0; i < count && walk->rc == 0; i += 2) {
        int some = iova_geometry_resolve(geometry, items[i], items[i + 1], 0, &walk->span);
        if (some < 0) {
            walk->report->iova = items[i];
            walk->report->length = items[i + 1];
            iova_walk_fail(walk, some);
        } else if (some > 0) {
            iova_walk_to(walk, walk->span.first_bit, walk->span.last_bit, geometry->nbits - 1);
        }
        while (iova_walk_next(walk)) {
            const struct iova_chunk *chunk = &walk->chunk;
            walk->report->pages += iova_bits_test_and_set(chunk->bytes, chunk->skip, chunk->nbits);
        }
    }
    return walk->rc;
}

int iova_bitmap_merge(struct iova_bitmap *bitmap, struct iova_bitmap *other, unsigned flags,
                      struct iova_bitmap_report *report)
{
    const struct iova_request request = {bitmap->geometry.iova, bitmap->geometry.length,
                                         flags | IOVA_BITMAP_CLIP,
                                         IOVA_BITMAP_CLIP | IOVA_BITMAP_EXCLUSIVE};
    struct iova_bitmap_report unread;
    struct iova_walk from, to;
    struct iova_chunk piece;

    report = report != NULL ? report : &unread;
    iova_walk_begin(&to, bitmap, IOVA_WALK_ROWS, NULL, report);
    iova_walk_begin(&from, other, IOVA_WALK_READ, &request, NULL);
    while (iova_walk_next(&from)) {
        while (from.rc == 0 && iova_runs_next_piece(&from.chunk, &piece)) {
            struct iova_block block;
            if (!piece.hole) {
                iova_block_decode(&block, &other->geometry, &from.span, &piece);
                iova_walk_fail(&from, iova_mark_rows(&to, block.items, block.count));
            }
        }
    }
    if (report->length != 0) { /* in the middle of one run: of all that was to come */
        report->length = from.span.last - report->iova + 1;
    } else if (from.unread.length != 0) {
        report->iova = from.unread.iova;
        report->length = from.unread.length;
    }
    iova_walk_end(&to);
    return iova_walk_end(&from);
}
