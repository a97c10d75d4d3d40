/*
 * pin.h - the built-in pin backends, one file each, and what they share.
 */
#ifndef IOVA_PIN_H
#define IOVA_PIN_H

#include <stddef.h>

#include "iova_bitmap.h"

/* Translation only: every pin delivers in full and costs nothing. */
extern const struct iova_bitmap_pin_ops iova_pin_none;

/* The others, or NULL where the platform or the running kernel does not have them. */
const struct iova_bitmap_pin_ops *iova_pin_populate(void);
const struct iova_bitmap_pin_ops *iova_pin_mlock(void);

/* Makes the host pages `first` to `first + npages - 1` from `address` on present: 0 or -errno. All
 * or nothing is not needed; a call that fails may be repeated on a part. */
typedef int (*iova_pin_attempt)(uintptr_t address, uint64_t npages, enum iova_bitmap_access access);

/*
 * Delivers the good pages before the first bad one, for a system call that only fails as a whole:
 * tries all, then halves. The number delivered, or the errno of the first page where it is bad.
 */
int64_t iova_pin_longest_prefix(iova_pin_attempt attempt, uintptr_t address, uint64_t npages,
                                enum iova_bitmap_access access);

#endif
