/*
 * kernels.c - chooses the inner loops for this CPU, once.
 */
#include "core/bits/kernels.h"

#include <stdlib.h>
#include <string.h>

#include "core/bits/atomic.h"

size_t iova_kernels_available(const struct iova_kernels *all[4])
{
    size_t n = 0;

    all[n++] = &iova_kernels_portable;
#ifdef IOVA_NEON
    all[n++] = &iova_kernels_neon;
#endif
#ifdef IOVA_X86
    if ((all[n] = iova_kernels_avx2()) != NULL) {
        n++;
    }
    if ((all[n] = iova_kernels_avx512()) != NULL) {
        n++;
    }
#endif
    return n;
}

static const struct iova_kernels *choose(void)
{
    const struct iova_kernels *all[4];
    size_t n = iova_kernels_available(all);
    const char *wanted = getenv("IOVABITMAP_CPU");

    for (size_t i = 0; wanted != NULL && i < n; i++) {
        if (strcmp(all[i]->name, wanted) == 0) {
            return all[i];
        }
    }
    return all[n - 1];
}

const struct iova_kernels *iova_kernels(void)
{
    static const void *chosen;

    /* Two threads may both choose; they choose the same, and every table is a constant. */
    const struct iova_kernels *kernels = iova_atomic_load_pointer(&chosen);
    if (kernels == NULL) {
        kernels = choose();
        iova_atomic_store_pointer(&chosen, kernels);
    }
    return kernels;
}
