/*
 * fuzz_track.c - the write tracker in the fuzz harness: a kernel that tells which pages were
 * written, or fails, as the input says; bitmaps whose pins fail; and a poll that says no. No page
 * that was written is lost, and none is marked that was not.
 *
 * The tracked buffer is never touched, so it needs no memory: only its address.
 */
#include <string.h>

#include "core/sources/write_protect.h"
#include "core/sources/write_tracker.h"
#include "fuzz.h"

enum { MOST = 64 }; /* pages of the buffer */

int __wrap_iova_write_protect_open(struct iova_write_protect *protect, struct iova_pages pages,
                                   enum iova_write_tracker_step *step);
void __wrap_iova_write_protect_close(struct iova_write_protect *protect, struct iova_pages pages);
bool __wrap_iova_write_protect_is_owner(const struct iova_write_protect *protect);
int __wrap_iova_write_protect_scan(const struct iova_write_protect *protect,
                                   struct iova_pages *pages,
                                   struct iova_pages found[IOVA_WRITE_PROTECT_BATCH]);

static struct {
    struct iova_write_tracker *tracker;
    uintptr_t address;
    uint64_t size;
    uint64_t iova;
    uint64_t granularity;
    unsigned npages;
    bool open;

    bool written[MOST]; /* the kernel knows */
    bool told[MOST];    /* it has told it, or failed, and forgotten it: it is in a bitmap or kept */

    /* What happens during a collect. */
    bool faults;
    bool inside; /* from before_scan to after_scan */
    bool poll_failed;
    bool scan_failed;
} t;

static bool fails(void)
{
    return t.faults && next8() % 16 == 15;
}

/* --- in the place of the system's ---------------------------------------------------------------
 */

int __wrap_iova_write_protect_open(struct iova_write_protect *protect, struct iova_pages pages,
                                   enum iova_write_tracker_step *step)
{
    REQUIRE(!t.open && protect->faults == -1);
    REQUIRE(pages.start % t.granularity == 0 && pages.start <= t.address);
    REQUIRE(pages.end - pages.start == t.npages * t.granularity);
    REQUIRE(pages.end >= t.address + t.size);
    if (fails()) {
        *step = IOVA_WRITE_TRACKER_ARM;
        return -EPERM;
    }
    *protect = (struct iova_write_protect){5, 6, 7};
    *step = IOVA_WRITE_TRACKER_NONE;
    t.open = true;
    return 0;
}

void __wrap_iova_write_protect_close(struct iova_write_protect *protect, struct iova_pages pages)
{
    REQUIRE(t.open && protect->faults == 5);
    REQUIRE(pages.end - pages.start == t.npages * t.granularity);
    *protect = (struct iova_write_protect){-1, -1, 0};
    memset(t.written, 0, sizeof(t.written)); /* forgotten */
    t.open = false;
}

bool __wrap_iova_write_protect_is_owner(const struct iova_write_protect *protect)
{
    return protect->faults == 5;
}

/* Tells some pages; or fails, after it has forgotten any of them. */
int __wrap_iova_write_protect_scan(const struct iova_write_protect *protect,
                                   struct iova_pages *pages,
                                   struct iova_pages found[IOVA_WRITE_PROTECT_BATCH])
{
    const uintptr_t start = t.address & ~((uintptr_t)t.granularity - 1);
    unsigned page = (unsigned)((pages->start - start) / t.granularity);
    const unsigned stop = (unsigned)((pages->end - start) / t.granularity);
    int n = 0;

    REQUIRE(t.open && protect->faults == 5 && t.inside);
    REQUIRE(pages->start % t.granularity == 0 && page < stop && stop <= t.npages);
    if (fails()) {
        for (; page < stop; page++) {
            t.told[page] = true; /* as if it were written */
            t.written[page] = t.written[page] && (next8() & 1);
        }
        t.scan_failed = true;
        return -EIO;
    }
    const unsigned most = next8() & 1 ? stop : page + 1 + next8() % 8;
    for (; page < stop && page < most; page++) {
        if (!t.written[page]) {
            continue;
        }
        const uintptr_t at = start + page * (uintptr_t)t.granularity;
        if (n > 0 && found[n - 1].end == at) {
            found[n - 1].end += (uintptr_t)t.granularity;
        } else {
            found[n++] = (struct iova_pages){at, at + (uintptr_t)t.granularity};
        }
        t.written[page] = false;
        t.told[page] = true;
    }
    pages->start = start + page * (uintptr_t)t.granularity;
    return n;
}

/* --- what a caller does meanwhile ---------------------------------------------------------------
 */

static void before_scan(void *context)
{
    REQUIRE(context == &t && !t.inside);
    t.inside = true;
}

static void after_scan(void *context)
{
    REQUIRE(context == &t && t.inside);
    t.inside = false;
}

static int poll(void *context)
{
    REQUIRE(context == &t && !t.inside);
    t.poll_failed = fails();
    return t.poll_failed;
}

/* --- the model -----------------------------------------------------------------------------------
 */

/* The bytes of the buffer in a page, as addresses of the bitmap. */
static void bytes_of(unsigned page, wide *start, wide *end)
{
    const uint64_t before = t.address & (t.granularity - 1); /* the first page starts earlier */
    const wide first = (wide)page * t.granularity;

    *start = t.iova + (first < before ? 0 : first - before);
    *end = t.iova + first + t.granularity - before;
    *end = *end > (wide)t.iova + t.size ? (wide)t.iova + t.size : *end;
}

/* A byte of the buffer is marked in one of two bitmaps: all bytes of each of its pages have the
 * same bits, except at the edges that the model cuts at, so a few of them stand for all. */
static bool is_marked(const struct subject *s, wide address)
{
    return s->base <= address && address < s->end && s->dirty[bit_of(s, address)];
}

/* Everything that was told is marked in one of the two, below `end` where one of them is. */
static void check_told(const struct subject *a, const struct subject *b, wide end)
{
    for (unsigned page = 0; page < t.npages; page++) {
        wide at, stop;
        bytes_of(page, &at, &stop);
        stop = stop < end ? stop : end;
        while (t.told[page] && at < stop) { /* the first byte of each page of either bitmap */
            REQUIRE(is_marked(a, at) || is_marked(b, at));
            wide next = stop;
            for (unsigned i = 0; i < 2; i++) {
                const struct subject *s = i == 0 ? a : b;
                const wide edge = at < s->base  ? s->base
                                  : at < s->end ? address_of(s, bit_of(s, at) + 1)
                                                : stop;
                next = edge < next ? edge : next;
            }
            at = next;
        }
    }
}

/* Pages of the bitmap that told pages overlap. */
static void may_be_marked(const struct subject *s, bool *may)
{
    memset(may, 0, MAX_BITS * sizeof(*may));
    for (unsigned page = 0; page < t.npages; page++) {
        wide start, end;
        bytes_of(page, &start, &end);
        start = start < s->base ? s->base : start;
        end = end > s->end ? s->end : end;
        for (unsigned bit = start < end ? bit_of(s, start) : s->nbits;
             t.told[page] && bit < s->nbits && address_of(s, bit) < end; bit++) {
            may[bit] = true;
        }
    }
}

/* One collect into `s`, and what it must say. Returns whether it came to its end. */
static bool collect(struct subject *s, const struct subject *other, bool with_faults)
{
    const struct iova_write_tracker_hooks hooks = {before_scan, after_scan, poll, &t};
    struct iova_bitmap_report report = {9, 9, 9};
    bool may[MAX_BITS];
    const wide start = s->base > t.iova ? s->base : t.iova;
    const wide buffer_end = (wide)t.iova + t.size;
    const wide end = s->end < buffer_end ? s->end : buffer_end;

    t.faults = with_faults;
    t.poll_failed = t.scan_failed = false;
    if (with_faults) {
        fault_plan();
    } else {
        fault_clear();
    }
    const int rc = iova_write_tracker_collect(t.tracker, s->bitmap, &hooks, &report);
    const bool pins_failed = fault_seen();
    fault_clear();
    REQUIRE(!t.inside);
    may_be_marked(s, may);
    REQUIRE(report.pages == subject_adopt(s, may));
    const enum iova_write_tracker_step step = iova_write_tracker_step(t.tracker);
    if (rc == 0) {
        REQUIRE(report.length == 0 && step == IOVA_WRITE_TRACKER_NONE);
        REQUIRE(!t.scan_failed && !t.poll_failed && !pins_failed);
    } else if (pins_failed) {
        REQUIRE((rc == -EIO || rc == -EFAULT) && step == IOVA_WRITE_TRACKER_MARK);
    } else if (t.scan_failed) {
        REQUIRE(rc == -EIO && step == IOVA_WRITE_TRACKER_SCAN);
    } else {
        REQUIRE(rc == -EINTR && t.poll_failed && step == IOVA_WRITE_TRACKER_POLL);
    }
    if (rc < 0) { /* what is before that is answered */
        REQUIRE(report.length > 0 && report.iova >= start);
        REQUIRE((wide)report.iova + report.length == end);
    }
    /* Of what the bitmap covers, as far as it is answered, all that was written is marked. */
    const wide answered = rc < 0 ? report.iova : end;
    for (unsigned page = 0; page < t.npages; page++) {
        wide from, to;
        bytes_of(page, &from, &to);
        from = from < start ? start : from;
        to = to > answered ? answered : to;
        REQUIRE(from >= to || !t.written[page]);
        for (wide at = from; t.told[page] && at < to; at = address_of(s, bit_of(s, at) + 1)) {
            REQUIRE(is_marked(s, at) || is_marked(other, at));
        }
    }
    return rc == 0;
}

/* A buffer inside of what `cover` covers, and mostly across an edge of `main`. */
static void open_tracker(const struct subject *cover)
{
    const wide room = cover->end - cover->base;
    uint64_t offset = next64();

    memset(&t, 0, sizeof(t));
    t.granularity = (uint64_t)PAGE << next8() % 40;
    t.address = (uintptr_t)1 << 48;
    t.address += next64() % t.granularity;
    offset = (uint64_t)(offset % room);
    wide most = (wide)(MOST - 1) * t.granularity; /* it may touch one page more */
    most = most < room - offset ? most : room - offset;
    t.size = (uint64_t)(most - next64() % most % (most / 2 + 1));
    t.iova = (uint64_t)(cover->base + offset);
    const uintptr_t mask = ~((uintptr_t)t.granularity - 1);
    const uintptr_t last = (t.address + (uintptr_t)t.size - 1) & mask;
    t.npages = (unsigned)((last - (t.address & mask)) / t.granularity) + 1;
    REQUIRE(iova_write_tracker_new((void *)t.address, t.size, t.iova, t.granularity, &t.tracker) ==
            0);
}

static void write_pages(void)
{
    const uint64_t bits = next64();

    for (unsigned page = 0; page < t.npages; page++) {
        t.written[page] = t.written[page] || (bits >> page % 64 & 1);
    }
}

/* Bitmaps in turn, with failures; in the end without, and then nothing may be missing. */
void fuzz_track(struct subjects *all)
{
    struct subject *const main = &all->main;
    struct subject *const cover = &all->cover;
    struct iova_bitmap_report report;
    const uint8_t bits = next8();

    fault_clear();
    if (bits & 1) { /* what is marked already hides what is lost */
        REQUIRE(iova_bitmap_reset(main->bitmap, &report) == 0);
        REQUIRE(iova_bitmap_reset(cover->bitmap, &report) == 0);
        put(main, 0, main->nbits, false);
        put(cover, 0, cover->nbits, false);
    }
    open_tracker(cover);
    REQUIRE(iova_write_tracker_collect(t.tracker, main->bitmap, NULL, &report) == -EBADF);
    t.faults = true;
    if (iova_write_tracker_start(t.tracker) < 0) {
        REQUIRE(!t.open && iova_write_tracker_step(t.tracker) == IOVA_WRITE_TRACKER_ARM);
        t.faults = false;
        REQUIRE(iova_write_tracker_start(t.tracker) == 0);
    }
    for (unsigned round = 0; round < 1u + (bits >> 1 & 3); round++) {
        write_pages();
        if (bits & 8) {
            collect(main, cover, true);
        }
        collect(bits >> (4 + round) & 1 ? cover : main, bits >> (4 + round) & 1 ? main : cover,
                true);
    }
    REQUIRE(collect(main, cover, false));
    REQUIRE(collect(cover, main, false));
    check_told(main, cover, TOP);
    iova_write_tracker_free(t.tracker);
    REQUIRE(!t.open);
}
