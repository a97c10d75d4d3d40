/*
 * ask.c - questions whose answer is a number, a page or a list of pages.
 */
#include <errno.h>

#include "core/bitmap/walk.h"
#include "core/bits/words.h"
#include "core/ops/rows.h"

static struct iova_words words_of(const struct iova_chunk *chunk)
{
    return iova_words_of(chunk->bytes, chunk->skip, chunk->nbits);
}

/* Dirty pages of a chunk. */
static uint64_t count_chunk(const struct iova_chunk *chunk)
{
    if (chunk->hole) {
        return 0;
    }
    const struct iova_words words = words_of(chunk);

    return iova_popcount64(words.head) + iova_kernels()->count(words.body, words.nwords) +
           iova_popcount64(words.tail);
}

int iova_bitmap_count(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length, unsigned flags,
                      struct iova_bitmap_report *report)
{
    const struct iova_request request = {iova, length, flags, IOVA_BITMAP_CLIP | IOVA_BITMAP_CLEAN};
    struct iova_walk walk;

    iova_walk_begin(&walk, bitmap, IOVA_WALK_READ, &request, report);
    while (iova_walk_next(&walk)) {
        uint64_t dirty = count_chunk(&walk.chunk);
        walk.report->pages += flags & IOVA_BITMAP_CLEAN ? walk.chunk.nbits - dirty : dirty;
    }
    return iova_walk_end(&walk);
}

int iova_bitmap_test(struct iova_bitmap *bitmap, uint64_t iova)
{
    struct iova_bitmap_report report;
    int rc = iova_bitmap_count(bitmap, iova, 1, 0, &report);

    return rc < 0 ? rc : (int)report.pages;
}

/* Counts the edges of a chunk; `carry` is the bit before it, and becomes its last one. */
static uint64_t count_edges(const struct iova_chunk *chunk, uint64_t *carry)
{
    uint64_t edges;

    if (chunk->hole) {
        edges = *carry;
        *carry = 0;
        return edges;
    }
    const struct iova_words words = words_of(chunk);
    edges = iova_popcount64(iova_words_edges(words.head, words.head_bits, carry));
    edges += iova_kernels()->count_edges(words.body, words.nwords, carry);
    return edges + iova_popcount64(iova_words_edges(words.tail, words.tail_bits, carry));
}

int iova_bitmap_count_ranges(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length,
                             unsigned flags, struct iova_bitmap_report *report)
{
    const struct iova_request request = {iova, length, flags, IOVA_BITMAP_CLIP | IOVA_BITMAP_CLEAN};
    const uint64_t outside = (flags & IOVA_BITMAP_CLEAN) != 0;
    uint64_t carry = outside;
    uint64_t edges = 0;
    struct iova_walk walk;

    iova_walk_begin(&walk, bitmap, IOVA_WALK_READ, &request, report);
    while (iova_walk_next(&walk)) {
        edges += count_edges(&walk.chunk, &carry);
    }
    walk.report->pages = (edges + (carry != outside)) / 2; /* each row has two */
    return iova_walk_end(&walk);
}

/* Finds a bit in the first nbits of a word that is not as in the word `passed`, which holds none of
 * what is searched. `position` is that of its bit 0. */
static bool find_in_part(uint64_t word, unsigned nbits, uint64_t passed, uint64_t position,
                         uint64_t *found)
{
    uint64_t valid = nbits == 64 ? UINT64_MAX : ((uint64_t)1 << nbits) - 1;
    uint64_t hits = (word ^ passed) & valid;

    if (hits != 0) {
        *found = position + iova_lowest_bit(hits);
    }
    return hits != 0;
}

static bool find_in_chunk(const struct iova_chunk *chunk, uint64_t passed, uint64_t *found)
{
    uint64_t position = chunk->first_bit;

    if (chunk->hole) {
        return find_in_part(0, 1, passed, position, found);
    }
    const struct iova_words words = words_of(chunk);
    if (find_in_part(words.head, words.head_bits, passed, position, found)) {
        return true;
    }
    position += words.head_bits;
    for (size_t at = 0; at < words.nwords; at++) {
        at += iova_kernels()->uniform(words.body + 8 * at, words.nwords - at, passed);
        /* The word is loaded again: it may be as the others by now. */
        if (at < words.nwords && find_in_part(iova_bits_load64(words.body + 8 * at), 64, passed,
                                              position + 64 * (uint64_t)at, found)) {
            return true;
        }
    }
    return find_in_part(words.tail, words.tail_bits, passed, position + 64 * (uint64_t)words.nwords,
                        found);
}

int iova_bitmap_find(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length, unsigned flags,
                     uint64_t *found, struct iova_bitmap_report *report)
{
    const struct iova_request request = {iova, length, flags, IOVA_BITMAP_CLIP | IOVA_BITMAP_CLEAN};
    const uint64_t passed = flags & IOVA_BITMAP_CLEAN ? UINT64_MAX : 0;
    bool any = false;
    uint64_t bit = 0;
    struct iova_walk walk;

    iova_walk_begin(&walk, bitmap, IOVA_WALK_READ, &request, report);
    while (!any && iova_walk_next(&walk)) {
        any = find_in_chunk(&walk.chunk, passed, &bit);
    }
    int rc = iova_walk_end(&walk);
    if (any) {
        *found = iova_geometry_address(&bitmap->geometry, bit);
    }
    return rc < 0 ? rc : any;
}

/* Adds the addresses of the dirty pages of some words: 0 or -ENOMEM. */
static int add_words(struct iova_rows *rows, const struct iova_bitmap_geometry *geometry,
                     const uint8_t *words, size_t nwords, uint64_t position)
{
    enum { BLOCK = 512 };
    const uint64_t base = geometry->iova; /* copies, which no item can change */
    const unsigned pgshift = geometry->pgshift;

    while (nwords > 0) {
        size_t n = nwords < BLOCK ? nwords : BLOCK;
        if (!iova_rows_reserve(rows, 64 * n + IOVA_EDGE_SLACK)) {
            return -ENOMEM;
        }
        uint64_t *items = rows->items + rows->count;
        size_t more = iova_kernels()->positions(words, n, position, NULL, items);
        for (size_t i = 0; i < more; i++) {
            items[i] = base + (items[i] << pgshift);
        }
        rows->count += more;
        words += 8 * n;
        nwords -= n;
        position += 64 * n;
    }
    return 0;
}

static int add_pages(struct iova_rows *rows, const struct iova_bitmap_geometry *geometry,
                     const struct iova_chunk *chunk)
{
    if (chunk->hole) {
        return 0;
    }
    const struct iova_words words = words_of(chunk);
    const uint64_t head = iova_bits_in_memory(words.head);
    const uint64_t tail = iova_bits_in_memory(words.tail);
    const uint64_t body = chunk->first_bit + words.head_bits;
    int rc = add_words(rows, geometry, (const uint8_t *)&head, head != 0, chunk->first_bit);

    rc = rc < 0 ? rc : add_words(rows, geometry, words.body, words.nwords, body);
    return rc < 0 ? rc
                  : add_words(rows, geometry, (const uint8_t *)&tail, tail != 0,
                              body + 64 * (uint64_t)words.nwords);
}

int iova_bitmap_pages(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length, unsigned flags,
                      uint64_t **pages, uint64_t *count, struct iova_bitmap_report *report)
{
    const struct iova_request request = {iova, length, flags, IOVA_BITMAP_CLIP};
    struct iova_rows rows = {0};
    struct iova_walk walk;

    if (iova_walk_begin(&walk, bitmap, IOVA_WALK_READ, &request, report)) {
        rows.most = walk.span.last_bit - walk.span.first_bit + 64 * 512 + 2 * IOVA_EDGE_SLACK;
    }
    while (iova_walk_next(&walk)) {
        iova_walk_fail(&walk, add_pages(&rows, &bitmap->geometry, &walk.chunk));
    }
    int rc = iova_walk_end(&walk);
    if (rc < 0) {
        iova_rows_free(rows.items);
        return rc;
    }
    iova_rows_trim(&rows);
    *pages = rows.items;
    *count = rows.count;
    return 0;
}

int iova_bitmap_histogram(struct iova_bitmap *bitmap, uint64_t nbins, uint64_t *bins,
                          struct iova_bitmap_report *report)
{
    const struct iova_bitmap_geometry *geometry = &bitmap->geometry;
    const uint64_t nbits = geometry->nbits;
    uint64_t bin = 0;
    uint64_t bin_end = nbits / nbins;
    uint64_t carried = nbits % nbins; /* what the division left over, in bits times nbins */
    struct iova_walk walk;

    memset(bins, 0, (size_t)nbins * sizeof(*bins));
    iova_walk_begin(&walk, bitmap, IOVA_WALK_READ, NULL, report);
    while (iova_walk_next(&walk)) {
        struct iova_chunk part = walk.chunk;
        const uint64_t end = part.first_bit + part.nbits;
        while (part.first_bit < end) {
            if (iova_poll_before(&walk.poll, IOVA_POLL_ITEM) < 0) {
                iova_walk_break(&walk, iova_geometry_address(geometry, walk.chunk.first_bit),
                                -EINTR);
                break;
            }
            if (bin_end <= part.first_bit) {
                bin++;
                bin_end += nbits / nbins;
                carried += nbits % nbins;
                if (carried >= nbins) {
                    carried -= nbins;
                    bin_end++;
                }
                continue;
            }
            part.nbits = (bin_end < end ? bin_end : end) - part.first_bit;
            bins[bin] += count_chunk(&part);
            part.bytes += (part.skip + part.nbits) >> 3;
            part.skip = (unsigned)((part.skip + part.nbits) & 7);
            part.first_bit += part.nbits;
        }
    }
    return iova_walk_end(&walk);
}
