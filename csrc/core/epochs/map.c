/*
 * map.c - dirty bytes by time and address. Rows of an epoch ascend, so that a step is enough to
 * find the part of the addresses that a row lies in.
 */
#include "core/epochs/epochs.h"

#include <stdbool.h>

/* Adds the bytes `from` to `last` to the cells of a column, from this part of the addresses on. */
static void cover(const struct iova_epoch_map *map, double *column, uint64_t part, uint64_t from,
                  uint64_t last)
{
    while (part + 1 < map->nparts && map->first[part + 1] <= last) {
        part++;
        column[part - 1] += (double)(map->first[part] - from);
        from = map->first[part];
    }
    column[part] += (double)(last - from) + 1;
}

static bool has(const struct iova_epoch_map *map, int64_t epoch, uint64_t iova, uint64_t length)
{
    return epoch >= 0 && (uint64_t)epoch < map->nepochs && map->column_of[epoch] >= 0 &&
           (uint64_t)map->column_of[epoch] < map->ncolumns && map->nparts > 0 &&
           iova >= map->first[0] && iova >= map->base && length > 0 && iova + (length - 1) >= iova;
}

uint64_t iova_map_add(const struct iova_epoch_map *map, const int64_t *epoch, const uint64_t *iova,
                      const uint64_t *length, uint64_t count)
{
    uint64_t part = 0;

    for (uint64_t i = 0; i < count; i++) {
        if (!has(map, epoch[i], iova[i], length[i])) {
            return i;
        }
        const uint64_t last = iova[i] + (length[i] - 1);
        if (map->first[part] > iova[i]) {
            part = 0; /* the next epoch */
        }
        while (part + 1 < map->nparts && map->first[part + 1] <= iova[i]) {
            part++;
        }
        map->counts[epoch[i]] +=
            ((last - map->base) >> map->shift) - ((iova[i] - map->base) >> map->shift) + 1;
        cover(map, &map->cover[(uint64_t)map->column_of[epoch[i]] * map->nparts], part, iova[i],
              last);
    }
    return count;
}
