/*
 * harvest.c - read and clear: the harvest of a migration round.
 *
 * Each word is taken with an atomic exchange, so that a concurrent mark is either in this harvest
 * or left for the next one. What was taken lies in a block on the stack until it is rows, or marked
 * in another bitmap. A harvest puts back what it cannot deliver.
 */
#include <errno.h>

#include "core/bits/words.h"
#include "core/ops/marker.h"
#include "core/ops/runs.h"

/* Takes the bits of mask from a byte: they are 0 afterwards. */
static uint8_t take_byte(uint8_t *byte, uint8_t mask)
{
    uint8_t value = iova_atomic_load8(byte) & mask;

    return value == 0 ? 0 : iova_atomic_and8(byte, (uint8_t)~mask) & mask;
}

/* Takes whole bytes, aligned words of them at once; those that are 0 are not written. */
static void take_bytes(uint8_t *taken, uint8_t *bytes, size_t n)
{
    uint16_t list[IOVA_BLOCK_BYTES / 8 + IOVA_LIST_SLACK];
    size_t i = 0;

    for (size_t before = (size_t)iova_bits_to_word(bytes, n); i < before; i++) {
        taken[i] = take_byte(bytes + i, 0xff);
    }
    size_t nwords = (n - i) / 8;
    size_t count = iova_kernels()->not_zero(bytes + i, nwords, list);
    memset(taken + i, 0, 8 * nwords);
    for (size_t k = 0; k < count; k++) {
        size_t at = i + 8 * (size_t)list[k];
        uint64_t value = iova_atomic_exchange64((iova_word *)(void *)(bytes + at), 0);
        memcpy(taken + at, &value, 8);
    }
    for (i += 8 * nwords; i < n; i++) {
        taken[i] = take_byte(bytes + i, 0xff);
    }
}

/* Takes the bits of a piece that fits a block. The first bit stays bit `skip` of a byte; the bits
 * beside the piece are 0 in `taken`. */
static void take(uint8_t *taken, const struct iova_chunk *piece)
{
    const struct iova_cut cut = iova_bits_cut(piece->skip, piece->nbits);
    uint8_t *bytes = piece->bytes;

    if (cut.head != 0) {
        *taken++ = take_byte(bytes++, cut.head);
    }
    take_bytes(taken, bytes, (size_t)cut.whole);
    if (cut.tail != 0) {
        taken[cut.whole] = take_byte(bytes + cut.whole, cut.tail);
    }
}

/* Marks the bits of `taken` again, from bit `from` of the bitmap on. */
static void put_back(const uint8_t *taken, const struct iova_chunk *piece, uint64_t from)
{
    uint64_t first =
        from - piece->first_bit + piece->skip; /* counted from the piece's first byte */
    uint64_t end = piece->skip + piece->nbits;

    for (uint64_t i = first >> 3; i < (end + 7) >> 3; i++) {
        uint8_t bits = taken[i] & (i == first >> 3 ? iova_bits_from((unsigned)(first & 7)) : 0xff);
        if (bits != 0) {
            iova_atomic_or8(piece->bytes + i, bits);
        }
    }
}

/* One harvest into rows. */
struct harvest {
    struct iova_walk walk;
    struct iova_runs runs;
    struct iova_rows rows;
    bool exclusive;
    bool full; /* a caller's array has no room for more */
};

/* Nobody else marks: the rows are decoded where the bits lie, which are cleared then. */
static int harvest_in_place(struct harvest *harvest, const struct iova_chunk *piece)
{
    int rc = iova_runs_add(&harvest->runs, piece);

    if (rc == 0) {
        iova_bits_clear(piece->bytes, piece->skip, piece->nbits);
    }
    return rc;
}

/* Takes a piece, and adds its rows: 0 or -ENOMEM. What a caller's array has no room for, from the
 * first run on that does not fit, is put back, and the walk ends with -ENOSPC. */
static int harvest_piece(struct harvest *harvest, const struct iova_chunk *piece)
{
    uint8_t taken[IOVA_BLOCK_BYTES];
    struct iova_chunk copy = *piece;
    struct iova_runs *runs = &harvest->runs;

    /* Before anything is taken: what follows, and the end, need no more memory. */
    if (!harvest->rows.fixed && !iova_rows_reserve(&harvest->rows, IOVA_BLOCK_EDGES)) {
        return -ENOMEM;
    }
    if (harvest->exclusive && !harvest->rows.fixed) {
        return harvest_in_place(harvest, piece);
    }
    take(taken, piece);
    copy.bytes = taken;
    int rc = iova_runs_add(runs, &copy);
    if (runs->dropped != 0) {
        put_back(taken, piece, runs->first_dropped);
        iova_walk_break(&harvest->walk, iova_geometry_address(runs->geometry, runs->first_dropped),
                        -ENOSPC);
        runs->dropped = 0;
        runs->carry = 0; /* no run is open */
        harvest->full = true;
    }
    return rc;
}

/* After a failure, marks again what is in rows. 0, or an error: then rows are all there is. */
static int put_all_back(struct harvest *harvest, uint64_t *count)
{
    struct iova_runs *runs = &harvest->runs;
    struct iova_bitmap *bitmap = harvest->walk.bitmap;

    if (runs->seen == 0) {
        return 0;
    }
    runs->span.last_bit = runs->span.first_bit + (runs->seen - 1);
    runs->span.last = iova_geometry_last_address(&bitmap->geometry, runs->span.last_bit);
    iova_runs_end(runs, count); /* has room: each piece reserved for it */
    struct iova_bitmap_ranges all = {
        .rows = (struct iova_bitmap_range *)(void *)harvest->rows.items, .count = *count};
    return iova_bitmap_put_back(bitmap, &all, NULL);
}

int iova_bitmap_read_and_clear(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length,
                               unsigned flags, struct iova_bitmap_ranges *ranges,
                               struct iova_bitmap_report *report)
{
    const struct iova_request request = {iova, length, flags,
                                         IOVA_BITMAP_CLIP | IOVA_BITMAP_EXCLUSIVE};
    struct harvest harvest = {.rows = iova_rows_of(ranges),
                              .exclusive = (flags & IOVA_BITMAP_EXCLUSIVE) != 0};
    struct iova_walk *walk = &harvest.walk;
    struct iova_chunk piece;

    ranges->count = 0;
    const bool some = iova_walk_begin(walk, bitmap, IOVA_WALK_WRITE, &request, report);
    if (some) {
        iova_runs_begin(&harvest.runs, &bitmap->geometry, &walk->span, true, &harvest.rows);
    }
    while (iova_walk_next(walk)) {
        while (walk->rc == 0 && iova_runs_next_piece(&walk->chunk, &piece)) {
            iova_walk_fail(walk, piece.hole ? iova_runs_add(&harvest.runs, &piece)
                                            : harvest_piece(&harvest, &piece));
        }
    }
    int rc = iova_walk_end(walk);
    bool delivers = rc == 0 || harvest.full;
    if (delivers && some) {
        iova_runs_end(&harvest.runs, &ranges->count); /* has room: each piece reserved for it */
    } else if (some) {
        delivers = put_all_back(&harvest, &ranges->count) < 0;
        if (walk->report->length != 0) { /* as if nothing had been taken */
            walk->report->iova = walk->span.iova;
            walk->report->length = walk->span.last - walk->span.iova + 1;
        }
        ranges->count = delivers ? ranges->count : 0;
    }
    iova_rows_give(&harvest.rows, delivers ? 0 : rc, ranges);
    return rc;
}

/* Moves a piece: what was not marked in the other bitmap stays here, and ends the walk. */
static void move_piece(struct iova_walk *from, struct iova_walk *to, const struct iova_chunk *piece)
{
    const struct iova_bitmap_geometry *geometry = &from->bitmap->geometry;
    const struct iova_span whole = iova_geometry_whole(geometry);
    uint8_t taken[IOVA_BLOCK_BYTES];
    struct iova_chunk copy = *piece;
    struct iova_block block;

    take(taken, piece);
    copy.bytes = taken;
    iova_block_decode(&block, geometry, &whole, &copy);
    if (iova_mark_rows(to, block.items, block.count) < 0) { /* a page that is not whole there */
        uint64_t bit = iova_geometry_bit(geometry, to->report->iova);
        put_back(taken, piece, bit);
        iova_walk_break(from, iova_geometry_address(geometry, bit), to->rc);
    }
}

int iova_bitmap_move_into(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length,
                          unsigned flags, struct iova_bitmap *into,
                          struct iova_bitmap_report *report)
{
    const struct iova_request request = {iova, length, flags,
                                         IOVA_BITMAP_CLIP | IOVA_BITMAP_EXCLUSIVE};
    struct iova_walk from, to;
    struct iova_chunk piece;

    iova_walk_begin(&to, into, IOVA_WALK_ROWS, NULL, NULL);
    iova_walk_begin(&from, bitmap, IOVA_WALK_WRITE, &request, report);
    while (iova_walk_next(&from)) {
        while (from.rc == 0 && iova_runs_next_piece(&from.chunk, &piece)) {
            if (!piece.hole) {
                move_piece(&from, &to, &piece);
            }
        }
    }
    from.report->pages = to.report->pages;
    iova_walk_end(&to);
    return iova_walk_end(&from);
}
