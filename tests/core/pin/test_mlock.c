/*
 * test_pin_mlock.c - the backend "mlock": the locked pages are those of all present windows, never
 * more and never fewer, also where windows of several bitmaps overlap; and what RLIMIT_MEMLOCK
 * refuses is an error with all before it done. Also what all backends share: their names, and the
 * search for the good pages before the first bad one.
 */
#include <errno.h>
#include <string.h>

#include "area.h"
#include "check.h"
#include "core/pin/pin.h"

static uint64_t page;

static void test_names(void)
{
    const char *const known[] = {"none", "populate", "mlock"};
    const char *const unknown[] = {"", "None", "mlock ", "mloc", "populates", "pin"};
    const struct iova_bitmap_pin_ops *ops;

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        ops = NULL;
        int rc = iova_bitmap_pin_backend(known[i], &ops);
        CHECK(rc == 0 || (rc == -ENOTSUP && i > 0), "%s: %d", known[i], rc);
        CHECK((ops != NULL) == (rc == 0), "%s", known[i]);
    }
    for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
        CHECK_EQ(iova_bitmap_pin_backend(unknown[i], &ops), -EINVAL);
    }
}

static uint64_t first_bad; /* page number; pages are at addresses from 0 on */

/* Fails for many pages in another way than for a single one. */
static int attempt(uintptr_t address, uint64_t npages, enum iova_bitmap_access access)
{
    (void)access;
    if (address / page + npages <= first_bad) {
        return 0;
    }
    return npages > 1 ? -EAGAIN : -ENOMEM;
}

static void test_prefix(void)
{
    for (uint64_t npages = 1; npages < 40; npages++) {
        for (first_bad = 0; first_bad <= npages; first_bad++) {
            CHECK_EQ(iova_pin_longest_prefix(attempt, 0, npages, IOVA_BITMAP_WRITE),
                     first_bad > 0 ? (int64_t)first_bad : -ENOMEM);
        }
    }
}

#ifdef __linux__

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct iova_bitmap_pin_ops *mlock_ops;
static bool locks; /* mlock does lock: sanitizers make it do nothing */

/* Which pages of the area are locked, from the system's own list of mappings. */
static void find_locked(const struct area *area, bool *locked)
{
    FILE *maps = fopen("/proc/self/smaps", "r");
    char line[512];
    uintptr_t start = 0;
    uintptr_t end = 0;

    if (maps == NULL) {
        check_skip("no /proc/self/smaps");
    }
    while (fgets(line, sizeof(line), maps) != NULL) {
        uintptr_t low;
        uintptr_t high;
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &low, &high) == 2) {
            start = low;
            end = high;
        } else if (strncmp(line, "VmFlags:", 8) == 0) {
            for (uint64_t i = 0; i < area->npages; i++) {
                uintptr_t at = (uintptr_t)area->bytes + i * page;
                if (start <= at && at < end) {
                    locked[i] = strstr(line, " lo") != NULL;
                }
            }
        }
    }
    fclose(maps);
}

enum { PAGES = 12, BITMAPS = 3 };

/* The locked pages are those of the present windows of the bitmaps (NULL: it has none). */
static void check_locked(const struct area *area, struct iova_bitmap *const *bitmaps,
                         const uint64_t *offsets)
{
    bool want[PAGES] = {0};
    bool got[PAGES] = {0};

    for (int i = 0; i < BITMAPS; i++) {
        if (bitmaps[i] != NULL) {
            const struct iova_bitmap_window *w = iova_bitmap_present_window(bitmaps[i]);
            for (uint64_t n = 0; n < w->npages; n++) {
                want[(offsets[i] + w->base_index) / page + n] = true;
            }
        }
    }
    find_locked(area, got);
    for (int n = 0; locks && n < PAGES; n++) {
        CHECK(got[n] == want[n], "page %d: locked %d, want %d", n, got[n], want[n]);
    }
}

static struct iova_bitmap *make(const struct area *area, uint64_t offset, uint64_t nbytes,
                                uint64_t window_pages)
{
    const struct iova_bitmap_options options = {.window_pages = window_pages, .pin = mlock_ops};
    struct iova_bitmap *bitmap = NULL;

    CHECK_EQ(iova_bitmap_alloc(0, nbytes * 8, 1, area->bytes + offset, nbytes, &options, &bitmap),
             0);
    return bitmap;
}

/* A (pages 0..3) and B (pages 2..5) overlap; each goes first once. C is inside of both. */
static void test_overlap(void)
{
    struct area area = area_map(PAGES);

    for (int first = 0; first < BITMAPS; first++) {
        const uint64_t offsets[BITMAPS] = {100, 2 * page + 5, 3 * page};
        struct iova_bitmap *bitmaps[BITMAPS] = {make(&area, offsets[0], 4 * page - 100, 4),
                                                make(&area, offsets[1], 4 * page - 5, 4),
                                                make(&area, offsets[2], page, 1)};
        check_locked(&area, bitmaps, offsets);
        for (int i = 0; i < BITMAPS; i++) {
            CHECK_EQ(iova_bitmap_set(bitmaps[i], 8, 1, 0, NULL), 0);
            check_locked(&area, bitmaps, offsets);
        }
        for (int i = 0; i < BITMAPS; i++) { /* reads lock and unlock too */
            struct iova_bitmap_report report;
            CHECK_EQ(iova_bitmap_count(bitmaps[i], 0, page, 0, &report), 0);
            check_locked(&area, bitmaps, offsets);
        }
        for (int i = 0; i < BITMAPS; i++) {
            int n = (first + i) % BITMAPS;
            iova_bitmap_free(bitmaps[n]);
            bitmaps[n] = NULL;
            check_locked(&area, bitmaps, offsets);
        }
    }
    area_unmap(&area);
}

/* A wide window is left while others hold single pages in the middle of it. */
static void test_islands(void)
{
    struct area area = area_map(PAGES);

    for (int order = 0; order < 2; order++) {
        const uint64_t offsets[BITMAPS] = {0, (order ? 7 : 3) * page, (order ? 3 : 7) * page};
        struct iova_bitmap *bitmaps[BITMAPS] = {make(&area, 0, area.size, PAGES),
                                                make(&area, offsets[1], page, 1),
                                                make(&area, offsets[2], page, 1)};
        for (int i = 0; i < BITMAPS; i++) {
            CHECK_EQ(iova_bitmap_set(bitmaps[i], 0, 1, 0, NULL), 0);
        }
        check_locked(&area, bitmaps, offsets);
        for (int i = 0; i < BITMAPS; i++) {
            iova_bitmap_free(bitmaps[i]);
            bitmaps[i] = NULL;
            check_locked(&area, bitmaps, offsets);
        }
    }
    area_unmap(&area);
}

static void test_random_overlap(void)
{
    struct area area = area_map(PAGES);
    uint64_t seed = 31337;
    uint64_t offsets[BITMAPS];
    struct iova_bitmap *bitmaps[BITMAPS] = {NULL};

    for (int step = 0; step < 300; step++) {
        uint64_t i = check_random(&seed) % BITMAPS;
        if (bitmaps[i] == NULL) {
            offsets[i] = check_random(&seed) % (area.size - 1);
            uint64_t nbytes = 1 + check_random(&seed) % (area.size - offsets[i]);
            bitmaps[i] = make(&area, offsets[i], nbytes, 1 + check_random(&seed) % 5);
        } else if (check_random(&seed) % 5 == 0) {
            iova_bitmap_free(bitmaps[i]);
            bitmaps[i] = NULL;
        } else if (check_random(&seed) % 5 == 0) {
            iova_bitmap_release(bitmaps[i]);
        } else {
            uint64_t end = iova_bitmap_geometry(bitmaps[i])->length;
            uint64_t at = check_random(&seed) % end;
            uint64_t length = 1 + check_random(&seed) % (end - at);
            CHECK_EQ(iova_bitmap_set(bitmaps[i], at, length, 0, NULL), 0);
        }
        check_locked(&area, bitmaps, offsets);
    }
    for (int i = 0; i < BITMAPS; i++) {
        iova_bitmap_free(bitmaps[i]);
    }
    area_unmap(&area);
}

/* Memory that is partly gone: the good pages are locked, and only they. */
static void test_hole(void)
{
    struct area area = area_map(PAGES);
    uint64_t offsets[BITMAPS] = {0};
    struct iova_bitmap *bitmaps[BITMAPS] = {make(&area, 0, area.size, 10)};
    struct iova_bitmap_report report;

    for (uint64_t bad = 1; bad < PAGES && locks; bad += 2) {
        area_protect(&area, bad, 1, PROT_NONE);
        CHECK_EQ(iova_bitmap_set(bitmaps[0], 0, area.size * 8, 0, &report), -ENOMEM);
        CHECK_EQ(report.iova, bad * page * 8);
        CHECK_EQ(report.length, (area.size - bad * page) * 8);
        check_locked(&area, bitmaps, offsets);
        CHECK_EQ(iova_bitmap_present_window(bitmaps[0])->npages, 0);
        CHECK_EQ(iova_bitmap_set(bitmaps[0], 0, 1, 0, &report), 0);
        CHECK_EQ(iova_bitmap_present_window(bitmaps[0])->npages, bad < 10 ? bad : 10);
        check_locked(&area, bitmaps, offsets);
        iova_bitmap_release(bitmaps[0]);
        area_protect(&area, bad, 1, PROT_READ | PROT_WRITE);
    }
    iova_bitmap_free(bitmaps[0]);
    area_unmap(&area);
}

/* A child has no lock of its parent's, and unlocks what it locked itself. */
static void test_fork(void)
{
    struct area area = area_map(PAGES);
    const uintptr_t at = (uintptr_t)area.bytes;
    bool locked[PAGES] = {0};
    int status = -1;

    CHECK_EQ(mlock_ops->pin(NULL, at, 3, IOVA_BITMAP_WRITE), 3);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        CHECK_EQ(mlock_ops->pin(NULL, at + page, 4, IOVA_BITMAP_WRITE), 4);
        mlock_ops->unpin(NULL, at + page, 4);
        find_locked(&area, locked);
        for (int n = 0; n < PAGES; n++) {
            CHECK(!locked[n], "page %d is locked in the child", n);
        }
        mlock_ops->unpin(NULL, at, 3); /* its window's end */
        exit(check_failures > 0);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child, "no child");
    CHECK_EQ(status, 0);
    find_locked(&area, locked);
    CHECK(locked[0] && locked[2] && !locked[3], "the parent's");
    mlock_ops->unpin(NULL, at, 3);
    area_unmap(&area);
}

/* At most 4 pages may be locked. In a process of its own, without privileges. */
static void use_limit(void)
{
    const struct rlimit limit = {4 * page, 4 * page};
    struct area area = area_map(PAGES);
    struct area other = area_map(4);
    const uint64_t offsets[BITMAPS] = {0};
    struct iova_bitmap *bitmaps[BITMAPS] = {make(&area, 0, area.size, 8)};
    struct iova_bitmap *holder = make(&other, 0, other.size, 4);
    struct iova_bitmap_report report;

    CHECK_EQ(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
    if (geteuid() == 0) {
        CHECK_EQ(setresuid(65534, 65534, 65534), 0);
    }
    /* Windows of 8 pages become such of 4. */
    CHECK_EQ(iova_bitmap_set(bitmaps[0], 0, area.size * 8, 0, NULL), 0);
    CHECK_EQ(iova_bitmap_stats(bitmaps[0])->moves, 3);
    CHECK_EQ(iova_bitmap_stats(bitmaps[0])->peak_pinned_pages, 4);
    check_locked(&area, bitmaps, offsets);

    /* Another bitmap gets nothing; then what is left, and a read as much again. */
    int rc = iova_bitmap_set(holder, 7, 70, 0, &report);
    CHECK(rc == -ENOMEM || rc == -EAGAIN, "rc %d", rc);
    CHECK_EQ(report.iova, 7);
    CHECK_EQ(report.length, 70);
    CHECK_EQ(report.pages, 0);
    iova_bitmap_release(bitmaps[0]);
    CHECK_EQ(iova_bitmap_set(bitmaps[0], (area.size - page) * 8, 1, 0, NULL), 0);
    CHECK_EQ(iova_bitmap_set(holder, 0, 1, 0, NULL), 0);
    CHECK_EQ(iova_bitmap_present_window(holder)->npages, 3);
    rc = iova_bitmap_count(holder, 0, other.size * 8, 0, &report);
    CHECK(rc == -ENOMEM || rc == -EAGAIN, "rc %d", rc); /* page 3 cannot be had now */
    CHECK_EQ(report.iova, 3 * page * 8);
    CHECK_EQ(report.pages, 1);
    check_locked(&area, bitmaps, offsets);

    /* All before the fault is done; when there is room again, the same call completes. */
    rc = iova_bitmap_set(holder, 5, other.size * 8 - 5, 0, &report);
    CHECK_EQ(rc, 0); /* the window moves: what it held is given back first */
    iova_bitmap_free(holder);
    iova_bitmap_free(bitmaps[0]);
    area_unmap(&area);
    area_unmap(&other);
}

static void test_limit(void)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        use_limit();
        fflush(stdout);
        _exit(check_failures > 0);
    }
    int status = -1;
    CHECK(child > 0 && waitpid(child, &status, 0) == child, "no child");
    CHECK_EQ(status, 0);
}

int main(void)
{
    page = iova_bitmap_host_page_size();
    test_names();
    test_prefix();
    CHECK_EQ(iova_bitmap_pin_backend("mlock", &mlock_ops), 0);

    struct area area = area_map(PAGES);
    bool locked[PAGES] = {0};
    if (mlock(area.bytes, page) != 0) {
        check_skip("mlock is not allowed here");
    }
    find_locked(&area, locked);
    locks = locked[0];
    mlock_ops->unpin(NULL, (uintptr_t)area.bytes, 1); /* of what no bitmap pinned */
    area_unmap(&area);

    test_overlap();
    test_islands();
    test_random_overlap();
    test_hole();
    if (locks) {
        test_fork();
        test_limit();
    }
    return check_result();
}

#else

int main(void)
{
    page = iova_bitmap_host_page_size();
    test_names();
    test_prefix();
    return check_result();
}

#endif
