/*
 * write_tracker.c - from pages of memory to marks in a bitmap: what a bitmap covers, batches, and
 * what is kept for later. The system calls are write_protect.h's.
 *
 * The one rule: a scan makes the kernel forget, so from then on each page it told is in the batch,
 * in `kept`, or marked. Room for the worst case is reserved before the scan.
 */
#include "core/sources/write_tracker.h"

#include <errno.h>
#include <stdlib.h>

#include "core/sources/range_set.h"
#include "core/sources/write_protect.h"

/* Ranges of one batch: several scans, so that a caller which unlocks something around
 * iova_write_tracker_scan() does not do so for each 512 ranges. */
enum { BATCH = 16 * 512 };

/* What a batch can add to `kept` beyond its own number: a piece before and one behind the bitmap's
 * range, the rest of a failed scan, and what take() may split. */
enum { BATCH_EXTRA = 4 };

struct iova_write_tracker {
    uintptr_t address;
    uint64_t size;
    uint64_t iova;
    uint64_t granularity;
    struct iova_write_protect protect;
    enum iova_write_tracker_step step;
    struct iova_range_set kept;

    /* One collect. */
    bool overlaps;             /* the bitmap covers something */
    bool scanned;              /* the kernel was asked: all that was kept is marked */
    struct iova_range covered; /* by buffer and bitmap both, meaningless without overlap */
    struct iova_pages todo;    /* not scanned yet */
    int error;                 /* of the scan, for the call after the batch it still filled */
    uint64_t pages;
    bool failed;
    uint64_t failed_first;
    size_t nbatch;
    struct iova_range batch[BATCH];
};

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t last_iova(const struct iova_write_tracker *tracker)
{
    return tracker->iova + (tracker->size - 1);
}

/* The whole pages that hold the bytes at the offsets first to last of the buffer. */
static struct iova_pages pages_of(const struct iova_write_tracker *tracker, uint64_t first,
                                  uint64_t last)
{
    const uintptr_t mask = ~((uintptr_t)tracker->granularity - 1);
    struct iova_pages pages;

    pages.start = (tracker->address + (uintptr_t)first) & mask;
    pages.end = ((tracker->address + (uintptr_t)last) & mask) + (uintptr_t)tracker->granularity;
    return pages;
}

/* The bytes of the buffer in `pages`, which hold at least one. */
static struct iova_range range_of(const struct iova_write_tracker *tracker, struct iova_pages pages)
{
    const uintptr_t end = tracker->address + (uintptr_t)tracker->size;
    const uintptr_t first = pages.start > tracker->address ? pages.start : tracker->address;
    const uintptr_t last = (pages.end < end ? pages.end : end) - 1;
    struct iova_range range;

    range.first = tracker->iova + (first - tracker->address);
    range.last = tracker->iova + (last - tracker->address);
    return range;
}

int iova_write_tracker_new(void *address, uint64_t size, uint64_t iova, uint64_t granularity,
                           struct iova_write_tracker **tracker)
{
    const uintptr_t start = (uintptr_t)address;

    if (address == NULL) {
        return -EFAULT;
    }
    if (size == 0 || (granularity & (granularity - 1)) != 0 ||
        granularity < iova_bitmap_host_page_size()) {
        return -EINVAL;
    }
    /* The pages' end must be an address too, so the last page of all is not for us. */
    if (iova + (size - 1) < iova || granularity > UINTPTR_MAX ||
        size > UINTPTR_MAX - (uintptr_t)granularity ||
        start > UINTPTR_MAX - (uintptr_t)granularity - (uintptr_t)size) {
        return -EOVERFLOW;
    }
    struct iova_write_tracker *made = calloc(1, sizeof(*made));
    if (made == NULL) {
        return -ENOMEM;
    }
    made->address = start;
    made->size = size;
    made->iova = iova;
    made->granularity = granularity;
    made->protect.faults = -1;
    made->protect.pagemap = -1;
    *tracker = made;
    return 0;
}

void iova_write_tracker_free(struct iova_write_tracker *tracker)
{
    if (tracker != NULL) {
        iova_write_tracker_stop(tracker);
        iova_range_set_free(&tracker->kept);
        free(tracker);
    }
}

int iova_write_tracker_start(struct iova_write_tracker *tracker)
{
    if (iova_write_tracker_started(tracker)) {
        return 0;
    }
    iova_write_tracker_stop(tracker); /* descriptors that came through fork() */
    return iova_write_protect_open(&tracker->protect, pages_of(tracker, 0, tracker->size - 1),
                                   &tracker->step);
}

enum iova_write_tracker_step iova_write_tracker_step(const struct iova_write_tracker *tracker)
{
    return tracker->step;
}

void iova_write_tracker_stop(struct iova_write_tracker *tracker)
{
    if (tracker->protect.faults >= 0) {
        iova_write_protect_close(&tracker->protect, pages_of(tracker, 0, tracker->size - 1));
    }
}

bool iova_write_tracker_started(const struct iova_write_tracker *tracker)
{
    return iova_write_protect_is_owner(&tracker->protect);
}

/* Everything of the covered range from `first` on is not answered. */
static void fail(struct iova_write_tracker *tracker, uint64_t first)
{
    tracker->failed = true;
    tracker->failed_first = max_u64(first, tracker->covered.first);
}

int iova_write_tracker_begin(struct iova_write_tracker *tracker, const struct iova_bitmap *bitmap)
{
    const struct iova_bitmap_geometry *geometry = iova_bitmap_geometry(bitmap);

    if (!iova_write_tracker_started(tracker)) {
        return tracker->protect.faults < 0 ? -EBADF : -ECHILD;
    }
    tracker->covered.first = max_u64(tracker->iova, geometry->iova);
    tracker->covered.last = min_u64(last_iova(tracker), geometry->last);
    tracker->overlaps = tracker->covered.first <= tracker->covered.last;
    if (tracker->overlaps) {
        tracker->todo = pages_of(tracker, tracker->covered.first - tracker->iova,
                                 tracker->covered.last - tracker->iova);
    }
    tracker->scanned = false;
    tracker->error = 0;
    tracker->pages = 0;
    tracker->failed = false;
    tracker->nbatch = 0;
    return 0;
}

/* Asks the kernel until the batch is full or all is scanned. */
static void fill_batch(struct iova_write_tracker *tracker)
{
    struct iova_pages found[IOVA_WRITE_PROTECT_BATCH];

    while (tracker->todo.start < tracker->todo.end &&
           tracker->nbatch + IOVA_WRITE_PROTECT_BATCH <= BATCH) {
        int n = iova_write_protect_scan(&tracker->protect, &tracker->todo, found);
        if (n < 0) {
            /* Any of it may be armed again by now, so all of it counts as written. */
            struct iova_range rest = range_of(tracker, tracker->todo);
            iova_range_set_add(&tracker->kept, rest.first, rest.last);
            fail(tracker, rest.first);
            tracker->todo.start = tracker->todo.end;
            tracker->error = n;
            return;
        }
        for (int i = 0; i < n; i++) {
            tracker->batch[tracker->nbatch++] = range_of(tracker, found[i]);
        }
    }
}

int iova_write_tracker_scan(struct iova_write_tracker *tracker)
{
    tracker->nbatch = 0;
    if (!tracker->overlaps || (tracker->scanned && tracker->todo.start >= tracker->todo.end)) {
        return tracker->error;
    }
    int rc = iova_range_set_reserve(&tracker->kept, BATCH + BATCH_EXTRA);
    if (rc < 0) {
        fail(tracker, tracker->scanned ? range_of(tracker, tracker->todo).first : 0);
        return rc;
    }
    if (!tracker->scanned) {
        tracker->nbatch = iova_range_set_take(&tracker->kept, tracker->covered.first,
                                              tracker->covered.last, tracker->batch, BATCH);
        if (tracker->nbatch > 0) {
            return (int)tracker->nbatch;
        }
        tracker->scanned = true;
    }
    fill_batch(tracker);
    return tracker->nbatch > 0 ? (int)tracker->nbatch : tracker->error;
}

/* Keeps the part of `range` before and behind what is covered, and cuts it off. False where that
 * was all. */
static bool keep_outside(struct iova_write_tracker *tracker, struct iova_range *range)
{
    const struct iova_range covered = tracker->covered;

    if (range->first < covered.first) {
        iova_range_set_add(&tracker->kept, range->first, min_u64(range->last, covered.first - 1));
        range->first = covered.first;
    }
    if (range->last > covered.last) {
        iova_range_set_add(&tracker->kept, max_u64(range->first, covered.last + 1), range->last);
        range->last = covered.last;
    }
    return range->first <= range->last;
}

int iova_write_tracker_mark(struct iova_write_tracker *tracker, struct iova_bitmap *bitmap)
{
    int rc = 0;

    for (size_t i = 0; i < tracker->nbatch; i++) {
        struct iova_range range = tracker->batch[i];
        struct iova_bitmap_report done = {0};

        if (rc == 0) {
            if (!keep_outside(tracker, &range)) {
                continue;
            }
            rc = iova_bitmap_set(bitmap, range.first, range.last - range.first + 1,
                                 IOVA_BITMAP_COUNT, &done);
            tracker->pages += done.pages;
            if (rc == 0) {
                continue;
            }
            /* Kept ranges come before the scan: of what the kernel knows, nothing is marked yet. */
            fail(tracker, tracker->scanned ? done.iova : 0);
            range.first = max_u64(range.first, done.iova);
        }
        iova_range_set_add(&tracker->kept, range.first, range.last);
    }
    tracker->nbatch = 0;
    return rc;
}

void iova_write_tracker_report(const struct iova_write_tracker *tracker,
                               struct iova_bitmap_report *report)
{
    report->pages = tracker->pages;
    report->iova = tracker->failed ? tracker->failed_first : 0;
    report->length = tracker->failed ? tracker->covered.last - tracker->failed_first + 1 : 0;
}

int iova_write_tracker_collect(struct iova_write_tracker *tracker, struct iova_bitmap *bitmap,
                               struct iova_bitmap_report *report)
{
    int rc = iova_write_tracker_begin(tracker, bitmap);

    if (rc < 0) {
        *report = (struct iova_bitmap_report){0};
        return rc;
    }
    while ((rc = iova_write_tracker_scan(tracker)) > 0) {
        rc = iova_write_tracker_mark(tracker, bitmap);
        if (rc < 0) {
            break;
        }
    }
    iova_write_tracker_report(tracker, report);
    return rc;
}
