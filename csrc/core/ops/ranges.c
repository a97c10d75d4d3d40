/*
 * ranges.c - the dirty or clean runs of a range.
 */
#include <errno.h>

#include "core/ops/runs.h"

int iova_bitmap_ranges(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length, unsigned flags,
                       struct iova_bitmap_ranges *ranges, struct iova_bitmap_report *report)
{
    const struct iova_request request = {
        iova, length, flags, IOVA_BITMAP_CLIP | IOVA_BITMAP_CLEAN | IOVA_BITMAP_PARTIAL};
    struct iova_rows rows = iova_rows_of(ranges);
    struct iova_runs runs = {0};
    struct iova_walk walk;

    ranges->count = 0;
    const bool some = iova_walk_begin(&walk, bitmap, IOVA_WALK_READ, &request, report);
    if (some) {
        iova_runs_begin(&runs, &bitmap->geometry, &walk.span, !(flags & IOVA_BITMAP_CLEAN), &rows);
        runs.partial = (flags & IOVA_BITMAP_PARTIAL) != 0;
    }
    while (!(runs.partial && runs.dropped != 0) && iova_walk_next(&walk)) {
        iova_walk_fail(&walk, iova_runs_add(&runs, &walk.chunk));
    }
    int rc = iova_walk_end(&walk);
    if (rc == 0 && some) {
        rc = iova_runs_end(&runs, &ranges->count);
        if (runs.partial && runs.dropped != 0) {
            ranges->count = rows.count / 2;
            rc = 0;
        }
    }
    return iova_rows_give(&rows, rc, ranges);
}

void iova_bitmap_rows_free(void *rows)
{
    iova_rows_free(rows);
}
