/*
 * test_ends.c - how operations end before their end: what a report says of a batch that is
 * interrupted at each question, and that a backend's own errno is never taken for the engine's.
 */
#include "check.h"

#include <errno.h>
#include <stdalign.h>
#include <string.h>

#include "iova_bitmap.h"

enum { BASE = 0x100000, NPAGES = 0x1000, PAGE = 4096, NROWS = 200000, BITS = 8 * 8192 };

static unsigned questions, stop_at;
static unsigned pins, fail_at;
static uint64_t most_pages;
static int answer;

static int ask(void *context)
{
    (void)context;
    return ++questions == stop_at;
}

static int64_t pin(void *context, uintptr_t address, uint64_t npages,
                   enum iova_bitmap_access access)
{
    (void)context;
    (void)address;
    (void)access;
    most_pages = npages > most_pages ? npages : most_pages;
    return ++pins == fail_at ? answer : (int64_t)npages;
}

static void unpin(void *context, uintptr_t address, uint64_t npages)
{
    (void)context;
    (void)address;
    (void)npages;
}

static struct iova_bitmap *touched;

/* A backend that calls back: the present window is gone when it returns. */
static int64_t touch(void *context, uintptr_t address, uint64_t npages,
                     enum iova_bitmap_access access)
{
    (void)context;
    (void)address;
    (void)access;
    iova_bitmap_release(touched);
    return (int64_t)npages;
}

static const struct iova_bitmap_pin_ops ops = {pin, unpin, NULL};
static const struct iova_bitmap_pin_ops touching = {pin, unpin, touch};

static alignas(4096) uint8_t bytes[64 * 4096];
static struct iova_bitmap_range rows[NROWS];

static struct iova_bitmap *make(const struct iova_bitmap_pin_ops *backend, uint64_t npages)
{
    const struct iova_bitmap_options options = {.poll = ask, .pin = backend, .window_pages = 1};
    struct iova_bitmap *bitmap;

    questions = pins = fail_at = stop_at = 0;
    memset(bytes, 0, sizeof(bytes));
    CHECK_EQ(iova_bitmap_alloc(BASE, npages * PAGE, PAGE, bytes, sizeof(bytes), &options, &bitmap),
             0);
    return bitmap;
}

/* A batch that is interrupted has done nothing, and says so by length 0, or may have done any row:
 * then its report reaches from the base to the end of all rows. */
static void interrupt(const struct iova_bitmap_pin_ops *backend, uint64_t count, uint64_t end)
{
    struct iova_bitmap *bitmap = make(backend, NPAGES);
    int rc = -EINTR;

    for (stop_at = 1; rc == -EINTR; stop_at++) {
        struct iova_bitmap_report report = {9, 9, 9};
        memset(bytes, 0, sizeof(bytes));
        questions = 0;
        rc = iova_bitmap_set_ranges(bitmap, rows, count, 0, NULL, &report);
        bool any = false;
        for (unsigned i = 0; i < NPAGES / 8; i++) {
            any = any || bytes[i] != 0;
        }
        CHECK(rc == 0 || rc == -EINTR, "%d", rc);
        if (rc < 0 && report.length == 0) {
            CHECK(!any, "rows are done, and nothing is said");
        } else if (rc < 0) {
            CHECK_EQ(report.iova + report.length, end);
            CHECK(report.iova >= BASE, "report.iova %" PRIx64, report.iova);
        }
    }
    CHECK(stop_at > 3, "%u questions", stop_at);
    iova_bitmap_free(bitmap);
}

static void test_interrupted_batches(void)
{
    memset(rows, 0, sizeof(rows)); /* no row has a page */
    interrupt(NULL, NROWS, 0);
    interrupt(&ops, NROWS, 0);
    for (uint64_t i = 0; i < NROWS; i++) {
        rows[i] = (struct iova_bitmap_range){BASE + i * NPAGES * PAGE / NROWS, 1};
    }
    const uint64_t end = rows[NROWS - 1].iova + 1;
    interrupt(NULL, NROWS, end);
    interrupt(&ops, NROWS, end);
    for (uint64_t i = 0; i < NROWS / 2; i++) { /* the same, descending */
        const struct iova_bitmap_range row = rows[i];
        rows[i] = rows[NROWS - 1 - i];
        rows[NROWS - 1 - i] = row;
    }
    interrupt(NULL, NROWS, end);
    interrupt(&ops, NROWS, end);
}

/* A long batch is asked about as often, whatever it counts and pins. */
static void test_how_often_is_asked(void)
{
    struct iova_bitmap *bitmap = make(NULL, NPAGES);
    struct iova_bitmap_report report;

    CHECK_EQ(iova_bitmap_set_ranges(bitmap, rows, NROWS, 0, NULL, &report), 0);
    const unsigned plain = questions;
    questions = 0;
    CHECK_EQ(iova_bitmap_set_ranges(bitmap, rows, NROWS, IOVA_BITMAP_COUNT, NULL, &report), 0);
    CHECK(plain >= 3 && questions <= 3 * plain, "%u and %u questions", plain, questions);
    iova_bitmap_free(bitmap);
}

/* -ENOSPC of a pin is not that of rows that are too few. */
static void test_a_pin_that_has_no_space(void)
{
    struct iova_bitmap *bitmap = make(&ops, BITS);
    struct iova_bitmap_range own[16];
    struct iova_bitmap_report report;
    const uint64_t length = (uint64_t)BITS * PAGE;

    answer = -ENOSPC;
    for (unsigned given = 0; given < 2; given++) {
        struct iova_bitmap_ranges ranges = {given ? own : NULL, given ? 16 : 0, 9};
        bytes[0] = 0x0c;
        bytes[4096] = 0x01;
        pins = 0;
        fail_at = 2;
        CHECK_EQ(iova_bitmap_read_and_clear(bitmap, BASE, length, 0, &ranges, &report), -ENOSPC);
        CHECK(bytes[0] == 0x0c && bytes[4096] == 0x01, "all is put back");
        CHECK_EQ(ranges.count, 0);
        CHECK(report.iova == BASE && report.length == length, "nothing is taken");
        pins = 0;
        ranges = (struct iova_bitmap_ranges){given ? own : NULL, given ? 16 : 0, 9};
        CHECK_EQ(iova_bitmap_ranges(bitmap, BASE, length, IOVA_BITMAP_PARTIAL, &ranges, &report),
                 -ENOSPC);
        CHECK_EQ(report.iova, BASE + (uint64_t)4096 * 8 * PAGE);
    }
    iova_bitmap_free(bitmap);
}

/* Rows that are put back need no more windows, and no longer ones, than they reach; an errno of a
 * pin is reported from the first page that was not done, whatever it is. */
static void test_put_back(void)
{
    const struct iova_bitmap_options options = {.poll = ask, .pin = &ops};
    struct iova_bitmap_range two[] = {{BASE + 100 * PAGE, 8}, {BASE + 65536ull * PAGE, 8}};
    const struct iova_bitmap_ranges ranges = {two, 2, 2};
    struct iova_bitmap_report report;
    struct iova_bitmap *bitmap;

    CHECK_EQ(iova_bitmap_alloc(BASE, sizeof(bytes) * 8 * PAGE, PAGE, bytes, sizeof(bytes), &options,
                               &bitmap),
             0);
    memset(bytes, 0, sizeof(bytes));
    pins = fail_at = stop_at = 0;
    most_pages = 0;
    CHECK_EQ(iova_bitmap_put_back(bitmap, &ranges, &report), 0);
    CHECK_EQ(most_pages, 3); /* pages 0 to 2 of the bitmap's memory */
    CHECK(bytes[12] == 0x10 && bytes[8192] == 0x01, "marks");
    iova_bitmap_free(bitmap);

    bitmap = make(&ops, BITS + 8);
    fail_at = 2;
    answer = -EINTR;
    CHECK_EQ(iova_bitmap_put_back(bitmap, &ranges, &report), -EINTR);
    CHECK_EQ(report.iova, two[1].iova);
    CHECK_EQ(report.length, 8);
    iova_bitmap_free(bitmap);
}

static void test_a_backend_that_loses_the_window(void)
{
    struct iova_bitmap *bitmap = make(&touching, BITS);

    touched = bitmap;
    CHECK_EQ(iova_bitmap_set(bitmap, BASE, PAGE, 0, NULL), 0);
    CHECK_EQ(iova_bitmap_set(bitmap, BASE + PAGE, PAGE, 0, NULL), 0);
    CHECK_EQ(bytes[0], 3);
    CHECK_EQ(pins, 2); /* the second took a window anew */
    CHECK_EQ(iova_bitmap_present_window(bitmap)->npages, 1);
    iova_bitmap_free(bitmap);
}

int main(void)
{
    test_interrupted_batches();
    test_how_often_is_asked();
    test_a_pin_that_has_no_space();
    test_put_back();
    test_a_backend_that_loses_the_window();
    return check_result();
}
