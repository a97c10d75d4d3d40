/*
 * runs.h - collecting runs and pages from pieces of bitmap, into rows.
 */
#ifndef IOVA_RANGES_H
#define IOVA_RANGES_H

#include "core/bitmap/bitmap.h"
#include "core/ops/rows.h"
#include "core/bitmap/window.h"

/* Runs of dirty (or clean) pages of a span, as they are found. */
struct iova_runs {
    const struct iova_bitmap_geometry *geometry;
    struct iova_span span;
    struct iova_rows *rows; /* edges, of which the first `converted` are rows already */
    size_t converted;
    uint64_t seen;    /* bits added so far */
    uint64_t carry;   /* the last of them */
    uint64_t outside; /* what counts as the bit before the first and behind the last */
    uint64_t dropped; /* edges that a fixed array had no room for */
    bool partial;     /* stop at the first of those */
};

void iova_runs_begin(struct iova_runs *runs, const struct iova_bitmap_geometry *geometry,
                     const struct iova_span *span, bool dirty, struct iova_rows *rows);

/* Adds the next chunk of the span: 0, or -ENOMEM. */
int iova_runs_add(struct iova_runs *runs, const struct iova_chunk *chunk);

/* Ends the last run and cuts the first and last row to the span: 0, -ENOMEM, or -ENOSPC where rows
 * are fixed and too few. *count is the number of rows, with -ENOSPC of those needed. */
int iova_runs_end(struct iova_runs *runs, uint64_t *count);

#endif
