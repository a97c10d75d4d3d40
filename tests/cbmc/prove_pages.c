/*
 * prove_pages.c - csrc/core/bitmap/window.c: the bytes and pages that a window takes, for bitmaps
 * of any size at any address.
 */
#include "core/bitmap/window.h"
#include "proof.h"

/* A pin that delivers in full. */
static int64_t full_pin(void *context, uintptr_t address, uint64_t npages,
                        enum iova_bitmap_access access)
{
    (void)context;
    (void)address;
    (void)access;
    return (int64_t)npages;
}

static void full_unpin(void *context, uintptr_t address, uint64_t npages)
{
    (void)context;
    (void)address;
    (void)npages;
}

static const struct iova_bitmap_pin_ops full_pins = {full_pin, full_unpin, NULL};

/* A bitmap anywhere in memory, with a host's pages of 1 << HOST_SHIFT
 * bytes.
 */
static struct iova_bitmap anywhere(const struct iova_bitmap_geometry *geometry, uint64_t byte)
{
    struct iova_bitmap bitmap = {.geometry = *geometry};
    const uintptr_t address = nondet_address();

    GIVEN(address != 0 && (wide)address + geometry->nbytes <= TOP);
    GIVEN(byte < geometry->nbytes);
    bitmap.data = (uint8_t *)address;
    bitmap.host_page_size = (uint64_t)1 << HOST_SHIFT;
    bitmap.pin = &full_pins;
    return bitmap;
}

/* The bytes and the host's pages of the window of an ascending walk, for every size and address of
 * the bitmap and every byte of it. They do not depend on the rest of the geometry, which is any. */
void window_pages(void)
{
    struct iova_bitmap_geometry g;
    struct iova_window taken = {0};
    const uint64_t byte = nondet_u64();
    GIVEN(g.pgshift < 64);
    struct iova_bitmap bitmap = anywhere(&g, byte);
    const uint64_t left = g.nbytes - byte;
    const uint64_t most = nondet_u64(); /* UINT64_MAX too: one window for all */
    GIVEN(most >= 1);

    PROVE(iova_window_take(&bitmap, &taken, byte, left, most, IOVA_BITMAP_READ) == 0);
    const struct iova_bitmap_window window = taken.view;
    const uint64_t nbytes = taken.nbytes;
    const wide covered = ((wide)window.npages << HOST_SHIFT) - window.pgoff;
    PROVE(window.base_index == byte);
    PROVE(window.pgoff == (((uintptr_t)bitmap.data + byte) & (bitmap.host_page_size - 1)));
    PROVE(1 <= window.npages && window.npages <= most);
    PROVE(nbytes >= 1 && nbytes == min_wide(left, covered));
    PROVE(nbytes == iova_bitmap_window_nbytes(&bitmap, &window));
    PROVE(iova_window_holds(&taken, byte, byte + (nbytes - 1)));
    const uint64_t other = nondet_u64();
    GIVEN(other < g.nbytes);
    PROVE(iova_window_holds(&taken, other, other) == (byte <= other && other - byte < nbytes));
    PROVE(taken.address == (uintptr_t)bitmap.data + byte - window.pgoff);
    PROVE(window.npages == most || covered >= left); /* shorter only at the end */
    PROVE(covered - bitmap.host_page_size < left || window.npages == 1); /* no page too many */
}
