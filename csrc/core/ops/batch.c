/*
 * batch.c - many ranges in one call: set_ranges, clear_ranges and set_pages.
 *
 * All rows are checked before the first is done, so that a bad one means that nothing was recorded.
 * If pins cost nothing, rows are done as they come, in one window. If they cost anything, rows are
 * sorted first: then each window is taken once. Each loop over all rows can be interrupted.
 */
#include <errno.h>
#include <stdlib.h>

#include "core/bits/bits.h"
#include "core/ops/batch.h"
#include "core/ops/sort.h"
#include "core/pin/pin.h"

/* The part of row i that is inside: the results of iova_geometry_resolve. */
static int resolve(const struct iova_batch *batch, uint64_t i, struct iova_span *span)
{
    uint64_t iova = iova_batch_item(batch->items, batch->pages ? i : 2 * i);
    uint64_t length = batch->pages ? 1 : iova_batch_item(batch->items, 2 * i + 1);

    return iova_geometry_resolve(&batch->bitmap->geometry, iova, length, batch->flags, span);
}

/* Extends what rows reach to, which starts as the bitmap's first address, by one of them. */
static void extend(struct iova_span *reach, const struct iova_span *row)
{
    reach->last = row->last > reach->last ? row->last : reach->last;
    reach->last_bit = row->last_bit > reach->last_bit ? row->last_bit : reach->last_bit;
}

enum { STEP = IOVA_POLL_BYTES / IOVA_POLL_ITEM }; /* rows between two questions */

/* Checks all rows: 0, an error and its row, or -EINTR. */
static int check(const struct iova_batch *batch, struct iova_poll *poll, uint64_t *bad_row)
{
    const struct iova_batch_loops *loops = iova_batch_loops();
    struct iova_span row;
    int rc = 0;

    for (uint64_t i = 0; i < batch->count && rc == 0; i += STEP) {
        const uint64_t to = batch->count - i < STEP ? batch->count : i + STEP;
        rc = iova_poll_before(poll, (to - i) * IOVA_POLL_ITEM);
        for (uint64_t k = loops->all_inside(batch, i, to) ? to : i; rc == 0 && k < to; k++) {
            if ((rc = resolve(batch, k, &row)) < 0) {
                *bad_row = k;
                return rc;
            }
            rc = 0;
        }
    }
    return rc;
}

/* Does the bits that a walk was turned to. */
static int apply(const struct iova_batch *batch, struct iova_walk *walk, bool counts)
{
    while (iova_walk_next(walk)) {
        const struct iova_chunk *chunk = &walk->chunk;
        if (batch->clear) {
            iova_bits_clear(chunk->bytes, chunk->skip, chunk->nbits);
        } else if (counts) {
            walk->report->pages += iova_bits_test_and_set(chunk->bytes, chunk->skip, chunk->nbits);
        } else {
            iova_bits_set(chunk->bytes, chunk->skip, chunk->nbits);
        }
    }
    return walk->rc;
}

/* ---- rows as they come ---- */

/* Rows from i to before `to`: if `quick`, what is simple by the loops; the rest through the walk.
 */
static void do_some_rows(const struct iova_batch *batch, struct iova_walk *walk, uint64_t i,
                         uint64_t to, bool quick)
{
    const bool counts = (batch->flags & IOVA_BITMAP_COUNT) != 0;
    struct iova_span row;

    for (; i < to && walk->rc == 0; i++) {
        i = quick && !counts ? iova_batch_loops()->mark(batch, i, to) : i;
        if (i < to && resolve(batch, i, &row) > 0) {
            iova_walk_to(walk, row.first_bit, row.last_bit);
            apply(batch, walk, counts);
        }
    }
}

/* Rows of any place may be missing: the report is about what all of them reach to, if anything. */
static void break_anywhere(const struct iova_batch *batch, struct iova_walk *walk)
{
    struct iova_span reach = {.iova = batch->bitmap->geometry.iova};
    struct iova_span row;
    bool any = false;

    for (uint64_t i = 0; i < batch->count; i++) {
        if (resolve(batch, i, &row) > 0) {
            extend(&reach, &row);
            any = true;
        }
    }
    if (any) {
        walk->span = reach;
        iova_walk_break(walk, reach.iova, -EINTR);
    }
}

/* Row by row, in the order given. */
static void do_in_order(const struct iova_batch *batch, struct iova_walk *walk)
{
    const bool simple = batch->bitmap->pin == &iova_pin_none;

    if (simple && batch->count != 0) { /* the one window for all rows; it cannot fail */
        iova_window_take(batch->bitmap, &walk->own, 0, batch->bitmap->geometry.nbytes, UINT64_MAX,
                         IOVA_BITMAP_WRITE);
    }
    for (uint64_t i = 0; i < batch->count && walk->rc == 0; i += STEP) {
        const uint64_t to = batch->count - i < STEP ? batch->count : i + STEP;
        if (iova_poll_before(&walk->poll, (to - i) * IOVA_POLL_ITEM) < 0) {
            iova_walk_fail(walk, -EINTR);
        } else {
            do_some_rows(batch, walk, i, to, simple);
        }
    }
    if (simple && walk->rc == -EINTR) {
        break_anywhere(batch, walk);
    }
}

/* ---- rows sorted ---- */

/* The rows that have bits, ascending, and what they reach to: 0, -ENOMEM or -EINTR. */
static int sorted_rows(const struct iova_batch *batch, struct iova_poll *poll,
                       struct iova_bits **sorted, uint64_t *nrows, struct iova_span *reach)
{
    struct iova_bits *rows = NULL;
    struct iova_span row;
    bool ascending = true;
    int rc = -ENOMEM;

    if (batch->count <= SIZE_MAX / sizeof(*rows)) {
        rows = malloc((size_t)batch->count * sizeof(*rows));
        rc = rows == NULL ? -ENOMEM : 0;
    }
    *nrows = 0;
    *reach = (struct iova_span){.iova = batch->bitmap->geometry.iova};
    for (uint64_t i = 0; rc == 0 && i < batch->count; i++) {
        if (resolve(batch, i, &row) > 0) { /* the array may have changed since the check */
            ascending = ascending && (*nrows == 0 || rows[*nrows - 1].first <= row.first_bit);
            rows[(*nrows)++] = (struct iova_bits){row.first_bit, row.last_bit};
            extend(reach, &row);
        }
        rc = iova_poll_before(poll, IOVA_POLL_ITEM);
    }
    if (rc == 0 && !ascending) {
        rc = iova_bits_sort(poll, &rows, (size_t)*nrows, batch->bitmap->geometry.nbits - 1);
    }
    if (rc < 0) {
        free(rows);
        rows = NULL;
    }
    *sorted = rows;
    return rc;
}

/* In ascending order, rows that touch joined into one: each window is taken once. */
static void do_sorted(const struct iova_batch *batch, struct iova_walk *walk)
{
    struct iova_bits *rows;
    uint64_t nrows;
    int rc = sorted_rows(batch, &walk->poll, &rows, &nrows, &walk->span);

    iova_walk_fail(walk, rc); /* nothing is done yet, and nothing is reported */
    for (uint64_t i = 0; rc == 0 && i < nrows;) {
        struct iova_bits joined = rows[i++];
        while (i < nrows && rows[i].first <= joined.last + 1) {
            joined.last = rows[i].last > joined.last ? rows[i].last : joined.last;
            i++;
        }
        iova_walk_to(walk, joined.first, joined.last);
        rc = apply(batch, walk, true);
    }
    free(rows);
}

/* ---- the verbs ---- */

static int run(const struct iova_batch *batch, unsigned takes, uint64_t *bad_row,
               struct iova_bitmap_report *report)
{
    const bool sorted = batch->bitmap->pin != &iova_pin_none;
    struct iova_walk walk;
    uint64_t unread;

    iova_walk_begin(&walk, batch->bitmap, IOVA_WALK_ROWS, NULL, report);
    int rc = (batch->flags & ~takes) != 0
                 ? -EINVAL
                 : check(batch, &walk.poll, bad_row != NULL ? bad_row : &unread);
    if (rc < 0) {
        iova_walk_fail(&walk, rc);
    } else if (sorted && batch->count != 0) {
        do_sorted(batch, &walk);
    } else {
        do_in_order(batch, &walk);
    }
    return iova_walk_end(&walk);
}

/* Pairs as words. Of no rows the array may be NULL, which has no members. */
static const uint64_t *words_of(const struct iova_bitmap_range *rows)
{
    return (const uint64_t *)(const void *)rows;
}

int iova_bitmap_put_back(struct iova_bitmap *bitmap, const struct iova_bitmap_ranges *ranges,
                         struct iova_bitmap_report *report)
{
    const struct iova_batch batch = {
        .bitmap = bitmap, .items = words_of(ranges->rows), .count = ranges->count};
    struct iova_walk walk;

    iova_walk_begin(&walk, bitmap, IOVA_WALK_ROWS, NULL, report);
    walk.poll.ask = NULL;
    if (ranges->count != 0) {
        resolve(&batch, ranges->count - 1, &walk.span); /* they ascend: what all reach to */
        walk.span.iova = bitmap->geometry.iova;
    }
    do_in_order(&batch, &walk);
    return iova_walk_end(&walk);
}

int iova_bitmap_set_ranges(struct iova_bitmap *bitmap, const struct iova_bitmap_range *ranges,
                           uint64_t count, unsigned flags, uint64_t *bad_row,
                           struct iova_bitmap_report *report)
{
    const struct iova_batch batch = {
        .bitmap = bitmap, .items = words_of(ranges), .count = count, .flags = flags};

    return run(&batch, IOVA_BITMAP_CLIP | IOVA_BITMAP_COUNT | IOVA_BITMAP_EXCLUSIVE, bad_row,
               report);
}

int iova_bitmap_clear_ranges(struct iova_bitmap *bitmap, const struct iova_bitmap_range *ranges,
                             uint64_t count, unsigned flags, uint64_t *bad_row,
                             struct iova_bitmap_report *report)
{
    const struct iova_batch batch = {
        .bitmap = bitmap, .items = words_of(ranges), .count = count, .clear = true, .flags = flags};

    return run(&batch, IOVA_BITMAP_CLIP | IOVA_BITMAP_EXCLUSIVE, bad_row, report);
}

int iova_bitmap_set_pages(struct iova_bitmap *bitmap, const uint64_t *pages, uint64_t count,
                          unsigned flags, uint64_t *bad_row, struct iova_bitmap_report *report)
{
    const struct iova_batch batch = {
        .bitmap = bitmap, .items = pages, .count = count, .pages = true, .flags = flags};

    return run(&batch, IOVA_BITMAP_CLIP | IOVA_BITMAP_COUNT | IOVA_BITMAP_EXCLUSIVE, bad_row,
               report);
}
