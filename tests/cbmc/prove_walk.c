/*
 * prove_walk.c - csrc/core/bitmap/walk.c and window.c: the walk of a small bitmap, whatever its
 * pins answer. KIND is one of enum iova_walk_kind.
 */
#include "core/bitmap/walk.h"
#include "pins.h"

enum { TAKES = IOVA_BITMAP_CLIP | IOVA_BITMAP_COUNT };

static bool has_own_window(void)
{
    return KIND != IOVA_WALK_PRESENT;
}

/* An earlier operation: what it took as the present window, and perhaps could not. */
static void take_earlier(struct iova_bitmap *bitmap)
{
    const struct iova_bitmap_geometry *g = &bitmap->geometry;
    const uint8_t byte = nondet_u8();
    GIVEN(byte < g->nbytes);

    const int rc = iova_window_take(bitmap, &bitmap->present, byte, g->nbytes - byte,
                                    bitmap->window_pages, IOVA_BITMAP_WRITE);
    PROVE(rc < 0 ? bitmap->present.view.npages == 0 && pins_held == 0 : pins_held == 1);
}

/* The next chunk starts at bit `next` and lies in pages that are pinned. Returns the bit behind. */
static uint64_t check_chunk(const struct iova_walk *walk, uint64_t next, uint64_t last_bit)
{
    const struct iova_chunk *chunk = &walk->chunk;
    const uint8_t page = nondet_u8(); /* any page of the chunk */

    PROVE(chunk->first_bit == next && chunk->nbits >= 1 && !chunk->hole);
    PROVE(chunk->bytes == walk->bitmap->data + next / 8 && chunk->skip == next % 8);
    next += chunk->nbits;
    PROVE(next <= last_bit + 1 && chunk->last == (next == last_bit + 1));
    PROVE(chunk->last || next % 8 == 0);
    GIVEN(page_of((uintptr_t)chunk->bytes) <= page);
    GIVEN(page <= page_of((uintptr_t)walk->bitmap->data + (next - 1) / 8));
    PROVE(users[page] > 0);
    return next;
}

/* What is held when a walk has ended, and that all can be given back. */
static void check_balance(struct iova_bitmap *bitmap, unsigned held)
{
    PROVE(has_own_window() ? pins_held == held : pins_held == (bitmap->present.view.npages != 0));
    PROVE(bitmap->stats.pins - bitmap->stats.unpins == pins_held);
    iova_window_release(bitmap, &bitmap->present);
    PROVE(pins_held == 0 && bitmap->stats.pinned_pages == 0);
    PROVE(bitmap->stats.pins == bitmap->stats.unpins);
}

/*
 * A walk through windows of its own, or through the present one after another walk has left it
 * somewhere: the chunks are the span's bits in order, none twice and none left out; each lies in
 * pages that are pinned then; an error says exactly what was not delivered; pins are given back.
 */
void walk_range(void)
{
    struct iova_bitmap bitmap = any_bitmap();
    const struct iova_bitmap_geometry *g = &bitmap.geometry;
    const struct iova_span span = any_span(g);
    const struct iova_request request = {span.iova, span.last - span.iova + 1,
                                         nondet_unsigned() & TAKES, TAKES};
    struct iova_walk walk;
    struct iova_bitmap_report written, *report = nondet_bool() ? &written : NULL;
    uint64_t next = span.first_bit;

    GIVEN(request.length != 0); /* all 2**64 addresses are no range */
    if (EARLIER) {
        take_earlier(&bitmap);
    }
    const unsigned held = pins_held;
    pins_beside = has_own_window() ? held : 0;
    PROVE(iova_walk_begin(&walk, &bitmap, KIND, &request, report));
    PROVE(pins_held == held); /* nothing is pinned before it is needed */
    PROVE(walk.report == (report != NULL ? report : &walk.unread));
    PROVE(walk.report->pages == 0 && walk.report->iova == 0 && walk.report->length == 0);
    if (KIND == IOVA_WALK_ROWS) { /* nothing to do until it is turned to something */
        PROVE(!iova_walk_next(&walk));
        iova_walk_to(&walk, span.first_bit, span.last_bit);
    }
    while (iova_walk_next(&walk)) {
        next = check_chunk(&walk, next, span.last_bit);
    }
    PROVE(!iova_walk_next(&walk)); /* it has ended */
    PROVE(walk.rc <= 0);
    if (walk.rc < 0) {
        const uint64_t start = g->iova + (next << g->pgshift);
        PROVE(next <= span.last_bit);
        PROVE(walk.report->iova == (next == span.first_bit ? span.iova : start));
        PROVE(walk.report->length == span.last - walk.report->iova + 1);
    } else {
        PROVE(next == span.last_bit + 1 && walk.report->length == 0);
    }
    const int rc = walk.rc;
    PROVE(iova_walk_end(&walk) == rc);
    check_balance(&bitmap, held);
}

/* Any request: what is no walk pins nothing, has nothing to report, and its end says why. */
void walk_refused(void)
{
    struct iova_bitmap bitmap = any_bitmap();
    const struct iova_request request = {nondet_u64(), nondet_u64(), nondet_unsigned(), TAKES};
    struct iova_walk walk;
    struct iova_bitmap_report written, *report = nondet_bool() ? &written : NULL;
    struct iova_span span;
    int want =
        iova_geometry_resolve(&bitmap.geometry, request.iova, request.length, request.flags, &span);

    if ((request.flags & ~TAKES) != 0) {
        want = -EINVAL;
    }
    const bool some = iova_walk_begin(&walk, &bitmap, KIND, &request, report);
    PROVE(some == (want > 0));
    if (!some) {
        PROVE(!iova_walk_next(&walk));
    } else {
        PROVE(walk.span.first_bit == span.first_bit && walk.span.last_bit == span.last_bit);
        PROVE(walk.span.iova == span.iova && walk.span.last == span.last);
    }
    PROVE(iova_walk_end(&walk) == (some ? 0 : want));
    PROVE(walk.report->pages == 0 && walk.report->iova == 0 && walk.report->length == 0);
    PROVE(report == NULL || report == walk.report);
    PROVE(pins_held == 0 && bitmap.stats.pins == 0 && bitmap.stats.unpins == 0);
}

/* Pieces cut off a chunk are its bits in order; all but the last end at the end of a byte. */
void walk_cut(void)
{
    struct iova_bitmap bitmap = any_bitmap();
    const struct iova_span span = any_span(&bitmap.geometry);
    struct iova_chunk chunk = {.bytes = bitmap.data + span.first_bit / 8,
                               .skip = span.first_bit % 8,
                               .first_bit = span.first_bit,
                               .nbits = span.last_bit - span.first_bit + 1};
    struct iova_chunk piece;
    uint64_t next = span.first_bit;

    while (iova_chunk_cut(&chunk, 16, &piece)) {
        PROVE(piece.first_bit == next && 1 <= piece.nbits && piece.skip + piece.nbits <= 16);
        PROVE(piece.bytes == bitmap.data + next / 8 && piece.skip == next % 8);
        next += piece.nbits;
        PROVE(next % 8 == 0 || next == span.last_bit + 1);
    }
    PROVE(next == span.last_bit + 1);
}
