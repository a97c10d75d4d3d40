/*
 * fuzz_ask.c - questions of the fuzz harness: what a bitmap holds, of a range or of all.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

static void ask_test(struct subject *s)
{
    const struct part part = next_part(s, 0);
    const struct part one = part_of(s, part.iova, 1, 0);
    const int rc = iova_bitmap_test(s->bitmap, one.iova);

    if (one.want < 0) {
        REQUIRE(rc == one.want);
    } else if (fault_seen()) {
        REQUIRE(rc == -EIO || rc == -EFAULT);
    } else {
        REQUIRE(rc == s->dirty[one.first]);
    }
}

static void ask_count(struct subject *s, unsigned flags)
{
    struct iova_bitmap_report report = {9, 9, 9};
    const struct part part = next_part(s, flags);
    const int rc = iova_bitmap_count(s->bitmap, part.iova, part.length, flags, &report);
    const unsigned reached = check_result(s, &part, rc, 0, &report);

    if (part.want >= 0) {
        REQUIRE(report.pages == count(s, part.first, reached, true));
    }
}

static void ask_count_ranges(struct subject *s, unsigned flags)
{
    struct iova_bitmap_report report = {9, 9, 9};
    const struct part part = next_part(s, flags);
    const int rc = iova_bitmap_count_ranges(s->bitmap, part.iova, part.length, flags, &report);

    if (check_result(s, &part, rc, 0, &report) == part.stop && rc == 0) {
        REQUIRE(report.pages == count_runs(&part, s->dirty, !(flags & IOVA_BITMAP_CLEAN)));
    }
}

static void ask_find(struct subject *s, unsigned flags)
{
    struct iova_bitmap_report report = {9, 9, 9};
    const struct part part = next_part(s, flags);
    const bool wanted = !(flags & IOVA_BITMAP_CLEAN);
    uint64_t found = 0;
    const int rc = iova_bitmap_find(s->bitmap, part.iova, part.length, flags, &found, &report);

    unsigned bit = part.first;
    while (bit < part.stop && s->dirty[bit] != wanted) {
        bit++;
    }
    const unsigned reached = check_result(s, &part, rc, bit < part.stop, &report);
    REQUIRE(rc != 1 || found == address_of(s, bit));
    REQUIRE(rc >= 0 || part.want < 0 || reached <= bit); /* what it saw had none */
}

static void ask_pages(struct subject *s, unsigned flags)
{
    struct iova_bitmap_report report = {9, 9, 9};
    const struct part part = next_part(s, flags);
    uint64_t *pages = NULL;
    uint64_t n = 0;
    const int rc = iova_bitmap_pages(s->bitmap, part.iova, part.length, flags, &pages, &n, &report);

    check_result(s, &part, rc, 0, &report);
    if (rc == 0) {
        uint64_t i = 0;
        for (unsigned bit = part.first; bit < part.stop; bit++) {
            if (s->dirty[bit]) {
                REQUIRE(i < n && pages[i] == address_of(s, bit));
                i++;
            }
        }
        REQUIRE(i == n);
        iova_bitmap_rows_free(pages);
    }
}

static void ask_ranges(struct subject *s, unsigned flags)
{
    struct iova_bitmap_report report = {9, 9, 9};
    const struct part part = next_part(s, flags);
    struct iova_bitmap_ranges ranges = {0};
    const int rc = iova_bitmap_ranges(s->bitmap, part.iova, part.length, flags, &ranges, &report);

    check_result(s, &part, rc, 0, &report);
    if (rc == 0) {
        check_rows(s, &part, s->dirty, !(flags & IOVA_BITMAP_CLEAN), ranges.rows, ranges.count,
                   UINT64_MAX);
        iova_bitmap_rows_free(ranges.rows);
    } else {
        REQUIRE(ranges.rows == NULL);
    }
}

/* Rows of the caller's, exactly `capacity` of them. */
static void ask_ranges_fixed(struct subject *s, unsigned flags)
{
    struct iova_bitmap_report report = {9, 9, 9};
    flags |= next8() & 1 ? IOVA_BITMAP_PARTIAL : 0;
    const struct part part = next_part(s, flags);
    const bool dirty = !(flags & IOVA_BITMAP_CLEAN);
    const uint64_t runs = count_runs(&part, s->dirty, dirty);
    const uint64_t capacity = next8() & 1 ? runs : next16() % (runs + 3);
    struct iova_bitmap_range *rows = malloc((size_t)capacity * sizeof(*rows) + 1);
    struct iova_bitmap_ranges ranges = {.rows = rows, .capacity = capacity};

    REQUIRE(rows != NULL);
    const int rc = iova_bitmap_ranges(s->bitmap, part.iova, part.length, flags, &ranges, &report);
    const bool partial = flags & IOVA_BITMAP_PARTIAL;
    const bool few = part.want == 1 && runs > capacity && !partial;
    check_result(s, &part, rc, few ? -ENOSPC : 0, &report);
    REQUIRE(ranges.rows == rows);
    if (rc == 0) {
        check_rows(s, &part, s->dirty, dirty, rows, ranges.count, partial ? capacity : runs);
    } else if (rc == -ENOSPC) {
        REQUIRE(ranges.count == runs);
    }
    free(rows);
}

static void ask_histogram(struct subject *s)
{
    struct iova_bitmap_report report = {9, 9, 9};
    const struct part part = whole(s);
    const uint64_t nbins = 1 + (next8() & 1 ? next8() : next16() % (2 * s->nbits));
    uint64_t *bins = malloc((size_t)nbins * sizeof(*bins));

    REQUIRE(bins != NULL);
    const int rc = iova_bitmap_histogram(s->bitmap, nbins, bins, &report);
    check_result(s, &part, rc, 0, &report);
    for (uint64_t bin = 0; rc == 0 && bin < nbins; bin++) {
        const unsigned first = (unsigned)(bin * s->nbits / nbins);
        const unsigned stop = (unsigned)((bin + 1) * s->nbits / nbins);
        REQUIRE(bins[bin] == count(s, first, stop, true));
    }
    free(bins);
}

/* The content, as bits and as a mask, to memory of exactly that size. */
static void ask_content(struct subject *s, bool mask)
{
    struct iova_bitmap_report report = {9, 9, 9};
    const struct part part = whole(s);
    const size_t size = mask ? s->nbits : s->nbytes;
    uint8_t *out = malloc(size);

    REQUIRE(out != NULL);
    memset(out, 0xff, size);
    const int rc = mask ? iova_bitmap_to_mask(s->bitmap, out, &report)
                        : iova_bitmap_read(s->bitmap, out, &report);
    const unsigned reached = check_result(s, &part, rc, 0, &report);
    for (unsigned bit = 0; bit < reached; bit++) {
        REQUIRE((mask ? out[bit] : out[bit / 8] >> bit % 8 & 1) == s->dirty[bit]);
    }
    if (!mask && rc == 0) {
        REQUIRE(s->nbits % 8 == 0 || out[s->nbytes - 1] >> s->nbits % 8 == 0);
    }
    free(out);
}

void fuzz_ask(struct subject *s, unsigned which)
{
    const unsigned bits = next8();
    const unsigned flags = (bits & 1 ? IOVA_BITMAP_CLIP : 0) | (bits & 2 ? IOVA_BITMAP_CLEAN : 0);

    switch (which) {
    case 0:
        ask_test(s);
        break;
    case 1:
        ask_count(s, flags & IOVA_BITMAP_CLIP);
        break;
    case 2:
        ask_count_ranges(s, flags);
        break;
    case 3:
    case 4:
        ask_find(s, flags);
        break;
    case 5:
        ask_pages(s, flags & IOVA_BITMAP_CLIP);
        break;
    case 6:
        ask_ranges(s, flags);
        break;
    case 7:
        ask_ranges_fixed(s, flags);
        break;
    case 8:
        ask_histogram(s);
        break;
    default:
        ask_content(s, which == 9);
        break;
    }
}
