/*
 * pagemap.h - PAGEMAP_SCAN of /proc/PID/pagemap (Linux 6.7), as linux/fs.h declares it.
 *
 * Declared here since the headers of a build machine are often older than the kernel that runs.
 * The names are the kernel's with LINUX_ before them, so that its headers may be included too.
 */
#ifndef IOVA_LINUX_PAGEMAP_H
#define IOVA_LINUX_PAGEMAP_H

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>

struct linux_page_region {
    uint64_t start;
    uint64_t end; /* exclusive */
    uint64_t categories;
};

struct linux_pm_scan_arg {
    uint64_t size;
    uint64_t flags;
    uint64_t start;
    uint64_t end;
    uint64_t walk_end;
    uint64_t vec;
    uint64_t vec_len;
    uint64_t max_pages;
    uint64_t category_inverted;
    uint64_t category_mask;
    uint64_t category_anyof_mask;
    uint64_t return_mask;
};

_Static_assert(sizeof(struct linux_page_region) == 24, "layout of a PAGEMAP_SCAN result");
_Static_assert(sizeof(struct linux_pm_scan_arg) == 96, "layout of PAGEMAP_SCAN");

#define LINUX_PAGEMAP_SCAN _IOWR('f', 16, struct linux_pm_scan_arg)

#define LINUX_PM_SCAN_WP_MATCHING 1
#define LINUX_PM_SCAN_CHECK_WPASYNC 2

#define LINUX_PAGE_IS_WRITTEN 2
#define LINUX_PAGE_IS_PRESENT 8
#define LINUX_PAGE_IS_SWAPPED 16

/* Regions that one call may ask for: above, the kernel leaves a stale walk_end, and reports the
 * tail twice. */
#define LINUX_PAGEMAP_REGIONS 512

/*
 * Scans from arg->start to arg->end for `regions`. Returns how many it has found, and sets
 * arg->walk_end, which is more than arg->start. Returns -errno on failure; -EIO if the answer is
 * impossible, which an emulator's may be: a caller must not loop on it, or trust an address in it.
 */
static inline int linux_pagemap_scan(int pagemap, struct linux_pm_scan_arg *arg,
                                     struct linux_page_region regions[LINUX_PAGEMAP_REGIONS])
{
    /* Memory checkers do not know what this call writes. */
    memset(regions, 0, LINUX_PAGEMAP_REGIONS * sizeof(*regions));
    arg->size = sizeof(*arg);
    arg->vec = (uint64_t)(uintptr_t)regions;
    arg->vec_len = LINUX_PAGEMAP_REGIONS;
    int count = ioctl(pagemap, LINUX_PAGEMAP_SCAN, arg);
    if (count < 0) {
        return -errno;
    }
    uint64_t scanned_to = arg->start;
    for (int i = 0; i < count; i++) {
        if (count > LINUX_PAGEMAP_REGIONS || regions[i].start < scanned_to ||
            regions[i].end <= regions[i].start) {
            return -EIO;
        }
        scanned_to = regions[i].end;
    }
    return arg->walk_end <= arg->start || arg->walk_end < scanned_to || arg->walk_end > arg->end
               ? -EIO
               : count;
}

#endif
