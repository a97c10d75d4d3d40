/*
 * ranges.c - from bits to runs of dirty pages.
 *
 * A run starts and ends where a bit differs from the one before it. Those edges alternate: start,
 * end, start, end; so one pass collects edges, and each pair of them then becomes a row in place.
 * A word is loaded once, so that rows stay well-formed while others mark.
 */
#include <errno.h>
#include <stdlib.h>

#include "bits.h"
#include "window.h"

/* Positions where the bit differs from the one before, growing. */
struct edges {
    uint64_t *positions;
    size_t count;
    size_t capacity;
    uint64_t carry; /* the last bit seen, 0 or 1 */
};

/* Room for `more` edges; false where there is no memory. */
static bool reserve(struct edges *edges, size_t more)
{
    if (edges->capacity - edges->count >= more) {
        return true;
    }
    size_t capacity = edges->capacity + edges->capacity / 2 + more;
    uint64_t *positions = NULL;

    if (capacity <= SIZE_MAX / sizeof(*positions)) {
        positions = realloc(edges->positions, capacity * sizeof(*positions));
    }
    if (positions == NULL) {
        return false;
    }
    edges->positions = positions;
    edges->capacity = capacity;
    return true;
}

static unsigned lowest_bit(uint64_t word)
{
#if defined(__GNUC__) || defined(__clang__)
    return (unsigned)__builtin_ctzll(word);
#else
    return iova_popcount64((word & (~word + 1)) - 1);
#endif
}

/* Adds the first nbits (1..64) bits of a word whose bit 0 is at `position`. */
static bool add_word(struct edges *edges, uint64_t word, unsigned nbits, uint64_t position)
{
    uint64_t valid = UINT64_MAX >> (64 - nbits);
    uint64_t found = (word ^ (word << 1 | edges->carry)) & valid;

    edges->carry = (word >> (nbits - 1)) & 1;
    if (found == 0) {
        return true;
    }
    if (!reserve(edges, 64 + 1)) { /* one more for the edge that to_rows adds */
        return false;
    }
    for (; found != 0; found &= found - 1) {
        edges->positions[edges->count++] = position + lowest_bit(found);
    }
    return true;
}

/* Adds the bits of a chunk, which follow those added before. */
static bool add_bits(struct edges *edges, const struct iova_chunk *chunk)
{
    const uint8_t *bytes = chunk->bytes;
    uint64_t position = chunk->first_bit - chunk->skip;
    uint64_t left = chunk->skip + chunk->nbits;
    uint64_t mask = UINT64_MAX << chunk->skip; /* bits before the range count as clean */
    bool added = true;

    for (; left >= 64 && added; left -= 64, bytes += 8, position += 64) {
        added = add_word(edges, iova_bits_load64(bytes) & mask, 64, position);
        mask = UINT64_MAX;
    }
    if (left > 0 && added) {
        uint64_t word = 0;
        for (unsigned i = 0; i < (left + 7) / 8; i++) {
            word |= (uint64_t)bytes[i] << (8 * i);
        }
        added = add_word(edges, word & mask, (unsigned)left, position);
    }
    return added;
}

/* Turns pairs of edges into rows, in place, cut to the span. */
static struct iova_bitmap_range *to_rows(struct edges *edges, const struct iova_bitmap *bitmap,
                                         const struct iova_span *span)
{
    if (edges->carry) {
        edges->positions[edges->count++] = span->last_bit + 1;
    }
    for (size_t i = 0; i < edges->count; i += 2) {
        uint64_t *pair = edges->positions + i;
        uint64_t first = iova_geometry_address(&bitmap->geometry, pair[0]);
        uint64_t last = iova_geometry_last_address(&bitmap->geometry, pair[1] - 1);
        first = first > span->iova ? first : span->iova;
        last = last < span->last ? last : span->last;
        pair[0] = first;
        pair[1] = last - first + 1;
    }
    return (struct iova_bitmap_range *)(void *)edges->positions;
}

int iova_bitmap_ranges(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length, unsigned flags,
                       struct iova_bitmap_range **ranges, uint64_t *count,
                       struct iova_bitmap_report *report)
{
    struct iova_span span;
    struct iova_cursor cursor;
    struct iova_chunk chunk;
    struct edges edges = {0};

    *ranges = NULL;
    *count = 0;
    *report = (struct iova_bitmap_report){0};
    int rc = iova_geometry_resolve(&bitmap->geometry, iova, length, flags, &span);
    if (rc <= 0) {
        return rc;
    }
    iova_cursor_open_own(&cursor, bitmap, &span, IOVA_BITMAP_READ);
    bool added = true;
    while (added && (rc = iova_cursor_next(&cursor, &chunk)) > 0) {
        added = add_bits(&edges, &chunk);
    }
    if (rc < 0) {
        iova_cursor_undone(&cursor, &span, report);
    } else if (!added) {
        rc = -ENOMEM;
    }
    iova_cursor_close(&cursor);
    if (rc < 0) {
        free(edges.positions);
        return rc;
    }
    *ranges = to_rows(&edges, bitmap, &span);
    *count = edges.count / 2;
    return 0;
}

void iova_bitmap_ranges_free(void *ranges)
{
    free(ranges);
}
