/*
 * parts.c - ranges in the fuzz harness: which pages they touch, which rows describe them, and what
 * an operation must report of them.
 */
#include "fuzz.h"

struct part part_of(const struct subject *s, uint64_t iova, uint64_t length, unsigned flags)
{
    struct part part = {.iova = iova, .length = length, .start = iova, .end = (wide)iova + length};

    if (length == 0) {
        return part;
    }
    if (part.end > TOP) {
        part.want = -EOVERFLOW;
        return part;
    }
    if ((part.start < s->base || part.end > s->end) && !(flags & IOVA_BITMAP_CLIP)) {
        part.want = -ERANGE;
        return part;
    }
    part.start = part.start < s->base ? s->base : part.start;
    part.end = part.end > s->end ? s->end : part.end;
    if (part.start < part.end) {
        part.want = 1;
        part.first = bit_of(s, part.start);
        part.stop = bit_of(s, part.end - 1) + 1;
    }
    return part;
}

struct part whole(const struct subject *s)
{
    return part_of(s, (uint64_t)s->base, (uint64_t)(s->end - s->base), 0);
}

struct part next_part(const struct subject *s, unsigned flags)
{
    const uint8_t kind = next8();
    const wide page_size = (wide)1 << s->shift;
    wide start = address_of(s, next16() % s->nbits);
    wide length = (wide)(1 + next16() % (kind & 8 ? 80 : s->nbits)) * page_size;

    if (kind & 1) { /* inside of pages */
        start += next64() % (uint64_t)page_size;
        length -= next64() % (uint64_t)page_size;
    }
    switch (kind >> 4) {
    case 0:
        return whole(s);
    case 1:
        return part_of(s, next64(), next64(), flags);
    case 2:
        return part_of(s, (uint64_t)start, 0, flags);
    case 3: /* from below the base */
        start = s->base < length / 2 ? 0 : s->base - length / 2;
        break;
    case 4: /* past the end */
        break;
    case 5: { /* across the end of the present window, or close to it */
        const struct iova_bitmap_window *w = iova_bitmap_present_window(s->bitmap);
        const unsigned edge = bit_of(s, (wide)w->iova + w->length - (w->npages != 0));
        const unsigned before = next8() % 24;
        start = address_of(s, w->npages == 0 || edge < before ? 0 : edge - before);
        length = (wide)(1 + next8() % 48) * page_size;
    }
        /* fallthrough */
    default:
        start = start < s->end ? start : s->end - 1;
        length = start + length > s->end ? s->end - start : length;
    }
    start = start < TOP ? start : TOP - 1;
    return part_of(s, (uint64_t)start, (uint64_t)(length < TOP ? length : TOP - 1), flags);
}

unsigned count_runs(const struct part *part, const bool *bits, bool dirty)
{
    unsigned runs = 0;

    for (unsigned bit = part->first; bit < part->stop; bit++) {
        runs += bits[bit] == dirty && (bit == part->first || bits[bit - 1] != dirty);
    }
    return runs;
}

void check_rows(const struct subject *s, const struct part *part, const bool *bits, bool dirty,
                const struct iova_bitmap_range *rows, uint64_t count, uint64_t most)
{
    uint64_t n = 0;

    for (unsigned bit = part->first; bit < part->stop && n < most; n++) {
        while (bit < part->stop && bits[bit] != dirty) {
            bit++;
        }
        if (bit == part->stop) {
            break;
        }
        wide start = address_of(s, bit);
        while (bit < part->stop && bits[bit] == dirty) {
            bit++;
        }
        wide end = address_of(s, bit);
        start = start < part->start ? part->start : start;
        end = end > part->end ? part->end : end;
        REQUIRE(n < count && rows[n].iova == start && rows[n].length == end - start);
    }
    REQUIRE(n == count);
}

unsigned check_result(const struct subject *s, const struct part *part, int rc, int want,
                      const struct iova_bitmap_report *report)
{
    if (part->want < 0) { /* nothing was done */
        REQUIRE(rc == part->want && report->length == 0 && report->pages == 0);
        return part->first;
    }
    if (!fault_seen()) {
        REQUIRE(rc == want && report->length == 0);
        return part->stop;
    }
    REQUIRE(rc == -EIO || rc == -EFAULT);
    REQUIRE(report->length > 0 && (wide)report->iova + report->length == part->end);
    REQUIRE(report->iova >= part->start);
    if (report->iova == part->start) {
        return part->first;
    }
    const unsigned reached = bit_of(s, report->iova);
    REQUIRE(report->iova == address_of(s, reached) && reached > part->first);
    return reached;
}
