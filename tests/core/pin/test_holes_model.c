/*
 * test_holes_model.c - the search for holes against a system that answers what a model says, while
 * parts of the memory come and go between two of its answers; and against one that answers
 * nonsense. The search always ends, an extent is whole pages that move it on, and what is populated
 * all the time is in one.
 */
#ifdef __linux__

#include "core/pin/holes.h"
#include "linux/pagemap.h"
#include "system_calls.h"

enum { MODEL_PAGES = 40, MOST_UNITS = 4096 };

static uint64_t state = 5;
static uint8_t *memory;
static uint64_t unit; /* bytes that are populated or not: of a file less than a page */
static size_t nunits;
static bool stable[MOST_UNITS], now[MOST_UNITS];
static bool nonsense; /* answers are of the right type, and no more than that */

static uint64_t below(uint64_t n)
{
    return (check_random(&state) >> 9) % n;
}

/* Other units than the stable ones may be populated or punched before each answer. */
static void change(void)
{
    const uint64_t dense = below(4);

    for (size_t i = 0; i < nunits; i++) {
        if (below(3) == 0) {
            now[i] = stable[i] || below(8) < dense;
        }
    }
}

/* Long runs, and single units. */
static void begin_model(void)
{
    bool dirty = false;

    for (size_t i = 0; i < nunits; i++) {
        dirty = below(6) == 0 ? !dirty : dirty;
        now[i] = stable[i] = dirty && below(8) != 0;
    }
    change();
}

/* An offset, mostly one in the memory. */
static uint64_t any_offset(void)
{
    return below(8) == 0 ? check_random(&state) >> below(64) : below(nunits * unit + page);
}

static off_t seek(off_t offset, int whence)
{
    static const int errors[] = {ENXIO, EIO, EINVAL, EOVERFLOW};

    if (nonsense) {
        errno = errors[below(4)];
        return below(6) == 0 ? -1 : (off_t)(any_offset() & INT64_MAX);
    }
    change();
    CHECK(offset >= 0, "offset %" PRId64, (int64_t)offset);
    size_t at = (size_t)((uint64_t)offset / unit);
    if (at < nunits && now[at] == (whence == SEEK_DATA)) {
        return offset;
    }
    while (at < nunits && now[at] != (whence == SEEK_DATA)) {
        at++;
    }
    if (at >= nunits && whence == SEEK_DATA) {
        errno = ENXIO;
        return -1;
    }
    return (off_t)(at * unit);
}

static int core(void *address, size_t size, unsigned char *in_core)
{
    const size_t first = (size_t)((uint8_t *)address - memory) / page;

    CHECK((uintptr_t)address % page == 0 && first + (size + page - 1) / page <= nunits, "mincore");
    change();
    for (size_t i = 0; i < (size + page - 1) / page; i++) {
        in_core[i] = (unsigned char)((below(128) << 1) | now[first + i]); /* other bits are open */
    }
    return 0;
}

static int scan(uint64_t *words)
{
    struct linux_pm_scan_arg *arg = (void *)words;
    struct linux_page_region *regions = (void *)(uintptr_t)arg->vec;
    const uint64_t most = 1 + below(arg->vec_len); /* it may always stop early */
    uint64_t count = 0;

    if (nonsense) {
        for (uint64_t i = 0; i < arg->vec_len; i++) {
            regions[i].start = arg->start + any_offset();
            regions[i].end = regions[i].start + below(3) * page;
        }
        arg->walk_end = below(3) == 0 ? arg->start : arg->start + any_offset();
        return (int)below(8) - 1 + (int)below(2) * 10000;
    }
    change();
    arg->walk_end = arg->start;
    while (arg->walk_end < arg->end) {
        const size_t at = (size_t)(arg->walk_end - (uintptr_t)memory) / page;
        if (now[at] && count > 0 && regions[count - 1].end == arg->walk_end) {
            regions[count - 1].end += page;
        } else if (now[at]) {
            if (count == most) {
                break;
            }
            regions[count++] =
                (struct linux_page_region){arg->walk_end, arg->walk_end + page, below(64)};
        }
        arg->walk_end += page;
    }
    return (int)count;
}

static bool any_stable(uintptr_t from, uintptr_t to)
{
    for (size_t i = 0; i < nunits; i++) {
        const uintptr_t at = (uintptr_t)memory + i * unit;
        if (stable[i] && at < to && at + unit > from) {
            return true;
        }
    }
    return false;
}

/* Any bytes of the memory, as a walk asks about them: on from the end of each extent. */
static void search(void)
{
    const uint64_t first = below(MODEL_PAGES * page);
    uintptr_t at = (uintptr_t)memory + first;
    const uintptr_t end = at + 1 + below(MODEL_PAGES * page - first);
    struct iova_holes *holes = iova_holes_open((void *)at);
    struct iova_extent extent;
    unsigned steps = 0;

    CHECK(holes != NULL, "unknown");
    while (holes != NULL && at < end) {
        const bool found = iova_holes_next(holes, at, end, &extent);
        const uintptr_t hole_to = found ? extent.start : end;
        CHECK(nonsense || hole_to <= at || !any_stable(at, hole_to), "skips what is populated");
        if (!found) {
            break;
        }
        CHECK(extent.start % page == 0 && extent.end % page == 0, "no whole pages");
        CHECK(extent.start < end && extent.start < extent.end && extent.end > at, "empty");
        if (++steps > MODEL_PAGES + 1 || extent.end <= at) {
            CHECK(false, "no end");
            break;
        }
        at = extent.end;
    }
    iova_holes_close(holes);
}

static void try(int flags, int fd, uint64_t unit_bytes)
{
    memory = mmap(NULL, MODEL_PAGES * page, PROT_READ | PROT_WRITE, flags, fd, 0);
    CHECK(memory != MAP_FAILED, "no memory");
    unit = unit_bytes;
    nunits = (size_t)(MODEL_PAGES * page / unit);
    for (unsigned round = 0; round < 3000 && check_failures == 0; round++) {
        nonsense = round % 3 == 2;
        begin_model();
        search();
    }
    munmap(memory, MODEL_PAGES * page);
}

int main(void)
{
    const int fd = memfd_create("model", MFD_CLOEXEC);

    page = (uint64_t)sysconf(_SC_PAGESIZE);
    if (fd < 0 || ftruncate(fd, (off_t)(MODEL_PAGES * page)) != 0) {
        check_skip("no memory file");
    }
    answer_seek = seek;
    answer_scan = scan;
    answer_core = core;
    swap = NO_SWAP;
    try(MAP_SHARED, fd, 1024);
    try(MAP_SHARED, fd, 512);
    try(MAP_SHARED, fd, page);
    try(MAP_PRIVATE | MAP_ANONYMOUS, -1, page);
    closed_map_files = true;
    try(MAP_SHARED | MAP_ANONYMOUS, -1, page);
    return check_result();
}

#else

#include "check.h"

int main(void)
{
    check_skip("elsewhere nothing is known");
}

#endif
