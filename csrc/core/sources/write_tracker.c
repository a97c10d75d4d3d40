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

#include "core/bitmap/bitmap.h"
#include "core/sources/range_set.h"
#include "core/sources/write_protect.h"

/* Ranges of one batch: several scans, so that a caller which lets others run around them does not
 * do so for each 512 ranges. */
enum { BATCH = 16 * IOVA_WRITE_PROTECT_BATCH };

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

    size_t nbatch; /* of the ranges taken last */
    struct iova_range batch[BATCH];
};

/* One collect. */
struct collect {
    struct iova_write_tracker *tracker;
    struct iova_bitmap *bitmap;
    struct iova_bitmap_report *report;
    struct iova_range covered; /* by buffer and bitmap both */
    struct iova_pages todo;    /* not scanned yet */
    bool scanning;             /* all that was kept is marked */
    uint64_t answered_to;      /* the first address of `covered` that has no answer yet */
};

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
    made->protect = (struct iova_write_protect){.faults = -1, .pagemap = -1};
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

/* Asks the kernel until the batch is full or all is scanned. 0, or the error of a scan. */
static int scan(struct collect *collect)
{
    struct iova_write_tracker *tracker = collect->tracker;
    struct iova_pages found[IOVA_WRITE_PROTECT_BATCH];

    tracker->nbatch = 0;
    while (collect->todo.start < collect->todo.end &&
           tracker->nbatch + IOVA_WRITE_PROTECT_BATCH <= BATCH) {
        int n = iova_write_protect_scan(&tracker->protect, &collect->todo, found);
        if (n < 0) {
            /* Any of it may be armed again by now, so all of it counts as written. */
            struct iova_range rest = range_of(tracker, collect->todo);
            iova_range_set_add(&tracker->kept, rest.first, rest.last);
            return n;
        }
        for (int i = 0; i < n; i++) {
            tracker->batch[tracker->nbatch++] = range_of(tracker, found[i]);
        }
    }
    return 0;
}

/* Takes the next batch. What earlier collects kept comes first: until that is marked, nothing of
 * what the kernel knows is answered. */
static int take_batch(struct collect *collect, const struct iova_write_tracker_hooks *hooks)
{
    struct iova_write_tracker *tracker = collect->tracker;

    if (!collect->scanning) {
        tracker->nbatch = iova_range_set_take(&tracker->kept, collect->covered.first,
                                              collect->covered.last, tracker->batch, BATCH);
        collect->scanning = tracker->nbatch == 0;
    }
    if (!collect->scanning) {
        return 0;
    }
    if (hooks->before_scan != NULL) {
        hooks->before_scan(hooks->context);
    }
    int rc = scan(collect);
    if (hooks->after_scan != NULL) {
        hooks->after_scan(hooks->context);
    }
    return rc;
}

/* Keeps the part of `range` before and behind what is covered, and cuts it off. False if that was
 * all. */
static bool keep_outside(struct iova_range_set *kept, struct iova_range covered,
                         struct iova_range *range)
{
    if (range->first < covered.first) {
        iova_range_set_add(kept, range->first, min64(range->last, covered.first - 1));
        range->first = covered.first;
    }
    if (range->last > covered.last) {
        iova_range_set_add(kept, max64(range->first, covered.last + 1), range->last);
        range->last = covered.last;
    }
    return range->first <= range->last;
}

/* Marks the batch, and keeps what the bitmap does not take. 0, or the bitmap's error. */
static int mark_batch(struct collect *collect)
{
    struct iova_write_tracker *tracker = collect->tracker;
    int rc = 0;

    for (size_t i = 0; i < tracker->nbatch; i++) {
        struct iova_range range = tracker->batch[i];
        struct iova_bitmap_report done;

        if (rc == 0) {
            if (!keep_outside(&tracker->kept, collect->covered, &range)) {
                continue;
            }
            rc = iova_bitmap_set(collect->bitmap, range.first, range.last - range.first + 1,
                                 IOVA_BITMAP_COUNT, &done);
            collect->report->pages += done.pages;
            if (rc == 0) {
                continue;
            }
            range.first = max64(range.first, done.iova);
            collect->answered_to = collect->scanning ? range.first : collect->covered.first;
        }
        iova_range_set_add(&tracker->kept, range.first, range.last);
    }
    return rc;
}

/* One batch: 0, or an error and what failed in tracker->step. */
static int next_batch(struct collect *collect, const struct iova_write_tracker_hooks *hooks)
{
    struct iova_write_tracker *tracker = collect->tracker;

    tracker->step = IOVA_WRITE_TRACKER_POLL;
    if (hooks->poll != NULL && hooks->poll(hooks->context) != 0) {
        return -EINTR;
    }
    tracker->step = IOVA_WRITE_TRACKER_SCAN;
    int rc = iova_range_set_reserve(&tracker->kept, BATCH + BATCH_EXTRA);
    if (rc < 0) {
        return rc;
    }
    rc = take_batch(collect, hooks);
    int marked = mark_batch(collect);
    if (marked < 0) {
        tracker->step = IOVA_WRITE_TRACKER_MARK;
        return marked;
    }
    if (collect->todo.start < collect->todo.end) {
        collect->answered_to =
            max64(collect->covered.first, range_of(tracker, collect->todo).first);
    }
    return rc;
}

int iova_write_tracker_collect(struct iova_write_tracker *tracker, struct iova_bitmap *bitmap,
                               const struct iova_write_tracker_hooks *hooks,
                               struct iova_bitmap_report *report)
{
    static const struct iova_write_tracker_hooks none;
    const struct iova_bitmap_geometry *geometry = iova_bitmap_geometry(bitmap);
    struct iova_bitmap_report unread;
    struct collect collect = {
        .tracker = tracker,
        .bitmap = bitmap,
        .report = report != NULL ? report : &unread,
        .covered.first = max64(tracker->iova, geometry->iova),
        .covered.last = min64(last_iova(tracker), geometry->last),
    };
    int rc = 0;

    *collect.report = (struct iova_bitmap_report){0};
    tracker->step = IOVA_WRITE_TRACKER_OWNER;
    if (!iova_write_tracker_started(tracker)) {
        return tracker->protect.faults < 0 ? -EBADF : -ECHILD;
    }
    tracker->step = IOVA_WRITE_TRACKER_NONE;
    if (collect.covered.first > collect.covered.last) {
        return 0;
    }
    collect.answered_to = collect.covered.first;
    collect.todo = pages_of(tracker, collect.covered.first - tracker->iova,
                            collect.covered.last - tracker->iova);
    while (rc == 0 && collect.todo.start < collect.todo.end) {
        rc = next_batch(&collect, hooks != NULL ? hooks : &none);
    }
    if (rc < 0) {
        collect.report->iova = collect.answered_to;
        collect.report->length = collect.covered.last - collect.answered_to + 1;
    } else {
        tracker->step = IOVA_WRITE_TRACKER_NONE;
    }
    return rc;
}
