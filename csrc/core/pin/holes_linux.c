/*
 * holes_linux.c - unpopulated memory on Linux.
 *
 * Three ways to know, each right for one kind of mapping only:
 *   private anonymous   PAGEMAP_SCAN: pages that are present or swapped
 *   shared              SEEK_DATA on the file behind it, where a descriptor can be had
 *   shared, without     mincore, where the memory is in no file at all (shared anonymous, memfd)
 * and the system has no swap: what is on a disk is not in core Any other mapping (a private one of
 * a file, say) is not asked about. PAGEMAP_SCAN must not be asked about shared memory: it sees this
 * process's page tables only, and would miss what another process wrote.
 */
#include "core/pin/holes.h"

#ifdef __linux__

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { PAGEMAP_REGIONS = 512 }; /* more in one call, and the kernel reports some twice */

/* As linux/fs.h has them; older headers do not. */
struct scan_argument {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
struct scan_region {
    uint64_t start, end, categories;
};
#define PAGEMAP_SCAN_REQUEST _IOWR('f', 16, struct scan_argument)
enum { PAGE_PRESENT = 8, PAGE_SWAPPED = 16 };

/* A line of /proc/self/maps. */
struct mapping {
    uintptr_t start;
    uintptr_t end;
    uint64_t offset;
    dev_t device;
    ino_t inode;
    bool shared;
};

enum way { READ_ALL, ASK_PAGEMAP, ASK_FILE, ASK_CORE };

struct iova_holes {
    struct mapping mapping; /* the one that was asked about last */
    enum way way;
    uintptr_t page_size;
    int fd;      /* of the pagemap, or of the file behind the mapping; else -1 */
    size_t next; /* of the regions that were found ahead */
    size_t count;
    uintptr_t scanned_to;
    struct scan_region regions[PAGEMAP_REGIONS];
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

/* A descriptor of its own on the file behind a shared mapping: -1 where none can be had. */
static int open_shared(const struct mapping *mapping)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/self/map_files/%" PRIxPTR "-%" PRIxPTR, mapping->start,
             mapping->end);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    for (int other = 0; fd < 0 && other < 1024; other++) { /* one that the program has open */
        struct stat status;
        if (fstat(other, &status) == 0 && status.st_ino == mapping->inode &&
            status.st_dev == mapping->device) {
            snprintf(path, sizeof(path), "/proc/self/fd/%d", other);
            fd = open(path, O_RDONLY | O_CLOEXEC);
        }
    }
    if (fd >= 0 && lseek(fd, 0, SEEK_DATA) < 0 && errno != ENXIO) {
        close(fd); /* a kind of file that does not know */
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

/* Without swap, what is not in core is nowhere. */
static bool has_swap(void)
{
    FILE *swaps = fopen("/proc/swaps", "re");
    char line[256];
    int lines = 0;

    while (swaps != NULL && lines < 2 && fgets(line, sizeof(line), swaps) != NULL) {
        lines++;
    }
    if (swaps != NULL) {
        fclose(swaps);
    }
    return swaps == NULL || lines > 1;
}

/* Turns to the mapping of an address. */
static void enter(struct iova_holes *holes, uintptr_t address)
{
    struct mapping *mapping = &holes->mapping;

    if (holes->fd >= 0) {
        close(holes->fd);
        holes->fd = -1;
    }
    holes->way = READ_ALL;
    holes->next = holes->count = 0;
    if (!find_mapping(address, mapping)) {
        *mapping = (struct mapping){.start = address, .end = UINTPTR_MAX};
        return;
    }
    holes->scanned_to = mapping->start;
    if (mapping->shared) {
        holes->fd = open_shared(mapping);
        if (holes->fd >= 0) {
            holes->way = ASK_FILE;
        } else if (is_shared_memory(mapping) && !has_swap()) {
            holes->way = ASK_CORE;
        }
    } else if (mapping->inode == 0) {
        holes->fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
        holes->way = holes->fd >= 0 ? ASK_PAGEMAP : READ_ALL;
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
    if (holes->way == READ_ALL) {
        iova_holes_close(holes);
        return NULL;
    }
    return holes;
}

void iova_holes_close(struct iova_holes *holes)
{
    if (holes != NULL) {
        if (holes->fd >= 0) {
            close(holes->fd);
        }
        free(holes);
    }
}

/* Looks further ahead with PAGEMAP_SCAN: false on an error. */
static bool scan_ahead(struct iova_holes *holes, uintptr_t address, uintptr_t end)
{
    struct scan_argument argument = {
        .size = sizeof(argument),
        .start = address,
        .end = end + (holes->page_size - 1) - (end + (holes->page_size - 1)) % holes->page_size,
        .vec = (uintptr_t)holes->regions,
        .vec_len = PAGEMAP_REGIONS,
        .category_anyof_mask = PAGE_PRESENT | PAGE_SWAPPED,
        .return_mask = PAGE_PRESENT | PAGE_SWAPPED,
    };
    int found = ioctl(holes->fd, PAGEMAP_SCAN_REQUEST, &argument);

    holes->next = 0;
    holes->count = found < 0 ? 0 : (size_t)found;
    holes->scanned_to = (uintptr_t)argument.walk_end;
    return found >= 0 && argument.walk_end > address;
}

static bool next_private(struct iova_holes *holes, uintptr_t address, uintptr_t end,
                         struct iova_extent *extent)
{
    for (;;) {
        for (; holes->next < holes->count; holes->next++) {
            const struct scan_region *region = &holes->regions[holes->next];
            if (region->end > address) {
                extent->start = region->start > address ? (uintptr_t)region->start : address;
                extent->end = region->end < end ? (uintptr_t)region->end : end;
                return extent->start < end;
            }
        }
        if (holes->scanned_to >= end) {
            return false;
        }
        uintptr_t from = holes->scanned_to > address ? holes->scanned_to : address;
        if (!scan_ahead(holes, from, end)) {
            *extent = (struct iova_extent){address, end};
            return true;
        }
    }
}

static bool next_shared(struct iova_holes *holes, uintptr_t address, uintptr_t end,
                        struct iova_extent *extent)
{
    const struct mapping *mapping = &holes->mapping;
    off_t at = (off_t)(address - mapping->start + mapping->offset);
    off_t data = lseek(holes->fd, at, SEEK_DATA);

    if (data < 0) {
        *extent = (struct iova_extent){address, end};
        return errno != ENXIO; /* which says: no data from here on */
    }
    if (data - at >= (off_t)(end - address)) {
        return false;
    }
    off_t hole = lseek(holes->fd, data, SEEK_HOLE);
    uintptr_t start = address + (uintptr_t)(data - at);
    extent->start = start - start % holes->page_size;
    extent->start = extent->start > address ? extent->start : address;
    extent->end =
        hole < 0 || hole - at >= (off_t)(end - address) ? end : address + (uintptr_t)(hole - at);
    return true;
}

static bool next_in_core(struct iova_holes *holes, uintptr_t address, uintptr_t end,
                         struct iova_extent *extent)
{
    unsigned char *in_core = (unsigned char *)holes->regions;
    const size_t most = sizeof(holes->regions) * holes->page_size;

    while (address < end) {
        size_t size = end - address < most ? end - address : most;
        size_t npages = (size + holes->page_size - 1) / holes->page_size;
        if (mincore((void *)address, size, in_core) != 0) {
            *extent = (struct iova_extent){address, end};
            return true;
        }
        const unsigned char *first = in_core;
        while (first < in_core + npages && (*first & 1) == 0) {
            first++;
        }
        if (first < in_core + npages) {
            const unsigned char *last = first;
            while (last < in_core + npages && (*last & 1) != 0) {
                last++;
            }
            extent->start = address + (uintptr_t)(first - in_core) * holes->page_size;
            extent->end = address + (uintptr_t)(last - in_core) * holes->page_size;
            extent->end = extent->end < end ? extent->end : end;
            return true;
        }
        address += size;
    }
    return false;
}

bool iova_holes_next(struct iova_holes *holes, uintptr_t address, uintptr_t end,
                     struct iova_extent *extent)
{
    uintptr_t page = address - address % holes->page_size;
    bool found = false;

    while (!found && page < end) {
        if (page < holes->mapping.start || page >= holes->mapping.end) {
            enter(holes, page);
        }
        uintptr_t known_to = end < holes->mapping.end ? end : holes->mapping.end;
        *extent = (struct iova_extent){page, known_to};
        switch (holes->way) {
        case ASK_PAGEMAP:
            found = next_private(holes, page, known_to, extent);
            break;
        case ASK_FILE:
            found = next_shared(holes, page, known_to, extent);
            break;
        case ASK_CORE:
            found = next_in_core(holes, page, known_to, extent);
            break;
        default:
            found = true;
        }
        page = known_to;
    }
    if (found && extent->start < address) {
        extent->start = address;
    }
    return found;
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
