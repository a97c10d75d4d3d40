/*
 * model.h - what a bitmap should do, the slow and plain way: a boolean for each page, addresses as
 * 128-bit numbers in which nothing overflows, and windows as sets of bytes.
 *
 * It shares no code with the engine. Faults come from the same plan as those of the fake backend,
 * so it knows how far an operation comes, and what is pinned, without asking.
 */
#ifndef MODEL_H
#define MODEL_H

#include <errno.h>

#include "fake_pin.h"

__extension__ typedef unsigned __int128 wide;

static const wide TOP = (wide)1 << 64;
static uint64_t page;  /* of the host, in bytes */
static uint64_t state; /* of the random numbers */

struct model {
    wide base;
    wide end; /* of the range */
    wide page_size;
    uint64_t nbits;
    uint64_t nbytes;
    uint64_t offset; /* of the bitmap in its first host page */
    uint64_t window_pages;
    bool touches;    /* the backend is asked again inside a window */
    bool *dirty;     /* nbits */
    uint8_t *memory; /* what all the host pages should hold */
    struct fake_plan plan;
    uint64_t calls;
    struct held {
        uint64_t first; /* bytes of bitmap [first, end) */
        uint64_t end;
        uint64_t npages;
    } present;
    struct iova_bitmap_stats stats;
};

/* A random number below `limit`, which is at most 2**64. */
static inline uint64_t below(wide limit)
{
    return (uint64_t)((wide)check_random(&state) * limit >> 64);
}

static inline wide min_wide(wide a, wide b)
{
    return a < b ? a : b;
}

static inline wide max_wide(wide a, wide b)
{
    return a > b ? a : b;
}

/* --- windows ------------------------------------------------------------------------- */

static inline void give_back(struct model *m, struct held *held)
{
    if (held->npages != 0) {
        m->stats.unpins++;
        m->stats.pinned_pages -= held->npages;
    }
    *held = (struct held){0};
}

/* Asks the backend for the pages of bitmap bytes [byte, end): the bytes delivered, or -errno. */
static inline int64_t ask(struct model *m, uint64_t byte, uint64_t end, uint64_t most,
                          uint64_t *npages)
{
    const uint64_t first_page = (m->offset + byte) / page;
    const uint64_t last_page = (m->offset + end - 1) / page;
    const uint64_t asked = (uint64_t)min_wide(last_page - first_page + 1, most);
    const int64_t got = fake_answer(&m->plan, ++m->calls, asked);

    if (got < 0) {
        return got;
    }
    if (got == 0 || (uint64_t)got > asked) {
        return -EFAULT;
    }
    *npages = (uint64_t)got;
    return (int64_t)min_wide(end - byte, (first_page + *npages) * page - (m->offset + byte));
}

static inline int take(struct model *m, struct held *held, uint64_t byte, uint64_t end)
{
    uint64_t npages;

    give_back(m, held);
    int64_t got = ask(m, byte, end, m->window_pages, &npages);
    if (got < 0) {
        return (int)got;
    }
    *held = (struct held){byte, byte + (uint64_t)got, npages};
    m->stats.pins++;
    m->stats.pinned_pages += npages;
    m->stats.peak_pinned_pages =
        (uint64_t)max_wide(m->stats.peak_pinned_pages, m->stats.pinned_pages);
    m->stats.moves += held == &m->present;
    return 0;
}

/* Walks pages first..last until the piece that holds page `until`. 0 or the error; *reached is the
 * first page that was not reached. */
static inline int walk(struct model *m, uint64_t first, uint64_t last, uint64_t until, bool own,
                       uint64_t *reached)
{
    const uint64_t end = last / 8 + 1;
    struct held mine = {0};
    struct held *held = own ? &mine : &m->present;
    uint64_t byte = first / 8;
    int rc = 0;

    while (byte < end && byte * 8 <= until) {
        uint64_t ready = (uint64_t)min_wide(end, held->end);
        if (byte < held->first || byte >= held->end) {
            rc = take(m, held, byte, own ? end : m->nbytes);
            ready = (uint64_t)min_wide(end, held->end);
        } else if (m->touches) {
            uint64_t ignored;
            int64_t got = ask(m, byte, ready, UINT64_MAX, &ignored);
            rc = got < 0 ? (int)got : 0;
            ready = byte + (uint64_t)got;
        }
        if (rc < 0) {
            break;
        }
        byte = ready;
    }
    give_back(m, &mine);
    *reached = (uint64_t)min_wide(max_wide((wide)byte * 8, first), (wide)last + 1);
    return rc;
}

/* --- content and ranges -------------------------------------------------------------- */

static inline uint64_t count_pages(const struct model *m, uint64_t first, uint64_t end, bool dirty)
{
    uint64_t n = 0;

    for (uint64_t bit = first; bit < end; bit++) {
        n += m->dirty[bit] == dirty;
    }
    return n;
}

static inline void put_pages(struct model *m, uint64_t first, uint64_t end, bool dirty)
{
    for (uint64_t bit = first; bit < end; bit++) {
        uint8_t *byte = &m->memory[m->offset + bit / 8];
        *byte = (uint8_t)((*byte & ~(1u << bit % 8)) | (unsigned)dirty << bit % 8);
        m->dirty[bit] = dirty;
    }
}

/* What is inside of a range; the result is as that of iova_geometry_resolve. */
static inline int resolve(const struct model *m, unsigned flags, wide *start, wide *end)
{
    if (*start == *end) {
        return 0;
    }
    if (*end > TOP) {
        return -EOVERFLOW;
    }
    if ((*start < m->base || *end > m->end) && !(flags & IOVA_BITMAP_CLIP)) {
        return -ERANGE;
    }
    *start = max_wide(*start, m->base);
    *end = min_wide(*end, m->end);
    return *start < *end;
}

#endif
