/*
 * holes.h - which parts of memory were never populated, and so read as zeros, found without
 * touching them. A scan asks only when it has been long: what is populated pays nothing.
 */
#ifndef IOVA_HOLES_H
#define IOVA_HOLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An extent of memory that may hold something: [start, end), at least one whole host page, and
 * nothing but whole ones: an extent is rounded out. */
struct iova_extent {
    uintptr_t start;
    uintptr_t end;
};

struct iova_holes;

/* True where the memory is a shared mapping, of which even a read populates what it touches. */
bool iova_holes_shared(const void *address);

/* Something to ask about the memory from `address` on, or NULL where this platform or the kind of
 * memory tells nothing that is certain: then all of it has to be read. */
struct iova_holes *iova_holes_open(const void *address);
void iova_holes_close(struct iova_holes *holes);

/*
 * Finds the first extent that ends after `address`. True and *extent, if it starts before `end`:
 * then start < end, and end > address. It may start at or before `address`, which is populated
 * then, and it may end after `end`; else all of [address, extent->start) is a hole. False if all of
 * [address, end) is one. Addresses ascend from call to call, from that of iova_holes_open() on.
 *
 * Without an answer, or with an impossible one, of the system all counts as populated. What others
 * populate concurrently may be missed.
 */
bool iova_holes_next(struct iova_holes *holes, uintptr_t address, uintptr_t end,
                     struct iova_extent *extent);

#endif
