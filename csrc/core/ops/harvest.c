/*
 * harvest.c - read and clear: the harvest of a migration round.
 *
 * Each word is taken with an atomic exchange, so that a concurrent mark is either in this harvest
 * or left for the next one. What was taken lies in a block of its own until it is rows, or marked
 * in another bitmap. A harvest that fails puts back what it cannot deliver.
 */
#include <errno.h>
#include <string.h>

#include "core/bits/atomic.h"
#include "core/ops/marker.h"
#include "core/ops/runs.h"
#include "core/bits/words.h"

enum { BLOCK_BYTES = 4096, BLOCK_EDGES = 8 * BLOCK_BYTES + IOVA_EDGE_SLACK + 2 * 64 + 1 };

/* One harvest, into rows or into another bitmap. */
struct harvest {
    struct iova_bitmap *bitmap;
    struct iova_runs runs; /* rows: of all; into: of one block at a time */
    struct iova_rows rows;
    struct iova_marker *into; /* or NULL: rows are the answer */
    uint8_t taken[BLOCK_BYTES];
};

/* Takes the bits of mask from a byte: they are 0 afterwards. */
static uint8_t take_byte(uint8_t *byte, uint8_t mask)
{
    uint8_t value = iova_atomic_load8(byte) & mask;

    return value == 0 ? 0 : iova_atomic_and8(byte, (uint8_t)~mask) & mask;
}

/* Takes aligned words, at most a block of them; where they are 0 they are not written. */
static void take_words(uint8_t *taken, uint8_t *bytes, size_t nwords)
{
    uint16_t list[BLOCK_BYTES / 8 + IOVA_LIST_SLACK];
    size_t count = iova_kernels()->not_zero(bytes, nwords, list);

    memset(taken, 0, 8 * nwords);
    for (size_t k = 0; k < count; k++) {
        size_t at = 8 * (size_t)list[k];
        uint64_t value = iova_atomic_exchange64((iova_word *)(void *)(bytes + at), 0);
        memcpy(taken + at, &value, 8);
    }
}

/* Takes the bits of a run, which fits the block, into `taken`. The first bit stays bit `skip` of a
 * byte; the bits beside the run are 0 in `taken`. */
static void take(uint8_t *taken, uint8_t *bytes, unsigned skip, uint64_t nbits)
{
    size_t nbytes = (size_t)((skip + nbits + 7) >> 3);
    uint8_t last = iova_bits_upto((unsigned)((skip + nbits - 1) & 7));
    size_t whole_from = skip != 0; /* bytes that are not the run's alone are taken by bits */
    size_t whole_to = last != 0xff ? nbytes - 1 : nbytes;

    if (whole_from != 0) {
        taken[0] = take_byte(bytes, (uint8_t)(iova_bits_from(skip) & (nbytes == 1 ? last : 0xff)));
    }
    size_t i = whole_from;
    for (; i < whole_to && ((uintptr_t)(bytes + i) & 7) != 0; i++) {
        taken[i] = take_byte(bytes + i, 0xff);
    }
    if (i < whole_to) {
        size_t nwords = (whole_to - i) / 8;
        take_words(taken + i, bytes + i, nwords);
        i += 8 * nwords;
    }
    for (; i < whole_to; i++) {
        taken[i] = take_byte(bytes + i, 0xff);
    }
    if (whole_to < nbytes && whole_to >= whole_from) {
        taken[whole_to] = take_byte(bytes + whole_to, last);
    }
}

/* Marks the bits of `taken` again. */
static void put_back(const uint8_t *taken, uint8_t *bytes, size_t nbytes)
{
    for (size_t i = 0; i < nbytes; i++) {
        if (taken[i] != 0) {
            iova_atomic_or8(bytes + i, taken[i]);
        }
    }
}

/* Harvests a piece of a chunk that fits a block. */
static int harvest_block(struct harvest *harvest, const struct iova_chunk *chunk)
{
    struct iova_chunk taken = *chunk;
    int rc;

    /* Before anything is taken: what follows needs no more memory. */
    if (!iova_rows_reserve(&harvest->rows, BLOCK_EDGES)) {
        return -ENOMEM;
    }
    taken.bytes = harvest->taken;
    take(harvest->taken, chunk->bytes, chunk->skip, chunk->nbits);
    if (harvest->into == NULL) {
        return iova_runs_add(&harvest->runs, &taken);
    }
    struct iova_span span =
        iova_geometry_pages(&harvest->bitmap->geometry, chunk->first_bit, chunk->nbits);
    uint64_t count;
    harvest->rows.count = 0;
    iova_runs_begin(&harvest->runs, &harvest->bitmap->geometry, &span, true, &harvest->rows);
    iova_runs_add(&harvest->runs, &taken);
    iova_runs_end(&harvest->runs, &count);
    rc = iova_marker_mark(harvest->into, harvest->rows.items, harvest->rows.count);
    if (rc < 0) { /* pages from the first that is not in `into` stay in the source */
        uint64_t from = iova_geometry_bit(&harvest->bitmap->geometry, harvest->into->report.iova);
        for (uint64_t bit = chunk->first_bit; bit < from; bit++) {
            uint64_t at = bit - chunk->first_bit + chunk->skip;
            harvest->taken[at >> 3] &= (uint8_t)~(1u << (at & 7));
        }
        put_back(harvest->taken, chunk->bytes, (size_t)((chunk->skip + chunk->nbits + 7) >> 3));
    }
    return rc;
}

/* Marks again what is in rows, after a failure. 0, or an error: then rows are all there is. */
static int put_all_back(struct harvest *harvest, uint64_t *count)
{
    struct iova_runs *runs = &harvest->runs;
    struct iova_bitmap_report ignored;

    if (runs->seen == 0) {
        return 0;
    }
    runs->span.last_bit = runs->span.first_bit + (runs->seen - 1);
    runs->span.last = iova_geometry_last_address(&harvest->bitmap->geometry, runs->span.last_bit);
    iova_runs_end(runs, count); /* has room: each block reserved for it */
    struct iova_bitmap_ranges all = {
        .rows = (struct iova_bitmap_range *)(void *)harvest->rows.items, .count = *count};
    return iova_bitmap_put_back(harvest->bitmap, &all, &ignored);
}

/* Takes the whole span, block by block: 0, or an error, and what was not taken in the report. */
static int take_all(struct harvest *harvest, const struct iova_span *span,
                    struct iova_bitmap_report *report)
{
    struct iova_cursor cursor;
    struct iova_chunk chunk;
    int taken = 0;
    int rc = 0;

    iova_cursor_open_sparse(&cursor, harvest->bitmap, span, IOVA_BITMAP_WRITE);
    while (taken == 0 && (rc = iova_cursor_next(&cursor, &chunk)) > 0) {
        struct iova_chunk block;
        if (chunk.hole) {
            taken = harvest->into == NULL ? iova_runs_add(&harvest->runs, &chunk) : 0;
            continue;
        }
        while (taken == 0 && iova_chunk_cut(&chunk, 8 * BLOCK_BYTES, &block)) {
            taken = harvest_block(harvest, &block);
        }
    }
    if (rc < 0) {
        iova_cursor_undone(&cursor, span, report);
    }
    iova_cursor_close(&cursor);
    return rc < 0 ? rc : taken;
}

int iova_bitmap_read_and_clear(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length,
                               unsigned flags, struct iova_bitmap_ranges *ranges,
                               struct iova_bitmap_report *report)
{
    struct harvest harvest = {.bitmap = bitmap};
    struct iova_span span;

    *ranges = (struct iova_bitmap_ranges){0};
    *report = (struct iova_bitmap_report){0};
    int rc = iova_geometry_resolve(&bitmap->geometry, iova, length, flags, &span);
    if (rc <= 0) {
        return rc;
    }
    iova_runs_begin(&harvest.runs, &bitmap->geometry, &span, true, &harvest.rows);
    rc = take_all(&harvest, &span, report);
    bool lost = false;
    if (rc == 0) {
        rc = iova_runs_end(&harvest.runs, &ranges->count);
    } else {
        lost = put_all_back(&harvest, &ranges->count) < 0;
        if (report->length != 0) { /* as if nothing had been taken */
            report->iova = span.iova;
            report->length = span.last - span.iova + 1;
        }
    }
    if (rc < 0 && !lost) {
        ranges->count = 0;
        iova_rows_free(harvest.rows.items);
        return rc;
    }
    iova_rows_trim(&harvest.rows);
    ranges->rows = (struct iova_bitmap_range *)(void *)harvest.rows.items;
    return rc;
}

int iova_bitmap_move_into(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length,
                          unsigned flags, struct iova_bitmap *into,
                          struct iova_bitmap_report *report)
{
    struct iova_marker marker;
    struct harvest harvest = {.bitmap = bitmap, .into = &marker};
    struct iova_span span;

    *report = (struct iova_bitmap_report){0};
    int rc = iova_geometry_resolve(&bitmap->geometry, iova, length, flags, &span);
    if (rc <= 0) {
        return rc;
    }
    iova_marker_open(&marker, into);
    rc = take_all(&harvest, &span, report);
    iova_marker_close(&marker);
    if (marker.report.length != 0) { /* the page that is not whole in `into` is still here */
        uint64_t bit = iova_geometry_bit(&bitmap->geometry, marker.report.iova);
        uint64_t start = iova_geometry_address(&bitmap->geometry, bit);
        report->iova = start > span.iova ? start : span.iova;
        report->length = span.last - report->iova + 1;
    }
    report->pages = marker.report.pages;
    iova_rows_free(harvest.rows.items);
    return rc;
}
