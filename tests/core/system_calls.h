/*
 * system_calls.h - the system calls of the engine on Linux, between it and the C library, so that a
 * test can have them fail (faults.h) or answer something else; and memory to try them on.
 */
#ifndef SYSTEM_CALLS_H
#define SYSTEM_CALLS_H

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "check.h"
#include "faults.h"

int __real_open(const char *path, int flags, ...);
int __real_ioctl(int fd, unsigned long request, ...);
long __real_syscall(long number, ...);
FILE *__real_fopen(const char *path, const char *mode);
int __real_fstat(int fd, struct stat *status);
off_t __real_lseek(int fd, off_t offset, int whence);
int __real_mincore(void *address, size_t size, unsigned char *in_core);
int __real_memfd_create(const char *name, unsigned flags);
int __real_madvise(void *address, size_t size, int advice);

int __wrap_open(const char *path, int flags, ...);
int __wrap_ioctl(int fd, unsigned long request, ...);
long __wrap_syscall(long number, ...);
FILE *__wrap_fopen(const char *path, const char *mode);
int __wrap_fstat(int fd, struct stat *status);
off_t __wrap_lseek(int fd, off_t offset, int whence);
int __wrap_mincore(void *address, size_t size, unsigned char *in_core);
int __wrap_memfd_create(const char *name, unsigned flags);
int __wrap_madvise(void *address, size_t size, int advice);

#define USERFAULTFD_NEW _IO(0xaa, 0x00)
#define PAGEMAP_SCAN 16 /* its number */

static const char *maps;      /* not NULL: what /proc/self/maps holds */
static const char *swaps;     /* not NULL: what /proc/swaps holds */
static bool no_progress;      /* PAGEMAP_SCAN answers, and stays where it is */
static bool closed_map_files; /* only some may open those */
static bool other_device;     /* all files are on another one than they are */
static bool high_userfaultfd; /* its descriptor is 100 or more */
static bool device_missing, device_refuses;
static int userfaultfd_flags; /* with which the device was asked */

int __wrap_open(const char *path, int flags, ...)
{
    CHECK(flags & O_CLOEXEC, "%s would stay open in other programs", path);
    if (fault("open", path) || (closed_map_files && strstr(path, "map_files") != NULL)) {
        return -1;
    }
    if (strcmp(path, "/dev/userfaultfd") == 0) { /* always there, where it is not missing */
        errno = ENOENT;
        return device_missing ? -1 : __real_open("/dev/null", flags);
    }
    return __real_open(path, flags); /* nothing here makes files, with a mode */
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
    va_list list;
    va_start(list, request);
    void *argument = va_arg(list, void *);
    va_end(list);
    if (fault("ioctl", "") || (_IOC_NR(request) == PAGEMAP_SCAN && fault("scan", ""))) {
        return -1;
    }
    if (request == USERFAULTFD_NEW) {
        userfaultfd_flags = (int)(intptr_t)argument;
        errno = EINVAL;
        return device_refuses ? -1 : (int)__real_syscall(SYS_userfaultfd, userfaultfd_flags);
    }
    if (_IOC_NR(request) == PAGEMAP_SCAN && no_progress) {
        uint64_t *words = argument;
        words[4] = words[2]; /* walk_end = start */
        return 0;
    }
    return __real_ioctl(fd, request, argument);
}

long __wrap_syscall(long number, ...)
{
    va_list list;
    va_start(list, number);
    int flags = va_arg(list, int);
    va_end(list);
    if (fault("syscall", "")) {
        return -1;
    }
    const int fd = (int)__real_syscall(number, flags);
    if (!high_userfaultfd || fd < 0) {
        return fd;
    }
    const int moved = fcntl(fd, F_DUPFD_CLOEXEC, 100);
    close(fd);
    return moved;
}

FILE *__wrap_fopen(const char *path, const char *mode)
{
    if (fault("fopen", path)) {
        return NULL;
    }
    const char *content = strcmp(path, "/proc/swaps") == 0       ? swaps
                          : strcmp(path, "/proc/self/maps") == 0 ? maps
                                                                 : NULL;
    if (content != NULL) {
        return fmemopen((void *)(uintptr_t)content, strlen(content), "r");
    }
    return __real_fopen(path, mode);
}

int __wrap_fstat(int fd, struct stat *status)
{
    const int rc = fault("fstat", "") ? -1 : __real_fstat(fd, status);

    status->st_dev += other_device;
    return rc;
}

off_t __wrap_lseek(int fd, off_t offset, int whence)
{
    const char *call = whence == SEEK_HOLE ? "seek hole" : "seek data";

    return fault(call, "") ? -1 : __real_lseek(fd, offset, whence);
}

int __wrap_mincore(void *address, size_t size, unsigned char *in_core)
{
    return fault("mincore", "") ? -1 : __real_mincore(address, size, in_core);
}

int __wrap_memfd_create(const char *name, unsigned flags)
{
    return fault("memfd_create", "") ? -1 : __real_memfd_create(name, flags);
}

int __wrap_madvise(void *address, size_t size, int advice)
{
    if (fault("madvise", "")) {
        return fault_plan.error == 0 ? 0 : -1; /* 0: it succeeds, and does nothing */
    }
    return __real_madvise(address, size, advice);
}

static inline void plan(const char *call, const char *path, unsigned skip, unsigned times,
                        int error)
{
    fault_make((struct fault_plan){call, path, skip, times, error});
}

/* --- memory, and what is open --- */

enum { PAGES = 12 };
static const unsigned populated[] = {2, 3, 7}; /* of them */
static uint64_t page;

static inline uint8_t *map(int flags, int fd)
{
    uint8_t *memory = mmap(NULL, PAGES * page, PROT_READ | PROT_WRITE, flags, fd, 0);

    if (memory == MAP_FAILED) {
        check_skip("no memory");
    }
    madvise(memory, PAGES * page, MADV_NOHUGEPAGE);
    for (unsigned i = 0; i < 3; i++) {
        memory[populated[i] * page] = 1;
    }
    return memory;
}

/* Open descriptors, of which none may be lost. */
static inline int descriptors(void)
{
    int n = 0;
    for (int fd = 0; fd < 200; fd++) {
        n += fcntl(fd, F_GETFD) >= 0;
    }
    return n;
}

#endif
