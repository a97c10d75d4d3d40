/*
 * test_random.c - random operations on random bitmaps, with random faults of the pin backend,
 * against a model (model.h).
 *
 *   test_random [ITERATIONS [SEED]]     each iteration is one bitmap; a failure prints its seed
 *
 * After each operation: the result, the report, every byte of the bitmap's host pages, and the
 * books of pins and windows are what the model says.
 */
#include <string.h>

#include "check.h"
#include "fake_pin.h"
#include "model.h"

enum { OPERATIONS = 24 };

/* --- checks -------------------------------------------------------------------------- */

static void check_books(const struct model *m, const struct fake_pin *fake)
{
    const struct iova_bitmap_stats *stats = iova_bitmap_stats(fake->bitmap);
    const struct iova_bitmap_window *w = iova_bitmap_present_window(fake->bitmap);
    const uint8_t *bytes = fake_open(fake);

    CHECK(memcmp(bytes, m->memory, fake->area.size) == 0, "memory");
    fake_shut(fake);
    fake_check_stats(fake, fake->bitmap);
    CHECK_EQ(fake->calls, m->calls);
    CHECK_EQ(stats->pins, m->stats.pins);
    CHECK_EQ(stats->unpins, m->stats.unpins);
    CHECK_EQ(stats->pinned_pages, m->stats.pinned_pages);
    CHECK_EQ(stats->peak_pinned_pages, m->stats.peak_pinned_pages);
    CHECK_EQ(stats->moves, m->stats.moves);
    CHECK_EQ(w->npages, m->present.npages);
    if (w->npages != 0) {
        const wide first = m->base + (wide)m->present.first * 8 * m->page_size;
        const wide end = m->base + (wide)m->present.end * 8 * m->page_size;
        CHECK_EQ(w->base_index, m->present.first);
        CHECK_EQ(w->pgoff, (m->offset + m->present.first) % page);
        CHECK_EQ(w->iova, first);
        CHECK_EQ(w->length, min_wide(end, m->end) - first);
        CHECK_EQ(iova_bitmap_window_nbytes(fake->bitmap, w), m->present.end - m->present.first);
    }
}

/* What is not done: from page `reached`, or the range's start, to its end. */
static void check_undone(const struct model *m, const struct iova_bitmap_report *report, int rc,
                         uint64_t reached, wide start, wide end)
{
    wide from = max_wide(start, m->base + (wide)reached * m->page_size);

    CHECK_EQ(report->iova, rc < 0 ? (uint64_t)from : 0);
    CHECK_EQ(report->length, rc < 0 ? (uint64_t)(end - from) : 0);
}

static void check_rows(const struct model *m, const struct iova_bitmap_range *rows, uint64_t count,
                       wide start, wide end)
{
    uint64_t n = 0;
    wide open = TOP; /* start of the run that is being read */

    for (uint64_t bit = (uint64_t)((start - m->base) / m->page_size);; bit++) {
        wide at = m->base + (wide)bit * m->page_size;
        bool dirty = at < end && m->dirty[bit];
        if (dirty && open == TOP) {
            open = max_wide(at, start);
        } else if (!dirty && open != TOP) {
            wide stop = min_wide(at, end);
            CHECK(n < count && rows[n].iova == open && rows[n].length == stop - open,
                  "row %" PRIu64 " of %" PRIu64, n, count);
            open = TOP;
            n++;
        }
        if (at >= end) {
            break;
        }
    }
    CHECK_EQ(count, n);
}

/* --- operations ---------------------------------------------------------------------- */

/* A range: mostly inside, often small or at the edge of a host page, sometimes wrong. */
static void pick_range(const struct model *m, uint64_t *iova, uint64_t *length)
{
    wide start = m->base + below(m->end - m->base);
    const uint64_t edge = ((1 + below(4)) * page - m->offset) * 8 - 20 + below(40);

    if (below(3) == 0 && edge < m->nbits) {
        start = m->base + edge * m->page_size + below(m->page_size);
    }
    wide size = below(m->end - start) + (wide)1;
    switch (below(8)) {
    case 0:
        size = m->end - start;
        break;
    case 1:
        size = 1;
        break;
    case 2:
    case 3:
    case 4:
        size = min_wide(size, below(30 * m->page_size) + (wide)1);
        break;
    case 5:
        start -= min_wide(start, below(3 * m->page_size + 2));
        size += below(3 * m->page_size + 2);
        break;
    default:
        break;
    }
    if (below(30) == 0) {
        size = below(2) ? 0 : TOP - 1;
    }
    *iova = (uint64_t)start;
    *length = (uint64_t)min_wide(size, TOP - 1);
}

enum range_operation { SET, CLEAR, COUNT, RANGES };

static void do_range(struct model *m, struct fake_pin *fake, enum range_operation what)
{
    const unsigned takes = what == SET ? IOVA_BITMAP_CLIP | IOVA_BITMAP_COUNT : IOVA_BITMAP_CLIP;
    const unsigned flags = (unsigned)below(4) & takes;
    struct iova_bitmap_report report = {9, 9, 9};
    struct iova_bitmap_ranges found = {0};
    uint64_t iova;
    uint64_t length;

    pick_range(m, &iova, &length);
    wide start = iova;
    wide end = start + length;
    uint64_t pages = 0; /* what the report should say */
    uint64_t reached = 0;
    int want = resolve(m, flags, &start, &end);
    const bool some = want == 1;
    const uint64_t first = some ? (uint64_t)((start - m->base) / m->page_size) : 0;
    if (some) {
        const uint64_t last = (uint64_t)((end - 1 - m->base) / m->page_size);
        want = walk(m, first, last, UINT64_MAX, what == COUNT || what == RANGES, &reached);
        pages = what == SET     ? count_pages(m, first, reached, false)
                : what == COUNT ? count_pages(m, first, reached, true)
                                : 0;
        if (what == SET || what == CLEAR) {
            put_pages(m, first, reached, what == SET);
        }
    }
    int rc = 1;
    switch (what) {
    case SET:
        rc = iova_bitmap_set(fake->bitmap, iova, length, flags, &report);
        break;
    case CLEAR:
        rc = iova_bitmap_clear(fake->bitmap, iova, length, flags, &report);
        break;
    case COUNT:
        rc = iova_bitmap_count(fake->bitmap, iova, length, flags, &report);
        break;
    case RANGES:
        rc = iova_bitmap_ranges(fake->bitmap, iova, length, flags, &found, &report);
        if (rc == 0 && some) {
            check_rows(m, found.rows, found.count, start, end);
        } else {
            CHECK(found.rows == NULL && found.count == 0, "rows");
        }
        iova_bitmap_rows_free(found.rows);
        break;
    }
    CHECK(rc == want, "operation %d: rc %d, want %d", (int)what, rc, want);
    if (what != SET || (flags & IOVA_BITMAP_COUNT) || rc < 0) {
        CHECK_EQ(report.pages, pages);
    }
    check_undone(m, &report, some ? rc : 0, reached, start, end);
}

static void do_test(struct model *m, struct fake_pin *fake)
{
    uint64_t iova;
    uint64_t length;
    uint64_t reached;

    pick_range(m, &iova, &length);
    int want = -ERANGE;
    if (iova >= m->base && iova < m->end) {
        uint64_t bit = (uint64_t)((iova - m->base) / m->page_size);
        want = walk(m, bit, bit, UINT64_MAX, true, &reached);
        want = want < 0 ? want : m->dirty[bit];
    }
    CHECK_EQ(iova_bitmap_test(fake->bitmap, iova), want);
}

enum whole_operation { RESET, READ, MASK, EQUAL };

/* The operations on everything. A comparison is with one that is the same, or differs in a bit. */
static void do_whole(struct model *m, struct fake_pin *fake, enum whole_operation what)
{
    const struct iova_bitmap_geometry *g = iova_bitmap_geometry(fake->bitmap);
    struct iova_bitmap_report report = {9, 9, 9};
    uint8_t *out = malloc(m->nbits + 1);
    struct iova_bitmap_options options = {0};
    struct iova_bitmap *other = NULL;
    const uint64_t differs = what == EQUAL && below(2) ? below(m->nbits) : UINT64_MAX;
    uint64_t reached;
    int rc = 1;

    if (out == NULL) {
        check_skip("no memory");
    }
    memset(out, 0xa5, m->nbits + 1);
    int want = walk(m, 0, m->nbits - 1, differs, true, &reached);
    switch (what) {
    case RESET:
        put_pages(m, 0, reached, false);
        rc = iova_bitmap_reset(fake->bitmap, &report);
        break;
    case READ:
        rc = iova_bitmap_read(fake->bitmap, out, &report);
        for (uint64_t n = 0; n < (rc < 0 ? reached : m->nbytes * 8); n++) {
            CHECK_EQ(out[n / 8] >> n % 8 & 1, n < m->nbits && m->dirty[n]);
        }
        CHECK_EQ(out[m->nbytes], 0xa5);
        break;
    case MASK:
        rc = iova_bitmap_to_mask(fake->bitmap, out, &report);
        for (uint64_t n = 0; n < reached; n++) {
            CHECK_EQ(out[n], m->dirty[n]);
        }
        CHECK_EQ(out[reached], 0xa5);
        break;
    case EQUAL:
        memcpy(out, m->memory + m->offset, m->nbytes);
        for (uint64_t bit = m->nbits; bit < m->nbytes * 8; bit++) { /* foreign bits count nothing */
            out[bit / 8] ^= (uint8_t)(below(2) << bit % 8);
        }
        if (differs != UINT64_MAX) {
            out[differs / 8] ^= (uint8_t)(1u << differs % 8);
        }
        options.window_pages = 1 + below(3); /* its windows end elsewhere */
        CHECK_EQ(
            iova_bitmap_alloc(g->iova, g->length, g->page_size, out, m->nbytes, &options, &other),
            0);
        rc = iova_bitmap_equal(fake->bitmap, other, &report);
        want = want < 0 ? want : differs == UINT64_MAX;
        iova_bitmap_free(other);
        break;
    }
    CHECK(rc == want, "operation on all %d: rc %d, want %d", (int)what, rc, want);
    CHECK_EQ(report.pages, 0);
    check_undone(m, &report, rc, reached, m->base, m->end);
    free(out);
}

struct visit {
    const struct model *m;
    uint64_t left; /* calls that go on */
};

static int visit(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length, void *opaque)
{
    struct visit *v = opaque;

    CHECK_EQ(iova, iova_bitmap_present_window(bitmap)->iova);
    CHECK_EQ(length, iova_bitmap_present_window(bitmap)->length);
    return v->left-- == 0 ? 77 : 0;
}

static void do_walk(struct model *m, struct fake_pin *fake)
{
    struct visit v = {m, below(6)};
    struct iova_bitmap_report failed = {9, 9, 9};
    uint64_t byte = 0;
    int want = 0;

    for (uint64_t left = v.left; byte < m->nbytes && want == 0; left--) {
        want = take(m, &m->present, byte, m->nbytes);
        if (want == 0) {
            byte = m->present.end;
            want = left == 0 ? 77 : 0;
        }
    }
    CHECK_EQ(iova_bitmap_for_each_window(fake->bitmap, &v, visit, &failed), want);
    check_undone(m, &failed, want, byte * 8, m->base, m->end);
}

/* --- one bitmap ---------------------------------------------------------------------- */

static void pick_geometry(struct model *m)
{
    const unsigned shift = (unsigned)below(64);
    const uint64_t sizes[] = {16, 300, 3000, page + 600, 5 * page};
    uint64_t nbits = 1 + below(sizes[below(5)] * 8);

    m->page_size = (wide)1 << shift;
    nbits = (uint64_t)min_wide(nbits, TOP / m->page_size);
    wide length = nbits * m->page_size;
    length -= below(3) == 0 ? 0 : below(2) ? m->page_size - 1 : below(m->page_size);
    length = min_wide(length, TOP - 1);
    const uint64_t kind = below(4);
    m->base = kind == 0 ? 0 : kind == 1 ? TOP - length : below(TOP - length + 1);
    m->end = m->base + length;
    m->nbits = nbits;
    m->nbytes = (nbits + 7) / 8;
    switch (below(4)) {
    case 0:
        m->offset = below(9);
        break;
    case 1:
        m->offset = page - 1 - below(page < m->nbytes ? page : m->nbytes);
        break;
    case 2: /* it ends where the pages end */
        m->offset = (page - m->nbytes % page) % page;
        break;
    default:
        m->offset = below(page);
        break;
    }
    m->window_pages = below(4) ? 1 + below(4) : 512;
    m->touches = below(3) == 0;
    m->plan.seed = below(3) ? check_random(&state) : 0;
    m->plan.most = below(4) ? 0 : 1 + below(2);
}

static void test_one(void)
{
    struct model m = {0};

    pick_geometry(&m);
    struct fake_pin fake = fake_make((m.offset + m.nbytes - 1) / page + 1);
    fake_bitmap(&fake, m.touches ? &fake_touch_ops : &fake_ops, (uint64_t)m.base,
                (uint64_t)(m.end - m.base), (uint64_t)m.page_size, m.offset, m.window_pages);
    fake.plan = m.plan;
    m.dirty = calloc(m.nbits, sizeof(*m.dirty));
    m.memory = malloc(fake.area.size);
    if (m.dirty == NULL || m.memory == NULL || fake.bitmap == NULL) {
        check_skip("no memory");
    }
    for (uint64_t i = 0; i < fake.area.size; i++) {
        m.memory[i] = (uint8_t)(check_random(&state) >> 13);
    }
    put_pages(&m, 0, m.nbits, below(2));
    memcpy(fake_open(&fake), m.memory, fake.area.size);
    fake_shut(&fake);

    for (int i = 0; i < OPERATIONS; i++) {
        const uint64_t what = below(24);
        if (what < 15) {
            do_range(&m, &fake, what < 8 ? SET : (enum range_operation)(CLEAR + (what - 8) % 3));
        } else if (what < 17) {
            do_test(&m, &fake);
        } else if (what < 22) {
            do_whole(&m, &fake, (enum whole_operation)(what < 21 ? what - 17 : EQUAL));
        } else if (what == 22) {
            do_walk(&m, &fake);
        } else {
            give_back(&m, &m.present);
            iova_bitmap_release(fake.bitmap);
        }
        check_books(&m, &fake);
    }
    fake_free(&fake, fake.bitmap);
    free(m.dirty);
    free(m.memory);
}

int main(int argc, char **argv)
{
    const uint64_t iterations = argc > 1 ? strtoull(argv[1], NULL, 0) : 5000;
    const uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;

    page = iova_bitmap_host_page_size();
    for (uint64_t i = 0; i < iterations && check_failures == 0; i++) {
        state = (seed + i) * 0x9e3779b97f4a7c15u | 1; /* one bitmap can be had again alone */
        test_one();
        if (check_failures != 0) {
            printf("again: %s 1 %" PRIu64 "\n", argv[0], seed + i);
        }
    }
    return check_result();
}
