/*
 * test_validate.c - iova_bitmap_validate: a sound bitmap passes in each of its states; a copy that
 * was corrupted in one place does not, and the invariant is named.
 */
#include <string.h>

#include "check.h"
#include "core/bitmap/bitmap.h"
#include "fake_pin.h"

static const char *broken_of(const struct iova_bitmap *bitmap, bool quiet)
{
    const char *broken = "not set";
    int rc = iova_bitmap_validate(bitmap, quiet, &broken);

    CHECK_EQ(rc, broken == NULL ? 0 : -EILSEQ);
    return broken;
}

static void check_sound(const struct iova_bitmap *bitmap)
{
    const char *broken = broken_of(bitmap, true);

    CHECK(broken == NULL, "broken: %s", broken);
    CHECK(broken_of(bitmap, false) == NULL, "while others work");
}

/* Every state that operations leave: no window, one at either end or in the middle, short ones. */
static void test_sound(uint64_t iova, uint64_t length, uint64_t page_size, uint64_t offset,
                       uint64_t most)
{
    const uint64_t page = iova_bitmap_host_page_size();
    const uint64_t nbytes = iova_bitmap_nbytes(length, page_size);
    struct fake_pin fake = fake_make((offset + nbytes - 1) / page + 1);
    struct iova_bitmap *bitmap =
        fake_bitmap(&fake, &fake_ops, iova, length, page_size, offset, most % 3 + 1);
    const uint64_t places[] = {iova, iova + length - 1, iova + length / 2, iova + length / 3};

    fake.plan.most = most;
    check_sound(bitmap);
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        CHECK_EQ(iova_bitmap_set(bitmap, places[i], 1, 0, NULL), 0);
        check_sound(bitmap);
        CHECK(iova_bitmap_present_window(bitmap)->npages != 0, "a window");
        CHECK_EQ(iova_bitmap_test(bitmap, places[i]), 1);
        check_sound(bitmap);
    }
    CHECK_EQ(iova_bitmap_set(bitmap, iova, length, IOVA_BITMAP_COUNT, NULL), 0);
    check_sound(bitmap);
    iova_bitmap_release(bitmap);
    check_sound(bitmap);
    fake_free(&fake, bitmap);
}

/* --- corruption ---------------------------------------------------------------------- */

static struct iova_bitmap copy; /* of a sound one with a window */

/* The change that is made to the copy, and how the invariant that it breaks is named. */
#define BREAKS(change, name)                                                                       \
    do {                                                                                           \
        const struct iova_bitmap before = copy;                                                    \
        change;                                                                                    \
        const char *broken = broken_of(&copy, true);                                               \
        CHECK(broken != NULL && strstr(broken, name) == broken, "%s: %s, not %s", #change, broken, \
              name);                                                                               \
        copy = before;                                                                             \
    } while (0)

static void test_each_invariant(struct iova_bitmap *bitmap)
{
    static const struct iova_bitmap_pin_ops no_unpin = {.pin = fake_pin_pages};
    const struct iova_bitmap_pin_ops no_pin = {.unpin = fake_ops.unpin};
    struct iova_window *window = &copy.present;

    copy = *bitmap;
    check_sound(&copy);
    BREAKS(copy.geometry.length = 0, "geometry: iova, length and page_size");
    BREAKS(copy.geometry.page_size = 3, "geometry: iova, length and page_size");
    BREAKS(copy.geometry.iova = UINT64_MAX, "geometry: iova, length and page_size");
    BREAKS(copy.geometry.last++, "geometry: last");
    BREAKS(copy.geometry.iova--, "geometry: last");
    BREAKS(copy.geometry.pgshift++, "geometry: pgshift");
    BREAKS(copy.geometry.nbits++, "geometry: nbits");
    BREAKS(copy.geometry.nbytes--, "geometry: nbytes");
    BREAKS(copy.data = NULL, "memory: there is");
    BREAKS(copy.size = copy.geometry.nbytes - 1, "memory: it is as large");
    BREAKS(copy.data = (uint8_t *)UINTPTR_MAX, "memory: its end");
    BREAKS(copy.data = (uint8_t *)(UINTPTR_MAX - copy.geometry.nbytes + 2), "memory: its end");
    BREAKS(copy.data = (uint8_t *)(UINTPTR_MAX - copy.geometry.nbytes + 1), "window: pgoff");
    BREAKS(copy.mapping = 3, "memory: its mapping");
    BREAKS(copy.host_page_size *= 2, "pages: host_page_size");
    BREAKS(copy.window_pages = 0, "pages: a window");
    BREAKS(copy.pin = NULL, "pin:");
    BREAKS(copy.pin = &no_unpin, "pin:");
    BREAKS(copy.pin = &no_pin, "pin:");
    BREAKS(copy.data++, "window: pgoff");
    BREAKS(window->view.base_index = copy.geometry.nbytes, "window: it begins inside");
    BREAKS(window->view.base_index++, "window: pgoff");
    BREAKS(window->view.npages = copy.window_pages + 1, "window: npages");
    BREAKS(window->view.pgoff++, "window: pgoff");
    BREAKS(window->address += copy.host_page_size, "window: it was pinned");
    BREAKS(window->nbytes++, "window: nbytes");
    BREAKS(window->nbytes--, "window: nbytes");
    BREAKS(window->view.iova++, "window: iova");
    BREAKS(window->view.length++, "window: length");
    BREAKS(window->view.length--, "window: length");
    BREAKS(window->view.npages = 0, "window: one that is not there");
    BREAKS(copy.stats.pins++, "pins: one is held");
    BREAKS(copy.stats.unpins++, "pins: one is held");
    BREAKS(copy.stats.pinned_pages++, "pins: the pages held");
    BREAKS(copy.stats.peak_pinned_pages = 0, "pins: no more are held");
    BREAKS(copy.stats.moves = copy.stats.pins + 1, "pins: each window");
    BREAKS(copy.stats.moves = 0, "pins: the window was moved to");
    BREAKS((copy.window_pages = UINT64_MAX, window->view.npages = UINT64_MAX / 2),
           "window: its pages");
}

static void test_corruption(void)
{
    const uint64_t page = iova_bitmap_host_page_size();
    struct area area = area_map(4);
    const struct iova_bitmap_options options = {.window_pages = 2};
    struct iova_bitmap *bitmap = NULL;

    CHECK_EQ(iova_bitmap_alloc(0x5000, 3 * page * 8 * 4096 + 17, 4096, area.bytes + 100,
                               area.size - 100, &options, &bitmap),
             0);
    CHECK_EQ(iova_bitmap_set(bitmap, 0x5000 + page * 8 * 4096, 1, 0, NULL), 0);
    CHECK_EQ(iova_bitmap_present_window(bitmap)->npages, 2);
    test_each_invariant(bitmap);

    /* Pins that are not balanced are seen only where nothing else can hold them. */
    copy = *bitmap;
    copy.stats.pins++;
    CHECK(broken_of(&copy, false) == NULL, "others may hold a pin");
    copy.stats.pins--;

    iova_bitmap_release(bitmap);
    copy = *bitmap;
    check_sound(&copy);
    BREAKS(copy.present.view.iova = 1, "window: one that is not there");
    BREAKS(copy.present.view.length = 1, "window: one that is not there");
    BREAKS(copy.present.view.base_index = 1, "window: one that is not there");
    BREAKS(copy.present.view.pgoff = 1, "window: one that is not there");
    BREAKS(copy.present.nbytes = 1, "window: one that is not there");
    BREAKS(copy.stats.pins++, "pins: one is held");
    BREAKS(copy.stats.pinned_pages++, "pins: the pages held");
    iova_bitmap_free(bitmap);
    area_unmap(&area);
}

int main(void)
{
    const uint64_t page = iova_bitmap_host_page_size();

    for (uint64_t most = 0; most < 4; most++) {
        test_sound(0, 1, 1, 0, most);
        test_sound(0x1234, page * 8 * 3 * 4096 + 5, 4096, 77, most);
        test_sound(UINT64_MAX - 4 * page * 8 + 1, 4 * page * 8, 1, page - 1, most);
        test_sound(1, UINT64_MAX, (uint64_t)1 << 46, 3, most);
        test_sound(0, UINT64_MAX, (uint64_t)1 << 63, page - 1, most);
    }
    test_corruption();
    return check_result();
}
