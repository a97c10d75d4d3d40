/*
 * proof.h - what the harnesses for CBMC share. A harness states, with GIVEN, what its inputs may
 * be, calls the engine's shipped files, and states with PROVE what must hold then, for all inputs
 * at once. Numbers of 128 bits, in which nothing overflows, say what the answers are.
 *
 * A function without a body, named nondet_..., returns any value of its type; so is a local
 * variable that is not initialized any value.
 */
#ifndef PROOF_H
#define PROOF_H

#include <stdbool.h>
#include <stdint.h>

#include "core/bitmap/bitmap.h"

#define GIVEN(condition) __CPROVER_assume(condition)
#define PROVE(condition) __CPROVER_assert(condition, #condition)

__extension__ typedef unsigned __int128 wide;

#define TOP ((wide)1 << 64) /* the end of the address space */

uint8_t nondet_u8(void);
uint64_t nondet_u64(void);
int64_t nondet_i64(void);
unsigned nondet_unsigned(void);
uintptr_t nondet_address(void);
bool nondet_bool(void);

static inline wide min_wide(wide a, wide b)
{
    return a < b ? a : b;
}

static inline wide max_wide(wide a, wide b)
{
    return a > b ? a : b;
}

/*
 * Any geometry that is legal: each field is what docs/engine.md says, which the harness
 * `geometry_init` proves of iova_bitmap_geometry_init. Solvers are much better at shifts by a
 * constant, so where PGSHIFT is defined the page size is that one, and the proof is made for each.
 */
static inline struct iova_bitmap_geometry any_geometry(void)
{
    struct iova_bitmap_geometry g;

#ifdef PGSHIFT
    g.pgshift = PGSHIFT;
#endif
    GIVEN(g.pgshift < 64 && g.length > 0 && (wide)g.iova + g.length <= TOP);
    g.page_size = (uint64_t)1 << g.pgshift;
    g.last = g.iova + (g.length - 1);
    g.nbits = ((g.length - 1) >> g.pgshift) + 1;
    g.nbytes = ((g.nbits - 1) >> 3) + 1;
    return g;
}

/* The same, of at most `most` (up to 255) pages: what is small is so by its type, which makes the
 * difference between seconds and hours. Base, page size and the addresses stay 64 bits wide. */
static inline struct iova_bitmap_geometry any_small_geometry(unsigned most)
{
    struct iova_bitmap_geometry g;
    const uint8_t nbits = nondet_u8();

#ifdef PGSHIFT
    g.pgshift = PGSHIFT;
#endif
    GIVEN(g.pgshift < 64 && 1 <= nbits && nbits <= most);
    g.page_size = (uint64_t)1 << g.pgshift;
    const uint64_t before = (uint64_t)(nbits - 1)
                            << g.pgshift; /* the last page, and a part of it */
    const uint64_t more = nondet_u64() & (g.page_size - 1);
    GIVEN(before >> g.pgshift == nbits - 1 && before + more < UINT64_MAX);
    g.length = before + more + 1;
    GIVEN(g.iova <= UINT64_MAX - (before + more));
    g.last = g.iova + (before + more);
    g.nbits = nbits;
    g.nbytes = (uint8_t)((nbits + 7) / 8);
    return g;
}

static inline bool bit_at(const uint8_t *bytes, uint64_t bit)
{
    return (bytes[bit >> 3] >> (bit & 7)) & 1;
}

#endif
