/*
 * fuzz_pair.c - operations of the fuzz harness on two bitmaps: algebra, harvest and merge.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

static bool operate(enum iova_bitmap_operation operation, bool a, bool b)
{
    return operation == IOVA_BITMAP_AND   ? a && b
           : operation == IOVA_BITMAP_OR  ? a || b
           : operation == IOVA_BITMAP_XOR ? a != b
                                          : a && !b;
}

static void combine(struct subject *a, struct subject *b, enum iova_bitmap_operation operation)
{
    struct iova_bitmap_report report = {9, 9, 9};
    const struct part part = whole(a);
    const int rc = iova_bitmap_combine(a->bitmap, b->bitmap, operation, &report);
    const unsigned reached = check_result(a, &part, rc, 0, &report);

    for (unsigned bit = 0; bit < reached; bit++) {
        put(a, bit, bit + 1, operate(operation, a->dirty[bit], b->dirty[bit]));
    }
}

static void ask_combined(struct subject *a, struct subject *b, enum iova_bitmap_operation operation)
{
    struct iova_bitmap_report report = {9, 9, 9};
    struct iova_bitmap_ranges ranges = {0};
    const struct part part = whole(a);
    bool result[MAX_BITS];
    unsigned ones = 0;

    for (unsigned bit = 0; bit < a->nbits; bit++) {
        result[bit] = operate(operation, a->dirty[bit], b->dirty[bit]);
        ones += result[bit];
    }
    int rc = iova_bitmap_count_combined(a->bitmap, b->bitmap, operation, &report);
    check_result(a, &part, rc, 0, &report);
    REQUIRE(rc < 0 || report.pages == ones);
    fault_plan();
    rc = iova_bitmap_ranges_combined(a->bitmap, b->bitmap, operation, &ranges, &report);
    check_result(a, &part, rc, 0, &report);
    if (rc == 0) {
        check_rows(a, &part, result, true, ranges.rows, ranges.count, UINT64_MAX);
        iova_bitmap_rows_free(ranges.rows);
    }
}

static void compare(struct subject *a, struct subject *b)
{
    struct iova_bitmap_report report = {9, 9, 9};
    const struct part part = whole(a);
    uint64_t counts[3] = {9, 9, 9};
    const bool same = memcmp(a->dirty, b->dirty, a->nbits * sizeof(a->dirty[0])) == 0;
    unsigned both = 0;

    int rc = iova_bitmap_equal(a->bitmap, b->bitmap, &report);
    REQUIRE(fault_seen() || rc == same);
    check_result(a, &part, rc, same, &report);
    fault_plan();
    rc = iova_bitmap_count_both(a->bitmap, b->bitmap, counts, &report);
    check_result(a, &part, rc, 0, &report);
    for (unsigned bit = 0; bit < a->nbits; bit++) {
        both += a->dirty[bit] && b->dirty[bit];
    }
    if (rc == 0) {
        REQUIRE(counts[0] == count(a, 0, a->nbits, true));
        REQUIRE(counts[1] == count(b, 0, b->nbits, true));
        REQUIRE(counts[2] == both);
    }
}

/* A caller who cannot deliver a harvest marks it again; where a pin fails, once more. */
static void give_back(struct subject *s, const struct iova_bitmap_ranges *ranges)
{
    struct iova_bitmap_report report = {9, 9, 9};

    fault_plan();
    int rc = iova_bitmap_put_back(s->bitmap, ranges, &report);
    if (fault_seen()) {
        REQUIRE((rc == -EIO || rc == -EFAULT) && report.length > 0);
        fault_clear();
        rc = iova_bitmap_put_back(s->bitmap, ranges, &report);
    }
    REQUIRE(rc == 0 && report.length == 0);
}

static void harvest(struct subject *s, unsigned flags)
{
    struct iova_bitmap_report report = {9, 9, 9};
    struct iova_bitmap_ranges ranges = {0};
    const struct part part = next_part(s, flags);
    const int rc =
        iova_bitmap_read_and_clear(s->bitmap, part.iova, part.length, flags, &ranges, &report);
    const unsigned reached = check_result(s, &part, rc, 0, &report);

    if (rc == 0) {
        check_rows(s, &part, s->dirty, true, ranges.rows, ranges.count, UINT64_MAX);
        if (next8() & 1) {
            give_back(s, &ranges);
        } else {
            put(s, part.first, part.stop, false);
        }
        iova_bitmap_rows_free(ranges.rows);
    } else if (part.want == 1) { /* one pin failed, so all could be put back */
        REQUIRE(reached == part.first && ranges.rows == NULL && ranges.count == 0);
    }
}

/* The first page of the run after `most` runs of dirty pages; part->stop if there are no more. */
static unsigned behind_runs(const struct subject *s, const struct part *part, uint64_t most)
{
    unsigned bit = part->first;

    for (uint64_t n = 0;; n++) {
        while (bit < part->stop && !s->dirty[bit]) {
            bit++;
        }
        if (n == most || bit == part->stop) {
            return bit;
        }
        while (bit < part->stop && s->dirty[bit]) {
            bit++;
        }
    }
}

/* Into rows of the caller's: as many as fit, and the report says where to go on. What was not
 * delivered is still marked. */
static void harvest_fixed(struct subject *s, unsigned flags)
{
    struct iova_bitmap_report report = {9, 9, 9};
    const struct part part = next_part(s, flags);
    const uint64_t runs = count_runs(&part, s->dirty, true);
    const uint64_t capacity = next8() & 1 ? runs : next16() % (runs + 3);
    struct iova_bitmap_range *rows = malloc((size_t)capacity * sizeof(*rows) + 1);
    struct iova_bitmap_ranges ranges = {.rows = rows, .capacity = capacity};

    REQUIRE(rows != NULL);
    const int rc =
        iova_bitmap_read_and_clear(s->bitmap, part.iova, part.length, flags, &ranges, &report);
    REQUIRE(ranges.rows == rows && ranges.capacity == capacity);
    if (rc != -ENOSPC) {
        REQUIRE(part.want < 0 || fault_seen() || runs <= capacity);
        const unsigned reached = check_result(s, &part, rc, 0, &report);
        if (rc == 0) {
            check_rows(s, &part, s->dirty, true, rows, ranges.count, UINT64_MAX);
            put(s, part.first, part.stop, false);
        } else { /* one pin failed, so all could be put back */
            REQUIRE(ranges.count == 0 && reached == part.first);
        }
    } else {
        REQUIRE(part.want == 1 && !fault_seen() && runs > capacity && ranges.count == capacity);
        check_rows(s, &part, s->dirty, true, rows, ranges.count, capacity);
        const unsigned left = behind_runs(s, &part, capacity);
        const wide start = address_of(s, left);
        REQUIRE(report.iova == (start > part.start ? start : part.start));
        REQUIRE((wide)report.iova + report.length == part.end);
        put(s, part.first, left, false);
    }
    free(rows);
}

/* Pages of `to` that pages [first, stop) of `from` overlap, of which the part is looked at. */
static unsigned project(const struct subject *from, struct subject *to, unsigned bit,
                        const struct part *part)
{
    wide start = address_of(from, bit);
    wide end = address_of(from, bit + 1);

    start = start < part->start ? part->start : start;
    end = end > part->end ? part->end : end;
    const unsigned first = bit_of(to, start);
    const unsigned stop = bit_of(to, end - 1) + 1;
    const unsigned newly = count(to, first, stop, false);
    put(to, first, stop, true);
    return newly;
}

/* A page that is only there in part is still here: its first parts are there, and the report counts
 * them. */
static unsigned project_begun(const struct subject *from, struct subject *to, unsigned bit,
                              unsigned left)
{
    const wide end = address_of(from, bit + 1) < from->end ? address_of(from, bit + 1) : from->end;
    unsigned newly = 0;

    for (unsigned n = bit_of(to, address_of(from, bit)); newly < left && n < to->nbits; n++) {
        if (!to->dirty[n] && address_of(to, n) < end) {
            put(to, n, n + 1, true);
            newly++;
        }
    }
    return newly;
}

/* After an error all is either there or still here. */
static void move_into(struct subject *s, struct subject *into, unsigned flags)
{
    struct iova_bitmap_report report = {9, 9, 9};
    const struct part part = next_part(s, flags);
    const struct part all = whole(s);
    const int rc =
        iova_bitmap_move_into(s->bitmap, part.iova, part.length, flags, into->bitmap, &report);
    const unsigned stop = check_result(s, &part, rc, 0, &report);
    unsigned newly = 0;

    for (unsigned bit = part.first; bit < stop; bit++) {
        newly += s->dirty[bit] ? project(s, into, bit, &all) : 0;
    }
    put(s, part.first, stop, false);
    if (rc < 0 && part.want == 1 && s->dirty[stop]) {
        newly += project_begun(s, into, stop, (unsigned)report.pages - newly);
    }
    REQUIRE(report.pages == newly);
}

static void merge(struct subject *to, struct subject *from, unsigned flags)
{
    struct iova_bitmap_report report = {9, 9, 9};
    const struct part part =
        part_of(from, (uint64_t)to->base, (uint64_t)(to->end - to->base), IOVA_BITMAP_CLIP);
    const int rc = iova_bitmap_merge(to->bitmap, from->bitmap, flags, &report);
    unsigned newly = 0;

    if (fault_seen()) {
        REQUIRE((rc == -EIO || rc == -EFAULT) && report.length > 0);
        REQUIRE(report.iova >= part.start && (wide)report.iova + report.length == part.end);
        fault_clear(); /* marking only adds: the same call again completes the work */
        REQUIRE(iova_bitmap_merge(to->bitmap, from->bitmap, flags, &report) == 0);
        newly = UINT32_MAX;
    } else {
        REQUIRE(rc == 0);
    }
    unsigned found = 0;
    for (unsigned bit = part.first; bit < part.stop; bit++) {
        found += from->dirty[bit] ? project(from, to, bit, &part) : 0;
    }
    REQUIRE(newly == UINT32_MAX ? report.pages <= found : report.pages == found);
    REQUIRE(report.length == 0);
}

void fuzz_pair(struct subjects *all, unsigned which)
{
    const unsigned bits = next8();
    const unsigned exclusive = bits & 8 ? IOVA_BITMAP_EXCLUSIVE : 0;
    const unsigned flags = (bits & 1 ? IOVA_BITMAP_CLIP : 0) | exclusive;
    const enum iova_bitmap_operation operation = bits >> 1 & 3;

    switch (which) {
    case 0:
        combine(&all->main, &all->like, operation);
        break;
    case 1:
        ask_combined(&all->main, &all->like, operation);
        break;
    case 2:
        compare(&all->main, &all->like);
        break;
    case 3:
        if (bits & 16) {
            harvest_fixed(&all->main, flags);
        } else {
            harvest(&all->main, flags);
        }
        break;
    case 4:
        move_into(&all->main, &all->cover, flags);
        break;
    case 5:
        move_into(&all->main, &all->like, flags);
        break;
    case 6:
        merge(&all->main, &all->cover, exclusive);
        break;
    default:
        merge(&all->cover, &all->main, exclusive);
        break;
    }
}
