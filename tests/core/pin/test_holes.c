/*
 * test_holes.c - which memory was never populated: each of the ways to know against the pages that
 * were written, and what is said where the system does not answer. Then more is read than need be;
 * no page is taken for empty that may not be.
 */
#ifdef __linux__

#include "core/pin/holes.h"
#include "system_calls.h"

/* The pages that may hold something, as text: "2-3,7-7". */
static const char *extents(const uint8_t *memory, uint64_t first, uint64_t stop)
{
    static char text[200];
    const int64_t live = fault_live;
    struct iova_holes *holes = iova_holes_open(memory + first * page);
    const uintptr_t end = (uintptr_t)(memory + stop * page);
    uintptr_t at = (uintptr_t)(memory + first * page);
    struct iova_extent extent;
    size_t used = 0;

    text[0] = '\0';
    if (holes == NULL) {
        CHECK_EQ(fault_live, live);
        return "unknown";
    }
    while (at < end && iova_holes_next(holes, at, end, &extent) && used < sizeof(text) - 40) {
        CHECK(extent.end > at && extent.start < end && extent.end > extent.start &&
                  extent.start % page == 0 && extent.end % page == 0,
              "extent");
        extent.start = extent.start > at ? extent.start : at;
        extent.end = extent.end < end ? extent.end : end;
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%d-%d", used ? "," : "",
                                 (int)((extent.start - (uintptr_t)memory) / page),
                                 (int)((extent.end - 1 - (uintptr_t)memory) / page));
        at = extent.end;
    }
    iova_holes_close(holes);
    CHECK_EQ(fault_live, live);
    return text;
}

#define CHECK_EXTENTS(memory, first, stop, want)                                                   \
    do {                                                                                           \
        const char *extents_got = extents((memory), (first), (stop));                              \
        CHECK(strcmp(extents_got, (want)) == 0, "got %s, want %s", extents_got, (want));           \
    } while (0)

static bool has_scan; /* PAGEMAP_SCAN tells of private memory */

static bool find_out_scan(void)
{
    uint8_t *memory = map(MAP_PRIVATE | MAP_ANONYMOUS, -1);
    const bool works = strcmp(extents(memory, 0, PAGES), "2-3,7-7") == 0;

    munmap(memory, PAGES * page);
    return works;
}

static void test_private(void)
{
    uint8_t *memory = map(MAP_PRIVATE | MAP_ANONYMOUS, -1);

    if (has_scan) {
        CHECK_EXTENTS(memory, 0, PAGES, "2-3,7-7");
        CHECK_EXTENTS(memory, 3, 7, "3-3");
        CHECK_EXTENTS(memory, 4, 7, "");
        CHECK_EXTENTS(memory, 8, PAGES, "");
    }
    CHECK(!iova_holes_shared(memory), "private memory");
    plan("scan", NULL, 0, 0, ENOTTY); /* before Linux 6.7 */
    CHECK_EXTENTS(memory, 1, PAGES, "1-11");
    CHECK_EQ(fault_hits, 1);
    fault_none();
    plan("open", "/proc/self/pagemap", 0, 0, EACCES);
    CHECK_EXTENTS(memory, 0, PAGES, "unknown");
    plan("fopen", "/proc/self/maps", 0, 0, EMFILE);
    CHECK_EXTENTS(memory, 0, PAGES, "unknown");
    CHECK(!iova_holes_shared(memory), "nobody knows");
    plan("memory", NULL, 0, 0, ENOMEM);
    CHECK_EXTENTS(memory, 0, PAGES, "unknown");
    fault_none();
    munmap(memory, PAGES * page);
    CHECK_EXTENTS(memory, 0, PAGES, "unknown"); /* it is in no mapping now */
    CHECK(!iova_holes_shared(memory), "no memory");
}

/* A name so long that its end is read as a line of its own, and is made up to look like one. */
static void test_long_name(void)
{
    static char text[2000];
    uint8_t *memory = map(MAP_PRIVATE | MAP_ANONYMOUS, -1);
    const uintptr_t start = (uintptr_t)memory, end = start + PAGES * page;
    const char *const wrong[] = {"rw-s", "rw-p"};

    for (unsigned i = 0; i < 2; i++) {
        int used = snprintf(text, sizeof(text), "1000-2000 r--p 00000000 08:01 77 /");
        memset(text + used, 'x', 511 - (size_t)used);
        snprintf(text + 511, sizeof(text) - 511,
                 "%" PRIxPTR "-%" PRIxPTR " %s 00000000 00:00 0\n"
                 "%" PRIxPTR "-%" PRIxPTR " %s 00000000 00:00 %u\n"
                 "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]\n",
                 start, end, wrong[i], start, end, wrong[1 - i], 77 * i);
        maps = text;
        CHECK(iova_holes_shared(memory) == (i == 1), "the name was read as a line");
        maps = strchr(text, '\n') + 1; /* a line that is none, and those behind it */
        text[maps - text - 2] = '\n';
        maps -= 2;
        CHECK(iova_holes_shared(memory) == (i == 1), "after a bad line");
        maps = NULL;
    }
    munmap(memory, PAGES * page);
}

/* Two mappings, one of them private memory, and what lies behind their end. */
static void test_several_mappings(void)
{
    uint8_t *memory = map(MAP_PRIVATE | MAP_ANONYMOUS, -1);

    if (!has_scan) {
        munmap(memory, PAGES * page);
        return;
    }
    mprotect(memory + 6 * page, 6 * page, PROT_READ); /* two mappings now */
    const int before = descriptors();
    CHECK_EXTENTS(memory, 0, PAGES, "2-3,7-7");
    CHECK_EQ(descriptors(), before);
    munmap(memory + 6 * page, 6 * page);
    plan("fopen", "/proc/self/maps", 1, 0, EMFILE); /* what follows is not known */
    CHECK_EXTENTS(memory, 4, PAGES, "6-11");
    fault_none();
    munmap(memory, 6 * page);
}

static void test_shared(void)
{
    const int kept = memfd_create("kept", MFD_CLOEXEC);
    const int gone = memfd_create("gone", MFD_CLOEXEC);

    if (kept < 0 || gone < 0 || ftruncate(kept, (off_t)(PAGES * page)) != 0 ||
        ftruncate(gone, (off_t)(PAGES * page)) != 0) {
        check_skip("no memory file");
    }
    uint8_t *by_fd = map(MAP_SHARED, kept);
    uint8_t *memory = map(MAP_SHARED, gone);
    close(gone);
    const int before = descriptors();
    const char *const map_files = "/proc/self/map_files";

    CHECK(iova_holes_shared(by_fd) && iova_holes_shared(memory), "shared memory");
    swap = SOME_SWAP;
    /* A descriptor that the program has will do. */
    plan("open", map_files, 0, 0, EPERM);
    other_device = true; /* a file of the same number elsewhere is another file */
    CHECK_EXTENTS(by_fd, 0, PAGES, "unknown");
    other_device = false;
    CHECK_EXTENTS(by_fd, 0, PAGES, "2-3,7-7");
    CHECK_EXTENTS(by_fd, 3, 7, "3-3");
    CHECK_EXTENTS(by_fd, 4, 7, "");
    CHECK_EXTENTS(by_fd, 8, PAGES, "");
    /* A mapping from the middle of the file on. */
    uint8_t *middle =
        mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_SHARED, kept, (off_t)(6 * page));
    CHECK_EXTENTS(middle, 0, 4, "1-1");
    munmap(middle, 4 * page);
    /* One that may not know what it holds, or does not say what it is. */
    const long known[] = {0x01021994, 0xef53, 0x58465342, 0x9123683e}; /* tmpfs, ext, xfs, btrfs */
    const long unknown[] = {0x65735546, 0x6969, 0x794c7630,
                            0xff534d42}; /* FUSE, NFS, overlay, SMB */
    for (unsigned i = 0; i < 4; i++) {
        file_system = known[i];
        CHECK_EXTENTS(by_fd, 0, PAGES, "2-3,7-7");
        file_system = unknown[i];
        CHECK_EXTENTS(by_fd, 0, PAGES, "unknown");
    }
    file_system = 0;
    plan("fstatfs", NULL, 0, 0, EIO);
    CHECK_EXTENTS(by_fd, 0, PAGES, "unknown");
    CHECK(fault_hits > 0, "not asked what it is");
    plan("seek data", NULL, 0, 1, EIO); /* the answer fails */
    CHECK_EXTENTS(by_fd, 1, PAGES, "1-11");
    plan("seek hole", NULL, 0, 1, EIO);
    CHECK_EXTENTS(by_fd, 0, PAGES, "2-11");

    /* The descriptor becomes another file's while it is opened. */
    closed_map_files = true;
    plan("fstat", NULL, (unsigned)kept + 1, 1, EIO);
    CHECK_EXTENTS(by_fd, 0, PAGES, "unknown");
    CHECK_EQ(fault_hits, 1);
    plan("open", "/proc/self/fd", 0, 0, EMFILE);
    CHECK_EXTENTS(by_fd, 0, PAGES, "unknown");
    fault_none();
    closed_map_files = false;

    /* A private mapping holds what the file holds, and pages of its own. */
    uint8_t *copied = map(MAP_PRIVATE, kept);
    CHECK_EXTENTS(copied, 0, PAGES, "unknown");
    munmap(copied, PAGES * page);

    /* None to be had: what is in core, where there is no swap. */
    plan("open", map_files, 0, 0, EPERM);
    CHECK_EXTENTS(memory, 0, PAGES, "unknown");
    swap = NO_SWAP;
    CHECK_EXTENTS(memory, 0, PAGES, "2-3,7-7");
    CHECK_EXTENTS(memory, 3, 7, "3-3");
    CHECK_EXTENTS(memory, 0, 3, "2-2");
    CHECK_EXTENTS(memory, 4, 7, "");
    CHECK_EXTENTS(memory, 8, PAGES, "");
    fault_none();
    munmap(by_fd, PAGES * page);
    close(kept);
    CHECK_EQ(descriptors(), before - 1);

    munmap(memory, PAGES * page);
    swap = REAL_SWAP;
}

/* No descriptor to be had: mincore, where the memory is in no file and there is no swap. */
static void test_in_core(void)
{
    uint8_t *memory = map(MAP_SHARED | MAP_ANONYMOUS, -1);

    swap = NO_SWAP;
    closed_map_files = true;
    CHECK_EXTENTS(memory, 0, PAGES, "2-3,7-7");
    other_device = true; /* it may be in a file, and so in a place that is not core */
    CHECK_EXTENTS(memory, 0, PAGES, "unknown");
    other_device = false;
    plan("mincore", NULL, 0, 0, EAGAIN);
    CHECK_EXTENTS(memory, 1, PAGES, "1-11");
    CHECK_EQ(fault_hits, 1);
    plan("memfd_create", NULL, 0, 0, ENOSYS);
    CHECK_EXTENTS(memory, 0, PAGES, "unknown");
    plan("fstat", NULL, 0, 0, EIO);
    CHECK_EXTENTS(memory, 0, PAGES, "unknown");
    plan("sysinfo", NULL, 0, 0, EFAULT);
    CHECK_EXTENTS(memory, 0, PAGES, "unknown");
    plan("sysinfo", NULL, 1, 1, EFAULT); /* it was there before mincore answered, not after */
    CHECK_EXTENTS(memory, 1, PAGES, "1-11");
    fault_none();
    closed_map_files = false;
    munmap(memory, PAGES * page);
    swap = REAL_SWAP;
}

/* More extents than are found at once. */
static void test_many(void)
{
    enum { MANY = 1500 };
    uint8_t *memory =
        mmap(NULL, MANY * page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    const uintptr_t start = (uintptr_t)memory, end = start + MANY * page;
    struct iova_extent extent;

    madvise(memory, MANY * page, MADV_NOHUGEPAGE);
    for (unsigned i = 0; i < MANY; i += 2) {
        memory[i * page] = 1;
    }
    swap = NO_SWAP;
    closed_map_files = true;
    struct iova_holes *holes = iova_holes_open(memory);
    CHECK(holes != NULL, "unknown");
    for (unsigned i = 0; holes != NULL && i < MANY; i += 2) {
        CHECK(iova_holes_next(holes, start + i * page, end, &extent), "page %u", i);
        CHECK(extent.start == start + i * page && extent.end == start + (i + 1) * page, "page %u",
              i);
    }
    iova_holes_close(holes);
    closed_map_files = false;
    swap = REAL_SWAP;
    munmap(memory, MANY * page);
}

/* Whether this process may have a descriptor of anonymous shared memory. */
static bool has_map_files(void)
{
    uint8_t *memory = map(MAP_SHARED | MAP_ANONYMOUS, -1);
    char path[100];

    snprintf(path, sizeof(path), "/proc/self/map_files/%" PRIxPTR "-%" PRIxPTR, (uintptr_t)memory,
             (uintptr_t)memory + PAGES * page);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        close(fd);
    }
    munmap(memory, PAGES * page);
    return fd >= 0;
}

/* Any pages and any part of them, in each of the ways to know. Of what is in core is asked only
 * where there is no descriptor, and no swap. */
static void test_random(int flags, bool no_descriptor)
{
    uint64_t state = 11;
    char want[200];

    closed_map_files = no_descriptor || !has_map_files();
    swap = closed_map_files ? NO_SWAP : SOME_SWAP;
    for (unsigned round = 0; round < 60 && has_scan; round++) {
        uint8_t *memory = map(flags | MAP_ANONYMOUS, -1);
        const uint64_t some = (check_random(&state) >> 9) % (1 << PAGES);
        const uint64_t first = (check_random(&state) >> 9) % PAGES;
        const uint64_t stop = first + 1 + (check_random(&state) >> 9) % (PAGES - first);
        size_t used = 0;
        madvise(memory, PAGES * page, flags == MAP_SHARED ? MADV_REMOVE : MADV_DONTNEED);
        for (uint64_t i = 0; i < PAGES; i++) {
            if (some >> i & 1) {
                memory[i * page] = 1;
            }
        }
        want[0] = '\0';
        for (uint64_t i = first; i < stop; i++) {
            const uint64_t from = i;
            while (i < stop && some >> i & 1) {
                i++;
            }
            if (i > from) {
                used += (size_t)snprintf(want + used, sizeof(want) - used, "%s%d-%d",
                                         used ? "," : "", (int)from, (int)i - 1);
            }
        }
        CHECK_EXTENTS(memory, first, stop, want);
        munmap(memory, PAGES * page);
    }
    closed_map_files = false;
    swap = REAL_SWAP;
}

/* The descriptor 0 is one like others. */
static void test_descriptor_0(void)
{
    const int kept = dup(0);

    close(0);
    test_random(MAP_PRIVATE, false);
    test_random(MAP_SHARED, false);
    CHECK(fcntl(0, F_GETFD) < 0, "it is still open");
    if (kept >= 0) {
        CHECK_EQ(dup2(kept, 0), 0);
        close(kept);
    }
}

int main(void)
{
    page = (uint64_t)sysconf(_SC_PAGESIZE);
    has_scan = find_out_scan();
    test_private();
    test_long_name();
    test_several_mappings();
    test_shared();
    test_in_core();
    test_many();
    test_random(MAP_PRIVATE, false);
    test_random(MAP_SHARED, false);
    test_random(MAP_SHARED, true);
    test_descriptor_0();
    return check_result();
}

#else

#include "check.h"

int main(void)
{
    check_skip("elsewhere nothing is known");
}

#endif
