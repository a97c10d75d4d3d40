/*
 * test_questions.c - questions of a bitmap against an array of booleans: runs, their number, pages,
 * the first one, histograms, copies; over parts of it, through short windows, and when a pin fails.
 *
 * Memory that is not pinned is inaccessible (fake_pin.h).
 */
#include <errno.h>

#include "side.h"

enum { BASE = 500, FAULT = -12 };

static struct side side;
static struct iova_bitmap_range range; /* that is asked for */
static uint64_t first, stop;           /* its pages */
static uint64_t failures, asked, cut;

/* A fault, where one is planned, and that all of the range's end was not done. */
static bool failed(int rc, const struct iova_bitmap_report *report)
{
    asked++;
    if (rc >= 0) {
        CHECK_EQ(report->iova, 0);
        CHECK_EQ(report->length, 0);
        return false;
    }
    failures++;
    CHECK_EQ(rc, FAULT);
    CHECK(side.fake.plan.fail_at != 0, "no fault is planned");
    CHECK_EQ(report->iova + report->length, range.iova + range.length);
    CHECK(report->iova == range.iova ||
              (report->iova > range.iova && (report->iova - BASE) % (8 * side.page_size) == 0),
          "iova %" PRIu64, report->iova);
    return true;
}

/* Counts calls anew, so that the next question meets the planned fault too. */
static void plan_again(void)
{
    side.fake.calls = 0;
}

/* --- rows ---------------------------------------------------------------------------------- */

static struct iova_bitmap_range wanted[MOST_BITS];

/* The runs that are there, cut to the range. */
static uint64_t runs(bool dirty)
{
    const uint64_t end = range.iova + range.length;
    uint64_t n = 0;

    for (uint64_t bit = first; bit < stop; bit++) {
        const uint64_t at = BASE + bit * side.page_size;
        const uint64_t from = at < range.iova ? range.iova : at;
        const uint64_t to = at + side.page_size < end ? at + side.page_size : end;
        if (side.before[bit] != dirty) {
            continue;
        }
        if (n > 0 && wanted[n - 1].iova + wanted[n - 1].length == from) {
            wanted[n - 1].length += to - from;
        } else {
            wanted[n++] = (struct iova_bitmap_range){from, to - from};
        }
    }
    return n;
}

static void check_rows(const struct iova_bitmap_range *rows, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        CHECK(rows[i].iova == wanted[i].iova && rows[i].length == wanted[i].length,
              "row %" PRIu64 ": %" PRIu64 " + %" PRIu64 ", not %" PRIu64 " + %" PRIu64, i,
              rows[i].iova, rows[i].length, wanted[i].iova, wanted[i].length);
    }
}

static void test_ranges(unsigned flags)
{
    static struct iova_bitmap_range own[MOST_BITS + 1];
    const uint64_t n = runs(!(flags & IOVA_BITMAP_CLEAN));
    struct iova_bitmap_ranges found = {0};
    struct iova_bitmap_report report;

    plan_again();
    if (!failed(iova_bitmap_count_ranges(side.bitmap, range.iova, range.length, flags, &report),
                &report)) {
        CHECK_EQ(report.pages, n);
    }
    plan_again();
    if (failed(iova_bitmap_ranges(side.bitmap, range.iova, range.length, flags, &found, &report),
               &report)) {
        CHECK(found.rows == NULL && found.count == 0, "rows after an error");
    } else {
        CHECK_EQ(found.count, n);
        check_rows(found.rows, found.count < n ? found.count : n);
        iova_bitmap_rows_free(found.rows);
    }
    /* Into an array: as many as fit are right, and nothing is written behind them. */
    const uint64_t room = below(4) == 0 ? n : below(n + 100);
    const uint64_t fit = n < room ? n : room;
    const struct iova_bitmap_range guard = {0xa5a5, 0x5a5a};
    for (unsigned partial = 0; partial <= IOVA_BITMAP_PARTIAL; partial += IOVA_BITMAP_PARTIAL) {
        found = (struct iova_bitmap_ranges){.rows = own, .capacity = room};
        own[room] = guard;
        plan_again();
        int rc = iova_bitmap_ranges(side.bitmap, range.iova, range.length, flags | partial, &found,
                                    &report);
        CHECK(own[room].iova == guard.iova && own[room].length == guard.length,
              "written behind %" PRIu64 " rows", room);
        if (rc == -ENOSPC) {
            cut++;
            CHECK(!partial && n > room, "%" PRIu64 " rows in %" PRIu64, n, room);
            CHECK_EQ(found.count, n);
        } else if (!failed(rc, &report)) {
            CHECK_EQ(found.count, partial ? fit : n);
            check_rows(own, fit);
        }
    }
}

/* --- pages --------------------------------------------------------------------------------- */

static void test_pages(void)
{
    struct iova_bitmap_report report;
    uint64_t *pages = NULL;
    uint64_t count = 0;
    uint64_t n = 0;

    plan_again();
    if (failed(iova_bitmap_pages(side.bitmap, range.iova, range.length, 0, &pages, &count, &report),
               &report)) {
        return;
    }
    for (uint64_t bit = first; bit < stop; bit++) {
        if (side.before[bit]) {
            CHECK(n < count && pages[n] == BASE + bit * side.page_size, "page %" PRIu64, n);
            n++;
        }
    }
    CHECK_EQ(count, n);
    iova_bitmap_rows_free(pages);

    plan_again();
    if (!failed(iova_bitmap_count(side.bitmap, range.iova, range.length, 0, &report), &report)) {
        CHECK_EQ(report.pages, n);
    }
}

static void test_find(unsigned flags)
{
    struct iova_bitmap_report report;
    uint64_t found = 0;
    uint64_t bit = first;

    while (bit < stop && side.before[bit] == (flags != 0)) {
        bit++;
    }
    plan_again();
    int rc = iova_bitmap_find(side.bitmap, range.iova, range.length, flags, &found, &report);
    if (!failed(rc, &report)) {
        CHECK_EQ(rc, bit < stop);
        CHECK(rc == 0 || found == BASE + bit * side.page_size, "found %" PRIu64, found);
    }
    CHECK(rc > 0 || found == 0, "found %" PRIu64 " and %d", found, rc);
}

/* --- all of it ----------------------------------------------------------------------------- */

static void test_histogram(void)
{
    static uint64_t bins[MOST_BITS + 100];
    const uint64_t most[] = {20, 2000, side.nbits + 100, side.nbits};
    const uint64_t nbins = 1 + below(most[below(4)]);
    struct iova_bitmap_report report;
    uint64_t bit = 0;

    memset(bins, 0xff, (nbins + 1) * sizeof(bins[0]));
    plan_again();
    if (failed(iova_bitmap_histogram(side.bitmap, nbins, bins, &report), &report)) {
        return;
    }
    for (uint64_t bin = 0; bin < nbins; bin++) {
        uint64_t ones = 0;
        for (; bit < (bin + 1) * side.nbits / nbins; bit++) {
            ones += side.before[bit];
        }
        CHECK(bins[bin] == ones, "bin %" PRIu64 " of %" PRIu64, bin, nbins);
    }
    CHECK_EQ(bit, side.nbits);
    CHECK_EQ(bins[nbins], UINT64_MAX);
}

static void test_copies(void)
{
    static uint8_t bytes[MOST_BITS / 8 + 1];
    static uint8_t mask[MOST_BITS + 1];
    struct iova_bitmap_report report;
    const uint64_t nbytes = (side.nbits + 7) / 8;

    bytes[nbytes] = mask[side.nbits] = 0xa5;
    plan_again();
    if (!failed(iova_bitmap_read(side.bitmap, bytes, &report), &report)) {
        for (uint64_t n = 0; n < 8 * nbytes; n++) {
            const bool bit = bytes[n / 8] >> n % 8 & 1;
            CHECK(bit == (n < side.nbits && side.before[n]), "bit %" PRIu64, n);
        }
    }
    plan_again();
    if (!failed(iova_bitmap_to_mask(side.bitmap, mask, &report), &report)) {
        for (uint64_t n = 0; n < side.nbits; n++) {
            CHECK(mask[n] == side.before[n], "page %" PRIu64, n);
        }
    }
    CHECK(bytes[nbytes] == 0xa5 && mask[side.nbits] == 0xa5, "written behind");
}

static void test_one(uint64_t seed)
{
    make(&side, BASE, 1 + below((NPAGES - 1) * host * 8 * 4 - 4), 4);
    if (seed % 10 == 0) { /* long runs too */
        uint8_t *bytes = fake_open(&side.fake) + OFFSET;
        const uint64_t nbytes = side.nbits / 8;
        const uint64_t from = seed % 20 == 0 ? 0 : nbytes / 3; /* or nothing else */
        memset(bytes + from, seed % 40 < 20 ? 0xff : 0, from == 0 ? nbytes : nbytes / 2);
        fake_shut(&side.fake);
        look(&side, side.before);
    }
    side.fake.plan.most = below(3);
    side.fake.plan.fail_at = seed % 4 == 0 ? 1 + below(4) : 0;
    side.fake.plan.answer = FAULT;
    range = part(&side, &first, &stop);
    test_ranges(0);
    test_ranges(IOVA_BITMAP_CLEAN);
    test_pages();
    test_find(0);
    test_find(IOVA_BITMAP_CLEAN);
    range = (struct iova_bitmap_range){BASE, iova_bitmap_geometry(side.bitmap)->length};
    test_histogram();
    test_copies();
    look(&side, side.after);
    CHECK(memcmp(side.before, side.after, side.nbits) == 0, "the content has changed");
    side.fake.plan = (struct fake_plan){0};
    finish(&side);
}

int main(void)
{
    host = iova_bitmap_host_page_size();
    if (host != 4096) {
        check_skip("made for host pages of 4096 bytes");
    }
    setenv("IOVABITMAP_CPU", "avx2", 1); /* or the best, where there is no such CPU */
    for (uint64_t seed = 1; seed <= 200; seed++) {
        test_one(seed);
    }
    CHECK(failures > 50 && cut > 50, "%" PRIu64 " failures, %" PRIu64 " too short, of %" PRIu64,
          failures, cut, asked);
    return check_result();
}
