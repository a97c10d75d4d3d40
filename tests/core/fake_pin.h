/*
 * fake_pin.h - a pin backend for tests: it answers what it is told to (short pins, errors, lies),
 * and keeps its own books.
 *
 * Pages that are not pinned are inaccessible, and those pinned for reading cannot be written. So a
 * program that uses it proves by running on that every access goes through a window.
 */
#ifndef FAKE_PIN_H
#define FAKE_PIN_H

#include <string.h>

#include "area.h"

enum { FAKE_LIVE = 16, FAKE_PAGES = 64 };

/* What calls answer; all zero: every pin delivers in full. Calls count from 1. */
struct fake_plan {
    uint64_t seed;    /* not 0: short pins and faults at random, the same for the same seed */
    uint64_t most;    /* not 0: a call delivers at most that many pages */
    uint64_t fail_at; /* this call answers `answer`: a negative errno, 0, or more than asked */
    int64_t answer;
};

struct fake_pin {
    struct fake_plan plan;
    struct area area;
    struct iova_bitmap *bitmap;      /* for the hook */
    void (*hook)(struct fake_pin *); /* called once, in the next pin or unpin */
    uint64_t calls;
    uint64_t touches;
    uint64_t pins;  /* calls that delivered */
    uint64_t reads; /* those of them that asked for readable memory only */
    uint64_t unpins;
    uint64_t pages; /* pinned now */
    uint64_t peak_pages;
    uint64_t peak_live; /* the most pins that were held at once */
    size_t live_count;
    struct {
        uintptr_t address;
        uint64_t npages;
        enum iova_bitmap_access access;
    } live[FAKE_LIVE];
    unsigned users[FAKE_PAGES][2]; /* pins of each page, by access */
};

/* The answer of a call, from the plan alone: a model can ask the same. */
static inline int64_t fake_answer(const struct fake_plan *plan, uint64_t call, uint64_t asked)
{
    if (call == plan->fail_at) {
        return plan->answer;
    }
    if (plan->seed != 0) {
        uint64_t state = plan->seed + call * 0x9e3779b97f4a7c15u;
        state += state == 0;
        check_random(&state);
        switch (check_random(&state) >> 7 & 15) {
        case 0:
            return -(int64_t)(1 + (check_random(&state) >> 9) % 120);
        case 1:
            return 0;
        case 2:
            return (int64_t)(asked + 1 + (check_random(&state) >> 9) % 3);
        case 3:
        case 4:
        case 5:
            return (int64_t)(1 + (check_random(&state) >> 9) % asked);
        default:
            break;
        }
    }
    return (int64_t)(plan->most != 0 && plan->most < asked ? plan->most : asked);
}

/* Gives a page the access that its pins allow. */
static inline void fake_protect(const struct fake_pin *fake, uint64_t page)
{
    const unsigned *users = fake->users[page];
    int how = users[IOVA_BITMAP_WRITE]  ? PROT_READ | PROT_WRITE
              : users[IOVA_BITMAP_READ] ? PROT_READ
                                        : PROT_NONE;
    area_protect(&fake->area, page, 1, how);
}

static inline void fake_account(struct fake_pin *fake, size_t live, bool pinned)
{
    uint64_t first =
        (fake->live[live].address - (uintptr_t)fake->area.bytes) / iova_bitmap_host_page_size();

    for (uint64_t page = first; page < first + fake->live[live].npages; page++) {
        unsigned *users = &fake->users[page][fake->live[live].access];
        *users = pinned ? *users + 1 : *users - 1;
        fake_protect(fake, page);
    }
    fake->pages += pinned ? fake->live[live].npages : -fake->live[live].npages;
}

static inline void fake_call_hook(struct fake_pin *fake)
{
    void (*hook)(struct fake_pin *) = fake->hook;

    fake->hook = NULL;
    if (hook != NULL) {
        hook(fake);
    }
}

static inline void fake_check_pages(const struct fake_pin *fake, uintptr_t address, uint64_t npages)
{
    const uint64_t page = iova_bitmap_host_page_size();
    const uint64_t offset = address - (uintptr_t)fake->area.bytes;

    CHECK(address % page == 0, "address 0x%" PRIxPTR, address);
    CHECK(npages >= 1, "npages %" PRIu64, npages);
    if (offset > fake->area.size || npages > (fake->area.size - offset) / page) {
        printf("pages outside of the bitmap: offset %" PRIu64 ", npages %" PRIu64 "\n", offset,
               npages);
        abort();
    }
}

static inline int64_t fake_pin_pages(void *context, uintptr_t address, uint64_t npages,
                                     enum iova_bitmap_access access)
{
    struct fake_pin *fake = context;

    fake_check_pages(fake, address, npages);
    int64_t got = fake_answer(&fake->plan, ++fake->calls, npages);
    fake_call_hook(fake);
    if (got < 1 || (uint64_t)got > npages) {
        return got;
    }
    if (fake->live_count == FAKE_LIVE) {
        printf("more than %d pins at once\n", FAKE_LIVE);
        abort();
    }
    fake->live[fake->live_count].address = address;
    fake->live[fake->live_count].npages = (uint64_t)got;
    fake->live[fake->live_count].access = access;
    fake_account(fake, fake->live_count++, true);
    fake->pins++;
    fake->reads += access == IOVA_BITMAP_READ;
    fake->peak_pages = fake->pages > fake->peak_pages ? fake->pages : fake->peak_pages;
    fake->peak_live = fake->live_count > fake->peak_live ? fake->live_count : fake->peak_live;
    return got;
}

static inline void fake_unpin_pages(void *context, uintptr_t address, uint64_t npages)
{
    struct fake_pin *fake = context;
    size_t i = fake->live_count;

    /* Of two that are alike the newer: it is a read's, and the older one the present window's. */
    while (i > 0 && (fake->live[i - 1].address != address || fake->live[i - 1].npages != npages)) {
        i--;
    }
    CHECK(i > 0, "unpin of 0x%" PRIxPTR " + %" PRIu64 " pages, never pinned", address, npages);
    if (i > 0) {
        fake_account(fake, i - 1, false);
        fake->live_count--;
        memmove(&fake->live[i - 1], &fake->live[i],
                (fake->live_count - (i - 1)) * sizeof(fake->live[0]));
    }
    fake->unpins++;
    fake_call_hook(fake);
}

static inline int64_t fake_touch_pages(void *context, uintptr_t address, uint64_t npages,
                                       enum iova_bitmap_access access)
{
    struct fake_pin *fake = context;

    (void)access;
    fake_check_pages(fake, address, npages);
    fake->touches++;
    return fake_answer(&fake->plan, ++fake->calls, npages);
}

static const struct iova_bitmap_pin_ops fake_ops = {.pin = fake_pin_pages,
                                                    .unpin = fake_unpin_pages};
static const struct iova_bitmap_pin_ops fake_touch_ops = {
    .pin = fake_pin_pages, .unpin = fake_unpin_pages, .touch = fake_touch_pages};

/* A fake over `npages` pages, which are inaccessible from now on but through it. */
static inline struct fake_pin fake_make(uint64_t npages)
{
    struct fake_pin fake = {.area = area_map(npages)};

    CHECK(npages <= FAKE_PAGES, "npages %" PRIu64, npages);
    area_protect(&fake.area, 0, npages, PROT_NONE);
    return fake;
}

/* A bitmap over the fake's memory from byte `offset` on. */
static inline struct iova_bitmap *fake_bitmap(struct fake_pin *fake,
                                              const struct iova_bitmap_pin_ops *ops, uint64_t iova,
                                              uint64_t length, uint64_t page_size, uint64_t offset,
                                              uint64_t window_pages)
{
    const struct iova_bitmap_options options = {
        .window_pages = window_pages, .pin = ops, .pin_context = fake};

    fake->bitmap = NULL;
    CHECK_EQ(iova_bitmap_alloc(iova, length, page_size, fake->area.bytes + offset,
                               fake->area.size - offset, &options, &fake->bitmap),
             0);
    return fake->bitmap;
}

/* Between these two, the test itself may look at the memory and change it. */
static inline uint8_t *fake_open(const struct fake_pin *fake)
{
    area_protect(&fake->area, 0, fake->area.npages, PROT_READ | PROT_WRITE);
    return fake->area.bytes;
}

static inline void fake_shut(const struct fake_pin *fake)
{
    for (uint64_t page = 0; page < fake->area.npages; page++) {
        fake_protect(fake, page);
    }
}

/* The bitmap's statistics are those that the fake kept itself, and it is sound. */
static inline void fake_check_stats(const struct fake_pin *fake, const struct iova_bitmap *bitmap)
{
    const struct iova_bitmap_stats *stats = iova_bitmap_stats(bitmap);
    const char *broken;

    CHECK(iova_bitmap_validate(bitmap, true, &broken) == 0, "broken: %s", broken);

    CHECK_EQ(stats->pins, fake->pins);
    CHECK_EQ(stats->unpins, fake->unpins);
    CHECK_EQ(stats->pinned_pages, fake->pages);
    CHECK_EQ(stats->peak_pinned_pages, fake->peak_pages);
    CHECK_EQ(stats->pins - stats->unpins, fake->live_count);
}

/* Frees the bitmap, and everything must have been given back. */
static inline void fake_free(struct fake_pin *fake, struct iova_bitmap *bitmap)
{
    iova_bitmap_free(bitmap);
    CHECK_EQ(fake->live_count, 0);
    CHECK_EQ(fake->pages, 0);
    CHECK_EQ(fake->pins, fake->unpins);
    area_unmap(&fake->area);
}

#endif
