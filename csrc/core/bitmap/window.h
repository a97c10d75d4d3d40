/*
 * window.h - windows on the bitmap's memory, and the cursor that walks a range through them.
 *
 * No byte of a bitmap is read or written but through a cursor: it takes windows, one after the
 * other, from the pin backend, so that memory that is gone is an error and not a dead process.
 */
#ifndef IOVA_WINDOW_H
#define IOVA_WINDOW_H

#include "core/pin/holes.h"
#include "core/bitmap/bitmap.h"
#include "core/bitmap/poll.h"

/*
 * Takes `window` from bitmap byte `byte` on, over at most `wanted` bytes (>= 1), after it has given
 * back what it held. 0, or the backend's negative errno, with nothing held. A backend may call
 * back into the bitmap: what a nested operation left in `window` is given back too.
 */
int iova_window_take(struct iova_bitmap *bitmap, struct iova_window *window, uint64_t byte,
                     uint64_t wanted, enum iova_bitmap_access access);

/* Gives back what the window holds, if anything. */
void iova_window_release(struct iova_bitmap *bitmap, struct iova_window *window);

/* A piece of a range that may be read or written now: bits `first_bit` to `first_bit + nbits - 1`,
 * the first being bit `skip` of *bytes. */
struct iova_chunk {
    uint8_t *bytes;
    unsigned skip;
    uint64_t first_bit;
    uint64_t nbits;
    bool last; /* nothing of the range follows */
    bool hole; /* never populated: all bits are 0, and bytes must not be looked at */
};

/* Cuts at most nbits bits, a multiple of 8, off the front of a chunk; false where nothing is left.
 */
bool iova_chunk_cut(struct iova_chunk *chunk, uint64_t nbits, struct iova_chunk *piece);

struct iova_cursor {
    struct iova_bitmap *bitmap;
    struct iova_window *window; /* the bitmap's present one, or `own` */
    struct iova_window own;
    enum iova_bitmap_access access;
    uint64_t next_bit;
    uint64_t last_bit;
    uint64_t reach; /* last bitmap byte that a window of its own may be taken for */
    bool done;
    struct iova_poll poll;

    bool sparse;               /* look for holes once the walk is long */
    uint64_t walked;           /* bytes so far; then UINT64_MAX: no more to be known */
    struct iova_holes *holes;  /* NULL while not looked for */
    struct iova_extent extent; /* the last one found: populated */
};

/* Walks the span in the present window, which stays when the walk ends. For writing. */
void iova_cursor_open_present(struct iova_cursor *cursor, struct iova_bitmap *bitmap,
                              const struct iova_span *span);

/* Walks the span in windows of its own, no longer than the span needs; iova_cursor_close gives the
 * last one back. The cursor must not be moved in memory while it is open. */
void iova_cursor_open_own(struct iova_cursor *cursor, struct iova_bitmap *bitmap,
                          const struct iova_span *span, enum iova_bitmap_access access);

/* The same for a span that may be sparse: in a long walk over memory that pins do not change,
 * chunks that were never populated come as holes. */
void iova_cursor_open_sparse(struct iova_cursor *cursor, struct iova_bitmap *bitmap,
                             const struct iova_span *span, enum iova_bitmap_access access);

/* Goes on with another span in the same window; `reach` is the last bit that this or a later span
 * needs, so that windows are taken for all of them. */
void iova_cursor_again(struct iova_cursor *cursor, uint64_t first_bit, uint64_t last_bit,
                       uint64_t reach);

/* 1 and the next chunk, 0 at the end, the backend's negative errno, or -EINTR where the bitmap's
 * poll says so. */
int iova_cursor_next(struct iova_cursor *cursor, struct iova_chunk *chunk);

void iova_cursor_close(struct iova_cursor *cursor);

/*
 * The part of the span that the cursor has not delivered, when it ended with an error: from the
 * larger of the range's start and the start of the first page not delivered, to the range's end.
 */
void iova_cursor_undone(const struct iova_cursor *cursor, const struct iova_span *span,
                        struct iova_bitmap_report *report);

#endif
