/*
 * validate.c - checks the invariants of a bitmap, from what never changes to what operations move.
 *
 * Everything that can be computed is computed again, in steps that do not overflow. Content is not
 * looked at: any bits are valid, those behind the last page too.
 */
#include <errno.h>

#include "core/bitmap/bitmap.h"

/* An invariant: its name where it does not hold. */
#define HOLDS(condition, name)                                                                     \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            return name;                                                                           \
        }                                                                                          \
    } while (0)

static const char *check_geometry(const struct iova_bitmap_geometry *geometry)
{
    struct iova_bitmap_geometry made;

    HOLDS(iova_bitmap_geometry_init(&made, geometry->iova, geometry->length, geometry->page_size) ==
              0,
          "geometry: iova, length and page_size are a range that can be");
    HOLDS(geometry->last == made.last, "geometry: last is iova + length - 1");
    HOLDS(geometry->pgshift == made.pgshift, "geometry: pgshift is log2(page_size)");
    HOLDS(geometry->nbits == made.nbits, "geometry: nbits is the pages of length");
    HOLDS(geometry->nbytes == made.nbytes, "geometry: nbytes is (nbits + 7) / 8");
    return NULL;
}

static const char *check_memory(const struct iova_bitmap *bitmap)
{
    const uint64_t host_page = bitmap->host_page_size;

    HOLDS(bitmap->data != NULL, "memory: there is some");
    HOLDS(bitmap->geometry.nbytes <= bitmap->size, "memory: it is as large as the bitmap");
    HOLDS(bitmap->geometry.nbytes - 1 <= UINTPTR_MAX - (uintptr_t)bitmap->data,
          "memory: its end is an address");
    HOLDS(bitmap->mapping <= IOVA_MAPPING_SHARED, "memory: its mapping is of a known kind");
    HOLDS(host_page == iova_bitmap_host_page_size(), "pages: host_page_size is the system's");
    HOLDS(bitmap->window_pages >= 1, "pages: a window has some");
    HOLDS(bitmap->pin != NULL && bitmap->pin->pin != NULL && bitmap->pin->unpin != NULL,
          "pin: there is a backend");
    return NULL;
}

static const char *check_window(const struct iova_bitmap *bitmap)
{
    const struct iova_bitmap_geometry *geometry = &bitmap->geometry;
    const struct iova_window *window = &bitmap->present;
    const struct iova_bitmap_window *view = &window->view;
    const uint64_t host_page = bitmap->host_page_size;

    if (view->npages == 0) {
        HOLDS(view->iova == 0 && view->length == 0 && view->base_index == 0 && view->pgoff == 0 &&
                  window->nbytes == 0,
              "window: one that is not there is all zeros");
        return NULL;
    }
    HOLDS(view->base_index < geometry->nbytes, "window: it begins inside the bitmap");
    HOLDS(view->npages <= bitmap->window_pages, "window: npages is at most window_pages");
    const uintptr_t first = (uintptr_t)bitmap->data + (uintptr_t)view->base_index;
    const uint64_t left = geometry->nbytes - view->base_index;
    HOLDS(view->pgoff == first % host_page, "window: pgoff is where its first byte is in its page");
    HOLDS(window->address == first - view->pgoff, "window: it was pinned where its first page is");
    HOLDS(view->npages - 1 <= (view->pgoff + left - 1) / host_page,
          "window: its pages hold bytes of the bitmap");
    const uint64_t room = view->npages * host_page - view->pgoff; /* of the pages just counted */
    HOLDS(window->nbytes == (room < left ? room : left), "window: nbytes is what its pages hold");
    const uint64_t first_bit = view->base_index * 8;
    const uint64_t end_bit = first_bit + window->nbytes * 8; /* 2**64 / 8 bytes at most */
    const uint64_t last_bit = end_bit - 1 < geometry->nbits ? end_bit - 1 : geometry->nbits - 1;
    HOLDS(view->iova == iova_geometry_address(geometry, first_bit),
          "window: iova is the address of its first bit");
    HOLDS(view->length == iova_geometry_last_address(geometry, last_bit) - view->iova + 1,
          "window: length is that of its bits, cut at the end of the range");
    return NULL;
}

static const char *check_balance(const struct iova_bitmap *bitmap)
{
    const struct iova_bitmap_stats stats = iova_bitmap_stats_now(bitmap);
    const uint64_t npages = bitmap->present.view.npages;

    HOLDS(stats.pins - stats.unpins == (npages != 0), "pins: one is held for the window, no other");
    HOLDS(stats.pinned_pages == npages, "pins: the pages held are the window's");
    HOLDS(stats.peak_pinned_pages >= npages, "pins: no more are held than ever were");
    HOLDS(stats.moves <= stats.pins, "pins: each window was pinned");
    HOLDS(stats.moves != 0 || npages == 0, "pins: the window was moved to");
    return NULL;
}

int iova_bitmap_validate(const struct iova_bitmap *bitmap, bool quiet, const char **broken)
{
    const char *found = check_geometry(&bitmap->geometry);

    if (found == NULL) {
        found = check_memory(bitmap);
    }
    if (found == NULL) {
        found = check_window(bitmap);
    }
    if (found == NULL && quiet) {
        found = check_balance(bitmap);
    }
    *broken = found;
    return found == NULL ? 0 : -EILSEQ;
}
