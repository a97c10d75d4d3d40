/*
 * range_set.c - the sorted set of IOVA ranges of range_set.h.
 *
 * A plain array: it is empty nearly always, short otherwise, and every operation moves its tail
 * once.
 */
#include "core/sources/range_set.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

void iova_range_set_free(struct iova_range_set *set)
{
    free(set->items);
    memset(set, 0, sizeof(*set));
}

int iova_range_set_reserve(struct iova_range_set *set, size_t extra)
{
    const size_t most = SIZE_MAX / sizeof(*set->items) / 2;

    if (extra > most || set->count > most - extra) {
        return -ENOMEM;
    }
    size_t want = set->count + extra;
    if (want <= set->capacity) {
        return 0;
    }
    size_t capacity = set->capacity * 2 > want ? set->capacity * 2 : want;
    struct iova_range *items = realloc(set->items, capacity * sizeof(*items));
    if (items == NULL) {
        return -ENOMEM;
    }
    set->items = items;
    set->capacity = capacity;
    return 0;
}

/* Index of the first range that ends at or after `address`; count where there is none. */
static size_t find(const struct iova_range_set *set, uint64_t address)
{
    size_t low = 0;
    size_t high = set->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (set->items[middle].last < address) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Replaces items[at, at + removed) by `added` places, whose content the caller fills in. */
static void splice(struct iova_range_set *set, size_t at, size_t removed, size_t added)
{
    size_t tail = set->count - (at + removed);

    assert(set->count - removed + added <= set->capacity);
    if (tail > 0 && removed != added) {
        memmove(&set->items[at + added], &set->items[at + removed], tail * sizeof(*set->items));
    }
    set->count = set->count - removed + added;
}

void iova_range_set_add(struct iova_range_set *set, uint64_t first, uint64_t last)
{
    size_t begin;
    size_t end;

    assert(first <= last);
    /* One address further on each side, so that ranges that only touch are merged too. */
    begin = find(set, first == 0 ? 0 : first - 1);
    for (end = begin; end < set->count; end++) {
        struct iova_range *item = &set->items[end];
        if (last != UINT64_MAX && item->first > last + 1) {
            break;
        }
        first = item->first < first ? item->first : first;
        last = item->last > last ? item->last : last;
    }
    splice(set, begin, end - begin, 1);
    set->items[begin].first = first;
    set->items[begin].last = last;
}

size_t iova_range_set_take(struct iova_range_set *set, uint64_t first, uint64_t last,
                           struct iova_range *out, size_t max)
{
    struct iova_range left[2];
    size_t nleft = 0;
    size_t taken = 0;
    size_t begin = find(set, first);

    assert(first <= last && max > 0);
    while (taken < max && begin + taken < set->count && set->items[begin + taken].first <= last) {
        struct iova_range item = set->items[begin + taken];
        /* Only the first can stick out on the left, and only the last on the right. */
        if (item.first < first) {
            left[nleft].first = item.first;
            left[nleft++].last = first - 1;
            item.first = first;
        }
        if (item.last > last) {
            left[nleft].first = last + 1;
            left[nleft++].last = item.last;
            item.last = last;
        }
        out[taken++] = item;
    }
    if (taken > 0) {
        splice(set, begin, taken, nleft);
        memcpy(&set->items[begin], left, nleft * sizeof(*left));
    }
    return taken;
}
