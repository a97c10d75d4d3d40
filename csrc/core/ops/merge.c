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
        struct iova_span row;
        int some = iova_geometry_resolve(geometry, items[i], items[i + 1], 0, &row);
        if (some > 0) {
            iova_walk_to(walk, row.first_bit, row.last_bit);
        }
        iova_walk_fail(walk, some);
        while (iova_walk_next(walk)) {
            const struct iova_chunk *chunk = &walk->chunk;
            walk->report->pages += iova_bits_test_and_set(chunk->bytes, chunk->skip, chunk->nbits);
        }
        if (walk->rc < 0) { /* a page here may begin before the row */
            walk->report->iova = max64(walk->report->iova, items[i]);
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
    struct iova_walk from, to;
    struct iova_chunk piece;

    iova_walk_begin(&to, bitmap, IOVA_WALK_ROWS, NULL, NULL);
    iova_walk_begin(&from, other, IOVA_WALK_READ, &request, report);
    while (iova_walk_next(&from)) {
        while (from.rc == 0 && iova_runs_next_piece(&from.chunk, &piece)) {
            struct iova_block block;
            if (!piece.hole) {
                iova_block_decode(&block, &other->geometry, &from.span, &piece);
                if (iova_mark_rows(&to, block.items, block.count) < 0) {
                    iova_walk_break(&from, to.report->iova, to.rc);
                }
            }
        }
    }
    from.report->pages = to.report->pages;
    iova_walk_end(&to);
    return iova_walk_end(&from);
}
