/*
 * atomic.h - the few atomic operations on foreign memory that marking needs, as GCC and Clang have
 * them. C11's _Atomic does not apply: the memory is the caller's, of no declared atomic type.
 *
 * A mark carries no other data with it, so the order is relaxed. Words are aligned to their size.
 * What operations on one bitmap share goes the same way: counters, and what is found out once.
 */
#ifndef IOVA_ATOMIC_H
#define IOVA_ATOMIC_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Around accesses to bitmap bytes that are not atomic on purpose, each with its reason there:
 * ThreadSanitizer looks away. What else it finds is an error.
 */
#if defined(__SANITIZE_THREAD__)
void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreReadsEnd(const char *file, int line);
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);
#define IOVA_RACY_READ_BEGIN() AnnotateIgnoreReadsBegin(__FILE__, __LINE__)
#define IOVA_RACY_READ_END() AnnotateIgnoreReadsEnd(__FILE__, __LINE__)
#define IOVA_RACY_WRITE_BEGIN() AnnotateIgnoreWritesBegin(__FILE__, __LINE__)
#define IOVA_RACY_WRITE_END() AnnotateIgnoreWritesEnd(__FILE__, __LINE__)
#else
#define IOVA_RACY_READ_BEGIN() ((void)0)
#define IOVA_RACY_READ_END() ((void)0)
#define IOVA_RACY_WRITE_BEGIN() ((void)0)
#define IOVA_RACY_WRITE_END() ((void)0)
#endif

/* A word of the caller's memory, whatever type the caller gave it. */
typedef uint64_t __attribute__((may_alias)) iova_word;

static inline uint8_t iova_atomic_load8(const uint8_t *byte)
{
    return __atomic_load_n(byte, __ATOMIC_RELAXED);
}

static inline uint8_t iova_atomic_or8(uint8_t *byte, uint8_t mask)
{
    return __atomic_fetch_or(byte, mask, __ATOMIC_RELAXED);
}

static inline uint8_t iova_atomic_and8(uint8_t *byte, uint8_t mask)
{
    return __atomic_fetch_and(byte, mask, __ATOMIC_RELAXED);
}

static inline void iova_atomic_store8(uint8_t *byte, uint8_t value)
{
    __atomic_store_n(byte, value, __ATOMIC_RELAXED);
}

/* A pointer publishes what it points to: whoever loads it sees that as it was at the store. */
static inline const void *iova_atomic_load_pointer(const void *const *pointer)
{
    return __atomic_load_n(pointer, __ATOMIC_ACQUIRE);
}

static inline void iova_atomic_store_pointer(const void **pointer, const void *value)
{
    __atomic_store_n(pointer, value, __ATOMIC_RELEASE);
}

static inline uint64_t iova_atomic_load64(const iova_word *word)
{
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static inline uint64_t iova_atomic_or64(iova_word *word, uint64_t mask)
{
    return __atomic_fetch_or(word, mask, __ATOMIC_RELAXED);
}

static inline uint64_t iova_atomic_and64(iova_word *word, uint64_t mask)
{
    return __atomic_fetch_and(word, mask, __ATOMIC_RELAXED);
}

static inline uint64_t iova_atomic_add64(uint64_t *counter, uint64_t more)
{
    return __atomic_add_fetch(counter, more, __ATOMIC_RELAXED);
}

/* *counter = value where that is more. */
static inline void iova_atomic_max64(uint64_t *counter, uint64_t value)
{
    uint64_t seen = __atomic_load_n(counter, __ATOMIC_RELAXED);
    while (value > seen && !__atomic_compare_exchange_n(counter, &seen, value, true,
                                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
}

static inline uint64_t iova_atomic_exchange64(iova_word *word, uint64_t value)
{
    return __atomic_exchange_n(word, value, __ATOMIC_RELAXED);
}

#endif
