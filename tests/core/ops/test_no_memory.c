/*
 * test_no_memory.c - each allocation of each operation fails once, and from it on all do: the
 * result is right all the same, or it is -ENOMEM with the content as it was and nothing leaked.
 */
#include <string.h>

#include "area.h"
#include "check.h"
#include "core/ops/rows.h"
#include "core/sources/range_set.h"
#include "core/sources/write_tracker.h"
#include "faults.h"

enum { NBYTES = 20000, NBITS = 8 * NBYTES - 3, TINY = 9 };

static uint8_t here_bytes[NBYTES], there_bytes[NBYTES], tiny_byte[2];
static uint8_t pattern[2 * NBYTES]; /* what these two hold at first */
static struct iova_bitmap *here, *there, *tiny;

/* What an operation answers. */
struct answer {
    int rc;
    void *rows;
    uint64_t size; /* of the rows in bytes */
    struct iova_bitmap_report report;
};

typedef void (*operation)(struct answer *answer);

static void answer_rows(struct answer *answer, const struct iova_bitmap_ranges *found)
{
    answer->rows = found->rows;
    answer->size = found->count * sizeof(*found->rows);
}

/* From inside a byte to inside another, so that there is a part of a word at both ends. */
static void ranges_op(struct answer *answer)
{
    struct iova_bitmap_ranges found = {0};

    answer->rc = iova_bitmap_ranges(here, 3, NBITS - 5, 0, &found, &answer->report);
    answer_rows(answer, &found);
}

static void clean_ranges_op(struct answer *answer)
{
    struct iova_bitmap_ranges found = {0};

    answer->rc = iova_bitmap_ranges(here, 0, NBITS, IOVA_BITMAP_CLEAN, &found, &answer->report);
    answer_rows(answer, &found);
}

/* One edge, in a part of a word; the end of the run that it starts needs room for one more. */
static void tiny_ranges_op(struct answer *answer)
{
    struct iova_bitmap_ranges found = {0};

    answer->rc = iova_bitmap_ranges(tiny, 0, TINY, 0, &found, &answer->report);
    answer_rows(answer, &found);
}

static void pages_op(struct answer *answer)
{
    uint64_t *pages = NULL;
    uint64_t count = 0;

    answer->rc = iova_bitmap_pages(here, 3, NBITS - 5, 0, &pages, &count, &answer->report);
    answer->rows = pages;
    answer->size = count * sizeof(*pages);
}

static void combined_op(struct answer *answer)
{
    struct iova_bitmap_ranges found = {0};

    answer->rc = iova_bitmap_ranges_combined(here, there, IOVA_BITMAP_XOR, &found, &answer->report);
    answer_rows(answer, &found);
}

static void merge_op(struct answer *answer)
{
    answer->rc = iova_bitmap_merge(there, here, 0, &answer->report);
}

static void move_op(struct answer *answer)
{
    answer->rc = iova_bitmap_move_into(here, 3, NBITS - 5, 0, there, &answer->report);
}

/* Only where putting back fails for want of memory too are there rows beside an error. */
static void harvest_op(struct answer *answer)
{
    struct iova_bitmap_ranges found = {0};

    answer->rc = iova_bitmap_read_and_clear(here, 3, NBITS - 5, 0, &found, &answer->report);
    if (answer->rc == -ENOMEM && found.rows != NULL) {
        fault_none();
        for (uint64_t i = 0; i < found.count; i++) {
            iova_bitmap_set(here, found.rows[i].iova, found.rows[i].length, 0, NULL);
        }
        iova_bitmap_rows_free(found.rows);
        found = (struct iova_bitmap_ranges){0};
    }
    answer_rows(answer, &found);
}

/* Rows of many windows, neither ascending nor descending. */
static void set_ranges_op(struct answer *answer)
{
    static struct iova_bitmap_range rows[1000];
    uint64_t bad_row;

    for (uint64_t i = 0; i < 1000; i++) {
        rows[i] = (struct iova_bitmap_range){i * 7919 % (NBITS - 9), 9};
    }
    answer->rc = iova_bitmap_set_ranges(here, rows, 1000, 0, &bad_row, &answer->report);
}

static void alloc_op(struct answer *answer)
{
    struct iova_bitmap *made = NULL;

    answer->rc = iova_bitmap_alloc(0, NBITS, 1, here_bytes, NBYTES, NULL, &made);
    CHECK((answer->rc == 0) == (made != NULL), "rc %d", answer->rc);
    iova_bitmap_free(made);
}

/* The backend needs memory for its own books. */
static void mlock_op(struct answer *answer)
{
    const struct iova_bitmap_pin_ops *mlock_ops = NULL;
    struct iova_bitmap *made = NULL;

    if (iova_bitmap_pin_backend("mlock", &mlock_ops) < 0) {
        return;
    }
    const struct iova_bitmap_options options = {.pin = mlock_ops};
    answer->rc = iova_bitmap_alloc(0, NBITS, 1, here_bytes, NBYTES, &options, &made);
    if (answer->rc == 0) {
        answer->rc = iova_bitmap_set(made, 0, 1, 0, NULL);
    }
    iova_bitmap_free(made);
    answer->rc = answer->rc == -EPERM ? 0 : answer->rc; /* not where memory must not be locked */
}

static void track_op(struct answer *answer)
{
    static uint8_t *memory;
    const uint64_t page = iova_bitmap_host_page_size();
    struct iova_write_tracker *tracker = NULL;

    if (memory == NULL) { /* for good: area_map would be an allocation that is swept */
        memory =
            __real_mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
    answer->rc = iova_write_tracker_new(memory, 4 * page, 0, page, &tracker);
    if (answer->rc == 0 && iova_write_tracker_start(tracker) == 0) {
        memory[page] = 1;
        answer->rc = iova_write_tracker_collect(tracker, there, NULL, &answer->report);
        if (answer->rc < 0) { /* nothing was scanned: it is still there to be found */
            CHECK_EQ(answer->report.iova, 0);
            CHECK_EQ(answer->report.length, 4 * page);
            fault_none();
            answer->report = (struct iova_bitmap_report){0};
            CHECK_EQ(iova_write_tracker_collect(tracker, there, NULL, &answer->report), 0);
            memcpy(there_bytes, pattern + NBYTES, NBYTES);
        }
    }
    iova_write_tracker_free(tracker);
}

/* More ranges than one batch holds, and the first page sticks out of the bitmap: when the second
 * batch needs more room, the first is marked. */
static void test_track_many(void)
{
    enum { WRITTEN = 9000 };
    const uint64_t page = iova_bitmap_host_page_size();
    const uint64_t size = 2 * WRITTEN * page;
    static uint8_t bits[2 * WRITTEN / 8];
    struct iova_write_tracker *tracker = NULL;
    struct iova_bitmap_report report;
    struct iova_bitmap *into = NULL;

    uint8_t *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED, "errno %d", errno);
    CHECK_EQ(iova_write_tracker_new(memory, size, 0, page, &tracker), 0);
    CHECK_EQ(iova_bitmap_alloc(page / 2, size - page / 2, page, bits, sizeof(bits), NULL, &into),
             0);
    if (iova_write_tracker_start(tracker) == 0) {
        for (uint64_t i = 0; i < WRITTEN; i++) {
            memory[2 * i * page] = 1;
        }
        fault_make((struct fault_plan){"memory", NULL, 1, 0, ENOMEM});
        CHECK_EQ(iova_write_tracker_collect(tracker, into, NULL, &report), -ENOMEM);
        CHECK_EQ(fault_hits, 1);
        fault_none();
        const uint64_t done = report.pages; /* each written page lies in two of the bitmap */
        CHECK(done > 2 * 8000 && done < 2 * WRITTEN, "%" PRIu64 " pages", done);
        CHECK(report.iova % page == 0 && report.iova > 0 && report.iova < size, "iova");
        CHECK_EQ(report.iova + report.length, size);
        CHECK_EQ(iova_write_tracker_collect(tracker, into, NULL, &report), 0);
        CHECK_EQ(done + report.pages, 2 * WRITTEN - 1);
    }
    iova_write_tracker_free(tracker);
    iova_bitmap_free(into);
    munmap(memory, size);
}

/* --- the sweep ----------------------------------------------------------------------------- */

static void reset(void)
{
    memcpy(here_bytes, pattern, NBYTES);
    memcpy(there_bytes, pattern + NBYTES, NBYTES);
}

/* Nothing was lost or made up by a move, however far it came. */
static void check_moved(void)
{
    for (uint64_t i = 0; i < NBYTES; i++) {
        const uint8_t here_now = here_bytes[i], there_now = there_bytes[i];
        CHECK((here_now | there_now) == (pattern[i] | pattern[NBYTES + i]), "byte %" PRIu64, i);
        CHECK((there_now & pattern[NBYTES + i]) == pattern[NBYTES + i], "byte %" PRIu64, i);
        CHECK((here_now & ~pattern[i]) == 0, "byte %" PRIu64, i);
    }
}

static void sweep(const char *name, operation run, unsigned at_least)
{
    static uint8_t wanted_here[NBYTES], wanted_there[NBYTES];
    struct answer want = {0};
    unsigned failures = 0;

    reset();
    run(&want);
    CHECK(want.rc == 0, "%s: %d", name, want.rc);
    memcpy(wanted_here, here_bytes, NBYTES);
    memcpy(wanted_there, there_bytes, NBYTES);
    for (unsigned times = 0; times <= 1; times++) {
        for (unsigned skip = 0, hit = 1; hit; skip++) {
            struct answer got = {0};
            iova_rows_drop_spare();
            const int64_t live = fault_live;
            reset();
            fault_make((struct fault_plan){"memory", NULL, skip, times, ENOMEM});
            run(&got);
            fault_none();
            hit = fault_hits;
            failures += hit != 0;
            CHECK(got.rc == 0 || (hit && got.rc == -ENOMEM), "%s: %d", name, got.rc);
            if (got.rc == 0) {
                CHECK(got.size == want.size &&
                          (got.size == 0 || memcmp(got.rows, want.rows, got.size) == 0),
                      "%s: other rows without allocation %u", name, skip);
                CHECK_EQ(got.report.pages, want.report.pages);
                CHECK(memcmp(here_bytes, wanted_here, NBYTES) == 0, "%s %u", name, skip);
                CHECK(memcmp(there_bytes, wanted_there, NBYTES) == 0, "%s %u", name, skip);
            } else if (run == move_op || run == merge_op) {
                check_moved();
            } else {
                CHECK(got.rows == NULL && got.size == 0, "%s: rows after an error", name);
                CHECK(memcmp(here_bytes, pattern, NBYTES) == 0, "%s %u: here", name, skip);
                CHECK(memcmp(there_bytes, pattern + NBYTES, NBYTES) == 0, "%s %u", name, skip);
            }
            iova_bitmap_rows_free(got.rows);
            iova_rows_drop_spare();
            CHECK(fault_live == live, "%s: %d blocks are lost without allocation %u", name,
                  (int)(fault_live - live), skip);
        }
    }
    iova_bitmap_rows_free(want.rows);
    CHECK(failures >= at_least, "%s: %u allocations", name, failures);
}

static void sweep_all(void)
{
    sweep("ranges", ranges_op, 4);
    sweep("clean ranges", clean_ranges_op, 4);
    sweep("ranges of a few pages", tiny_ranges_op, 4);
    sweep("pages", pages_op, 4);
    sweep("ranges_combined", combined_op, 4);
    sweep("merge", merge_op, 0);
    sweep("move_into", move_op, 0);
    sweep("read_and_clear", harvest_op, 4);
    sweep("set_ranges", set_ranges_op, 0);
}

/* --- memory that cannot be had at all ------------------------------------------------------ */

static void test_rows(void)
{
    struct iova_rows rows = {0};
    uint64_t own[4];
    iova_rows_drop_spare();
    const int64_t live = fault_live;

    CHECK(!iova_rows_reserve(&rows, SIZE_MAX / 8), "more than there can be");
    CHECK(rows.items == NULL, "rows");
    rows.most = UINT64_MAX; /* more than can be reserved: as much as is needed, then */
    CHECK(iova_rows_reserve(&rows, 1 << 17), "a mapping of its own");
    rows.items[(1 << 17) - 1] = 7;
    rows.count = 1 << 17;
    rows.most = (uint64_t)1 << 20; /* not that much, but some */
    fault_map_bytes = (uint64_t)4 << 20;
    CHECK(iova_rows_reserve(&rows, 1), "one more");
    CHECK_EQ(rows.items[(1 << 17) - 1], 7);
    fault_map_bytes = 0;
    iova_rows_trim(&rows);
    CHECK_EQ(rows.capacity, rows.count);
    iova_rows_free(rows.items);
    iova_rows_free(NULL);

    rows = (struct iova_rows){.items = own, .capacity = 4, .fixed = true};
    CHECK(iova_rows_reserve(&rows, 4) && !iova_rows_reserve(&rows, 5), "a fixed array");
    iova_rows_trim(&rows);
    CHECK(rows.items == own && rows.capacity == 4, "a fixed array");
    rows = (struct iova_rows){0};
    iova_rows_trim(&rows);
    CHECK(rows.items == NULL, "nothing to trim");
    iova_rows_drop_spare();
    CHECK_EQ(fault_live, live);
}

#ifdef __linux__

/* The mapping of an answer that was freed serves the next one, whether that needs less or more. */
static void test_spare_rows(void)
{
    enum { SOME = 1 << 17 }; /* items: 1 MiB */
    struct iova_rows rows = {0};

    iova_rows_drop_spare();
    const int64_t live = fault_live;
    CHECK(iova_rows_reserve(&rows, SOME), "a mapping");
    uint64_t *items = rows.items;
    rows.count = SOME;
    iova_rows_free(rows.items);
    CHECK_EQ(fault_live, live + 1);
    rows = (struct iova_rows){0};
    CHECK(iova_rows_reserve(&rows, 100) && rows.items != items, "few are not worth it");
    rows.items[0] = 1234;
    rows.count = 1;
    CHECK(iova_rows_reserve(&rows, SOME - 1000) && rows.items == items, "the same");
    CHECK_EQ(rows.items[0], 1234);
    rows.count = SOME - 1000;
    CHECK(iova_rows_reserve(&rows, SOME), "it grows");
    CHECK_EQ(rows.items[0], 1234);
    rows.items[2 * SOME - 1001] = 1;
    rows.count = 2 * SOME - 1000;
    iova_rows_trim(&rows);
    iova_rows_free(rows.items);
    rows = (struct iova_rows){.most = 100 * SOME};
    CHECK(iova_rows_reserve(&rows, 32 * SOME), "more than is kept");
    rows.items[32 * SOME - 1] = 1;
    rows.count = 33 * SOME;
    iova_rows_free(rows.items);
    CHECK(fault_live <= live + 1, "one is kept at most");
    iova_rows_drop_spare();
    CHECK_EQ(fault_live, live);
}

#else
#define test_spare_rows() ((void)0)
#endif

static void test_range_set(void)
{
    struct iova_range_set set = {0};

    CHECK_EQ(iova_range_set_reserve(&set, SIZE_MAX), -ENOMEM);
    CHECK_EQ(iova_range_set_reserve(&set, 2), 0);
    iova_range_set_add(&set, 5, 9);
    CHECK_EQ(iova_range_set_reserve(&set, SIZE_MAX / sizeof(struct iova_range) / 2), -ENOMEM);
    fault_make((struct fault_plan){"memory", NULL, 0, 0, ENOMEM});
    CHECK_EQ(iova_range_set_reserve(&set, 1), 0); /* there is room */
    CHECK_EQ(iova_range_set_reserve(&set, 100), -ENOMEM);
    fault_none();
    CHECK(set.count == 1 && set.items[0].first == 5 && set.items[0].last == 9, "the set");
    iova_range_set_free(&set);
}

int main(void)
{
    const struct iova_bitmap_options windows = {.window_pages = 1};
    const struct iova_bitmap_pin_ops *populate = NULL;
    uint64_t state = 3;

    for (size_t i = 0; i < NBYTES;
         i++) { /* more runs than fit small rows, then some of all sorts */
        pattern[i] = i < 12000 ? 0x55 : i < 16000 ? 0 : (uint8_t)(check_random(&state) >> 9);
        pattern[NBYTES + i] = i < 15000 ? 0 : (uint8_t)(check_random(&state) >> 9);
    }
    tiny_byte[0] = 0xf0;
    tiny_byte[1] = 0x01;
    CHECK_EQ(iova_bitmap_alloc(0, TINY, 1, tiny_byte, 2, NULL, &tiny), 0);
    CHECK_EQ(iova_bitmap_alloc(0, NBITS, 1, here_bytes, NBYTES, &windows, &here), 0);
    CHECK_EQ(iova_bitmap_alloc(0, NBITS, 1, there_bytes, NBYTES, &windows, &there), 0);
    sweep_all();
    sweep("alloc", alloc_op, 2);
    sweep("mlock", mlock_op, 2);
    sweep("track", track_op, 2);
    test_track_many();
    iova_bitmap_free(here);
    if (iova_bitmap_pin_backend("populate", &populate) == 0) { /* batches are sorted then */
        const struct iova_bitmap_options pinned = {.window_pages = 1, .pin = populate};
        CHECK_EQ(iova_bitmap_alloc(0, NBITS, 1, here_bytes, NBYTES, &pinned, &here), 0);
        sweep_all();
        iova_bitmap_free(here);
    }
    iova_bitmap_free(there);
    iova_bitmap_free(tiny);
    test_rows();
    test_spare_rows();
    test_range_set();
    return check_result();
}
