/*
 * test_geometry.c - the arithmetic between addresses and bits, against 128-bit numbers in which
 * nothing can overflow: at every page size, near 0, 2**31, 2**32, 2**63 and 2**64; and the errors
 * of alloc.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "check.h"
#include "core/bitmap/bitmap.h"

__extension__ typedef unsigned __int128 wide;

static const wide TOP = (wide)1 << 64; /* the end of the address space */

/* Numbers at which arithmetic goes wrong. */
static const uint64_t edges[] = {
    0,
    1,
    2,
    7,
    8,
    9,
    4095,
    4096,
    0x1000000,
    (1ull << 31) - 1,
    1ull << 31,
    (1ull << 31) + 1,
    (1ull << 32) - 1,
    1ull << 32,
    (1ull << 32) + 1,
    1ull << 61,
    (1ull << 63) - 1,
    1ull << 63,
    (1ull << 63) + 1,
    UINT64_MAX - 4096,
    UINT64_MAX - 1,
    UINT64_MAX,
};
enum { N_EDGES = sizeof(edges) / sizeof(edges[0]) };

/* A number nearby. One below 0 becomes one far above all addresses, and is passed over. */
static wide near(wide number, int delta)
{
    return delta < 0 ? number - (unsigned)-delta : number + (unsigned)delta;
}

static wide min_wide(wide a, wide b)
{
    return a < b ? a : b;
}

/* --- errors of alloc ----------------------------------------------------------------- */

static int alloc(uint64_t iova, uint64_t length, uint64_t page_size, void *data, uint64_t size)
{
    struct iova_bitmap *bitmap = NULL;
    int rc = iova_bitmap_alloc(iova, length, page_size, data, size, NULL, &bitmap);

    CHECK((rc == 0) == (bitmap != NULL), "rc %d", rc);
    iova_bitmap_free(bitmap);
    return rc;
}

static void test_alloc_errors(void)
{
    uint8_t data[16];
    const uint64_t bad_sizes[] = {
        0,          3,         12, 12288, 4095, 4097, (1ull << 63) + 1, (1ull << 63) + (1ull << 62),
        3ull << 32, UINT64_MAX};

    memset(data, 0xa5, sizeof(data));
    for (size_t i = 0; i < sizeof(bad_sizes) / sizeof(bad_sizes[0]); i++) {
        CHECK_EQ(alloc(0, 4096, bad_sizes[i], data, sizeof(data)), -EINVAL);
    }
    CHECK_EQ(alloc(0, 0, 4096, data, sizeof(data)), -EINVAL);
    CHECK_EQ(alloc(UINT64_MAX, 0, 4096, data, sizeof(data)), -EINVAL);

    CHECK_EQ(alloc(UINT64_MAX, 1, 1ull << 63, data, sizeof(data)), 0); /* ends at 2**64 */
    CHECK_EQ(alloc(UINT64_MAX, 2, 1ull << 63, data, sizeof(data)), -EOVERFLOW);
    CHECK_EQ(alloc(1, UINT64_MAX, 1ull << 63, data, sizeof(data)), 0);
    CHECK_EQ(alloc(2, UINT64_MAX, 1ull << 63, data, sizeof(data)), -EOVERFLOW);
    CHECK_EQ(alloc(1ull << 63, 1ull << 63, 1ull << 62, data, 1), 0);
    CHECK_EQ(alloc(1ull << 63, (1ull << 63) + 1, 1ull << 62, data, 1), -EOVERFLOW);
    CHECK_EQ(alloc(UINT64_MAX, UINT64_MAX, 1, data, sizeof(data)), -EOVERFLOW);

    CHECK_EQ(alloc(0, 4096, 4096, NULL, sizeof(data)), -EFAULT);
    for (uint64_t pages = 1; pages <= 128; pages++) {
        uint64_t needed = (pages + 7) / 8;
        CHECK_EQ(alloc(1, pages * 4096, 4096, data, needed), 0);
        CHECK_EQ(alloc(1, pages * 4096 - 4095, 4096, data, needed), 0);
        CHECK_EQ(alloc(1, pages * 4096, 4096, data, needed - 1), -ENOSPC);
    }
    CHECK_EQ(alloc(0, 1, 1, data, 0), -ENOSPC);
    CHECK_EQ(alloc(0, UINT64_MAX, 1, data, (1ull << 61) - 1), -ENOSPC);
    uint8_t *const last = (uint8_t *)(UINTPTR_MAX - 7); /* eight bytes before the end of memory */
    CHECK_EQ(alloc(0, 8 * 4096, 4096, last, 7), 0);
    CHECK_EQ(alloc(0, 8 * 4096, 4096, last, 8), -EINVAL);
    CHECK_EQ(alloc(0, 8 * 4096, 4096, last, UINT64_MAX), -EINVAL);
    for (size_t i = 0; i < sizeof(data); i++) {
        CHECK_EQ(data[i], 0xa5);
    }
    iova_bitmap_free(NULL);
}

/* --- the geometry -------------------------------------------------------------------- */

static void check_address(const struct iova_bitmap_geometry *g, wide address)
{
    if (address < g->iova || address >= (wide)g->iova + g->length) {
        return;
    }
    wide bit = (address - g->iova) / g->page_size;
    wide first = g->iova + bit * g->page_size;
    wide end = min_wide(first + g->page_size, (wide)g->iova + g->length);

    CHECK_EQ(iova_geometry_bit(g, (uint64_t)address), bit);
    CHECK_EQ(iova_geometry_address(g, (uint64_t)bit), first);
    CHECK_EQ(iova_geometry_last_address(g, (uint64_t)bit), end - 1);

    struct iova_span pages = iova_geometry_pages(g, (uint64_t)bit, g->nbits - (uint64_t)bit);
    CHECK_EQ(pages.iova, first);
    CHECK_EQ(pages.last, (wide)g->iova + g->length - 1);
    CHECK_EQ(pages.first_bit, bit);
    CHECK_EQ(pages.last_bit, g->nbits - 1);

    pages = iova_geometry_pages(g, (uint64_t)bit, 1);
    CHECK_EQ(pages.last, end - 1);
    CHECK_EQ(pages.last_bit, bit);
}

static void test_geometry(uint64_t iova, uint64_t length, unsigned shift)
{
    const uint64_t page_size = 1ull << shift;
    struct iova_bitmap_geometry g;
    const struct iova_bitmap_geometry untouched = {.iova = 1, .nbits = 2};
    const wide end = (wide)iova + length;

    memcpy(&g, &untouched, sizeof(g));
    int rc = iova_bitmap_geometry_init(&g, iova, length, page_size);
    if (length == 0 || end > TOP) {
        CHECK_EQ(rc, length == 0 ? -EINVAL : -EOVERFLOW);
        CHECK(memcmp(&g, &untouched, sizeof(g)) == 0, "changed by an error");
        return;
    }
    const wide nbits = ((wide)length + page_size - 1) / page_size;
    CHECK_EQ(rc, 0);
    CHECK_EQ(g.iova, iova);
    CHECK_EQ(g.length, length);
    CHECK_EQ(g.last, end - 1);
    CHECK_EQ(g.page_size, page_size);
    CHECK_EQ(g.pgshift, shift);
    CHECK_EQ(g.nbits, nbits);
    CHECK_EQ(g.nbytes, (nbits + 7) / 8);

    struct iova_span whole = iova_geometry_whole(&g);
    CHECK_EQ(whole.iova, iova);
    CHECK_EQ(whole.last, end - 1);
    CHECK_EQ(whole.first_bit, 0);
    CHECK_EQ(whole.last_bit, nbits - 1);

    for (int delta = -1; delta <= 1; delta++) {
        check_address(&g, near(iova, delta));
        check_address(&g, near(end, delta));
        check_address(&g, near(iova + (wide)(length / 2), delta));
        check_address(&g, near(iova + (wide)page_size, delta));
        check_address(&g, near(iova + (nbits - 1) * page_size, delta));
        for (int i = 0; i < N_EDGES; i++) {
            check_address(&g, near(edges[i], delta));
        }
    }
}

static void test_nbytes(void)
{
    for (unsigned shift = 0; shift < 64; shift++) {
        const wide page_size = (wide)1 << shift;
        CHECK_EQ(iova_bitmap_nbytes(0, (uint64_t)page_size), 0);
        for (int i = 0; i < N_EDGES; i++) {
            const wide nbits = (edges[i] + page_size - 1) / page_size;
            CHECK_EQ(iova_bitmap_nbytes(edges[i], (uint64_t)page_size), (nbits + 7) / 8);
        }
        for (unsigned n = 0; n < 40; n++) { /* around whole bytes */
            wide length = n * page_size;
            for (int delta = -1; delta <= 1; delta++) {
                wide around = near(length, delta);
                if (around < TOP) {
                    wide nbits = (around + page_size - 1) / page_size;
                    CHECK_EQ(iova_bitmap_nbytes((uint64_t)around, (uint64_t)page_size),
                             (nbits + 7) / 8);
                }
            }
        }
    }
}

/* --- what is inside ------------------------------------------------------------------ */

static void check_resolve(const struct iova_bitmap_geometry *g, uint64_t iova, uint64_t length,
                          unsigned flags)
{
    const wide end = (wide)iova + length;
    const wide range_end = (wide)g->iova + g->length;
    const wide first = iova < g->iova ? g->iova : iova;
    const wide stop = min_wide(end, range_end);
    const struct iova_span untouched = {1, 2, 3, 4};
    struct iova_span span = untouched;
    int want = 1;

    if (length == 0) {
        want = 0;
    } else if (end > TOP) {
        want = -EOVERFLOW;
    } else if ((iova < g->iova || end > range_end) && !(flags & IOVA_BITMAP_CLIP)) {
        want = -ERANGE;
    } else if (first >= stop) {
        want = 0;
    }
    int rc = iova_geometry_resolve(g, iova, length, flags, &span);
    CHECK(rc == want, "rc %d, want %d: 0x%" PRIx64 " + 0x%" PRIx64 " flags %u", rc, want, iova,
          length, flags);
    if (rc != 1 || want != 1) {
        CHECK(memcmp(&span, &untouched, sizeof(span)) == 0, "span changed, rc %d", rc);
        return;
    }
    CHECK_EQ(span.iova, first);
    CHECK_EQ(span.last, stop - 1);
    CHECK_EQ(span.first_bit, (first - g->iova) / g->page_size);
    CHECK_EQ(span.last_bit, (stop - 1 - g->iova) / g->page_size);
}

/* Every range between two points of interest, and those that wrap. */
static void test_resolve(uint64_t base, uint64_t length, unsigned shift)
{
    struct iova_bitmap_geometry g;
    wide points[64];
    int n = 0;

    if (iova_bitmap_geometry_init(&g, base, length, 1ull << shift) != 0) {
        return;
    }
    const wide end = (wide)base + length;
    const wide marks[] = {0,
                          base,
                          end,
                          base + (wide)g.page_size,
                          base + (wide)(length / 2),
                          base + (wide)(g.nbits - 1) * g.page_size,
                          TOP};
    for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++) {
        for (int delta = -2; delta <= 2; delta++) {
            wide point = near(marks[i], delta);
            if (point <= TOP) {
                points[n++] = point;
            }
        }
    }
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < n; j++) {
            if (points[i] < TOP && points[j] >= points[i] && points[j] - points[i] < TOP) {
                for (unsigned flags = 0; flags < 4; flags++) {
                    check_resolve(&g, (uint64_t)points[i], (uint64_t)(points[j] - points[i]),
                                  flags);
                }
            }
        }
        if (points[i] < TOP) { /* from here to the last address, one beyond, and far beyond */
            uint64_t iova = (uint64_t)points[i];
            for (unsigned flags = 0; flags < 4; flags++) {
                check_resolve(&g, iova, UINT64_MAX - iova, flags);
                check_resolve(&g, iova, UINT64_MAX - iova + 1, flags);
                check_resolve(&g, iova, UINT64_MAX - iova + 2, flags);
                check_resolve(&g, iova, UINT64_MAX, flags);
            }
        }
    }
}

int main(void)
{
    test_alloc_errors();
    test_nbytes();
    for (unsigned shift = 0; shift < 64; shift++) {
        for (int i = 0; i < N_EDGES; i++) {
            for (int j = 0; j < N_EDGES; j++) {
                test_geometry(edges[i], edges[j], shift);
                /* The same length, ending exactly at 2**64 and one beyond. */
                test_geometry(UINT64_MAX - edges[j] + 1, edges[j], shift);
                test_geometry(UINT64_MAX - edges[j] + 2, edges[j], shift);
            }
        }
        const wide page_size = (wide)1 << shift;
        const wide lengths[] = {1,      page_size, page_size + 1, 3 * page_size, 17 * page_size - 1,
                                TOP - 1};
        for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
            if (lengths[i] < TOP) {
                const uint64_t length = (uint64_t)lengths[i];
                const uint64_t last_base = UINT64_MAX - length + 1;
                test_resolve(0, length, shift);
                test_resolve(last_base, length, shift); /* ends at 2**64 */
                test_resolve(last_base / 2 + 1, length, shift);
                test_resolve(0x1000001, length, shift);
            }
        }
    }
    return check_result();
}
