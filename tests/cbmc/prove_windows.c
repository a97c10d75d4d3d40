/*
 * prove_windows.c - csrc/core/bitmap/window.c: the arithmetic of windows for bitmaps of any size
 * at any address.
 */
#include "core/bitmap/window.h"
#include "proof.h"

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
