/*
 * runs.c - from bits to runs of pages, and the rows that describe them.
 *
 * A run starts and ends where a bit differs from the one before it. Those edges alternate: start,
 * end, start, end; so one decode of edges gives the rows. Runs of clean pages have the same edges,
 * only what is around them counts as dirty. A word is loaded once, so that rows stay well-formed
 * while others mark.
 */
#include "core/ops/runs.h"

#include <errno.h>
#include <string.h>

#include "core/bits/words.h"

/* Words that are decoded before their edges become rows: those are still in the cache then. */
enum { BLOCK = 512, SMALL_BLOCK = 32 };

void iova_runs_begin(struct iova_runs *runs, const struct iova_bitmap_geometry *geometry,
                     const struct iova_span *span, bool dirty, struct iova_rows *rows)
{
    *runs = (struct iova_runs){
        .geometry = geometry, .span = *span, .rows = rows, .carry = !dirty, .outside = !dirty};
    /* An edge for each bit, and room to write beyond the last; never more than 2**61 of them, as
     * the bits lie in memory. */
    rows->most = span->last_bit - span->first_bit + 64 * BLOCK + 2 * IOVA_EDGE_SLACK;
}

/* Pairs of edges become rows, while they are in the cache. */
static void convert(struct iova_runs *runs)
{
    struct iova_rows *rows = runs->rows;
    size_t npairs = (rows->count - runs->converted) / 2;

    if (npairs == 0) { /* there may be no items at all */
        return;
    }
    iova_kernels()->to_rows(rows->items + runs->converted, npairs, runs->geometry->iova,
                            runs->geometry->pgshift);
    runs->converted += 2 * npairs;
}

/* Adds edges that are listed elsewhere to a fixed array, as far as it has room. */
static void append(struct iova_runs *runs, const uint64_t *edges, size_t count)
{
    struct iova_rows *rows = runs->rows;
    size_t room = rows->capacity - rows->count;
    size_t kept = count < room ? count : room;

    if (kept != 0) {
        memcpy(rows->items + rows->count, edges, kept * sizeof(*edges));
        rows->count += kept;
    }
    if (kept < count && runs->dropped == 0) {
        runs->first_dropped = edges[kept];
    }
    runs->dropped += count - kept;
}

/* How many of nwords (>= 1) words to decode next: directly, where there is room for all edges that
 * may come, or through a small list where a fixed array may not have it (*listed). 0: no memory. */
static size_t decodable(struct iova_rows *rows, size_t nwords, bool *listed)
{
    size_t n = nwords < BLOCK ? nwords : BLOCK;

    *listed = false;
    if (iova_rows_reserve(rows, 64 * n + IOVA_EDGE_SLACK)) {
        return n;
    }
    if (!rows->fixed) {
        return 0;
    }
    size_t room = rows->capacity - rows->count;
    if (room >= 64 * SMALL_BLOCK + IOVA_EDGE_SLACK) {
        return (room - IOVA_EDGE_SLACK) / 64;
    }
    *listed = true;
    return n < SMALL_BLOCK ? n : SMALL_BLOCK;
}

/* Adds the edges of whole words. */
static int add_words(struct iova_runs *runs, const uint8_t *words, size_t nwords, uint64_t position)
{
    struct iova_rows *rows = runs->rows;
    const struct iova_kernels *kernels = iova_kernels();

    while (nwords > 0 && !(runs->partial && runs->dropped != 0)) {
        bool listed;
        /* A stretch that goes on as it was has no edges. */
        size_t n = kernels->uniform(words, nwords, runs->carry ? UINT64_MAX : 0);
        if (n == 0) {
            n = decodable(rows, nwords, &listed);
            if (n == 0) {
                return -ENOMEM;
            }
            uint64_t edges[64 * SMALL_BLOCK + IOVA_EDGE_SLACK];
            uint64_t *out = listed ? edges : rows->items + rows->count;
            size_t count = kernels->positions(words, n, position, &runs->carry, out);
            if (listed) {
                append(runs, edges, count);
            } else {
                rows->count += count;
            }
            convert(runs);
        }
        words += 8 * n;
        position += 64 * n;
        nwords -= n;
    }
    return 0;
}

/* Adds the edges of the first nbits bits of a word. */
static int add_part(struct iova_runs *runs, uint64_t word, unsigned nbits, uint64_t position)
{
    uint64_t found = iova_words_edges(word, nbits, &runs->carry);
    uint64_t edges[64];
    size_t count = 0;

    for (; found != 0; found &= found - 1) {
        edges[count++] = position + iova_lowest_bit(found);
    }
    if (count != 0 && !iova_rows_reserve(runs->rows, count) && !runs->rows->fixed) {
        return -ENOMEM;
    }
    append(runs, edges, count);
    return 0;
}

int iova_runs_add(struct iova_runs *runs, const struct iova_chunk *chunk)
{
    uint64_t position = chunk->first_bit;

    if (chunk->hole) { /* ends a run of dirty pages, where one is open */
        runs->seen += chunk->nbits;
        return add_part(runs, 0, 1, position);
    }
    const struct iova_words words = iova_words_of(chunk->bytes, chunk->skip, chunk->nbits);
    int rc = add_part(runs, words.head, words.head_bits, position);

    if (rc == 0) {
        position += words.head_bits;
        rc = add_words(runs, words.body, words.nwords, position);
    }
    if (rc == 0) {
        rc = add_part(runs, words.tail, words.tail_bits, position + 64 * (uint64_t)words.nwords);
    }
    runs->seen += chunk->nbits;
    return rc;
}

/* The last run reaches the end of the span: its end is no edge, and lies inside a page. */
static int end_open_run(struct iova_runs *runs)
{
    uint64_t edge = runs->span.last_bit + 1;

    if (!iova_rows_reserve(runs->rows, 1) && !runs->rows->fixed) {
        return -ENOMEM;
    }
    append(runs, &edge, 1);
    return 0;
}

int iova_runs_end(struct iova_runs *runs, uint64_t *count)
{
    struct iova_rows *rows = runs->rows;
    const struct iova_span *span = &runs->span;
    bool open = runs->carry != runs->outside;

    if (open && end_open_run(runs) < 0) {
        return -ENOMEM;
    }
    convert(runs);
    *count = (rows->count + runs->dropped) / 2;
    if (rows->count != 0 && rows->items[0] < span->iova) {
        rows->items[1] -= span->iova - rows->items[0];
        rows->items[0] = span->iova;
    }
    if (runs->dropped != 0) {
        return -ENOSPC;
    }
    if (open) {
        rows->items[rows->count - 1] = span->last - rows->items[rows->count - 2] + 1;
    }
    return 0;
}

bool iova_runs_next_piece(struct iova_chunk *chunk, struct iova_chunk *piece)
{
    const size_t nwords = chunk->skip == 0 && !chunk->hole ? (size_t)(chunk->nbits >> 6) : 0;
    const size_t clean = iova_kernels()->uniform(chunk->bytes, nwords, 0);

    if (chunk->hole) {
        *piece = *chunk;
        chunk->nbits = 0;
        return piece->nbits != 0;
    }
    if (clean == 0) {
        return iova_chunk_cut(chunk, IOVA_BLOCK_BITS, piece);
    }
    iova_chunk_cut(chunk, 64 * (uint64_t)clean, piece);
    piece->hole = true;
    return true;
}

void iova_block_decode(struct iova_block *block, const struct iova_bitmap_geometry *geometry,
                       const struct iova_span *span, const struct iova_chunk *piece)
{
    struct iova_rows rows = {.items = block->items,
                             .capacity = sizeof(block->items) / sizeof(block->items[0]),
                             .fixed = true};
    struct iova_span part = iova_geometry_pages(geometry, piece->first_bit, piece->nbits);
    struct iova_runs runs;
    uint64_t count;

    part.iova = part.iova > span->iova ? part.iova : span->iova;
    part.last = part.last < span->last ? part.last : span->last;
    iova_runs_begin(&runs, geometry, &part, true, &rows);
    iova_runs_add(&runs, piece); /* the array has room for all */
    iova_runs_end(&runs, &count);
    block->count = rows.count;
}
