/*
 * pins.h - a small host for proofs: its pages have 4 bytes (or 2), so that bitmaps small enough to
 * be unwound take many windows, and its pin backend answers anything: each call delivers in full,
 * is short, fails, or lies about its number.
 */
#ifndef PINS_H
#define PINS_H

#include "core/bitmap/window.h"
#include "proof.h"

#ifndef HOST_PAGES
#define HOST_PAGES 3
#endif

#ifndef HOST_PAGE
#define HOST_PAGE 4
#endif

enum { HOST_BYTES = HOST_PAGE * HOST_PAGES };

int8_t nondet_i8(void);

static uint8_t host[HOST_BYTES]; /* all of the host's memory */
static unsigned pins_held;       /* calls of pin that delivered, less those of unpin */
static unsigned pins_beside;     /* those of another window, which is held meanwhile */
static unsigned users[HOST_PAGES];

uint64_t iova_bitmap_host_page_size(void)
{
    return HOST_PAGE;
}

static uint64_t page_of(uintptr_t address)
{
    return (address - (uintptr_t)host) / HOST_PAGE;
}

/* Any answer that the interface allows, or one that it does not: 0, or more than asked. */
static int64_t any_answer(uintptr_t address, uint64_t npages)
{
    const int8_t got = nondet_i8();

    PROVE((address - (uintptr_t)host) % HOST_PAGE == 0 && npages >= 1);
    PROVE(page_of(address) < HOST_PAGES && npages <= HOST_PAGES - page_of(address));
    return got;
}

static int64_t any_pin(void *context, uintptr_t address, uint64_t npages,
                       enum iova_bitmap_access access)
{
    const int64_t got = any_answer(address, npages);

    (void)context;
    (void)access;
    PROVE(pins_held == pins_beside); /* a window gives its pins back before it takes others */
    if (got >= 1 && (uint64_t)got <= npages) {
        pins_held++;
        for (unsigned page = 0; page < HOST_PAGES; page++) {
            users[page] += page_of(address) <= page && page < page_of(address) + (uint64_t)got;
        }
    }
    return got;
}

static void any_unpin(void *context, uintptr_t address, uint64_t npages)
{
    (void)context;
    PROVE(pins_held > 0 && page_of(address) < HOST_PAGES);
    pins_held--;
    for (unsigned page = 0; page < HOST_PAGES; page++) {
        const bool given_back = page_of(address) <= page && page < page_of(address) + npages;
        PROVE(!given_back || users[page] > 0);
        users[page] -= given_back;
    }
}

static int64_t any_touch(void *context, uintptr_t address, uint64_t npages,
                         enum iova_bitmap_access access)
{
    (void)context;
    (void)access;
    return any_answer(address, npages);
}

static const struct iova_bitmap_pin_ops any_pins = {any_pin, any_unpin, NULL};
static const struct iova_bitmap_pin_ops any_touching_pins = {any_pin, any_unpin, any_touch};
const struct iova_bitmap_pin_ops iova_pin_none; /* not used here: these pins are `any` ones */

/* No holes: what they say is the system's to know. */
bool iova_holes_shared(const void *address)
{
    (void)address;
    return false;
}

struct iova_holes *iova_holes_open(const void *address)
{
    (void)address;
    return NULL;
}

void iova_holes_close(struct iova_holes *holes)
{
    PROVE(holes == NULL);
}

bool iova_holes_next(struct iova_holes *holes, uintptr_t address, uintptr_t end,
                     struct iova_extent *extent)
{
    (void)holes;
    (void)address;
    (void)end;
    (void)extent;
    PROVE(false);
    return false;
}

/* Any bitmap over the host's memory from any byte on, with windows of any size. */
static struct iova_bitmap any_bitmap(void)
{
    struct iova_bitmap bitmap = {.geometry = any_small_geometry(8 * HOST_BYTES)};
    const uint8_t offset = nondet_u8();

    GIVEN(offset < HOST_PAGE && bitmap.geometry.nbytes <= HOST_BYTES - offset);
    bitmap.data = host + offset;
    bitmap.window_pages = nondet_u8();
    GIVEN(bitmap.window_pages >= 1);
    bitmap.pin = nondet_bool() ? &any_pins : &any_touching_pins;
    bitmap.host_page_size = HOST_PAGE;
    for (unsigned i = 0; i < HOST_BYTES; i++) {
        host[i] = (uint8_t)nondet_unsigned();
    }
    return bitmap;
}

/* Any address in a page. */
static uint64_t address_in(const struct iova_bitmap_geometry *geometry, uint8_t bit)
{
    return geometry->iova + ((uint64_t)bit << geometry->pgshift) +
           (nondet_u64() & (geometry->page_size - 1));
}

/* Any range of the bitmap. */
static struct iova_span any_span(const struct iova_bitmap_geometry *geometry)
{
    const uint8_t first = nondet_u8();
    const uint8_t last = nondet_u8();
    struct iova_span span = {.first_bit = first, .last_bit = last};

    GIVEN(first <= last && last < geometry->nbits);
    span.iova = address_in(geometry, first);
    span.last = address_in(geometry, last);
    GIVEN(geometry->iova <= span.iova && span.iova <= span.last && span.last <= geometry->last);
    return span;
}

#endif
