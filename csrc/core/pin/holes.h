/*
 * holes.h - which parts of memory were never populated, and so read as zeros, found without
 * touching them. A scan asks only when it has been long: what is populated pays nothing.
 */
#ifndef IOVA_HOLES_H
#define IOVA_HOLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An extent of memory that may hold something: [start, end), multiples of the host's page size. */
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
 * The first extent at or behind `address` that may be populated: true and *extent, which ends at
 * `end` at the latest; false where there is none before `end`. Addresses ascend from call to call.
 * Without an answer (an error of the system), all counts as populated.
 */
bool iova_holes_next(struct iova_holes *holes, uintptr_t address, uintptr_t end,
                     struct iova_extent *extent);

#endif
