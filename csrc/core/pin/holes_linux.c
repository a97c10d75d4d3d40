/*
 * holes_linux.c - unpopulated memory on Linux. Each way to know is right for one kind of mapping:
 *
 *   private, anonymous   PAGEMAP_SCAN: pages that are present or swapped
 *   shared, of a file    SEEK_DATA, on file systems where a page is data as soon as it is written
 *   shared, of no file   mincore, if the system has no swap: what is not in core is nowhere
 *
 * Nothing is asked about any other mapping (a private one of a file, say). PAGEMAP_SCAN must not be
 * asked about shared memory: it sees this process's page tables only, and would miss what another
 * process wrote. SEEK_DATA needs a descriptor, which of shared anonymous memory (what Python's
 * mmap.mmap(-1, size) gives) only a privileged process can have.
 */
#include "core/pin/holes.h"

#ifdef __linux__

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "linux/pagemap.h"

/* A line of /proc/self/maps. */
struct mapping {
    uintptr_t start;
    uintptr_t end;
    uint64_t offset;
    dev_t device;
    ino_t inode;
    bool shared;
};

struct iova_holes {
    struct mapping mapping; /* the one that was asked about last */

    /* Finds what is populated in the whole pages from `at` on, as far as `end` or less. False if
     * the system has no answer. NULL if there is no way to know. */
    bool (*ask)(struct iova_holes *holes, uintptr_t at, uintptr_t end);
    uintptr_t page_size;
    int fd;             /* of the pagemap, or of the file behind the mapping; else -1 */
    uintptr_t known_to; /* the extents from `next` on are all that there are up to here */
    size_t next;
    size_t count;
    struct iova_extent found[LINUX_PAGEMAP_REGIONS];
};

static bool find_mapping(uintptr_t address, struct mapping *mapping)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512];
    bool found = false;
    bool whole = true; /* not the rest of a line with a long name, which may look like a line */

    while (maps != NULL && !found && fgets(line, sizeof(line), maps) != NULL) {
        uint64_t start, end, offset, inode;
        unsigned major_number, minor_number;
        char shared;
        bool starts = whole;
        whole = strchr(line, '\n') != NULL;
        if (starts &&
            sscanf(line, "%" SCNx64 "-%" SCNx64 " %*3c%c %" SCNx64 " %x:%x %" SCNu64, &start, &end,
                   &shared, &offset, &major_number, &minor_number, &inode) == 7 &&
            start <= address && address < end) {
            *mapping = (struct mapping){(uintptr_t)start, (uintptr_t)end,
                                        offset,           makedev(major_number, minor_number),
                                        (ino_t)inode,     shared == 's'};
            found = true;
        }
    }
    if (maps != NULL) {
        fclose(maps);
    }
    return found;
}

static bool is_of(const struct mapping *mapping, int fd)
{
    struct stat status;

    return fstat(fd, &status) == 0 && status.st_ino == mapping->inode &&
           status.st_dev == mapping->device;
}

/* Whether SEEK_DATA finds each page that was written through a mapping, written back or not: a
 * network's or a user's file system may answer for what it was told of. ext4 has the number of ext2
 * and ext3, which are right too. hugetlbfs is left out: there all is data. */
static bool knows_its_data(int fd)
{
    enum { TMPFS = 0x01021994, EXT4 = 0xef53, XFS = 0x58465342 };
    const uint32_t btrfs = 0x9123683e;
    struct statfs status;

    if (fstatfs(fd, &status) != 0) {
        return false;
    }
    const uint32_t type = (uint32_t)status.f_type;
    return type == TMPFS || type == EXT4 || type == XFS || type == btrfs;
}

/* A descriptor of its own on the file behind a shared mapping, or -1. */
static int open_file(const struct mapping *mapping)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/self/map_files/%" PRIxPTR "-%" PRIxPTR, mapping->start,
             mapping->end);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool right = true;
    for (int other = 0; fd < 0 && other < 1024; other++) { /* one that the program has open */
        if (is_of(mapping, other)) {
            snprintf(path, sizeof(path), "/proc/self/fd/%d", other);
            fd = open(path, O_RDONLY | O_CLOEXEC);
            right = is_of(mapping, fd); /* not if another thread has reused the number */
        }
    }
    if (fd >= 0 && !(right && knows_its_data(fd))) {
        close(fd);
        fd = -1;
    }
    return fd;
}

/* Memory that is in no file: on the mount, internal to the kernel, that a memfd is on. */
static bool is_shared_memory(const struct mapping *mapping)
{
    struct stat status;
    int fd = memfd_create("iovabitmap", MFD_CLOEXEC);
    bool same = fd >= 0 && fstat(fd, &status) == 0 && status.st_dev == mapping->device;

    if (fd >= 0) {
        close(fd);
    }
    return same;
}

static bool has_swap(void)
{
    struct sysinfo info;

    return sysinfo(&info) != 0 || info.totalswap != 0;
}

/* Notes an extent behind the others, rounded out to whole pages: data may begin and end inside of
 * one. False if there is no room. */
static bool add(struct iova_holes *holes, uintptr_t start, uintptr_t end)
{
    struct iova_extent *last = &holes->found[holes->count];

    start -= start % holes->page_size;
    end += (holes->page_size - end % holes->page_size) % holes->page_size;
    if (holes->count > 0 && last[-1].end >= start) {
        last[-1].end = end;
        return true;
    }
    if (holes->count == sizeof(holes->found) / sizeof(holes->found[0])) {
        return false;
    }
    *last = (struct iova_extent){start, end};
    holes->count++;
    return true;
}

static bool ask_pagemap(struct iova_holes *holes, uintptr_t at, uintptr_t end)
{
    struct linux_page_region regions[LINUX_PAGEMAP_REGIONS];
    struct linux_pm_scan_arg arg = {
        .start = at,
        .end = end,
        .category_anyof_mask = LINUX_PAGE_IS_PRESENT | LINUX_PAGE_IS_SWAPPED,
        .return_mask = LINUX_PAGE_IS_PRESENT | LINUX_PAGE_IS_SWAPPED,
    };

    int count = linux_pagemap_scan(holes->fd, &arg, regions);
    for (int i = 0; i < count; i++) {
        add(holes, (uintptr_t)regions[i].start, (uintptr_t)regions[i].end);
    }
    holes->known_to = (uintptr_t)arg.walk_end;
    return count >= 0 && holes->known_to % holes->page_size == 0;
}

static bool ask_file(struct iova_holes *holes, uintptr_t at, uintptr_t end)
{
    const off_t from = (off_t)(at - holes->mapping.start + holes->mapping.offset);
    const off_t to = from + (off_t)(end - at);
    off_t data = lseek(holes->fd, from, SEEK_DATA);

    holes->known_to = end;
    if (data < from) {
        return data < 0 && errno == ENXIO; /* which says: no data from here on */
    }
    if (data >= to) {
        return true;
    }
    off_t hole = lseek(holes->fd, data, SEEK_HOLE);
    if (hole < 0 || hole > to) {
        hole = to;
    } else if (hole <= data) { /* punched between the two: the page of `data` is read */
        hole = data + 1;
    }
    add(holes, at + (uintptr_t)(data - from), at + (uintptr_t)(hole - from));
    holes->known_to = holes->found[0].end;
    return true;
}

static bool ask_core(struct iova_holes *holes, uintptr_t at, uintptr_t end)
{
    unsigned char in_core[1 << 14];
    const size_t left = (end - at) / holes->page_size;
    const size_t npages = left < sizeof(in_core) ? left : sizeof(in_core);

    holes->known_to = at;
    if (mincore((void *)at, npages * holes->page_size, in_core) != 0 || has_swap()) {
        return false;
    }
    for (size_t i = 0; i < npages; i++, holes->known_to += holes->page_size) {
        if ((in_core[i] & 1) != 0 && !add(holes, holes->known_to, holes->known_to + 1)) {
            break;
        }
    }
    return true;
}

static void leave(struct iova_holes *holes)
{
    if (holes->fd >= 0) {
        close(holes->fd);
    }
    holes->fd = -1;
    holes->ask = NULL;
}

/* Turns to the mapping of an address. */
static void enter(struct iova_holes *holes, uintptr_t address)
{
    struct mapping *mapping = &holes->mapping;

    leave(holes);
    if (!find_mapping(address, mapping)) {
        *mapping = (struct mapping){.start = address, .end = UINTPTR_MAX};
    } else if (mapping->shared) {
        holes->fd = open_file(mapping);
        if (holes->fd >= 0) {
            holes->ask = ask_file;
        } else if (is_shared_memory(mapping) && !has_swap()) {
            holes->ask = ask_core;
        }
    } else if (mapping->inode == 0) {
        holes->fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
        holes->ask = holes->fd >= 0 ? ask_pagemap : NULL;
    }
}

bool iova_holes_shared(const void *address)
{
    struct mapping mapping;

    return find_mapping((uintptr_t)address, &mapping) && mapping.shared;
}

struct iova_holes *iova_holes_open(const void *address)
{
    struct iova_holes *holes = calloc(1, sizeof(*holes));

    if (holes == NULL) {
        return NULL; /* nothing is known then, which is right too */
    }
    holes->page_size = (uintptr_t)sysconf(_SC_PAGESIZE);
    holes->fd = -1;
    enter(holes, (uintptr_t)address);
    if (holes->ask == NULL) {
        iova_holes_close(holes);
        return NULL;
    }
    return holes;
}

void iova_holes_close(struct iova_holes *holes)
{
    if (holes != NULL) {
        leave(holes);
        free(holes);
    }
}

/* Asks about the memory from `at` on, where a page begins: as far as `end`, or less. */
static void look_ahead(struct iova_holes *holes, uintptr_t at, uintptr_t end)
{
    if (at >= holes->mapping.end) {
        enter(holes, at);
    }
    end += (holes->page_size - end % holes->page_size) % holes->page_size;
    end = end < holes->mapping.end ? end : holes->mapping.end;
    holes->next = holes->count = 0;
    if (holes->ask == NULL || !holes->ask(holes, at, end)) {
        holes->count = 0;
        add(holes, at, end);
        holes->known_to = end;
    }
}

bool iova_holes_next(struct iova_holes *holes, uintptr_t address, uintptr_t end,
                     struct iova_extent *extent)
{
    for (;;) {
        for (; holes->next < holes->count; holes->next++) {
            *extent = holes->found[holes->next];
            if (extent->end > address) {
                return extent->start < end;
            }
        }
        uintptr_t at = address - address % holes->page_size;
        at = at > holes->known_to ? at : holes->known_to;
        if (at >= end) {
            return false;
        }
        look_ahead(holes, at, end);
    }
}

#else

bool iova_holes_shared(const void *address)
{
    (void)address;
    return false;
}

struct iova_holes *iova_holes_open(const void *address)
{
    (void)address;
    return NULL;
}

void iova_holes_close(struct iova_holes *holes)
{
    (void)holes;
}

bool iova_holes_next(struct iova_holes *holes, uintptr_t address, uintptr_t end,
                     struct iova_extent *extent)
{
    (void)holes;
    *extent = (struct iova_extent){address, end};
    return true;
}

#endif
