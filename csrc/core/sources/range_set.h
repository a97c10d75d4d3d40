/*
 * range_set.h - a small sorted set of IOVA ranges, merged where they touch.
 *
 * The write tracker keeps here what it has taken from the kernel and could not hand on yet. Both
 * ends of a range are inclusive, so that one which ends at 2**64 can be told. Memory is asked for
 * by reserve() alone: add() and take() cannot fail once there is room, because at that moment the
 * kernel has already forgotten the pages.
 */
#ifndef IOVA_RANGE_SET_H
#define IOVA_RANGE_SET_H

#include <stddef.h>
#include <stdint.h>

struct iova_range {
    uint64_t first;
    uint64_t last;
};

/* All zero is an empty set. */
struct iova_range_set {
    struct iova_range *items; /* ascending, at least one clean address between two of them */
    size_t count;
    size_t capacity;
};

void iova_range_set_free(struct iova_range_set *set);

/* Makes room for `extra` more ranges. 0 or -ENOMEM, and then the set is as it was. */
int iova_range_set_reserve(struct iova_range_set *set, size_t extra);

/* Adds [first, last]. Takes at most one reserved place. */
void iova_range_set_add(struct iova_range_set *set, uint64_t first, uint64_t last);

/*
 * Moves what the set has inside [first, last] to out[], ascending, at most `max` ranges (1 or
 * more); what sticks out of it stays in the set. The number moved; 0 where nothing overlaps. Takes
 * at most one reserved place (a range that sticks out on both sides becomes two).
 */
size_t iova_range_set_take(struct iova_range_set *set, uint64_t first, uint64_t last,
                           struct iova_range *out, size_t max);

#endif
