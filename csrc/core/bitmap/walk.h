/*
 * walk.h - the one way through a bitmap: begin, while next, end.
 *
 * No byte of a bitmap is read or written except through a walk. It takes windows one after the
 * other from the pin backend, so that memory that is gone is an error and not a dead process. It
 * asks the bitmap's poll on the way, skips what was never populated, and reports what an operation
 * did not do. Every operation has this form:
 *
 *     iova_walk_begin(&walk, bitmap, kind, &request, report);
 *     while (iova_walk_next(&walk)) {
 *         ... work on walk.chunk ...
 *     }
 *     return iova_walk_end(&walk);
 */
#ifndef IOVA_WALK_H
#define IOVA_WALK_H

#include "core/bitmap/poll.h"
#include "core/bitmap/window.h"
#include "core/pin/holes.h"

/* What an operation is asked for: a range, and flags, of which it takes those in `takes`. */
struct iova_request {
    uint64_t iova;
    uint64_t length;
    unsigned flags;
    unsigned takes;
};

enum iova_walk_kind {
    IOVA_WALK_PRESENT,   /* for writing, in the present window, which stays when the walk ends */
    IOVA_WALK_READ,      /* in windows of its own, no longer than the range; holes are skipped */
    IOVA_WALK_WRITE,     /* the same for writing */
    IOVA_WALK_READ_ALL,  /* in windows of its own; holes come as memory */
    IOVA_WALK_WRITE_ALL, /* the same for writing */
    IOVA_WALK_ROWS,      /* the same for rows in any order, that iova_walk_to() turns to: one window
                          * for all of them if pins cost nothing */
};

/* A piece of a range that may be read or written now: bits `first_bit` to `first_bit + nbits - 1`,
 * the first being bit `skip` of *bytes. It has at least one bit. */
struct iova_chunk {
    uint8_t *bytes;
    unsigned skip;
    uint64_t first_bit;
    uint64_t nbits;
    bool last; /* nothing of the range follows */
    bool hole; /* never populated: all bits are 0, and bytes must not be read */
};

/* Cuts at most nbits bits, a multiple of 8, off the front of a chunk; false if nothing is left. */
bool iova_chunk_cut(struct iova_chunk *chunk, uint64_t nbits, struct iova_chunk *piece);

/* Must not be moved in memory between begin and end. */
struct iova_walk {
    struct iova_bitmap *bitmap;
    struct iova_bitmap_report *report; /* never NULL */
    struct iova_bitmap_report unread;  /* is the report if the caller wants none */
    struct iova_span span;             /* what the report of a failure is about */
    struct iova_chunk chunk;           /* the piece that next delivered */
    int rc;                            /* what end returns */

    struct iova_window *window; /* the bitmap's present one, or `own` */
    struct iova_window own;
    uint64_t window_pages; /* the most that a window may have */
    enum iova_bitmap_access access;
    uint64_t next_bit;
    uint64_t last_bit;
    bool done;
    struct iova_poll poll;
    uint64_t step; /* what it costs to come to a chunk, for the poll */

    bool sparse;               /* search for holes once the walk is long */
    uint64_t walked;           /* bytes since the last search began */
    struct iova_holes *holes;  /* NULL while none were searched for */
    struct iova_extent extent; /* the last one found: populated */
};

/*
 * Rejects flags that the operation does not take, resolves the range, and clears the report, which
 * may be NULL. A request of NULL is the whole bitmap. True if there is something to walk; else the
 * walk is over, and end gives the result.
 */
bool iova_walk_begin(struct iova_walk *walk, struct iova_bitmap *bitmap, enum iova_walk_kind kind,
                     const struct iova_request *request, struct iova_bitmap_report *report);

/* True and the next chunk in walk->chunk. False at the end, and after a failure: the backend's
 * errno, or -EINTR if the bitmap's poll says so; then the report says what was not done. */
bool iova_walk_next(struct iova_walk *walk);

/* Goes on with the bits first_bit to last_bit in the same window. Those of its own are taken as far
 * as the span reaches, for the parts that come later. */
void iova_walk_to(struct iova_walk *walk, uint64_t first_bit, uint64_t last_bit);

/* Ends the walk with an error of the operation's own, or goes on if rc is 0. */
static inline void iova_walk_fail(struct iova_walk *walk, int rc)
{
    walk->rc = rc < 0 ? rc : walk->rc;
}

/* Ends the walk with -EINTR or a backend's errno. The report says that nothing of the span from
 * `iova` on was done. */
void iova_walk_break(struct iova_walk *walk, uint64_t iova, int rc);

/* Gives the own window back. 0, or the error that ended the walk. */
int iova_walk_end(struct iova_walk *walk);

#endif
