/*
 * runs.h - collecting runs of pages from pieces of bitmap, into rows.
 */
#ifndef IOVA_RUNS_H
#define IOVA_RUNS_H

#include "core/bitmap/walk.h"
#include "core/bits/kernels.h"
#include "core/ops/rows.h"

/* Runs of dirty (or clean) pages of a span, as they are found. */
struct iova_runs {
    const struct iova_bitmap_geometry *geometry;
    struct iova_span span;
    struct iova_rows *rows; /* edges, of which the first `converted` are rows already */
    size_t converted;
    uint64_t seen;          /* bits added so far */
    uint64_t carry;         /* the last of them */
    uint64_t outside;       /* what counts as the bit before the first and after the last */
    uint64_t dropped;       /* edges that a fixed array had no room for */
    uint64_t first_dropped; /* the first of those: a bit that starts a run */
    bool partial;           /* stop at the first of those */
};

void iova_runs_begin(struct iova_runs *runs, const struct iova_bitmap_geometry *geometry,
                     const struct iova_span *span, bool dirty, struct iova_rows *rows);

/* Adds the next chunk of the span: 0, or -ENOMEM. */
int iova_runs_add(struct iova_runs *runs, const struct iova_chunk *chunk);

/* Ends the last run and cuts the first and last row to the span: 0, -ENOMEM, or -ENOSPC if rows
 * are fixed and too few. *count is the number of rows, with -ENOSPC of those needed. */
int iova_runs_end(struct iova_runs *runs, uint64_t *count);

enum {
    IOVA_BLOCK_BYTES = 512,
    IOVA_BLOCK_BITS = 8 * IOVA_BLOCK_BYTES,
    IOVA_BLOCK_EDGES = IOVA_BLOCK_BITS + 2 * 64 + 2 + IOVA_EDGE_SLACK, /* room for its edges */
};

/* Cuts a piece off the front of a chunk: a clean stretch, which comes as a hole, or at most
 * IOVA_BLOCK_BITS bits. False if nothing is left. */
bool iova_runs_next_piece(struct iova_chunk *chunk, struct iova_chunk *piece);

/* The runs of a small piece, on the stack: rows (iova, length), `count` items. */

struct iova_block {
    uint64_t items[IOVA_BLOCK_EDGES];
    size_t count;
};

/* Decodes at most IOVA_BLOCK_BITS bits; rows are cut to `span`, in which they lie. */
void iova_block_decode(struct iova_block *block, const struct iova_bitmap_geometry *geometry,
                       const struct iova_span *span, const struct iova_chunk *piece);

#endif
