/*
 * batch.c - many ranges in one call: set_ranges, clear_ranges and set_pages.
 *
 * All rows are checked before the first is done, so that a bad one means that nothing was recorded.
 * Where pins cost anything the rows are sorted first: then each window is taken once. Where they do
 * not, rows of one window are only brought together. Each loop over all rows can be interrupted.
 */
#include <errno.h>
#include <stdlib.h>

#include "core/bits/atomic.h"
#include "core/ops/sort.h"
#include "core/bits/bits.h"
#include "core/bitmap/bitmap.h"
#include "core/pin/pin.h"
#include "core/bitmap/window.h"

struct batch {
    struct iova_bitmap *bitmap;
    const uint64_t *items;
    uint64_t count;
    bool pages; /* items are addresses, of one page each; else pairs (iova, length) */
    unsigned flags;
    bool clear;
};

/* One number of the array. It is loaded once, so that what was checked is what is used: another
 * thread may change it meanwhile. */
static uint64_t item(const struct batch *batch, uint64_t i)
{
    return iova_atomic_load64((const iova_word *)(const void *)(batch->items + i));
}

/* The part of row i that is inside: the results of iova_geometry_resolve. */
static int resolve(const struct batch *batch, uint64_t i, struct iova_span *span)
{
    uint64_t iova = item(batch, batch->pages ? i : 2 * i);
    uint64_t length = batch->pages ? 1 : item(batch, 2 * i + 1);

    return iova_geometry_resolve(&batch->bitmap->geometry, iova, length, batch->flags, span);
}

/* What rows reach to: from the first address of the bitmap, with no row yet. */
static struct iova_span reach_of(const struct iova_bitmap *bitmap)
{
    return (struct iova_span){.iova = bitmap->geometry.iova};
}

static void extend(struct iova_span *reach, const struct iova_span *row)
{
    reach->last = row->last > reach->last ? row->last : reach->last;
    reach->last_bit = row->last_bit > reach->last_bit ? row->last_bit : reach->last_bit;
}

/* Does the bits of an open cursor; `newly` counts what a set turned on, where it is not NULL. */
static int apply(const struct batch *batch, struct iova_cursor *cursor, uint64_t *newly)
{
    const struct iova_bitmap *bitmap = batch->bitmap;
    struct iova_chunk chunk;
    int rc;

    while ((rc = iova_cursor_next(cursor, &chunk)) > 0) {
        if (batch->clear) {
            iova_bits_clear(chunk.bytes, chunk.skip, chunk.nbits);
        } else if (newly != NULL) {
            *newly += iova_bits_test_and_set(chunk.bytes, chunk.skip, chunk.nbits);
        } else {
            iova_bits_set_within(chunk.bytes, chunk.skip, chunk.nbits, bitmap->data,
                                 bitmap->data + bitmap->geometry.nbytes);
        }
    }
    return rc;
}

/* The first bitmap byte of a row, which may be outside. */
static uint64_t first_byte(const struct batch *batch, uint64_t i)
{
    uint64_t iova = item(batch, batch->pages ? i : 2 * i);

    return iova_geometry_bit(&batch->bitmap->geometry, iova) >> 3;
}

/* Which of the windows of an ascending walk a byte lies in. */
static uint64_t window_of(const struct iova_bitmap *bitmap, uint64_t byte)
{
    uint64_t pgoff = (uintptr_t)bitmap->data & (bitmap->host_page_size - 1);

    return (byte + pgoff) / bitmap->host_page_size / bitmap->window_pages;
}

static uint64_t first_byte_of_window(const struct iova_bitmap *bitmap, uint64_t window)
{
    uint64_t pgoff = (uintptr_t)bitmap->data & (bitmap->host_page_size - 1);

    return window == 0 ? 0 : window * bitmap->window_pages * bitmap->host_page_size - pgoff;
}

/*
 * Fills order[] with the rows' numbers, those of one window together, by a counting sort in
 * windows[count] and next[nwindows + 1], all 0. Each row is looked at once, for another thread may
 * change the array meanwhile. 0 or -EINTR.
 */
static int count_and_place(const struct batch *batch, struct iova_poll *poll, uint64_t nwindows,
                           uint64_t *order, uint64_t *windows, uint64_t *next)
{
    int rc = 0;

    for (uint64_t i = 0; i < batch->count; i++) {
        uint64_t window = window_of(batch->bitmap, first_byte(batch, i));
        windows[i] = window < nwindows ? window : nwindows - 1; /* a row to be clipped */
        next[windows[i] + 1]++;
        if ((rc = iova_poll_before(poll, IOVA_POLL_ITEM)) < 0) {
            return rc;
        }
    }
    for (uint64_t window = 0; window < nwindows; window++) {
        next[window + 1] += next[window];
    }
    for (uint64_t i = 0; i < batch->count; i++) {
        order[next[windows[i]]++] = i;
        if ((rc = iova_poll_before(poll, IOVA_POLL_ITEM)) < 0) {
            return rc;
        }
    }
    return 0;
}

/* An order that takes few windows, in memory of its own; NULL where one window holds all, rows are
 * few for the windows there are, or memory is: then the order given will do. 0 or -EINTR. */
static int order_by_window(const struct batch *batch, struct iova_poll *poll, uint64_t **result)
{
    uint64_t nwindows = window_of(batch->bitmap, batch->bitmap->geometry.nbytes - 1) + 1;
    int rc = 0;

    *result = NULL;
    if (nwindows == 1 || nwindows > batch->count || batch->count > SIZE_MAX / 16) {
        return 0;
    }
    uint64_t *order = malloc((size_t)batch->count * sizeof(*order));
    uint64_t *windows = malloc((size_t)batch->count * sizeof(*windows));
    uint64_t *next = calloc((size_t)nwindows + 1, sizeof(*next));
    bool possible = order != NULL && windows != NULL && next != NULL;
    if (possible) {
        rc = count_and_place(batch, poll, nwindows, order, windows, next);
    }
    if (possible && rc == 0) {
        *result = order;
    } else {
        free(order);
    }
    free(windows);
    free(next);
    return rc;
}

/* Does a row in the window that the cursor has. False where it is not all inside. */
static bool do_inside(const struct batch *batch, const struct iova_window *window,
                      const struct iova_span *row)
{
    const struct iova_bitmap *bitmap = batch->bitmap;
    uint64_t first = (row->first_bit >> 3) - window->view.base_index; /* wraps where before it */
    uint64_t last = (row->last_bit >> 3) - window->view.base_index;

    if (batch->clear || first >= window->nbytes || last >= window->nbytes ||
        last - first > IOVA_POLL_BYTES) {
        return false;
    }
    iova_bits_set_within(bitmap->data + (row->first_bit >> 3), (unsigned)(row->first_bit & 7),
                         row->last_bit - row->first_bit + 1, bitmap->data,
                         bitmap->data + bitmap->geometry.nbytes);
    return true;
}

/* Row by row, in an order, or as they come where that is NULL. 0, -EINTR or a backend's errno. */
static int do_in_order(const struct batch *batch, struct iova_cursor *cursor, const uint64_t *order,
                       uint64_t reach)
{
    enum { AHEAD = 12 }; /* rows, whose words are fetched meanwhile: they come in any order */
    struct iova_bitmap *bitmap = batch->bitmap;
    uint64_t present = UINT64_MAX;
    struct iova_span row;
    int rc = 0;

    for (uint64_t k = 0; rc == 0 && k < batch->count; k++) {
        uint64_t i = order == NULL ? k : order[k];
        if ((rc = iova_poll_before(&cursor->poll, IOVA_POLL_ITEM)) < 0) {
            break;
        }
        if (k + AHEAD < batch->count) {
            uint64_t byte = first_byte(batch, order == NULL ? k + AHEAD : order[k + AHEAD]);
            if (byte < bitmap->geometry.nbytes) {
                iova_prefetch_write(bitmap->data + byte);
            }
        }
        if (resolve(batch, i, &row) <= 0 || do_inside(batch, cursor->window, &row)) {
            continue;
        }
        uint64_t window = window_of(bitmap, row.first_bit >> 3);
        if (order != NULL && window != present) { /* from its start: all its rows will fit */
            uint64_t start = first_byte_of_window(bitmap, window);
            uint64_t last = (reach > row.last_bit ? reach : row.last_bit) >> 3;
            present = window;
            iova_window_take(bitmap, cursor->window, start, last - start + 1, IOVA_BITMAP_WRITE);
        }
        iova_cursor_again(cursor, row.first_bit, row.last_bit, reach);
        rc = apply(batch, cursor, NULL);
    }
    return rc;
}

/* In an order that takes few windows. No pin can fail: 0 or -EINTR. */
static int do_unsorted(const struct batch *batch, struct iova_cursor *cursor, uint64_t reach)
{
    uint64_t *order;
    int rc = order_by_window(batch, &cursor->poll, &order);

    if (rc == 0) {
        rc = do_in_order(batch, cursor, order, reach);
    }
    free(order);
    cursor->next_bit = 0; /* where it was interrupted, rows of any place may be missing */
    return rc;
}

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
    *reach = reach_of(batch->bitmap); /* of what is stored: the array may have changed */
    for (uint64_t i = 0; rc == 0 && i < batch->count; i++) {
        if (resolve(batch, i, &row) > 0) {
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
static int do_sorted(const struct batch *batch, struct iova_cursor *cursor,
                     const struct iova_bits *rows, uint64_t nrows, uint64_t reach, uint64_t *newly)
{
    int rc = 0;

    for (uint64_t i = 0; i < nrows && rc == 0;) {
        struct iova_bits joined = rows[i++];
        while (i < nrows && rows[i].first <= joined.last + 1) {
            joined.last = rows[i].last > joined.last ? rows[i].last : joined.last;
            i++;
        }
        iova_cursor_again(cursor, joined.first, joined.last, reach);
        rc = apply(batch, cursor, newly);
    }
    return rc;
}

/* Checks all rows: 0, whether any has bits, and their reach; an error and its row; -EINTR. */
static int check(const struct batch *batch, struct iova_poll *poll, uint64_t *bad_row,
                 struct iova_span *reach, bool *any)
{
    struct iova_span row;

    *reach = reach_of(batch->bitmap);
    *any = false;
    for (uint64_t i = 0; i < batch->count; i++) {
        int rc = resolve(batch, i, &row);
        if (rc < 0) {
            *bad_row = i;
            return rc;
        }
        if (rc > 0) {
            extend(reach, &row);
            *any = true;
        }
        if ((rc = iova_poll_before(poll, IOVA_POLL_ITEM)) < 0) {
            return rc;
        }
    }
    return 0;
}

static int run(const struct batch *batch, uint64_t *bad_row, struct iova_bitmap_report *report)
{
    struct iova_bitmap *bitmap = batch->bitmap;
    const struct iova_span whole = iova_geometry_whole(&bitmap->geometry);
    struct iova_poll poll = iova_poll_of(bitmap);
    struct iova_cursor cursor;
    struct iova_bits *rows = NULL;
    uint64_t nrows = 0;
    struct iova_span reach;
    bool any;

    *report = (struct iova_bitmap_report){0};
    int rc = check(batch, &poll, bad_row, &reach, &any);
    if (rc < 0 || !any) {
        return rc;
    }
    bool sorted = bitmap->pin != &iova_pin_none;
    if (sorted && (rc = sorted_rows(batch, &poll, &rows, &nrows, &reach)) < 0) {
        return rc;
    }
    iova_cursor_open_own(&cursor, bitmap, &whole, IOVA_BITMAP_WRITE);
    if (sorted) {
        rc = do_sorted(batch, &cursor, rows, nrows, reach.last_bit, &report->pages);
    } else {
        rc = do_unsorted(batch, &cursor, reach.last_bit);
    }
    if (rc < 0) {
        iova_cursor_undone(&cursor, &reach, report);
    }
    iova_cursor_close(&cursor);
    free(rows);
    return rc;
}

/* Where there are none they may be NULL, which has no members. */
static const uint64_t *words_of(const struct iova_bitmap_range *rows)
{
    return (const uint64_t *)(const void *)rows;
}

int iova_bitmap_put_back(struct iova_bitmap *bitmap, const struct iova_bitmap_ranges *ranges,
                         struct iova_bitmap_report *report)
{
    struct batch batch = {bitmap, words_of(ranges->rows), ranges->count, false, 0, false};
    const struct iova_span whole = iova_geometry_whole(&bitmap->geometry);
    struct iova_span reach = reach_of(bitmap);
    struct iova_span last;
    struct iova_cursor cursor;

    *report = (struct iova_bitmap_report){0};
    if (ranges->count == 0) {
        return 0;
    }
    resolve(&batch, ranges->count - 1, &last);
    extend(&reach, &last); /* they ascend */
    iova_cursor_open_own(&cursor, bitmap, &whole, IOVA_BITMAP_WRITE);
    cursor.poll.ask = NULL;
    int rc = do_in_order(&batch, &cursor, NULL, reach.last_bit);
    if (rc < 0) {
        iova_cursor_undone(&cursor, &reach, report);
    }
    iova_cursor_close(&cursor);
    return rc;
}

int iova_bitmap_set_ranges(struct iova_bitmap *bitmap, const struct iova_bitmap_range *ranges,
                           uint64_t count, unsigned flags, uint64_t *bad_row,
                           struct iova_bitmap_report *report)
{
    struct batch batch = {bitmap, words_of(ranges), count, false, flags, false};
    return run(&batch, bad_row, report);
}

int iova_bitmap_clear_ranges(struct iova_bitmap *bitmap, const struct iova_bitmap_range *ranges,
                             uint64_t count, unsigned flags, uint64_t *bad_row,
                             struct iova_bitmap_report *report)
{
    struct batch batch = {bitmap, words_of(ranges), count, false, flags, true};
    return run(&batch, bad_row, report);
}

int iova_bitmap_set_pages(struct iova_bitmap *bitmap, const uint64_t *pages, uint64_t count,
                          unsigned flags, uint64_t *bad_row, struct iova_bitmap_report *report)
{
    struct batch batch = {bitmap, pages, count, true, flags, false};
    return run(&batch, bad_row, report);
}
