/*
 * test_pins.c - pins that are short, fail or lie: what was done before the fault stays done, the
 * report says exactly what is left, the same call again completes it, and pins and unpins balance.
 *
 * Bit n of the bitmap is page n of 16 addresses, from BASE on; its first byte is PGOFF bytes into a
 * host page.
 */
#include <errno.h>
#include <string.h>

#include "check.h"
#include "fake_pin.h"

enum { BASE = 1003, PAGE = 16, PGOFF = 77, HOST_PAGES = 7 };

static uint64_t page;
static uint64_t nbits;

/* The bitmap's first page that has its bit in host page n. */
static uint64_t first_of(uint64_t n)
{
    return n == 0 ? 0 : (n * page - PGOFF) * 8;
}

static uint64_t address_of(uint64_t bit)
{
    return BASE + bit * PAGE;
}

/* The last page is a part of one: 5 addresses. */
static uint64_t length(void)
{
    return nbits * PAGE - (PAGE - 5);
}

static struct iova_bitmap *make(struct fake_pin *fake, const struct iova_bitmap_pin_ops *ops,
                                uint64_t window_pages)
{
    *fake = fake_make(HOST_PAGES);
    return fake_bitmap(fake, ops, BASE, length(), PAGE, PGOFF, window_pages);
}

/* Pages [first, end) are dirty and no others, and no other byte has changed. */
static void check_dirty(const struct fake_pin *fake, uint64_t first, uint64_t end)
{
    const uint8_t *bytes = fake_open(fake);
    uint64_t wrong = 0;

    for (uint64_t i = 0; i < fake->area.size; i++) {
        uint64_t bit = (i - PGOFF) * 8;
        for (unsigned k = 0; k < 8; k++) {
            bool want = i >= PGOFF && bit + k >= first && bit + k < end;
            wrong += (bytes[i] >> k & 1) != want;
        }
    }
    CHECK(wrong == 0, "%" PRIu64 " bits wrong, [%" PRIu64 ", %" PRIu64 ")", wrong, first, end);
    fake_shut(fake);
}

static void check_report(const struct iova_bitmap_report *report, uint64_t pages, uint64_t iova,
                         uint64_t end)
{
    CHECK_EQ(report->pages, pages);
    CHECK_EQ(report->iova, iova);
    CHECK_EQ(report->length, end - iova);
}

/* --- short pins ---------------------------------------------------------------------- */

static void test_short(uint64_t most, uint64_t window_pages)
{
    struct fake_pin fake;
    struct iova_bitmap *bitmap = make(&fake, &fake_ops, window_pages);
    struct iova_bitmap_report report;
    const uint64_t window = most < window_pages ? most : window_pages;
    const uint64_t calls = (HOST_PAGES + window - 1) / window;

    fake.plan.most = most;
    CHECK_EQ(iova_bitmap_set(bitmap, BASE, length(), 0, &report), 0);
    check_report(&report, report.pages, 0, 0);
    CHECK_EQ(fake.calls, calls);
    CHECK_EQ(fake.peak_pages, window);
    check_dirty(&fake, 0, nbits);
    /* Windows that were cut short are no longer than what was delivered. */
    const struct iova_bitmap_window *present = iova_bitmap_present_window(bitmap);
    CHECK_EQ(present->npages, fake.pages);
    CHECK_EQ(present->iova, address_of(first_of((calls - 1) * window)));
    CHECK_EQ(present->iova + (present->length - 1), BASE + (length() - 1));

    CHECK_EQ(iova_bitmap_set(bitmap, address_of(first_of(1) + 1), 1, 0, NULL), 0);
    uint64_t pages = HOST_PAGES - 1 < window ? HOST_PAGES - 1 : window;
    CHECK_EQ(present->npages, pages);
    CHECK_EQ(iova_bitmap_window_nbytes(bitmap, present), pages * page);
    CHECK_EQ(present->length,
             pages == HOST_PAGES - 1 ? BASE + length() - present->iova : pages * page * 8 * PAGE);
    CHECK_EQ(iova_bitmap_reset(bitmap, &report), 0);
    check_dirty(&fake, 0, 0);
    fake_check_stats(&fake, bitmap);
    fake_free(&fake, bitmap);
}

/* --- faults of set and clear --------------------------------------------------------- */

/* A range from inside host page 1 to inside host page 5, in windows of one page: the first calls
 * succeed, the nth fails; then the same call again. To clip, the range sticks out on both sides. */
static void test_fault(uint64_t nth, int64_t answer, unsigned flags, bool clear)
{
    struct fake_pin fake;
    struct iova_bitmap *bitmap = make(&fake, &fake_ops, 1);
    struct iova_bitmap_report report = {9, 9, 9};
    const bool clip = (flags & IOVA_BITMAP_CLIP) != 0;
    flags &= clear ? ~(unsigned)IOVA_BITMAP_COUNT : UINT32_MAX; /* clear takes none */
    const uint64_t first = clip ? 0 : first_of(1) + 3;
    const uint64_t end = clip ? nbits : first_of(5) + 11;            /* page first to end - 1 */
    const uint64_t iova = clip ? BASE - 100 : address_of(first) + 7; /* inside of a page */
    const uint64_t stop = clip ? BASE + length() + 100 : address_of(end - 1) + 2;
    const uint64_t inside_iova = clip ? BASE : iova;
    const uint64_t inside_stop = clip ? BASE + length() : stop;
    const uint64_t bad = clip ? first_of(nth - 1) : nth == 1 ? first : first_of(nth);
    const uint64_t before = bad - first; /* pages done */
    const int error = answer < 0 ? (int)answer : -EFAULT;

    if (clear) {
        CHECK_EQ(iova_bitmap_set(bitmap, inside_iova, inside_stop - inside_iova, 0, NULL), 0);
        iova_bitmap_release(bitmap);
    }
    fake.plan.fail_at = fake.calls + nth;
    fake.plan.answer = answer;
    int rc = clear ? iova_bitmap_clear(bitmap, iova, stop - iova, flags, &report)
                   : iova_bitmap_set(bitmap, iova, stop - iova, flags, &report);
    CHECK_EQ(rc, error);
    check_report(&report, clear ? 0 : before,
                 nth == 1 || address_of(bad) < inside_iova ? inside_iova : address_of(bad),
                 inside_stop);
    check_dirty(&fake, clear ? bad : first, clear ? end : bad);
    CHECK_EQ(fake.live_count, 0); /* nothing stays pinned by a call that failed */
    CHECK_EQ(iova_bitmap_present_window(bitmap)->npages, 0);
    fake_check_stats(&fake, bitmap);

    CHECK_EQ(fake.calls, fake.plan.fail_at);
    if (clear) {
        CHECK_EQ(iova_bitmap_clear(bitmap, iova, stop - iova, flags, &report), 0);
        check_report(&report, 0, 0, 0);
        check_dirty(&fake, 0, 0);
    } else { /* only what is left to do is the same: all but what was marked is new */
        CHECK_EQ(iova_bitmap_set(bitmap, iova, stop - iova, flags | IOVA_BITMAP_COUNT, &report), 0);
        check_report(&report, end - first - before, 0, 0);
        check_dirty(&fake, first, end);
    }
    fake_check_stats(&fake, bitmap);
    fake_free(&fake, bitmap);
}

/* What a failed set says to be new are the pages that were clean, with and without counting. */
static void test_newly(unsigned flags)
{
    struct fake_pin fake;
    struct iova_bitmap *bitmap = make(&fake, &fake_ops, 2);
    struct iova_bitmap_report report;

    for (uint64_t bit = 0; bit < nbits; bit += 3) {
        CHECK_EQ(iova_bitmap_set(bitmap, address_of(bit), 1, 0, NULL), 0);
    }
    iova_bitmap_release(bitmap);
    fake.plan.fail_at = fake.calls + 2;
    fake.plan.answer = -ENOMEM;
    CHECK_EQ(iova_bitmap_set(bitmap, BASE, length(), flags, &report), -ENOMEM);
    uint64_t done = first_of(2);
    check_report(&report, done - (done + 2) / 3, address_of(done), BASE + length());
    CHECK_EQ(iova_bitmap_set(bitmap, BASE, length(), IOVA_BITMAP_COUNT, &report), 0);
    CHECK_EQ(report.pages, nbits - (nbits + 2) / 3 - (done - (done + 2) / 3));
    fake_free(&fake, bitmap);
}

/* --- faults of reads and batch operations -------------------------------------------- */

static int ranges(struct iova_bitmap *bitmap, struct iova_bitmap_report *report)
{
    struct iova_bitmap_ranges found = {0};
    int rc = iova_bitmap_ranges(bitmap, BASE, length(), 0, &found, report);

    CHECK((found.rows != NULL) == (rc == 0), "rc %d", rc);
    CHECK_EQ(found.count, rc == 0);
    iova_bitmap_rows_free(found.rows);
    return rc;
}

static void test_read_faults(void)
{
    struct fake_pin fake;
    struct fake_pin other_fake;
    struct iova_bitmap *bitmap = make(&fake, &fake_ops, 2);
    struct iova_bitmap *other = make(&other_fake, &fake_ops, 1);
    uint8_t *out = malloc(nbits);

    if (out == NULL) {
        check_skip("no memory");
    }
    CHECK_EQ(iova_bitmap_set(bitmap, BASE, length(), 0, NULL), 0);
    CHECK_EQ(iova_bitmap_set(other, BASE, length(), 0, NULL), 0);
    for (uint64_t nth = 1; nth <= 4; nth++) {
        const uint64_t bad = address_of(first_of(2 * (nth - 1)));
        struct iova_bitmap_report report;
        for (int operation = 0; operation < 6; operation++) {
            int rc = 0;
            report = (struct iova_bitmap_report){9, 9, 9};
            fake.plan.fail_at = fake.calls + nth;
            fake.plan.answer = -EPERM;
            switch (operation) {
            case 0:
                rc = iova_bitmap_count(bitmap, BASE, length(), 0, &report);
                CHECK_EQ(report.pages, first_of(2 * (nth - 1)));
                break;
            case 1:
                rc = ranges(bitmap, &report);
                break;
            case 2:
                rc = iova_bitmap_read(bitmap, out, &report);
                break;
            case 3:
                rc = iova_bitmap_to_mask(bitmap, out, &report);
                break;
            case 4:
                rc = iova_bitmap_equal(bitmap, other, &report);
                break;
            default:
                rc = iova_bitmap_reset(bitmap, &report);
                break;
            }
            CHECK_EQ(rc, -EPERM);
            check_report(&report, report.pages, bad, BASE + length());
            CHECK_EQ(fake.live_count, 1);
            CHECK_EQ(other_fake.live_count, 1);
            fake_check_stats(&fake, bitmap);
        }
        check_dirty(&fake, first_of(2 * (nth - 1)), nbits); /* as far as reset came */
        CHECK_EQ(iova_bitmap_set(bitmap, BASE, length(), 0, NULL), 0);
        CHECK_EQ(ranges(bitmap, &report), 0);
    }
    fake.plan.fail_at = fake.calls + 1;
    fake.plan.answer = 2; /* a lie: one page was asked for */
    CHECK_EQ(iova_bitmap_test(bitmap, BASE + 70), -EFAULT);
    CHECK_EQ(iova_bitmap_test(bitmap, BASE + 70), 1);
    CHECK_EQ(iova_bitmap_equal(bitmap, other, &(struct iova_bitmap_report){0}), 1);
    free(out);
    fake_free(&fake, bitmap);
    fake_free(&other_fake, other);
}

/* The second bitmap of a comparison fails: the report is of the whole range, too. */
static void test_equal_fault(void)
{
    struct fake_pin fake;
    struct fake_pin other_fake;
    struct iova_bitmap *bitmap = make(&fake, &fake_ops, 2);
    struct iova_bitmap *other = make(&other_fake, &fake_ops, 1);
    struct iova_bitmap_report report;

    for (uint64_t nth = 1; nth <= HOST_PAGES; nth++) {
        other_fake.plan.fail_at = other_fake.calls + nth;
        other_fake.plan.answer = -EAGAIN;
        CHECK_EQ(iova_bitmap_equal(bitmap, other, &report), -EAGAIN);
        CHECK_EQ(report.iova, address_of(first_of(nth - 1)));
        CHECK_EQ(report.iova + (report.length - 1), BASE + (length() - 1));
        CHECK_EQ(fake.live_count, 0);
        CHECK_EQ(other_fake.live_count, 0);
    }
    fake_free(&fake, bitmap);
    fake_free(&other_fake, other);
}

/* --- backends that make pages present again, and such as call back ------------------- */

static void test_touch(void)
{
    struct fake_pin fake;
    struct iova_bitmap *bitmap = make(&fake, &fake_touch_ops, 4);
    struct iova_bitmap_report report;

    CHECK_EQ(iova_bitmap_set(bitmap, BASE, 1, 0, NULL), 0);
    CHECK_EQ(fake.touches, 0); /* what a pin has just delivered is there */
    CHECK_EQ(iova_bitmap_set(bitmap, BASE, 1, 0, NULL), 0);
    CHECK_EQ(iova_bitmap_clear(bitmap, BASE, 1, 0, NULL), 0);
    CHECK_EQ(fake.touches, 2);
    CHECK_EQ(iova_bitmap_test(bitmap, BASE), 0);
    CHECK_EQ(fake.touches, 2);
    CHECK_EQ(iova_bitmap_stats(bitmap)->pins, 2); /* a touch is no pin and no move */
    CHECK_EQ(iova_bitmap_stats(bitmap)->moves, 1);

    /* One page at a time, and the third is gone. */
    const uint64_t first = first_of(1) - 2;
    const uint64_t stop = address_of(first_of(4) - 9);
    fake.plan.most = 1;
    fake.plan.fail_at = fake.calls + 3;
    fake.plan.answer = -EIO;
    CHECK_EQ(iova_bitmap_set(bitmap, address_of(first), stop - address_of(first), 0, &report),
             -EIO);
    check_report(&report, first_of(2) - first, address_of(first_of(2)), stop);
    check_dirty(&fake, first, first_of(2));
    CHECK_EQ(iova_bitmap_present_window(bitmap)->npages, 4); /* still held */
    fake.plan.fail_at = fake.calls + 1;
    fake.plan.answer = 0; /* a lie */
    CHECK_EQ(iova_bitmap_set(bitmap, stop - 1, 1, 0, &report), -EFAULT);
    check_report(&report, 0, stop - 1, stop);
    CHECK_EQ(iova_bitmap_set(bitmap, address_of(first), stop - address_of(first), 0, NULL), 0);
    check_dirty(&fake, first, first_of(4) - 9);
    fake_check_stats(&fake, bitmap);
    fake_free(&fake, bitmap);
}

/* More pages than were asked for are a lie here as they are in a pin. */
static void test_touch_lies(void)
{
    const int64_t answers[] = {2, 1ll << 52, INT64_MAX};
    struct fake_pin fake;
    struct iova_bitmap *bitmap = make(&fake, &fake_touch_ops, 4);
    struct iova_bitmap_report report;

    CHECK_EQ(iova_bitmap_set(bitmap, BASE, 1, 0, NULL), 0);
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        fake.plan.fail_at = fake.calls + 1;
        fake.plan.answer = answers[i];
        CHECK_EQ(iova_bitmap_set(bitmap, address_of(first_of(1)), 3, 0, &report), -EFAULT);
        check_report(&report, 0, address_of(first_of(1)), address_of(first_of(1)) + 3);
        check_dirty(&fake, 0, 1);
    }
    fake_free(&fake, bitmap);
}

static void mark_elsewhere(struct fake_pin *fake)
{
    CHECK_EQ(iova_bitmap_set(fake->bitmap, address_of(first_of(6)), 1, 0, NULL), 0);
}

static void count_all(struct fake_pin *fake)
{
    struct iova_bitmap_report report;
    CHECK_EQ(iova_bitmap_count(fake->bitmap, BASE, length(), 0, &report), 0);
}

/* A backend that uses the bitmap from inside a pin or an unpin: nothing is lost or held twice. */
static void test_hooks(void)
{
    void (*const hooks[])(struct fake_pin *) = {mark_elsewhere, count_all};

    for (int i = 0; i < 2; i++) {
        for (int with_window = 0; with_window < 2; with_window++) { /* then it is in the unpin */
            struct fake_pin fake;
            struct iova_bitmap *bitmap = make(&fake, &fake_ops, 2);
            struct iova_bitmap_report report;
            if (with_window) {
                CHECK_EQ(iova_bitmap_set(bitmap, address_of(first_of(4)), 1, 0, NULL), 0);
            }
            fake.hook = hooks[i];
            CHECK_EQ(iova_bitmap_set(bitmap, BASE, address_of(first_of(3)) - BASE, 0, NULL), 0);
            CHECK(fake.hook == NULL, "called");
            CHECK_EQ(fake.live_count, 1);
            CHECK_EQ(iova_bitmap_count(bitmap, BASE, length(), 0, &report), 0);
            CHECK_EQ(report.pages, first_of(3) + (uint64_t)with_window + (i == 0));
            fake_check_stats(&fake, bitmap);
            fake.hook = hooks[i];
            iova_bitmap_release(bitmap);
            CHECK_EQ(fake.live_count, 0);
            fake_check_stats(&fake, bitmap);
            fake_free(&fake, bitmap);
        }
    }
}

int main(void)
{
    page = iova_bitmap_host_page_size();
    nbits = (HOST_PAGES * page - PGOFF) * 8;
    for (uint64_t window_pages = 1; window_pages <= 8; window_pages++) {
        for (uint64_t most = 1; most <= 4; most++) {
            test_short(most, window_pages);
        }
    }
    const int64_t answers[] = {-EIO, -EFAULT, 0, 2, INT64_MAX};
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        for (uint64_t nth = 1; nth <= 5; nth++) {
            for (unsigned flags = 0; flags < 4; flags++) {
                test_fault(nth, answers[i], flags, false);
                test_fault(nth, answers[i], flags, true);
            }
        }
    }
    test_newly(0);
    test_newly(IOVA_BITMAP_COUNT);
    test_read_faults();
    test_equal_fault();
    test_touch();
    test_hooks();
    test_touch_lies();
    return check_result();
}
