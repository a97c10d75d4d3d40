/*
 * test_refused.c - what the system may refuse or not have: each call that protects pages or makes
 * them present fails in turn. There is an errno that says why, and nothing is left open. And edges
 * of what a write tracker keeps.
 */
#ifdef __linux__

#include "core/sources/write_tracker.h"
#include "iova_bitmap.h"
#include "system_calls.h"

static void test_tracker(void)
{
    uint8_t *memory = map(MAP_PRIVATE | MAP_ANONYMOUS, -1);
    struct iova_write_tracker *tracker = NULL;
    const int before = descriptors();

    CHECK_EQ(iova_write_tracker_new(memory, PAGES * page, 0, page, &tracker), 0);
    if (iova_write_tracker_start(tracker) < 0) {
        iova_write_tracker_free(tracker);
        munmap(memory, PAGES * page);
        return; /* not on this kernel */
    }
    iova_write_tracker_stop(tracker);
    const struct {
        struct fault_plan plan;
        enum iova_write_tracker_step step;
    } failures[] = {
        {{"syscall", NULL, 0, 0, ENOSYS}, IOVA_WRITE_TRACKER_USERFAULTFD},
        {{"ioctl", NULL, 0, 1, EINVAL}, IOVA_WRITE_TRACKER_API},
        {{"open", "/proc/self/pagemap", 0, 0, EACCES}, IOVA_WRITE_TRACKER_PAGEMAP},
        {{"ioctl", NULL, 1, 1, EBUSY}, IOVA_WRITE_TRACKER_REGISTER},
        {{"ioctl", NULL, 2, 1, ENOENT}, IOVA_WRITE_TRACKER_ARM},
    };
    for (unsigned i = 0; i < 5; i++) {
        fault_make(failures[i].plan);
        CHECK_EQ(iova_write_tracker_start(tracker), -failures[i].plan.error);
        CHECK_EQ(fault_hits, 1);
        fault_none();
        CHECK_EQ(iova_write_tracker_step(tracker), failures[i].step);
        CHECK(!iova_write_tracker_started(tracker), "started");
        CHECK_EQ(descriptors(), before);
    }
    /* What a failed start registered is free for the next one, and a start that works. */
    CHECK_EQ(iova_write_tracker_start(tracker), 0);
    CHECK_EQ(iova_write_tracker_step(tracker), IOVA_WRITE_TRACKER_NONE);
    CHECK_EQ(descriptors(), before + 2);
    iova_write_tracker_stop(tracker);

    /* The system call is forbidden, but the device is there. */
    plan("syscall", NULL, 0, 0, EPERM);
    CHECK_EQ(iova_write_tracker_start(tracker), 0);
    CHECK(userfaultfd_flags & O_CLOEXEC, "flags 0x%x", (unsigned)userfaultfd_flags);
    CHECK_EQ(descriptors(), before + 2);
    iova_write_tracker_free(tracker);
    CHECK_EQ(descriptors(), before);
    munmap(memory, PAGES * page);
}

static uint64_t wrong_end, wrong_region;
static int wrong_count;

static int answer_wrong(uint64_t *words)
{
    uint64_t *regions = (uint64_t *)(uintptr_t)words[5]; /* vec */

    words[4] = words[2] + wrong_end; /* walk_end = start + ... */
    regions[0] = words[2] + wrong_region;
    regions[1] = regions[0] + page;
    return wrong_count;
}

/* Answers to a scan that cannot be, as of an emulator that does not know the call. The scan is not
 * repeated, and what it may have protected again counts as written. */
static void test_impossible_answers(void)
{
    uint8_t *memory = map(MAP_PRIVATE | MAP_ANONYMOUS, -1);
    const struct {
        uint64_t end, region;
        int count;
    } answers[] = {
        {0, 0, 0},                          /* no step forward */
        {PAGES * page + page, 0, 0},        /* beyond the end */
        {PAGES * page, PAGES * page, 1},    /* a region there */
        {PAGES * page, (uint64_t)-page, 1}, /* and one before the start */
        {PAGES * page, 0, 513},             /* more than there is room for */
        {0, 0, 1},                          /* a region behind what was scanned */
    };
    static uint8_t bits[PAGES / 8 + 1];
    struct iova_write_tracker *tracker = NULL;
    struct iova_bitmap_report report;
    struct iova_bitmap *into = NULL;

    CHECK_EQ(iova_write_tracker_new(memory, PAGES * page, 0, page, &tracker), 0);
    CHECK_EQ(iova_bitmap_alloc(0, PAGES * page, page, bits, sizeof(bits), NULL, &into), 0);
    if (iova_write_tracker_start(tracker) == 0) {
        for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
            wrong_end = answers[i].end;
            wrong_region = answers[i].region;
            wrong_count = answers[i].count;
            answer_scan = answer_wrong;
            CHECK_EQ(iova_write_tracker_collect(tracker, into, NULL, &report), -EIO);
            CHECK_EQ(iova_write_tracker_step(tracker), IOVA_WRITE_TRACKER_SCAN);
            CHECK_EQ(report.iova, 0);
            CHECK_EQ(report.length, PAGES * page);
            CHECK_EQ(report.pages, 0);
            answer_scan = NULL;
            CHECK_EQ(iova_write_tracker_collect(tracker, into, NULL, &report), 0);
            CHECK_EQ(report.pages, PAGES);
            CHECK_EQ(iova_bitmap_reset(into, &report), 0);
        }
    }
    iova_write_tracker_free(tracker);
    iova_bitmap_free(into);
    munmap(memory, PAGES * page);
}

/* The system call is forbidden, and the device is not there, or refuses. */
static void test_device(void)
{
    uint8_t *memory = map(MAP_PRIVATE | MAP_ANONYMOUS, -1);
    struct iova_write_tracker *tracker = NULL;
    const int before = descriptors();

    CHECK_EQ(iova_write_tracker_new(memory, PAGES * page, 0, page, &tracker), 0);
    plan("syscall", NULL, 0, 0, EPERM);
    device_missing = true;
    CHECK_EQ(iova_write_tracker_start(tracker), -EPERM);
    device_missing = false;
    device_refuses = true;
    CHECK_EQ(iova_write_tracker_start(tracker), -EINVAL);
    device_refuses = false;
    fault_none();
    CHECK_EQ(descriptors(), before);
    iova_write_tracker_free(tracker);
    munmap(memory, PAGES * page);
}

/* One of the two descriptors is 0, or both are not. */
static void test_tracker_0(void)
{
    uint8_t *memory = map(MAP_PRIVATE | MAP_ANONYMOUS, -1);
    static uint8_t bits[PAGES / 8 + 1];
    struct iova_write_tracker *tracker = NULL;
    struct iova_bitmap_report report;
    struct iova_bitmap *into = NULL;
    const int kept = dup(0);

    close(0);
    CHECK_EQ(iova_write_tracker_new(memory, PAGES * page, 0, page, &tracker), 0);
    CHECK_EQ(iova_bitmap_alloc(0, PAGES * page, page, bits, sizeof(bits), NULL, &into), 0);
    for (int high = 0; high <= 1; high++) {
        high_userfaultfd = high;
        const int before = descriptors();
        if (iova_write_tracker_start(tracker) == 0) {
            CHECK(fcntl(0, F_GETFD) >= 0, "0 is free");
            memory[5 * page]++;
            CHECK_EQ(iova_write_tracker_collect(tracker, into, NULL, &report), 0);
            CHECK_EQ(bits[0], 1 << 5);
            iova_write_tracker_stop(tracker);
        }
        CHECK(fcntl(0, F_GETFD) < 0, "0 is still open");
        CHECK_EQ(descriptors(), before);
        /* Nothing but the first of them. */
        plan("open", "/proc/self/pagemap", 0, 0, EACCES);
        CHECK(iova_write_tracker_start(tracker) < 0, "started");
        fault_none();
        CHECK_EQ(descriptors(), before);
    }
    high_userfaultfd = false;
    iova_write_tracker_free(tracker);
    iova_bitmap_free(into);
    if (kept >= 0) {
        CHECK_EQ(dup2(kept, 0), 0);
        close(kept);
    }
    munmap(memory, PAGES * page);
}

/* Pages of the system that are smaller than the granularity: one may lie in a page that a bitmap
 * covers a part of, and outside of that part. It is kept. */
static void test_coarse(void)
{
    uint8_t *all = map(MAP_PRIVATE | MAP_ANONYMOUS, -1);
    uint8_t *memory = all + ((uintptr_t)all % (2 * page) != 0 ? page : 0) + 8 * page;
    static uint8_t bits[1], more_bits[1];
    struct iova_write_tracker *tracker = NULL;
    struct iova_bitmap *half = NULL, *whole = NULL;
    struct iova_bitmap_report report;

    CHECK_EQ(iova_write_tracker_new(memory, 2 * page, 0, 2 * page, &tracker), 0);
    CHECK_EQ(iova_bitmap_alloc(0, page, page, bits, 1, NULL, &half), 0);
    CHECK_EQ(iova_bitmap_alloc(0, 2 * page, page, more_bits, 1, NULL, &whole), 0);
    if (iova_write_tracker_start(tracker) == 0) {
        memory[page] = 1;
        CHECK_EQ(iova_write_tracker_collect(tracker, half, NULL, &report), 0);
        CHECK_EQ(report.pages, 0);
        CHECK_EQ(bits[0], 0);
        CHECK_EQ(iova_write_tracker_collect(tracker, whole, NULL, &report), 0);
        CHECK_EQ(more_bits[0], 2);
    }
    iova_write_tracker_free(tracker);
    iova_bitmap_free(half);
    iova_bitmap_free(whole);
    munmap(all, PAGES * page);
}

/* A bitmap that covers a half of a page: the other half is kept, and no byte of this one. */
static void test_halves(uint64_t from)
{
    uint8_t *memory = map(MAP_PRIVATE | MAP_ANONYMOUS, -1);
    static uint8_t bits[1], others[1];
    struct iova_write_tracker *tracker = NULL;
    struct iova_bitmap *here = NULL, *there = NULL;
    struct iova_bitmap_report report;

    CHECK_EQ(iova_write_tracker_new(memory, page, 0, page, &tracker), 0);
    CHECK_EQ(iova_bitmap_alloc(from, page / 2, page, bits, 1, NULL, &here), 0);
    CHECK_EQ(iova_bitmap_alloc(page / 2 - from, page / 2, page, others, 1, NULL, &there), 0);
    if (iova_write_tracker_start(tracker) == 0) {
        memory[9] = 1;
        for (unsigned round = 0; round < 3; round++) {
            bits[0] = 0;
            CHECK_EQ(iova_write_tracker_collect(tracker, here, NULL, &report), 0);
            CHECK_EQ(bits[0], round == 0);
        }
        CHECK_EQ(iova_write_tracker_collect(tracker, there, NULL, &report), 0);
        CHECK_EQ(others[0], 1);
        others[0] = 0;
        CHECK_EQ(iova_write_tracker_collect(tracker, there, NULL, &report), 0);
        CHECK_EQ(others[0], 0);
    }
    iova_write_tracker_free(tracker);
    iova_bitmap_free(here);
    iova_bitmap_free(there);
    munmap(memory, PAGES * page);
}

/* --- populate ------------------------------------------------------------------------------ */

static void test_populate(void)
{
    const struct iova_bitmap_pin_ops *ops = NULL;
    uint8_t *memory = map(MAP_PRIVATE | MAP_ANONYMOUS, -1);
    const uintptr_t address = (uintptr_t)memory;

    if (iova_bitmap_pin_backend("populate", &ops) == 0) {
        plan("madvise", NULL, 0, 3, EINTR); /* a signal: it is asked again */
        CHECK_EQ(ops->pin(NULL, address, PAGES, IOVA_BITMAP_WRITE), PAGES);
        CHECK_EQ(fault_hits, 3);
        CHECK_EQ(fault_seen, 4);
        plan("madvise", NULL, 0, 0, ENOMEM);
        CHECK_EQ(ops->pin(NULL, address, PAGES, IOVA_BITMAP_WRITE), -ENOMEM);
    }
    plan("madvise", NULL, 0, 0, EINVAL); /* before Linux 5.14 */
    CHECK_EQ(iova_bitmap_pin_backend("populate", &ops), -ENOTSUP);
    plan("madvise", NULL, 0, 0, 0); /* an emulator that takes any advice, and follows none */
    CHECK_EQ(iova_bitmap_pin_backend("populate", &ops), -ENOTSUP);
    fault_none();
    munmap(memory, PAGES * page);
}

int main(void)
{
    page = iova_bitmap_host_page_size();
    test_tracker();
    test_device();
    test_impossible_answers();
    test_tracker_0();
    test_coarse();
    test_halves(0);
    test_halves(page / 2);
    test_populate();
    return check_result();
}

#else

#include "check.h"

int main(void)
{
    check_skip("these are Linux's system calls");
}

#endif
