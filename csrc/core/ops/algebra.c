/*
 * algebra.c - operations on two bitmaps of the same geometry, piece by piece where windows of both
 * overlap.
 */
#include <string.h>

#include "core/ops/runs.h"
#include "core/bits/words.h"

enum { BLOCK_BYTES = 4096 };

/* A walk over both: pieces that lie in a window of each. */
struct pair {
    struct iova_span span;
    struct iova_cursor left;
    struct iova_cursor right;
    struct iova_chunk rest; /* of the left chunk, not yet paired */
};

/* Whole bytes at both, and the bits of the last one that belong to the bitmaps. */
struct piece {
    uint8_t *left;
    const uint8_t *right;
    uint64_t first_bit;
    uint64_t nbits;
};

static void open_pair(struct pair *pair, struct iova_bitmap *left, struct iova_bitmap *right,
                      enum iova_bitmap_access access)
{
    pair->span = iova_geometry_whole(&left->geometry);
    pair->rest.nbits = 0;
    iova_cursor_open_own(&pair->left, left, &pair->span, access);
    iova_cursor_open_own(&pair->right, right, &pair->span, IOVA_BITMAP_READ);
}

/* 1 and the next piece, 0 at the end, or a backend's errno and what was not done. */
static int next_piece(struct pair *pair, struct piece *piece, struct iova_bitmap_report *report)
{
    struct iova_chunk theirs, ours;
    int rc = 1;

    if (pair->rest.nbits == 0) {
        rc = iova_cursor_next(&pair->left, &pair->rest);
        if (rc < 0) {
            iova_cursor_undone(&pair->left, &pair->span, report);
        }
        if (rc <= 0) {
            return rc;
        }
    }
    iova_cursor_again(&pair->right, pair->rest.first_bit,
                      pair->rest.first_bit + (pair->rest.nbits - 1), pair->span.last_bit);
    rc = iova_cursor_next(&pair->right, &theirs);
    if (rc < 0) {
        iova_cursor_undone(&pair->right, &pair->span, report);
        return rc;
    }
    iova_chunk_cut(&pair->rest, theirs.nbits, &ours);
    *piece = (struct piece){ours.bytes, theirs.bytes, ours.first_bit, ours.nbits};
    return 1;
}

static void close_pair(struct pair *pair)
{
    iova_cursor_close(&pair->right);
    iova_cursor_close(&pair->left);
}

/* The bits of a piece behind its whole words, of both sides, as words. */
static unsigned last_part(const struct piece *piece, size_t nwords, uint64_t *left, uint64_t *right)
{
    unsigned nbits = (unsigned)(piece->nbits & 63);

    *left = iova_words_partial(piece->left + 8 * nwords, nbits);
    *right = iova_words_partial(piece->right + 8 * nwords, nbits);
    return nbits;
}

static uint64_t operate(enum iova_bitmap_operation operation, uint64_t a, uint64_t b)
{
    switch (operation) {
    case IOVA_BITMAP_AND:
        return a & b;
    case IOVA_BITMAP_OR:
        return a | b;
    case IOVA_BITMAP_XOR:
        return a ^ b;
    default:
        return a & ~b;
    }
}

/* Stores the first nbits of a word; the bits of the last byte behind them stay. */
static void store_part(uint8_t *bytes, uint64_t word, unsigned nbits)
{
    for (; nbits >= 8; nbits -= 8, word >>= 8) {
        *bytes++ = (uint8_t)word;
    }
    if (nbits != 0) {
        uint8_t mask = iova_bits_upto(nbits - 1);
        *bytes = (uint8_t)((*bytes & ~mask) | ((uint8_t)word & mask));
    }
}

int iova_bitmap_combine(struct iova_bitmap *bitmap, struct iova_bitmap *other,
                        enum iova_bitmap_operation operation, struct iova_bitmap_report *report)
{
    struct pair pair;
    struct piece piece;
    uint64_t a, b;
    int rc;

    *report = (struct iova_bitmap_report){0};
    open_pair(&pair, bitmap, other, IOVA_BITMAP_WRITE);
    while ((rc = next_piece(&pair, &piece, report)) > 0) {
        size_t nwords = (size_t)(piece.nbits >> 6);
        iova_kernels()->combine[operation](piece.left, piece.right, nwords);
        unsigned nbits = last_part(&piece, nwords, &a, &b);
        store_part(piece.left + 8 * nwords, operate(operation, a, b), nbits);
    }
    close_pair(&pair);
    return rc;
}

int iova_bitmap_count_combined(struct iova_bitmap *bitmap, struct iova_bitmap *other,
                               enum iova_bitmap_operation operation,
                               struct iova_bitmap_report *report)
{
    struct pair pair;
    struct piece piece;
    uint64_t a, b;
    uint64_t total = 0;
    int rc;

    *report = (struct iova_bitmap_report){0};
    open_pair(&pair, bitmap, other, IOVA_BITMAP_READ);
    while ((rc = next_piece(&pair, &piece, report)) > 0) {
        size_t nwords = (size_t)(piece.nbits >> 6);
        total += iova_kernels()->count_combined[operation](piece.left, piece.right, nwords);
        last_part(&piece, nwords, &a, &b);
        total += iova_popcount64(operate(operation, a, b));
    }
    close_pair(&pair);
    report->pages = total;
    return rc;
}

int iova_bitmap_count_both(struct iova_bitmap *bitmap, struct iova_bitmap *other,
                           uint64_t counts[3], struct iova_bitmap_report *report)
{
    struct pair pair;
    struct piece piece;
    uint64_t a, b;
    int rc;

    *report = (struct iova_bitmap_report){0};
    counts[0] = counts[1] = counts[2] = 0;
    open_pair(&pair, bitmap, other, IOVA_BITMAP_READ);
    while ((rc = next_piece(&pair, &piece, report)) > 0) {
        size_t nwords = (size_t)(piece.nbits >> 6);
        iova_kernels()->count_both(piece.left, piece.right, nwords, counts);
        last_part(&piece, nwords, &a, &b);
        counts[0] += iova_popcount64(a);
        counts[1] += iova_popcount64(b);
        counts[2] += iova_popcount64(a & b);
    }
    close_pair(&pair);
    return rc;
}

int iova_bitmap_equal(struct iova_bitmap *a, struct iova_bitmap *b,
                      struct iova_bitmap_report *report)
{
    struct pair pair;
    struct piece piece;
    int rc;

    *report = (struct iova_bitmap_report){0};
    open_pair(&pair, a, b, IOVA_BITMAP_READ);
    while ((rc = next_piece(&pair, &piece, report)) > 0) {
        if (!iova_bits_equal(piece.left, piece.right, 0, piece.nbits)) {
            break;
        }
    }
    close_pair(&pair);
    return rc < 0 ? rc : rc == 0;
}

/* The bits of a piece of bitmap OP other, in memory of their own. */
static int add_combined(struct iova_runs *runs, const struct piece *piece,
                        enum iova_bitmap_operation operation)
{
    uint8_t block[BLOCK_BYTES];
    struct iova_chunk left = {
        .bytes = piece->left, .first_bit = piece->first_bit, .nbits = piece->nbits};
    struct iova_chunk part;
    uint64_t a, b;
    int rc = 0;

    while (rc == 0 && iova_chunk_cut(&left, 8 * BLOCK_BYTES, &part)) {
        size_t nwords = (size_t)(part.nbits >> 6);
        struct piece at = {part.bytes, piece->right + (part.bytes - piece->left), part.first_bit,
                           part.nbits};
        memcpy(block, at.left, 8 * nwords);
        iova_kernels()->combine[operation](block, at.right, nwords);
        unsigned nbits = last_part(&at, nwords, &a, &b);
        memset(block + 8 * nwords, 0, nbits != 0 ? 8 : 0);
        store_part(block + 8 * nwords, operate(operation, a, b), nbits);
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
    struct piece piece;
    int added = 0;
    int rc = 0;

    *ranges = (struct iova_bitmap_ranges){0};
    *report = (struct iova_bitmap_report){0};
    open_pair(&pair, bitmap, other, IOVA_BITMAP_READ);
    iova_runs_begin(&runs, &bitmap->geometry, &pair.span, true, &rows);
    while (added == 0 && (rc = next_piece(&pair, &piece, report)) > 0) {
        added = add_combined(&runs, &piece, operation);
    }
    close_pair(&pair);
    rc = rc < 0 ? rc : added;
    if (rc == 0) {
        rc = iova_runs_end(&runs, &ranges->count);
    }
    if (rc < 0) {
        iova_rows_free(rows.items);
        return rc;
    }
    iova_rows_trim(&rows);
    ranges->rows = (struct iova_bitmap_range *)(void *)rows.items;
    return 0;
}
