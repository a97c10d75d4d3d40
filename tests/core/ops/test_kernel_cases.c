/*
 * test_kernel_cases.c - the dirty-tracking cases that Linux's own iommufd tests check, at every
 * position and order, and cases around the edges where the kernel's version fails.
 *
 * Guard bytes before and after the bitmap must never change; in the last tests the memory before
 * and after cannot even be read.
 */
#include <errno.h>
#include <string.h>

#include "area.h"
#include "check.h"

enum { GUARD = 0xa5 };

static uint64_t page;
static uint64_t seed = 4711;

/* --- 9 variants, 3 offsets, 3 orders ------------------------------------------------- */

struct variant {
    const char *name;
    uint64_t length; /* KiB */
    uint64_t nbits;
    uint64_t nbytes;
    uint64_t npte;
    uint64_t stride;
    uint64_t ones;
    uint64_t dirty; /* the bytes: that many 0xff (0: every second bit instead) */
    uint64_t clean; /* and that many zeros, over and over */
};

static const struct variant variants[] = {
    {"8k", 8, 4, 1, 1, 2, 2, 0, 0},
    {"16k", 16, 8, 1, 1, 2, 4, 0, 0},
    {"64k", 64, 32, 4, 1, 2, 16, 0, 0},
    {"128k", 128, 64, 8, 1, 2, 32, 0, 0},
    {"320k", 320, 160, 20, 1, 2, 80, 0, 0},
    {"64M", 64 << 10, 32768, 4096, 1, 2, 16384, 0, 0},
    {"64M huge", 64 << 10, 32768, 4096, 512, 1024, 16384, 64, 64},
    {"128M", 128 << 10, 65536, 8192, 1, 2, 32768, 0, 0},
    {"128M huge", 128 << 10, 65536, 8192, 512, 1024, 32768, 64, 64},
};

static uint8_t expected_byte(const struct variant *v, uint64_t n)
{
    if (v->dirty != 0) {
        return n % (v->dirty + v->clean) < v->dirty ? 0xff : 0;
    }
    return v->nbits == 4 ? 0x05 : 0x55;
}

enum order { ASCENDING, DESCENDING, SHUFFLED };

static void put_in_order(uint64_t *items, uint64_t n, enum order order)
{
    for (uint64_t i = 0; i < n && order == DESCENDING; i++) {
        items[i] = n - 1 - i;
    }
    for (uint64_t i = 0; i < n && order != DESCENDING; i++) {
        uint64_t j = order == SHUFFLED ? check_random(&seed) % (i + 1) : i;
        items[i] = items[j];
        items[j] = i;
    }
}

static void check_variant(const struct variant *v, const struct area *area, uint64_t offset,
                          enum order order, uint64_t window_pages)
{
    const uint64_t base = 0x1000000;
    const uint64_t pte = 2048;
    const struct iova_bitmap_options options = {.window_pages = window_pages};
    const uint64_t marks = (v->nbits + v->stride - 1) / v->stride;
    uint64_t *items = malloc(marks * sizeof(*items));
    struct iova_bitmap *bitmap = NULL;
    struct iova_bitmap_report report;

    if (items == NULL) {
        check_skip("no memory");
    }
    memset(area->bytes, GUARD, area->size);
    memset(area->bytes + offset, 0, v->nbytes);
    CHECK_EQ(iova_bitmap_alloc(base, v->length << 10, pte, area->bytes + offset, v->nbytes,
                               &options, &bitmap),
             0);
    CHECK_EQ(iova_bitmap_geometry(bitmap)->nbits, v->nbits);
    CHECK_EQ(iova_bitmap_geometry(bitmap)->nbytes, v->nbytes);
    put_in_order(items, marks, order);
    for (uint64_t i = 0; i < marks; i++) {
        const uint64_t k = items[i] * v->stride;
        CHECK_EQ(iova_bitmap_set(bitmap, base + k * pte, v->npte * pte, 0, NULL), 0);
    }
    for (uint64_t i = 0; i < area->size; i++) {
        uint8_t want = i - offset < v->nbytes ? expected_byte(v, i - offset) : GUARD;
        CHECK(area->bytes[i] == want,
              "%s at %" PRIu64 " order %d: byte %" PRIu64 " is %02x, want %02x", v->name, offset,
              (int)order, i - offset, area->bytes[i], want);
    }
    CHECK_EQ(iova_bitmap_count(bitmap, base, v->length << 10, 0, &report), 0);
    CHECK_EQ(report.pages, v->ones);
    iova_bitmap_free(bitmap);
    free(items);
}

static void test_matrix(void)
{
    const uint64_t offsets[] = {0, 2048, 4081};
    struct area area = area_map((8192 + 4081) / page + 2);

    for (size_t v = 0; v < sizeof(variants) / sizeof(variants[0]); v++) {
        for (int o = 0; o < 3; o++) {
            for (int order = ASCENDING; order <= SHUFFLED; order++) {
                check_variant(&variants[v], &area, offsets[o], (enum order)order, 0);
                check_variant(&variants[v], &area, offsets[o], (enum order)order, 1);
            }
        }
    }
    area_unmap(&area);
}

/* --- large ones, over the end of a window -------------------------------------------- */

/* Bytes [start, start + size) of the area are `value`, all others guards. */
static void check_bytes(const struct area *area, uint64_t start, uint64_t size, uint8_t value)
{
    uint64_t wrong = 0;

    for (uint64_t i = 0; i < area->size; i++) {
        wrong += area->bytes[i] != (i - start < size ? value : GUARD);
    }
    CHECK(wrong == 0, "%" PRIu64 " bytes wrong, start %" PRIu64 " size %" PRIu64, wrong, start,
          size);
}

static void test_large(uint64_t size, uint64_t offset, const struct area *area)
{
    struct iova_bitmap *bitmap = NULL;
    struct iova_bitmap_report report;
    struct iova_bitmap_window window;
    const uint64_t base = 0x1000000;
    const uint64_t pages = size * 8;

    memset(area->bytes, GUARD, area->size);
    memset(area->bytes + offset, 0, size);
    CHECK_EQ(iova_bitmap_alloc(base, pages * 4096, 4096, area->bytes + offset, size, NULL, &bitmap),
             0);
    CHECK_EQ(iova_bitmap_set(bitmap, base, pages * 4096, IOVA_BITMAP_COUNT, &report), 0);
    CHECK_EQ(report.pages, pages);
    check_bytes(area, offset, size, 0xff);

    /* 20 pages across the byte where the first window ends, and where the second does. */
    iova_bitmap_window_at(bitmap, 0, &window);
    for (uint64_t edge = iova_bitmap_window_nbytes(bitmap, &window) * 8; edge < pages;) {
        CHECK_EQ(iova_bitmap_reset(bitmap, &report), 0);
        for (uint64_t first = edge - 20; first <= edge && first + 20 <= pages; first++) {
            CHECK_EQ(iova_bitmap_set(bitmap, base, 1, 0, NULL), 0); /* back to the first window */
            CHECK_EQ(
                iova_bitmap_set(bitmap, base + first * 4096, 20 * 4096, IOVA_BITMAP_COUNT, &report),
                0);
            CHECK_EQ(report.pages, 20);
            CHECK_EQ(iova_bitmap_count(bitmap, base + (first - 8) * 4096, 28 * 4096, 0, &report),
                     0);
            CHECK_EQ(report.pages, 20);
            CHECK_EQ(iova_bitmap_clear(bitmap, base + first * 4096, 20 * 4096, 0, NULL), 0);
        }
        CHECK_EQ(iova_bitmap_clear(bitmap, base, 1, 0, NULL), 0);
        check_bytes(area, offset, size, 0);
        iova_bitmap_window_at(bitmap, edge / 8, &window);
        edge += iova_bitmap_window_nbytes(bitmap, &window) * 8;
    }
    iova_bitmap_free(bitmap);
}

static void test_all_large(void)
{
    const uint64_t mib = 1 << 20;
    struct area area = area_map((4 * mib + 4081) / page + 2);

    for (uint64_t offset = 0; offset <= 8; offset++) {
        test_large(2 * mib + 16, offset, &area);
        test_large(4 * mib + 1, offset, &area);
    }
    test_large(2 * mib + 16, 4081, &area);
    test_large(4 * mib + 1, 4081, &area);
    area_unmap(&area);
}

/* --- inaccessible memory right before and right after -------------------------------- */

/* Every operation, over everything and over parts. A byte too far ends the program by a signal. */
static void use_all(uint8_t *data, uint64_t nbytes, unsigned last_bits, uint64_t window_pages)
{
    const uint64_t nbits = (nbytes - 1) * 8 + last_bits;
    const struct iova_bitmap_options options = {.window_pages = window_pages};
    struct iova_bitmap *bitmap = NULL;
    struct iova_bitmap_report report;
    struct iova_bitmap_ranges found = {0};
    uint8_t *out = malloc(nbits);

    if (out == NULL) {
        check_skip("no memory");
    }
    memset(data, 0, nbytes);
    CHECK_EQ(iova_bitmap_alloc(5, nbits * 4096 - 1, 4096, data, nbytes, &options, &bitmap), 0);
    CHECK_EQ(iova_bitmap_set(bitmap, 5, nbits * 4096 - 1, 0, NULL), 0);
    CHECK_EQ(data[nbytes - 1], (1u << last_bits) - 1); /* bits behind the last page stay */
    CHECK_EQ(iova_bitmap_clear(bitmap, 5 + 4096, 4096, IOVA_BITMAP_CLIP, NULL), 0);
    CHECK_EQ(iova_bitmap_set(bitmap, 0, UINT64_MAX, IOVA_BITMAP_CLIP | IOVA_BITMAP_COUNT, &report),
             0);
    CHECK_EQ(report.pages, nbits > 1);
    CHECK_EQ(iova_bitmap_test(bitmap, 5), 1);
    CHECK_EQ(iova_bitmap_test(bitmap, 5 + nbits * 4096 - 2), 1);
    CHECK_EQ(iova_bitmap_test(bitmap, 5 + nbits * 4096 - 1), -ERANGE);
    CHECK_EQ(iova_bitmap_test(bitmap, 4), -ERANGE);
    data[nbytes - 1] = 0xff; /* foreign bits, which no answer knows of and nothing changes */
    CHECK_EQ(iova_bitmap_count(bitmap, 5, nbits * 4096 - 1, 0, &report), 0);
    CHECK_EQ(report.pages, nbits);
    CHECK_EQ(iova_bitmap_ranges(bitmap, 5, nbits * 4096 - 1, 0, &found, &report), 0);
    CHECK_EQ(found.count, 1);
    CHECK(found.count == 1 && found.rows[0].iova == 5 && found.rows[0].length == nbits * 4096 - 1,
          "the row");
    iova_bitmap_rows_free(found.rows);
    CHECK_EQ(iova_bitmap_read(bitmap, out, &report), 0);
    CHECK_EQ(out[nbytes - 1], (1u << last_bits) - 1);
    CHECK_EQ(iova_bitmap_to_mask(bitmap, out, &report), 0);
    CHECK(memchr(out, 0, nbits) == NULL, "the mask");
    CHECK_EQ(iova_bitmap_equal(bitmap, bitmap, &report), 1);
    CHECK_EQ(iova_bitmap_reset(bitmap, &report), 0);
    CHECK_EQ(data[nbytes - 1], 0xff & ~((1u << last_bits) - 1));
    iova_bitmap_free(bitmap);
    free(out);
}

static void test_at_the_edge(void)
{
    struct area area = area_map(3);

    for (uint64_t nbytes = 1; nbytes <= 3 * page; nbytes += nbytes < 40 ? 1 : page / 3 + 1) {
        for (unsigned last_bits = 1; last_bits <= 8; last_bits++) {
            use_all(area.bytes, nbytes, last_bits, 1);
            use_all(area.bytes + area.size - nbytes, nbytes, last_bits, last_bits % 4);
        }
    }
    area_unmap(&area);
}

/* --- large pages --------------------------------------------------------------------- */

static void test_large_pages(unsigned shift)
{
    const uint64_t size = 1ull << shift;
    const uint64_t nbits = shift > 59 ? 1ull << (64 - shift) : 21;
    const uint64_t length = nbits * size - 1; /* one less, for it may be 2**64 */
    uint8_t data[5];
    struct iova_bitmap *bitmap = NULL;
    struct iova_bitmap_report report;

    memset(data, GUARD, sizeof(data));
    memset(data + 1, 0, (nbits + 7) / 8);
    CHECK_EQ(iova_bitmap_alloc(1, length, size, data + 1, (nbits + 7) / 8, NULL, &bitmap), 0);
    CHECK_EQ(iova_bitmap_geometry(bitmap)->nbits, nbits);
    for (uint64_t n = 0; n < nbits; n++) { /* its first address, its last, and one page each */
        const uint64_t first = 1 + n * size;
        const uint64_t last = n == nbits - 1 ? length : first + (size - 1);
        const uint8_t before = data[1 + n / 8];
        CHECK_EQ(iova_bitmap_test(bitmap, first), 0);
        CHECK_EQ(iova_bitmap_set(bitmap, n % 2 ? first : last, 1, IOVA_BITMAP_COUNT, &report), 0);
        CHECK_EQ(report.pages, 1);
        CHECK_EQ(data[1 + n / 8], before | 1u << n % 8);
        CHECK_EQ(iova_bitmap_test(bitmap, last), 1);
        if (n > 0) { /* two pages by two addresses */
            CHECK_EQ(iova_bitmap_count(bitmap, first - 1, 2, 0, &report), 0);
            CHECK_EQ(report.pages, 2);
        }
    }
    CHECK_EQ(iova_bitmap_clear(bitmap, 1, length, 0, NULL), 0);
    CHECK_EQ(iova_bitmap_set(bitmap, 1, length, IOVA_BITMAP_COUNT, &report), 0);
    CHECK_EQ(report.pages, nbits);
    CHECK_EQ(data[0], GUARD);
    CHECK_EQ(data[1 + (nbits + 7) / 8], GUARD);
    iova_bitmap_free(bitmap);
}

/* The set examples of the manual, at 4 KiB from base 0. */
static void test_pages_touched(void)
{
    uint8_t byte = 0;
    struct iova_bitmap *bitmap = NULL;

    CHECK_EQ(iova_bitmap_alloc(0, 0x8000, 0x1000, &byte, 1, NULL, &bitmap), 0);
    CHECK_EQ(iova_bitmap_set(bitmap, 0x1800, 0x1000, 0, NULL), 0);
    CHECK_EQ(byte, 0x06);
    byte = 0x80;
    CHECK_EQ(iova_bitmap_set(bitmap, 0x800, 0x2000, 0, NULL), 0);
    CHECK_EQ(byte, 0x87);
    iova_bitmap_free(bitmap);
}

int main(void)
{
    const unsigned shifts[] = {31, 32, 40, 59, 60, 61, 62, 63};

    page = iova_bitmap_host_page_size();
    test_pages_touched();
    test_matrix();
    for (size_t i = 0; i < sizeof(shifts) / sizeof(shifts[0]); i++) {
        test_large_pages(shifts[i]);
    }
    test_at_the_edge();
    test_all_large();
    return check_result();
}
