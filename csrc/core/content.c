/*
 * content.c - the whole content at once: copying it out, as bits or as a mask, and comparing it.
 */
#include "bits.h"
#include "window.h"

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

/* 1 where the other bitmap holds the same bits as the chunk. */
static int equal_chunk(const struct iova_chunk *chunk, struct iova_bitmap *other,
                       struct iova_bitmap_report *report)
{
    struct iova_span span = iova_geometry_pages(&other->geometry, chunk->first_bit, chunk->nbits);
    struct iova_cursor cursor;
    struct iova_chunk theirs;
    int rc;

    iova_cursor_open_own(&cursor, other, &span, IOVA_BITMAP_READ);
    while ((rc = iova_cursor_next(&cursor, &theirs)) > 0) {
        const uint8_t *ours = chunk->bytes + ((theirs.first_bit - chunk->first_bit) >> 3);
        if (!iova_bits_equal(ours, theirs.bytes, theirs.skip, theirs.nbits)) {
            break;
        }
    }
    if (rc < 0) {
        const struct iova_span whole = iova_geometry_whole(&other->geometry);
        iova_cursor_undone(&cursor, &whole, report); /* the chunk is only a part of it */
    }
    iova_cursor_close(&cursor);
    return rc < 0 ? rc : rc == 0;
}

int iova_bitmap_equal(struct iova_bitmap *a, struct iova_bitmap *b,
                      struct iova_bitmap_report *report)
{
    struct iova_span span = iova_geometry_whole(&a->geometry);
    struct iova_cursor cursor;
    struct iova_chunk chunk;
    int equal = 1;
    int rc;

    *report = (struct iova_bitmap_report){0};
    iova_cursor_open_own(&cursor, a, &span, IOVA_BITMAP_READ);
    while (equal > 0 && (rc = iova_cursor_next(&cursor, &chunk)) != 0) {
        if (rc < 0) {
            iova_cursor_undone(&cursor, &span, report);
            equal = rc;
        } else {
            equal = equal_chunk(&chunk, b, report);
        }
    }
    iova_cursor_close(&cursor);
    return equal;
}
