/*
 * atomic.c - marking many ranges while others mark too: the fastest loops in C that we found.
 *
 * What one may try: whether a word is tested first, so that bits that are there cost no locked
 * instruction; how many rows ahead the word is fetched, 0 for never; and whether it is fetched to
 * be written (prefetchw), so that the locked instruction need not ask for the line again. Each is
 * here in each way; `make bench` tries them all and keeps the fastest, which is then the limit.
 * None checks a row, and all rows are of memory that is there. Little-endian hosts only.
 */
#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__)
#define FETCH_TO_WRITE(address) __asm__ volatile("prefetchw %0" : : "m"(*(const char *)(address)))
#else
#define FETCH_TO_WRITE(address) __builtin_prefetch(address, 1)
#endif
#define FETCH_TO_READ(address) __builtin_prefetch(address, 0)

#define NO_TEST(word, mask) 1
#define TEST(word, mask) ((__atomic_load_n(word, __ATOMIC_RELAXED) & (mask)) != (mask))

/*
 * test: TEST or NO_TEST; fetch: FETCH_TO_READ or FETCH_TO_WRITE. A word of which all bits are
 * marked is stored without a lock: whatever others mark in it is marked by that too.
 */
#define LOOPS(name, test, fetch)                                                                   \
    static inline void mark_##name(uint64_t *word, uint64_t mask)                                  \
    {                                                                                              \
        if (test(word, mask)) {                                                                    \
            __atomic_fetch_or(word, mask, __ATOMIC_RELAXED);                                       \
        }                                                                                          \
    }                                                                                              \
                                                                                                   \
    void set_ranges_##name(uint64_t *map, const uint64_t *rows, size_t nrows, uint64_t base,       \
                           unsigned pgshift, size_t ahead)                                         \
    {                                                                                              \
        for (size_t i = 0; i < nrows; i++) {                                                       \
            if (ahead != 0 && i + ahead < nrows) {                                                 \
                fetch(map + (((rows[2 * (i + ahead)] - base) >> pgshift) >> 6));                   \
            }                                                                                      \
            uint64_t first = (rows[2 * i] - base) >> pgshift;                                      \
            uint64_t last = (rows[2 * i] + rows[2 * i + 1] - 1 - base) >> pgshift;                 \
            uint64_t *word = map + first / 64;                                                     \
            uint64_t *end = map + last / 64;                                                       \
            uint64_t head = UINT64_MAX << (first % 64);                                            \
            uint64_t tail = UINT64_MAX >> (63 - last % 64);                                        \
            if (word == end) {                                                                     \
                mark_##name(word, head & tail);                                                    \
                continue;                                                                          \
            }                                                                                      \
            mark_##name(word++, head);                                                             \
            while (word < end) {                                                                   \
                __atomic_store_n(word++, UINT64_MAX, __ATOMIC_RELAXED);                            \
            }                                                                                      \
            mark_##name(word, tail);                                                               \
        }                                                                                          \
    }                                                                                              \
                                                                                                   \
    void set_pages_##name(uint64_t *map, const uint64_t *iovas, size_t n, uint64_t base,           \
                          unsigned pgshift, size_t ahead)                                          \
    {                                                                                              \
        for (size_t i = 0; i < n; i++) {                                                           \
            if (ahead != 0 && i + ahead < n) {                                                     \
                fetch(map + (((iovas[i + ahead] - base) >> pgshift) >> 6));                        \
            }                                                                                      \
            uint64_t bit = (iovas[i] - base) >> pgshift;                                           \
            mark_##name(map + bit / 64, (uint64_t)1 << (bit % 64));                                \
        }                                                                                          \
    }

LOOPS(lock_read, NO_TEST, FETCH_TO_READ)
LOOPS(lock_write, NO_TEST, FETCH_TO_WRITE)
LOOPS(test_read, TEST, FETCH_TO_READ)
LOOPS(test_write, TEST, FETCH_TO_WRITE)
