/*
 * ask.c - questions whose answer is a number, a page or a list of pages.
 */
#include <errno.h>

#include "core/ops/rows.h"
#include "core/bits/words.h"

/* What a walk carries along, and what it found. */
struct question {
    const struct iova_bitmap_geometry *geometry;
    uint64_t total;
    uint64_t carry;        /* count_ranges: the last bit seen */
    uint64_t wanted;       /* find: a word that holds none of what is searched */
    uint64_t found;        /* find: a bit */
    bool done;             /* nothing more has to be seen */
    struct iova_rows rows; /* pages */
    uint64_t nbins;        /* histogram */
    uint64_t bin;          /* the one that the next bit falls into */
    uint64_t *bins;
    struct iova_poll *poll;
};

/* Sees the next chunk: 0, -ENOMEM or -EINTR. */
typedef int (*see)(struct question *question, const struct iova_chunk *chunk);

/* Shows all chunks of a range to `see`, until it is done. */
static int ask(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length, unsigned flags,
               see see_chunk, struct question *question, struct iova_bitmap_report *report)
{
    struct iova_span span;
    struct iova_cursor cursor;
    struct iova_chunk chunk;
    int seen = 0;

    question->geometry = &bitmap->geometry;
    *report = (struct iova_bitmap_report){0};
    int rc = iova_geometry_resolve(&bitmap->geometry, iova, length, flags, &span);
    if (rc <= 0) {
        return rc;
    }
    iova_cursor_open_sparse(&cursor, bitmap, &span, IOVA_BITMAP_READ);
    question->poll = &cursor.poll;
    question->rows.most = span.last_bit - span.first_bit + 64 * 512 + 2 * IOVA_EDGE_SLACK;
    while (seen == 0 && !question->done && (rc = iova_cursor_next(&cursor, &chunk)) > 0) {
        seen = see_chunk(question, &chunk);
    }
    if (seen == -EINTR) { /* inside of the chunk, which was not seen whole */
        cursor.next_bit = chunk.first_bit;
        rc = seen;
    }
    if (rc < 0) {
        iova_cursor_undone(&cursor, &span, report);
    } else {
        rc = seen;
    }
    iova_cursor_close(&cursor);
    return rc;
}

static uint64_t count_chunk(const struct iova_chunk *chunk)
{
    if (chunk->hole) {
        return 0;
    }
    struct iova_words words = iova_words_of(chunk);

    return iova_popcount64(words.head) + iova_kernels()->count(words.body, words.nwords) +
           iova_popcount64(words.tail);
}

static int see_count(struct question *question, const struct iova_chunk *chunk)
{
    question->total += count_chunk(chunk);
    return 0;
}

int iova_bitmap_count(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length, unsigned flags,
                      struct iova_bitmap_report *report)
{
    struct question question = {0};
    int rc = ask(bitmap, iova, length, flags, see_count, &question, report);

    report->pages = question.total;
    return rc;
}

int iova_bitmap_test(struct iova_bitmap *bitmap, uint64_t iova)
{
    struct iova_bitmap_report report;
    int rc = iova_bitmap_count(bitmap, iova, 1, 0, &report);

    return rc < 0 ? rc : (int)report.pages;
}

static int see_edges(struct question *question, const struct iova_chunk *chunk)
{
    uint64_t *carry = &question->carry;

    if (chunk->hole) {
        question->total += *carry;
        *carry = 0;
        return 0;
    }
    struct iova_words words = iova_words_of(chunk);
    question->total += iova_popcount64(iova_words_edges(words.head, words.head_bits, carry));
    question->total += iova_kernels()->count_edges(words.body, words.nwords, carry);
    question->total += iova_popcount64(iova_words_edges(words.tail, words.tail_bits, carry));
    return 0;
}

int iova_bitmap_count_ranges(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length,
                             unsigned flags, struct iova_bitmap_report *report)
{
    uint64_t outside = (flags & IOVA_BITMAP_CLEAN) != 0;
    struct question question = {.carry = outside};
    int rc = ask(bitmap, iova, length, flags, see_edges, &question, report);

    report->pages = (question.total + (question.carry != outside)) / 2;
    return rc;
}

/* Looks for a bit in a part of a word; `position` is that of its bit 0. */
static bool find_in_part(struct question *question, uint64_t word, unsigned nbits,
                         uint64_t position)
{
    uint64_t valid = nbits == 64 ? UINT64_MAX : ((uint64_t)1 << nbits) - 1;
    uint64_t hits = (word ^ question->wanted) & valid;

    if (hits != 0) {
        question->found = position + iova_lowest_bit(hits);
        question->done = true;
    }
    return question->done;
}

static int see_find(struct question *question, const struct iova_chunk *chunk)
{
    uint64_t position = chunk->first_bit;

    if (chunk->hole) {
        find_in_part(question, 0, 1, position);
        return 0;
    }
    struct iova_words words = iova_words_of(chunk);
    if (find_in_part(question, words.head, words.head_bits, position)) {
        return 0;
    }
    position += words.head_bits;
    for (size_t at = 0; at < words.nwords; at++) {
        at += iova_kernels()->uniform(words.body + 8 * at, words.nwords - at, question->wanted);
        /* The word is loaded again: it may be as the others by now. */
        if (at < words.nwords && find_in_part(question, iova_bits_load64(words.body + 8 * at), 64,
                                              position + 64 * (uint64_t)at)) {
            return 0;
        }
    }
    find_in_part(question, words.tail, words.tail_bits, position + 64 * (uint64_t)words.nwords);
    return 0;
}

int iova_bitmap_find(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length, unsigned flags,
                     uint64_t *found, struct iova_bitmap_report *report)
{
    struct question question = {.wanted = flags & IOVA_BITMAP_CLEAN ? UINT64_MAX : 0};
    int rc = ask(bitmap, iova, length, flags, see_find, &question, report);

    if (rc < 0 || !question.done) {
        return rc;
    }
    *found = iova_geometry_address(&bitmap->geometry, question.found);
    return 1;
}

/* Adds the addresses of the pages that a part of a word marks. */
static int add_pages(struct question *question, uint64_t word, uint64_t position)
{
    if (!iova_rows_reserve(&question->rows, 64)) {
        return -ENOMEM;
    }
    for (; word != 0; word &= word - 1) {
        question->rows.items[question->rows.count++] =
            iova_geometry_address(question->geometry, position + iova_lowest_bit(word));
    }
    return 0;
}

static int see_pages(struct question *question, const struct iova_chunk *chunk)
{
    enum { BLOCK = 512 };
    struct iova_rows *rows = &question->rows;
    uint64_t position = chunk->first_bit;

    if (chunk->hole) {
        return 0;
    }
    struct iova_words words = iova_words_of(chunk);
    if (add_pages(question, words.head, position) < 0) {
        return -ENOMEM;
    }
    position += words.head_bits;
    while (words.nwords > 0) {
        size_t n = words.nwords < BLOCK ? words.nwords : BLOCK;
        if (!iova_rows_reserve(rows, 64 * n + IOVA_EDGE_SLACK)) {
            return -ENOMEM;
        }
        uint64_t *items = rows->items + rows->count;
        size_t more = iova_kernels()->ones(words.body, n, position, items);
        for (size_t i = 0; i < more; i++) {
            items[i] = iova_geometry_address(question->geometry, items[i]);
        }
        rows->count += more;
        words.body += 8 * n;
        words.nwords -= n;
        position += 64 * n;
    }
    return add_pages(question, words.tail, position);
}

int iova_bitmap_pages(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length, unsigned flags,
                      uint64_t **pages, uint64_t *count, struct iova_bitmap_report *report)
{
    struct question question = {0};
    int rc = ask(bitmap, iova, length, flags, see_pages, &question, report);

    if (rc < 0) {
        iova_rows_free(question.rows.items);
        return rc;
    }
    iova_rows_trim(&question.rows);
    *pages = question.rows.items;
    *count = question.rows.count;
    return 0;
}

/* First bit of a bin: bin * nbits / nbins, without overflow. */
static uint64_t bin_start(const struct question *question, uint64_t bin)
{
    uint64_t nbits = question->geometry->nbits;
    uint64_t whole = nbits / question->nbins;
    uint64_t rest = nbits % question->nbins;

    return bin * whole + iova_muldiv64(bin, rest, question->nbins);
}

static int see_bins(struct question *question, const struct iova_chunk *chunk)
{
    struct iova_chunk part = *chunk;
    uint64_t end = chunk->first_bit + chunk->nbits;

    while (part.first_bit < end) {
        uint64_t bin_end = bin_start(question, question->bin + 1);
        if (iova_poll_before(question->poll, IOVA_POLL_ITEM) < 0) {
            return -EINTR;
        }
        if (bin_end <= part.first_bit) {
            question->bin++;
            continue;
        }
        part.nbits = (bin_end < end ? bin_end : end) - part.first_bit;
        question->bins[question->bin] += count_chunk(&part);
        uint64_t next = part.skip + part.nbits;
        part.bytes += next >> 3;
        part.skip = (unsigned)(next & 7);
        part.first_bit += part.nbits;
    }
    return 0;
}

int iova_bitmap_histogram(struct iova_bitmap *bitmap, uint64_t nbins, uint64_t *bins,
                          struct iova_bitmap_report *report)
{
    struct question question = {.nbins = nbins, .bins = bins};

    for (uint64_t i = 0; i < nbins; i++) {
        bins[i] = 0;
    }
    return ask(bitmap, bitmap->geometry.iova, bitmap->geometry.length, 0, see_bins, &question,
               report);
}
