/*
 * test_harvest.c - read_and_clear and move_into when pins are short or fail: nothing is lost and
 * nothing is made up. What was dirty is in the rows, in the other bitmap, or still where it was.
 *
 * Memory that is not pinned is inaccessible (fake_pin.h).
 */
#include <pthread.h>
#include <stdatomic.h>

#include "side.h"

static unsigned put_back, handed_out, moved;

static void test_rows(uint64_t seed)
{
    static struct side side;
    struct iova_bitmap_ranges found = {0};
    struct iova_bitmap_report report;
    uint64_t first, stop, next = 0;

    make(&side, 500, 1 + below((NPAGES - 1) * host * 8 * 4 - 4), 4);
    const struct iova_bitmap_range range = part(&side, &first, &stop);
    side.fake.plan = seed % 3 == 0 ? (struct fake_plan){.fail_at = 1 + below(5), .answer = -12}
                                   : (struct fake_plan){.seed = seed};
    const uint64_t pins = side.fake.pins;
    const int rc =
        iova_bitmap_read_and_clear(side.bitmap, range.iova, range.length, 0, &found, &report);
    look(&side, side.after);

    if (rc < 0) {
        CHECK_EQ(report.iova, range.iova);
        CHECK_EQ(report.length, range.length);
        put_back += found.rows == NULL && side.fake.pins > pins;
        handed_out += found.rows != NULL;
        CHECK(found.rows != NULL || found.count == 0, "%" PRIu64 " rows", found.count);
        CHECK(seed % 3 != 0 || found.rows == NULL, "one failure, yet not put back");
    }
    for (uint64_t i = 0; i < found.count; i++) {
        const struct iova_bitmap_range row = found.rows[i];
        CHECK(row.length > 0 && row.iova >= range.iova &&
                  row.iova + row.length <= range.iova + range.length,
              "row %" PRIu64, i);
        CHECK(i == 0 || row.iova > next, "row %" PRIu64 " touches the one before", i);
        next = row.iova + row.length;
        for (uint64_t n = (row.iova - 500) / 4; n <= (next - 1 - 500) / 4; n++) {
            /* Where putting back failed on the way, a bit may be in a row and in memory. */
            CHECK(side.before[n], "bit %" PRIu64 " is in row %" PRIu64, n, i);
            CHECK(rc < 0 || !side.after[n], "bit %" PRIu64 " stays", n);
            side.after[n] = true; /* what is in no row must be where it was */
        }
    }
    for (uint64_t n = 0; n < side.nbits; n++) {
        CHECK(side.after[n] == side.before[n], "bit %" PRIu64 " of [%" PRIu64 ", %" PRIu64 ")", n,
              first, stop);
    }
    iova_bitmap_rows_free(found.rows);
    finish(&side);
}

static void test_into(uint64_t seed)
{
    static struct side here, there;
    struct iova_bitmap_report report;
    uint64_t first, stop, newly = 0;
    static bool overlapped[MOST_BITS];

    make(&here, 500, 1 + below((NPAGES - 1) * host * 8 * 4 - 4), 4);
    const uint64_t page_size = (uint64_t)1 << below(5);
    const uint64_t last = iova_bitmap_geometry(here.bitmap)->last;
    const uint64_t length = last + 1 - 490 + below(64);
    if (length > (NPAGES - 2) * host * 8 * page_size) {
        finish(&here);
        return;
    }
    make(&there, 490, length, page_size);
    const struct iova_bitmap_range range = part(&here, &first, &stop);
    const bool faults[2] = {seed & 1, seed & 2};
    here.fake.plan = (struct fake_plan){.seed = faults[0] ? seed : 0};
    there.fake.plan = (struct fake_plan){.seed = faults[1] ? seed + 1000000 : 0};
    const int rc =
        iova_bitmap_move_into(here.bitmap, range.iova, range.length, 0, there.bitmap, &report);
    look(&here, here.after);
    look(&there, there.after);
    CHECK(rc == 0 || (rc < 0 && (faults[0] || faults[1])), "failed with %d", rc);
    CHECK_EQ(report.iova + report.length, rc == 0 ? 0 : range.iova + range.length);
    CHECK(rc == 0 || (report.length != 0 && report.length <= range.length), "length %" PRIu64,
          report.length);
    const uint64_t left = rc == 0 ? stop : (report.iova - 500) / 4;
    CHECK(rc == 0 || report.iova == range.iova || report.iova == 500 + 4 * left,
          "iova %" PRIu64 " is inside of a page", report.iova);
    for (uint64_t n = first; n < stop; n++) {
        CHECK(here.after[n] == (n >= left && here.before[n]), "bit %" PRIu64 " of %" PRIu64, n,
              left);
    }

    memset(overlapped, 0, sizeof(overlapped));
    for (uint64_t n = 0; n < here.nbits; n++) {
        const bool taken = here.before[n] && !here.after[n];
        CHECK(here.before[n] || !here.after[n], "bit %" PRIu64 " was made up", n);
        CHECK(!taken || (n >= first && n < stop), "bit %" PRIu64 " is outside", n);
        CHECK(rc < 0 || n < first || n >= stop || !here.after[n], "bit %" PRIu64 " stays", n);
        /* The page as a whole, whatever part of it was asked for: all of it is clean here now. */
        for (uint64_t at = 500 + 4 * n;
             here.before[n] && n >= first && n < stop && at < 504 + 4 * n; at++) {
            if (at <= last) {
                overlapped[(at - 490) / page_size] = true;
                CHECK(!taken || there.after[(at - 490) / page_size], "bit %" PRIu64 " is lost", n);
            }
        }
    }
    for (uint64_t n = 0; n < there.nbits; n++) {
        CHECK(there.after[n] || !there.before[n], "bit %" PRIu64 " was lost there", n);
        CHECK(there.before[n] || overlapped[n] || !there.after[n], "bit %" PRIu64 " from nowhere",
              n);
        newly += there.after[n] && !there.before[n];
    }
    CHECK(rc < 0 || report.pages == newly, "%" PRIu64 " new pages, not %" PRIu64, newly,
          report.pages);
    moved += rc < 0 && newly > 0;
    finish(&here);
    finish(&there);
}

/* --- others meanwhile ---------------------------------------------------------------------- */

enum { HARVESTS = 4000 };

struct marker {
    struct iova_bitmap *bitmap;
    uint64_t bit;
    bool beside;    /* the bit is in no harvest: it is cleared here again */
    uint64_t newly; /* how often it was clean before */
    atomic_bool stop;
};

static void *keep_marking(void *opaque)
{
    struct marker *marker = opaque;
    struct iova_bitmap *bitmap = marker->bitmap;
    struct iova_bitmap_report report;

    while (!atomic_load(&marker->stop)) {
        CHECK_EQ(iova_bitmap_set(bitmap, marker->bit, 1, IOVA_BITMAP_COUNT, &report), 0);
        marker->newly += report.pages;
        if (marker->beside) {
            CHECK(iova_bitmap_test(bitmap, marker->bit) == 1, "bit %" PRIu64 " lost", marker->bit);
            CHECK_EQ(iova_bitmap_clear(bitmap, marker->bit, 1, 0, NULL), 0);
            CHECK(iova_bitmap_test(bitmap, marker->bit) == 0, "bit %" PRIu64 " back", marker->bit);
        }
    }
    return NULL;
}

/*
 * Another thread marks one bit again and again. Each time that it was clean before, the mark is in
 * exactly one harvest; a harvest of other bits of the same byte or word does not change it.
 */
static void test_marks(unsigned offset, uint64_t bit, uint64_t first, uint64_t stop)
{
    static _Alignas(64) uint8_t memory[64];
    struct marker marker = {.bit = bit, .beside = bit < first || bit >= stop};
    struct iova_bitmap *harvested = NULL;
    struct iova_bitmap_report report;
    uint64_t taken = 0;
    pthread_t thread;

    memset(memory, 0, sizeof(memory));
    const uint64_t own =
        bit == stop - 1 ? first : stop - 1; /* marked here, for something to take */
    CHECK_EQ(iova_bitmap_alloc(0, 300, 1, memory + offset, 40, NULL, &harvested), 0);
    CHECK_EQ(iova_bitmap_alloc(0, 300, 1, memory + offset, 40, NULL, &marker.bitmap), 0);
    if (pthread_create(&thread, NULL, keep_marking, &marker) != 0) {
        check_skip("no threads");
    }
    for (unsigned i = 0; i < HARVESTS; i++) {
        struct iova_bitmap_ranges found = {0};
        uint64_t pages = 0;
        CHECK_EQ(iova_bitmap_set(harvested, own, 1, 0, NULL), 0);
        CHECK_EQ(iova_bitmap_read_and_clear(harvested, first, stop - first, 0, &found, &report), 0);
        for (uint64_t k = 0; k < found.count; k++) {
            const struct iova_bitmap_range row = found.rows[k];
            pages += row.length;
            taken += row.iova <= bit && bit - row.iova < row.length;
        }
        CHECK(pages == 1 || (pages == 2 && !marker.beside), "%" PRIu64 " pages", pages);
        iova_bitmap_rows_free(found.rows);
    }
    atomic_store(&marker.stop, true);
    pthread_join(thread, NULL);
    taken += (uint64_t)iova_bitmap_test(harvested, bit);
    CHECK(marker.beside || taken == marker.newly,
          "offset %u, bit %" PRIu64 ": %" PRIu64 " marks, %" PRIu64 " taken", offset, bit,
          marker.newly, taken);
    iova_bitmap_free(harvested);
    iova_bitmap_free(marker.bitmap);
}

int main(void)
{
    host = iova_bitmap_host_page_size();
    if (host != 4096) {
        check_skip("made for host pages of 4096 bytes");
    }
    for (uint64_t seed = 1; seed <= 500; seed++) {
        test_rows(seed);
        test_into(seed);
    }
    test_marks(0, 100, 0, 300); /* in a whole word */
    test_marks(0, 70, 64, 128);
    test_marks(3, 2, 0, 300); /* in bytes before the first aligned word */
    test_marks(3, 299, 0, 300);
    test_marks(0, 66, 67, 70); /* beside the part, in its first or its last byte */
    test_marks(0, 63, 61, 63);
    test_marks(0, 128, 3, 128);
    test_marks(0, 64, 65, 250);
    /* All that can happen did. */
    CHECK(put_back > 10 && handed_out > 5 && moved > 5,
          "%u put back, %u in rows, %u in the other bitmap", put_back, handed_out, moved);
    return check_result();
}
