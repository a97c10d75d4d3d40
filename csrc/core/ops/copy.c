/*
 * copy.c - copying the whole content out, as bits or as a mask.
 */
#include "core/bits/bits.h"
#include "core/bitmap/window.h"

/* Copies each chunk to where it belongs in `out`. */
typedef void (*copy_op)(const struct iova_chunk *chunk, uint8_t *out);

static void copy_bits(const struct iova_chunk *chunk, uint8_t *out)
{
    iova_bits_copy(out + (chunk->first_bit >> 3), chunk->bytes, chunk->skip, chunk->nbits);
}

static void copy_mask(const struct iova_chunk *chunk, uint8_t *out)
{
    iova_bits_expand(chunk->bytes, chunk->skip, chunk->nbits, out + chunk->first_bit);
}

static int copy_out(struct iova_bitmap *bitmap, copy_op copy, uint8_t *out,
                    struct iova_bitmap_report *report)
{
    struct iova_span span = iova_geometry_whole(&bitmap->geometry);
    struct iova_cursor cursor;
    struct iova_chunk chunk;
    int rc;

    *report = (struct iova_bitmap_report){0};
    iova_cursor_open_own(&cursor, bitmap, &span, IOVA_BITMAP_READ);
    while ((rc = iova_cursor_next(&cursor, &chunk)) > 0) {
        copy(&chunk, out);
    }
    if (rc < 0) {
        iova_cursor_undone(&cursor, &span, report);
    }
    iova_cursor_close(&cursor);
    return rc;
}

int iova_bitmap_read(struct iova_bitmap *bitmap, uint8_t *bytes, struct iova_bitmap_report *report)
{
    return copy_out(bitmap, copy_bits, bytes, report);
}

int iova_bitmap_to_mask(struct iova_bitmap *bitmap, uint8_t *mask,
                        struct iova_bitmap_report *report)
{
    return copy_out(bitmap, copy_mask, mask, report);
}
