/*
 * walk.c - the walker of walk.h: in which window the next piece of a range is, and how far that
 * piece reaches.
 */
#include "core/bitmap/walk.h"

#include <assert.h>
#include <errno.h>

#include "core/bits/atomic.h"
#include "core/pin/pin.h"

/* ---- holes ---- */

/* Bytes of bitmap after which a walk is long; fewer where small bitmaps are fuzzed. */
#ifndef IOVA_LONG_WALK
#define IOVA_LONG_WALK (16 << 20)
#endif

enum { LONG_WALK = IOVA_LONG_WALK };

/* Bytes of bitmap that one search for a hole's end may cover: some milliseconds if it is slow. */
static const uint64_t HOLE_SEARCH = (uint64_t)1 << 36;

/* From `bytes` on, if anything can be known. */
static void search_holes(struct iova_walk *walk, const uint8_t *bytes)
{
    walk->holes = iova_holes_open(bytes);
    walk->extent = (struct iova_extent){0};
    walk->sparse = walk->holes != NULL;
}

/* Two threads may both ask; they are told the same. */
static bool is_shared(struct iova_bitmap *bitmap)
{
    uint8_t mapping = iova_atomic_load8(&bitmap->mapping);

    if (mapping == IOVA_MAPPING_UNKNOWN) {
        mapping = iova_holes_shared(bitmap->data) ? IOVA_MAPPING_SHARED : IOVA_MAPPING_PRIVATE;
        iova_atomic_store8(&bitmap->mapping, mapping);
    }
    return mapping == IOVA_MAPPING_SHARED;
}

/* A long walk over memory that pins do not change is sparse. In shared memory it searches at once,
 * because even a read populates a hole there. */
static void begin_sparse(struct iova_walk *walk)
{
    uint64_t first_byte = walk->span.first_bit >> 3;

    walk->sparse = walk->bitmap->pin == &iova_pin_none;
    if (walk->sparse && (walk->span.last_bit >> 3) - first_byte >= LONG_WALK &&
        is_shared(walk->bitmap)) {
        search_holes(walk, walk->bitmap->data + first_byte);
    }
}

/* A long walk that has just seen zeros searches; one that has not, tries again later. */
static void consider_holes(struct iova_walk *walk, const uint8_t *seen, uint64_t nbytes)
{
    walk->walked += nbytes;
    if (walk->walked <= LONG_WALK) {
        return;
    }
    walk->walked = 0;
    if (iova_atomic_load8(seen) == 0 && iova_atomic_load8(seen + nbytes / 2) == 0 &&
        iova_atomic_load8(seen + nbytes - 1) == 0) {
        search_holes(walk, seen + nbytes);
    }
}

/* How many of the `wanted` bytes at `bytes` are alike: all of a hole (true), or maybe populated. */
static bool in_hole(struct iova_walk *walk, const uint8_t *bytes, uint64_t wanted, uint64_t *alike)
{
    uintptr_t address = (uintptr_t)bytes;
    uintptr_t end = address + (uintptr_t)wanted;

    if (address >= walk->extent.end && !iova_holes_next(walk->holes, address, end, &walk->extent)) {
        walk->extent = (struct iova_extent){end, end};
    }
    bool hole = address < walk->extent.start;
    uintptr_t alike_to = hole ? walk->extent.start : walk->extent.end;
    *alike = (alike_to < end ? alike_to : end) - address;
    return hole;
}

/* ---- windows ---- */

/* Has the bytes from `byte` on in a window, and sets how many of them; or a negative errno. */
static int make_usable(struct iova_walk *walk, uint64_t byte, uint64_t needed, uint64_t *usable)
{
    struct iova_bitmap *bitmap = walk->bitmap;
    struct iova_window *window = walk->window;
    bool own = window == &walk->own;

    if (iova_window_holds(window, byte, byte)) {
        *usable = window->nbytes - (byte - window->view.base_index);
        if (own) {
            return 0;
        }
        /* An earlier operation took it, and a backend that calls back may lose it. */
        int rc = iova_window_touch(bitmap, byte, min64(needed, *usable), walk->access, usable);
        if (rc < 0 || iova_window_holds(window, byte, byte)) {
            return rc;
        }
    }
    uint64_t reach = max64(walk->span.last_bit, walk->last_bit) >> 3;
    uint64_t wanted = (own ? reach + 1 : bitmap->geometry.nbytes) - byte;
    int rc = iova_window_take(bitmap, window, byte, wanted, walk->window_pages, walk->access);
    *usable = window->nbytes;
    return rc;
}

/* ---- begin, next, end ---- */

bool iova_walk_begin(struct iova_walk *walk, struct iova_bitmap *bitmap, enum iova_walk_kind kind,
                     const struct iova_request *request, struct iova_bitmap_report *report)
{
    const struct iova_bitmap_geometry *geometry = &bitmap->geometry;
    bool writes = kind != IOVA_WALK_READ && kind != IOVA_WALK_READ_ALL;

    walk->bitmap = bitmap;
    walk->report = report != NULL ? report : &walk->unread;
    *walk->report = (struct iova_bitmap_report){0};
    walk->own = (struct iova_window){0};
    walk->window = kind == IOVA_WALK_PRESENT ? &bitmap->present : &walk->own;
    walk->window_pages = bitmap->window_pages;
    if (kind == IOVA_WALK_ROWS && bitmap->pin == &iova_pin_none) {
        walk->window_pages = UINT64_MAX;
    }
    walk->access = writes ? IOVA_BITMAP_WRITE : IOVA_BITMAP_READ;
    walk->poll = iova_poll_of(bitmap);
    walk->step = kind == IOVA_WALK_ROWS ? IOVA_POLL_ITEM : IOVA_POLL_CHUNK;
    walk->sparse = false;
    walk->walked = 0;
    walk->holes = NULL;
    walk->rc = 0;
    walk->done = true;
    int some = 1;
    if (request == NULL) {
        walk->span = iova_geometry_whole(geometry);
    } else if ((request->flags & ~request->takes) != 0) {
        some = -EINVAL;
    } else {
        some = iova_geometry_resolve(geometry, request->iova, request->length, request->flags,
                                     &walk->span);
    }
    if (some <= 0) {
        walk->rc = some;
        return false;
    }
    iova_walk_to(walk, walk->span.first_bit, walk->span.last_bit);
    walk->done = kind == IOVA_WALK_ROWS;
    if (kind == IOVA_WALK_READ || kind == IOVA_WALK_WRITE) {
        begin_sparse(walk);
    }
    return true;
}

void iova_walk_to(struct iova_walk *walk, uint64_t first_bit, uint64_t last_bit)
{
    walk->next_bit = first_bit;
    walk->last_bit = last_bit;
    walk->done = false;
}

void iova_walk_break(struct iova_walk *walk, uint64_t iova, int rc)
{
    walk->rc = rc;
    walk->report->iova = max64(iova, walk->span.iova);
    walk->report->length = walk->span.last - walk->report->iova + 1;
}

bool iova_walk_next(struct iova_walk *walk)
{
    if (walk->done || walk->rc < 0) {
        return false;
    }
    uint64_t byte = walk->next_bit >> 3;
    uint64_t needed = (walk->last_bit >> 3) - byte + 1; /* bytes from `byte` to the end */
    uint8_t *bytes = walk->bitmap->data + byte;
    int rc = iova_poll_before(&walk->poll, walk->step);
    bool hole =
        rc == 0 && walk->holes != NULL && in_hole(walk, bytes, min64(needed, HOLE_SEARCH), &needed);
    uint64_t usable = needed;

    if (rc == 0 && !hole) {
        needed = min64(needed, IOVA_POLL_BYTES);
        rc = make_usable(walk, byte, needed, &usable);
    }
    if (rc < 0) {
        iova_walk_break(walk, iova_geometry_address(&walk->bitmap->geometry, walk->next_bit), rc);
        return false;
    }
    if (!hole) {
        usable = min64(needed, usable);
        walk->poll.work += usable;
        if (walk->sparse && walk->holes == NULL) {
            consider_holes(walk, bytes, usable);
        }
    }
    assert(usable > 0);
    uint64_t end_bit = min64((byte << 3) + ((usable << 3) - 1), walk->last_bit);
    walk->chunk = (struct iova_chunk){
        .bytes = bytes,
        .skip = (unsigned)(walk->next_bit & 7),
        .first_bit = walk->next_bit,
        .nbits = end_bit - walk->next_bit + 1,
        .last = end_bit == walk->last_bit,
        .hole = hole,
    };
    walk->done = walk->chunk.last;
    walk->next_bit = end_bit + 1;
    return true;
}

int iova_walk_end(struct iova_walk *walk)
{
    iova_window_release(walk->bitmap, &walk->own);
    iova_holes_close(walk->holes);
    return walk->rc;
}

bool iova_chunk_cut(struct iova_chunk *chunk, uint64_t nbits, struct iova_chunk *piece)
{
    if (chunk->nbits == 0) {
        return false;
    }
    *piece = *chunk;
    piece->nbits = min64(chunk->nbits, nbits - chunk->skip);
    chunk->bytes += (chunk->skip + piece->nbits) >> 3;
    chunk->first_bit += piece->nbits;
    chunk->nbits -= piece->nbits;
    chunk->skip = 0;
    return true;
}
