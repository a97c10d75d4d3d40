/*
 * test_algebra.c - operations on two bitmaps against two arrays of booleans: combined in place,
 * counted, as rows, compared, merged from another geometry; the windows of the two end elsewhere,
 * and pins of either fail.
 *
 * Memory that is not pinned is inaccessible (fake_pin.h).
 */
#include <errno.h>

#include "core/ops/marker.h"
#include "side.h"

enum { BASE = 500, FAULT = -12 };

static struct side left, right;
static bool expected[MOST_BITS];
static uint64_t failures, equal, different;

static bool operate(enum iova_bitmap_operation operation, bool a, bool b)
{
    const bool results[] = {a && b, a || b, a != b, a && !b};

    return results[operation];
}

/* A fault, where one is planned: then the page from which on nothing was done is *done. */
static bool failed(int rc, const struct iova_bitmap_report *report, uint64_t *done)
{
    const struct iova_bitmap_geometry *geometry = iova_bitmap_geometry(left.bitmap);

    *done = left.nbits;
    if (rc >= 0) {
        CHECK_EQ(report->iova, 0);
        CHECK_EQ(report->length, 0);
        return false;
    }
    failures++;
    CHECK_EQ(rc, FAULT);
    CHECK(left.fake.plan.fail_at != 0 || right.fake.plan.fail_at != 0, "no fault is planned");
    CHECK_EQ(report->iova + (report->length - 1), geometry->last);
    *done = (report->iova - BASE) / left.page_size;
    return true;
}

static void plan(uint64_t seed)
{
    left.fake.plan = (struct fake_plan){.most = below(3), .answer = FAULT};
    right.fake.plan = (struct fake_plan){.most = below(3), .answer = FAULT};
    left.fake.plan.fail_at = seed % 4 == 1 ? 1 + below(4) : 0;
    right.fake.plan.fail_at = seed % 4 == 2 ? 1 + below(4) : 0;
}

static void plan_again(void)
{
    left.fake.calls = right.fake.calls = 0;
}

static void no_plan(void)
{
    left.fake.plan = right.fake.plan = (struct fake_plan){0};
}

static void test_counts(enum iova_bitmap_operation operation)
{
    struct iova_bitmap_report report;
    uint64_t counts[3] = {9, 9, 9};
    uint64_t want[3] = {0, 0, 0};
    uint64_t ones = 0;
    uint64_t done;

    plan_again();
    if (!failed(iova_bitmap_count_combined(left.bitmap, right.bitmap, operation, &report), &report,
                &done)) {
        for (uint64_t n = 0; n < left.nbits; n++) {
            ones += operate(operation, left.before[n], right.before[n]);
        }
        CHECK_EQ(report.pages, ones);
    }
    plan_again();
    if (!failed(iova_bitmap_count_both(left.bitmap, right.bitmap, counts, &report), &report,
                &done)) {
        for (uint64_t n = 0; n < left.nbits; n++) {
            want[0] += left.before[n];
            want[1] += right.before[n];
            want[2] += left.before[n] && right.before[n];
        }
        CHECK(memcmp(counts, want, sizeof(want)) == 0, "counts");
        CHECK_EQ(report.pages, 0);
    }
}

static void test_rows(enum iova_bitmap_operation operation)
{
    struct iova_bitmap_ranges found;
    struct iova_bitmap_report report;
    const uint64_t end = iova_bitmap_geometry(left.bitmap)->last + 1;
    uint64_t n = 0;
    uint64_t done;

    plan_again();
    if (failed(iova_bitmap_ranges_combined(left.bitmap, right.bitmap, operation, &found, &report),
               &report, &done)) {
        CHECK(found.rows == NULL && found.count == 0, "rows after an error");
        return;
    }
    for (uint64_t bit = 0; bit < left.nbits; bit++) {
        if (!operate(operation, left.before[bit], right.before[bit])) {
            continue;
        }
        const uint64_t from = BASE + bit * left.page_size;
        while (bit + 1 < left.nbits &&
               operate(operation, left.before[bit + 1], right.before[bit + 1])) {
            bit++;
        }
        const uint64_t to = BASE + (bit + 1) * left.page_size;
        CHECK(n < found.count && found.rows[n].iova == from &&
                  found.rows[n].length == (to < end ? to : end) - from,
              "row %" PRIu64 " of %" PRIu64, n, found.count);
        n++;
    }
    CHECK_EQ(found.count, n);
    CHECK_EQ(report.pages, 0);
    iova_bitmap_rows_free(found.rows);
}

static void test_equal(void)
{
    struct iova_bitmap_report report;
    uint64_t done;
    uint64_t n = 0;

    while (n < left.nbits && left.before[n] == right.before[n]) {
        n++;
    }
    plan_again();
    int rc = iova_bitmap_equal(left.bitmap, right.bitmap, &report);
    if (!failed(rc, &report, &done)) {
        CHECK(rc == (n == left.nbits), "%d, first difference at %" PRIu64, rc, n);
        CHECK_EQ(report.pages, 0);
        equal += rc == 1;
        different += rc == 0;
    }
}

static void test_combine(enum iova_bitmap_operation operation)
{
    struct iova_bitmap_report report;
    uint64_t done;

    plan_again();
    failed(iova_bitmap_combine(left.bitmap, right.bitmap, operation, &report), &report, &done);
    CHECK_EQ(report.pages, 0);
    look(&left, left.after);
    look(&right, right.after);
    for (uint64_t n = 0; n < left.nbits; n++) {
        const bool want =
            n < done ? operate(operation, left.before[n], right.before[n]) : left.before[n];
        CHECK(left.after[n] == want, "page %" PRIu64 " of operation %d", n, (int)operation);
    }
    CHECK(memcmp(right.before, right.after, right.nbits) == 0, "the other one has changed");
}

/* Two of one geometry: often nearly the same, in the bits behind the last page too. */
static void test_pair(uint64_t seed)
{
    const uint64_t length = 1 + below((NPAGES - 1) * host * 8 * 4 - 4);
    const enum iova_bitmap_operation operation = (enum iova_bitmap_operation)(seed / 4 % 4);

    make(&left, BASE, length, 4);
    make(&right, BASE, length, 4);
    if (seed % 3 == 0) {
        const uint64_t differs = below(right.nbits);
        uint8_t *to = fake_open(&right.fake) + OFFSET;
        memcpy(to, fake_open(&left.fake) + OFFSET, (right.nbits + 7) / 8);
        to[differs / 8] ^= (uint8_t)((seed % 2) << differs % 8);
        fake_shut(&left.fake);
        fake_shut(&right.fake);
        look(&right, right.before);
        neighbours(&right, right.edges, &right.unused);
    }
    plan(seed);
    test_counts(operation);
    test_rows(operation);
    test_equal();
    test_combine(operation);
    no_plan();
    finish(&left);
    finish(&right);
}

/* Two of any geometry, one inside of the other, beside it, or across its end. */
static void test_merge(uint64_t seed)
{
    const uint64_t base = 300 + below(500);
    struct iova_bitmap_report report;
    uint64_t newly = 0;

    make(&right, BASE, 1 + below(host * 8 * 4), 4);
    if (seed % 10 == 0) { /* it ends where the memory ends that may be pinned */
        make(&left, base, (NPAGES * host - OFFSET) * 8, 1);
    } else {
        make(&left, base, 1 + below(host * 8 * 4), (uint64_t)1 << below(6));
    }
    const uint64_t last = iova_bitmap_geometry(right.bitmap)->last;
    memset(expected, 0, sizeof(expected));
    for (uint64_t at = BASE; at <= last; at++) {
        if (right.before[(at - BASE) / 4] && at >= base &&
            at <= iova_bitmap_geometry(left.bitmap)->last) {
            expected[(at - base) / left.page_size] = true;
        }
    }
    plan(seed);
    plan_again();
    const int rc = iova_bitmap_merge(left.bitmap, right.bitmap, 0, &report);
    look(&left, left.after);
    look(&right, right.after);
    CHECK(memcmp(right.before, right.after, right.nbits) == 0, "the other one has changed");
    for (uint64_t n = 0; n < left.nbits; n++) {
        newly += left.after[n] && !left.before[n];
        CHECK(left.before[n] ? left.after[n] : !left.after[n] || expected[n], "page %" PRIu64, n);
        CHECK(rc < 0 || left.after[n] == (left.before[n] || expected[n]), "page %" PRIu64, n);
        /* Before the part that is reported as not done, all is. */
        CHECK(rc == 0 || base + (n + 1) * left.page_size > report.iova || !expected[n] ||
                  left.after[n],
              "page %" PRIu64 " is lost", n);
    }
    CHECK_EQ(report.pages, newly);
    if (rc < 0) {
        failures++;
        CHECK_EQ(rc, FAULT);
        CHECK(report.length != 0, "nothing is left, yet %d", rc);
    } else {
        CHECK_EQ(report.length, 0);
    }
    no_plan();
    finish(&left);
    finish(&right);
}

/* Rows of nothing at all are marked too, that is, nothing is. */
static void test_mark_rows(void)
{
    const uint64_t items[] = {BASE + 9, 0, BASE + 40, 5, BASE, 1};
    struct iova_bitmap_report report;
    struct iova_walk walk;

    make(&left, BASE, 4 * 77, 4);
    make(&right, BASE, 4 * 77, 4);
    CHECK_EQ(iova_bitmap_reset(left.bitmap, &report), 0);
    iova_walk_begin(&walk, left.bitmap, IOVA_WALK_ROWS, NULL, &report);
    CHECK_EQ(iova_mark_rows(&walk, items, 6), 0);
    CHECK_EQ(iova_walk_end(&walk), 0);
    CHECK_EQ(report.pages, 3);
    CHECK_EQ(report.length, 0);
    look(&left, left.after);
    for (uint64_t n = 0; n < left.nbits; n++) {
        CHECK(left.after[n] == (n == 0 || n == 10 || n == 11), "page %" PRIu64, n);
    }
    /* A harvest and a move of nothing, and of what is not there. */
    struct iova_bitmap_ranges found = {NULL, 7, 7};
    CHECK_EQ(iova_bitmap_read_and_clear(right.bitmap, BASE, 0, 0, &found, &report), 0);
    CHECK(found.rows == NULL && found.count == 0, "rows");
    CHECK_EQ(iova_bitmap_move_into(right.bitmap, BASE, 0, 0, left.bitmap, &report), 0);
    CHECK_EQ(iova_bitmap_move_into(right.bitmap, BASE - 1, 4, 0, left.bitmap, &report), -ERANGE);
    CHECK_EQ(report.pages, 0);
    look(&right, right.after);
    CHECK(memcmp(right.before, right.after, right.nbits) == 0, "something moved");
    finish(&left);
    finish(&right);
}

/* A caller who does not see to it that the other bitmap covers this one: what it does not cover
 * stays here, with all that comes behind. */
static void test_move_beyond_the_other(void)
{
    enum { COVERED = 1001 };
    struct iova_bitmap_report report;

    make(&left, BASE, 4 * COVERED, 4);
    make(&right, BASE, 4 * 3333, 4);
    const uint64_t length = iova_bitmap_geometry(right.bitmap)->length;
    CHECK_EQ(iova_bitmap_move_into(right.bitmap, BASE, length, 0, left.bitmap, &report), -ERANGE);
    const uint64_t stopped = (report.iova - BASE) / 4;
    CHECK(report.iova + report.length == BASE + length && stopped < right.nbits, "at %" PRIu64,
          report.iova);
    look(&left, left.after);
    look(&right, right.after);
    for (uint64_t n = 0; n < right.nbits; n++) {
        CHECK(right.after[n] == (n >= stopped && right.before[n]), "page %" PRIu64, n);
        CHECK(n >= stopped || left.after[n] == (left.before[n] || right.before[n]),
              "page %" PRIu64 " there", n);
        CHECK(n < COVERED || n >= stopped || !right.before[n], "page %" PRIu64 " is lost", n);
    }
    finish(&left);
    finish(&right);
}

/* The same of known pages: the run that the other bitmap covers in part stays here whole, the run
 * before it is there, and the report says both. */
static void test_move_of_a_run_in_part(void)
{
    uint8_t bytes[2] = {0x60, 0x1f}, other[2] = {0x02, 0}; /* pages 5 and 6, 8 to 12; the first */
    struct iova_bitmap *a = NULL, *b = NULL;
    struct iova_bitmap_report report = {9, 9, 9};

    CHECK_EQ(iova_bitmap_alloc(BASE, 16, 1, bytes, 2, NULL, &a), 0);
    CHECK_EQ(iova_bitmap_alloc(BASE + 4, 7, 1, other, 2, NULL, &b), 0); /* pages 4 to 10 */
    CHECK_EQ(iova_bitmap_move_into(a, BASE, 17, 0, b, &report), -ERANGE);
    CHECK(report.length == 0 && bytes[0] == 0x60, "not inside, but something was done");
    CHECK_EQ(iova_bitmap_move_into(a, BASE, 16, 0, b, &report), -ERANGE);
    CHECK_EQ(report.iova, BASE + 8);
    CHECK_EQ(report.length, 8);
    CHECK_EQ(report.pages, 1); /* page 5 was dirty there */
    CHECK(bytes[0] == 0 && bytes[1] == 0x1f, "%02x %02x here", bytes[0], bytes[1]);
    CHECK(other[0] == 0x06 && other[1] == 0, "%02x %02x there", other[0], other[1]);
    iova_bitmap_free(a);
    iova_bitmap_free(b);
}

/* The smallest bitmap there is. */
static void test_one_page(void)
{
    uint8_t bytes[2] = {0xff, 1};
    struct iova_bitmap *a = NULL, *b = NULL;
    struct iova_bitmap_ranges ranges = {0};
    struct iova_bitmap_report report;

    CHECK_EQ(iova_bitmap_alloc(7, 1, 1, &bytes[0], 1, NULL, &a), 0);
    CHECK_EQ(iova_bitmap_alloc(7, 1, 1, &bytes[1], 1, NULL, &b), 0);
    CHECK_EQ(iova_bitmap_ranges_combined(a, b, IOVA_BITMAP_AND, &ranges, &report), 0);
    CHECK_EQ(ranges.count, 1);
    CHECK(ranges.rows[0].iova == 7 && ranges.rows[0].length == 1, "row");
    iova_bitmap_rows_free(ranges.rows);
    iova_bitmap_free(a);
    iova_bitmap_free(b);
}

int main(void)
{
    test_one_page();
    test_move_of_a_run_in_part();
    host = iova_bitmap_host_page_size();
    if (host != 4096) {
        check_skip("made for host pages of 4096 bytes");
    }
    for (uint64_t seed = 1; seed <= 150; seed++) {
        test_pair(seed);
        test_merge(seed);
    }
    test_mark_rows();
    test_move_beyond_the_other();
    CHECK(failures > 50 && equal > 5 && different > 50,
          "%" PRIu64 " failures, %" PRIu64 " equal, %" PRIu64 " different", failures, equal,
          different);
    return check_result();
}
