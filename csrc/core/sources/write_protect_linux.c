/*
 * write_protect_linux.c - write protection with userfaultfd and PAGEMAP_SCAN (Linux 6.7).
 *
 * WP_ASYNC lets the kernel resolve the write faults by itself: no thread, no event to read. A page
 * that lost its protection is PAGE_IS_WRITTEN, and PM_SCAN_WP_MATCHING protects it again while it
 * is reported.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* syscall, O_CLOEXEC */
#endif

#include "core/sources/write_protect.h"

#include <errno.h>

#ifdef __linux__

#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/pin/host.h"
#include "linux/pagemap.h"
#include "linux/uffd.h"

/* Faults of the kernel in user memory are seen too: the flag only concerns those that would have
 * to wait for a handler, and WP_ASYNC has none. It is what needs no privilege. */
static int open_userfaultfd(void)
{
    const int flags = O_CLOEXEC | O_NONBLOCK | LINUX_UFFD_USER_MODE_ONLY;
    int fd = (int)syscall(SYS_userfaultfd, flags);

    if (fd >= 0 || errno != EPERM) {
        return fd < 0 ? -errno : fd;
    }
    /* The system call can be forbidden where the administrator has given us the device. */
    int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    if (device < 0) {
        return -EPERM;
    }
    fd = ioctl(device, LINUX_USERFAULTFD_IOC_NEW, flags);
    int rc = fd < 0 ? -errno : fd;
    close(device);
    return rc;
}

static void close_descriptors(struct iova_write_protect *protect)
{
    if (protect->pagemap >= 0) {
        close(protect->pagemap);
    }
    if (protect->faults >= 0) {
        close(protect->faults);
    }
    protect->pagemap = -1;
    protect->faults = -1;
}

static int open_descriptors(struct iova_write_protect *protect, enum iova_write_tracker_step *step)
{
    struct linux_uffdio_api api = {
        .api = LINUX_UFFD_API,
        .features = LINUX_UFFD_FEATURE_PAGEFAULT_FLAG_WP | LINUX_UFFD_FEATURE_WP_HUGETLBFS_SHMEM |
                    LINUX_UFFD_FEATURE_WP_UNPOPULATED | LINUX_UFFD_FEATURE_WP_ASYNC,
    };

    *step = IOVA_WRITE_TRACKER_USERFAULTFD;
    int fd = open_userfaultfd();
    if (fd < 0) {
        return fd;
    }
    protect->faults = fd;
    *step = IOVA_WRITE_TRACKER_API;
    if (ioctl(protect->faults, LINUX_UFFDIO_API, &api) != 0) {
        return -errno;
    }
    *step = IOVA_WRITE_TRACKER_PAGEMAP;
    protect->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    return protect->pagemap < 0 ? -errno : 0;
}

static int arm(const struct iova_write_protect *protect, struct iova_pages pages,
               enum iova_write_tracker_step *step)
{
    const struct linux_uffdio_range range = {.start = pages.start, .len = pages.end - pages.start};
    struct linux_uffdio_register reg = {.range = range, .mode = LINUX_UFFDIO_REGISTER_MODE_WP};
    struct linux_uffdio_writeprotect wp = {.range = range,
                                           .mode = LINUX_UFFDIO_WRITEPROTECT_MODE_WP};

    *step = IOVA_WRITE_TRACKER_REGISTER;
    if (ioctl(protect->faults, LINUX_UFFDIO_REGISTER, &reg) != 0) {
        return -errno;
    }
    *step = IOVA_WRITE_TRACKER_ARM;
    if (ioctl(protect->faults, LINUX_UFFDIO_WRITEPROTECT, &wp) != 0) {
        int rc = -errno;
        ioctl(protect->faults, LINUX_UFFDIO_UNREGISTER, &wp.range);
        return rc;
    }
    *step = IOVA_WRITE_TRACKER_NONE;
    return 0;
}

int iova_write_protect_open(struct iova_write_protect *protect, struct iova_pages pages,
                            enum iova_write_tracker_step *step)
{
    protect->owner = iova_process_generation();
    int rc = open_descriptors(protect, step);
    if (rc == 0) {
        rc = arm(protect, pages, step);
    }
    if (rc < 0) {
        close_descriptors(protect);
    }
    return rc;
}

void iova_write_protect_close(struct iova_write_protect *protect, struct iova_pages pages)
{
    struct linux_uffdio_range range = {.start = pages.start, .len = pages.end - pages.start};

    /* Said to the kernel, not left to close(): a forked child may hold the descriptor too, and then
     * closing ours ends nothing. A mapping that is gone is no error to anyone. */
    if (iova_write_protect_is_owner(protect)) {
        ioctl(protect->faults, LINUX_UFFDIO_UNREGISTER, &range);
    }
    close_descriptors(protect);
}

bool iova_write_protect_is_owner(const struct iova_write_protect *protect)
{
    return protect->faults >= 0 && protect->owner == iova_process_generation();
}

int iova_write_protect_scan(const struct iova_write_protect *protect, struct iova_pages *pages,
                            struct iova_pages found[IOVA_WRITE_PROTECT_BATCH])
{
    struct linux_page_region regions[LINUX_PAGEMAP_REGIONS];
    /* The mask must not ask for present pages: a written one can be in swap. */
    struct linux_pm_scan_arg arg = {
        .flags = LINUX_PM_SCAN_WP_MATCHING | LINUX_PM_SCAN_CHECK_WPASYNC,
        .start = pages->start,
        .end = pages->end,
        .category_mask = LINUX_PAGE_IS_WRITTEN,
        .return_mask = LINUX_PAGE_IS_WRITTEN,
    };

    int n = linux_pagemap_scan(protect->pagemap, &arg, regions);
    _Static_assert(IOVA_WRITE_PROTECT_BATCH == LINUX_PAGEMAP_REGIONS, "one scan, one batch");
    for (int i = 0; i < n; i++) {
        found[i].start = (uintptr_t)regions[i].start;
        found[i].end = (uintptr_t)regions[i].end;
    }
    if (n >= 0) {
        pages->start = (uintptr_t)arg.walk_end;
    }
    return n;
}

#else

int iova_write_protect_open(struct iova_write_protect *protect, struct iova_pages pages,
                            enum iova_write_tracker_step *step)
{
    (void)pages;
    protect->faults = -1;
    *step = IOVA_WRITE_TRACKER_USERFAULTFD;
    return -ENOTSUP;
}

void iova_write_protect_close(struct iova_write_protect *protect, struct iova_pages pages)
{
    (void)protect;
    (void)pages;
}

bool iova_write_protect_is_owner(const struct iova_write_protect *protect)
{
    (void)protect;
    return false;
}

int iova_write_protect_scan(const struct iova_write_protect *protect, struct iova_pages *pages,
                            struct iova_pages found[IOVA_WRITE_PROTECT_BATCH])
{
    (void)protect;
    (void)pages;
    (void)found;
    return -ENOTSUP;
}

#endif
