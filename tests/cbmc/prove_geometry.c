/*
 * prove_geometry.c - csrc/core/geometry.c and what internal.h defines in line, for all 64-bit
 * bases, lengths, page sizes and addresses. Besides what is stated, no unsigned arithmetic of the
 * engine wraps here.
 */
#include "proof.h"

/* What is legal is accepted, what is not is refused with its errno, and every field is right. */
void geometry_init(void)
{
    struct iova_bitmap_geometry g;
    const uint64_t iova = nondet_u64();
    const uint64_t length = nondet_u64();
    const uint64_t page_size = nondet_u64();
    bool power = false;
    for (unsigned shift = 0; shift < 64; shift++) {
        power = power || page_size == (uint64_t)1 << shift;
    }

    const int rc = iova_bitmap_geometry_init(&g, iova, length, page_size);
    if (length == 0 || !power) {
        PROVE(rc == -EINVAL);
    } else if ((wide)iova + length > TOP) {
        PROVE(rc == -EOVERFLOW);
    } else {
        PROVE(rc == 0);
        PROVE(g.iova == iova && g.length == length && g.page_size == page_size);
        PROVE(g.pgshift < 64 && (uint64_t)1 << g.pgshift == page_size);
        PROVE(g.last == (wide)iova + length - 1);
        /* nbits is the length in pages, rounded up: the last page starts inside, and ends there or
         * behind. */
        PROVE(g.nbits >= 1 && (wide)(g.nbits - 1) << g.pgshift < length);
        PROVE(length - ((g.nbits - 1) << g.pgshift) <= page_size);
        PROVE(g.nbytes == ((wide)g.nbits + 7) / 8);
        PROVE(g.nbytes == iova_bitmap_nbytes(length, page_size));
    }
    if (power) {
        PROVE(iova_bitmap_nbytes(0, page_size) == 0);
    }
}

/* The bit of an address inside is inside, and is the one of the page that holds the address. */
void geometry_bit(void)
{
    const struct iova_bitmap_geometry g = any_geometry();
    const uint64_t address = nondet_u64();
    GIVEN(g.iova <= address && address <= g.last);

    const uint64_t bit = iova_geometry_bit(&g, address);
    PROVE(bit < g.nbits);
    PROVE(bit >> 3 < g.nbytes);
    const uint64_t start = iova_geometry_address(&g, bit);
    PROVE(g.iova <= start && start <= address);
    PROVE(address - start < g.page_size);
    const uint64_t last = iova_geometry_last_address(&g, bit);
    PROVE(address <= last && last <= g.last);
    PROVE(last == g.last || last - start == g.page_size - 1);
}

/* The page of a bit inside starts at the base and a multiple of the page size. */
void geometry_address(void)
{
    const struct iova_bitmap_geometry g = any_geometry();
    const uint64_t bit = nondet_u64();
    GIVEN(bit < g.nbits);

    const uint64_t start = iova_geometry_address(&g, bit);
    PROVE(start == g.iova + (wide)bit * g.page_size);
    PROVE(start <= g.last);
    PROVE(iova_geometry_bit(&g, start) == bit);
    PROVE(bit != g.nbits - 1 || iova_geometry_last_address(&g, bit) == g.last);
}

/* What is inside of a range, with and without clipping; the errors; and nothing where there is
 * nothing. That the two bits are inside is what `geometry_bit` proves of every address inside. */
void geometry_resolve(void)
{
    const struct iova_bitmap_geometry g = any_geometry();
    const uint64_t iova = nondet_u64();
    const uint64_t length = nondet_u64();
    const unsigned flags = nondet_unsigned();
    const wide start = max_wide(iova, g.iova);
    const wide end = min_wide((wide)iova + length, (wide)g.iova + g.length);
    struct iova_span span;

    const int rc = iova_geometry_resolve(&g, iova, length, flags, &span);
    if (length == 0) {
        PROVE(rc == 0);
    } else if ((wide)iova + length > TOP) {
        PROVE(rc == -EOVERFLOW);
    } else if (start == iova && end == (wide)iova + length) {
        PROVE(rc == 1);
    } else if (!(flags & IOVA_BITMAP_CLIP)) {
        PROVE(rc == -ERANGE);
    } else {
        PROVE(rc == (start < end));
    }
    if (rc == 1) {
        PROVE(span.iova == start && span.last == end - 1);
        PROVE(span.first_bit == iova_geometry_bit(&g, span.iova));
        PROVE(span.last_bit == iova_geometry_bit(&g, span.last));
    }
}

/* The addresses of a run of pages, and of all. */
void geometry_pages(void)
{
    const struct iova_bitmap_geometry g = any_geometry();
    const uint64_t first = nondet_u64();
    const uint64_t nbits = nondet_u64();
    GIVEN(nbits > 0 && (wide)first + nbits <= g.nbits);

    const struct iova_span pages = iova_geometry_pages(&g, first, nbits);
    PROVE(pages.first_bit == first && pages.last_bit == (wide)first + nbits - 1);
    PROVE(pages.iova == iova_geometry_address(&g, first));
    PROVE(pages.last == iova_geometry_last_address(&g, pages.last_bit));
    const struct iova_span whole = iova_geometry_whole(&g);
    PROVE(whole.iova == g.iova && whole.last == g.last);
    PROVE(whole.first_bit == 0 && whole.last_bit == g.nbits - 1);
}
