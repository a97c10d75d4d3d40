/*
 * write_tracker.h - which pages of a buffer of this process were written, marked in a bitmap.
 *
 * Linux 6.7 and later: userfaultfd write-protects the pages and resolves the faults by itself
 * (WP_ASYNC), PAGEMAP_SCAN tells which pages lost their protection and protects them again in the
 * same pass. Elsewhere a tracker can be made, and start returns -ENOTSUP.
 *
 * Byte 0 of the buffer is at `iova`. No write is lost: what the kernel has told, and a bitmap could
 * not take, is kept in the tracker and delivered by a later collect.
 *
 * A tracker is not for use by two threads at once; that is the caller's to see to.
 */
#ifndef IOVA_WRITE_TRACKER_H
#define IOVA_WRITE_TRACKER_H

#include <stdbool.h>
#include <stdint.h>

#include "iova_bitmap.h"

#ifdef __cplusplus
extern "C" {
#endif

struct iova_write_tracker;

/* Which step of start or collect failed: each needs something else of the system. */
enum iova_write_tracker_step {
    IOVA_WRITE_TRACKER_NONE,
    /* start */
    IOVA_WRITE_TRACKER_USERFAULTFD, /* the system call, and then /dev/userfaultfd */
    IOVA_WRITE_TRACKER_API,         /* WP_ASYNC and WP_UNPOPULATED: Linux 6.7 */
    IOVA_WRITE_TRACKER_PAGEMAP,     /* /proc/self/pagemap */
    IOVA_WRITE_TRACKER_REGISTER,    /* -EBUSY: the pages have another userfaultfd already */
    IOVA_WRITE_TRACKER_ARM,
    /* collect */
    IOVA_WRITE_TRACKER_OWNER, /* not started, or by the process that this one was forked from */
    IOVA_WRITE_TRACKER_POLL,  /* the caller's hook */
    IOVA_WRITE_TRACKER_SCAN,  /* of the kernel, or memory for what it may tell */
    IOVA_WRITE_TRACKER_MARK,  /* in the bitmap */
};

/*
 * Checks its arguments and arms nothing. `address` to `address + size` is the memory, which must
 * stay mapped while the tracker is started. `granularity` is the size of its pages in bytes: the
 * host's page size, or the huge page size of hugetlb memory.
 * -EINVAL: size 0, or a granularity that is no power of two or smaller than the host's pages.
 * -EFAULT: address is NULL. -EOVERFLOW: the buffer, or iova + size, ends beyond 2**64 (iova + size
 * may be 2**64). -ENOMEM.
 */
int iova_write_tracker_new(void *address, uint64_t size, uint64_t iova, uint64_t granularity,
                           struct iova_write_tracker **tracker);

/* Stops it if need be. NULL is allowed. */
void iova_write_tracker_free(struct iova_write_tracker *tracker);

/*
 * Protects every page that holds a byte of the buffer; from here on writes are seen. Started
 * already: does nothing. On failure nothing is armed. A child of fork() does not inherit the
 * tracking; it may start anew.
 */
int iova_write_tracker_start(struct iova_write_tracker *tracker);

/* What the last start or collect failed at. */
enum iova_write_tracker_step iova_write_tracker_step(const struct iova_write_tracker *tracker);

/* Takes the protection away. What a bitmap could not take yet is kept, writes that were not
 * collected are forgotten. Stopped already: does nothing. */
void iova_write_tracker_stop(struct iova_write_tracker *tracker);

/* Started by this process and not stopped. */
bool iova_write_tracker_started(const struct iova_write_tracker *tracker);

/* What a caller does during a collect; any of them may be NULL. */
struct iova_write_tracker_hooks {
    /* Around the scans of the kernel, which take long and touch neither the bitmap nor anything of
     * the caller's: others may run, and use the bitmap, from before_scan to after_scan. */
    void (*before_scan)(void *context);
    void (*after_scan)(void *context);
    /* Before each batch, while nothing is under way. Not 0: collect ends with -EINTR. */
    int (*poll)(void *context);
    void *context;
};

/*
 * Marks in `bitmap` the pages written since they were last collected, as far as it covers them, and
 * re-arms these; the others wait. If nothing overlaps it does nothing. `hooks` and `report` may be
 * NULL.
 *
 * report->pages are the pages of the bitmap that were clean before. On an error report->iova and
 * report->length are the end of the covered range for which the answer is not complete; the pages
 * of it that the kernel has told already are kept for the next collect.
 * -EBADF: not started. -ECHILD: started by the process that this one was forked from. -EINTR: poll
 * said so. -ENOMEM, before anything was taken from the kernel. Else the errno of the bitmap's pin,
 * or of the scan: the rest of the range is then kept as if it were written.
 */
int iova_write_tracker_collect(struct iova_write_tracker *tracker, struct iova_bitmap *bitmap,
                               const struct iova_write_tracker_hooks *hooks,
                               struct iova_bitmap_report *report);

#ifdef __cplusplus
}
#endif

#endif
