/*
 * algebra.c - operations on two bitmaps of the same geometry, piece by piece where windows of both
 * overlap.
 */
#include "core/bits/words.h"
#include "core/ops/runs.h"

enum { BLOCK_BYTES = 4096 };

/* Two walks in step: pieces that lie in a window of each. They share one report. */
struct pair {
    struct iova_walk left;
    struct iova_walk right;

    /* The piece that next delivered: whole bytes at both, and the bits of the last one that belong
     * to the bitmaps. */
    uint8_t *a;
    const uint8_t *b;
    uint64_t first_bit;
    uint64_t nbits;
};

static void begin(struct pair *pair, struct iova_bitmap *left, struct iova_bitmap *right,
                  enum iova_walk_kind kind, struct iova_bitmap_report *report)
{
    iova_walk_begin(&pair->left, left, kind, NULL, report);
    iova_walk_begin(&pair->right, right, IOVA_WALK_READ_ALL, NULL, pair->left.report);
    pair->left.chunk.nbits = 0;
}

static bool next(struct pair *pair)
{
    struct iova_chunk *rest = &pair->left.chunk; /* what is not paired yet */
    struct iova_chunk ours;

    if (pair->left.rc < 0 || (rest->nbits == 0 && !iova_walk_next(&pair->left))) {
        return false;
    }
    iova_walk_to(&pair->right, rest->first_bit, rest->first_bit + (rest->nbits - 1));
    if (!iova_walk_next(&pair->right)) {
        iova_walk_fail(&pair->left, pair->right.rc);
        return false;
    }
    iova_chunk_cut(rest, pair->right.chunk.nbits, &ours);
    pair->a = ours.bytes;
    pair->b = pair->right.chunk.bytes;
    pair->first_bit = ours.first_bit;
    pair->nbits = ours.nbits;
    return true;
}

static int end(struct pair *pair)
{
    iova_walk_end(&pair->right);
    return iova_walk_end(&pair->left);
}

/* Both sides of a piece as words. */
static void words_of(const struct pair *pair, struct iova_words *a, struct iova_words *b)
{
    *a = iova_words_of(pair->a, 0, pair->nbits);
    *b = iova_words_of(pair->b, 0, pair->nbits);
}

/* to = to OP from, all bits of a piece; those after it in its last byte stay. */
static void combine(enum iova_bitmap_operation operation, uint8_t *to, const uint8_t *from,
                    uint64_t nbits)
{
    const struct iova_words a = iova_words_of(to, 0, nbits);
    const struct iova_words b = iova_words_of(from, 0, nbits);
    uint64_t tail = iova_bits_in_memory(a.tail);
    const uint64_t other = iova_bits_in_memory(b.tail);
    const uint8_t *bytes = (const uint8_t *)&tail;

    iova_kernels()->combine(operation, to, from, a.nwords);
    iova_kernels()->combine(operation, (uint8_t *)&tail, (const uint8_t *)&other, 1);
    to += 8 * a.nwords;
    unsigned left = a.tail_bits;
    for (; left >= 8; left -= 8) {
        *to++ = *bytes++;
    }
    if (left != 0) {
        uint8_t mask = iova_bits_upto(left - 1);
        *to = (uint8_t)((*to & ~mask) | (*bytes & mask));
    }
}

int iova_bitmap_combine(struct iova_bitmap *bitmap, struct iova_bitmap *other,
                        enum iova_bitmap_operation operation, struct iova_bitmap_report *report)
{
    struct pair pair;

    begin(&pair, bitmap, other, IOVA_WALK_WRITE_ALL, report);
    while (next(&pair)) {
        combine(operation, pair.a, pair.b, pair.nbits);
    }
    return end(&pair);
}

int iova_bitmap_count_combined(struct iova_bitmap *bitmap, struct iova_bitmap *other,
                               enum iova_bitmap_operation operation,
                               struct iova_bitmap_report *report)
{
    struct iova_words a, b;
    struct pair pair;

    begin(&pair, bitmap, other, IOVA_WALK_READ_ALL, report);
    while (next(&pair)) {
        words_of(&pair, &a, &b);
        pair.left.report->pages +=
            iova_kernels()->count_combined(operation, a.body, b.body, a.nwords) +
            iova_kernels()->count_combined(operation, (const uint8_t *)&a.tail,
                                           (const uint8_t *)&b.tail, 1);
    }
    return end(&pair);
}

int iova_bitmap_count_both(struct iova_bitmap *bitmap, struct iova_bitmap *other,
                           uint64_t counts[3], struct iova_bitmap_report *report)
{
    struct iova_words a, b;
    struct pair pair;

    counts[0] = counts[1] = counts[2] = 0;
    begin(&pair, bitmap, other, IOVA_WALK_READ_ALL, report);
    while (next(&pair)) {
        words_of(&pair, &a, &b);
        iova_kernels()->count_both(a.body, b.body, a.nwords, counts);
        counts[0] += iova_popcount64(a.tail);
        counts[1] += iova_popcount64(b.tail);
        counts[2] += iova_popcount64(a.tail & b.tail);
    }
    return end(&pair);
}

int iova_bitmap_equal(struct iova_bitmap *a, struct iova_bitmap *b,
                      struct iova_bitmap_report *report)
{
    struct pair pair;
    bool equal = true;

    begin(&pair, a, b, IOVA_WALK_READ_ALL, report);
    while (equal && next(&pair)) {
        equal = iova_bits_equal(pair.a, pair.b, pair.nbits);
    }
    int rc = end(&pair);
    return rc < 0 ? rc : equal;
}

/* Adds the runs of a piece of bitmap OP other, which is built block by block. */
static int add_combined(struct iova_runs *runs, const struct pair *pair,
                        enum iova_bitmap_operation operation)
{
    uint8_t block[BLOCK_BYTES];
    struct iova_chunk rest = {.bytes = pair->a, .first_bit = pair->first_bit, .nbits = pair->nbits};
    struct iova_chunk part;
    int rc = 0;

    while (rc == 0 && iova_chunk_cut(&rest, 8 * BLOCK_BYTES, &part)) {
        iova_bits_copy(block, part.bytes, part.nbits);
        combine(operation, block, pair->b + (part.bytes - pair->a), part.nbits);
        part.bytes = block;
        rc = iova_runs_add(runs, &part);
    }
    return rc;
}

int iova_bitmap_ranges_combined(struct iova_bitmap *bitmap, struct iova_bitmap *other,
                                enum iova_bitmap_operation operation,
                                struct iova_bitmap_ranges *ranges,
                                struct iova_bitmap_report *report)
{
    struct iova_rows rows = {0};
    struct iova_runs runs;
    struct pair pair;

    *ranges = (struct iova_bitmap_ranges){0};
    begin(&pair, bitmap, other, IOVA_WALK_READ_ALL, report);
    iova_runs_begin(&runs, &bitmap->geometry, &pair.left.span, true, &rows);
    while (next(&pair)) {
        iova_walk_fail(&pair.left, add_combined(&runs, &pair, operation));
    }
    int rc = end(&pair);
    if (rc == 0) {
        rc = iova_runs_end(&runs, &ranges->count);
    }
    return iova_rows_give(&rows, rc, ranges);
}
