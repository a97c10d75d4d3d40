/*
 * atomic.h - the few atomic operations on foreign memory that marking needs, for GCC, Clang and
 * MSVC. C11's _Atomic does not apply: the memory is the caller's, of no declared atomic type.
 *
 * A mark carries no other data with it, so the order is relaxed. Words are aligned to their size.
 */
#ifndef IOVA_ATOMIC_H
#define IOVA_ATOMIC_H

#include <stdint.h>

/* A word of the caller's memory, whatever type the caller gave it. */
#if defined(__GNUC__) || defined(__clang__)
typedef uint64_t __attribute__((may_alias)) iova_word;
#else
typedef uint64_t iova_word;
#endif

#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>

static inline uint8_t iova_atomic_load8(const uint8_t *byte)
{
    return *(const volatile uint8_t *)byte;
}

static inline uint8_t iova_atomic_or8(uint8_t *byte, uint8_t mask)
{
    return (uint8_t)_InterlockedOr8((volatile char *)byte, (char)mask);
}

static inline uint8_t iova_atomic_and8(uint8_t *byte, uint8_t mask)
{
    return (uint8_t)_InterlockedAnd8((volatile char *)byte, (char)mask);
}

static inline uint64_t iova_atomic_load64(const iova_word *word)
{
    return *(const volatile uint64_t *)word;
}

static inline uint64_t iova_atomic_exchange64(iova_word *word, uint64_t value)
{
    return (uint64_t)_InterlockedExchange64((volatile __int64 *)word, (__int64)value);
}

#else

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

static inline uint64_t iova_atomic_load64(const iova_word *word)
{
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static inline uint64_t iova_atomic_exchange64(iova_word *word, uint64_t value)
{
    return __atomic_exchange_n(word, value, __ATOMIC_RELAXED);
}

#endif

#endif
