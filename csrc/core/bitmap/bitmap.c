/*
 * bitmap.c - the public operations: each resolves its range, walks it with a cursor, and applies
 * one operation on bits to each chunk.
 */
#include <errno.h>
#include <stdlib.h>

#include "core/bits/atomic.h"
#include "core/bits/bits.h"
#include "core/bitmap/bitmap.h"
#include "core/pin/pin.h"
#include "core/bitmap/window.h"

int iova_bitmap_alloc(uint64_t iova, uint64_t length, uint64_t page_size, void *data, uint64_t size,
                      const struct iova_bitmap_options *options, struct iova_bitmap **bitmap)
{
    static const struct iova_bitmap_options defaults = {0};
    struct iova_bitmap_geometry geometry;
    int rc = iova_bitmap_geometry_init(&geometry, iova, length, page_size);

    if (rc < 0) {
        return rc;
    }
    if (data == NULL) {
        return -EFAULT;
    }
    if (size < geometry.nbytes) {
        return -ENOSPC;
    }
    struct iova_bitmap *made = calloc(1, sizeof(*made));
    if (made == NULL) {
        return -ENOMEM;
    }
    if (options == NULL) {
        options = &defaults;
    }
    made->geometry = geometry;
    made->data = data;
    made->size = size;
    made->host_page_size = iova_bitmap_host_page_size();
    made->window_pages =
        options->window_pages ? options->window_pages : made->host_page_size / sizeof(void *);
    made->pin = options->pin ? options->pin : &iova_pin_none;
    made->pin_context = options->pin_context;
    made->poll = options->poll;
    made->poll_context = options->poll_context;
    *bitmap = made;
    return 0;
}

void iova_bitmap_release(struct iova_bitmap *bitmap)
{
    iova_window_release(bitmap, &bitmap->present);
}

void iova_bitmap_free(struct iova_bitmap *bitmap)
{
    if (bitmap != NULL) {
        iova_bitmap_release(bitmap);
        free(bitmap);
    }
}

/* An operation on the bits of a chunk; what it returns is added up. */
typedef uint64_t (*bits_op)(const struct iova_chunk *chunk);

static uint64_t set_op(const struct iova_chunk *chunk)
{
    iova_bits_set(chunk->bytes, chunk->skip, chunk->nbits);
    return 0;
}

static uint64_t test_and_set_op(const struct iova_chunk *chunk)
{
    return iova_bits_test_and_set(chunk->bytes, chunk->skip, chunk->nbits);
}

/* A set has to know what it marked only if a later chunk can fail. */
static uint64_t set_before_fault_op(const struct iova_chunk *chunk)
{
    return chunk->last ? set_op(chunk) : test_and_set_op(chunk);
}

static uint64_t clear_op(const struct iova_chunk *chunk)
{
    iova_bits_clear(chunk->bytes, chunk->skip, chunk->nbits);
    return 0;
}

/* Applies op to each chunk of an open cursor, and closes it. */
static int walk(struct iova_cursor *cursor, const struct iova_span *span, bits_op op,
                struct iova_bitmap_report *report)
{
    struct iova_bitmap_report ignored;
    struct iova_chunk chunk;
    int rc;

    if (report == NULL) {
        report = &ignored;
    }
    *report = (struct iova_bitmap_report){0};
    while ((rc = iova_cursor_next(cursor, &chunk)) > 0) {
        report->pages += op(&chunk);
    }
    if (rc < 0) {
        iova_cursor_undone(cursor, span, report);
    }
    iova_cursor_close(cursor);
    return rc;
}

/* Resolves the range: 1 where there is something to do; else the operation's result. */
static int resolve(const struct iova_bitmap *bitmap, uint64_t iova, uint64_t length, unsigned flags,
                   struct iova_span *span, struct iova_bitmap_report *report)
{
    if (report != NULL) {
        *report = (struct iova_bitmap_report){0};
    }
    return iova_geometry_resolve(&bitmap->geometry, iova, length, flags, span);
}

int iova_bitmap_check_range(const struct iova_bitmap *bitmap, uint64_t iova, uint64_t length,
                            unsigned flags)
{
    struct iova_span span;

    return iova_geometry_resolve(&bitmap->geometry, iova, length, flags, &span);
}

/* Whether a span lies inside the present window, whose memory needs no look, and is not so long
 * that it must be asked about on the way. */
static bool is_here(const struct iova_bitmap *bitmap, const struct iova_span *span)
{
    const struct iova_window *window = &bitmap->present;
    uint64_t first = (span->first_bit >> 3) - window->view.base_index; /* wraps where before it */
    uint64_t last = (span->last_bit >> 3) - window->view.base_index;

    return first < window->nbytes && last < window->nbytes && bitmap->pin->touch == NULL &&
           last - first <= IOVA_POLL_BYTES;
}

static void set_here(struct iova_bitmap *bitmap, const struct iova_span *span)
{
    iova_bits_set_within(bitmap->data + (span->first_bit >> 3), (unsigned)(span->first_bit & 7),
                         span->last_bit - span->first_bit + 1, bitmap->data,
                         bitmap->data + bitmap->geometry.nbytes);
}

static uint64_t test_and_set_here(struct iova_bitmap *bitmap, const struct iova_span *span)
{
    return iova_bits_test_and_set_within(
        bitmap->data + (span->first_bit >> 3), (unsigned)(span->first_bit & 7),
        span->last_bit - span->first_bit + 1, bitmap->data, bitmap->data + bitmap->geometry.nbytes);
}

bool iova_bitmap_set_here(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length)
{
    struct iova_span span;

    if (iova_geometry_resolve(&bitmap->geometry, iova, length, 0, &span) <= 0 ||
        !is_here(bitmap, &span)) {
        return false;
    }
    set_here(bitmap, &span);
    return true;
}

int iova_bitmap_set(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length, unsigned flags,
                    struct iova_bitmap_report *report)
{
    bool counts = (flags & IOVA_BITMAP_COUNT) != 0 && report != NULL;
    struct iova_span span;
    struct iova_cursor cursor;
    int rc = resolve(bitmap, iova, length, flags, &span, report);

    if (rc <= 0) {
        return rc;
    }
    if (is_here(bitmap, &span)) {
        if (counts) {
            report->pages = test_and_set_here(bitmap, &span);
        } else {
            set_here(bitmap, &span);
        }
        return 0;
    }
    bits_op op = set_op;
    if (counts) {
        op = test_and_set_op;
    } else if (bitmap->pin != &iova_pin_none) {
        op = set_before_fault_op;
    }
    iova_cursor_open_present(&cursor, bitmap, &span);
    return walk(&cursor, &span, op, report);
}

int iova_bitmap_clear(struct iova_bitmap *bitmap, uint64_t iova, uint64_t length, unsigned flags,
                      struct iova_bitmap_report *report)
{
    struct iova_span span;
    struct iova_cursor cursor;
    int rc = resolve(bitmap, iova, length, flags, &span, report);

    if (rc <= 0) {
        return rc;
    }
    iova_cursor_open_present(&cursor, bitmap, &span);
    return walk(&cursor, &span, clear_op, report);
}

int iova_bitmap_reset(struct iova_bitmap *bitmap, struct iova_bitmap_report *report)
{
    struct iova_span span = iova_geometry_whole(&bitmap->geometry);
    struct iova_cursor cursor;

    iova_cursor_open_own(&cursor, bitmap, &span, IOVA_BITMAP_WRITE);
    return walk(&cursor, &span, clear_op, report);
}

int iova_bitmap_for_each(struct iova_bitmap *bitmap, void *opaque, iova_bitmap_fn_t fn)
{
    return fn(bitmap, bitmap->geometry.iova, bitmap->geometry.length, opaque);
}

int iova_bitmap_for_each_window(struct iova_bitmap *bitmap, void *opaque, iova_bitmap_fn_t fn,
                                struct iova_bitmap_report *failed)
{
    const struct iova_bitmap_geometry *geometry = &bitmap->geometry;
    uint64_t byte = 0;

    if (failed != NULL) {
        *failed = (struct iova_bitmap_report){0};
    }
    while (byte < geometry->nbytes) {
        int rc = iova_window_take(bitmap, &bitmap->present, byte, geometry->nbytes - byte,
                                  IOVA_BITMAP_WRITE);
        if (rc < 0) {
            if (failed != NULL) {
                failed->iova = iova_geometry_address(geometry, byte << 3);
                failed->length = geometry->last - failed->iova + 1;
            }
            return rc;
        }
        byte += bitmap->present.nbytes; /* before fn, which may move the present window */
        rc = fn(bitmap, bitmap->present.view.iova, bitmap->present.view.length, opaque);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

const struct iova_bitmap_geometry *iova_bitmap_geometry(const struct iova_bitmap *bitmap)
{
    return &bitmap->geometry;
}

const struct iova_bitmap_window *iova_bitmap_present_window(const struct iova_bitmap *bitmap)
{
    return &bitmap->present.view;
}

const struct iova_bitmap_stats *iova_bitmap_stats(const struct iova_bitmap *bitmap)
{
    return &bitmap->stats;
}

static uint64_t now(const uint64_t *counter)
{
    return iova_atomic_load64((const iova_word *)(const void *)counter);
}

struct iova_bitmap_stats iova_bitmap_stats_now(const struct iova_bitmap *bitmap)
{
    const struct iova_bitmap_stats *stats = &bitmap->stats;

    return (struct iova_bitmap_stats){.pins = now(&stats->pins),
                                      .unpins = now(&stats->unpins),
                                      .pinned_pages = now(&stats->pinned_pages),
                                      .peak_pinned_pages = now(&stats->peak_pinned_pages),
                                      .moves = now(&stats->moves)};
}

uint64_t iova_bitmap_window_pages(const struct iova_bitmap *bitmap)
{
    return bitmap->window_pages;
}
