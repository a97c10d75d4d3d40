/*
 * write_protect_linux.c - write protection with userfaultfd and PAGEMAP_SCAN (Linux 6.7).
 *
 * WP_ASYNC lets the kernel resolve the write faults by itself: no thread, no event to read. A page
 * that lost its protection is PAGE_IS_WRITTEN, and PM_SCAN_WP_MATCHING protects it again while it
 * is reported. Layouts and numbers are declared here, for the headers of a build machine are often
 * older than the kernel that runs.
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

struct uffd_api {
    uint64_t api;
    uint64_t features;
    uint64_t ioctls;
};

struct uffd_range {
    uint64_t start;
    uint64_t length;
};

struct uffd_register {
    struct uffd_range range;
    uint64_t mode;
    uint64_t ioctls;
};

struct uffd_write_protect {
    struct uffd_range range;
    uint64_t mode;
};

struct page_region {
    uint64_t start;
    uint64_t end;
    uint64_t categories;
};

struct scan_arg {
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

_Static_assert(sizeof(struct uffd_register) == 32, "layout of UFFDIO_REGISTER");
_Static_assert(sizeof(struct page_region) == 24, "layout of a PAGEMAP_SCAN result");
_Static_assert(sizeof(struct scan_arg) == 96, "layout of PAGEMAP_SCAN");

#define UFFD_API_VERSION 0xaa
#define UFFD_USER_MODE_ONLY 1

#define UFFD_FEATURE_PAGEFAULT_FLAG_WP (1ULL << 0)
#define UFFD_FEATURE_WP_HUGETLBFS_SHMEM (1ULL << 12)
#define UFFD_FEATURE_WP_UNPOPULATED (1ULL << 13)
#define UFFD_FEATURE_WP_ASYNC (1ULL << 15)

#define UFFD_REGISTER_MODE_WP 2
#define UFFD_WRITE_PROTECT_MODE_WP 1

#define UFFD_IOCTL_NEW _IO(0xaa, 0x00) /* on /dev/userfaultfd */
#define UFFD_IOCTL_API _IOWR(0xaa, 0x3f, struct uffd_api)
#define UFFD_IOCTL_REGISTER _IOWR(0xaa, 0x00, struct uffd_register)
#define UFFD_IOCTL_UNREGISTER _IOR(0xaa, 0x01, struct uffd_range)
#define UFFD_IOCTL_WRITE_PROTECT _IOWR(0xaa, 0x06, struct uffd_write_protect)

#define PAGEMAP_IOCTL_SCAN _IOWR('f', 16, struct scan_arg)
#define SCAN_WP_MATCHING 1
#define SCAN_CHECK_WPASYNC 2
#define PAGE_IS_WRITTEN 2

/* Faults of the kernel in user memory are seen too: the flag only concerns those that would have
 * to wait for a handler, and WP_ASYNC has none. It is what needs no privilege. */
static int open_userfaultfd(void)
{
    const int flags = O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY;
    int fd = (int)syscall(SYS_userfaultfd, flags);

    if (fd >= 0 || errno != EPERM) {
        return fd < 0 ? -errno : fd;
    }
    /* The system call can be forbidden where the administrator has given us the device. */
    int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    if (device < 0) {
        return -EPERM;
    }
    fd = ioctl(device, UFFD_IOCTL_NEW, flags);
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
    struct uffd_api api = {
        .api = UFFD_API_VERSION,
        .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM |
                    UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_WP_ASYNC,
    };

    *step = IOVA_WRITE_TRACKER_USERFAULTFD;
    int fd = open_userfaultfd();
    if (fd < 0) {
        return fd;
    }
    protect->faults = fd;
    *step = IOVA_WRITE_TRACKER_API;
    if (ioctl(protect->faults, UFFD_IOCTL_API, &api) != 0) {
        return -errno;
    }
    *step = IOVA_WRITE_TRACKER_PAGEMAP;
    protect->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    return protect->pagemap < 0 ? -errno : 0;
}

static int arm(const struct iova_write_protect *protect, struct iova_pages pages,
               enum iova_write_tracker_step *step)
{
    const struct uffd_range range = {.start = pages.start, .length = pages.end - pages.start};
    struct uffd_register reg = {.range = range, .mode = UFFD_REGISTER_MODE_WP};
    struct uffd_write_protect wp = {.range = range, .mode = UFFD_WRITE_PROTECT_MODE_WP};

    *step = IOVA_WRITE_TRACKER_REGISTER;
    if (ioctl(protect->faults, UFFD_IOCTL_REGISTER, &reg) != 0) {
        return -errno;
    }
    *step = IOVA_WRITE_TRACKER_ARM;
    if (ioctl(protect->faults, UFFD_IOCTL_WRITE_PROTECT, &wp) != 0) {
        int rc = -errno;
        ioctl(protect->faults, UFFD_IOCTL_UNREGISTER, &wp.range);
        return rc;
    }
    *step = IOVA_WRITE_TRACKER_NONE;
    return 0;
}

int iova_write_protect_open(struct iova_write_protect *protect, struct iova_pages pages,
                            enum iova_write_tracker_step *step)
{
    protect->faults = -1;
    protect->pagemap = -1;
    protect->owner = (int)getpid();
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
    struct uffd_range range = {.start = pages.start, .length = pages.end - pages.start};

    /* Said to the kernel, not left to close(): a forked child may hold the descriptor too, and then
     * closing ours ends nothing. A mapping that is gone is no error to anyone. */
    if (iova_write_protect_is_owner(protect)) {
        ioctl(protect->faults, UFFD_IOCTL_UNREGISTER, &range);
    }
    close_descriptors(protect);
}

bool iova_write_protect_is_owner(const struct iova_write_protect *protect)
{
    return protect->faults >= 0 && protect->owner == (int)getpid();
}

int iova_write_protect_scan(const struct iova_write_protect *protect, struct iova_pages *pages,
                            struct iova_pages found[IOVA_WRITE_PROTECT_BATCH])
{
    struct page_region regions[IOVA_WRITE_PROTECT_BATCH];
    /* Not more than 512 results at once: above, the kernel leaves a stale walk_end, and the tail
     * would be read twice. The mask must not ask for present pages: a written one can be in swap.
     */
    struct scan_arg arg = {
        .size = sizeof(arg),
        .flags = SCAN_WP_MATCHING | SCAN_CHECK_WPASYNC,
        .start = pages->start,
        .end = pages->end,
        .vec = (uint64_t)(uintptr_t)regions,
        .vec_len = IOVA_WRITE_PROTECT_BATCH,
        .category_mask = PAGE_IS_WRITTEN,
        .return_mask = PAGE_IS_WRITTEN,
    };

    int n = ioctl(protect->pagemap, PAGEMAP_IOCTL_SCAN, &arg);
    if (n < 0) {
        return -errno;
    }
    for (int i = 0; i < n; i++) {
        found[i].start = (uintptr_t)regions[i].start;
        found[i].end = (uintptr_t)regions[i].end;
    }
    pages->start = (uintptr_t)arg.walk_end;
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
