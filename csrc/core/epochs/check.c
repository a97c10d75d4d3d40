/*
 * check.c - whether columns can be those of a log: one pass, since whoever reads a log pays it.
 */
#include "core/epochs/epochs.h"

#include <stdbool.h>

/* A row by itself. */
static bool inside(const struct iova_epoch_columns *rows, uint64_t i, uint64_t base,
                   uint64_t length)
{
    const uint64_t offset = rows->iova[i] - base; /* wraps below the base */

    return rows->iova[i] >= base && offset < length && rows->length[i] <= length - offset &&
           (rows->length[i] != 0 || offset == 0) && rows->t_start_ns[i] <= rows->t_end_ns[i];
}

/* A row that is inside, after one that is. */
static bool follows(const struct iova_epoch_columns *rows, uint64_t i)
{
    const uint64_t before = i - 1;

    if (rows->epoch[i] != rows->epoch[before]) {
        return rows->epoch[before] != INT64_MAX && rows->epoch[i] == rows->epoch[before] + 1;
    }
    return rows->length[i] != 0 && rows->length[before] != 0 &&
           rows->iova[i] >= rows->iova[before] &&
           rows->iova[i] - rows->iova[before] >= rows->length[before] &&
           rows->t_start_ns[i] == rows->t_start_ns[before] &&
           rows->t_end_ns[i] == rows->t_end_ns[before];
}

uint64_t iova_epochs_check(const struct iova_epoch_columns *rows, uint64_t base, uint64_t length)
{
    uint64_t i = 0;

    while (i < rows->count && inside(rows, i, base, length) && (i == 0 || follows(rows, i))) {
        i++;
    }
    return i;
}
