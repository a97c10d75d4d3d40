/*
 * test_unpinned.c - bitmaps whose pins cost nothing: batches of rows in any order, and long walks
 * over memory that was mostly never populated, where holes are left out.
 *
 * The memory around a bitmap is inaccessible or watched; expectations come from a boolean for each
 * page, or from a list of the few pages that are dirty. The inner loops are the portable ones.
 */
#include <errno.h>
#include <string.h>

#include "area.h"
#include "core/bits/kernels.h"

static uint64_t page; /* of the host */
static uint64_t state = 5;

static uint64_t below(uint64_t limit)
{
    return (check_random(&state) >> 11) % limit;
}

/* --- batches ------------------------------------------------------------------------------- */

enum { NPAGES = 5, MOST_ROWS = 300, BASE = 1000, PAGE_SIZE = 16, MOST_BITS = NPAGES * 4096 * 8 };

static bool expected[MOST_BITS];

enum what { SET, CLEAR, PAGES, N_WHAT };

/* Does rows at random, inside or to be clipped, and says in `expected` what should come of it. */
static void do_rows(struct iova_bitmap *bitmap, uint64_t nbits, enum what what)
{
    static struct iova_bitmap_range rows[MOST_ROWS];
    static uint64_t pages[MOST_ROWS];
    const struct iova_bitmap_geometry *geometry = iova_bitmap_geometry(bitmap);
    const bool clip = below(3) == 0;
    const uint64_t n = below(3) ? below(MOST_ROWS) : below(8);
    const uint64_t near = below(2) ? geometry->length : below(geometry->length) + 1;
    struct iova_bitmap_report report;
    uint64_t bad = 99;
    int rc;

    for (uint64_t i = 0; i < n; i++) {
        const uint64_t long_row = below(5) ? 3000 : 100000;
        rows[i].iova = clip ? below(near + 2 * BASE) : BASE + below(near);
        rows[i].length = what == PAGES ? 1 : below(8) ? below(below(3) ? long_row : 40) : 0;
        if (!clip && rows[i].length > geometry->last + 1 - rows[i].iova) {
            rows[i].length = geometry->last + 1 - rows[i].iova;
        }
        pages[i] = rows[i].iova;
        for (uint64_t k = 0; k < rows[i].length; k++) {
            const uint64_t at = rows[i].iova + k;
            if (at >= BASE && at <= geometry->last) {
                expected[(at - BASE) / PAGE_SIZE] = what != CLEAR;
            }
        }
    }
    const unsigned flags = clip ? IOVA_BITMAP_CLIP : 0;
    if (what == PAGES) {
        rc = iova_bitmap_set_pages(bitmap, pages, n, flags, &bad, &report);
    } else if (what == CLEAR) {
        rc = iova_bitmap_clear_ranges(bitmap, rows, n, flags, &bad, &report);
    } else {
        rc = iova_bitmap_set_ranges(bitmap, rows, n, flags, &bad, &report);
    }
    CHECK_EQ(rc, 0);
    CHECK_EQ(bad, 99);
    CHECK(report.pages == 0 && report.iova == 0 && report.length == 0, "a report");
    CHECK(nbits <= MOST_BITS, "nbits %" PRIu64, nbits);
}

/* A bitmap that starts where memory starts, ends where it ends, or neither. */
static void test_batches(uint64_t seed)
{
    const uint64_t nbits = below(2) ? 1 + below(NPAGES * page * 8) : NPAGES * page * 8 - below(80);
    const uint64_t nbytes = (nbits + 7) / 8;
    const uint64_t room = NPAGES * page - nbytes;
    const uint64_t offset = seed % 3 == 0 ? 0 : seed % 3 == 1 ? room : below(room + 1);
    const struct iova_bitmap_options options = {.window_pages = 1 + below(3)};
    struct area area = area_map(NPAGES);
    struct iova_bitmap *bitmap = NULL;
    uint8_t *const bytes = area.bytes + offset;
    static uint8_t around[NPAGES * 4096];

    for (uint64_t i = 0; i < area.size; i++) {
        area.bytes[i] = (uint8_t)(check_random(&state) >> 9 & (seed % 2 ? 0xff : 0x11));
    }
    for (uint64_t n = 0; n < nbits; n++) {
        expected[n] = bytes[n / 8] >> n % 8 & 1;
    }
    memcpy(around, area.bytes, area.size);
    CHECK_EQ(iova_bitmap_alloc(BASE, nbits * PAGE_SIZE - below(PAGE_SIZE), PAGE_SIZE, bytes, nbytes,
                               &options, &bitmap),
             0);
    if (below(2)) { /* the present window is neither used nor moved */
        CHECK_EQ(iova_bitmap_clear(bitmap, BASE, 1, 0, NULL), 0);
        expected[0] = false;
    }
    const struct iova_bitmap_window held = *iova_bitmap_present_window(bitmap);
    for (unsigned round = 0; round < 4; round++) {
        do_rows(bitmap, nbits, (enum what)below(N_WHAT));
        for (uint64_t n = 0; n < nbits; n++) {
            CHECK((bytes[n / 8] >> n % 8 & 1) == expected[n], "bit %" PRIu64 ", seed %" PRIu64, n,
                  seed);
        }
    }
    CHECK(memcmp(&held, iova_bitmap_present_window(bitmap), sizeof(held)) == 0, "window");
    const struct iova_bitmap_stats *stats = iova_bitmap_stats(bitmap);
    CHECK_EQ(stats->pins - stats->unpins, held.npages != 0);
    CHECK_EQ(stats->pinned_pages, held.npages);
    CHECK(nbits % 8 == 0 ||
              bytes[nbytes - 1] >> nbits % 8 == around[offset + nbytes - 1] >> nbits % 8,
          "bits behind the last page");
    memset(bytes, 0, nbytes);
    memset(around + offset, 0, nbytes);
    CHECK(memcmp(around, area.bytes, area.size) == 0, "bytes around");
    iova_bitmap_free(bitmap);
    area_unmap(&area);
}

/* In a block of just its size: what touches a byte behind it is seen by the sanitizers. */
static void test_exact_size(void)
{
    for (uint64_t nbytes = 1; nbytes < 40; nbytes++) {
        const uint64_t nbits = 8 * nbytes;
        struct iova_bitmap *bitmap = NULL;
        struct iova_bitmap_report report;
        uint8_t *bytes = calloc(1, nbytes);
        CHECK_EQ(iova_bitmap_alloc(0, nbits, 1, bytes, nbytes, NULL, &bitmap), 0);
        for (uint64_t length = 1; length <= nbits; length += 1 + below(9)) {
            struct iova_bitmap_range row = {below(nbits + 1 - length), length};
            uint64_t bad_row;
            if (below(2)) {
                row.iova = nbits - length;
            }
            CHECK_EQ(iova_bitmap_reset(bitmap, &report), 0);
            if (below(2)) {
                CHECK_EQ(iova_bitmap_set(bitmap, row.iova, length, 0, NULL), 0);
            } else {
                CHECK_EQ(iova_bitmap_set_ranges(bitmap, &row, 1, 0, &bad_row, &report), 0);
            }
            CHECK_EQ(iova_bitmap_count(bitmap, row.iova, length, 0, &report), 0);
            CHECK_EQ(report.pages, length);
            CHECK_EQ(iova_bitmap_count(bitmap, 0, nbits, 0, &report), 0);
            CHECK_EQ(report.pages, length);
        }
        iova_bitmap_free(bitmap);
        free(bytes);
    }
}

/* --- long walks ---------------------------------------------------------------------------- */

#ifdef __linux__

enum { WIDE = 48 << 20, DIRTY = 12 }; /* bytes of bitmap, a bit for each address */

static uint64_t dirty[DIRTY + 4]; /* ascending */
static uint64_t ndirty;

static uint8_t *map_wide(int flags, bool marked)
{
    uint8_t *memory =
        mmap(NULL, WIDE, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (memory == MAP_FAILED) {
        check_skip("no address space");
    }
    madvise(memory, WIDE, MADV_NOHUGEPAGE);
    for (uint64_t i = 0; marked && i < ndirty; i++) {
        memory[dirty[i] / 8] |= (uint8_t)(1u << dirty[i] % 8);
    }
    return memory;
}

static void check_list(struct iova_bitmap *bitmap)
{
    struct iova_bitmap_ranges found = {0};
    struct iova_bitmap_report report;
    uint64_t *pages = NULL;
    uint64_t count = 0;
    uint64_t at = 0;
    const uint64_t length = (uint64_t)WIDE * 8;

    CHECK_EQ(iova_bitmap_count(bitmap, 0, length, 0, &report), 0);
    CHECK_EQ(report.pages, ndirty);
    CHECK_EQ(iova_bitmap_count_ranges(bitmap, 0, length, 0, &report), 0);
    CHECK_EQ(report.pages, ndirty);
    CHECK_EQ(iova_bitmap_count_ranges(bitmap, 0, length, IOVA_BITMAP_CLEAN, &report), 0);
    CHECK_EQ(report.pages, ndirty + (ndirty == 0 || dirty[ndirty - 1] != length - 1));
    CHECK_EQ(iova_bitmap_pages(bitmap, 0, length, 0, &pages, &count, &report), 0);
    CHECK(count == ndirty && (ndirty == 0 || memcmp(pages, dirty, ndirty * sizeof(*pages)) == 0),
          "pages");
    iova_bitmap_rows_free(pages);
    CHECK_EQ(iova_bitmap_ranges(bitmap, 0, length, 0, &found, &report), 0);
    CHECK_EQ(found.count, ndirty);
    for (uint64_t i = 0; i < found.count && i < ndirty; i++) {
        CHECK(found.rows[i].iova == dirty[i] && found.rows[i].length == 1, "row %" PRIu64, i);
    }
    iova_bitmap_rows_free(found.rows);
    for (uint64_t i = 0; i < ndirty; i++) {
        uint64_t next = 0;
        CHECK_EQ(iova_bitmap_find(bitmap, at, length - at, 0, &next, &report), 1);
        CHECK_EQ(next, dirty[i]);
        at = next + 1;
    }
    CHECK_EQ(iova_bitmap_find(bitmap, at, length - at, 0, &at, &report), 0);
}

/* Host pages that are there: few, for a hole is not populated by being asked about. */
static uint64_t resident(uint8_t *memory, uint64_t from)
{
    static unsigned char in_core[WIDE / 4096];
    uint64_t n = 0;

    CHECK_EQ(mincore(memory + from, WIDE - from, in_core), 0);
    for (uint64_t i = 0; i < (WIDE - from) / page; i++) {
        n += in_core[i] & 1;
    }
    return n;
}

static void test_wide(int flags)
{
    uint8_t *memory = map_wide(flags, true);
    uint8_t *other = map_wide(flags, false);
    struct iova_bitmap *bitmap = NULL, *into = NULL;
    struct iova_bitmap_ranges found = {0};
    struct iova_bitmap_report report;
    const uint64_t length = (uint64_t)WIDE * 8;

    CHECK_EQ(iova_bitmap_alloc(0, length, 1, memory, WIDE, NULL, &bitmap), 0);
    CHECK_EQ(iova_bitmap_alloc(0, length, 1, other, WIDE, NULL, &into), 0);
    check_list(bitmap);
    CHECK_EQ(iova_bitmap_merge(into, bitmap, 0, &report), 0);
    CHECK_EQ(report.pages, ndirty);
    check_list(into);
    CHECK_EQ(iova_bitmap_read_and_clear(into, 0, length, 0, &found, &report), 0);
    CHECK_EQ(found.count, ndirty);
    for (uint64_t i = 0; i < found.count && i < ndirty; i++) {
        CHECK(found.rows[i].iova == dirty[i] && found.rows[i].length == 1, "row %" PRIu64, i);
    }
    iova_bitmap_rows_free(found.rows);
    CHECK_EQ(iova_bitmap_count(into, 0, length, 0, &report), 0);
    CHECK_EQ(report.pages, 0);
    CHECK_EQ(iova_bitmap_move_into(bitmap, 0, length, 0, into, &report), 0);
    CHECK_EQ(report.pages, ndirty);
    check_list(into);
    CHECK_EQ(iova_bitmap_count(bitmap, 0, length, 0, &report), 0);
    CHECK_EQ(report.pages, 0);
    iova_bitmap_free(bitmap);
    iova_bitmap_free(into);
    munmap(memory, WIDE);
    munmap(other, WIDE);
}

static uint64_t pinned; /* host pages, all pins together */

static int64_t count_pin(void *context, uintptr_t address, uint64_t npages,
                         enum iova_bitmap_access access)
{
    (void)context;
    (void)address;
    (void)access;
    pinned += npages;
    return (int64_t)npages;
}

static void count_unpin(void *context, uintptr_t address, uint64_t npages)
{
    (void)context;
    (void)address;
    (void)npages;
}

/* Where pins are asked for, a hole is pinned as all else: only they know what is there. */
static void test_pinned_holes(void)
{
    static const struct iova_bitmap_pin_ops pins = {.pin = count_pin, .unpin = count_unpin};
    const struct iova_bitmap_options options = {.pin = &pins};
    uint8_t *memory = map_wide(MAP_SHARED, false);
    struct iova_bitmap *bitmap = NULL;
    struct iova_bitmap_report report;

    pinned = 0;
    CHECK_EQ(iova_bitmap_alloc(0, (uint64_t)WIDE * 8, 1, memory, WIDE, &options, &bitmap), 0);
    CHECK_EQ(iova_bitmap_clear(bitmap, 0, (uint64_t)WIDE * 8, 0, &report), 0);
    CHECK_EQ(pinned, WIDE / page);
    iova_bitmap_free(bitmap);
    munmap(memory, WIDE);
}

/* Where the walk looks whether it meets zeros, it finds none in one place or another. */
static void test_walks(void)
{
    test_pinned_holes();
    const uint64_t window = 512 * page; /* bytes */
    const uint64_t looks = 8 * window;  /* of the window after which it looks for the first time */
    const uint64_t places[] = {looks, looks + window / 2, looks + window - 1, looks + window};

    for (unsigned i = 0; i < 4; i++) {
        ndirty = 0;
        dirty[ndirty++] = 3;
        dirty[ndirty++] = 8 * places[i] + 5;
        while (ndirty < DIRTY) {
            dirty[ndirty] = dirty[ndirty - 1] + 2 + below((uint64_t)WIDE / 6 * 8 / DIRTY);
            dirty[ndirty] |= ndirty % 3 == 0 ? 8 * page - 1 : 0; /* a hole ends the run */
            ndirty++;
        }
        dirty[ndirty++] = (uint64_t)WIDE * 8 - 1;
        test_wide(MAP_PRIVATE);
        test_wide(MAP_SHARED);
    }
    ndirty = 0;
    test_wide(MAP_SHARED);

    /* Asking does not populate: all of shared memory, and private memory behind the first look. */
    dirty[ndirty++] = 3;
    dirty[ndirty++] = (uint64_t)WIDE * 8 - 9;
    for (int flags = MAP_SHARED; flags <= MAP_PRIVATE; flags++) {
        uint8_t *memory = map_wide(flags, true);
        struct iova_bitmap *bitmap = NULL;
        CHECK_EQ(iova_bitmap_alloc(0, (uint64_t)WIDE * 8, 1, memory, WIDE, NULL, &bitmap), 0);
        check_list(bitmap);
        const uint64_t there = resident(memory, flags == MAP_SHARED ? 0 : looks + window);
        if (there > 3) {
            printf("this system does not tell of holes: %" PRIu64 " pages\n", there);
        }
        uint8_t *copy = malloc(WIDE);
        struct iova_bitmap_report report;
        CHECK(copy != NULL, "no memory");
        memset(copy, 0xff, WIDE);
        CHECK_EQ(iova_bitmap_read(bitmap, copy, &report), 0);
        CHECK(memcmp(copy, memory, WIDE) == 0, "a hole is copied as zeros");
        free(copy);
        iova_bitmap_free(bitmap);
        munmap(memory, WIDE);
    }
}

#else

static void test_walks(void)
{
}

#endif

/* A long walk over pages of which only the last byte says that they are no holes. */
static void test_ends_only(void)
{
    const uint64_t nbytes = 48 << 20;
    uint8_t *bytes = calloc(nbytes + page, 1);
    uint8_t *start = bytes + (page - (uintptr_t)bytes % page);
    struct iova_bitmap_report report;
    struct iova_bitmap *bitmap;

    for (uint64_t end = page; end <= nbytes; end += page) {
        start[end - 1] = 1;
    }
    CHECK_EQ(iova_bitmap_alloc(0, nbytes * 8 * 4096, 4096, start, nbytes, NULL, &bitmap), 0);
    CHECK_EQ(iova_bitmap_count(bitmap, 0, nbytes * 8 * 4096, 0, &report), 0);
    CHECK_EQ(report.pages, nbytes / page);
    iova_bitmap_free(bitmap);
    free(bytes);
}

int main(void)
{
    page = iova_bitmap_host_page_size();
    if (page != 4096) {
        check_skip("made for host pages of 4096 bytes");
    }
    setenv("IOVABITMAP_CPU", "portable", 1); /* other programs run the best loops there are */
    CHECK(strcmp(iova_kernels()->name, "portable") == 0, "%s", iova_kernels()->name);
    for (uint64_t seed = 1; seed <= 150; seed++) {
        test_batches(seed);
    }
    test_exact_size();
    test_ends_only();
    test_walks();
    return check_result();
}
