/*
 * history.c - how long memory was clean before it became dirty again. Whether a piece is dirty for
 * the first time depends on all rows before, so this is a loop and no operation on whole arrays.
 */
#include "core/epochs/epochs.h"

#include <stdbool.h>
#include <stddef.h>

enum { AHEAD = 24 }; /* rows: their pieces lie anywhere in memory, which takes as long as so many */

/* Asks for what row i + AHEAD will need of an array of 4-byte items. */
static inline void ask_ahead(const int32_t *items, uint64_t nitems, const uint64_t *first,
                             uint64_t i, uint64_t count)
{
    if (i + AHEAD < count && first[i + AHEAD] < nitems) {
        __builtin_prefetch(&items[first[i + AHEAD]], 1);
    }
}

static inline bool has(uint64_t npieces, uint64_t first, uint64_t pieces)
{
    return first <= npieces && pieces <= npieces - first;
}

/* Counts a piece that is dirty in `epoch`; false if it cannot be. */
static inline bool count_piece(const struct iova_history *history, uint64_t piece, int32_t epoch)
{
    const int32_t last = history->last[piece];
    const uint64_t pages = history->weight == NULL ? 1 : history->weight[piece];

    if (last >= epoch || last < -1) {
        return false;
    }
    const uint64_t bin = (uint64_t)(uint32_t)history->bin_of[epoch - 1 - last];
    if (bin >= history->nbins) {
        return false;
    }
    history->last[piece] = epoch;
    history->newly[epoch] += last < 0 ? pages : 0;
    history->after[(uint64_t)epoch * history->nbins + bin] += pages;
    history->from[(uint64_t)(last + 1) * history->nbins + bin] += pages;
    return true;
}

uint64_t iova_history_add(const struct iova_history *history, const int64_t *epoch,
                          const uint64_t *first, const uint64_t *pieces, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        ask_ahead(history->last, history->npieces, first, i, count);
        if (epoch[i] < 0 || (uint64_t)epoch[i] >= history->nepochs || epoch[i] >= INT32_MAX ||
            !has(history->npieces, first[i], pieces[i])) {
            return i;
        }
        for (uint64_t n = 0; n < pieces[i]; n++) {
            if (!count_piece(history, first[i] + n, (int32_t)epoch[i])) {
                return i;
            }
        }
    }
    return count;
}

uint64_t iova_history_hits(int32_t *hits, uint64_t npieces, const uint64_t *first,
                           const uint64_t *pieces, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        ask_ahead(hits, npieces, first, i, count);
        if (!has(npieces, first[i], pieces[i])) {
            return i;
        }
        for (uint64_t n = 0; n < pieces[i]; n++) {
            hits[first[i] + n]++;
        }
    }
    return count;
}
