/*
 * merge.c - marking in one bitmap what is dirty in another of any geometry.
 */
#include "core/ops/marker.h"

#include <errno.h>

#include "core/bits/bits.h"
#include "core/ops/runs.h"

void iova_marker_open(struct iova_marker *marker, struct iova_bitmap *bitmap)
{
    struct iova_span whole = iova_geometry_whole(&bitmap->geometry);

    marker->bitmap = bitmap;
    marker->report = (struct iova_bitmap_report){0};
    iova_cursor_open_own(&marker->cursor, bitmap, &whole, IOVA_BITMAP_WRITE);
}

void iova_marker_close(struct iova_marker *marker)
{
    iova_cursor_close(&marker->cursor);
}

int iova_marker_mark(struct iova_marker *marker, const uint64_t *items, size_t count)
{
    const struct iova_bitmap_geometry *geometry = &marker->bitmap->geometry;

    for (size_t i = 0; i < count; i += 2) {
        struct iova_span span;
        struct iova_chunk chunk;
        int rc = iova_geometry_resolve(geometry, items[i], items[i + 1], 0, &span);
        if (rc < 0) { /* not inside */
            marker->report.iova = items[i];
            marker->report.length = items[i + 1];
            return rc;
        }
        if (rc == 0) {
            continue;
        }
        iova_cursor_again(&marker->cursor, span.first_bit, span.last_bit, geometry->nbits - 1);
        while ((rc = iova_cursor_next(&marker->cursor, &chunk)) > 0) {
            marker->report.pages += iova_bits_test_and_set(chunk.bytes, chunk.skip, chunk.nbits);
        }
        if (rc < 0) {
            iova_cursor_undone(&marker->cursor, &span, &marker->report);
            return rc;
        }
    }
    return 0;
}

/* Marks the runs of a chunk of the source, and forgets them. */
static int mark_chunk(struct iova_marker *marker, const struct iova_bitmap_geometry *source,
                      const struct iova_span *span, const struct iova_chunk *chunk,
                      struct iova_rows *rows)
{
    struct iova_span part = iova_geometry_pages(source, chunk->first_bit, chunk->nbits);
    struct iova_runs runs;
    uint64_t count;

    part.iova = part.iova > span->iova ? part.iova : span->iova;
    part.last = part.last < span->last ? part.last : span->last;
    rows->count = 0;
    iova_runs_begin(&runs, source, &part, true, rows);
    int rc = iova_runs_add(&runs, chunk);
    if (rc == 0) {
        rc = iova_runs_end(&runs, &count);
    }
    return rc < 0 ? rc : iova_marker_mark(marker, rows->items, rows->count);
}

int iova_bitmap_merge(struct iova_bitmap *bitmap, struct iova_bitmap *other,
                      struct iova_bitmap_report *report)
{
    enum { PIECE = 8 * 4096 }; /* bits: their rows stay in the cache */
    struct iova_rows rows = {0};
    struct iova_marker marker;
    struct iova_cursor cursor;
    struct iova_chunk chunk;
    struct iova_span span;
    int marked = 0;

    *report = (struct iova_bitmap_report){0};
    int rc = iova_geometry_resolve(&other->geometry, bitmap->geometry.iova, bitmap->geometry.length,
                                   IOVA_BITMAP_CLIP, &span);
    if (rc <= 0) {
        return rc;
    }
    iova_marker_open(&marker, bitmap);
    iova_cursor_open_sparse(&cursor, other, &span, IOVA_BITMAP_READ);
    while (marked == 0 && (rc = iova_cursor_next(&cursor, &chunk)) > 0) {
        struct iova_chunk piece;
        while (marked == 0 && !chunk.hole && iova_chunk_cut(&chunk, PIECE, &piece)) {
            marked = mark_chunk(&marker, &other->geometry, &span, &piece, &rows);
        }
    }
    *report = marker.report;
    if (rc < 0) {
        iova_cursor_undone(&cursor, &span, report);
    } else if (report->length != 0) { /* not of one run: of all that is to come */
        report->length = span.last - report->iova + 1;
    }
    iova_cursor_close(&cursor);
    iova_marker_close(&marker);
    iova_rows_free(rows.items);
    return rc < 0 ? rc : marked;
}
