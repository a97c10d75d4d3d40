/*
 * batch.c - many ranges in one call: set_ranges, clear_ranges and set_pages.
 *
 * All rows are checked before the first is done, so that a bad one means that nothing was recorded.
 * If pins cost nothing, rows are done as they come, in one window. If they cost anything, rows are
 * sorted first: then each window is taken once. Each loop over all rows can be interrupted.
 */
#include <errno.h>
#include <stdlib.h>

#include "core/bitmap/walk.h"
#include "core/bits/bits.h"
#include "core/ops/sort.h"
#include "core/pin/pin.h"

struct batch {
    struct iova_bitmap *bitmap;
    const uint64_t *items;
    uint64_t count;
    bool pages; /* items are addresses, of one page each; else pairs (iova, length) */
    bool clear;
    unsigned flags;
};

/* One number of the array. It is loaded once, so that what was checked is what is used: another
 * thread may change it concurrently. */
static inline uint64_t item(const uint64_t *items, uint64_t i)
{
    return iova_atomic_load64((const iova_word *)(const void *)(items + i));
}

/* The part of row i that is inside: the results of iova_geometry_resolve. */
static int resolve(const struct batch *batch, uint64_t i, struct iova_span *span)
{
    uint64_t iova = item(batch->items, batch->pages ? i : 2 * i);
    uint64_t length = batch->pages ? 1 : item(batch->items, 2 * i + 1);

    return iova_geometry_resolve(&batch->bitmap->geometry, iova, length, batch->flags, span);
}

/* Extends what rows reach to, which starts as the bitmap's first address, by one of them. */
static void extend(struct iova_span *reach, const struct iova_span *row)
{
    reach->last = row->last > reach->last ? row->last : reach->last;
    reach->last_bit = row->last_bit > reach->last_bit ? row->last_bit : reach->last_bit;
}

enum { STEP = IOVA_POLL_BYTES / IOVA_POLL_ITEM }; /* rows between two questions */

/* Whether none of some rows is empty or reaches outside; without a branch for each. */
static bool all_inside(const struct batch *batch, uint64_t from, uint64_t to)
{
    const uint64_t base = batch->bitmap->geometry.iova;
    const uint64_t room = batch->bitmap->geometry.last - base;
    const uint64_t *items = batch->items;
    bool outside = false;

    if (batch->pages) {
        for (uint64_t i = from; i < to; i++) {
            outside |= item(items, i) - base > room;
        }
    } else {
        for (uint64_t i = from; i < to; i++) {
            uint64_t start = item(items, 2 * i) - base;
            uint64_t more = item(items, 2 * i + 1) - 1; /* wraps if the row is empty */
            outside |= (start > room) | (more > room - start);
        }
    }
    return !outside;
}

/* Checks all rows: 0, an error and its row, or -EINTR. */
static int check(const struct batch *batch, struct iova_poll *poll, uint64_t *bad_row)
{
    struct iova_span row;
    int rc = 0;

    for (uint64_t i = 0; i < batch->count && rc == 0; i += STEP) {
        const uint64_t to = batch->count - i < STEP ? batch->count : i + STEP;
        rc = iova_poll_before(poll, (to - i) * IOVA_POLL_ITEM);
        for (uint64_t k = all_inside(batch, i, to) ? to : i; rc == 0 && k < to; k++) {
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
static int apply(const struct batch *batch, struct iova_walk *walk, bool counts)
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

/*
 * The loop that all of a batch's speed is in: rows of at most 64 pages, in any order, over memory
 * that needs no pins. It does not resolve a row again that check() has passed, unless it is another
 * one by now. What is not so simple goes through the walk. The constants are known where this is
 * inlined, so that each kind of batch has a loop of its own.
 */
static inline __attribute__((always_inline)) void do_rows(const struct batch *batch,
                                                          struct iova_walk *walk, uint64_t from,
                                                          uint64_t to, bool pages, bool clear,
                                                          bool exclusive)
{
    enum { AHEAD = 12 }; /* rows whose words are fetched while others are done */
    const struct iova_bitmap_geometry *geometry = &batch->bitmap->geometry;
    const uint64_t base = geometry->iova;
    const uint64_t room = geometry->last - base;
    const unsigned pgshift = geometry->pgshift;
    const uint64_t *items = batch->items;
    uint8_t *const data = batch->bitmap->data;
    const uint8_t *const end = data + geometry->nbytes;

    for (uint64_t i = from; i < to && walk->rc == 0; i++) {
        if (i + AHEAD < to) {
            uint64_t ahead = item(items, pages ? i + AHEAD : 2 * (i + AHEAD)) - base;
            if (ahead <= room) {
                iova_prefetch_write(data + (ahead >> pgshift >> 3));
            }
        }
        uint64_t start = item(items, pages ? i : 2 * i) - base; /* wraps if it is before the base */
        uint64_t more = pages ? 0 : item(items, 2 * i + 1) - 1; /* wraps if the row is empty */
        struct iova_short_run run;
        uint64_t bit = start >> pgshift;
        if (start <= room && more <= room - start &&
            iova_bits_short_run(&run, data + (bit >> 3), (unsigned)(bit & 7),
                                ((start + more) >> pgshift) - bit + 1, data, end)) {
            if (clear) {
                iova_bits_clear_word(run.first, run.in_first, exclusive);
                iova_bits_clear_word(run.last, run.in_last, exclusive);
            } else {
                iova_bits_mark_word(run.first, run.in_first, exclusive);
                iova_bits_mark_word(run.last, run.in_last, exclusive);
            }
            continue;
        }
        struct iova_span row;
        if (resolve(batch, i, &row) > 0) {
            iova_walk_to(walk, row.first_bit, row.last_bit, geometry->nbits - 1);
            apply(batch, walk, false);
        }
    }
}

static void do_some_rows(const struct batch *batch, struct iova_walk *walk, uint64_t from,
                         uint64_t to)
{
    const bool exclusive = (batch->flags & IOVA_BITMAP_EXCLUSIVE) != 0;

    if (batch->pages && exclusive) {
        do_rows(batch, walk, from, to, true, false, true);
    } else if (batch->pages) {
        do_rows(batch, walk, from, to, true, false, false);
    } else if (batch->clear && exclusive) {
        do_rows(batch, walk, from, to, false, true, true);
    } else if (batch->clear) {
        do_rows(batch, walk, from, to, false, true, false);
    } else if (exclusive) {
        do_rows(batch, walk, from, to, false, false, true);
    } else {
        do_rows(batch, walk, from, to, false, false, false);
    }
}

/* What all rows reach to, of those that are inside. */
static struct iova_span reach_of(const struct batch *batch)
{
    struct iova_span reach = {.iova = batch->bitmap->geometry.iova};
    struct iova_span row;

    for (uint64_t i = 0; i < batch->count; i++) {
        if (resolve(batch, i, &row) > 0) {
            extend(&reach, &row);
        }
    }
    return reach;
}

/* Row by row, in the order given. */
static void do_in_order(const struct batch *batch, struct iova_walk *walk)
{
    const bool simple = batch->bitmap->pin == &iova_pin_none;
    const bool counts = (batch->flags & IOVA_BITMAP_COUNT) != 0;
    const uint64_t last_bit = batch->bitmap->geometry.nbits - 1;
    struct iova_span row;

    if (simple && batch->count != 0) { /* the one window for all rows; it cannot fail */
        iova_window_take(batch->bitmap, &walk->own, 0, batch->bitmap->geometry.nbytes, UINT64_MAX,
                         IOVA_BITMAP_WRITE);
    }
    for (uint64_t i = 0; i < batch->count && walk->rc == 0; i += STEP) {
        const uint64_t to = batch->count - i < STEP ? batch->count : i + STEP;
        if (iova_poll_before(&walk->poll, (to - i) * IOVA_POLL_ITEM) < 0) {
            iova_walk_fail(walk, -EINTR);
        } else if (simple && !counts) {
            do_some_rows(batch, walk, i, to);
        } else {
            for (uint64_t k = i; k < to && walk->rc == 0; k++) {
                if (resolve(batch, k, &row) > 0) {
                    iova_walk_to(walk, row.first_bit, row.last_bit, last_bit);
                    apply(batch, walk, counts);
                }
            }
        }
    }
    if (walk->rc == -EINTR) { /* rows of any place may be missing */
        walk->span = reach_of(batch);
        iova_walk_break(walk, 0, -EINTR);
    }
}

/* ---- rows sorted ---- */

/* The rows that have bits, ascending, and what they reach to: 0, -ENOMEM or -EINTR. */
static int sorted_rows(const struct batch *batch, struct iova_poll *poll, struct iova_bits **sorted,
                       uint64_t *nrows, struct iova_span *reach)
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
static void do_sorted(const struct batch *batch, struct iova_walk *walk)
{
    struct iova_bits *rows;
    uint64_t nrows;
    int rc = sorted_rows(batch, &walk->poll, &rows, &nrows, &walk->span);

    if (rc == -EINTR) {
        iova_walk_break(walk, 0, rc);
    }
    iova_walk_fail(walk, rc);
    for (uint64_t i = 0; rc == 0 && i < nrows;) {
        struct iova_bits joined = rows[i++];
        while (i < nrows && rows[i].first <= joined.last + 1) {
            joined.last = rows[i].last > joined.last ? rows[i].last : joined.last;
            i++;
        }
        iova_walk_to(walk, joined.first, joined.last, walk->span.last_bit);
        rc = apply(batch, walk, true);
    }
    free(rows);
}

/* ---- the verbs ---- */

static int run(const struct batch *batch, unsigned takes, uint64_t *bad_row,
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
    const struct batch batch = {
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
    const struct batch batch = {
        .bitmap = bitmap, .items = words_of(ranges), .count = count, .flags = flags};

    return run(&batch, IOVA_BITMAP_CLIP | IOVA_BITMAP_COUNT | IOVA_BITMAP_EXCLUSIVE, bad_row,
               report);
}

int iova_bitmap_clear_ranges(struct iova_bitmap *bitmap, const struct iova_bitmap_range *ranges,
                             uint64_t count, unsigned flags, uint64_t *bad_row,
                             struct iova_bitmap_report *report)
{
    const struct batch batch = {
        .bitmap = bitmap, .items = words_of(ranges), .count = count, .clear = true, .flags = flags};

    return run(&batch, IOVA_BITMAP_CLIP | IOVA_BITMAP_EXCLUSIVE, bad_row, report);
}

int iova_bitmap_set_pages(struct iova_bitmap *bitmap, const uint64_t *pages, uint64_t count,
                          unsigned flags, uint64_t *bad_row, struct iova_bitmap_report *report)
{
    const struct batch batch = {
        .bitmap = bitmap, .items = pages, .count = count, .pages = true, .flags = flags};

    return run(&batch, IOVA_BITMAP_CLIP | IOVA_BITMAP_COUNT | IOVA_BITMAP_EXCLUSIVE, bad_row,
               report);
}
