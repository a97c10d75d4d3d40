/*
 * test_threads.c - many threads, each with bitmaps of its own over one memory, or all with one:
 * every mark is found, exactly once, and answers stay well-formed meanwhile.
 *
 * The environment variable IOVABITMAP_MARKS is the number of marks of each thread, where it should
 * be another.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "check.h"
#include "iova_bitmap.h"

enum { THREADS = 4, PAGE = 4096, NPAGES = 8 * 30000 + 5, NBYTES = (NPAGES + 7) / 8 };

static const uint64_t BASE = 0x123456000;
static const uint64_t LENGTH = (uint64_t)NPAGES * PAGE - 77; /* a part of the last page */

static uint8_t *memory; /* at an odd address */
static uint64_t marks;
static atomic_uint working; /* threads that mark and have not ended */
static pthread_barrier_t together;

struct worker {
    pthread_t thread;
    unsigned number;
    uint64_t state;             /* of the random numbers */
    struct iova_bitmap *bitmap; /* its own, or all's */
    uint64_t newly;             /* pages that were clean before */
    uint64_t harvested;
    uint8_t *seen; /* pages that were harvested, or NULL */
    void (*work)(struct worker *);
};

static struct iova_bitmap *make(void *data, uint64_t window_pages)
{
    const struct iova_bitmap_options options = {.window_pages = window_pages};
    struct iova_bitmap *bitmap = NULL;

    CHECK_EQ(iova_bitmap_alloc(BASE, LENGTH, PAGE, data, NBYTES, &options, &bitmap), 0);
    return bitmap;
}

static void check_valid(const struct iova_bitmap *bitmap, bool quiet)
{
    const char *broken;

    CHECK(iova_bitmap_validate(bitmap, quiet, &broken) == 0, "broken: %s", broken);
}

static void check_balanced(struct iova_bitmap *bitmap)
{
    check_valid(bitmap, true);
    iova_bitmap_release(bitmap);
    check_valid(bitmap, true);
    CHECK_EQ(iova_bitmap_stats(bitmap)->pins, iova_bitmap_stats(bitmap)->unpins);
}

static uint64_t count_all(struct iova_bitmap *bitmap)
{
    struct iova_bitmap_report report;

    CHECK_EQ(iova_bitmap_count(bitmap, BASE, LENGTH, 0, &report), 0);
    return report.pages;
}

/* --- marking ------------------------------------------------------------------------- */

/* Some pages, mostly few and close to each other, so that the threads meet in the same words. */
static struct iova_bitmap_range pick(struct worker *w)
{
    const uint64_t random = check_random(&w->state);
    const uint64_t span = random % 3 == 0 ? NPAGES : 700;
    const uint64_t first = (random >> 8) % span;
    uint64_t npages = 1 + (random >> 32) % (random % 16 == 1 ? 3000 : 5);

    npages = npages < NPAGES - first ? npages : NPAGES - first;
    const uint64_t start = first * PAGE;
    const uint64_t end = (first + npages) * PAGE;
    return (struct iova_bitmap_range){BASE + start, (end < LENGTH ? end : LENGTH) - start};
}

/* Runs of pages that meet inside bytes: in a region, that of a thread begins at its cut and ends at
 * the next one's. */
static uint64_t cut(uint64_t start, uint64_t end, unsigned number)
{
    return number == THREADS ? end : start + (end - start) / THREADS * number + 3 * number % 8;
}

/* Marks each page of its own once, in all the ways there are: alone between those of the others, or
 * in one run. All threads go through the memory together, so that they meet in the same words. */
static void mark_its_own(struct worker *w)
{
    enum { REGION = 4096 }; /* pages */
    struct iova_bitmap_range rows[REGION / THREADS + 1];
    uint64_t pages[REGION / THREADS + 1];
    struct iova_bitmap_report report;
    uint64_t bad;

    for (uint64_t start = 0; start < NPAGES; start += REGION) {
        const uint64_t end = start + REGION < NPAGES ? start + REGION : NPAGES;
        const bool run_of_pages = start / REGION % 3 == 0;
        const uint64_t way = check_random(&w->state) % 4;
        uint64_t count = 0;
        for (uint64_t page = start; !run_of_pages && page < end; page++) {
            if (page % THREADS == w->number) {
                pages[count] = BASE + page * PAGE + 5;
                rows[count++] = (struct iova_bitmap_range){BASE + page * PAGE, 5};
            }
        }
        if (run_of_pages) {
            const uint64_t first = cut(start, end, w->number);
            rows[count++] = (struct iova_bitmap_range){
                BASE + first * PAGE, (cut(start, end, w->number + 1) - first) * PAGE - 77};
        }
        pthread_barrier_wait(&together);
        for (uint64_t i = 0; i < count && way < 2; i++) {
            const unsigned flags = way == 0 ? 0 : IOVA_BITMAP_COUNT;
            CHECK_EQ(iova_bitmap_set(w->bitmap, rows[i].iova, rows[i].length, flags, &report), 0);
        }
        if (way == 2 || (way == 3 && run_of_pages)) {
            CHECK_EQ(iova_bitmap_set_ranges(w->bitmap, rows, count, 0, &bad, &report), 0);
        } else if (way == 3) {
            CHECK_EQ(iova_bitmap_set_pages(w->bitmap, pages, count, 0, &bad, &report), 0);
        }
    }
}

/* Counts each page that it is the first to mark. */
static void mark_and_count(struct worker *w)
{
    struct iova_bitmap_report report;

    for (uint64_t done = 0; done < marks; done++) {
        const struct iova_bitmap_range row = pick(w);
        CHECK_EQ(iova_bitmap_set(w->bitmap, row.iova, row.length, IOVA_BITMAP_COUNT, &report), 0);
        w->newly += report.pages;
        if (done % 4096 == 0) {
            sched_yield(); /* where there are few processors, let the harvest come between */
        }
    }
}

/* --- meanwhile ----------------------------------------------------------------------- */

/* Rows are ascending, apart from each other, inside, and begin at pages. The pages in them. */
static uint64_t check_rows(const struct iova_bitmap_ranges *ranges)
{
    uint64_t next = BASE; /* where the next row may begin */
    uint64_t pages = 0;

    for (uint64_t i = 0; i < ranges->count; i++) {
        const struct iova_bitmap_range *row = &ranges->rows[i];
        CHECK(row->iova >= next && (row->iova - BASE) % PAGE == 0 && row->length != 0 &&
                  row->length <= LENGTH - (row->iova - BASE),
              "row %" PRIu64 ": 0x%" PRIx64 " + 0x%" PRIx64, i, row->iova, row->length);
        const uint64_t npages = (row->length + PAGE - 1) / PAGE;
        next = row->iova + (npages + 1) * PAGE;
        pages += npages;
    }
    return pages;
}

static void harvest_once(struct worker *w)
{
    struct iova_bitmap_ranges ranges = {0};
    struct iova_bitmap_report report;

    CHECK_EQ(iova_bitmap_read_and_clear(w->bitmap, BASE, LENGTH, 0, &ranges, &report), 0);
    w->harvested += check_rows(&ranges);
    for (uint64_t i = 0; w->seen != NULL && i < ranges.count; i++) {
        memset(w->seen + (ranges.rows[i].iova - BASE) / PAGE, 1,
               (ranges.rows[i].length + PAGE - 1) / PAGE);
    }
    iova_bitmap_rows_free(ranges.rows);
}

static void harvest(struct worker *w)
{
    while (atomic_load(&working) != 0) {
        harvest_once(w);
    }
}

/* Questions and copies that read this memory beside a bitmap of their own. */
static void ask_of_two(struct worker *w)
{
    static uint8_t bytes[NBYTES + 8], mask[NPAGES];
    struct iova_bitmap_ranges ranges = {0};
    struct iova_bitmap *own = make(bytes + 5, 2);
    uint64_t counts[3];

    CHECK_EQ(iova_bitmap_read(w->bitmap, bytes + 5, NULL), 0);
    CHECK_EQ(iova_bitmap_to_mask(w->bitmap, mask, NULL), 0);
    CHECK(iova_bitmap_equal(own, w->bitmap, NULL) >= 0, "equal");
    CHECK_EQ(iova_bitmap_count_both(own, w->bitmap, counts, NULL), 0);
    CHECK_EQ(iova_bitmap_count_combined(own, w->bitmap, IOVA_BITMAP_SUB, NULL), 0);
    CHECK_EQ(iova_bitmap_ranges_combined(w->bitmap, own, IOVA_BITMAP_XOR, &ranges, NULL), 0);
    check_rows(&ranges);
    iova_bitmap_rows_free(ranges.rows);
    CHECK_EQ(iova_bitmap_combine(own, w->bitmap, IOVA_BITMAP_OR, NULL), 0);
    CHECK_EQ(iova_bitmap_merge(own, w->bitmap, 0, NULL), 0);
    iova_bitmap_free(own);
}

static void ask(struct worker *w)
{
    struct iova_bitmap_report report;
    uint64_t *pages;
    uint64_t bins[7], count, found, total = 0;

    do {
        struct iova_bitmap_ranges ranges = {0};
        const unsigned flags = total++ % 2 ? IOVA_BITMAP_CLEAN : 0;
        CHECK_EQ(iova_bitmap_ranges(w->bitmap, BASE, LENGTH, flags, &ranges, &report), 0);
        check_rows(&ranges);
        iova_bitmap_rows_free(ranges.rows);
        CHECK_EQ(iova_bitmap_pages(w->bitmap, BASE, LENGTH, 0, &pages, &count, &report), 0);
        for (uint64_t i = 1; i < count; i++) {
            CHECK(pages[i - 1] < pages[i], "page %" PRIu64, i);
        }
        iova_bitmap_rows_free(pages);
        CHECK_EQ(iova_bitmap_histogram(w->bitmap, 7, bins, &report), 0);
        CHECK(iova_bitmap_find(w->bitmap, BASE, LENGTH, flags, &found, &report) >= 0, "find");
        CHECK_EQ(iova_bitmap_count_ranges(w->bitmap, BASE, LENGTH, flags, &report), 0);
        ask_of_two(w);
        check_valid(w->bitmap, false);
    } while (atomic_load(&working) != 0);
}

/* --- running ------------------------------------------------------------------------- */

static void *run_worker(void *opaque)
{
    struct worker *w = opaque;

    w->work(w);
    if (w->work != harvest && w->work != ask) {
        atomic_fetch_sub(&working, 1);
    }
    return NULL;
}

/* THREADS threads that mark, with bitmaps of their own over the memory unless there is one for
 * all, and one more that does something else. */
static void run(struct worker workers[THREADS + 1], void (*work)(struct worker *),
                void (*meanwhile)(struct worker *), struct iova_bitmap *shared)
{
    atomic_store(&working, THREADS);
    for (unsigned i = 0; i <= THREADS; i++) {
        struct worker *w = &workers[i];
        w->number = i;
        w->state = 0x9e3779b97f4a7c15u * (i + 1);
        w->bitmap = shared != NULL ? shared : make(memory, 1 + i % 3);
        w->work = i < THREADS ? work : meanwhile;
        if (pthread_create(&w->thread, NULL, run_worker, w) != 0) {
            check_skip("no threads");
        }
    }
    for (unsigned i = 0; i <= THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
    }
}

static void finish(struct worker workers[THREADS + 1])
{
    for (unsigned i = 0; i <= THREADS; i++) {
        check_balanced(workers[i].bitmap);
        iova_bitmap_free(workers[i].bitmap);
    }
}

/* While others ask, and while one harvests: a long run may be found in two harvests, as it is
 * stored by memset, but never in none. */
static void test_no_mark_is_lost(void)
{
    uint8_t *seen = malloc(NPAGES);

    pthread_barrier_init(&together, NULL, THREADS);
    for (uint64_t done = 0; done < marks && check_failures == 0; done += NPAGES / THREADS) {
        struct worker workers[THREADS + 1] = {0};
        const bool harvested = done / (NPAGES / THREADS) % 2;
        struct worker *last = &workers[THREADS];
        memset(memory, 0, NBYTES);
        last->seen = memset(seen, 0, NPAGES);
        run(workers, mark_its_own, harvested ? harvest : ask, NULL);
        if (harvested) {
            harvest_once(last);
            CHECK(memchr(seen, 0, NPAGES) == NULL, "a page was lost");
            CHECK(last->harvested >= NPAGES, "%" PRIu64 " pages", last->harvested);
        } else {
            CHECK_EQ(count_all(workers[0].bitmap), NPAGES);
        }
        finish(workers);
    }
    pthread_barrier_destroy(&together);
    free(seen);
}

/* Pages turned dirty, as those counted who did it, are pages harvested, whoever came first. */
static void test_each_mark_is_harvested_once(void)
{
    struct worker workers[THREADS + 1] = {0};
    uint64_t newly = 0;

    memset(memory, 0, NBYTES);
    run(workers, mark_and_count, harvest, NULL);
    harvest_once(&workers[THREADS]); /* what came after the last */
    for (unsigned i = 0; i < THREADS; i++) {
        newly += workers[i].newly;
    }
    CHECK_EQ(workers[THREADS].harvested, newly);
    CHECK(newly >= 700, "too few marks to say anything: %" PRIu64, newly);
    CHECK_EQ(count_all(workers[0].bitmap), 0);
    printf("%" PRIu64 " marks, %" PRIu64 " pages found once each\n", THREADS * marks, newly);
    finish(workers);
}

/* Operations in windows of their own, all on one bitmap, beside one that uses the present one. */
static void batch_on_one(struct worker *w)
{
    enum { FEW = 8 }; /* so that windows are taken often */
    struct iova_bitmap_range rows[FEW];
    struct iova_bitmap_report report;
    uint64_t bad;

    for (uint64_t page = w->number; page < NPAGES;) {
        uint64_t count = 0;
        for (; count < FEW && page < NPAGES; page += THREADS) {
            rows[count++] = (struct iova_bitmap_range){BASE + page * PAGE, 1};
        }
        for (uint64_t i = 0; i < count && w->number == 0; i++) {
            CHECK_EQ(iova_bitmap_set(w->bitmap, rows[i].iova, 1, 0, &report), 0);
        }
        if (w->number != 0) {
            CHECK_EQ(iova_bitmap_set_ranges(w->bitmap, rows, count, 0, &bad, &report), 0);
        }
    }
}

static void ask_quietly(struct worker *w)
{
    struct iova_bitmap_report report;

    do {
        struct iova_bitmap_ranges ranges = {0};
        CHECK_EQ(iova_bitmap_ranges(w->bitmap, BASE, LENGTH, 0, &ranges, &report), 0);
        check_rows(&ranges);
        iova_bitmap_rows_free(ranges.rows);
        const struct iova_bitmap_stats stats = iova_bitmap_stats_now(w->bitmap);
        /* Batches have one window for all of the bitmap. */
        CHECK(stats.peak_pinned_pages <= (THREADS + 1) * (NBYTES / 4096 + 2), "peak %" PRIu64,
              stats.peak_pinned_pages);
    } while (atomic_load(&working) != 0);
}

static void test_one_bitmap_for_all(void)
{
    struct iova_bitmap *shared = make(memory, 2);

    for (uint64_t done = 0; done < marks && check_failures == 0; done += NPAGES / THREADS) {
        struct worker workers[THREADS + 1] = {0};
        memset(memory, 0, NBYTES);
        run(workers, batch_on_one, ask_quietly, shared);
        CHECK_EQ(count_all(shared), NPAGES);
        check_balanced(shared);
    }
    iova_bitmap_free(shared);
}

static void *mark_and_clear(void *opaque)
{
    while (atomic_load(&working) != 0) {
        CHECK_EQ(iova_bitmap_set(opaque, 0, PAGE, 0, NULL), 0);
        CHECK_EQ(iova_bitmap_clear(opaque, 0, PAGE, 0, NULL), 0);
    }
    return NULL;
}

/* A long walk looks at some bytes to see whether it meets zeros, also at one that changes. */
static void test_a_long_walk(void)
{
    enum { LONG = 18 << 20, MARKED = 16 << 20 }; /* bytes; the one that is looked at */
    uint8_t *bytes = calloc(1, LONG);
    struct iova_bitmap *all = NULL, *marked = NULL;
    struct iova_bitmap_report report;
    pthread_t thread;

    if (bytes == NULL) {
        check_skip("no memory");
    }
    CHECK_EQ(iova_bitmap_alloc(0, 8 * (uint64_t)LONG, 1, bytes, LONG, NULL, &all), 0);
    CHECK_EQ(iova_bitmap_alloc(0, 8 * PAGE, PAGE, bytes + MARKED, 1, NULL, &marked), 0);
    atomic_store(&working, 1);
    if (pthread_create(&thread, NULL, mark_and_clear, marked) != 0) {
        check_skip("no threads");
    }
    for (unsigned i = 0; i < 20; i++) {
        CHECK_EQ(iova_bitmap_count(all, 0, 8 * (uint64_t)LONG, 0, &report), 0);
        CHECK(report.pages <= 1, "%" PRIu64 " pages", report.pages);
    }
    atomic_store(&working, 0);
    pthread_join(thread, NULL);
    iova_bitmap_free(marked);
    iova_bitmap_free(all);
    free(bytes);
}

int main(void)
{
    const char *wanted = getenv("IOVABITMAP_MARKS");
    uint8_t *all = calloc(1, NBYTES + 16);

    if (all == NULL) {
        check_skip("no memory");
    }
    marks = wanted != NULL ? strtoull(wanted, NULL, 0) : 1000000;
    memory = all + 3;
    test_no_mark_is_lost();
    test_each_mark_is_harvested_once();
    test_one_bitmap_for_all();
    test_a_long_walk();
    for (unsigned i = 0; i < 16; i++) {
        CHECK_EQ(all[i < 3 ? i : i + NBYTES], 0); /* beside the bitmap */
    }
    free(all);
    return check_result();
}
