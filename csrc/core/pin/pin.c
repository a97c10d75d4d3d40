/*
 * pin.c - choosing a pin backend, the backend "none", and what the others share.
 */
#include "core/pin/pin.h"

#include <errno.h>
#include <string.h>

static int64_t none_pin(void *context, uintptr_t address, uint64_t npages,
                        enum iova_bitmap_access access)
{
    (void)context;
    (void)address;
    (void)access;
    return (int64_t)npages;
}

static void none_unpin(void *context, uintptr_t address, uint64_t npages)
{
    (void)context;
    (void)address;
    (void)npages;
}

const struct iova_bitmap_pin_ops iova_pin_none = {.pin = none_pin, .unpin = none_unpin};

int iova_bitmap_pin_backend(const char *name, const struct iova_bitmap_pin_ops **ops)
{
    if (strcmp(name, "none") == 0) {
        *ops = &iova_pin_none;
    } else if (strcmp(name, "populate") == 0) {
        *ops = iova_pin_populate();
    } else if (strcmp(name, "mlock") == 0) {
        *ops = iova_pin_mlock();
    } else {
        return -EINVAL;
    }
    return *ops == NULL ? -ENOTSUP : 0;
}

int64_t iova_pin_longest_prefix(iova_pin_attempt attempt, uintptr_t address, uint64_t npages,
                                enum iova_bitmap_access access)
{
    uint64_t page_size = iova_bitmap_host_page_size();
    int rc = attempt(address, npages, access);

    if (rc == 0) {
        return (int64_t)npages;
    }
    uint64_t good = 0;     /* pages delivered */
    uint64_t bad = npages; /* [good, bad) is known to hold a bad page */
    while (bad - good > 1) {
        uint64_t half = (bad - good) / 2;
        int failed = attempt(address + (uintptr_t)(good * page_size), half, access);
        if (failed == 0) {
            good += half;
        } else {
            bad = good + half;
            rc = failed;
        }
    }
    /* Where not even the first page is good, the last attempt was on that page alone. */
    return good > 0 ? (int64_t)good : rc;
}
