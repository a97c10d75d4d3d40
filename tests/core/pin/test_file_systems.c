/*
 * test_file_systems.c - SEEK_DATA as the search for holes relies on it, on the file systems that it
 * is asked on: a page that was written through a mapping is data, although nothing was written
 * back. Tried where files are, and on images that are mounted if the machine allows that.
 */
#ifdef __linux__

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "check.h"
#include "core/pin/holes.h"
#include "iova_bitmap.h"

enum { NBYTES = 24 << 20 }; /* of a bitmap: enough for a walk that searches for holes */

static uint64_t page, state = 3;

static uint64_t below(uint64_t n)
{
    return (check_random(&state) >> 9) % n;
}

/* Each of these bytes, of which none is 0, is in an extent. The number of bytes that are not. */
static uint64_t bytes_in_holes(const uint8_t *memory, const uint64_t *dirty, size_t ndirty)
{
    const uintptr_t start = (uintptr_t)memory, end = start + NBYTES;
    struct iova_holes *holes = iova_holes_open(memory);
    struct iova_extent extent = {0};
    uint64_t skipped = 0;
    uintptr_t at = start;

    CHECK(holes != NULL, "it does not know its data");
    while (holes != NULL && at < end) {
        if (!iova_holes_next(holes, at, end, &extent)) {
            extent = (struct iova_extent){end, end};
        }
        CHECK(extent.start % page == 0 && extent.end % page == 0 && extent.end > at, "extent");
        for (size_t i = 0; i < ndirty; i++) {
            CHECK(start + dirty[i] < at || start + dirty[i] >= extent.start, "byte %" PRIu64,
                  dirty[i]);
        }
        skipped += extent.start > at ? extent.start - at : 0;
        at = extent.end > at ? extent.end : end;
    }
    iova_holes_close(holes);
    return skipped;
}

/* Pages written in any of the ways that there are, and none of them synchronized by us. */
static void try_file(const char *name, int fd, bool reserved)
{
    enum { DIRTY = 60 };
    uint64_t dirty[DIRTY];
    struct iova_bitmap_report report;
    struct iova_bitmap *bitmap = NULL;
    uint64_t dirty_bits = 0;
    volatile unsigned seen = 0;

    if (fd < 0 || ftruncate(fd, NBYTES) != 0) {
        printf("not tried: %s: %s\n", name, strerror(errno));
        close(fd);
        return;
    }
    if (reserved) { /* where the file system can: blocks that hold nothing yet */
        fallocate(fd, 0, NBYTES / 4, NBYTES / 2);
    }
    uint8_t *memory = mmap(NULL, NBYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(memory != MAP_FAILED, "%s: %s", name, strerror(errno));
    for (size_t i = 0; i < DIRTY; i++) {
        dirty[i] = below(NBYTES);
        switch (below(4)) {
        case 0: /* a few bytes, which are less than a page of some file systems */
            CHECK_EQ(pwrite(fd, "\1", 1, (off_t)dirty[i]), 1);
            break;
        case 1: /* a page that was read before */
            seen += memory[dirty[i] - dirty[i] % page + below(page)];
            memory[dirty[i]] = 1;
            break;
        case 2: /* and one that was punched out before */
            fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                      (off_t)(dirty[i] - dirty[i] % page), (off_t)page);
            memory[dirty[i]] = 1;
            break;
        default:
            memory[dirty[i]] = 1;
        }
        for (size_t j = 0; j < i; j++) { /* what a hole took is not there any more */
            if (memory[dirty[j]] == 0) {
                memory[dirty[j]] = 1;
            }
        }
    }
    const uint64_t skipped = bytes_in_holes(memory, dirty, DIRTY);
    CHECK(skipped > 0, "%s: SEEK_DATA skips nothing", name);
    for (size_t i = 0; i < DIRTY; i++) { /* each byte that is not 0 is a bit, once */
        bool again = false;
        for (size_t j = 0; j < i; j++) {
            again |= dirty[j] == dirty[i];
        }
        dirty_bits += !again;
    }
    CHECK_EQ(iova_bitmap_alloc(0, (uint64_t)NBYTES * 8, 1, memory, NBYTES, NULL, &bitmap), 0);
    CHECK_EQ(iova_bitmap_count(bitmap, 0, (uint64_t)NBYTES * 8, 0, &report), 0);
    CHECK(report.pages == dirty_bits, "%s: %" PRIu64 " bits, not %" PRIu64, name, report.pages,
          dirty_bits);
    iova_bitmap_free(bitmap);
    munmap(memory, NBYTES);
    close(fd);
}

static void try_folder(const char *name, const char *folder)
{
    const int before = check_failures;

    for (unsigned round = 0; round < 8 && check_failures == before; round++) {
        try_file(name, open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600), round % 2 != 0);
    }
    if (check_failures != before) {
        printf("that was %s, %s\n", name, folder);
    }
}

/* A file system of its own in a file, mounted where nobody else sees it. */
static void try_image(const char *name, const char *make, const char *options)
{
    char folder[] = "/tmp/iovabitmap-XXXXXX";
    char command[300];

    if (mkdtemp(folder) == NULL) {
        return;
    }
    snprintf(command, sizeof(command),
             "cd %s && mkdir at && truncate -s 400M image && %s image >/dev/null 2>&1 && "
             "mount -o loop%s image at 2>/dev/null",
             folder, make, options);
    if (system(command) == 0) {
        snprintf(command, sizeof(command), "%s/at", folder);
        try_folder(name, command);
        umount2(command, MNT_DETACH);
    } else {
        printf("not tried: %s, which cannot be made and mounted here\n", name);
    }
    snprintf(command, sizeof(command), "rm -r %s", folder);
    CHECK_EQ(system(command), 0);
}

/* The kind of a folder of the machine's own, if it is one that is asked. */
static const char *kind_of(const char *folder)
{
    struct statfs status;

    if (statfs(folder, &status) != 0) {
        return NULL;
    }
    switch ((uint32_t)status.f_type) {
    case 0x01021994u:
        return "tmpfs";
    case 0xef53u:
        return "ext4";
    case 0x58465342u:
        return "xfs";
    case 0x9123683eu:
        return "btrfs";
    default:
        return NULL;
    }
}

int main(void)
{
    const char *const folders[] = {"/tmp", "/dev/shm", "/var/tmp", "."};

    page = (uint64_t)sysconf(_SC_PAGESIZE);
    alarm(300); /* a walk that does not end is a failure too */
    try_file("memfd", memfd_create("bits", MFD_CLOEXEC), false);
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        const char *const kind = kind_of(folders[i]);
        if (kind != NULL) {
            try_folder(kind, folders[i]);
        }
    }
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) != 0) {
        printf("not tried: images, which only a privileged user can mount\n");
        return check_result();
    }
    try_image("ext4 with blocks of 1 KiB", "mkfs.ext4 -q -F -b 1024", "");
    try_image("ext4 without delayed allocation", "mkfs.ext4 -q -F", ",nodelalloc");
    try_image("ext3", "mkfs.ext3 -q -F", "");
    try_image("ext2", "mkfs.ext2 -q -F", "");
    try_image("xfs", "mkfs.xfs -q -f", "");
    try_image("btrfs", "mkfs.btrfs -q -f", "");
    return check_result();
}

#else

#include "check.h"

int main(void)
{
    check_skip("elsewhere nothing is known");
}

#endif
