/*
 * prove_batch.c - csrc/core/ops/batch_loops.c: a row of a batch, against the one definition of what
 * is inside and which bits it has.
 */
#include "core/ops/batch.h"
#include "proof.h"

#include "core/bits/kernels.h"

enum { BYTES = 8 * WORDS };

static uint64_t memory[WORDS];

static bool bit_of_memory(uint8_t bit)
{
    return memory[bit / 64] >> bit % 64 & 1;
}

const struct iova_kernels *iova_kernels(void)
{
    static const struct iova_kernels plain = {.avx2 = false};

    return &plain;
}

/* Any bitmap in WORDS words from byte OFFSET of them on, and any row, also one that wraps, is empty
 * or reaches outside: the loop has done just its bits, or it ends there and has done nothing. */
void batch_row(void)
{
    const struct iova_bitmap_geometry g = any_small_geometry(8 * BYTES);
    struct iova_bitmap bitmap = {.geometry = g};
    const uint8_t offset = OFFSET;
    uint64_t items[2];
    const struct iova_batch batch = {.bitmap = &bitmap,
                                     .items = items,
                                     .count = 1,
                                     .pages = PAGES,
                                     .clear = CLEAR,
                                     .flags = EXCLUSIVE ? IOVA_BITMAP_EXCLUSIVE : 0};
    struct iova_span span;
    const uint8_t bit = nondet_u8(); /* any of the memory */
    GIVEN(bit < 8 * BYTES && g.nbytes <= BYTES - offset);
    bitmap.data = (uint8_t *)memory + offset;
    for (unsigned i = 0; i < WORDS; i++) {
        memory[i] = nondet_u64();
    }
    const bool before = bit_of_memory(bit);
    const int some = iova_geometry_resolve(&g, items[0], PAGES ? 1 : items[1], 0, &span);

    PROVE(!iova_batch_loops()->all_inside(&batch, 0, 1) || some == 1);
    const uint64_t done = iova_batch_loops()->mark(&batch, 0, 1);
    const unsigned first = offset == 0 ? 0 : 64; /* bits of memory, in whole words of the bitmap */
    const unsigned stop = (offset + g.nbytes) / 8 * 64;
    PROVE(done <= 1);
    if (done == 1) {
        PROVE(some == 1); /* and no byte beside the bitmap is touched */
        PROVE(8 * offset + span.first_bit >= first && 8 * offset + span.last_bit < stop);
        const bool inside = 8 * offset + span.first_bit <= bit && bit <= 8 * offset + span.last_bit;
        PROVE(bit_of_memory(bit) == (inside ? !CLEAR : before));
    } else {
        PROVE(bit_of_memory(bit) == before);
        /* It was not simple: outside, too long, or at an edge that is no whole word. */
        PROVE(some != 1 || span.last_bit - span.first_bit >= 64 ||
              8 * offset + span.first_bit < first || 8 * offset + span.last_bit >= stop);
    }
}
