/*
 * test_write_tracker.c - the write tracker against the pages that were written, on anonymous
 * memory: exact, nothing lost when a pin fails or a bitmap covers a part, edges inside pages.
 */
#ifdef __linux__

#include "tracked.h"

/* Every second page is more regions than several batches hold. */
static void test_exact(void)
{
    const uint64_t npages = 40000;
    const uint64_t base = 0x100000;
    uint64_t seed = 7;
    uint8_t *memory = map(npages);
    uint8_t *model = calloc(1, npages);
    uint8_t *bits;
    struct iova_write_tracker *tracker = started(memory, npages * page, base);
    struct iova_bitmap *into = bitmap(base, npages * page, page, NULL, &bits);

    CHECK_EQ(collect(tracker, into), 0);
    for (uint64_t i = 0; i < npages; i += 2) {
        memory[i * page + check_random(&seed) % page] = 1;
        model[i] = 1;
    }
    CHECK_EQ(collect(tracker, into), npages / 2);
    check_bits(bits, model, npages, "every second page");
    for (int round = 0; round < 5; round++) {
        uint64_t distinct = 0;
        for (uint64_t i = 0; i < npages / 10; i++) {
            uint64_t at = check_random(&seed) % npages;
            memory[at * page]++;
            distinct += !model[at];
            model[at] = 1;
        }
        CHECK_EQ(collect(tracker, into), distinct);
        check_bits(bits, model, npages, "random pages");
    }
    drop(into, bits);
    iova_write_tracker_free(tracker);
    free(model);
    munmap(memory, npages * page);
}

/* A buffer from the middle of a page to the middle of another, in a bitmap of single bytes. */
static void test_unaligned(void)
{
    const uint64_t base = UINT64_MAX - (4 * page - 300) + 1; /* ends at 2**64 */
    const uint64_t size = 4 * page - 300;
    uint8_t *memory = map(6);
    uint8_t *bits;
    struct iova_write_tracker *tracker = started(memory + page + 100, size, base);
    struct iova_bitmap *into = bitmap(base, size, 1, NULL, &bits);

    memory[page] = 1; /* a neighbour's byte in the first page */
    CHECK_EQ(collect(tracker, into), page - 100);
    memory[5 * page - 201] = 1; /* the last byte */
    CHECK_EQ(collect(tracker, into), page - 200);
    memory[0] = 1; /* pages that are not tracked */
    memory[5 * page] = 1;
    CHECK_EQ(collect(tracker, into), 0);
    memory[3 * page] = 1;
    CHECK_EQ(collect(tracker, into), page);
    CHECK_EQ(iova_bitmap_test(into, base + 2 * page - 100), 1);
    CHECK_EQ(iova_bitmap_test(into, base + 2 * page - 101), 0);
    CHECK_EQ(iova_bitmap_test(into, base + 3 * page - 101), 1);
    drop(into, bits);
    iova_write_tracker_free(tracker);
    munmap(memory, 6 * page);
}

/* Three bitmaps side by side, the middle one from inside one page to inside another. */
static void test_parts(void)
{
    const uint64_t size = 8 * page;
    const uint64_t cut[4] = {0, 2 * page + 10, 5 * page + 20, size};
    uint8_t *memory = map(8);
    uint8_t *bits[4];
    struct iova_bitmap *part[4];
    struct iova_write_tracker *tracker = started(memory, size, 0);

    for (int i = 0; i < 3; i++) {
        part[i] = bitmap(cut[i], cut[i + 1] - cut[i], 1, NULL, &bits[i]);
    }
    part[3] = bitmap(size, size, page, NULL, &bits[3]); /* behind the buffer */

    memset(memory, 1, size);
    CHECK_EQ(collect(tracker, part[3]), 0);
    CHECK_EQ(iova_write_tracker_step(tracker), IOVA_WRITE_TRACKER_NONE);
    CHECK_EQ(collect(tracker, part[1]), cut[2] - cut[1]);
    CHECK_EQ(collect(tracker, part[1]), 0);
    CHECK_EQ(collect(tracker, part[0]), cut[1]);
    CHECK_EQ(collect(tracker, part[2]), cut[3] - cut[2]);
    CHECK_EQ(collect(tracker, part[2]), 0);

    /* The halves of two pages wait in the tracker while their pages are clean in the kernel. */
    for (int i = 0; i < 3; i++) {
        iova_bitmap_reset(part[i], NULL);
    }
    memory[2 * page] = 2;
    memory[5 * page] = 2;
    CHECK_EQ(collect(tracker, part[1]), page - 10 + 20);
    CHECK_EQ(collect(tracker, part[2]), page - 20);
    iova_write_tracker_stop(tracker);
    CHECK_EQ(iova_write_tracker_start(tracker), 0); /* not lost by a restart */
    CHECK_EQ(collect(tracker, part[0]), 10);
    CHECK_EQ(collect(tracker, part[0]), 0);
    for (int i = 0; i < 4; i++) {
        drop(part[i], bits[i]);
    }
    iova_write_tracker_free(tracker);
    munmap(memory, size);
}

/* Delivers as many pins as its context says, then fails. */
static int64_t fault_pin(void *context, uintptr_t address, uint64_t npages,
                         enum iova_bitmap_access access)
{
    int64_t *good = context;
    (void)address;
    (void)access;
    return (*good)-- > 0 ? (int64_t)npages : -ENOMEM;
}

static void fault_unpin(void *context, uintptr_t address, uint64_t npages)
{
    (void)context;
    (void)address;
    (void)npages;
}

/* A bitmap of single bytes, each of its host pages a pin: many failures, and at the end all is
 * marked, each page once. */
static void test_pin_fails(void)
{
    static const struct iova_bitmap_pin_ops ops = {.pin = fault_pin, .unpin = fault_unpin};
    int64_t good = 0;
    const struct iova_bitmap_options options = {
        .window_pages = 1, .pin = &ops, .pin_context = &good};
    const uint64_t npages = 64;
    const uint64_t base = 5000;
    uint8_t *memory = map(npages);
    uint8_t *bits;
    struct iova_write_tracker *tracker = started(memory, npages * page, base);
    struct iova_bitmap *into = bitmap(base, npages * page, 1, &options, &bits);
    struct iova_bitmap_report report;
    uint64_t marked = 0;
    int rc;

    for (uint64_t i = 1; i < npages; i += 2) {
        memory[i * page] = 1;
    }
    good = 2;
    rc = iova_write_tracker_collect(tracker, into, NULL, &report);
    CHECK_EQ(rc, -ENOMEM);
    CHECK_EQ(iova_write_tracker_step(tracker), IOVA_WRITE_TRACKER_MARK);
    CHECK(report.pages > 0 && report.pages < npages / 2 * page, "%" PRIu64, report.pages);
    CHECK_EQ(report.iova + report.length, base + npages * page);
    marked = report.pages;
    for (uint64_t at = base; at < report.iova; at += 500) { /* all before it is there */
        good = 1;
        CHECK_EQ(iova_bitmap_test(into, at), (at - base) / page % 2);
    }

    /* Kept ranges come first; where they fail, nothing of what the kernel knows is answered. */
    memory[0] = 1;
    good = 0;
    iova_bitmap_release(into);
    CHECK_EQ(iova_write_tracker_collect(tracker, into, NULL, &report), -ENOMEM);
    CHECK_EQ(report.pages, 0);
    CHECK_EQ(report.iova, base);
    CHECK_EQ(report.length, npages * page);

    /* An end after all, one more pin delivered each time. */
    for (int64_t more = 1; rc != 0 && more < 100; more++) {
        good = more;
        rc = iova_write_tracker_collect(tracker, into, NULL, &report);
        marked += report.pages;
    }
    CHECK_EQ(rc, 0);
    CHECK_EQ(marked, (npages / 2 + 1) * page);
    good = 1000;
    CHECK_EQ(collect(tracker, into), 0);
    CHECK_EQ(iova_bitmap_count(into, base, npages * page, 0, &report), 0);
    CHECK_EQ(report.pages, marked);
    drop(into, bits);
    iova_write_tracker_free(tracker);
    munmap(memory, npages * page);
}

/* A hole in the tracked memory ends the scan: what was not scanned counts as written. */
static void test_scan_fails(void)
{
    const uint64_t npages = 10;
    uint8_t *memory = map(npages);
    uint8_t *bits;
    struct iova_write_tracker *tracker = started(memory, npages * page, 0);
    struct iova_bitmap *into = bitmap(0, npages * page, page, NULL, &bits);
    struct iova_bitmap_report report;

    memory[0] = 1;
    void *anew = mmap(memory + 4 * page, page, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    CHECK(anew == memory + 4 * page, "mmap: %s", strerror(errno));
    CHECK_EQ(iova_write_tracker_collect(tracker, into, NULL, &report), -EPERM);
    CHECK_EQ(report.pages, 0);
    CHECK_EQ(report.iova, 0);
    CHECK_EQ(report.length, npages * page);
    CHECK_EQ(iova_write_tracker_collect(tracker, into, NULL, &report), -EPERM); /* again, but: */
    CHECK_EQ(report.pages, npages);
    drop(into, bits);
    iova_write_tracker_free(tracker);
    munmap(memory, npages * page);
}

static void test_errors(void)
{
    uint8_t *memory = map(4);
    uint8_t *bits;
    struct iova_write_tracker *tracker = NULL;
    struct iova_bitmap *into = bitmap(0, 4 * page, page, NULL, &bits);
    struct iova_bitmap_report report;

    CHECK_EQ(iova_write_tracker_new(NULL, page, 0, page, &tracker), -EFAULT);
    CHECK_EQ(iova_write_tracker_new(memory, 0, 0, page, &tracker), -EINVAL);
    CHECK_EQ(iova_write_tracker_new(memory, page, 0, 0, &tracker), -EINVAL);
    CHECK_EQ(iova_write_tracker_new(memory, page, 0, page / 2, &tracker), -EINVAL);
    CHECK_EQ(iova_write_tracker_new(memory, page, 0, 3 * page, &tracker), -EINVAL);
    CHECK_EQ(iova_write_tracker_new(memory, 2, UINT64_MAX, page, &tracker), -EOVERFLOW);
    CHECK_EQ(iova_write_tracker_new(memory, UINT64_MAX, 0, page, &tracker), -EOVERFLOW);
    CHECK_EQ(iova_write_tracker_new((void *)(UINTPTR_MAX - page), page, 0, page, &tracker),
             -EOVERFLOW);
    CHECK(tracker == NULL, "made in spite of an error");

    CHECK_EQ(iova_write_tracker_new(memory, 4 * page, 0, page, &tracker), 0);
    CHECK_EQ(iova_write_tracker_collect(tracker, into, NULL, &report), -EBADF);
    CHECK_EQ(iova_write_tracker_step(tracker), IOVA_WRITE_TRACKER_OWNER);
    iova_write_tracker_stop(tracker);
    CHECK_EQ(iova_write_tracker_start(tracker), 0);
    memory[0] = 1;
    CHECK_EQ(iova_write_tracker_start(tracker), 0); /* arms nothing anew */
    CHECK_EQ(collect(tracker, into), 1);

    struct iova_write_tracker *second = NULL;
    CHECK_EQ(iova_write_tracker_new(memory + page, 10, 0, page, &second), 0);
    CHECK_EQ(iova_write_tracker_start(second), -EBUSY);
    CHECK_EQ(iova_write_tracker_step(second), IOVA_WRITE_TRACKER_REGISTER);
    iova_write_tracker_free(tracker); /* stops it */
    CHECK_EQ(iova_write_tracker_start(second), 0);
    iova_write_tracker_stop(second);
    iova_write_tracker_stop(second); /* does nothing */
    CHECK_EQ(iova_write_tracker_collect(second, into, NULL, &report), -EBADF);
    iova_write_tracker_free(second);
    iova_write_tracker_free(NULL);
    drop(into, bits);
    munmap(memory, 4 * page);
}

int main(void)
{
    page = iova_bitmap_host_page_size();
    skip_where_impossible();
    test_exact();
    test_unaligned();
    test_parts();
    test_pin_fails();
    test_scan_fails();
    test_errors();
    return check_result();
}

#else

#include "check.h"

int main(void)
{
    check_skip("the write tracker needs Linux");
}

#endif
