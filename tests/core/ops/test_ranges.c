/*
 * test_ranges.c - runs of dirty pages as rows: known bitmaps against the text of their rows, and
 * run counts at which the memory for them is exactly full.
 */
#include <errno.h>
#include <string.h>

#include "check.h"
#include "iova_bitmap.h"

enum { MAX_BYTES = 512 };

/* Rows as "first-last" addresses, for pages of one address. */
static const char *rows_text(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length,
                             unsigned flags)
{
    static char text[256];
    struct iova_bitmap_ranges found = {0};
    struct iova_bitmap_report report;
    size_t used = 0;

    int rc = iova_bitmap_ranges(bitmap, iova, length, flags, &found, &report);
    text[0] = '\0';
    if (rc < 0) {
        snprintf(text, sizeof(text), "error: %s",
                 rc == -ERANGE      ? "range"
                 : rc == -EOVERFLOW ? "overflow"
                                    : "another");
    }
    for (uint64_t i = 0; i < found.count && used < sizeof(text); i++) {
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%" PRIu64 "-%" PRIu64,
                                 i ? "," : "", found.rows[i].iova,
                                 found.rows[i].iova + (found.rows[i].length - 1));
    }
    iova_bitmap_rows_free(found.rows);
    return text;
}

#define CHECK_ROWS(bitmap, iova, length, flags, want)                                              \
    do {                                                                                           \
        const char *rows_got = rows_text((bitmap), (iova), (length), (flags));                     \
        CHECK(strcmp(rows_got, (want)) == 0, "got %s, want %s", rows_got, (want));                 \
    } while (0)

static void mark(struct iova_bitmap *bitmap, uint64_t first, uint64_t last)
{
    CHECK_EQ(iova_bitmap_set(bitmap, first, last - first + 1, 0, NULL), 0);
}

static void test_text(void)
{
    uint8_t data[25];
    struct iova_bitmap *bitmap = NULL;
    struct iova_bitmap_report report;

    memset(data, 0, sizeof(data));
    data[24] = 0xfe; /* one bit is used; the others belong to nobody */
    CHECK_EQ(iova_bitmap_alloc(0, 193, 1, data, sizeof(data), NULL, &bitmap), 0);
    CHECK_ROWS(bitmap, 0, 193, 0, "");
    mark(bitmap, 0, 22);
    mark(bitmap, 64, 97);
    CHECK_ROWS(bitmap, 0, 193, 0, "0-22,64-97");
    mark(bitmap, 63, 63); /* ends where a word ends */
    mark(bitmap, 127, 128);
    mark(bitmap, 192, 192);
    CHECK_ROWS(bitmap, 0, 193, 0, "0-22,63-97,127-128,192-192");
    CHECK_ROWS(bitmap, 5, 10, 0, "5-14");
    CHECK_ROWS(bitmap, 22, 42, 0, "22-22,63-63");
    CHECK_ROWS(bitmap, 23, 40, 0, "");
    CHECK_ROWS(bitmap, 98, 95, 0, "127-128,192-192");
    CHECK_ROWS(bitmap, 98, 96, 0, "error: range");
    CHECK_ROWS(bitmap, 98, 96, IOVA_BITMAP_CLIP, "127-128,192-192");
    CHECK_ROWS(bitmap, 98, UINT64_MAX, IOVA_BITMAP_CLIP, "error: overflow");
    CHECK_ROWS(bitmap, 192, 0, 0, "");
    mark(bitmap, 0, 192);
    CHECK_ROWS(bitmap, 0, 193, 0, "0-192");
    CHECK_ROWS(bitmap, 192, 1, 0, "192-192");
    CHECK_EQ(iova_bitmap_reset(bitmap, &report), 0);
    CHECK_EQ(data[24], 0xfe);
    iova_bitmap_free(bitmap);

    /* Pages of 128 addresses from 1000 on, the last one 8 short. */
    memset(data, 0, sizeof(data));
    bitmap = NULL;
    CHECK_EQ(iova_bitmap_alloc(1000, 1016, 128, data, 1, NULL, &bitmap), 0);
    mark(bitmap, 1127, 1128);
    mark(bitmap, 2015, 2015);
    CHECK_ROWS(bitmap, 1000, 1016, 0, "1000-1255,1896-2015");
    CHECK_ROWS(bitmap, 1100, 900, 0, "1100-1255,1896-1999");
    iova_bitmap_free(bitmap);

    /* The last page of the address space. */
    bitmap = NULL;
    CHECK_EQ(iova_bitmap_alloc(UINT64_MAX - 9, 10, 4, data, 1, NULL, &bitmap), 0);
    memset(data, 0, sizeof(data));
    mark(bitmap, UINT64_MAX, UINT64_MAX);
    CHECK_ROWS(bitmap, UINT64_MAX - 9, 10, 0, "18446744073709551614-18446744073709551615");
    iova_bitmap_free(bitmap);
}

/*
 * A first word with `lead` edges, and behind it words in which every bit is one: the rows fill
 * their memory in every way there is. That nothing is written beyond is for the sanitizers to see.
 */
static void test_many(unsigned lead, uint64_t words)
{
    static uint8_t data[MAX_BYTES];
    const uint64_t nbits = (words + 1) * 64;
    struct iova_bitmap *bitmap = NULL;
    struct iova_bitmap_ranges found = {0};
    struct iova_bitmap_report report;
    unsigned dirty = 0;
    uint64_t runs = 0;

    memset(data, 0, sizeof(data));
    for (uint64_t n = 0; n < nbits; n++) {
        dirty ^= n >= 64 || n < lead;
        data[n / 8] = (uint8_t)(data[n / 8] | dirty << n % 8);
        runs += dirty && (n == 0 || !(data[(n - 1) / 8] >> (n - 1) % 8 & 1));
    }
    CHECK_EQ(iova_bitmap_alloc(0, nbits, 1, data, sizeof(data), NULL, &bitmap), 0);
    CHECK_EQ(iova_bitmap_ranges(bitmap, 0, nbits, 0, &found, &report), 0);
    CHECK_EQ(found.count, runs);
    uint64_t pages = 0;
    for (uint64_t i = 0; i < found.count; i++) {
        CHECK(i == 0 || found.rows[i].iova > found.rows[i - 1].iova + found.rows[i - 1].length,
              "row %" PRIu64, i);
        pages += found.rows[i].length;
    }
    iova_bitmap_rows_free(found.rows);
    CHECK_EQ(iova_bitmap_count(bitmap, 0, nbits, 0, &report), 0);
    CHECK_EQ(report.pages, pages);
    iova_bitmap_free(bitmap);
}

int main(void)
{
    test_text();
    for (unsigned lead = 0; lead <= 64; lead++) {
        for (uint64_t words = 0; words < 36; words++) {
            test_many(lead, words);
        }
    }
    return check_result();
}
