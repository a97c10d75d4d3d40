/*
 * write_protect.h - what the write tracker needs of the operating system: protect pages, and ask
 * which of them were written since. One file for each system that can; write_protect_linux.c also
 * holds the answer of those that cannot.
 */
#ifndef IOVA_WRITE_PROTECT_H
#define IOVA_WRITE_PROTECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/sources/write_tracker.h"

struct iova_write_protect {
    int faults;     /* the userfaultfd, -1 if not open */
    int pagemap;    /* /proc/self/pagemap, -1 if not open */
    uint64_t owner; /* generation of the process whose memory these two stand for */
};

/* Host addresses of whole pages, the end exclusive. */
struct iova_pages {
    uintptr_t start;
    uintptr_t end;
};

/* At most this many of them come from one iova_write_protect_scan(). */
enum { IOVA_WRITE_PROTECT_BATCH = 512 };

/* Protects `pages`, with nothing open before. 0, or -errno with nothing protected or open and *step
 * saying what failed. */
int iova_write_protect_open(struct iova_write_protect *protect, struct iova_pages pages,
                            enum iova_write_tracker_step *step);

/* Takes the protection of open() away. In a forked child the parent's pages are left alone. */
void iova_write_protect_close(struct iova_write_protect *protect, struct iova_pages pages);

/* Whether this process is the one that opened it. */
bool iova_write_protect_is_owner(const struct iova_write_protect *protect);

/*
 * Finds the pages in `pages` that were written, protects these again, and moves pages->start to
 * where it stopped: pages->end when it is done. The number of runs found, or -errno: any part may
 * then have been protected again untold, and pages->start has not moved.
 */
int iova_write_protect_scan(const struct iova_write_protect *protect, struct iova_pages *pages,
                            struct iova_pages found[IOVA_WRITE_PROTECT_BATCH]);

#endif
