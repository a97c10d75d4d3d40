/*
 * batch_loops.c - the loops of batch.h, in which all of a batch's time is spent. They are compiled
 * twice: shifts by any number are one instruction with BMI2, and three without.
 */
#include "core/ops/batch.h"

#include "core/bits/bits.h"
#include "core/bits/kernels.h"

/* Whether none of some rows is empty or reaches outside. Of ranges shorter than 2**63 the highest
 * bit of a difference tells, so that there is no branch for each row; of others nothing is known.
 */
IOVA_INLINED bool inside(const struct iova_batch *batch, uint64_t from, uint64_t to)
{
    const uint64_t base = batch->bitmap->geometry.iova;
    const uint64_t room = batch->bitmap->geometry.last - base;
    const uint64_t *items = batch->items;
    uint64_t outside = room;

    IOVA_RACY_READ_BEGIN(); /* do_rows() trusts none of this */
    if (batch->pages) {
        for (uint64_t i = from; i < to; i++) {
            const uint64_t start = items[i] - base;
            outside |= start | (room - start);
        }
    } else {
        for (uint64_t i = from; i < to; i++) {
            const uint64_t start = items[2 * i] - base;
            const uint64_t more = items[2 * i + 1] - 1; /* wraps if the row is empty */
            outside |= start | (room - start) | more | (room - start - more);
        }
    }
    IOVA_RACY_READ_END();
    return outside >> 63 == 0;
}

/* The bitmap's memory that is whole aligned words, and the addresses of their bits. */
struct aligned {
    uint8_t *bytes;
    uint64_t base; /* the address of the first bit */
    uint64_t room; /* from there to the last address */
    bool none;     /* there is no such word */
};

static struct aligned aligned_of(const struct iova_bitmap *bitmap)
{
    const struct iova_bitmap_geometry *geometry = &bitmap->geometry;
    const uint64_t before = iova_bits_to_word(bitmap->data, geometry->nbytes);
    const uint64_t nwords = (geometry->nbytes - before) / 8;
    struct aligned aligned = {.none = nwords == 0};

    if (nwords != 0) {
        const uint64_t last_bit = 8 * before + 64 * nwords - 1;
        aligned.bytes = bitmap->data + before;
        aligned.base = iova_geometry_address(geometry, 8 * before);
        aligned.room = iova_geometry_last_address(
                           geometry, last_bit < geometry->nbits ? last_bit : geometry->nbits - 1) -
                       aligned.base;
    }
    return aligned;
}

/*
 * The loop that all of a batch's speed is in: rows of at most 64 pages, in any order, over aligned
 * words that need no pins. Each row is tested once more, for the array may have changed since it
 * was checked; the first that is not so simple ends the loop. An exclusive row always writes two
 * words, the second of them with an empty mask if it lies in one, because a branch would be
 * unpredictable; a shared one does not, because a locked instruction costs more than that. The
 * constants are known where this is inlined, so that each kind of batch has a loop of its own.
 */
IOVA_INLINED uint64_t do_rows(const uint64_t *items, uint64_t i, uint64_t to, uint64_t ahead,
                              const struct aligned *words, unsigned pgshift, bool pages, bool clear,
                              bool exclusive)
{
    const struct aligned aligned = *words;
    const unsigned columns = pages ? 1 : 2;

    for (; i < to; i++) {
        const uint64_t start = iova_batch_item(items, columns * i) - aligned.base;
        const uint64_t more =
            pages ? 0 : iova_batch_item(items, 2 * i + 1) - 1; /* wraps if it is empty */
        const uint64_t bit = start >> pgshift;
        const uint64_t nbits = ((start + more) >> pgshift) - bit; /* less one */
        const unsigned shift = (unsigned)(bit & 63);
        const uint64_t mask = UINT64_MAX >> (63 - (nbits & 63));
        if (ahead != 0) { /* any address may be fetched */
            uint64_t later = iova_batch_item(items, columns * (i + ahead)) - aligned.base;
            iova_prefetch_write((const void *)((uintptr_t)aligned.bytes + (later >> pgshift >> 3)));
        }
        if (start > aligned.room || more > aligned.room - start || nbits >= 64) {
            break;
        }
        uint8_t *first = aligned.bytes + (bit >> 6 << 3);
        uint8_t *last = aligned.bytes + ((bit + nbits) >> 6 << 3);
        const uint64_t in_last = mask >> 1 >> (63 - shift);
        const bool two = !pages && (exclusive || in_last != 0);
        if (clear) {
            iova_bits_clear_word(first, mask << shift, exclusive);
        } else {
            iova_bits_mark_word(first, mask << shift, exclusive);
        }
        if (clear && two) {
            iova_bits_clear_word(last, in_last, exclusive);
        } else if (two) {
            iova_bits_mark_word(last, in_last, exclusive);
        }
    }
    return i;
}

/* Each kind of batch: the row that do_rows() ended at. */
IOVA_INLINED uint64_t do_kind(const struct iova_batch *batch, uint64_t i, uint64_t to,
                              uint64_t ahead, const struct aligned *words)
{
    const bool exclusive = (batch->flags & IOVA_BITMAP_EXCLUSIVE) != 0;
    const unsigned pgshift = batch->bitmap->geometry.pgshift;

    if (batch->pages) {
        return exclusive ? do_rows(batch->items, i, to, ahead, words, pgshift, true, false, true)
                         : do_rows(batch->items, i, to, ahead, words, pgshift, true, false, false);
    }
    if (batch->clear) {
        return exclusive ? do_rows(batch->items, i, to, ahead, words, pgshift, false, true, true)
                         : do_rows(batch->items, i, to, ahead, words, pgshift, false, true, false);
    }
    return exclusive ? do_rows(batch->items, i, to, ahead, words, pgshift, false, false, true)
                     : do_rows(batch->items, i, to, ahead, words, pgshift, false, false, false);
}

enum { AHEAD = 32 }; /* rows whose words are fetched while others are done */

IOVA_INLINED uint64_t mark(const struct iova_batch *batch, uint64_t i, uint64_t to)
{
    const struct aligned words = aligned_of(batch->bitmap);

    if (words.none) {
        return i;
    }
    if (to - i > AHEAD) {
        const uint64_t before = to - AHEAD;
        i = do_kind(batch, i, before, AHEAD, &words);
        if (i < before) {
            return i;
        }
    }
    return do_kind(batch, i, to, 0, &words);
}

static bool plain_inside(const struct iova_batch *batch, uint64_t from, uint64_t to)
{
    return inside(batch, from, to);
}

static uint64_t plain_mark(const struct iova_batch *batch, uint64_t from, uint64_t to)
{
    return mark(batch, from, to);
}

IOVA_FOR_AVX2 static bool avx2_inside(const struct iova_batch *batch, uint64_t from, uint64_t to)
{
    return inside(batch, from, to);
}

IOVA_FOR_AVX2 static uint64_t avx2_mark(const struct iova_batch *batch, uint64_t from, uint64_t to)
{
    return mark(batch, from, to);
}

const struct iova_batch_loops *iova_batch_loops(void)
{
    static const struct iova_batch_loops plain = {plain_inside, plain_mark};
    static const struct iova_batch_loops avx2 = {avx2_inside, avx2_mark};

    return iova_kernels()->avx2 ? &avx2 : &plain;
}
