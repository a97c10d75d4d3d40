/*
 * prove_windows.c - csrc/core/window.c: the arithmetic of windows for bitmaps of any size at any
 * address, and the walk of a small bitmap whatever its pins answer.
 */
#include "pins.h"

/* The window of an ascending walk: for every geometry, address of the bitmap, byte of it, number of
 * pages in a window, and a host's page size of HOST_SHIFT bits. */
void window_at(void)
{
    const struct iova_bitmap_geometry g = any_geometry();
    struct iova_bitmap bitmap = {.geometry = g};
    struct iova_bitmap_window window;
    const uint64_t page = (uint64_t)1 << HOST_SHIFT;
    const uintptr_t address = nondet_address();
    const uint64_t byte = nondet_u64();
    GIVEN(address != 0 && (wide)address + g.nbytes <= TOP); /* it is in memory */
    GIVEN(byte < g.nbytes);
    bitmap.data = (uint8_t *)address;
    bitmap.host_page_size = page;
    bitmap.window_pages = nondet_u64();
    GIVEN(bitmap.window_pages >= 1);

    iova_bitmap_window_at(&bitmap, byte, &window);
    const uint64_t left = g.nbytes - byte;
    const uint64_t pgoff = (address + byte) & (page - 1);
    const wide pages = ((wide)pgoff + left + (page - 1)) >> HOST_SHIFT; /* that hold what is left */
    PROVE(window.base_index == byte && window.pgoff == pgoff);
    PROVE(window.npages == min_wide(pages, bitmap.window_pages));
    const uint64_t nbytes = iova_bitmap_window_nbytes(&bitmap, &window);
    PROVE(nbytes == min_wide(left, ((wide)window.npages << HOST_SHIFT) - pgoff));
    PROVE(nbytes >= 1);
    /* Its addresses: from its first bit's page on, the pages of its bytes, cut at the end. */
    const uint64_t offset = (byte << 3) << g.pgshift; /* the first bit is inside: no overflow */
    PROVE(window.iova == g.iova + offset && window.iova <= g.last);
    if (nbytes == left) {
        PROVE(window.length == g.length - offset);
    } else {
        /* They end before the page of the next byte, whose start is inside: `geometry_address`
         * proves that of every bit. */
        PROVE((byte + nbytes) << 3 < g.nbits);
        PROVE(window.length == (nbytes << 3) << g.pgshift);
    }
}

/*
 * A walk through windows of its own, or through the present one after another walk has left it
 * somewhere: the chunks are the span's bits in order, none twice and none left out; each lies in
 * pages that are pinned then; an error says exactly what was not delivered; pins are given back.
 */
void window_walk(void)
{
    struct iova_bitmap bitmap = any_bitmap();
    const struct iova_bitmap_geometry *g = &bitmap.geometry;
    const struct iova_span span = any_span(g);
    const bool own = OWN;
    struct iova_cursor cursor;
    struct iova_chunk chunk;
    struct iova_bitmap_report undone;
    uint64_t next = span.first_bit;
    int rc;

    if (EARLIER) { /* an earlier operation: what it took, and perhaps could not */
        const uint8_t byte = nondet_u8();
        GIVEN(byte < g->nbytes);
        rc = iova_window_take(&bitmap, &bitmap.present, byte, g->nbytes - byte, IOVA_BITMAP_WRITE);
        PROVE(rc < 0 ? bitmap.present.view.npages == 0 && pins_held == 0 : pins_held == 1);
    }
    const unsigned held = pins_held;
    if (own) {
        pins_beside = held;
        iova_cursor_open_own(&cursor, &bitmap, &span, IOVA_BITMAP_READ);
    } else {
        iova_cursor_open_present(&cursor, &bitmap, &span);
    }
    while ((rc = iova_cursor_next(&cursor, &chunk)) > 0) {
        PROVE(chunk.first_bit == next && chunk.nbits >= 1 && !chunk.hole);
        PROVE(chunk.bytes == bitmap.data + next / 8 && chunk.skip == next % 8);
        next += chunk.nbits;
        PROVE(next <= span.last_bit + 1 && chunk.last == (next == span.last_bit + 1));
        PROVE(chunk.last || next % 8 == 0);
        const uint8_t page = nondet_u8(); /* any page of the chunk */
        GIVEN(page_of((uintptr_t)chunk.bytes) <= page);
        GIVEN(page <= page_of((uintptr_t)bitmap.data + (next - 1) / 8));
        PROVE(users[page] > 0);
    }
    PROVE(rc < 0 ? next <= span.last_bit : next == span.last_bit + 1);
    if (rc < 0) {
        iova_cursor_undone(&cursor, &span, &undone);
        const uint64_t start = g->iova + (next << g->pgshift);
        PROVE(undone.iova == (next == span.first_bit ? span.iova : start));
        PROVE(undone.length == span.last - undone.iova + 1);
    }
    iova_cursor_close(&cursor);
    PROVE(own ? pins_held == held : pins_held == (bitmap.present.view.npages != 0));
    PROVE(bitmap.stats.pins - bitmap.stats.unpins == pins_held);
    iova_window_release(&bitmap, &bitmap.present);
    PROVE(pins_held == 0 && bitmap.stats.pinned_pages == 0);
    PROVE(bitmap.stats.pins == bitmap.stats.unpins);
}
