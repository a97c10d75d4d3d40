/*
 * test_batch.c - whole arrays of rows and pages in one call: content, the row that is named when
 * one is bad, how many windows are taken, and what a failing pin leaves behind.
 *
 * Expectations come from a boolean for each page and from counting windows by hand; memory that is
 * not pinned is inaccessible (fake_pin.h).
 */
#include <errno.h>

#include "fake_pin.h"

enum { NPAGES = 12, MOST_ROWS = 60, BASE = 1000, OFFSET = 77, PAGE_SIZE = 16 };

static uint64_t state = 1;
static uint64_t host;
static bool before[NPAGES * 4096 * 8];
static bool marked[sizeof(before)];
static uint64_t rows_end; /* of the last address in a row */

static uint64_t below(uint64_t limit)
{
    return (check_random(&state) >> 11) % limit;
}

static bool bit_of(const struct fake_pin *fake, uint64_t n)
{
    return fake->area.bytes[OFFSET + n / 8] >> n % 8 & 1;
}

/* What is in memory, which must be readable. */
static void look(const struct fake_pin *fake, uint64_t nbits, bool *bits)
{
    for (uint64_t n = 0; n < nbits; n++) {
        bits[n] = bit_of(fake, n);
    }
}

/* Windows that an ascending walk over the pages of `marked` takes, each as long as pins allow. */
static uint64_t windows_touched(uint64_t nbits, uint64_t window_pages)
{
    uint64_t windows = 0;
    uint64_t end = 0; /* host page behind the window */

    for (uint64_t n = 0; n < nbits; n++) {
        uint64_t at = (OFFSET + n / 8) / host;
        if (marked[n] && at >= end) {
            windows++;
            end = at + window_pages;
        }
    }
    return windows;
}

/* Rows inside, at random, and the pages that they touch in `marked`. */
static uint64_t make_rows(struct iova_bitmap_range *rows, uint64_t length)
{
    const uint64_t n = below(MOST_ROWS);

    memset(marked, 0, sizeof(marked));
    rows_end = 0;
    for (uint64_t i = 0; i < n; i++) {
        rows[i].iova = BASE + below(length);
        rows[i].length = below(8) ? below(below(3) ? 5000 : 200) : 0;
        if (rows[i].length > BASE + length - rows[i].iova) {
            rows[i].length = BASE + length - rows[i].iova;
        }
        const uint64_t end = rows[i].iova + rows[i].length;
        rows_end = rows[i].length != 0 && end > rows_end ? end : rows_end;
        for (uint64_t at = 0; at < rows[i].length; at++) {
            marked[(rows[i].iova + at - BASE) / PAGE_SIZE] = true;
        }
    }
    return n;
}

static int batch(struct iova_bitmap *bitmap, bool value, const struct iova_bitmap_range *rows,
                 uint64_t n, unsigned flags, uint64_t *bad, struct iova_bitmap_report *report)
{
    return value ? iova_bitmap_set_ranges(bitmap, rows, n, flags, bad, report)
                 : iova_bitmap_clear_ranges(bitmap, rows, n, flags, bad, report);
}

/* Any rows, any faults: what the report says was not done was not, all before it was, and the same
 * call completes it. */
static void test_random(uint64_t seed)
{
    struct iova_bitmap_range rows[MOST_ROWS];
    struct iova_bitmap_report report;
    struct fake_pin fake = fake_make(NPAGES);
    const uint64_t nbits = 8 * ((NPAGES - 1) * host + 200) - below(8);
    const uint64_t length = nbits * PAGE_SIZE - below(PAGE_SIZE);
    const uint64_t window_pages = 1 + below(4);
    struct iova_bitmap *bitmap =
        fake_bitmap(&fake, &fake_ops, BASE, length, PAGE_SIZE, OFFSET, window_pages);
    uint8_t *bytes = fake_open(&fake);

    for (uint64_t i = 0; i < fake.area.size; i++) {
        bytes[i] = (uint8_t)(check_random(&state) >> 8);
    }
    const uint8_t first = bytes[OFFSET - 1];
    const uint8_t last = bytes[OFFSET + (nbits + 7) / 8];
    for (unsigned round = 0; round < 6; round++) {
        const bool value = below(2);
        const uint64_t n = make_rows(rows, length);
        const uint64_t windows = windows_touched(nbits, window_pages);
        const uint64_t pins = fake.pins;
        const bool faults = round % 2;
        uint64_t bad = 99;
        int rc;

        fake.plan = (struct fake_plan){.seed = faults ? seed * 8 + round : 0};
        look(&fake, nbits, before);
        fake_shut(&fake);
        while ((rc = batch(bitmap, value, rows, n, 0, &bad, &report)) < 0) {
            fake_open(&fake);
            CHECK(faults, "failed with %d", rc);
            CHECK(report.iova >= BASE && report.iova < rows_end, "at %" PRIu64, report.iova);
            CHECK_EQ(report.length, rows_end - report.iova);
            const uint64_t stop = (report.iova - BASE) / PAGE_SIZE;
            uint64_t newly = 0;
            for (uint64_t bit = 0; bit < nbits; bit++) {
                bool want = marked[bit] && bit < stop ? value : before[bit];
                CHECK(bit_of(&fake, bit) == want, "bit %" PRIu64 ", stopped at %" PRIu64, bit,
                      stop);
                newly += want && !before[bit];
            }
            CHECK_EQ(report.pages, newly);
            look(&fake, nbits, before);
            fake_shut(&fake);
        }
        CHECK_EQ(rc, 0);
        CHECK_EQ(report.length, 0);
        fake_open(&fake);
        for (uint64_t bit = 0; bit < nbits; bit++) {
            CHECK(bit_of(&fake, bit) == (marked[bit] ? value : before[bit]), "bit %" PRIu64, bit);
        }
        CHECK(faults || fake.pins - pins == windows, "%" PRIu64 " pins, %" PRIu64 " windows",
              fake.pins - pins, windows);
        CHECK_EQ(bytes[OFFSET - 1], first);
        CHECK_EQ(bytes[OFFSET + (nbits + 7) / 8], last);
        CHECK_EQ(fake.live_count, 0); /* windows of its own only */
        fake_check_stats(&fake, bitmap);
    }
    fake_free(&fake, bitmap);
}

/* The present window is neither used nor moved, whatever the order of the rows. */
static void test_windows_once(void)
{
    struct fake_pin fake = fake_make(NPAGES);
    struct iova_bitmap *bitmap = fake_bitmap(&fake, &fake_ops, 0, NPAGES * host * 8, 1, 0, 1);
    struct iova_bitmap_range rows[4 * NPAGES];
    uint64_t pages[4 * NPAGES];
    struct iova_bitmap_report report;
    uint64_t bad;

    CHECK_EQ(iova_bitmap_set(bitmap, 8 * host, 1, 0, NULL), 0);
    const struct iova_bitmap_window held = *iova_bitmap_present_window(bitmap);
    for (uint64_t i = 0; i < 4 * NPAGES; i++) {
        pages[i] = i * 5 % NPAGES * 8 * host + i;
        rows[i] = (struct iova_bitmap_range){pages[i], 3};
    }
    for (uint64_t i = 1; i <= 3; i++) {
        CHECK_EQ(i == 1   ? iova_bitmap_set_ranges(bitmap, rows, 4 * NPAGES, 0, &bad, &report)
                 : i == 2 ? iova_bitmap_set_pages(bitmap, pages, 4 * NPAGES, 0, &bad, &report)
                          : iova_bitmap_clear_ranges(bitmap, rows, 4 * NPAGES, 0, &bad, &report),
                 0);
        CHECK_EQ(fake.pins, 1 + i * NPAGES);
    }
    CHECK_EQ(iova_bitmap_stats(bitmap)->moves, 1);
    CHECK_EQ(fake.live_count, 1);
    CHECK_EQ(iova_bitmap_present_window(bitmap)->base_index, held.base_index);
    CHECK_EQ(fake.reads, 0);
    fake_free(&fake, bitmap);
}

/* The first bad row is named, and neither memory nor the backend was asked for anything. */
static void test_bad_rows(void)
{
    static const struct {
        struct iova_bitmap_range row;
        int plain;
        int clipped;
    } cases[] = {
        {{999, 1}, -ERANGE, 0},
        {{999, 2}, -ERANGE, 0},
        {{1000, 2001}, -ERANGE, 0},
        {{3000, 1}, -ERANGE, 0},
        {{UINT64_MAX, 1}, -ERANGE, 0},
        {{UINT64_MAX, 2}, -EOVERFLOW, -EOVERFLOW},
        {{1001, UINT64_MAX}, -EOVERFLOW, -EOVERFLOW},
        {{0, 0}, 0, 0},
        {{UINT64_MAX, 0}, 0, 0},
    };
    struct iova_bitmap_range rows[9];
    struct iova_bitmap_report report;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (unsigned kind = 0; kind < 4; kind++) {
            struct fake_pin fake = fake_make(1);
            struct iova_bitmap *bitmap = fake_bitmap(&fake, &fake_ops, 1000, 2000, 1, 0, 1);
            const int want = kind & 2 ? cases[i].clipped : cases[i].plain;
            uint64_t bad = 99;

            for (unsigned k = 0; k < 9; k++) {
                rows[k] =
                    k == 4 || k == 7 ? cases[i].row : (struct iova_bitmap_range){1000 + 100 * k, 7};
            }
            CHECK_EQ(
                batch(bitmap, kind & 1, rows, 9, kind & 2 ? IOVA_BITMAP_CLIP : 0, &bad, &report),
                want);
            CHECK(want == 0 || bad == 4, "row %" PRIu64, bad);
            CHECK(want == 0 || fake.calls == 0, "%" PRIu64 " pins", fake.calls);
            fake_free(&fake, bitmap);
        }
    }

    const uint64_t pages[] = {1000, 2999, 3000, 999};
    struct fake_pin fake = fake_make(1);
    struct iova_bitmap *bitmap = fake_bitmap(&fake, &fake_ops, 1000, 2000, 1, 0, 1);
    uint64_t bad = 99;
    CHECK_EQ(iova_bitmap_set_pages(bitmap, pages, 4, 0, &bad, &report), -ERANGE);
    CHECK_EQ(bad, 2);
    CHECK_EQ(iova_bitmap_set_pages(bitmap, pages, 0, 0, &bad, &report), 0);
    CHECK_EQ(fake.calls, 0);
    CHECK_EQ(iova_bitmap_set_pages(bitmap, pages, 2, 0, &bad, &report), 0);
    CHECK_EQ(iova_bitmap_count(bitmap, 1000, 2000, 0, &report), 0);
    CHECK_EQ(report.pages, 2);
    fake_free(&fake, bitmap);
}

/* An empty array may be anywhere, NULL included, as that of an empty harvest is. */
static void test_no_rows(void)
{
    struct fake_pin fake = fake_make(1);
    struct iova_bitmap *bitmap = fake_bitmap(&fake, &fake_ops, 1000, 2000, 1, 0, 1);
    struct iova_bitmap_report report = {9, 9, 9};
    struct iova_bitmap_ranges found = {0};
    uint64_t bad = 99;

    CHECK_EQ(iova_bitmap_set_ranges(bitmap, NULL, 0, 0, &bad, &report), 0);
    CHECK_EQ(iova_bitmap_clear_ranges(bitmap, NULL, 0, 0, &bad, &report), 0);
    CHECK_EQ(iova_bitmap_set_pages(bitmap, NULL, 0, 0, &bad, &report), 0);
    CHECK_EQ(iova_bitmap_put_back(bitmap, &found, &report), 0);
    CHECK(report.pages == 0 && report.length == 0, "%" PRIu64 " pages", report.pages);
    CHECK(bad == 99 && fake.calls == 0, "%" PRIu64 " pins", fake.calls);
    fake_free(&fake, bitmap);
}

enum { MANY_ROWS = 70000 };
static struct iova_bitmap_range many_rows[MANY_ROWS];

static int change_rows(void *context)
{
    many_rows[0].iova = *(const uint64_t *)context;
    return 0;
}

/* Another changes a row after it was checked: it is done as it is read then, and what a failing pin
 * leaves ends with it. */
static void test_changed_rows(void)
{
    struct fake_pin fake = fake_make(4);
    uint64_t later = 3 * host * 8 + 9;
    const struct iova_bitmap_options options = {.window_pages = 1,
                                                .pin = &fake_ops,
                                                .pin_context = &fake,
                                                .poll = change_rows,
                                                .poll_context = &later};
    struct iova_bitmap *bitmap = NULL;
    struct iova_bitmap_report report;
    uint64_t bad;

    CHECK_EQ(
        iova_bitmap_alloc(0, 4 * host * 8, 1, fake.area.bytes, fake.area.size, &options, &bitmap),
        0);
    for (uint64_t i = 0; i < MANY_ROWS; i++) {
        many_rows[i] = (struct iova_bitmap_range){i % 1000, 1};
    }
    fake.plan = (struct fake_plan){.fail_at = 2, .answer = -EIO};
    CHECK_EQ(iova_bitmap_set_ranges(bitmap, many_rows, MANY_ROWS, 0, &bad, &report), -EIO);
    CHECK_EQ(report.iova, later);
    CHECK_EQ(report.length, 1);
    CHECK_EQ(report.pages, 1000);
    fake_free(&fake, bitmap);
}

int main(void)
{
    host = iova_bitmap_host_page_size();
    if (host != 4096) {
        check_skip("made for host pages of 4096 bytes");
    }
    for (uint64_t seed = 1; seed <= 40; seed++) {
        test_random(seed);
    }
    test_windows_once();
    test_bad_rows();
    test_no_rows();
    test_changed_rows();
    return check_result();
}
