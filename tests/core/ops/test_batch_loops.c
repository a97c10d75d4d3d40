/*
 * test_batch_loops.c - the loops of a batch by themselves: rows that were changed after they were
 * checked are not done where they reach outside, and rows that begin inside a page have its bit.
 */
#include <string.h>

#include "check.h"
#include "core/bits/bits.h"
#include "core/ops/batch.h"

enum { BASE = 4096 * 7, BITS = 100 };

static uint64_t words[4]; /* of which the bitmap has 13 bytes: one whole word */

/* What the loop says of one row; the first word holds `want` then, and no other anything. */
static void check_row(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length, unsigned flags,
                      uint64_t done, uint64_t want)
{
    const uint64_t items[2] = {iova, length};
    const struct iova_batch batch = {.bitmap = bitmap, .items = items, .count = 1, .flags = flags};

    memset(words, 0, sizeof(words));
    CHECK_EQ(iova_batch_loops()->mark(&batch, 0, 1), done);
    CHECK_EQ(words[0], iova_bits_in_memory(want));
    CHECK(words[1] == 0 && words[2] == 0 && words[3] == 0, "words behind");
}

int main(void)
{
    struct iova_bitmap *bitmap = NULL;

    CHECK_EQ(
        iova_bitmap_alloc(BASE, (uint64_t)BITS * 4096, 4096, words, sizeof(words), NULL, &bitmap),
        0);
    for (unsigned flags = 0; flags <= IOVA_BITMAP_EXCLUSIVE; flags += IOVA_BITMAP_EXCLUSIVE) {
        check_row(bitmap, BASE, 4096, flags, 1, 1);
        check_row(bitmap, BASE + 1, 8192, flags, 1, 7);
        check_row(bitmap, BASE + 2, 3 * 4096, flags, 1, 15);
        check_row(bitmap, BASE, 64 * 4096, flags, 1, UINT64_MAX);
        check_row(bitmap, BASE + 63 * 4096, 4096, flags, 1, (uint64_t)1 << 63);
        /* Into the bytes that are no whole word, behind all, before all, empty, wrapped. */
        check_row(bitmap, BASE + 63 * 4096, 4097, flags, 0, 0);
        check_row(bitmap, BASE + 4096, 64 * 4096, flags, 0, 0);
        check_row(bitmap, BASE + 90 * 4096, 20 * 4096, flags, 0, 0);
        check_row(bitmap, BASE - 1, 2, flags, 0, 0);
        check_row(bitmap, BASE, 0, flags, 0, 0);
        check_row(bitmap, BASE + 1, UINT64_MAX, flags, 0, 0);
    }
    iova_bitmap_free(bitmap);
    return check_result();
}
