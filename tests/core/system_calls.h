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
#include <sys/sysinfo.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "check.h"
#include "faults.h"

int __real_open(const char *path, int flags, ...);
int __real_ioctl(int fd, unsigned long request, ...);
long __real_syscall(long number, ...);
FILE *__real_fopen(const char *path, const char *mode);
int __real_fstat(int fd, struct stat *status);
int __real_fstatfs(int fd, struct statfs *status);
int __real_sysinfo(struct sysinfo *info);
off_t __real_lseek(int fd, off_t offset, int whence);
int __real_mincore(void *address, size_t size, unsigned char *in_core);
int __real_memfd_create(const char *name, unsigned flags);
int __real_madvise(void *address, size_t size, int advice);

int __wrap_open(const char *path, int flags, ...);
int __wrap_ioctl(int fd, unsigned long request, ...);
long __wrap_syscall(long number, ...);
FILE *__wrap_fopen(const char *path, const char *mode);
int __wrap_fstat(int fd, struct stat *status);
int __wrap_fstatfs(int fd, struct statfs *status);
int __wrap_sysinfo(struct sysinfo *info);
off_t __wrap_lseek(int fd, off_t offset, int whence);
int __wrap_mincore(void *address, size_t size, unsigned char *in_core);
int __wrap_memfd_create(const char *name, unsigned flags);
int __wrap_madvise(void *address, size_t size, int advice);

#define USERFAULTFD_NEW _IO(0xaa, 0x00)
#define PAGEMAP_SCAN 16 /* its number */

static const char *maps;                            /* not NULL: what /proc/self/maps holds */
static enum { REAL_SWAP, NO_SWAP, SOME_SWAP } swap; /* what the system says that it has */
static long file_system;                            /* not 0: the number of all of them */
/* Not NULL: the answers of lseek, of mincore, and of PAGEMAP_SCAN, of which the words are that. */
static off_t (*answer_seek)(off_t offset, int whence);
static int (*answer_core)(void *address, size_t size, unsigned char *in_core);
static int (*answer_scan)(uint64_t *words);
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
    if (_IOC_NR(request) == PAGEMAP_SCAN && answer_scan != NULL) {
        return answer_scan(argument);
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
    if (maps != NULL && strcmp(path, "/proc/self/maps") == 0) {
        return fmemopen((void *)(uintptr_t)maps, strlen(maps), "r");
    }
    return __real_fopen(path, mode);
}

int __wrap_fstat(int fd, struct stat *status)
{
    const int rc = fault("fstat", "") ? -1 : __real_fstat(fd, status);

    status->st_dev += other_device;
    return rc;
}

int __wrap_fstatfs(int fd, struct statfs *status)
{
    const int rc = fault("fstatfs", "") ? -1 : __real_fstatfs(fd, status);

    if (rc == 0 && file_system != 0) {
        status->f_type = (__typeof__(status->f_type))file_system;
    }
    return rc;
}

int __wrap_sysinfo(struct sysinfo *info)
{
    const int rc = fault("sysinfo", "") ? -1 : __real_sysinfo(info);

    info->totalswap = swap == REAL_SWAP ? info->totalswap : swap == SOME_SWAP;
    return rc;
}

off_t __wrap_lseek(int fd, off_t offset, int whence)
{
    const char *call = whence == SEEK_HOLE ? "seek hole" : "seek data";

    if (fault(call, "")) {
        return -1;
    }
    return answer_seek != NULL ? answer_seek(offset, whence) : __real_lseek(fd, offset, whence);
}

int __wrap_mincore(void *address, size_t size, unsigned char *in_core)
{
    if (fault("mincore", "")) {
        return -1;
    }
    return answer_core != NULL ? answer_core(address, size, in_core)
                               : __real_mincore(address, size, in_core);
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
