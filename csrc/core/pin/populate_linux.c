/*
 * populate_linux.c - the pin backend "populate": MADV_POPULATE_READ and _WRITE (Linux 5.14).
 *
 * It makes pages present, so that a hole or a truncated file is an errno where a store would be a
 * signal. The kernel may take a page back at any time, so touch asks again; there is nothing to
 * give back.
 */
#include "core/pin/pin.h"

#ifdef __linux__

#include <errno.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

static int populate(uintptr_t address, uint64_t npages, enum iova_bitmap_access access)
{
    int advice = access == IOVA_BITMAP_READ ? MADV_POPULATE_READ : MADV_POPULATE_WRITE;
    size_t size = (size_t)(npages * iova_bitmap_host_page_size());

    while (madvise((void *)address, size, advice) != 0) {
        if (errno != EINTR) {
            return -errno;
        }
    }
    return 0;
}

static int64_t populate_pin(void *context, uintptr_t address, uint64_t npages,
                            enum iova_bitmap_access access)
{
    (void)context;
    return iova_pin_longest_prefix(populate, address, npages, access);
}

static void populate_unpin(void *context, uintptr_t address, uint64_t npages)
{
    (void)context;
    (void)address;
    (void)npages;
}

static const struct iova_bitmap_pin_ops populate_ops = {
    .pin = populate_pin, .unpin = populate_unpin, .touch = populate_pin};

const struct iova_bitmap_pin_ops *iova_pin_populate(void)
{
    /* A length of 0 does nothing but is checked: an older kernel does not know the advice. What
     * takes any advice, as emulators of user space do, follows none. */
    bool follows = madvise(NULL, 0, MADV_POPULATE_WRITE) == 0 && madvise(NULL, 0, -1) != 0;
    return follows ? &populate_ops : NULL;
}

#else

const struct iova_bitmap_pin_ops *iova_pin_populate(void)
{
    return NULL;
}

#endif
