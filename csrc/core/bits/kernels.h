/*
 * kernels.h - the inner loops that have more than one implementation, chosen once for the CPU.
 *
 * Each is a plain function over whole 64-bit words of bitmap; bit n of a word is bit n of the run,
 * on any host and at any byte address. A word is loaded once. The portable ones define what all
 * others must do, and are what runs where nothing better is known.
 */
#ifndef IOVA_KERNELS_H
#define IOVA_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "iova_bitmap.h"

#if defined(__x86_64__)
#define IOVA_X86 1
#elif defined(__aarch64__) && defined(__ARM_NEON) && !defined(__ARM_BIG_ENDIAN)
#define IOVA_NEON 1
#endif

/* A loop in plain C that the compiler makes faster for these features is inlined into two
 * functions, of which one has this attribute. */
#ifdef IOVA_X86
#define IOVA_FOR_AVX2 __attribute__((target("avx2,bmi,bmi2")))
#else
#define IOVA_FOR_AVX2
#endif
#define IOVA_INLINED static inline __attribute__((always_inline))

struct iova_kernels {
    const char *name;
    bool avx2; /* a function with IOVA_FOR_AVX2 may be called */

    /* Number of ones in nwords words. */
    uint64_t (*count)(const uint8_t *words, size_t nwords);

    /*
     * The positions of edges, or of the ones if `carry` is NULL. Edges are bits that differ from
     * the bit before; `carry` (0 or 1) is the bit before the first, and becomes the last bit.
     * Positions are those in the words plus `position`. At most 64 * nwords of them are written,
     * and `out` has room for IOVA_EDGE_SLACK more, which may be overwritten. Returns their number.
     */
    size_t (*positions)(const uint8_t *words, size_t nwords, uint64_t position, uint64_t *carry,
                        uint64_t *out);

    /* The number of edges alone. */
    uint64_t (*count_edges)(const uint8_t *words, size_t nwords, uint64_t *carry);

    /* Pairs of edges (start, end exclusive) become rows (iova, length), in place. */
    void (*to_rows)(uint64_t *pairs, size_t npairs, uint64_t base, unsigned pgshift);

    /* Words of nwords that are all `word` (0 or all ones), counted from the first one. */
    size_t (*uniform)(const uint8_t *words, size_t nwords, uint64_t word);

    /* Which of nwords words, at most 2**16, are not 0: their numbers, ascending. `list` has room
     * for IOVA_LIST_SLACK more than nwords, which may be overwritten. Returns how many. */
    size_t (*not_zero)(const uint8_t *words, size_t nwords, uint16_t *list);

    /* One byte for each bit, 64 * nwords of them: 1 if it is set, else 0. */
    void (*expand)(const uint8_t *words, size_t nwords, uint8_t *mask);

    /* to = to OP from. */
    void (*combine)(enum iova_bitmap_operation operation, uint8_t *to, const uint8_t *from,
                    size_t nwords);

    /* The number of ones of a OP b. */
    uint64_t (*count_combined)(enum iova_bitmap_operation operation, const uint8_t *a,
                               const uint8_t *b, size_t nwords);

    /* Adds the ones of a, of b, and of both to counts[3], in one pass. */
    void (*count_both)(const uint8_t *a, const uint8_t *b, size_t nwords, uint64_t *counts);
};

#define IOVA_EDGE_SLACK 64
#define IOVA_LIST_SLACK 32

/* The best that this CPU has, or what the environment variable IOVABITMAP_CPU names: "portable",
 * "avx2", "avx512", "neon". A name that this CPU does not have is ignored here; the binding refuses
 * it. */
const struct iova_kernels *iova_kernels(void);

/* All that this CPU has, the portable ones first; for tests. */
size_t iova_kernels_available(const struct iova_kernels *all[4]);

extern const struct iova_kernels iova_kernels_portable;

#ifdef IOVA_NEON
extern const struct iova_kernels iova_kernels_neon;
uint64_t iova_count_neon(const uint8_t *words, size_t nwords);
#endif

#ifdef IOVA_X86
/* NULL if the CPU does not have them. */
const struct iova_kernels *iova_kernels_avx2(void);
const struct iova_kernels *iova_kernels_avx512(void);
#endif

#endif
