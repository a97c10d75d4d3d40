/*
 * test_arguments.c - what every function of the C API makes of its flags, of a report of NULL, and
 * of rows of NULL: it takes the flags of its mask and no others, wherever a report can be left out
 * it may be, and rows that are not given are allocated.
 */
#include "check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "iova_bitmap.h"

enum { NBITS = 400, NBYTES = NBITS / 8, PAGE = 4096 };

static uint8_t bytes[NBYTES], other_bytes[NBYTES];
static struct iova_bitmap *bitmap, *other;

static const uint64_t all = (uint64_t)NBITS * PAGE;

static void fill(void)
{
    for (unsigned i = 0; i < NBYTES; i++) {
        bytes[i] = (uint8_t)(0x5a + 7 * i);
        other_bytes[i] = 0;
    }
}

/* Each calls one function with some flags, and with or without a report. */
typedef int (*call)(unsigned flags, struct iova_bitmap_report *report);

static int call_set(unsigned flags, struct iova_bitmap_report *report)
{
    return iova_bitmap_set(bitmap, 0, all, flags, report);
}

static int call_clear(unsigned flags, struct iova_bitmap_report *report)
{
    return iova_bitmap_clear(bitmap, 0, all, flags, report);
}

static const struct iova_bitmap_range rows[] = {{0, 5 * PAGE}, {9 * PAGE, PAGE}, {3 * PAGE, PAGE}};
static const uint64_t addresses[] = {0, 7 * PAGE, 3 * PAGE};

static int call_set_ranges(unsigned flags, struct iova_bitmap_report *report)
{
    return iova_bitmap_set_ranges(bitmap, rows, 3, flags, NULL, report);
}

static int call_clear_ranges(unsigned flags, struct iova_bitmap_report *report)
{
    return iova_bitmap_clear_ranges(bitmap, rows, 3, flags, NULL, report);
}

static int call_set_pages(unsigned flags, struct iova_bitmap_report *report)
{
    return iova_bitmap_set_pages(bitmap, addresses, 3, flags, NULL, report);
}

static int call_count(unsigned flags, struct iova_bitmap_report *report)
{
    return iova_bitmap_count(bitmap, 0, all, flags, report);
}

static int call_count_ranges(unsigned flags, struct iova_bitmap_report *report)
{
    return iova_bitmap_count_ranges(bitmap, 0, all, flags, report);
}

static int call_find(unsigned flags, struct iova_bitmap_report *report)
{
    uint64_t found;
    int rc = iova_bitmap_find(bitmap, 0, all, flags, &found, report);

    return rc > 0 ? 0 : rc;
}

static int call_ranges(unsigned flags, struct iova_bitmap_report *report)
{
    struct iova_bitmap_ranges ranges = {NULL, 4, 0}; /* a capacity of nothing means nothing */
    int rc = iova_bitmap_ranges(bitmap, 0, all, flags, &ranges, report);

    CHECK((rc == 0) == (ranges.rows != NULL), "rc %d, rows %p", rc, (void *)ranges.rows);
    CHECK_EQ(rc == 0, ranges.count > 4);
    iova_bitmap_rows_free(ranges.rows);
    return rc;
}

static int call_pages(unsigned flags, struct iova_bitmap_report *report)
{
    uint64_t *pages = NULL;
    uint64_t count;
    int rc = iova_bitmap_pages(bitmap, 0, all, flags, &pages, &count, report);

    iova_bitmap_rows_free(pages);
    return rc;
}

static int call_read_and_clear(unsigned flags, struct iova_bitmap_report *report)
{
    struct iova_bitmap_ranges ranges = {NULL, 4, 0};
    int rc = iova_bitmap_read_and_clear(bitmap, 0, all, flags, &ranges, report);

    CHECK_EQ(rc == 0, ranges.count > 4);
    iova_bitmap_rows_free(ranges.rows);
    return rc;
}

static int call_move_into(unsigned flags, struct iova_bitmap_report *report)
{
    return iova_bitmap_move_into(bitmap, 0, all, flags, other, report);
}

static int call_merge(unsigned flags, struct iova_bitmap_report *report)
{
    return iova_bitmap_merge(other, bitmap, flags, report);
}

/* Those without flags: any would be of another function. */
static int call_put_back(unsigned flags, struct iova_bitmap_report *report)
{
    struct iova_bitmap_range row = {0, PAGE};
    const struct iova_bitmap_ranges ranges = {&row, 1, 1};

    return flags != 0 ? -EINVAL : iova_bitmap_put_back(bitmap, &ranges, report);
}

static int call_reset(unsigned flags, struct iova_bitmap_report *report)
{
    return flags != 0 ? -EINVAL : iova_bitmap_reset(bitmap, report);
}

static int call_histogram(unsigned flags, struct iova_bitmap_report *report)
{
    uint64_t bins[7];

    return flags != 0 ? -EINVAL : iova_bitmap_histogram(bitmap, 7, bins, report);
}

static int call_read(unsigned flags, struct iova_bitmap_report *report)
{
    uint8_t copy[NBYTES];

    return flags != 0 ? -EINVAL : iova_bitmap_read(bitmap, copy, report);
}

static int call_to_mask(unsigned flags, struct iova_bitmap_report *report)
{
    uint8_t mask[NBITS];

    return flags != 0 ? -EINVAL : iova_bitmap_to_mask(bitmap, mask, report);
}

static int call_combine(unsigned flags, struct iova_bitmap_report *report)
{
    return flags != 0 ? -EINVAL : iova_bitmap_combine(bitmap, other, IOVA_BITMAP_XOR, report);
}

static int call_count_combined(unsigned flags, struct iova_bitmap_report *report)
{
    return flags != 0 ? -EINVAL : iova_bitmap_count_combined(bitmap, other, IOVA_BITMAP_OR, report);
}

static int call_count_both(unsigned flags, struct iova_bitmap_report *report)
{
    uint64_t counts[3];

    return flags != 0 ? -EINVAL : iova_bitmap_count_both(bitmap, other, counts, report);
}

static int call_ranges_combined(unsigned flags, struct iova_bitmap_report *report)
{
    struct iova_bitmap_ranges ranges = {NULL, 4, 0};

    if (flags != 0) {
        return -EINVAL;
    }
    int rc = iova_bitmap_ranges_combined(bitmap, other, IOVA_BITMAP_OR, &ranges, report);
    CHECK(ranges.count > 4, "rows");
    iova_bitmap_rows_free(ranges.rows);
    return rc;
}

static int call_equal(unsigned flags, struct iova_bitmap_report *report)
{
    return flags != 0 ? -EINVAL : iova_bitmap_equal(bitmap, other, report);
}

enum {
    CLIP = IOVA_BITMAP_CLIP,
    COUNT = IOVA_BITMAP_COUNT,
    CLEAN = IOVA_BITMAP_CLEAN,
    PARTIAL = IOVA_BITMAP_PARTIAL,
    EXCLUSIVE = IOVA_BITMAP_EXCLUSIVE,
};

static const struct {
    const char *name;
    call call;
    unsigned takes;
} functions[] = {
    {"set", call_set, CLIP | COUNT | EXCLUSIVE},
    {"clear", call_clear, CLIP | EXCLUSIVE},
    {"set_ranges", call_set_ranges, CLIP | COUNT | EXCLUSIVE},
    {"clear_ranges", call_clear_ranges, CLIP | EXCLUSIVE},
    {"set_pages", call_set_pages, CLIP | COUNT | EXCLUSIVE},
    {"count", call_count, CLIP | CLEAN},
    {"count_ranges", call_count_ranges, CLIP | CLEAN},
    {"find", call_find, CLIP | CLEAN},
    {"ranges", call_ranges, CLIP | CLEAN | PARTIAL},
    {"pages", call_pages, CLIP},
    {"read_and_clear", call_read_and_clear, CLIP | EXCLUSIVE},
    {"move_into", call_move_into, CLIP | EXCLUSIVE},
    {"merge", call_merge, CLIP | EXCLUSIVE},
    {"put_back", call_put_back, 0},
    {"reset", call_reset, 0},
    {"histogram", call_histogram, 0},
    {"read", call_read, 0},
    {"to_mask", call_to_mask, 0},
    {"combine", call_combine, 0},
    {"count_combined", call_count_combined, 0},
    {"count_both", call_count_both, 0},
    {"ranges_combined", call_ranges_combined, 0},
    {"equal", call_equal, 0},
};

static void test_flags(call function, const char *name, unsigned takes)
{
    uint8_t before[NBYTES];

    for (unsigned bit = 0; bit < 32; bit++) {
        const unsigned flag = 1u << bit;
        struct iova_bitmap_report report = {9, 9, 9};
        fill();
        memcpy(before, bytes, NBYTES);
        int rc = function(flag, &report);
        CHECK(rc == (flag & takes ? 0 : -EINVAL), "%s with flag 0x%x: %d", name, flag, rc);
        CHECK(rc == 0 || memcmp(before, bytes, NBYTES) == 0, "%s with flag 0x%x: done", name, flag);
    }
    fill();
    CHECK_EQ(function(takes, NULL), 0);
}

/* The same, whether somebody wants the report or not. */
static void test_no_report(call function, const char *name)
{
    struct iova_bitmap_report report = {9, 9, 9};
    uint8_t with[NBYTES];

    fill();
    const int rc = function(0, &report);
    CHECK(rc == 0 && report.length == 0, "%s: %d", name, rc);
    memcpy(with, bytes, NBYTES);
    fill();
    CHECK(function(0, NULL) == rc, "%s without a report", name);
    CHECK(memcmp(with, bytes, NBYTES) == 0, "%s does the same without a report", name);
}

/* What is asked for with a flag is done, whatever the backend. */
static void test_counts(void)
{
    struct iova_bitmap_report report;

    memset(bytes, 0, NBYTES);
    CHECK_EQ(iova_bitmap_set_ranges(bitmap, rows, 3, COUNT, NULL, &report), 0);
    CHECK_EQ(report.pages, 6);
    CHECK_EQ(iova_bitmap_set_pages(bitmap, addresses, 3, COUNT, NULL, &report), 0);
    CHECK_EQ(report.pages, 1);
    CHECK_EQ(iova_bitmap_count(bitmap, 0, all, CLEAN, &report), 0);
    CHECK_EQ(report.pages, NBITS - 7);
    CHECK_EQ(iova_bitmap_count(bitmap, 3 * PAGE + 1, 3 * PAGE, CLEAN, &report), 0);
    CHECK_EQ(report.pages, 2); /* pages 3 to 6, of which 3 and 4 are dirty */
}

/* A harvest into the caller's rows, of every capacity: what fits, and where to go on. */
static void test_harvest_into_rows(void)
{
    struct iova_bitmap_ranges want = {0};
    fill();
    CHECK_EQ(iova_bitmap_ranges(bitmap, 5, all - 9, 0, &want, NULL), 0);
    for (uint64_t capacity = 0; capacity <= want.count + 1; capacity++) {
        struct iova_bitmap_range *own = calloc((size_t)capacity + 1, sizeof(*own));
        uint64_t iova = 5, length = all - 9, found = 0, calls = 0;
        int rc = -ENOSPC;
        fill();
        while (rc == -ENOSPC && calls++ <= want.count) {
            struct iova_bitmap_ranges part = {own, capacity, 77};
            struct iova_bitmap_report report = {9, 9, 9};
            rc = iova_bitmap_read_and_clear(bitmap, iova, length, 0, &part, &report);
            CHECK(part.rows == own && part.count <= capacity, "%d rows", (int)part.count);
            CHECK(found + part.count <= want.count &&
                      memcmp(own, want.rows + found, (size_t)part.count * sizeof(*own)) == 0,
                  "rows %d of %d", (int)found, (int)want.count);
            found += part.count;
            CHECK_EQ(own[capacity].length, 0); /* nothing after the last */
            if (rc == -ENOSPC) {
                CHECK_EQ(part.count, capacity);
                CHECK_EQ(report.iova, want.rows[found].iova);
                CHECK_EQ(report.iova + report.length, all - 4);
                /* What was not delivered is still marked, and what was is not. */
                struct iova_bitmap_report left;
                CHECK_EQ(iova_bitmap_count_ranges(bitmap, 5, all - 9, 0, &left), 0);
                CHECK_EQ(left.pages, want.count - found);
                iova = report.iova;
                length = report.length;
            }
            if (capacity == 0) {
                break;
            }
        }
        CHECK_EQ(rc, capacity == 0 ? -ENOSPC : 0);
        CHECK_EQ(found, capacity == 0 ? 0 : want.count);
        free(own);
    }
    iova_bitmap_rows_free(want.rows);
}

/* Each function that takes EXCLUSIVE does the same with it, and what it should do. */
static void test_exclusive(void)
{
    for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
        uint8_t shared[2][NBYTES];
        if ((functions[i].takes & EXCLUSIVE) == 0) {
            continue;
        }
        fill();
        CHECK_EQ(functions[i].call(0, NULL), 0);
        memcpy(shared[0], bytes, NBYTES);
        memcpy(shared[1], other_bytes, NBYTES);
        fill();
        CHECK_EQ(functions[i].call(EXCLUSIVE, NULL), 0);
        CHECK(memcmp(shared[0], bytes, NBYTES) == 0, "%s", functions[i].name);
        CHECK(memcmp(shared[1], other_bytes, NBYTES) == 0, "%s", functions[i].name);
    }
    for (uint64_t first = 0; first < 70; first += 3) { /* a harvest of a part, cut at any bit */
        const uint64_t iova = first * PAGE, length = (NBITS - 2 * first) * PAGE;
        struct iova_bitmap_ranges want = {0}, got = {0};
        uint8_t left[NBYTES];
        fill();
        CHECK_EQ(iova_bitmap_ranges(bitmap, iova, length, 0, &want, NULL), 0);
        CHECK_EQ(iova_bitmap_clear(bitmap, iova, length, 0, NULL), 0);
        memcpy(left, bytes, NBYTES);
        fill();
        CHECK_EQ(iova_bitmap_read_and_clear(bitmap, iova, length, EXCLUSIVE, &got, NULL), 0);
        CHECK(memcmp(left, bytes, NBYTES) == 0, "what is left from page %d on", (int)first);
        CHECK_EQ(got.count, want.count);
        CHECK(memcmp(got.rows, want.rows, (size_t)want.count * sizeof(*want.rows)) == 0, "rows");
        iova_bitmap_rows_free(want.rows);
        iova_bitmap_rows_free(got.rows);
    }
}

int main(void)
{
    CHECK_EQ(iova_bitmap_alloc(0, all, PAGE, bytes, NBYTES, NULL, &bitmap), 0);
    CHECK_EQ(iova_bitmap_alloc(0, all, PAGE, other_bytes, NBYTES, NULL, &other), 0);
    for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
        test_flags(functions[i].call, functions[i].name, functions[i].takes);
        test_no_report(functions[i].call, functions[i].name);
    }
    CHECK_EQ(iova_bitmap_check_range(bitmap, 0, PAGE, CLEAN), -EINVAL);
    CHECK_EQ(iova_bitmap_check_range(bitmap, 0, 2 * all, CLIP), 1);
    test_counts();
    test_harvest_into_rows();
    test_exclusive();
    iova_bitmap_free(bitmap);
    iova_bitmap_free(other);
    return check_result();
}
