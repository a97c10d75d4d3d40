/*
 * test_windows.c - where windows lie, against a model that counts bytes and pages one by one; the
 * rules of the present window; walks by window, nested ones too.
 */
#include <errno.h>
#include <string.h>

#include "check.h"
#include "core/bitmap/bitmap.h"
#include "fake_pin.h"

__extension__ typedef unsigned __int128 wide;

static uint64_t page;

/* --- arithmetic ---------------------------------------------------------------------- */

/* The window from `byte` on, found by stepping over its bytes until one page too many is met. */
static struct iova_bitmap_window naive_window(const struct iova_bitmap *bitmap, uint64_t byte)
{
    const struct iova_bitmap_geometry *g = iova_bitmap_geometry(bitmap);
    const uintptr_t data = (uintptr_t)bitmap->data;
    uintptr_t in_page = (data + byte) / page;
    uint64_t npages = 1;
    uint64_t end = byte;

    for (; end < g->nbytes; end++) {
        if ((data + end) / page != in_page) {
            if (npages == iova_bitmap_window_pages(bitmap)) {
                break;
            }
            in_page = (data + end) / page;
            npages++;
        }
    }
    wide first = g->iova + (wide)byte * 8 * g->page_size;
    wide stop = g->iova + (wide)end * 8 * g->page_size;
    wide range_end = (wide)g->iova + g->length;
    stop = stop < range_end ? stop : range_end;
    return (struct iova_bitmap_window){.iova = (uint64_t)first,
                                       .length = (uint64_t)(stop - first),
                                       .base_index = byte,
                                       .pgoff = (data + byte) % page,
                                       .npages = npages};
}

static void check_window(const struct iova_bitmap_window *got,
                         const struct iova_bitmap_window *want)
{
    CHECK_EQ(got->iova, want->iova);
    CHECK_EQ(got->length, want->length);
    CHECK_EQ(got->base_index, want->base_index);
    CHECK_EQ(got->pgoff, want->pgoff);
    CHECK_EQ(got->npages, want->npages);
}

struct walk {
    uint64_t byte; /* where the next window begins */
    wide iova;
    uint64_t calls;
};

static int expect_next(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length, void *opaque)
{
    struct walk *walk = opaque;
    const struct iova_bitmap_window *present = iova_bitmap_present_window(bitmap);
    struct iova_bitmap_window full;

    iova_bitmap_window_at(bitmap, walk->byte, &full);
    check_window(present, &full);
    CHECK_EQ(iova, present->iova);
    CHECK_EQ(length, present->length);
    CHECK(iova == walk->iova, "0x%" PRIx64, iova);
    walk->iova += length;
    walk->byte += iova_bitmap_window_nbytes(bitmap, present);
    walk->calls++;
    return 0;
}

/* A bitmap of `nbytes` bytes, of which the last stands for `last_bits` pages and a part of one. The
 * backend "none" touches no memory, so none is needed. */
static void test_arithmetic(uint64_t nbytes, unsigned last_bits, uint64_t pgoff, uint64_t pages,
                            unsigned shift, uint64_t seed)
{
    const wide nbits = (wide)(nbytes - 1) * 8 + last_bits;
    const wide length = (nbits << shift) - (shift > 0 ? 1 : 0);
    const uint64_t iova = (uint64_t)(((wide)1 << 64) - length); /* the end is 2**64 */
    const struct iova_bitmap_options options = {.window_pages = pages};
    struct iova_bitmap *bitmap = NULL;
    uint64_t windows = 0;

    CHECK_EQ(iova_bitmap_alloc(iova, (uint64_t)length, 1ull << shift,
                               (void *)(uintptr_t)(page * 1000 + pgoff), nbytes, &options, &bitmap),
             0);
    CHECK_EQ(iova_bitmap_geometry(bitmap)->nbytes, nbytes);
    for (uint64_t byte = 0; byte < nbytes;) { /* they tile the bitmap */
        struct iova_bitmap_window got;
        struct iova_bitmap_window want = naive_window(bitmap, byte);
        iova_bitmap_window_at(bitmap, byte, &got);
        check_window(&got, &want);
        uint64_t covered = iova_bitmap_window_nbytes(bitmap, &got);
        CHECK(covered >= 1, "byte %" PRIu64, byte);
        byte += covered ? covered : 1;
        CHECK(byte <= nbytes, "byte %" PRIu64, byte);
        windows++;
    }
    CHECK_EQ(windows, (pgoff + nbytes + pages * page - 1) / (pages * page));
    for (int i = 0; i < 5; i++) { /* from anywhere */
        uint64_t byte = check_random(&seed) % nbytes;
        struct iova_bitmap_window got;
        struct iova_bitmap_window want = naive_window(bitmap, byte);
        iova_bitmap_window_at(bitmap, byte, &got);
        check_window(&got, &want);
    }
    CHECK_EQ(iova_bitmap_stats(bitmap)->pins, 0); /* arithmetic only */

    struct walk walk = {.iova = iova};
    CHECK_EQ(iova_bitmap_for_each_window(bitmap, &walk, expect_next, NULL), 0);
    CHECK_EQ(walk.calls, windows);
    CHECK_EQ(walk.byte, nbytes);
    CHECK(walk.iova == (wide)1 << 64, "the end");
    CHECK_EQ(iova_bitmap_stats(bitmap)->moves, windows);
    iova_bitmap_free(bitmap);
}

static void test_all_arithmetic(void)
{
    const uint64_t pgoffs[] = {0, 1, 7, 8, 2048, page - 15, page - 1};
    uint64_t seed = 77;

    for (size_t i = 0; i < sizeof(pgoffs) / sizeof(pgoffs[0]); i++) {
        const uint64_t pgoff = pgoffs[i];
        for (uint64_t pages = 1; pages <= 4; pages++) {
            const uint64_t window = pages * page;
            const uint64_t sizes[] = {1,
                                      2,
                                      page - pgoff,
                                      page - pgoff + 1,
                                      window - pgoff,
                                      window - pgoff + 1,
                                      window,
                                      2 * window - pgoff,
                                      2 * window - pgoff + 1,
                                      3 * window};
            for (size_t j = 0; j < sizeof(sizes) / sizeof(sizes[0]); j++) {
                unsigned last_bits = 1 + (unsigned)(check_random(&seed) % 8);
                unsigned shift = (unsigned)(check_random(&seed) % 45);
                test_arithmetic(sizes[j], last_bits, pgoff, pages, shift, seed);
            }
        }
        test_arithmetic(512 * page - pgoff, 8, pgoff, 512, 12, seed);
        test_arithmetic(512 * page - pgoff + 1, 1, pgoff, 512, 12, seed);
    }
    test_arithmetic(1, 1, 4, 1, 63, seed);
    test_arithmetic(1, 2, 4, 1, 63, seed);
}

static int stop_at_third(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length, void *opaque)
{
    (void)bitmap;
    (void)iova;
    (void)length;
    return ++*(int *)opaque == 3 ? -12345 : 0;
}

/* 4 GiB..128 GiB at 4 KiB: two windows, at 4..68 and at 68..128 GiB. */
static void test_large(void)
{
    const uint64_t gib = 1ull << 30;
    const struct iova_bitmap_options options = {.window_pages = 512 * 4096 / page};
    struct iova_bitmap *bitmap = NULL;
    struct iova_bitmap_window window;

    CHECK_EQ(iova_bitmap_alloc(4 * gib, 124 * gib, 4096, (void *)(uintptr_t)(1000 * page), 4 << 20,
                               &options, &bitmap),
             0);
    iova_bitmap_window_at(bitmap, 0, &window);
    CHECK_EQ(window.iova, 4 * gib);
    CHECK_EQ(window.length, 64 * gib);
    CHECK_EQ(window.npages * page, 2 << 20);
    iova_bitmap_window_at(bitmap, 2 << 20, &window);
    CHECK_EQ(window.iova, 68 * gib);
    CHECK_EQ(window.length, 60 * gib);
    iova_bitmap_free(bitmap);

    /* The default is as many pages as pointers fit in one; the largest number is harmless. */
    bitmap = NULL;
    CHECK_EQ(iova_bitmap_alloc(0, 1, 1, &window, 1, NULL, &bitmap), 0);
    CHECK_EQ(iova_bitmap_window_pages(bitmap), page / sizeof(void *));
    iova_bitmap_free(bitmap);
    bitmap = NULL;
    const struct iova_bitmap_options most = {.window_pages = UINT64_MAX};
    CHECK_EQ(
        iova_bitmap_alloc(0, UINT64_MAX, 1, (void *)(uintptr_t)page, 1ull << 61, &most, &bitmap),
        0);
    iova_bitmap_window_at(bitmap, 0, &window);
    CHECK_EQ(window.length, UINT64_MAX);
    CHECK_EQ(window.npages, (1ull << 61) / page);
    CHECK_EQ(iova_bitmap_window_nbytes(bitmap, &window), 1ull << 61);
    iova_bitmap_free(bitmap);
}

/* --- the present window -------------------------------------------------------------- */

/* One bit for each address: 8 addresses a byte. Windows of 2 pages, the first one shorter by 100
 * bytes: bitmap bytes 0.., W.., W + 2 pages.. . */
static void test_present(void)
{
    struct fake_pin fake = fake_make(5);
    struct iova_bitmap *bitmap = fake_bitmap(&fake, &fake_ops, 0, (5 * page - 100) * 8, 1, 100, 2);
    const struct iova_bitmap_stats *stats = iova_bitmap_stats(bitmap);
    const struct iova_bitmap_window *present = iova_bitmap_present_window(bitmap);
    const uint64_t edge = (2 * page - 100) * 8; /* first address of the second window */
    struct iova_bitmap_report report;

    CHECK_EQ(present->npages, 0);
    CHECK_EQ(iova_bitmap_set(bitmap, 10, 0, 0, NULL), 0); /* nothing to do takes nothing */
    CHECK_EQ(iova_bitmap_set(bitmap, 5 * page * 8, 1, IOVA_BITMAP_CLIP, NULL), 0);
    CHECK_EQ(iova_bitmap_set(bitmap, 5 * page * 8, 1, 0, NULL), -ERANGE);
    CHECK_EQ(fake.calls, 0);

    CHECK_EQ(iova_bitmap_set(bitmap, edge - 8, 1, 0, NULL), 0); /* from its byte on, 2 pages */
    CHECK_EQ(present->base_index, edge / 8 - 1);
    CHECK_EQ(present->iova, edge - 8);
    CHECK_EQ(present->pgoff, page - 1);
    CHECK_EQ(present->npages, 2);
    CHECK_EQ(present->length, 8 + 8 * page);
    CHECK_EQ(stats->moves, 1);

    CHECK_EQ(iova_bitmap_set(bitmap, edge + 8 * page - 1, 1, 0, NULL), 0);   /* its last address */
    CHECK_EQ(iova_bitmap_clear(bitmap, edge - 8, 8 + 8 * page, 0, NULL), 0); /* all of it */
    CHECK_EQ(iova_bitmap_set(bitmap, edge, 8, IOVA_BITMAP_COUNT, &report), 0);
    CHECK_EQ(report.pages, 8);
    CHECK_EQ(stats->moves, 1);
    CHECK_EQ(fake.calls, 1);

    CHECK_EQ(iova_bitmap_set(bitmap, edge - 9, 1, 0, NULL), 0); /* before it, not far */
    CHECK_EQ(stats->moves, 2);
    CHECK_EQ(present->base_index, edge / 8 - 2);
    CHECK_EQ(iova_bitmap_set(bitmap, edge - 1, 2 + 8 * page, 0, NULL), 0); /* in, and across */
    CHECK_EQ(stats->moves, 3);
    CHECK_EQ(present->base_index, edge / 8 + page);
    CHECK_EQ(iova_bitmap_set(bitmap, edge + 16 * page, 1, 0, NULL), 0);
    CHECK_EQ(stats->moves, 3);

    /* Reads and batch operations have windows of their own, and leave the present one alone. */
    const struct iova_bitmap_window before = *present;
    CHECK_EQ(iova_bitmap_test(bitmap, 0), 0);
    CHECK_EQ(iova_bitmap_test(bitmap, edge - 1), 1);
    CHECK_EQ(fake.pages, 2);
    CHECK_EQ(fake.peak_pages, 3); /* a read of one byte took one page more, for a moment */
    CHECK_EQ(iova_bitmap_count(bitmap, 0, (5 * page - 100) * 8, 0, &report), 0);
    CHECK_EQ(report.pages, 8 * page + 4);
    CHECK_EQ(fake.reads, 2 + 3);
    CHECK_EQ(iova_bitmap_reset(bitmap, &report), 0);
    check_window(present, &before);
    CHECK_EQ(stats->moves, 3);
    CHECK_EQ(fake.calls, 3 + 2 + 3 + 3);
    CHECK_EQ(fake.reads, 2 + 3); /* reset writes */
    CHECK_EQ(fake.live_count, 1);
    fake_check_stats(&fake, bitmap);

    iova_bitmap_release(bitmap);
    CHECK_EQ(present->npages, 0);
    CHECK_EQ(fake.live_count, 0);
    iova_bitmap_release(bitmap);
    CHECK_EQ(iova_bitmap_set(bitmap, edge - 8, 1, 0, NULL), 0);
    CHECK_EQ(stats->moves, 4);
    fake_check_stats(&fake, bitmap);
    fake_free(&fake, bitmap);
}

/* The old window is given back before the next is taken. */
static void test_moves_release_first(void)
{
    struct fake_pin fake = fake_make(6);
    struct iova_bitmap *bitmap = fake_bitmap(&fake, &fake_ops, 0, 6 * page * 8, 1, 0, 2);

    for (uint64_t at = 6; at-- > 0;) {
        CHECK_EQ(iova_bitmap_set(bitmap, at * page * 8, 1, 0, NULL), 0);
    }
    CHECK_EQ(iova_bitmap_set(bitmap, 0, 6 * page * 8, 0, NULL), 0);
    CHECK_EQ(fake.peak_live, 1);
    CHECK_EQ(iova_bitmap_stats(bitmap)->peak_pinned_pages, 2);
    CHECK_EQ(fake.pins, 6 + 2);
    fake_check_stats(&fake, bitmap);
    fake_free(&fake, bitmap);
}

/* --- walks --------------------------------------------------------------------------- */

static int once(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length, void *opaque)
{
    CHECK_EQ(iova, iova_bitmap_geometry(bitmap)->iova);
    CHECK_EQ(length, iova_bitmap_geometry(bitmap)->length);
    return ++*(int *)opaque;
}

/* Moves the present window away, and walks again, in the middle of a walk. */
static int nested(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length, void *opaque)
{
    struct walk *outer = opaque;
    struct walk inner = {.iova = iova_bitmap_geometry(bitmap)->iova};
    int calls = 0;

    expect_next(bitmap, iova, length, outer);
    CHECK_EQ(iova_bitmap_for_each(bitmap, &calls, once), 1);
    CHECK_EQ(iova_bitmap_for_each_window(bitmap, &inner, expect_next, NULL), 0);
    CHECK_EQ(inner.calls, 3);
    CHECK_EQ(iova_bitmap_set(bitmap, iova, length, 0, NULL), 0);
    CHECK_EQ(iova_bitmap_set(bitmap, 1000 + 7 * outer->calls, 1, 0, NULL), 0);
    if (outer->calls == 2) {
        iova_bitmap_release(bitmap);
    }
    return 0;
}

static void test_walks(void)
{
    struct fake_pin fake = fake_make(5);
    struct iova_bitmap *bitmap =
        fake_bitmap(&fake, &fake_ops, 1000, (5 * page - 9) * 8 - 3, 1, 9, 2);
    const struct iova_bitmap_geometry *g = iova_bitmap_geometry(bitmap);
    struct iova_bitmap_report failed = {9, 9, 9};
    int calls = 0;

    CHECK_EQ(iova_bitmap_for_each(bitmap, &calls, once), 1);
    CHECK_EQ(fake.calls, 0);

    struct walk walk = {.iova = 1000};
    CHECK_EQ(iova_bitmap_for_each_window(bitmap, &walk, nested, &failed), 0);
    CHECK_EQ(walk.calls, 3);
    CHECK_EQ(walk.byte, g->nbytes);
    CHECK_EQ(failed.length, 0);
    struct iova_bitmap_report report;
    CHECK_EQ(iova_bitmap_count(bitmap, 1000, g->length, 0, &report), 0);
    CHECK_EQ(report.pages, g->nbits);

    /* The last one stays; a walk takes each afresh, the same one too. */
    walk = (struct walk){.iova = 1000};
    CHECK_EQ(iova_bitmap_for_each_window(bitmap, &walk, expect_next, NULL), 0);
    CHECK_EQ(iova_bitmap_present_window(bitmap)->base_index, 4 * page - 9);
    CHECK_EQ(iova_bitmap_set(bitmap, 1000, 1, 0, NULL), 0);
    uint64_t before = fake.calls;
    calls = 0;
    CHECK_EQ(iova_bitmap_for_each_window(bitmap, &calls, stop_at_third, &failed), -12345);
    CHECK_EQ(fake.calls, before + 3);
    CHECK_EQ(failed.length, 0);
    CHECK_EQ(fake.live_count, 1);

    /* Short pins: windows of one page; a fault ends the walk and says where. */
    fake.plan.most = 1;
    calls = -100;
    CHECK_EQ(iova_bitmap_for_each_window(bitmap, &calls, stop_at_third, NULL), 0);
    CHECK_EQ(calls, -100 + 5);
    fake.plan.fail_at = fake.calls + 3;
    fake.plan.answer = -EIO;
    calls = -100;
    CHECK_EQ(iova_bitmap_for_each_window(bitmap, &calls, stop_at_third, &failed), -EIO);
    CHECK_EQ(calls, -100 + 2);
    CHECK_EQ(failed.iova, 1000 + (2 * page - 9) * 8);
    CHECK_EQ(failed.length, 1000 + g->length - failed.iova);
    CHECK_EQ(iova_bitmap_present_window(bitmap)->npages, 0);
    CHECK_EQ(fake.live_count, 0);
    fake.plan.fail_at = fake.calls + 1;
    CHECK_EQ(iova_bitmap_for_each_window(bitmap, &calls, stop_at_third, NULL), -EIO);
    fake_check_stats(&fake, bitmap);
    fake_free(&fake, bitmap);
}

int main(void)
{
    page = iova_bitmap_host_page_size();
    test_all_arithmetic();
    test_large();
    test_present();
    test_moves_release_first();
    test_walks();
    return check_result();
}
