/*
 * uffd.h - write protection by userfaultfd (WP_ASYNC: Linux 6.7), as linux/userfaultfd.h declares
 * it. The names are the kernel's with LINUX_ before them, as in pagemap.h.
 */
#ifndef IOVA_LINUX_UFFD_H
#define IOVA_LINUX_UFFD_H

#include <stdint.h>
#include <sys/ioctl.h>

struct linux_uffdio_api {
    uint64_t api;
    uint64_t features;
    uint64_t ioctls;
};

struct linux_uffdio_range {
    uint64_t start;
    uint64_t len;
};

struct linux_uffdio_register {
    struct linux_uffdio_range range;
    uint64_t mode;
    uint64_t ioctls;
};

struct linux_uffdio_writeprotect {
    struct linux_uffdio_range range;
    uint64_t mode;
};

_Static_assert(sizeof(struct linux_uffdio_api) == 24, "layout of UFFDIO_API");
_Static_assert(sizeof(struct linux_uffdio_range) == 16, "layout of UFFDIO_UNREGISTER");
_Static_assert(sizeof(struct linux_uffdio_register) == 32, "layout of UFFDIO_REGISTER");
_Static_assert(sizeof(struct linux_uffdio_writeprotect) == 24, "layout of UFFDIO_WRITEPROTECT");

#define LINUX_UFFD_API 0xaa
#define LINUX_UFFD_USER_MODE_ONLY 1

#define LINUX_UFFD_FEATURE_PAGEFAULT_FLAG_WP (1ULL << 0)
#define LINUX_UFFD_FEATURE_WP_HUGETLBFS_SHMEM (1ULL << 12)
#define LINUX_UFFD_FEATURE_WP_UNPOPULATED (1ULL << 13)
#define LINUX_UFFD_FEATURE_WP_ASYNC (1ULL << 15)

#define LINUX_UFFDIO_REGISTER_MODE_WP 2
#define LINUX_UFFDIO_WRITEPROTECT_MODE_WP 1

#define LINUX_USERFAULTFD_IOC_NEW _IO(0xaa, 0x00) /* of /dev/userfaultfd */
#define LINUX_UFFDIO_API _IOWR(0xaa, 0x3f, struct linux_uffdio_api)
#define LINUX_UFFDIO_REGISTER _IOWR(0xaa, 0x00, struct linux_uffdio_register)
#define LINUX_UFFDIO_UNREGISTER _IOR(0xaa, 0x01, struct linux_uffdio_range)
#define LINUX_UFFDIO_WRITEPROTECT _IOWR(0xaa, 0x06, struct linux_uffdio_writeprotect)

#endif
