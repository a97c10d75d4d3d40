/*
 * fuzz_mark.c - operations of the fuzz harness that write a bitmap, or walk its windows.
 */
#include "fuzz.h"

static void mark_range(struct subject *s, bool dirty, unsigned flags)
{
    struct iova_bitmap_report report = {9, 9, 9};
    const bool no_report = next8() == 0;
    const struct part part = next_part(s, flags);
    struct iova_bitmap_report *out = no_report ? NULL : &report;

    int rc = dirty ? iova_bitmap_set(s->bitmap, part.iova, part.length, flags, out)
                   : iova_bitmap_clear(s->bitmap, part.iova, part.length, flags, out);
    if (no_report) { /* the memory tells how far it came only where it came to the end */
        REQUIRE(part.want < 0 || fault_seen() ? rc < 0 : rc == 0);
        if (fault_seen()) {
            fault_clear();
            rc = dirty ? iova_bitmap_set(s->bitmap, part.iova, part.length, flags, &report)
                       : iova_bitmap_clear(s->bitmap, part.iova, part.length, flags, &report);
            REQUIRE(rc == 0); /* the same call again completes the work */
        }
        put(s, part.first, part.stop, dirty);
        return;
    }
    const unsigned reached = check_result(s, &part, rc, 0, &report);
    if (dirty && part.want == 1 && ((flags & IOVA_BITMAP_COUNT) || rc < 0)) {
        REQUIRE(report.pages == count(s, part.first, reached, false));
    }
    put(s, part.first, reached, dirty);
}

static void reset(struct subject *s)
{
    struct iova_bitmap_report report = {9, 9, 9};
    const struct part part = whole(s);
    const int rc = iova_bitmap_reset(s->bitmap, &report);

    put(s, 0, check_result(s, &part, rc, 0, &report), false);
}

/* Rows, or addresses, in any order: overlapping, empty, sometimes wrong. */
static void mark_rows(struct subject *s)
{
    enum { SET, CLEAR, PAGES } const what = next8() % 3;
    const uint8_t bits = next8();
    const bool counts = (bits & 2) != 0 && what != CLEAR;
    const unsigned flags = (bits & 1 ? IOVA_BITMAP_CLIP : 0) | (counts ? IOVA_BITMAP_COUNT : 0) |
                           (bits & 4 ? IOVA_BITMAP_EXCLUSIVE : 0);
    const unsigned n = next8() % (MAX_ROWS + 1);
    struct iova_bitmap_range rows[MAX_ROWS] = {{0, 0}};
    uint64_t addresses[MAX_ROWS] = {0};
    struct part parts[MAX_ROWS];
    struct part all = {0}; /* what rows reach to */
    struct iova_bitmap_report report = {9, 9, 9};
    uint64_t bad_row = UINT64_MAX;
    uint64_t want_bad = UINT64_MAX;
    int rc;

    for (unsigned i = 0; i < n; i++) {
        parts[i] = next_part(s, flags);
        if (what == PAGES) {
            parts[i] = part_of(s, parts[i].iova, 1, flags);
        }
        rows[i] = (struct iova_bitmap_range){parts[i].iova, parts[i].length};
        addresses[i] = parts[i].iova;
        if (parts[i].want < 0 && want_bad == UINT64_MAX) {
            want_bad = i;
            all.want = parts[i].want;
        }
        if (parts[i].want == 1 && all.want >= 0) {
            all.want = 1;
            all.stop = parts[i].stop > all.stop ? parts[i].stop : all.stop;
            all.end = parts[i].end > all.end ? parts[i].end : all.end;
        }
    }
    if (what == PAGES) {
        rc = iova_bitmap_set_pages(s->bitmap, addresses, n, flags, &bad_row, &report);
    } else if (what == SET) {
        rc = iova_bitmap_set_ranges(s->bitmap, rows, n, flags, &bad_row, &report);
    } else {
        rc = iova_bitmap_clear_ranges(s->bitmap, rows, n, flags, &bad_row, &report);
    }
    REQUIRE(bad_row == want_bad);
    if (all.want < 0) {
        REQUIRE(rc == all.want);
        return;
    }
    /* After an error: done up to the page that the report says, and nothing from there on. */
    unsigned reached = s->nbits;
    if (fault_seen()) {
        REQUIRE(rc == -EIO || rc == -EFAULT);
        REQUIRE(report.length > 0 && (wide)report.iova + report.length == all.end);
        reached = bit_of(s, report.iova);
        REQUIRE(report.iova == address_of(s, reached));
    } else {
        REQUIRE(rc == 0 && report.length == 0);
    }
    unsigned newly = 0;
    for (unsigned i = 0; i < n; i++) {
        const unsigned stop = parts[i].stop < reached ? parts[i].stop : reached;
        if (parts[i].first < stop) {
            newly += count(s, parts[i].first, stop, false);
            put(s, parts[i].first, stop, what != CLEAR);
        }
    }
    REQUIRE((rc == 0 && !counts) || what == CLEAR || report.pages == newly);
}

struct visits {
    struct subject *subject;
    unsigned left;    /* calls that go on */
    size_t next;      /* byte of bitmap that the next window starts at */
    bool whole_range; /* one call, for all */
};

static int visit(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length, void *opaque)
{
    struct visits *v = opaque;
    struct subject *s = v->subject;

    REQUIRE(bitmap == s->bitmap);
    if (v->whole_range) {
        REQUIRE(iova == s->base && length == s->end - s->base);
    } else {
        const struct iova_bitmap_window *w = iova_bitmap_present_window(bitmap);
        subject_check(s);
        REQUIRE(iova == w->iova && length == w->length && w->base_index == v->next);
        v->next += (size_t)iova_bitmap_window_nbytes(bitmap, w);
    }
    if (next8() & 1) { /* the callback marks, which may move the present window */
        struct iova_bitmap_report report;
        const struct part part = next_part(s, IOVA_BITMAP_CLIP);
        const int rc = iova_bitmap_set(bitmap, part.iova, part.length, IOVA_BITMAP_CLIP, &report);
        put(s, part.first, rc < 0 && report.length != 0 ? bit_of(s, report.iova) : part.stop, true);
        if (fault_seen()) {
            return 5;
        }
    }
    return v->left-- == 0 ? 7 : 0;
}

static void walk(struct subject *s)
{
    struct iova_bitmap_report failed = {9, 9, 9};
    struct visits v = {.subject = s, .left = next8() & 15, .whole_range = next8() % 4 == 0};

    if (v.whole_range) {
        const unsigned left = v.left;
        const int rc = iova_bitmap_for_each(s->bitmap, &v, visit);
        REQUIRE(fault_seen() || rc == (left == 0 ? 7 : 0));
        return;
    }
    const int rc = iova_bitmap_for_each_window(s->bitmap, &v, visit, &failed);
    REQUIRE(rc != 0 || v.next == s->nbytes);
    REQUIRE(rc >= 0 || fault_seen());
    if (rc < 0) {
        REQUIRE(failed.iova == address_of(s, (unsigned)v.next * 8));
        REQUIRE((wide)failed.iova + failed.length == s->end);
    } else {
        REQUIRE(failed.length == 0);
    }
}

/* Arithmetic: the windows of a walk in which every pin delivers in full, one after the other. */
static void arithmetic(const struct subject *s)
{
    struct iova_bitmap_window window;
    const unsigned flags = next8() & IOVA_BITMAP_CLIP;
    const struct part part = next_part(s, flags);

    REQUIRE(iova_bitmap_check_range(s->bitmap, part.iova, part.length, flags) == part.want);
    for (size_t byte = 0; byte < s->nbytes;) {
        iova_bitmap_window_at(s->bitmap, byte, &window);
        const size_t pgoff = (s->offset + byte) % PAGE;
        size_t npages = (pgoff + s->nbytes - byte + PAGE - 1) / PAGE;
        const uint64_t most = iova_bitmap_window_pages(s->bitmap);
        npages = npages < most ? npages : (size_t)most;
        size_t nbytes = npages * PAGE - pgoff;
        nbytes = nbytes < s->nbytes - byte ? nbytes : s->nbytes - byte;
        const wide start = address_of(s, (unsigned)byte * 8);
        const wide end = start + ((wide)nbytes * 8 << s->shift);
        REQUIRE(window.base_index == byte && window.pgoff == pgoff && window.npages == npages);
        REQUIRE(window.iova == start && window.length == (end < s->end ? end : s->end) - start);
        REQUIRE(iova_bitmap_window_nbytes(s->bitmap, &window) == nbytes);
        byte += nbytes;
    }
}

void fuzz_mark(struct subject *s, unsigned which)
{
    const unsigned bits = next8();
    const unsigned clip =
        (bits & 1 ? IOVA_BITMAP_CLIP : 0) | (bits & 2 ? IOVA_BITMAP_EXCLUSIVE : 0);

    switch (which) {
    case 0:
        mark_range(s, true, clip);
        break;
    case 1:
        mark_range(s, true, clip | IOVA_BITMAP_COUNT);
        break;
    case 2:
        mark_range(s, false, clip);
        break;
    case 3:
        reset(s);
        break;
    case 4:
    case 5:
        mark_rows(s);
        break;
    case 6:
        walk(s);
        break;
    case 7:
        mark_range(s, true, IOVA_BITMAP_EXCLUSIVE);
        break;
    default:
        arithmetic(s);
        iova_bitmap_release(s->bitmap);
        REQUIRE(s->held == 0);
        break;
    }
}
